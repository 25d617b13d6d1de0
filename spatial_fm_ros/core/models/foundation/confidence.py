"""From a network's own confidence to the pipeline's: the chance that a depth is within 5 % of the truth.

Both networks are trained with the loss c |e| - alpha log c (Kendall and Gal, 2017; VGGT uses alpha = 0.2), whose
best c for an error of mean size b is alpha / b, and give c = 1 + exp(x). With errors of a Laplace distribution and
depths around the training's unit, the chance of an error below 5 % is 1 - exp(-0.05 c / 0.2) = 1 - exp(-c / 4). The
offset of 1, which every pixel has, is taken off, so that a pixel of no evidence gets 0. This is a monotone reading of
how the networks were trained, not a calibration: no share of right pixels was counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.types import Depth

#: Evidence c - 1 of an even chance by the loss above: exp(-x / 4) = 1/2.
HALF_BY_LOSS = 4.0 * float(np.log(2.0))
#: Depth Anything 3 does not publish its alpha. Its own exporter keeps what is above the 40th percentile of a
#: window, and nothing below c = 1.05: these get an even chance.
EVEN_PERCENTILE, LEAST_EVEN = 40.0, 0.05


def chance(confidence: Depth, half: float) -> Depth:
    """float32 in [0, 1), shape of `confidence` c >= 1; 0 where that is not finite.

    half: evidence c - 1 that makes an even chance; 0: the 40th percentile of the finite values given.
    """
    evidence = np.maximum(confidence.astype(np.float64) - 1.0, 0.0)
    known = np.isfinite(evidence)
    if not known.any():
        return np.zeros(confidence.shape, np.float32)
    even = half if half > 0 else max(float(np.percentile(evidence[known], EVEN_PERCENTILE)), LEAST_EVEN)
    result: NDArray[np.float32] = np.where(known, -np.expm1(-np.log(2.0) * evidence / even), 0.0).astype(np.float32)
    return result
