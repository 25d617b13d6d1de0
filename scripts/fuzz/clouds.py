"""Damages small PLY and PCD files at random and reads them: scripts/with_env python scripts/fuzz/clouds.py --seconds N

Every one must give a valid cloud or one sentence, within 5 s and some hundred megabytes. What does not is kept in the
folder --keep, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "test" / "core"))

import cloud_damage

MOST_SECONDS, MOST_GROWTH_KB = 5.0, 300_000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("cloud_faults"), help="where files that show a fault go")
    options = parser.parse_args()
    rng, done, told, faults = random.Random(options.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        whole = cloud_damage.small_clouds(Path(folder))
        begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            name = rng.choice(sorted(whole))
            path = Path(folder) / f"damaged{Path(name).suffix}"
            path.write_bytes(cloud_damage.damaged(whole[name], rng))
            started, fault = time.monotonic(), ""
            try:
                told += cloud_damage.what_comes_of(path) == "sentence"
            except Exception:
                fault = traceback.format_exc()
            if (took := time.monotonic() - started) > MOST_SECONDS:
                fault = f"it took {took:.1f} s"
            if (peak := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) > begin + MOST_GROWTH_KB:
                fault, begin = f"it took {(peak - begin) // 1024} MB", peak
            if fault:
                faults += 1
                options.keep.mkdir(parents=True, exist_ok=True)
                kept = options.keep / f"{options.seed}_{done}_{name}"
                kept.write_bytes(path.read_bytes())
                print(f"{kept}: {fault}", flush=True)
            done += 1
    print(f"{done} damaged clouds: {done - told - faults} gave a cloud, {told} a sentence, {faults} a fault.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
