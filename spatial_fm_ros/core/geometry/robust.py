"""Robust statistics shared by seams and scale."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.types import Array

#: Huber's constant for 95 % efficiency under Gaussian noise (Huber 1964).
HUBER = 1.345
#: Median absolute deviation to standard deviation of a Gaussian.
MAD_TO_SIGMA = 1.4826

#: Tukey's constant for 95 % efficiency under Gaussian noise (Beaton and Tukey 1974).
TUKEY = 4.685


def weighted_median(values: Array, weights: Array) -> float:
    """The value at which half of the weight is reached. values, weights float64 [N], N > 0."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])


def huber_weights(residual: Array) -> Array:
    """IRLS weights of non-negative residuals [N]; the scale is their own median absolute value."""
    limit = HUBER * max(MAD_TO_SIGMA * float(np.median(residual)), 1e-9)
    weight: Array = limit / np.maximum(residual, limit)
    return weight


def tukey_weights(residual: Array) -> Array:
    """Redescending IRLS weights of non-negative residuals [N]: far outliers count nothing."""
    limit = TUKEY * max(MAD_TO_SIGMA * float(np.median(residual)), 1e-9)
    weight: Array = np.square(np.maximum(0.0, 1.0 - np.square(residual / limit)))
    return weight
