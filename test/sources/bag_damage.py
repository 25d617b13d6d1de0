"""Small bags of every kind, and ways to damage their bytes; shared by the tests and scripts/fuzz/bags.py."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import bag_writing as bw
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.open_source import open_source

START = 1_700_000_000 * bw.NS
#: Values that lengths, counts, offsets and stamps are replaced by.
_NUMBERS = (0, 1, 0x7F, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def small_bags(folder: Path) -> dict[str, Path]:
    """A file of each kind by name, with some messages of every topic that is read."""
    found = {}
    messages = bw.robot_messages(4)
    messages += [("/tf", START + i, bw.transforms(START + i, ("odom", "base", 0.1 * i))) for i in range(3)]
    for storage, suffix in ((StoragePlugin.MCAP, "mcap"), (StoragePlugin.SQLITE3, "db3")):
        for mode in (CompressionMode.NONE, CompressionMode.MESSAGE, CompressionMode.STORAGE):
            if suffix == "db3" and mode == CompressionMode.STORAGE:
                continue
            name = f"{suffix}_{mode.name.lower()}"
            found[name] = bw.write_bag(folder / name, messages, storage, mode) / f"{name}.{suffix}"
    for compression in (None, Writer1.CompressionFormat.LZ4, Writer1.CompressionFormat.BZ2):
        name = f"ros1_{'none' if compression is None else compression.name.lower()}"
        found[name] = bw.write_bag1(folder / f"{name}.bag", ros1_messages(), compression)
    return found


def ros1_messages() -> list[bw.Message]:
    return [("/cam/image_raw", START + i * bw.NS // 10, _image1(i)) for i in range(4)]


def _image1(i: int) -> object:
    return bw.image(START + i * bw.NS // 10, bw.picture(i), store=bw.STORE1)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four faults."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_FAULTS)(content, rng)
    return bytes(content)


def _flip(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 3, 30))):
        if content:
            content[rng.randrange(len(content))] = rng.randrange(256)


def _cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content) + 1) :]


def _insert(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content) + 1)
    content[at:at] = rng.randbytes(rng.choice((1, 7, 500)))


def _remove(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content) + 1)
    del content[at : at + rng.choice((1, 7, 500))]


def _number(content: bytearray, rng: random.Random) -> None:
    """A length, count or offset is another one."""
    size = rng.choice((2, 4, 8))
    at = rng.randrange(max(1, len(content) - size))
    content[at : at + size] = (rng.choice(_NUMBERS) & (256**size - 1)).to_bytes(size, "little")


def _double(content: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(content) + 1)
    part = content[at : at + rng.choice((8, 100, 5000))]
    content[at:at] = part


_FAULTS: tuple[Callable[[bytearray, random.Random], None], ...] = (_flip, _cut, _insert, _remove, _number, _double)


def what_comes_of(path: Path, pose_source: str = "odometry") -> str:
    """'samples', or the sentence of an InputError; anything else that is raised is a fault of the program."""
    try:
        with open_source(path, SourceOptions(pose_source=pose_source)) as source:
            for _ in source:
                pass
            source.summary()
        return "samples"
    except InputError as error:
        return str(error)
