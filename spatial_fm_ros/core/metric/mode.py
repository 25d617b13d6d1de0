"""Where most of a contaminated sample lies: a weighted mode and the spread of the hill it stands on.

A mean or median of depth ratios follows whatever is mixed in on one side (occluded points, moving things,
bleeding edges); the mode does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from spatial_fm_ros.core.geometry.robust import MAD_TO_SIGMA, TUKEY, weighted_median
from spatial_fm_ros.core.types import Array

BINS = 512
#: The hill is never taken to be narrower than this, or few equal values would make it a spike.
NARROWEST = 1e-3


@dataclass(frozen=True, eq=False)
class Mode:
    """value: the mode; spread: standard deviation of the values around it; weights [N]: what each value
    counted in the end, its own weight times Tukey's (0: an outlier)."""

    value: float
    spread: float
    weights: Array


def weighted_mode(values: Array, weights: Array) -> Mode:
    """Mode of values [N], N > 0, with weights [N] >= 0, not all zero.

    The highest point of a kernel density (Parzen 1962; bandwidth of Silverman 1986 from the quartiles) is
    the start, and a location estimate with Tukey's weights about it the result.
    """
    centre, spread = _highest(values, weights)
    for _ in range(8):
        near = np.abs(values - centre) < 3.0 * spread
        if not (weights[near] > 0).any():
            break
        # Values further out belong to something else, so the spread is measured inside of them only.
        spread = max(MAD_TO_SIGMA * weighted_median(np.abs(values[near] - centre), weights[near]), NARROWEST)
        updated = located(values, weights, centre, spread).value
        if abs(updated - centre) < 1e-6:
            break
        centre = updated
    return located(values, weights, centre, spread)


def located(values: Array, weights: Array, start: float, spread: float) -> Mode:
    """Location of values [N] by Tukey's weights from a start, with the spread given and kept."""
    centre = start
    for _ in range(20):
        total = weights * _tukey(values, centre, spread)
        mass = float(total.sum())
        if not mass > 0:
            break
        step = float((total * values).sum()) / mass - centre  # a dot product would wake BLAS threads
        centre += step
        if abs(step) < 1e-5:
            break
    return Mode(centre, spread, weights * _tukey(values, centre, spread))


def _tukey(values: Array, centre: float, spread: float) -> Array:
    squared = np.square((values - centre) / (TUKEY * spread))
    robust: Array = np.square(np.maximum(0.0, 1.0 - squared))
    return robust


def _highest(values: Array, weights: Array) -> tuple[float, float]:
    """The highest point of the kernel density, and its bandwidth."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    low, q1, q3, high = values[order][np.searchsorted(cumulative, np.array([0.01, 0.25, 0.75, 0.99]) * cumulative[-1])]
    effective = cumulative[-1] ** 2 / float(weights @ weights)
    bandwidth = max(0.9 * (q3 - q1) / 1.34 * effective**-0.2, NARROWEST)
    low, high = low - 3.0 * bandwidth, high + 3.0 * bandwidth
    density, edges = np.histogram(values, BINS, (low, high), weights=weights)
    width = edges[1] - edges[0]
    smooth = gaussian_filter1d(density, bandwidth / width, mode="constant")
    return float(edges[int(np.argmax(smooth))] + 0.5 * width), float(max(bandwidth, width))
