"""What of an estimated error of clock and mounting may be corrected: certain enough, and inside of bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from spatial_fm_ros.core.calibration.estimate import Estimate
from spatial_fm_ros.core.config import CalibrationConfig
from spatial_fm_ros.core.types import Array

#: A correction begins where the error is beyond so many deviations, in so many windows in a row.
SIGNIFICANT, PERSISTENCE = 3.0, 3
#: Only what is known better than this is corrected; a LiDAR's mounting by depth is never known as well as by turns.
LARGEST_ANGLE_SIGMA, LARGEST_BY_DEPTH = np.radians(0.3), np.radians(0.5)
LARGEST_OFFSET_SIGMA_S = 0.003
#: A window moves a correction by no more than this, so that poses and map do not jump.
STEP_RAD, STEP_S = np.radians(0.5), 0.01


@dataclass(frozen=True, eq=False)
class Wanted:
    """What one fit asks for. value [n]; it is `seen` where certain enough, `significant` where it is no chance,
    `beyond` where it is outside of the bounds and must not be applied."""

    value: Array
    seen: bool
    significant: bool
    beyond: bool


def wanted_turn(found: Estimate, config: CalibrationConfig, largest: float) -> Wanted:
    """The rotation [3] about the axes, not always those of the camera, that are known better than `largest` (rad)."""
    variances, axes = np.linalg.eigh(found.covariance)
    shown = np.sqrt(variances) < largest
    parts = axes[:, shown].T @ found.rotation
    distance = float((parts**2 / variances[shown]).sum())
    value = np.asarray(axes[:, shown] @ parts)
    return Wanted(
        value,
        bool(shown.any()),
        bool(shown.any() and distance > chi2.ppf(chi2.cdf(SIGNIFICANT**2, 1), int(shown.sum()))),
        bool(np.degrees(np.linalg.norm(value)) > config.max_rotation_deg),
    )


def wanted_offset(found: Estimate, config: CalibrationConfig) -> Wanted:
    """The clock's offset [1] in seconds."""
    seen = found.offset_sigma_s < LARGEST_OFFSET_SIGMA_S
    return Wanted(
        np.array([found.offset_s if seen else 0.0]),
        seen,
        seen and abs(found.offset_s) > SIGNIFICANT * found.offset_sigma_s,
        seen and abs(found.offset_s) > config.max_time_offset_s,
    )


class Applied:
    """The correction of one quantity [n]: begins when it is significant for long enough, then follows the estimate in
    bounded steps. Outside of the bounds it goes back to nothing."""

    def __init__(self, size: int, step: float) -> None:
        self.value: Array = np.zeros(size)
        self.beyond = False
        self.engaged = False
        self._step = step
        self._in_a_row = 0

    def follow(self, wanted: Wanted) -> None:
        """One window's step."""
        self._in_a_row = self._in_a_row + 1 if wanted.significant else 0
        self.beyond = wanted.beyond and (self.beyond or self._in_a_row >= PERSISTENCE)
        self.engaged = not self.beyond and (self.engaged or self._in_a_row >= PERSISTENCE)
        if not self.engaged:
            target = np.zeros_like(self.value)
        elif wanted.seen and not wanted.beyond:
            target = wanted.value
        else:
            return  # nothing new is known: what was corrected stays
        change = target - self.value
        size = float(np.linalg.norm(change))
        self.value = self.value + change * min(1.0, self._step / max(size, 1e-12))
