"""What a slightly wrong extrinsic does to depth ratios, and how much of that the ratios themselves tell.

A turn or shift of the LiDAR changes the depth of its points and the pixels they are compared with, by a
pattern over the image that the network's slopes foretell. Ratios that follow such a pattern are explained by
it as far as the extrinsic's stated uncertainty makes it likely; what is left open stays as uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.config import LidarScaleConfig
from spatial_fm_ros.core.metric.projection import Hits
from spatial_fm_ros.core.types import Array

#: Networks err by regions: a window is worth so many independent ones, each wrong by this share of depth or,
#: where ratios scatter more than that, by what they scatter.
REGIONS, REGION_ERROR = 20.0, 0.03


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


def explained(ratios: Array, weights: Array, spread: float, changes: Array, options: LidarScaleConfig) -> Slack:
    """Linear Gaussian estimate of the extrinsic's error from log ratios [N] with weights [N] (0: outliers), their
    standard deviation `spread` and sensitivities [6, N], beside an unknown scale; the prior is the extrinsic's
    stated uncertainty."""
    prior = np.repeat([options.extrinsic_sigma_m, np.radians(options.extrinsic_sigma_deg)], 3)
    if not weights.sum() > 0 or not prior.any():
        return Slack(np.zeros(6), 0.0)
    share = weights / weights.sum()
    mean = (changes * share).sum(axis=1)
    # In units of the prior, so that a deviation of zero leaves its error at zero.
    centred = (changes - mean[:, None]) * prior[:, None]
    known = REGIONS / max(REGION_ERROR, spread) ** 2
    posterior = np.linalg.inv(np.eye(6) + known * (centred * share) @ centred.T)
    found = posterior @ (known * (centred * share) @ (ratios - (ratios * share).sum()))
    effect = mean * prior
    return Slack(prior * found, float(np.sqrt(effect @ posterior @ effect)))
