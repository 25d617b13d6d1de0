"""How another sensor's frame turned over time: a gyro summed up, or the orientations of an odometry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Array, ImuSample, PoseSample

#: Neighbouring samples further apart than this leave a hole, seconds.
MAX_GAP_S = 0.35


class Orientations:
    """Orientations start_from_sensor at stamps; between them SLERP."""

    def __init__(self, stamps_ns: NDArray[np.int64], rotations: Rotation) -> None:
        """stamps rising [N], N rotations. Raises InputError for fewer than two."""
        if len(stamps_ns) < 2:
            raise InputError(f"Turns of a sensor need at least two samples, got {len(stamps_ns)}.")
        self._origin = int(stamps_ns[0])
        self._seconds = (stamps_ns - self._origin) * 1e-9
        self._slerp = Slerp(self._seconds, rotations)
        self._holes = np.concatenate([[0], np.cumsum(np.diff(self._seconds) > MAX_GAP_S)])

    def turns(self, stamps_ns: NDArray[np.int64], shift_s: float) -> tuple[Array, NDArray[np.bool_]]:
        """Rotation vectors [N, 3] of first_from_second for pairs of stamps [N, 2] moved by `shift_s`, and which of
        them are covered [N]."""
        at = (stamps_ns - self._origin) * 1e-9 + shift_s
        inside = (at >= self._seconds[0]) & (at <= self._seconds[-1])
        clipped = np.clip(at, self._seconds[0], self._seconds[-1])
        after = np.clip(np.searchsorted(self._seconds, clipped), 1, len(self._seconds) - 1)
        whole = self._holes[after[:, 1]] == self._holes[after[:, 0] - 1]
        first, second = self._slerp(clipped[:, 0]), self._slerp(clipped[:, 1])
        return (first.inv() * second).as_rotvec(), inside.all(axis=1) & whole


def from_gyro(samples: Sequence[ImuSample]) -> Orientations:
    """Gyro samples, trapezoids summed up. Those with NaN or out of order are left out."""
    stamps, rates = _ordered([s.stamp_ns for s in samples], [s.angular_velocity for s in samples], (3,))
    if len(stamps) < 2:
        raise InputError(f"Turns of an IMU need at least two samples with finite rates, got {len(stamps)}.")
    steps = Rotation.from_rotvec((rates[1:] + rates[:-1]) / 2 * (np.diff(stamps) * 1e-9)[:, None]).as_matrix()
    total = np.empty((len(stamps), 3, 3))
    total[0] = np.eye(3)
    for i, step in enumerate(steps):  # a chain: each orientation needs the one before
        total[i + 1] = total[i] @ step
    return Orientations(stamps, Rotation.from_matrix(total))


def from_poses(samples: Sequence[PoseSample]) -> Orientations:
    """Orientations of an odometry's poses. Those with NaN or out of order are left out."""
    stamps, poses = _ordered([s.stamp_ns for s in samples], [s.odom_from_body for s in samples], (4, 4))
    if len(stamps) < 2:
        raise InputError(f"Turns of an odometry need at least two finite poses, got {len(stamps)}.")
    return Orientations(stamps, Rotation.from_matrix(poses[:, :3, :3]))


def _ordered(stamps: list[int], values: list[Array], shape: tuple[int, ...]) -> tuple[NDArray[np.int64], Array]:
    """Rising stamps [N] with finite values [N, *shape]."""
    when: NDArray[np.int64] = np.array(stamps, dtype=np.int64)
    what: Array = np.array(values, dtype=np.float64).reshape(-1, *shape)
    good = np.isfinite(what.reshape(len(what), -1)).all(axis=1)
    when, first = np.unique(when[good], return_index=True)
    return when, what[good][first]
