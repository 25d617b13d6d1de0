"""Damages small bags of every kind at random and reads them: scripts/with_env python scripts/fuzz/bags.py --seconds N

Every one must give samples or one sentence, within 10 s and some hundred megabytes. What does not is kept in the folder
--keep, and the exit status is 1.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "test" / "sources"))

import bag_damage
from damage import fuzz


def whole(folder: Path) -> dict[str, bytes]:
    bags = bag_damage.small_bags(folder)
    for path in bags.values():
        bag_damage.what_comes_of(path)  # what reading costs once does not count
    return {f"{name}{path.suffix}": path.read_bytes() for name, path in bags.items()}


def ends_in_a_sentence(path: Path, rng: random.Random) -> bool:
    return bag_damage.what_comes_of(path, rng.choice(("odometry", "tf"))) != "samples"


if __name__ == "__main__":
    sys.exit(fuzz(__doc__, "bag", whole, bag_damage.damaged, ends_in_a_sentence, 10.0, 700_000))
