"""The headers of formats without compression: BMP, PGM and PPM."""

from __future__ import annotations

import re
import struct

from spatial_fm_ros.core.pictures.header import PictureHeader, damaged, truncated, unsupported

_NUMBER = re.compile(rb"(?:[ \t\r\n]+|#[^\r\n]{0,4096}[\r\n])+([0-9]{1,10})")


def read_bmp(content: bytes) -> PictureHeader:
    """Raises InputError for one that is cut off, packed, or of a rare kind."""
    size = len(content)
    if size < 54:
        raise truncated("BMP", "its header is cut off")
    start, header, width, height, _, bits, packing = struct.unpack_from("<IIiiHHI", content, 10)
    if header < 40:
        raise unsupported("BMP of OS/2")
    if packing not in (0, 3) or bits not in (1, 4, 8, 16, 24, 32):
        raise unsupported(f"BMP with compression {packing} and {bits} bits")
    height = abs(height)  # negative: from top to bottom
    row = (width * bits + 31) // 32 * 4
    if width < 1 or height < 1:
        raise damaged("BMP", f"its header says {width}x{height} pixels")
    if start + row * (height - 1) + (width * bits + 7) // 8 > size:
        raise truncated("BMP", f"it cannot hold the {width}x{height} pixels it says")
    return PictureHeader("BMP", width, height, 1 if bits <= 8 else 3, 8, content)


def read_pnm(content: bytes) -> PictureHeader:
    """PGM and PPM, binary or as text. Raises InputError for one that is damaged or cut off."""
    kind, at, numbers = content[1:2], 2, []
    channels = 3 if kind in b"36" else 1
    name, size = ("PGM", "PPM")[channels == 3], len(content)
    for _ in range(3):
        found = _NUMBER.match(content, at)
        if found is None:
            raise damaged(name, "its header names no width, height and largest value")
        numbers.append(int(found[1]))
        at = found.end()
    width, height, most = numbers
    if not 0 < most < 65536:
        raise damaged(name, f"its largest value is {most}")
    bits = 8 if most < 256 else 16
    values = width * height * channels
    if (values * (bits // 8) if kind in b"56" else 2 * values - 1) > size - at - 1:
        raise truncated(name, f"it cannot hold the {width}x{height} pixels it says")
    return PictureHeader(name, width, height, channels, bits, content)
