"""The IMU between keyframes: samples of a window summed up by GTSAM into one step for each pair of stamps.

Forster, Carlone, Dellaert and Scaramuzza, 'On-Manifold Preintegration for Real-Time Visual-Inertial
Odometry', T-RO 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gtsam
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.robust import MAD_TO_SIGMA
from spatial_fm_ros.core.types import Array, ImuSample

#: Samples further apart than this leave a hole in the motion, seconds.
MAX_GAP_S = 0.1
#: The first and the last sample may be this far inside of what they cover.
SLACK_NS = 20_000_000
#: White noise is estimated from the samples, but never below that of a good MEMS sensor.
GYRO_DENSITY = 1e-4  # rad/s per root hertz
FORCE_DENSITY = 1e-3  # m/s^2 per root hertz
#: Mean lengths of the specific force that a sensor in m/s^2 with gravity can show, standing or driving.
FORCE_LIMITS = (6.0, 16.0)
#: Step of the numerical derivative by the biases; the deltas are nearly linear in them.
BIAS_STEP = 1e-4


@dataclass(frozen=True, eq=False)
class ImuTrack:
    """Samples as arrays: stamps int64 [N] rising, gyro rad/s and force m/s^2 float64 [N, 3], and the white noise
    of both per root hertz."""

    stamps_ns: NDArray[np.int64]
    gyro: Array
    force: Array
    gyro_density: float
    force_density: float


@dataclass(frozen=True, eq=False)
class Steps:
    """M steps between M + 1 stamps, each in the IMU's axes at its beginning, for biases of zero plus `bias`.

    seconds [M]; rotation [M, 3, 3] end to beginning; position [M, 3] m and velocity [M, 3] m/s without gravity and
    initial velocity; covariance [M, 9, 9] (rotation, position, velocity); by_bias [M, 9, 6] derivatives by
    (force bias, gyro bias); bias [6] at which they are taken.
    """

    seconds: Array
    rotation: Array
    position: Array
    velocity: Array
    covariance: Array
    by_bias: Array
    bias: Array


def imu_track(samples: Sequence[ImuSample]) -> ImuTrack:
    """Samples in order of time as arrays; those with NaN are left out.

    Raises InputError when fewer than 8 remain, or when their force cannot be m/s^2 with gravity in it.
    """
    stamps = np.array([s.stamp_ns for s in samples], dtype=np.int64)
    gyro: Array = np.array([s.angular_velocity for s in samples], dtype=np.float64).reshape(-1, 3)
    force: Array = np.array([s.linear_acceleration for s in samples], dtype=np.float64).reshape(-1, 3)
    good = np.isfinite(gyro).all(axis=1) & np.isfinite(force).all(axis=1)
    stamps, gyro, force = stamps[good], gyro[good], force[good]
    if len(stamps) < 8:
        raise InputError(f"{len(stamps)} usable IMU samples in the window, 8 needed; check the topic and its stamps.")
    size = float(np.linalg.norm(force.mean(axis=0)))
    if not FORCE_LIMITS[0] < size < FORCE_LIMITS[1]:
        unit = "gravity seems to be taken out, or the unit is another"
        if 0.7 < size < 1.4:
            unit = "it looks like g instead of m/s^2"
        raise InputError(f"The IMU's mean acceleration is {size:.2f} m/s^2 where gravity alone makes 9.81: {unit}.")
    root = float(np.sqrt(np.median(np.diff(stamps)) * 1e-9))
    gyro_density = max(GYRO_DENSITY, _white_noise(gyro) * root)
    force_density = max(FORCE_DENSITY, _white_noise(force) * root)
    # A fast IMU says no more than one of 100 Hz: integration takes a call a sample.
    block = max(1, int(0.01 / (np.median(np.diff(stamps)) * 1e-9) + 0.01))
    if block > 1:
        edges = np.arange(0, len(stamps), block)
        counts = np.diff(np.append(edges, len(stamps)))
        stamps = np.add.reduceat(stamps - stamps[0], edges) // counts + stamps[0]
        gyro, force = (np.add.reduceat(x, edges) / counts[:, None] for x in (gyro, force))
    return ImuTrack(stamps, gyro, force, gyro_density, force_density)


def reaches(track: ImuTrack, first_ns: int, last_ns: int) -> bool:
    """Whether samples cover a stretch of time without a hole."""
    stamps = track.stamps_ns
    if stamps[0] > first_ns + SLACK_NS or stamps[-1] < last_ns - SLACK_NS:
        return False
    inside = stamps[max(0, np.searchsorted(stamps, first_ns, "right") - 1) : np.searchsorted(stamps, last_ns) + 1]
    return bool(np.diff(inside).max(initial=0) <= MAX_GAP_S * 1e9)


def preintegrate(track: ImuTrack, stamps_ns: Sequence[int], bias: Array | None = None) -> Steps:
    """The steps between neighbouring stamps, which must be covered (`reaches`). bias [6]: force, gyro."""
    bias = np.zeros(6) if bias is None else bias
    # Gravity does not enter the deltas; GTSAM wants some.
    params = gtsam.PreintegrationParams.MakeSharedU(9.81)
    params.setGyroscopeCovariance(np.eye(3) * track.gyro_density**2)
    params.setAccelerometerCovariance(np.eye(3) * track.force_density**2)
    params.setIntegrationCovariance(np.eye(3) * 1e-10)
    biases = [bias, *(bias + BIAS_STEP * axis for axis in np.eye(6))]
    steps = []
    for first, last in zip(stamps_ns[:-1], stamps_ns[1:], strict=True):
        force, gyro, dt = _between(track, first, last)
        sums = [gtsam.PreintegratedImuMeasurements(params, gtsam.imuBias.ConstantBias(b[:3], b[3:])) for b in biases]
        for each in sums:
            for f, w, t in zip(force, gyro, dt, strict=True):  # GTSAM takes them one at a time, 2 us each
                each.integrateMeasurement(f, w, t)
        steps.append(sums)
    rotation = np.array([[each.deltaRij().matrix() for each in sums] for sums in steps])
    linear = np.array([[np.concatenate([each.deltaPij(), each.deltaVij()]) for each in sums] for sums in steps])
    away = np.swapaxes(rotation[:, :1], -1, -2) @ rotation[:, 1:]
    turned = Rotation.from_matrix(away.reshape(-1, 3, 3)).as_rotvec()
    by_bias = np.concatenate([turned.reshape(-1, 6, 3), linear[:, 1:] - linear[:, :1]], axis=2) / BIAS_STEP
    return Steps(
        seconds=np.diff(np.asarray(stamps_ns, dtype=np.int64)) * 1e-9,
        rotation=rotation[:, 0],
        position=linear[:, 0, :3],
        velocity=linear[:, 0, 3:],
        covariance=np.array([sums[0].preintMeasCov() for sums in steps]) + 1e-14 * np.eye(9),
        by_bias=np.swapaxes(by_bias, 1, 2),
        bias=bias,
    )


def _white_noise(samples: Array) -> float:
    """Standard deviation of one sample of [N, 3], from second differences: motion hardly shows in them, vibration
    does, and counts as noise."""
    return MAD_TO_SIGMA * float(np.median(np.abs(np.diff(samples, 2, axis=0)))) / 6**0.5


def _between(track: ImuTrack, first_ns: int, last_ns: int) -> tuple[Array, Array, Array]:
    """Force [n, 3], gyro [n, 3] and duration [n] s of the intervals between samples, means of their ends; the
    first and the last interval are cut at the stamps."""
    inside = (track.stamps_ns > first_ns) & (track.stamps_ns < last_ns)
    stamps = np.concatenate([[first_ns], track.stamps_ns[inside], [last_ns]])
    since = (stamps - first_ns) * 1e-9
    known = (track.stamps_ns - first_ns) * 1e-9
    force, gyro = (
        np.stack([np.interp(since, known, values[:, i]) for i in range(3)], axis=1)
        for values in (track.force, track.gyro)
    )
    return (force[:-1] + force[1:]) / 2, (gyro[:-1] + gyro[1:]) / 2, np.diff(since)
