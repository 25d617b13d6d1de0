"""Exposure of a keyframe against the map: one gain per colour channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.types import Array, Image

#: Fewer common points say nothing of the exposure.
MIN_POINTS = 200
#: Levels outside are clipped or noise: they follow no gain.
DARKEST, BRIGHTEST = 12.0, 243.0
#: A gain further from 1 than this factor is no change of exposure.
LARGEST_GAIN = 2.0


def exposure_gains(colors: Image, known: NDArray[np.float32]) -> Array:
    """Gains [3] that bring colors uint8 [N, 3] of a keyframe to the map's, `known` [N, 3], NaN where unseen.

    The median ratio of each channel over points that neither side has clipped; 1 where too few are known.
    """
    gains = np.ones(3)
    level = colors.astype(np.float64)
    with np.errstate(invalid="ignore"):
        usable = (level > DARKEST) & (level < BRIGHTEST) & (known > DARKEST) & (known < BRIGHTEST)
    for channel in range(3):
        use = usable[:, channel]
        if use.sum() >= MIN_POINTS:
            gain = float(np.median(known[use, channel] / level[use, channel]))
            gains[channel] = np.clip(gain, 1.0 / LARGEST_GAIN, LARGEST_GAIN)
    return gains


def exposed(colors: Image, gains: Array) -> Image:
    """colors uint8 [..., 3] times the gains, clipped."""
    return np.clip(np.rint(colors * gains), 0, 255).astype(np.uint8)
