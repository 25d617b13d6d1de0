"""Do gyro and images agree about how the camera turned?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.metric.preintegration import Steps
from spatial_fm_ros.core.types import Array

#: Errors of turns between keyframes that are ordinary, rad.
ORDINARY = np.radians(0.3)


@dataclass(frozen=True, eq=False)
class RotationCheck:
    """Gyro against images: angle of disagreement of each pair of keyframes [n] in rad, and the sentence where they do
    not agree."""

    angles: Array
    reason: str


def check_rotations(world_from_imu: Array, steps: Steps, bias_covariance: Array, limit_deg: float) -> RotationCheck:
    """Compare turns between keyframes, by images and by gyro, with the gyro's bias fitted (ridge by its covariance).

    world_from_imu [N, 3, 3] by the images. The sentence says whether one constant turn of the extrinsic would
    explain the disagreement, or the gyro's unit, or else that the window's rotation is wrong.
    """
    seen = np.swapaxes(world_from_imu[:-1], 1, 2) @ world_from_imu[1:]
    error = (Rotation.from_matrix(steps.rotation).inv() * Rotation.from_matrix(seen)).as_rotvec()
    slope = steps.by_bias[:, :3, 3:]
    ridge = ORDINARY**2 * np.linalg.inv(bias_covariance[3:, 3:])
    weight = np.ones(len(error))
    rest = error
    for _ in range(5):  # Huber: one wrong rotation must not look like a bias
        normal = np.einsum("n,nij,nik->jk", weight, slope, slope) + ridge
        bias = np.linalg.solve(normal, np.einsum("n,nij,ni->j", weight, slope, error))
        rest = error - slope @ bias
        weight = np.minimum(1.0, 2 * ORDINARY / np.maximum(np.linalg.norm(rest, axis=1), 1e-9))
    angles = np.linalg.norm(rest, axis=1)
    worst = float(np.degrees(angles.max()))
    if worst <= limit_deg:
        return RotationCheck(angles, "")
    by_images = Rotation.from_matrix(seen).as_rotvec()
    by_gyro = Rotation.from_matrix(steps.rotation).as_rotvec()
    why = "the window's rotation is wrong"
    ratio = np.linalg.norm(by_gyro) / max(float(np.linalg.norm(by_images)), 1e-9)
    if 30 < ratio < 110:
        why = "the gyro seems to speak in degrees per second"
    elif len(error) >= 3:
        turn, _ = Rotation.align_vectors(by_images, by_gyro)
        left = np.linalg.norm(by_images - turn.apply(by_gyro), axis=1)
        if np.degrees(left.max()) < max(0.3 * worst, limit_deg / 2):
            angle = np.degrees(turn.magnitude())
            why = f"the rotation between camera and IMU in TF is wrong by about {angle:.1f} deg"
    reason = f"gyro and images disagree by {worst:.1f} deg about a turn between two keyframes: {why}"
    return RotationCheck(angles, reason)
