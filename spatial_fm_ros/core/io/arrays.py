"""NumPy files from anywhere: the size they declare is known before memory is spent, and no pickle is run."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError, SpatialFMError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import open_regular

#: Most bytes of one array, unless said otherwise: a depth image of 8000 x 4000 in double precision.
ARRAY_BYTES = 256 * 2**20
_MOST_MEMBERS = 1000


def read_npy(
    path: str | Path, what: str, error: type[SpatialFMError] = InputError, most_bytes: int = ARRAY_BYTES
) -> NDArray[Any]:
    """The array of a .npy file, read-only. Raises `error` where it is none, cut off, of objects or too large."""
    with open_regular(path, what, None, error) as file:
        try:
            return _array(file, most_bytes)
        except Exception as reason:  # numpy, zipfile, zlib and the header's parser raise anything
            raise _unusable(path, what, reason, error) from reason


def read_npz(
    path: str | Path,
    what: str,
    names: tuple[str, ...],
    error: type[SpatialFMError] = InputError,
    most_bytes: int = ARRAY_BYTES,
) -> dict[str, NDArray[Any]]:
    """Arrays of a .npz file: those of `names` that it holds, read-only. Raises `error` as `read_npy`.

    The others are not unpacked. `most_bytes` bounds each array.
    """
    found: dict[str, NDArray[Any]] = {}
    with open_regular(path, what, None, error) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if len(members) > _MOST_MEMBERS:
                    raise ValueError(f"{len(members)} arrays in it, {_MOST_MEMBERS} at most are expected")
                for member in members:
                    name = member.filename.removesuffix(".npy")
                    if name not in names:
                        continue
                    if member.file_size > most_bytes + npy.ARRAY_ALIGN + 2**16:  # the header is in it
                        raise ValueError(f"'{name}' has {member.file_size} bytes, at most {most_bytes} are taken")
                    with archive.open(member) as packed:
                        found[name] = _array(packed, most_bytes)
        except Exception as reason:  # numpy, zipfile, zlib and the header's parser raise anything
            raise _unusable(path, what, reason, error) from reason
    return found


def _array(file: IO[bytes], most_bytes: int) -> NDArray[Any]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the format, 1.0 or 2.0 is expected")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, numbers are expected")
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape {shape} is negative")
    size = math.prod(shape) * dtype.itemsize
    if size > most_bytes:
        raise ValueError(f"its shape {shape} of {dtype} takes {size} bytes, at most {most_bytes} are taken")
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"it ends after {len(data)} of {size} bytes")
    file.read(1)  # the end of a member of an archive is where its checksum is compared
    flat = np.frombuffer(data, dtype=dtype)
    return flat.reshape(shape, order="F" if by_columns else "C")


def _unusable(path: str | Path, what: str, reason: Exception, error: type[SpatialFMError]) -> SpatialFMError:
    return error(f"The {what} '{shown(path)}' cannot be used: {shown(reason)}.")
