"""The structure of a WebP."""

from __future__ import annotations

from spatial_fm_ros.core.pictures.header import PictureHeader, damaged, truncated
from spatial_fm_ros.core.pictures.tiff import orientation_of

_NAME = "WebP"


def read(content: bytes) -> PictureHeader:
    """Raises InputError for one that is damaged or cut off; what follows its end is left away."""
    size = len(content)
    end = 8 + int.from_bytes(content[4:8], "little")
    if end > size:
        raise truncated(_NAME, "it is shorter than it says")
    canvas: tuple[int, int] | None = None
    picture: tuple[int, int] | None = None
    orientation, frames, at = 1, 0, 12
    while at + 8 <= end:
        kind, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        body = content[at + 8 : at + 8 + length]
        if at + 8 + length > end:
            raise truncated(_NAME, f"its part {kind!r} is cut off")
        if kind == b"VP8X" and length >= 10:
            canvas = _uint24(body[4:7]) + 1, _uint24(body[7:10]) + 1
        elif kind in (b"VP8 ", b"VP8L") and picture is None:
            picture = _lossy(body) if kind == b"VP8 " else _lossless(body)
        elif kind == b"ANMF" and length >= 16:
            frames += 1
            picture = picture or (_uint24(body[6:9]) + 1, _uint24(body[9:12]) + 1)
        elif kind == b"EXIF":
            orientation = orientation_of(body.removeprefix(b"Exif\0\0"))
        at += 8 + length + length % 2
    if picture is None:
        raise damaged(_NAME, "it holds no picture")
    width, height = canvas or picture
    if picture[0] > width or picture[1] > height:
        raise damaged(_NAME, f"a picture of {picture[0]}x{picture[1]} lies in a canvas of {width}x{height}")
    return PictureHeader(_NAME, width, height, 4, 8, content[:end], orientation, max(1, frames))


def _uint24(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _lossy(body: bytes) -> tuple[int, int]:
    if len(body) < 10 or body[3:6] != b"\x9d\x01\x2a":
        return 0, 0
    return _uint24(body[6:8]) & 0x3FFF, _uint24(body[8:10]) & 0x3FFF


def _lossless(body: bytes) -> tuple[int, int]:
    if len(body) < 5 or body[0] != 0x2F:
        return 0, 0
    packed = int.from_bytes(body[1:5], "little")
    return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
