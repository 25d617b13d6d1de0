"""What refinement knows of one sensor, and what it does about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.types import Array


@dataclass(frozen=True, eq=False)
class Estimate:
    """The sensor's stamps are `offset_s` later than the camera's (+- offset_sigma_s; inf where it is not looked for).
    By this sensor the true camera is the told one turned by `rotation` [3] (rotation vector, rad, in the camera's
    axes) with covariance [3, 3]. About axes that were not seen both are those of the prior: none, 5 deg."""

    offset_s: float
    offset_sigma_s: float
    rotation: Array
    covariance: Array

    @property
    def sigma(self) -> Array:
        """Standard deviation of the rotation about each axis of the camera [3], rad."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))


@dataclass(frozen=True, eq=False)
class SensorCorrection:
    """State of one sensor ('odometry', 'lidar', 'imu').

    windows: how many were compared; estimate: newest one, None before there is any; applied_*: what is corrected, of
    the quantities and with the signs of Estimate; *_beyond: what was found is outside of the bounds and left alone.
    """

    sensor: str
    windows: int
    estimate: Estimate | None
    applied_offset_s: float
    applied_rotation: Array
    offset_beyond: bool
    rotation_beyond: bool
