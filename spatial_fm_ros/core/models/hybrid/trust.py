"""How far a prior has been off where the images could tell: learnt from window to window."""

from __future__ import annotations

from collections import deque

import numpy as np

#: Median length of a normal vector of three dimensions, in standard deviations along each (chi distribution).
MEDIAN_LENGTH = 1.5382
#: Windows remembered.
MEMORY = 20
#: Errors beyond which a prior says nothing of the scene: of log depth (its scale aside), of rotation about each axis.
WORST_DEPTH, WORST_ROTATION_DEG = 0.35, 5.0


class Trust:
    """Medians over recent windows of a prior's errors against what the images measured."""

    def __init__(self) -> None:
        self._depth: deque[float] = deque(maxlen=MEMORY)
        self._rotation: deque[float] = deque(maxlen=MEMORY)
        self._position: deque[float] = deque(maxlen=MEMORY)

    def learn(self, depth: float | None = None, rotation: float | None = None, position: float | None = None) -> None:
        """Standard deviations seen in one window: of log depth, of rotations in radians about each axis, of
        positions along each axis as a share of the median depth."""
        for values, value in ((self._depth, depth), (self._rotation, rotation), (self._position, position)):
            if value is not None and np.isfinite(value):
                values.append(value)

    @property
    def depth(self) -> float | None:
        return float(np.median(self._depth)) if self._depth else None

    @property
    def rotation(self) -> float | None:
        return float(np.median(self._rotation)) if self._rotation else None

    @property
    def position(self) -> float | None:
        return float(np.median(self._position)) if self._position else None

    @property
    def believed(self) -> bool:
        """Whether the prior may speak where images cannot: as long as it was not found to be far off."""
        return (self.depth or 0.0) < WORST_DEPTH and np.degrees(self.rotation or 0.0) < WORST_ROTATION_DEG
