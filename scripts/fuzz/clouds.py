"""Damages small PLY and PCD files at random and reads them: scripts/with_env python scripts/fuzz/clouds.py --seconds N

Every one must give a valid cloud or one sentence, within 5 s and some hundred megabytes. What does not is kept in the
folder --keep, and the exit status is 1.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "test" / "core"))

import cloud_damage
from damage import fuzz


def ends_in_a_sentence(path: Path, _rng: random.Random) -> bool:
    return cloud_damage.what_comes_of(path) == "sentence"


if __name__ == "__main__":
    sys.exit(fuzz(__doc__, "cloud", cloud_damage.small_clouds, cloud_damage.damaged, ends_in_a_sentence, 5.0, 300_000))
