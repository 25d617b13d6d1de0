"""Decompression with an end: what a recording packs may not grow beyond what packed data of its size honestly holds."""

from __future__ import annotations

import bz2
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame  # type: ignore[import-untyped]

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import open_regular

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: A message or chunk is never larger.
MOST_BYTES = 2**30
#: This much is always granted; beyond it, so many times the packed size (pictures of one colour pack that well).
GRANTED_BYTES = 2**26
RATIO = 1000
#: Left free on the disk that unpacked files go to.
SPARE_BYTES = 2**28
_PIECE = 2**20

_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "zstd": zstd.ZstdDecompressor,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "bz2": bz2.BZ2Decompressor,
}


def inflate(data: bytes, compression: str, declared: int | None = None) -> bytes:
    """Packed data ('zstd', 'lz4', 'bz2', '' or 'none' = as it is) in one piece; `declared`: the size it should have.

    Raises ValueError for damaged data and for what grows beyond its declared size or all measure.
    """
    if compression in ("", "none"):
        return data
    if compression not in _DECOMPRESSORS:
        raise ValueError(f"unknown compression '{shown(compression, 40)}'")
    most = min(MOST_BYTES, max(GRANTED_BYTES, RATIO * len(data)))
    if declared is not None and declared > most:
        raise ValueError(f"{len(data)} bytes of {compression} that claim to hold {declared}")
    limit = most if declared is None else declared
    try:
        content = _pieces(data, _DECOMPRESSORS[compression], limit)
    except (RuntimeError, EOFError, OSError, zstd.ZstdError) as error:
        raise ValueError(f"damaged {compression} data ({error})") from error
    if declared is not None and len(content) != declared:
        raise ValueError(f"{compression} data of {len(content)} bytes instead of {declared}")
    return content


def _pieces(data: bytes, make: Callable[[], Any], limit: int) -> bytes:
    """What one or several frames hold, at most `limit` bytes of it."""
    pieces: list[bytes] = []
    total = 0
    while data:
        decompressor = make()
        while not decompressor.eof:
            piece = decompressor.decompress(data, limit + 1 - total)
            data = b""
            total += len(piece)
            if total > limit:
                raise ValueError(f"more than {limit} bytes come out of it")
            if not piece and decompressor.needs_input and not decompressor.eof:
                raise ValueError("it breaks off")
            pieces.append(piece)
        data = decompressor.unused_data or b""
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def plain(data: bytes) -> bytes:
    """A serialised message, decompressed where the recorder compressed every message by itself.

    The folder's metadata says so, but may be lost. CDR begins with a zero byte, zstd never does. Raises ValueError.
    """
    return inflate(bytes(data), "zstd") if data[:4] == ZSTD_MAGIC else data


def inflate_file(path: Path, target: Path) -> None:
    """A .zstd file unpacked to `target`, as far as there is room. Raises InputError."""
    size = path.stat().st_size
    most = max(GRANTED_BYTES, RATIO * size)
    written = 0
    try:
        with (
            open_regular(path, "compressed bag file") as packed,
            zstd.open(packed, "rb") as source,
            target.open("xb") as out,
        ):
            while piece := source.read(_PIECE):
                written += len(piece)
                if written > most:
                    raise InputError(
                        f"The compressed bag file {shown(path)} has {size} bytes and holds more than {most}: "
                        "no recording packs that well; it is not unpacked."
                    )
                if shutil.disk_usage(target.parent).free < SPARE_BYTES + len(piece):
                    raise InputError(
                        f"There is no room in {shown(target.parent)} to unpack the bag file {shown(path)}, of which "
                        f"{written} bytes came so far; set TMPDIR to a folder on a larger disk, or unpack it with "
                        "'zstd -d'."
                    )
                out.write(piece)
    except (zstd.ZstdError, EOFError) as error:
        raise InputError(
            f"The compressed bag file {shown(path)} is damaged ({error}); copy it again, or take what "
            f"'zstd -d' gets out of it."
        ) from error
