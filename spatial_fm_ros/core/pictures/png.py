"""The structure of a PNG: size, kind, orientation, whether it is whole."""

from __future__ import annotations

from spatial_fm_ros.core.pictures.header import PictureHeader, damaged, truncated
from spatial_fm_ros.core.pictures.tiff import orientation_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Deflate repeats at most 258 bytes by two bits: what it packs grows no more than this.
DEFLATE_RATIO = 1032

_NAME = "PNG"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Texts and profiles may unpack to any size, animations are of no use: the decoder sees these alone.
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def read(content: bytes) -> PictureHeader:
    """Raises InputError for one that is damaged or cut off; what follows its end is left away."""
    size, at = len(content), len(SIGNATURE)
    head, packed, orientation, frames = b"", 0, 1, 1
    needed = [SIGNATURE]
    while True:
        kind, length = content[at + 4 : at + 8], int.from_bytes(content[at : at + 4], "big")
        end = at + 12 + length
        if len(kind) < 4 or end > size:
            raise truncated(_NAME, "it has no end chunk")
        if not head and (kind != b"IHDR" or length != 13):
            raise damaged(_NAME, "it does not begin with its header")
        if kind == b"IHDR":
            if head:
                raise damaged(_NAME, "it has two headers")
            head = content[at + 8 : at + 21]
        elif kind == b"IDAT":
            packed += length
        elif kind == b"eXIf":
            orientation = orientation_of(content[at + 8 : end - 4])
        elif kind == b"acTL":
            frames = max(1, int.from_bytes(content[at + 8 : at + 12], "big"))
        if kind in _NEEDED:
            needed.append(content[at:end])
        at = end
        if kind == b"IEND":
            break
    width, height = int.from_bytes(head[0:4], "big"), int.from_bytes(head[4:8], "big")
    bits, colour = head[8], head[9]
    if bits not in _DEPTHS.get(colour, ()):
        raise damaged(_NAME, f"its header says colour type {colour} with {bits} bits")
    channels = _CHANNELS[colour]
    if height * (width * channels * bits // 8) > DEFLATE_RATIO * packed:
        raise truncated(_NAME, f"its data cannot hold the {width}x{height} pixels it says")
    return PictureHeader(_NAME, width, height, channels, bits, b"".join(needed), orientation, frames)
