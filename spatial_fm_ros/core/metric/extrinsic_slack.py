"""What a slightly wrong extrinsic does to depth ratios, and how much of that the ratios themselves tell.

A turn or shift of the LiDAR changes the depth of its points and the pixels they are compared with, by a
pattern over the image that the network's slopes foretell. Ratios that follow such a pattern are explained by
it as far as the extrinsic's stated uncertainty makes it likely; what is left open stays as uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.config import LidarScaleConfig
from spatial_fm_ros.core.metric.projection import Hits
from spatial_fm_ros.core.types import Array

#: Networks err by regions of the image, tiles of so many columns and rows, each wrong by this share of depth as far as
#: is known beforehand, a belief worth so many regions of which the error was seen.
COLUMNS, ROWS = 5, 4
REGION_ERROR, REGION_COUNT = 0.03, 4.0


def sensitivity(hits: Hits, focal: float) -> Array:
    """Change of the log ratios [6, N] by shifts (metres) and turns (radians) of the LiDAR in camera axes."""
    x, y, z = hits.points.T
    across, down = focal * hits.slope.T / z  # change of the network's log depth per metre across the view
    shift = np.stack([-across, -down, (1.0 + across * x + down * y) / z])
    # A turn w moves p by w x p.
    turn = np.stack([y * shift[2] - z * shift[1], z * shift[0] - x * shift[2], x * shift[1] - y * shift[0]])
    return np.concatenate([shift, turn])


@dataclass(frozen=True, eq=False)
class Slack:
    """correction [6]: the likeliest shift (metres) and turn (radians), shrunk towards none by the prior;
    sigma: standard deviation that stays open of the log-scale."""

    correction: Array
    sigma: float


def regions(hits: Hits) -> NDArray[np.int64]:
    """The tile [N] of the image, 0 to COLUMNS * ROWS - 1, in which each hit lies; tiles hold about equally many."""
    x, y, z = hits.points.T
    column = _ranked(x / z, COLUMNS)
    row = np.zeros(len(x), dtype=np.int64)
    for i in range(COLUMNS):
        row[column == i] = _ranked((y / z)[column == i], ROWS)
    tile: NDArray[np.int64] = column * ROWS + row
    return tile


def region_error(residuals: Array, weights: Array, tiles: NDArray[np.int64]) -> float:
    """Standard deviation of the mean residual of a region, from residuals [N] with weights [N] (0: outliers) that a
    scale and six errors were fitted to, and from what is known beforehand."""
    mass = np.bincount(tiles, weights, COLUMNS * ROWS)
    seen = mass > 0.1 * mass.mean()
    freedom = float(seen.sum()) - 7.0
    if freedom <= 0:
        return REGION_ERROR
    means = np.bincount(tiles, weights * residuals, COLUMNS * ROWS)[seen] / mass[seen]
    share = mass[seen] / mass[seen].sum()
    variance = float(share @ np.square(means - share @ means)) * seen.sum() / freedom
    return float(np.sqrt((REGION_COUNT * REGION_ERROR**2 + freedom * variance) / (REGION_COUNT + freedom)))


@dataclass(frozen=True, eq=False)
class ExtrinsicEvidence:
    """What one window's ratios say of the extrinsic's error x [6] (shift in metres, turn in radians, of the LiDAR in
    camera axes): information [6, 6] and pull [6], information @ x = pull at the likeliest; no prior is in it. Both were
    weighed with `error`, the standard deviation of a region's depth as a share of it."""

    information: Array
    pull: Array
    error: float


def evidence(ratios: Array, weights: Array, error: float, changes: Array) -> ExtrinsicEvidence:
    """The normal equations that `explained` solves beside its prior; arguments as there."""
    if not weights.sum() > 0:
        return ExtrinsicEvidence(np.zeros((6, 6)), np.zeros(6), error)
    share = weights / weights.sum()
    centred = changes - (changes * share).sum(axis=1)[:, None]
    known = COLUMNS * ROWS / error**2 * (centred * share)
    return ExtrinsicEvidence(known @ centred.T, known @ (ratios - (ratios * share).sum()), error)


def explained(ratios: Array, weights: Array, error: float, changes: Array, options: LidarScaleConfig) -> Slack:
    """Linear Gaussian estimate of the extrinsic's error from log ratios [N] with weights [N] (0: outliers),
    sensitivities [6, N] and the standard deviation `error` of a region's depth, beside an unknown scale; the prior is
    the extrinsic's stated uncertainty."""
    prior = np.repeat([options.extrinsic_sigma_m, np.radians(options.extrinsic_sigma_deg)], 3)
    if not weights.sum() > 0 or not prior.any():
        return Slack(np.zeros(6), 0.0)
    told = evidence(ratios, weights, error, changes)
    # In units of the prior, so that a deviation of zero leaves its error at zero.
    posterior = np.linalg.inv(np.eye(6) + told.information * np.outer(prior, prior))
    found = posterior @ (told.pull * prior)
    effect = (changes * (weights / weights.sum())).sum(axis=1) * prior
    return Slack(prior * found, float(np.sqrt(effect @ posterior @ effect)))


def _ranked(values: Array, bins: int) -> NDArray[np.int64]:
    """Bin 0 to bins - 1 of each value, by rank."""
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return rank * bins // max(len(values), 1)
