"""The structure of a JPEG: size, scans, orientation, whether it is whole."""

from __future__ import annotations

import re

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.pictures.header import PictureHeader, damaged, truncated, unsupported
from spatial_fm_ros.core.pictures.tiff import orientation_of

#: Progressive JPEGs are decoded once a scan: encoders make some ten, a hostile file of some kB could ask for thousands.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 2**31

_NAME = "JPEG"
# Inside a scan FF is followed by 00 (a byte FF), by a restart marker or by further fill bytes.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FRAMES = {0xC0, 0xC1, 0xC2}
_OTHER_FRAMES = {0xC3: "Lossless JPEG"} | dict.fromkeys(
    range(0xC5, 0xD0), "JPEG with arithmetic or differential coding"
)
del _OTHER_FRAMES[0xC8], _OTHER_FRAMES[0xCC]  # an extension and the table of arithmetic coding


class _Walk:
    """What was seen of a JPEG so far."""

    def __init__(self) -> None:
        self.frame: tuple[int, int, int] | None = None  # width, height, components
        self.progressive = False
        self.blocks = 0
        self.scans = 0
        self.scan_bytes = 0
        self.orientation = 1


def read(content: bytes) -> PictureHeader:
    """Raises InputError for one that is damaged, cut off or of a rare kind; what follows its end is left away."""
    walk, at, size = _Walk(), 2, len(content)
    while True:
        if at + 2 > size:
            raise truncated(_NAME, "it has no end marker")
        if content[at] != 0xFF:
            raise damaged(_NAME, "a marker is missing")
        marker = content[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == 0xD9:
            return _header(walk, content[: at + 2])
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # without content
            at += 2
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if length < 2:
            raise damaged(_NAME, "a segment of its header has no length")
        segment = content[at + 4 : at + 2 + length]
        if len(segment) < length - 2:
            raise truncated(_NAME, "a segment of its header is cut off")
        at += 2 + length
        _take(walk, marker, segment)
        if marker == 0xDA:
            after = _MARKER.search(content, at)
            if after is None:
                raise truncated(_NAME, "it has no end marker")
            walk.scan_bytes += after.start() - at
            at = after.start()


def _take(walk: _Walk, marker: int, segment: bytes) -> None:
    if marker in _FRAMES:
        if walk.frame is not None:
            raise damaged(_NAME, "it has two frame headers")
        if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
            raise damaged(_NAME, "its frame header is cut off")
        if segment[0] != 8:
            raise unsupported(f"JPEG of {segment[0]} bits")
        height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
        walk.frame = width, height, segment[5]
        walk.progressive = marker == 0xC2
        walk.blocks = _blocks(width, height, [segment[7 + 3 * i] for i in range(segment[5])])
    elif marker in _OTHER_FRAMES:
        raise unsupported(_OTHER_FRAMES[marker])
    elif marker == 0xDA:
        walk.scans += 1
        if walk.scans > MAX_SCANS:
            raise InputError(f"A JPEG has more than {MAX_SCANS} scans; it is not decoded.")
    elif marker == 0xE1 and segment.startswith(b"Exif\0\0"):
        walk.orientation = orientation_of(segment[6:])


def _blocks(width: int, height: int, sampling: list[int]) -> int:
    """Blocks of 8x8 samples of all components, at least."""
    factors = [(value >> 4, value & 15) for value in sampling]
    if not factors or not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors):
        raise damaged(_NAME, "its frame header names impossible components")
    most_h, most_v = max(h for h, _ in factors), max(v for _, v in factors)
    return sum((-(-width * h // (most_h * 8))) * (-(-height * v // (most_v * 8))) for h, v in factors)


def _header(walk: _Walk, content: bytes) -> PictureHeader:
    if walk.frame is None or not walk.scans:
        raise damaged(_NAME, "it has no picture before its end marker")
    width, height, components = walk.frame
    # Each block costs a bit for its mean and, but in progressive files, one for its end.
    if 8 * walk.scan_bytes < walk.blocks * (1 if walk.progressive else 2):
        raise truncated(_NAME, f"its data cannot hold the {width}x{height} pixels it says")
    if walk.scans > 1 and walk.scans * width * height > MAX_SCANNED_PIXELS:
        raise InputError(
            f"A JPEG has {walk.scans} scans of {width}x{height} pixels; it is not decoded. Save it as a baseline JPEG."
        )
    return PictureHeader(_NAME, width, height, components, 8, content, walk.orientation)
