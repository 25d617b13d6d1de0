#!/usr/bin/env python3
"""Opens and reads sequence folders whose sequence.json was changed at random: each gives samples or one sentence.

    scripts/with_env python scripts/fuzz/sequence.py --seconds 60 --seed 1

Prints what raised something else, with the text of the file, and ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.models.oracle_sequence import SequenceTruth
from spatial_fm_ros.sources.open_source import open_source

DESCRIBED: dict[str, Any] = {
    "name": "s", "frames": 3, "rate_hz": 10.0, "width": 64, "height": 48,
    "K": [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0], "distortion": [0.1, -0.05, 0.0, 0.0, 0.0],
    "distortion_model": "plumb_bob", "lidar_unit_m": 0.01, "depth_unit_m": 0.001,
    "camera_from_lidar": np.eye(4).reshape(-1).tolist(),
}  # fmt: skip

_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e-320, 1e308, -1e308, 10**30, -(10**30), 2**63, float("nan"),
    float("inf"), float("-inf"), "", "10", "nan", "\x1b[31m\x07", "\u2460", "\ud800", "[/x]", "x" * 5000, [], [[]],
    {}, {"a": 1}, [None], ["1"], [1e400], [0] * 9, [0] * 16, [[0] * 3] * 3, [1] * 2000, "none", "equidistant",
    "../../etc", "/dev/zero",
]  # fmt: skip


def write_folder(folder: Path) -> Path:
    """A small sequence with images, scans and ground truth; without its sequence.json."""
    for name in ("images", "lidar", "depth"):
        (folder / name).mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(folder / "images" / f"{i:06d}.png"), np.full((48, 64, 3), 40 * i, np.uint8))
        cv2.imwrite(str(folder / "depth" / f"{i:06d}.png"), np.full((48, 64), 2000, np.uint16))
        np.savez(folder / "lidar" / f"{i:06d}.npz", xyz=np.ones((4, 3), np.int16), intensity=np.ones(4, np.uint8))
    (folder / "poses.txt").write_text("".join(f"{i / 10} 0 0 0 0 0 0 1\n" for i in range(3)))
    return folder


def mutated(rng: random.Random) -> str:
    """A valid description with one to four faults in it, as text."""
    described: Any = json.loads(json.dumps(DESCRIBED))
    for _ in range(rng.randint(1, 4)):
        key = rng.choice(list(DESCRIBED))
        act = rng.randrange(7)
        if not isinstance(described, dict):
            break
        if act == 0:
            described.pop(key, None)
        elif act == 1 and isinstance(described.get(key), list) and described[key]:
            described[key][rng.randrange(len(described[key]))] = rng.choice(_VALUES)
        elif act == 2 and isinstance(described.get(key), list):
            described[key] = (described[key] * 2)[: rng.randint(0, 20)]
        elif act == 3:
            value = described.get(key)
            for _ in range(rng.choice((1, 2, 200, 5000))):
                value = [value] if rng.random() < 0.5 else {"k": value}
                if rng.random() < 0.001:
                    break
            described[key] = value
        elif act == 4:
            described[str(rng.choice(_VALUES))[:50]] = rng.choice(_VALUES)
        elif act == 5 and rng.random() < 0.1:
            described = rng.choice([[described], None, "x", 3, []])
        else:
            described[key] = rng.choice(_VALUES)
    try:
        text = json.dumps(described)
    except RecursionError:
        text = "[" * 100_000
    if rng.random() < 0.1:
        at = rng.randrange(len(text))
        text = (
            text[:at]
            + rng.choice(["", "\0", "}", '"', ",", "\n" * 9, "1e999", "9" * 6000])
            + text[at + rng.randint(0, 2) :]
        )
    return text


def outcome(folder: Path, text: str) -> str:
    """'read' or 'refused'; raises whatever should not come."""
    (folder / "sequence.json").write_text(text, errors="surrogatepass")
    said = "read"
    try:
        with open_source(folder) as source:
            list(source)
            assert all(line.isprintable() for line in source.summary()), source.summary()
    except InputError as error:
        assert str(error).isprintable() and len(str(error)) < 1500, error
        said = "refused"
    try:
        truth = SequenceTruth(folder)
        truth.world_from_camera(0)
    except InputError:
        pass
    return said


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    rng, counts = random.Random(given.seed), Counter[str]()
    end = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory() as place:
        folder = write_folder(Path(place) / "s")
        while time.monotonic() < end:
            text = mutated(rng)
            try:
                counts[outcome(folder, text)] += 1
            except Exception:
                counts["failed"] += 1
                print(f"--- {text[:2000]!r}\n{traceback.format_exc()}")
    print(dict(counts))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
