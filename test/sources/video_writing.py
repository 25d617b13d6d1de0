"""Videos as files, with rotation and uneven times that OpenCV does not write by itself."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

Box = tuple[int, int]  # where it begins and ends


def write_video(path: Path, images: Sequence[np.ndarray], rate_hz: float = 10.0) -> Path:
    """images: RGB uint8; the suffix chooses the container."""
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate_hz, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    writer.release()
    return path


def rotate(path: Path, degrees: int) -> None:
    """Say in the track header that frames are to be turned clockwise."""
    data = bytearray(path.read_bytes())
    start, _ = _find(data, b"tkhd")
    matrix = {
        90: (0, 1, 0, -1, 0, 0),
        180: (-1, 0, 0, 0, -1, 0),
        270: (0, -1, 0, 1, 0, 0),
    }[degrees]
    at = start + 8 + 40  # version 0: the matrix is behind 40 bytes
    struct.pack_into(">9i", data, at, *(v << 16 for v in matrix), 0, 0, 1 << 30)
    path.write_bytes(data)


def set_durations(path: Path, durations: Sequence[int]) -> None:
    """How long each frame lasts, in the track's own units (MP4 whose index is at its end)."""
    data = bytearray(path.read_bytes())
    edits = data.find(b"edts")
    if edits > 0:
        data[edits : edits + 4] = b"free"
    start, end = _find(data, b"stts")
    table = struct.pack(">II", 0, len(durations)) + b"".join(struct.pack(">II", 1, value) for value in durations)
    grown = len(table) + 8 - (end - start)
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at, _ = _find(data, kind)
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + grown)
    data[start:end] = struct.pack(">I", len(table) + 8) + b"stts" + table
    path.write_bytes(data)


def units_per_second(path: Path) -> int:
    data = path.read_bytes()
    start, _ = _find(data, b"mdhd")
    return int(struct.unpack_from(">I", data, start + 20)[0])


def _find(data: bytes | bytearray, kind: bytes) -> Box:
    at = data.index(kind, data.index(b"moov")) - 4
    return at, at + int(struct.unpack_from(">I", data, at)[0])
