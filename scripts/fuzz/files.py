#!/usr/bin/env python3
"""Reads files that were changed at random and cleans folders with lists of results made up: values, or one sentence.

    scripts/with_env python scripts/fuzz/files.py --seconds 60 --seed 1

Parameter files, trajectories, depth folders and scenarios are read; a list of results of any kind must remove nothing
that it does not name with its true size and mark. Prints what raised something else, and ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.config_files import load_config, to_yaml
from spatial_fm_ros.core.errors import SpatialFMError
from spatial_fm_ros.core.io.writing import write_text
from spatial_fm_ros.evaluation.depth_files import open_depth, read_confidence, read_depth
from spatial_fm_ros.evaluation.tum import read_tum
from spatial_fm_ros.offline.output_folder import prepare_output
from spatial_fm_ros.offline.result_list import HEADER, LIST, ResultList
from spatial_fm_ros.simulation.scenario import SCENARIOS, load_scenario, save_scenario

SNIPPETS = (
    b"", b"\0", b"[" * 3000, b"{" * 200, b"- " * 100, b"*a", b"&a ", b"<<: *a", b"!!python/name:os.system", b"1e999",
    b"9" * 5000, b"NaN", b"-", b"_", b"null", b"true", b"0x" + b"f" * 40, b"2001-99-99", b"\xff\xfe", b"\x1b[2J",
    "①".encode(), b"..", b"/", b'"', b"'", b"\n", b",", b": ", b"../../x", b"1e-400",
)  # fmt: skip


def damaged(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        new = rng.choice(SNIPPETS) if rng.random() < 0.6 else rng.randbytes(rng.randint(1, 6))
        changed[at : at + rng.choice((0, len(new), rng.randint(0, 40)))] = new
    return bytes(changed)


def originals(folder: Path) -> dict[str, bytes]:
    """One good file of each kind."""
    save_scenario(SCENARIOS["room_drive"], folder / "scenario.json")
    item = {"file": "000001.png", "confidence": "confidence/000001.png", "unit": 0.001, "metric": True,
            "stamp_ns": 10**9, "submap": 0, "K": [100.0, 0, 16, 0, 100, 12, 0, 0, 1]}  # fmt: skip
    picture = np.arange(32 * 24, dtype=np.uint16).reshape(24, 32)
    np.save(folder / "depth.npy", picture.astype(np.float32))
    np.savez_compressed(folder / "depth.npz", depth=picture.astype(np.float32))
    return {
        "config": to_yaml(Config()).encode(),
        "ros": to_yaml(Config(), ros=True).encode(),
        "tum": b"# a comment\n" + b"1.5 1 2 3 0 0 0 1\n" * 20,
        "scenario": (folder / "scenario.json").read_bytes(),
        "index": json.dumps({"images": [item]}).encode(),
        "png": cv2.imencode(".png", picture)[1].tobytes(),
        "tiff": cv2.imencode(".tiff", picture)[1].tobytes(),
        "npy": (folder / "depth.npy").read_bytes(),
        "npz": (folder / "depth.npz").read_bytes(),
    }


def read(kind: str, content: bytes, folder: Path, good: dict[str, bytes]) -> None:
    if kind in ("config", "ros", "tum", "scenario"):
        file = folder / f"x.{kind}"
        file.write_bytes(content)
        {"tum": read_tum, "scenario": load_scenario}.get(kind, lambda path: load_config([path]))(file)
        return
    depth = folder / f"depth_{kind}"
    (depth / "confidence").mkdir(parents=True, exist_ok=True)
    if kind in ("index", "png"):
        (depth / "000001.png").write_bytes(good["png"] if kind == "index" else content)
        (depth / "confidence" / "000001.png").write_bytes(good["png"] if kind == "index" else content)
        (depth / "index.json").write_bytes(content if kind == "index" else good["index"])
    else:
        (depth / f"000001.{kind}").write_bytes(content)
    for entry in open_depth(depth):
        read_depth(entry)
        read_confidence(entry)


def clean(rng: random.Random, folder: Path) -> None:
    """A folder with somebody's files, and a list of results made up, is used for a run."""
    out = folder / "out"
    kept = ["mine.txt", "views/mine.png.txt", "depth/mine", "map_2019_x.ply"]
    for name in (*kept, "../victim"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("precious")
    if not os.path.lexists(out / "link"):
        (out / "link").symlink_to(folder)
    words = [
        *kept,
        "..",
        ".",
        "/",
        "link",
        "victim",
        "depth",
        "views",
        "",
        "map.ply",
        str(folder / "victim"),
        "\0",
        "é",
    ]
    lines = []
    for _ in range(rng.randint(0, 8)):
        name = "/".join(rng.choice(words) for _ in range(rng.randint(1, 4)))
        mark = "".join(rng.choice("0123456789abcdef") for _ in range(rng.choice((32, 32, 31, 0))))
        lines.append(rng.choice((f"file {rng.choice((8, -1, 10**20))} {mark} {name}", f"folder {name}", name)))
    content = "\n".join([HEADER, *lines, ""]).encode("utf-8", "replace")
    (out / LIST).write_bytes(damaged(rng, content) if rng.random() < 0.3 else content)
    try:
        prepare_output(out, overwrite=True)
        with ResultList(out):
            write_text(out / "new.tum", "new", "trajectory")
    finally:
        gone = [name for name in (*kept, "../victim", "link") if not os.path.lexists(out / name)]
        if gone:
            raise AssertionError(f"removed: {gone}, by {content!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    ends = time.monotonic() + options.seconds
    told: Counter[str] = Counter()
    failures = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        good = originals(folder)
        for kind, content in good.items():
            read(kind, content, folder, good)
        while time.monotonic() < ends and failures < 10:
            kind = rng.choice([*good, "list"])
            content = b"" if kind == "list" else damaged(rng, good[kind])
            act: Callable[[], None] = (
                (lambda: clean(rng, folder)) if kind == "list" else (lambda k=kind, c=content: read(k, c, folder, good))
            )
            began = time.monotonic()
            try:
                act()
                told[f"{kind}: read"] += 1
            except SpatialFMError:
                told[f"{kind}: a sentence"] += 1
            except Exception:
                failures += 1
                print(f"{kind}: {content[:500]!r}")
                traceback.print_exc(file=sys.stdout)
            if time.monotonic() - began > 5.0:
                failures += 1
                print(f"{kind}: took {time.monotonic() - began:.1f} s: {content[:500]!r}")
    for what, count in sorted(told.items()):
        print(f"{what} {count}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
