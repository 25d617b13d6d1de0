"""How far the cameras of a rig are apart by the images, against what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import t as student

from spatial_fm_ros.core.geometry.robust import huber_weights, tukey_weights
from spatial_fm_ros.core.types import Array

ITERATIONS = 8
#: How well images tell the turn between two cameras without any other parallax, rad, standard deviation.
TURN_SIGMA = float(np.radians(0.05))


@dataclass(frozen=True, eq=False)
class RigPair:
    """A keyframe and another camera at its instant: camera_from_companion [4, 4] by the images (world units) and as
    told (metres)."""

    frame_id: str
    seen: Array
    told: Array


@dataclass(frozen=True)
class BaselineFit:
    """units: world units per metre; sigma: of its logarithm; turned_deg: median angle between the orientations seen and
    told; swing_deg: angle between the directions in which the cameras are seen and told; swing_sigma_deg: its standard
    deviation per axis, where the pairs are of one camera."""

    units: float
    sigma: float
    turned_deg: float
    swing_deg: float
    swing_sigma_deg: float


def fit_baseline(pairs: Sequence[RigPair]) -> BaselineFit:
    """seen = units * told, over the places of all pairs, by iteratively reweighted least squares.

    Unlike a mean of lengths, it is not lengthened by noise. What the pairs depart from it in any direction says how
    uncertain it is.
    """
    seen = np.stack([pair.seen[:3, 3] for pair in pairs])
    told = np.stack([pair.told[:3, 3] for pair in pairs])
    size = np.square(told).sum(1)
    weights: Array = np.ones(len(pairs))
    units = float(np.sum(seen * told) / size.sum())
    for weigh in (huber_weights, tukey_weights):
        for _ in range(ITERATIONS if len(pairs) > 2 else 0):
            weights = weigh(np.linalg.norm(seen - units * told, axis=1))
            units = float(np.sum(weights[:, None] * seen * told) / np.sum(weights * size))
    freedom = max(3.0 * float(weights.sum()) - 1.0, 1.0)
    variance = np.sum(weights[:, None] * np.square(seen - units * told)) / freedom
    # Few pairs say little about their own noise: two deviations hold what Student's quantile says.
    widened = float(student.ppf(0.977, freedom)) / 2.0
    sigma = widened * float(np.sqrt(variance / np.sum(weights * size)) / max(abs(units), 1e-300))
    along = float(np.sum(weights[:, None] * seen * told))
    across = float(np.linalg.norm(np.sum(weights[:, None] * np.cross(told, seen), axis=0)))
    turned = float(np.median(np.linalg.norm(_turns(pairs), axis=1)))
    mean = weights @ seen / weights.sum()
    scatter = np.sum(weights[:, None] * np.square(seen - mean)) / max(3.0 * float(weights.sum()) - 3.0, 1.0)
    swing_sigma = np.sqrt(scatter / weights.sum()) / max(float(np.linalg.norm(mean)), 1e-300)
    return BaselineFit(
        units,
        sigma,
        float(np.degrees(turned)),
        float(np.degrees(np.arctan2(across, along))),
        float(np.degrees(swing_sigma)),
    )


def tilt(pairs: Sequence[RigPair], depth: float, extent: float, units: float, told_sigma: float) -> tuple[float, float]:
    """What a wrong turn between the cameras makes of log(units), and how far that is known (standard deviation).

    A view that is turned towards the other one shows everything farther away: an error w about the axis across the
    baseline b changes a depth z by w * z / b (the bas-relief ambiguity; Koenderink and van Doorn, 1991). All pairs of a
    window share it, so that their spread does not show it. Images fix the turn the better, the longer the window's
    `extent` is beside the baseline (both with `depth` in world units); what is told of it, known to `told_sigma` rad,
    does the rest.
    """
    turns = np.median(_turns(pairs), axis=0)
    told = np.median([pair.told[:3, :3].T @ pair.told[:3, 3] for pair in pairs], axis=0)  # in the companion's axes
    length = float(np.linalg.norm(told))
    towards = float(np.cross(turns, (0.0, 0.0, 1.0)) @ told) / length
    baseline = abs(units) * length
    by_images = TURN_SIGMA * min(1.0, baseline / extent)
    share = by_images**2 / max(by_images**2 + told_sigma**2, 1e-300)
    return -share * towards * depth / baseline, float(np.sqrt(1.0 - share)) * by_images * depth / baseline


def _turns(pairs: Sequence[RigPair]) -> Array:
    """Rotation vectors [n, 3], rad, in the companions' axes, from the orientation told to the one seen."""
    apart = np.stack([pair.told[:3, :3].T @ pair.seen[:3, :3] for pair in pairs])
    return np.asarray(Rotation.from_matrix(apart).as_rotvec(), dtype=np.float64)
