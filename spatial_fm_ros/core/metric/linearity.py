"""What shape a path has: how far it goes, and whether its positions can fix a rotation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.types import Array

#: A path thinner than this (second over first standard deviation) is straight: a percent of noise across
#: it would turn a rotation fitted to its positions by several degrees about the path.
STRAIGHT_RATIO = 0.1


@dataclass(frozen=True, eq=False)
class PathShape:
    """Lengths in the path's own unit.

    travel: largest distance between two positions; along, across: standard deviations in the first and
    second principal direction; direction float64 [3]: the first one, pointing from start to end.
    """

    travel: float
    along: float
    across: float
    direction: Array

    @property
    def ratio(self) -> float:
        """Thickness over length, 0 (a line, or no path) to 1 (a disc)."""
        return self.across / self.along if self.along > 0 else 0.0

    @property
    def is_straight(self) -> bool:
        """Its positions leave the rotation about its direction open."""
        return self.ratio < STRAIGHT_RATIO


def path_shape(positions: Array) -> PathShape:
    """The shape of positions [N, 3], N >= 2, from the eigenvalues of their covariance."""
    centred = positions - positions.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    deviations = singular / np.sqrt(len(positions))
    direction = directions[0]
    if (centred[-1] - centred[0]) @ direction < 0:
        direction = -direction
    first, second = np.triu_indices(len(positions), k=1)
    travel = float(np.linalg.norm(positions[first] - positions[second], axis=1).max())
    return PathShape(travel, float(deviations[0]), float(deviations[1]), direction)
