"""Damaged checkpoints: scripts/with_env python scripts/fuzz/checkpoints.py --seconds 600 --seed 1"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "test" / "models"))
from damaged_checkpoints import attempt, damaged, whole_files


def main() -> int:
    """Try seed after seed; print those that fail. Returns 1 where there were some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # torch remarks on versions of pickles
    files = whole_files()
    end, seed, failed = time.monotonic() + given.seconds, given.seed, 0
    with tempfile.TemporaryDirectory() as scratch:
        while time.monotonic() < end:
            data = damaged(files[seed % len(files)], random.Random(seed))
            if fault := attempt(Path(scratch) / "model.pt", data):
                failed += 1
                print(f"seed {seed}: {fault}", flush=True)
            seed += 1
    print(f"{seed - given.seed} files, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
