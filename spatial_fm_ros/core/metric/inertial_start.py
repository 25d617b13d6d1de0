"""Where the inertial solution of a window starts: linear least squares, with rotations as the images show them.

Martinelli, 'Closed-Form Solution of Visual-Inertial Structure from Motion', IJCV 2014; Mur-Artal and Tardos,
'Visual-Inertial Monocular SLAM With Map Reuse', RA-L 2017; here with the length of gravity known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.metric.preintegration import Steps
from spatial_fm_ros.core.types import Array

GRAVITY = 9.81


@dataclass(frozen=True, eq=False)
class Views:
    """What the images say: orientations of the IMU [N, 3, 3] in the world, camera centres [N, 3] and the scene's median
    depth in world units (NaN unknown), and the camera's place in the IMU's axes [3] in metres."""

    world_from_imu: Array
    centres: Array
    camera_in_imu: Array
    depth: float = float("nan")


@dataclass(eq=False)
class State:
    """Unknowns: rotations [N, 3, 3], positions and velocities of the IMU [N, 3] metres, units per metre, gravity
    [3] m/s^2 in the world, bias [6]."""

    rotation: Array
    position: Array
    velocity: Array
    units: float
    gravity: Array
    bias: Array


def linear_start(views: Views, steps: Steps, bias: Array, likely_units: float) -> State:
    """Linear least squares for units per metre, start, velocity and tilt of gravity, with rotations as seen."""
    count = len(views.centres)
    R = views.world_from_imu
    since = np.concatenate([[0.0], np.cumsum(steps.seconds)])
    # The IMU's motion without gravity and initial velocity: summed up step by step.
    dv = np.einsum("nij,nj->ni", R[:-1], steps.velocity)
    dp = np.einsum("nij,nj->ni", R[:-1], steps.position)
    speed = np.concatenate([np.zeros((1, 3)), np.cumsum(dv, axis=0)])
    moved = np.concatenate([np.zeros((1, 3)), np.cumsum(dp + speed[:-1] * steps.seconds[:, None], axis=0)])
    arm = np.einsum("nij,j->ni", R, views.camera_in_imu)
    down = -speed[-1] / np.linalg.norm(speed[-1])
    across = np.linalg.svd(down[None])[2][1:]
    fall = 0.5 * since[:, None] ** 2
    columns = np.zeros((count, 3, 9))
    columns[:, :, :3] = np.eye(3)
    columns[:, :, 3:6] = np.eye(3) * since[:, None, None]
    columns[:, :, 6] = moved + GRAVITY * fall * down + arm
    columns[:, :, 7:] = fall[:, :, None] * GRAVITY * across.T
    # A weak belief in no tilt keeps it small where nothing shows it.
    extent = max(float(np.linalg.norm(np.ptp(views.centres, axis=0))), 1e-9)
    belief = np.zeros((2, 9))
    belief[:, 7:] = np.eye(2) * extent
    found = np.linalg.lstsq(
        np.concatenate([columns.reshape(-1, 9), belief]),
        np.concatenate([views.centres.reshape(-1), np.zeros(2)]),
        rcond=None,
    )[0]
    units = float(found[6])
    if not 0.02 * likely_units < units < 50 * likely_units:  # the motion does not show it
        units = likely_units
    gravity = GRAVITY * down + GRAVITY * across.T @ np.clip(found[7:] / units, -0.2, 0.2)
    gravity *= GRAVITY / np.linalg.norm(gravity)
    position = views.centres / units - arm
    velocity = found[3:6] / units + speed + gravity * since[:, None]
    return State(R.copy(), position, velocity, units, gravity, bias.copy())
