"""The parts that PLY and PCD files have in common: a header of lines, then rows of numbers, binary or text.

A header may claim anything: counts are compared with the size of the file before memory is spent on them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.types import PointCloud, PointSource

#: Bounds on what is read as a cloud: bytes of a file, bytes of one as text (slow to read), points.
CLOUD_BYTES, TEXT_CLOUD_BYTES, MAX_POINTS = 2**30, 2**28, 32_000_000
#: A header, a row and a line of text longer than this are none.
MAX_HEADER_BYTES, MAX_ROW_BYTES, MAX_LINE_BYTES = 2**16, 2**20, 2**20
#: Text is parsed by blocks of this size.
TEXT_BLOCK = 2**22
#: Confidence of points from files that have none.
UNKNOWN_CONFIDENCE = 0.5
#: Normals whose length is so near to 1 are taken as they are.
UNIT_TOLERANCE = 0.01
#: Columns that make a cloud; they are single numbers. Colours are the formats' own.
AXES = ("x", "y", "z")
NORMALS = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
SCALARS = {*AXES, *(name for axes in NORMALS for name in axes), "confidence", "source"}


@dataclass(frozen=True)
class Field:
    """A column as a header describes it. kind: a numpy type with byte order; count: numbers of a row."""

    name: str
    kind: str
    count: int = 1

    @property
    def bytes(self) -> int:
        return np.dtype(self.kind).itemsize * self.count


@dataclass(frozen=True, eq=False)
class Column:
    """values [N]: of its kind in a binary file, float64 in a text; `kind` is the numpy type the header tells."""

    values: NDArray[Any]
    kind: str


@dataclass(frozen=True, eq=False)
class Table:
    """What a file holds: the wanted columns, colours uint8 [N, 3] or None, and comments."""

    columns: dict[str, Column]
    colors: NDArray[np.uint8] | None
    comments: list[str]


def header_lines(path: Path, file: BinaryIO, ends: Callable[[str], bool]) -> list[str]:
    """The lines of a header, the one that ends it included; the file stands behind it then. Raises InputError."""
    lines: list[str] = []
    left = MAX_HEADER_BYTES
    while not lines or not ends(lines[-1]):
        line = file.readline(left)
        left -= len(line)
        if not line.endswith(b"\n"):
            reason = f"its header has no end in {MAX_HEADER_BYTES} bytes" if left <= 0 else "its header has no end"
            raise InputError(f"'{shown(path)}' is no cloud: {reason}; is it the right file, and whole?")
        lines.append(line.decode("utf-8", "replace").strip())
    return lines


def whole_number(path: Path, text: str, what: str) -> int:
    """A count as a header gives it: ASCII digits and no more of them than make sense."""
    if re.fullmatch(r"[0-9]{1,15}", text) is None:
        raise InputError(f"'{shown(path)}' has '{shown(text, 40)}' for {what}; expected a whole number.")
    return int(text)


def check_fields(path: Path, fields: Sequence[Field], single: Collection[str]) -> None:
    """Raises InputError for fields that make no cloud: without x, y, z, or with one of `single` twice or as a list."""
    names = [field.name for field in fields]
    for field in fields:
        if field.name in single and (field.count != 1 or names.count(field.name) > 1):
            times = f"{field.count} numbers" if field.count != 1 else f"it {names.count(field.name)} times"
            raise InputError(
                f"'{shown(path)}' has {times} a point for '{field.name}'; expected one, once. Export it again."
            )
    if any(axis not in names for axis in AXES):
        listed = ", ".join(shown(name, 40) for name in names[:20])
        raise InputError(f"'{shown(path)}' has no x, y and z; it has {listed or 'nothing'}.")
    row_bytes = sum(field.bytes for field in fields)
    if row_bytes > MAX_ROW_BYTES:
        raise InputError(f"'{shown(path)}' has {row_bytes} bytes a point; expected at most {MAX_ROW_BYTES}.")


def read_columns(
    path: Path, file: BinaryIO, count: int, fields: Sequence[Field], wanted: Collection[str], text: bool
) -> dict[str, Column]:
    """The wanted fields of `count` rows, from where the file stands. Raises InputError for what is cut short."""
    width, row_bytes = sum(field.count for field in fields), sum(field.bytes for field in fields)
    there = os.fstat(file.fileno()).st_size - file.tell()
    most = (there + 1) // (2 * width) if text else there // row_bytes  # a number and a blank, at the least
    if count > most:
        size = f"text of {width} numbers" if text else f"{row_bytes} bytes"
        raise InputError(
            f"'{shown(path)}' is cut short: {count} points of {size} each are announced, {max(there, 0)} bytes follow."
        )
    if count > MAX_POINTS:
        raise InputError(f"'{shown(path)}' has {count} points, at most {MAX_POINTS} are read; thin it first.")
    if text and there > TEXT_CLOUD_BYTES:
        raise InputError(
            f"'{shown(path)}' is a text of {there} bytes, at most {TEXT_CLOUD_BYTES} are read; save it as binary."
        )
    places = np.cumsum([0, *(field.count for field in fields)])
    chosen = [i for i, field in enumerate(fields) if field.name in wanted]
    if text:
        table = _text_table(path, file, count, width, [int(places[i]) for i in chosen])
        return {fields[i].name: Column(table[:, k], fields[i].kind) for k, i in enumerate(chosen)}
    data = file.read(count * row_bytes)
    if len(data) < count * row_bytes:
        raise InputError(f"'{shown(path)}' is cut short: it ended while it was read.")
    # Names of a file may be anything: the columns are numbered.
    rows = np.frombuffer(data, [(str(i), f.kind, (f.count,) if f.count > 1 else ()) for i, f in enumerate(fields)])
    return {fields[i].name: Column(rows[str(i)], fields[i].kind) for i in chosen}


def _text_table(path: Path, file: BinaryIO, count: int, width: int, places: list[int]) -> NDArray[np.float64]:
    """float64 [count, len(places)]: some of the numbers of each line that is not blank."""
    table = np.empty((count, len(places)))
    done, rest = 0, ""
    while done < count:
        block = file.read(TEXT_BLOCK).decode("ascii", "replace")
        lines = (rest + block).split("\n")
        rest = lines.pop() if block else ""
        if len(rest) > MAX_LINE_BYTES:
            raise InputError(f"'{shown(path)}' has a line of more than {MAX_LINE_BYTES} bytes; is it the right file?")
        filled = [line for line in lines if line.strip()][: count - done]
        if filled:
            table[done : done + len(filled)] = _numbers(path, filled, width)[:, places]
            done += len(filled)
        elif not block:
            raise InputError(f"'{shown(path)}' is cut short: {count} points are announced, {done} are there.")
    return table


def _numbers(path: Path, lines: list[str], width: int) -> NDArray[np.float64]:
    try:
        numbers = np.loadtxt(lines, dtype=np.float64, comments=None, ndmin=2)
    except ValueError as error:
        raise InputError(f"'{shown(path)}' has a point that cannot be read ({shown(error)}).") from error
    if numbers.shape != (len(lines), width):
        raise InputError(f"'{shown(path)}' has {numbers.shape[1]} numbers a point; its header announces {width}.")
    return numbers


def points_of(path: Path, table: Table) -> tuple[NDArray[np.float64], NDArray[np.uint8] | None]:
    """Finite points float64 [N, 3] and their colours, if any. Raises InputError where no point is left."""
    points = np.stack([table.columns[axis].values.astype(np.float64) for axis in AXES], axis=-1)
    usable = np.isfinite(points).all(axis=1)
    if not usable.any():
        raise _without_points(path, len(points))
    return points[usable], None if table.colors is None else table.colors[usable]


def cloud_of(path: Path, table: Table) -> tuple[PointCloud, int]:
    """A cloud of finite points, and how many others were left out. Raises InputError where no point is left."""
    columns, colors = table.columns, table.colors
    with np.errstate(over="ignore", invalid="ignore"):
        points = np.stack([columns[axis].values.astype(np.float32) for axis in AXES], axis=-1)
        count = len(points)
        confidence: NDArray[np.float32] = np.full(count, UNKNOWN_CONFIDENCE, np.float32)
        if "confidence" in columns:
            confidence = columns["confidence"].values.astype(np.float32)
    source = np.full(count, PointSource.IMAGES, np.uint8)
    if "source" in columns:
        source[columns["source"].values == PointSource.LIDAR] = PointSource.LIDAR
    if colors is None:
        colors = np.full((count, 3), 128, np.uint8)
    axes = next((axes for axes in NORMALS if all(axis in columns for axis in axes)), None)
    normals = np.zeros_like(points) if axes is None else _unit([columns[axis].values for axis in axes])
    usable = np.isfinite(points).all(axis=1) & np.isfinite(confidence)
    cloud = PointCloud(points, colors, np.clip(confidence, 0.0, 1.0), normals, source)[usable]
    if not len(cloud):
        raise _without_points(path, count)
    return cloud, count - len(cloud)


def _without_points(path: Path, count: int) -> InputError:
    held = f"its {count} points are not finite" if count else "it announces none"
    return InputError(f"'{shown(path)}' holds no point that can be used: {held}.")


def _unit(axes: list[NDArray[Any]]) -> NDArray[np.float32]:
    """Normals [N, 3] of unit length, 0 where there is none."""
    given = np.stack([axis.astype(np.float64) for axis in axes], axis=-1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        length = np.sqrt(np.einsum("ij,ij->i", given, given))[:, None]
        # Those that are of unit length already stay as they are, so that a file reads as it was written.
        normals = np.where(np.abs(length - 1.0) < UNIT_TOLERANCE, given, given / length)
    return np.where(np.isfinite(normals).all(axis=1, keepdims=True), normals, 0.0).astype(np.float32)
