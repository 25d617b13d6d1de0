"""Which way is down in the world, and the turn that levels it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.types import Array

DOWN = np.array([0.0, 0.0, -1.0])


@dataclass(frozen=True, eq=False)
class GravityEstimate:
    """direction_in_world: unit vector [3] along which things fall, in the world's axes; sigma_rad: standard deviation
    of its tilt, along the worse of the two axes across it."""

    direction_in_world: Array
    sigma_rad: float

    @property
    def tilt_rad(self) -> float:
        """Angle between the world's -z and gravity."""
        cross = np.linalg.norm(np.cross(DOWN, self.direction_in_world))
        return float(np.arctan2(cross, DOWN @ self.direction_in_world))


def level(gravity: GravityEstimate) -> Array:
    """level_from_world [3, 3]: the smallest turn that brings gravity to -z; it has no part about z, so that a heading
    stays what it was. A world that stands on its head turns about x."""
    direction = gravity.direction_in_world
    axis = np.cross(direction, DOWN)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-12:
        axis, sine = np.array([1.0, 0.0, 0.0]), 1.0
    turn: Array = Rotation.from_rotvec(gravity.tilt_rad * axis / sine).as_matrix()
    return turn
