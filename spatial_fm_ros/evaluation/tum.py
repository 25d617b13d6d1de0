"""Trajectory files in the TUM RGB-D format: 'timestamp tx ty tz qx qy qz qw' a line, seconds and metres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import matrix_from_quaternion, pose_from, quaternion_from_matrix
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import read_text
from spatial_fm_ros.core.io.writing import write_text
from spatial_fm_ros.core.types import Array

NS = 1_000_000_000
#: A day at a kilohertz; values take ten times as many bytes in memory.
TUM_BYTES = 256 * 2**20
_MOST_SECONDS = 9_223_372_036
_MOST_METRES = 1e12


@dataclass(frozen=True, eq=False)
class StampedPoses:
    """A trajectory: stamps_ns int64 [n] rising, world_from_camera float64 [n, 4, 4] (or another moving frame)."""

    stamps_ns: NDArray[np.int64]
    poses: Array
    name: str = ""

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def positions(self) -> Array:
        """[n, 3]."""
        positions: Array = self.poses[:, :3, 3]
        return positions

    @property
    def path_length(self) -> float:
        """Length of the way through all positions."""
        return float(np.linalg.norm(np.diff(self.positions, axis=0), axis=1).sum())

    def part(self, index: NDArray[np.intp]) -> StampedPoses:
        return StampedPoses(self.stamps_ns[index], self.poses[index], self.name)


def format_stamp(stamp_ns: int) -> str:
    """Seconds with nine decimals, exact."""
    sign, rest = ("-", -stamp_ns) if stamp_ns < 0 else ("", stamp_ns)
    return f"{sign}{rest // NS}.{rest % NS:09d}"


def parse_stamp(text: str) -> int:
    """Nanoseconds of decimal seconds, exact to the nanosecond.

    Raises ValueError when it is no number, or one beyond what 64 bits of nanoseconds hold (292 years).
    """
    try:
        seconds = Decimal(text)
        if not abs(seconds) < _MOST_SECONDS:  # NaN too; and 1e999999999 has a billion digits
            raise ValueError(f"the stamp {shown(text, 40)} is no time")
        return int((seconds * NS).to_integral_value())
    except ArithmeticError as error:
        raise ValueError(f"the stamp {shown(text, 40)} is no number") from error


def _numbers(fields: list[str]) -> list[float]:
    """Position and quaternion. Raises ValueError for what is neither, saying why."""
    numbers = [float(field) for field in fields]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("numbers that are not finite")
    if max(map(abs, numbers)) > _MOST_METRES:
        raise ValueError(f"numbers beyond {_MOST_METRES:g}")
    if not math.hypot(*numbers[3:]) > 1e-6:
        raise ValueError("an all-zero orientation")
    return numbers


def write_tum(path: Path, stamps_ns: Sequence[int] | NDArray[np.int64], poses: Array) -> None:
    """Write world_from_camera [n, 4, 4]. Raises OutputError when the file cannot be written."""
    poses = np.asarray(poses, dtype=np.float64).reshape(-1, 4, 4)
    quaternions = quaternion_from_matrix(poses[:, :3, :3])
    lines = ["# timestamp tx ty tz qx qy qz qw (seconds; camera-to-world, optical axes)"]
    for stamp, pose, quaternion in zip(stamps_ns, poses, quaternions):
        numbers = " ".join(f"{value:.9g}" for value in (*pose[:3, 3], *quaternion))
        lines.append(f"{format_stamp(int(stamp))} {numbers}")
    write_text(path, "\n".join(lines) + "\n", "trajectory")


def read_tum(path: Path) -> StampedPoses:
    """The trajectory in a file, sorted by stamp. Spaces or commas separate; '#' begins a comment.

    Raises InputError, naming the line, when something else stands there or no pose does.
    """
    stamps, values = [], []
    for number, line in enumerate(read_text(path, "trajectory", TUM_BYTES).splitlines(), start=1):
        fields = line.split("#", 1)[0].replace(",", " ").split()
        if not fields:
            continue
        try:
            if len(fields) != 8:
                raise ValueError(f"{len(fields)} fields")
            if any(not field.isascii() or "_" in field for field in fields):
                raise ValueError("other signs than those of numbers")  # Python would take digits of any script
            stamps.append(parse_stamp(fields[0]))
            values.append(_numbers(fields[1:]))
        except ValueError as error:
            raise InputError(
                f"Line {number} of the trajectory '{shown(path)}' is no pose in TUM format ({error}): expected "
                f"'timestamp tx ty tz qx qy qz qw' in numbers, got '{shown(line, 80)}'."
            ) from error
    if not stamps:
        raise InputError(f"The trajectory '{shown(path)}' holds no pose.")
    table = np.array(values, dtype=np.float64)
    order = np.argsort(np.array(stamps, dtype=np.int64), kind="stable")
    poses = pose_from(matrix_from_quaternion(table[:, 3:]), table[:, :3])
    return StampedPoses(np.array(stamps, dtype=np.int64)[order], poses[order], str(path))
