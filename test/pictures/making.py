"""Pictures of every kind for tests, whole and hostile."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter


def scene(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """A smooth coloured picture, RGB uint8 [height, width, 3]."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.asarray(PillowImage.fromarray(noise).filter(ImageFilter.GaussianBlur(2)))


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    """The picture as Pillow writes it; kind: JPEG, PNG, BMP, TIFF, WEBP or PPM (also for PGM)."""
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> bytes:
    tags = PillowImage.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, packed: bytes, bits: int = 1, colour: int = 0, extra: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """As many zero bytes, packed."""
    pack = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [pack.compress(block) for _ in range(count >> 20)]
    return b"".join([*parts, pack.compress(bytes(count & 0xFFFFF)), pack.flush()])


def with_frame_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its frame header."""
    at = next(i for i in range(len(jpeg)) if jpeg[i : i + 2] in (b"\xff\xc0", b"\xff\xc2"))
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def with_scans(jpeg: bytes, scans: int) -> bytes:
    """A JPEG with as many scans more, each of two bytes."""
    at = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + (jpeg[at : at + 2 + jpeg[at + 3]] + b"\0\0") * scans + jpeg[-2:]


def tiff(width: int, height: int, data: bytes, compression: int = 8, more: tuple[tuple[int, int], ...] = ()) -> bytes:
    """A grey TIFF of one strip; more: further (tag, value)."""
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    tags |= dict(more)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    start = 8 + len(data) + len(data) % 2
    return (
        b"II*\0"
        + struct.pack("<I", start)
        + data
        + b"\0" * (len(data) % 2)
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


def bombs() -> dict[str, bytes]:
    """Some kB each that would take gigabytes or many seconds to decode."""
    baseline = encoded(scene(240, 320), "JPEG")
    progressive = encoded(scene(600, 800), "JPEG", progressive=True, quality=20)
    tiny = encoded(scene(), "PNG")
    text = zeros(100 << 20)
    lossless = encoded(np.zeros((16, 16, 3), np.uint8), "WEBP", lossless=True)
    at = lossless.index(b"VP8L") + 9  # width - 1 and height - 1 of 14 bits each
    huge_webp, wide_webp = (
        lossless[:at] + size.to_bytes(4, "little") + lossless[at + 4 :] for size in (0x0FFFFFFF, 0x07FFFFFF)
    )
    bmp = bytearray(encoded(scene(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 30000, 30000)
    return {
        "png of 900 megapixels, a third of it there": png(30000, 30000, zeros(3751 * 9000)),
        "png of 900 megapixels without data": png(30000, 30000, zeros(3751 * 100)),
        "png of 100 megapixels in 16 bit RGBA without data": png(10000, 10000, zeros(1000), bits=16, colour=6),
        "png with a text of 100 MB": tiny[:33] + chunk(b"zTXt", b"k\0\0" + text) + tiny[33:],
        "png with a profile of 100 MB": tiny[:33] + chunk(b"iCCP", b"k\0\0" + text) + tiny[33:],
        "jpeg of 4 gigapixels": with_frame_size(baseline, 65535, 65535),
        "jpeg of 400 megapixels": with_frame_size(baseline, 20000, 20000),
        "jpeg of 100 megapixels without data": with_frame_size(baseline, 10000, 10000),
        "progressive jpeg of 100 megapixels without data": with_frame_size(progressive, 10000, 10000),
        "jpeg of 3000 scans": with_scans(progressive, 3000),
        "bmp of 900 megapixels": bytes(bmp),
        "tiff of 900 megapixels": tiff(30000, 30000, zeros(9 << 20)),
        "tiff of one pixel in a tile of 4 gigapixels": tiff(
            1, 1, zeros(99), more=((322, 65520), (323, 65520), (324, 8), (325, 99))
        ),
        "webp of 268 megapixels": huge_webp,
        "webp of 134 megapixels, all there": wide_webp,
        "ppm of 900 megapixels": b"P6 30000 30000 255\n" + bytes(9999),
        "pgm in text of 900 megapixels": b"P2 30000 30000 255\n" + b"0 " * 9999,
    }
