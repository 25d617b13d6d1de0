"""Random answers of a hub against the downloader: scripts/with_env python scripts/fuzz/hub.py --seconds 600 --seed 1"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "test" / "models"))
from hostile_hub import REPO, Answers, ask, here
from small_hub import SmallHub

from spatial_fm_ros.core.models.weights import download, wire

CONTENT = b"weights" * 1000


def main() -> int:
    """Try seed after seed; print those that fail. Returns 1 where there were some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    download.RETRY_AFTER_S, wire.STILL_S = 0.01, 2.0
    end, seed, failed = time.monotonic() + given.seconds, given.seed, 0
    with tempfile.TemporaryDirectory() as scratch, SmallHub({REPO: {"model.safetensors": CONTENT}}) as hub:
        cache = Path(scratch) / "cache"
        with here(hub.address, cache):
            while time.monotonic() < end:
                try:
                    with contextlib.redirect_stderr(io.StringIO()):
                        fault = ask(hub, Answers(seed), cache, CONTENT)
                except Exception:
                    fault = traceback.format_exc()
                if fault:
                    failed += 1
                    print(f"seed {seed}: {fault}", flush=True)
                seed += 1
    print(f"{seed - given.seed} answers, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
