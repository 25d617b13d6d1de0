"""PCD files: read binary and text ones, write binary ones of x y z, rgb, normal, confidence, source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.cloud_columns import (
    SCALARS,
    Column,
    Field,
    Table,
    check_fields,
    header_lines,
    read_columns,
    whole_number,
)
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.types import PointCloud

#: One point of a file written here. PCL keeps a colour as 0x00RRGGBB in four bytes.
POINT = np.dtype(
    [(n, "<f4") for n in "xyz"]
    + [("rgb", "<u4")]
    + [(n, "<f4") for n in ("normal_x", "normal_y", "normal_z", "confidence")]
    + [("source", "u1")]
)
TYPES = {"F": "f", "U": "u", "I": "i"}
SIZES = {"F": ("4", "8"), "U": ("1", "2", "4", "8"), "I": ("1", "2", "4", "8")}
PACKED = ("rgb", "rgba")
_WANTED = SCALARS | set(PACKED)


def encode_pcd(cloud: PointCloud, comments: Sequence[str]) -> tuple[bytes, NDArray[np.void]]:
    """Header and rows of a binary PCD 0.7."""
    rows = np.empty(len(cloud), POINT)
    for i, (axis, normal) in enumerate(zip("xyz", ("normal_x", "normal_y", "normal_z"), strict=True)):
        rows[axis], rows[normal] = cloud.points[:, i], cloud.normals[:, i]
    rows["confidence"], rows["source"] = cloud.confidence, cloud.source
    red, green, blue = cloud.colors.T.astype(np.uint32)
    rows["rgb"] = red << 16 | green << 8 | blue
    n = len(rows)
    lines = [
        "# .PCD v0.7 - Point Cloud Data file format",
        *(f"# {each}" for each in comments),
        "VERSION 0.7",
        f"FIELDS {' '.join(POINT.names or ())}",
        "SIZE 4 4 4 4 4 4 4 4 1",
        "TYPE F F F U F F F F U",
        "COUNT 1 1 1 1 1 1 1 1 1",
        f"WIDTH {n}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {n}",
        "DATA binary\n",
    ]
    return "\n".join(lines).encode("ascii", "backslashreplace"), rows


def decode_pcd(path: Path, file: BinaryIO) -> Table:
    """The points of an open file. Raises InputError."""
    lines = header_lines(path, file, lambda line: line.split()[:1] == ["DATA"])
    header: dict[str, list[str]] = {}
    for line in lines:
        name, *values = line.split() or ["#"]
        if header.setdefault(name, values) is not values and not name.startswith("#"):
            raise InputError(f"'{shown(path)}' has '{shown(name, 40)}' twice in its PCD header.")
    form = " ".join(header["DATA"])
    if form not in ("binary", "ascii"):
        raise InputError(f"'{shown(path)}' holds '{shown(form, 40)}' data; save it as binary PCD or as PLY.")
    fields, count = _fields(path, header), _count(path, header)
    check_fields(path, fields, _WANTED)
    packed = next((field for field in fields if field.name in PACKED), None)
    if packed is not None and packed.bytes != 4:
        raise InputError(
            f"'{shown(path)}' has {packed.bytes} bytes for '{packed.name}'; expected 4 (0x00RRGGBB). Export it again."
        )
    columns = read_columns(path, file, count, fields, _WANTED, text=form == "ascii")
    colors = None if packed is None else _colors(columns[packed.name])
    return Table(columns, colors, [line.lstrip("# ") for line in lines if line.startswith("#")])


def _fields(path: Path, header: dict[str, list[str]]) -> list[Field]:
    missing = [name for name in ("FIELDS", "SIZE", "TYPE") if not header.get(name)]
    if missing:
        raise InputError(f"'{shown(path)}' is not a PCD file: its header has no {' and no '.join(missing)}.")
    names, sizes, types = header["FIELDS"], header["SIZE"], header["TYPE"]
    counts = header.get("COUNT") or ["1"] * len(names)
    if not len(names) == len(sizes) == len(types) == len(counts):
        raise InputError(
            f"'{shown(path)}' has a PCD header that does not fit together: {len(names)} FIELDS, {len(sizes)} SIZE, "
            f"{len(types)} TYPE and {len(counts)} COUNT."
        )
    fields = []
    for name, size, kind, times in zip(names, sizes, types, counts, strict=True):
        if size not in SIZES.get(kind, ()):
            raise InputError(
                f"'{shown(path)}' has the field '{shown(name, 40)}' of type {shown(kind, 40)} and size "
                f"{shown(size, 40)}; expected F of 4 or 8 bytes, U or I of 1, 2, 4 or 8."
            )
        number = whole_number(path, times, f"the COUNT of '{shown(name, 40)}'")
        if number < 1:
            raise InputError(f"'{shown(path)}' has COUNT 0 for '{shown(name, 40)}'; expected 1 or more.")
        fields.append(Field(name, f"<{TYPES[kind]}{size}", number))
    return fields


def _count(path: Path, header: dict[str, list[str]]) -> int:
    if header.get("POINTS"):
        return whole_number(path, header["POINTS"][0], "POINTS")
    if not (header.get("WIDTH") and header.get("HEIGHT")):
        raise InputError(f"'{shown(path)}' is not a PCD file: its header has no POINTS.")
    return whole_number(path, header["WIDTH"][0], "WIDTH") * whole_number(path, header["HEIGHT"][0], "HEIGHT")


def _colors(column: Column) -> NDArray[np.uint8]:
    """RGB uint8 [N, 3] of packed colours, which come as floats of the same bits, too."""
    values = column.values
    if values.dtype == np.float64:  # of a text
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
        if column.kind[1] == "f":
            values = np.clip(values, -3e38, 3e38).astype(np.float32)
        else:
            values = (np.clip(values, -(2.0**31), 2.0**32 - 1).astype(np.int64) & 0xFFFFFFFF).astype(np.uint32)
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.stack([(bits >> shift & 255).astype(np.uint8) for shift in (16, 8, 0)], axis=-1)
