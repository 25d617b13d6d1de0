"""The structure of a TIFF, and of the EXIF data in other formats, which is one."""

from __future__ import annotations

import struct

from spatial_fm_ros.core.pictures.header import PictureHeader, damaged, truncated, unsupported

_NAME = "TIFF"
_ORIENTATION = 274
_TYPES = {1: "B", 3: "H", 4: "I"}
_MAX_ENTRIES = 4096
#: Compressions whose unpacked size is bounded by the picture's: none, LZW, Deflate (both numbers), PackBits.
_COMPRESSIONS = (1, 5, 8, 32946, 32773)


class _Directory:
    """The first directory of a TIFF; reading one that is cut off gives what is there."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.order = "<" if content[:2] == b"II" else ">"
        self.entries: dict[int, tuple[int, int, int]] = {}  # tag: type, count, where the value lies
        try:
            (start,) = struct.unpack_from(self.order + "I", content, 4)
            (count,) = struct.unpack_from(self.order + "H", content, start)
            for i in range(min(count, _MAX_ENTRIES)):
                at = start + 2 + 12 * i
                tag, kind, number = struct.unpack_from(self.order + "HHI", content, at)
                self.entries.setdefault(tag, (kind, number, at + 8))
            (self.next,) = struct.unpack_from(self.order + "I", content, start + 2 + 12 * count)
        except struct.error:
            self.next = 0

    def values(self, tag: int, most: int = 1_000_000) -> list[int]:
        """The whole numbers of a tag, none where it is absent. Raises struct.error where they lie outside the file."""
        kind, count, at = self.entries.get(tag, (0, 0, 0))
        letter = _TYPES.get(kind)
        if letter is None or not 0 < count <= most:
            return []
        if struct.calcsize(letter) * count > 4:
            (at,) = struct.unpack_from(self.order + "I", self._content, at)
        return list(struct.unpack_from(f"{self.order}{count}{letter}", self._content, at))

    def value(self, tag: int, default: int) -> int:
        return (self.values(tag) or [default])[0]


def orientation_of(exif: bytes) -> int:
    """EXIF's orientation 1 to 8; 1 where the data says none, or is damaged."""
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    try:
        value = _Directory(exif).value(_ORIENTATION, 1)
    except struct.error:
        return 1
    return value if 1 <= value <= 8 else 1


def read(content: bytes) -> PictureHeader:
    """The first page. Raises InputError for one that is damaged, cut off or of a rare kind."""
    size, directory = len(content), _Directory(content)
    try:
        width, height = directory.value(256, 0), directory.value(257, 0)
        bits, channels = directory.values(258) or [1], directory.value(277, 1)
        compression, sample = directory.value(259, 1), directory.values(339) or [1]
        tiled = 322 in directory.entries
        tile = (directory.value(322, 0), directory.value(323, 0))
        offsets = directory.values(324 if tiled else 273)
        counts = directory.values(325 if tiled else 279)
    except struct.error:
        raise truncated(_NAME, "its directory is cut off") from None
    if not width or not height or not offsets or len(offsets) != len(counts):
        raise damaged(_NAME, "its directory names no size or no data")
    if compression not in _COMPRESSIONS:
        raise unsupported(f"TIFF with compression {compression}")
    if set(sample) != {1} or len(set(bits)) != 1 or bits[0] not in (1, 8, 16) or channels > 4:
        raise unsupported(
            f"TIFF with {channels} channels of {'/'.join(map(str, bits[:4]))} bits, sample format {sample[0]},"
        )
    if any(offset + count > size for offset, count in zip(offsets, counts)):
        raise truncated(_NAME, "part of its data lies behind its end")
    if tiled and (not all(tile) or tile[0] * tile[1] > 4 * max(width * height, 2**16)):
        raise damaged(_NAME, f"it has tiles of {tile[0]}x{tile[1]} in {width}x{height} pixels")
    if compression == 1 and sum(counts) < height * (width * channels * bits[0] // 8):
        raise truncated(_NAME, f"its data cannot hold the {width}x{height} pixels it says")
    frames = 2 if directory.next else 1
    upright = _upright(content, directory)
    return PictureHeader(_NAME, width, height, channels, bits[0], upright, orientation_of(content), frames)


def _upright(content: bytes, directory: _Directory) -> bytes:
    """The same file with orientation 1: OpenCV turns TIFFs also when told to leave pixels as they are stored."""
    if orientation_of(content) == 1:
        return content
    at = directory.entries[_ORIENTATION][2]
    kind = _TYPES[directory.entries[_ORIENTATION][0]]
    return content[:at] + struct.pack(directory.order + kind, 1) + content[at + struct.calcsize(kind) :]
