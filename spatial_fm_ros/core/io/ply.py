"""PLY files: read any with vertices, write binary ones of x y z, red green blue, normal, confidence, source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

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

#: One point of a file written here.
POINT = np.dtype(
    [(n, "<f4") for n in "xyz"]
    + [(n, "u1") for n in ("red", "green", "blue")]
    + [(n, "<f4") for n in ("nx", "ny", "nz", "confidence")]
    + [("source", "u1")]
)
TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
COLORS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
_WANTED = SCALARS | {name for names in COLORS for name in names}


def encode_ply(cloud: PointCloud, comments: Sequence[str]) -> tuple[bytes, NDArray[np.void]]:
    """Header and rows of a binary little-endian file."""
    rows = np.empty(len(cloud), POINT)
    for i, (axis, color, normal) in enumerate(zip("xyz", ("red", "green", "blue"), ("nx", "ny", "nz"), strict=True)):
        rows[axis], rows[color], rows[normal] = cloud.points[:, i], cloud.colors[:, i], cloud.normals[:, i]
    rows["confidence"], rows["source"] = cloud.confidence, cloud.source
    types = {name: "uchar" if POINT[name] == np.uint8 else "float" for name in POINT.names or ()}
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {each}" for each in comments)]
    lines += [f"element vertex {len(rows)}", *(f"property {kind} {name}" for name, kind in types.items())]
    return "\n".join([*lines, "end_header\n"]).encode("ascii", "backslashreplace"), rows


def decode_ply(path: Path, file: BinaryIO) -> Table:
    """The vertices of an open file. Raises InputError."""
    lines = header_lines(path, file, lambda line: line == "end_header")
    if lines[0] != "ply":
        raise InputError(f"'{shown(path)}' is not a PLY file: it does not begin with 'ply'.")
    form, count, fields = _header(path, lines)
    check_fields(path, fields, _WANTED)
    columns = read_columns(path, file, count, fields, _WANTED, text=form == "ascii")
    comments = [line.partition(" ")[2] for line in lines if line.startswith("comment ")]
    return Table(columns, _colors(columns), comments)


def _header(path: Path, lines: list[str]) -> tuple[str, int, list[Field]]:
    """Format, number of vertices, and their properties."""
    form, count, element = "", -1, ""
    described: list[list[str]] = []
    for line in lines[1:-1]:
        word, *rest = line.split() or ["comment"]
        if word == "format":
            form = rest[0] if rest else "none"
        elif word == "element" and len(rest) == 2:
            element, number = rest[0], whole_number(path, rest[1], f"the number of '{shown(rest[0], 40)}'")
            if element == "vertex" and count >= 0:
                raise InputError(f"'{shown(path)}' announces vertices twice.")
            if element == "vertex":
                count = number
            elif count < 0 and number > 0:
                raise InputError(
                    f"'{shown(path)}' has '{shown(element, 40)}' before its vertices; save it with vertices first."
                )
        elif word == "property" and element == "vertex":
            described.append(rest)
        elif word not in ("property", "comment", "obj_info"):
            raise InputError(f"'{shown(path)}' has a PLY header that cannot be read: '{shown(line, 80)}'.")
    if form not in ORDERS or count < 0:
        raise InputError(f"'{shown(path)}' has a PLY header without a known format or without vertices.")
    return form, count, [_field(path, words, ORDERS[form]) for words in described]


def _field(path: Path, words: list[str], order: str) -> Field:
    if words[:1] == ["list"]:
        raise InputError(f"'{shown(path)}' has a list for each vertex ('{shown(words[-1], 40)}'); save it without.")
    if len(words) != 2 or words[0] not in TYPES:
        raise InputError(f"'{shown(path)}' has a PLY property that cannot be read: '{shown(' '.join(words), 80)}'.")
    return Field(words[1], order + TYPES[words[0]])


def _colors(columns: dict[str, Column]) -> NDArray[np.uint8] | None:
    names = next((names for names in COLORS if all(name in columns for name in names)), None)
    if names is None:
        return None
    values: NDArray[Any] = np.stack([columns[name].values.astype(np.float64) for name in names], axis=-1)
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    kinds = {columns[name].kind[1:] for name in names}
    if kinds <= {"f4", "f8"} and (values <= 1.0).all():
        values = values * 255.0
    elif kinds == {"u2"}:
        values = values / 257.0
    return np.clip(np.rint(values), 0.0, 255.0).astype(np.uint8)
