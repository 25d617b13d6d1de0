"""What the fuzzers of files share: whole files are damaged and read, again and again, within time and memory."""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path


def fuzz(
    doc: str | None,
    what: str,
    whole: Callable[[Path], Mapping[str, bytes]],
    damaged: Callable[[bytes, random.Random], bytes],
    ends_in_a_sentence: Callable[[Path, random.Random], bool],
    most_seconds: float,
    most_growth_kb: int,
) -> int:
    """Run as the options say; 1 where a file showed a fault.

    whole: files to damage by name, given a folder to make them in. ends_in_a_sentence: reads a damaged one; True for a
    sentence, False for what was read; anything it raises is a fault.
    """
    parser = argparse.ArgumentParser(description=(doc or "").split(":")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(f"{what}_faults"), help="where files that show a fault go")
    options = parser.parse_args()
    rng, done, told, faults = random.Random(options.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        files = whole(Path(folder))
        begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            name = rng.choice(sorted(files))
            path = Path(folder) / f"damaged{Path(name).suffix}"
            path.write_bytes(damaged(files[name], rng))
            started, fault = time.monotonic(), ""
            try:
                told += ends_in_a_sentence(path, rng)
            except Exception:
                fault = traceback.format_exc()
            if (took := time.monotonic() - started) > most_seconds:
                fault = f"it took {took:.1f} s"
            if (peak := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) > begin + most_growth_kb:
                fault, begin = f"it took {(peak - begin) // 1024} MB", peak
            if fault:
                faults += 1
                options.keep.mkdir(parents=True, exist_ok=True)
                kept = options.keep / f"{options.seed}_{done}_{name}"
                kept.write_bytes(path.read_bytes())
                print(f"{kept}: {fault}", flush=True)
            done += 1
    print(f"{done} damaged files: {done - told - faults} were read, {told} gave a sentence, {faults} a fault.")
    return 1 if faults else 0
