"""The ground below one camera: the plane that much of the depth lies on and nothing lies below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.types import Array

#: Hypotheses drawn, points that each is tried on (float32 will do), and points that the best is fitted to.
HYPOTHESES, TRIED, POINTS = 150, 400, 1200
#: A point belongs to the plane when its depth is right within this share.
TOLERANCE = 0.08
#: Points below the plane, as a share of those on it, from which on it is a table rather than the ground.
MAX_BELOW = 0.25
#: Share of the points below the horizon, and number, that the ground must hold.
MIN_SHARE, MIN_POINTS = 0.2, 60
ROUNDS = 6
#: Relative noise of depth, and how many points err independently of each other, where the fit weighs them against `up`.
NOISE, INDEPENDENT = 0.05, 40.0


@dataclass(frozen=True, eq=False)
class Ground:
    """height of the camera's centre above the plane, in units of the points; up: unit normal [3] in the camera's axes;
    share of the points below the horizon that lie on it."""

    height: float
    up: Array
    share: float


def fit_ground(points: Array, up: Array, max_tilt_rad: float, rng: np.random.Generator) -> Ground | None:
    """The ground through points [N, 3] in the camera's axes, its normal within `max_tilt_rad` of `up` [3].

    RANSAC on three points each, judged by relative error: for a plane of normal n at height h, a point x has
    h = -n.x, and an error of its depth by some share is an error of -n.x by the same share. What would lie
    below the ground counts against it. None where no plane fits.
    """
    steepness = -(points @ up) / np.linalg.norm(points, axis=1)
    points = points[steepness > 0.05]  # close to the horizon a plane's depth says nothing of its height
    if len(points) < MIN_POINTS:
        return None
    if len(points) > POINTS:
        points = points[rng.choice(len(points), POINTS, replace=False)]
    normals, heights = _hypotheses(points, up, max_tilt_rad, rng)
    if not len(normals):
        return None
    tried = points[:: -(-len(points) // TRIED)].astype(np.float32)
    ratio = tried @ (-normals / heights[:, None]).astype(np.float32).T  # [N, H]: 1 on the plane, more below it
    on, below = np.abs(ratio - 1) < TOLERANCE, ratio > 1 + 2 * TOLERANCE
    score = np.count_nonzero(on, axis=0) - np.count_nonzero(below, axis=0)
    best = int(np.argmax(score))
    return _refined(points, normals[best], float(heights[best]), up, max_tilt_rad)


def _hypotheses(points: Array, up: Array, max_tilt_rad: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Normals [H, 3] and heights [H] of planes to try."""
    a, b, c = (points[rng.integers(0, len(points), HYPOTHESES)] for _ in range(3))
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1)
    normal = normal[length > 1e-12] / length[length > 1e-12, None]
    normal *= np.sign(normal @ up)[:, None]
    height = -np.einsum("ni,ni->n", normal, a[length > 1e-12])
    # Three points of a near ground are close together and their noise tilts the plane: `up` itself is tried as well.
    level = -(a @ up)
    normal = np.concatenate([normal, np.tile(up, (len(level), 1))])
    height = np.concatenate([height, level])
    good = (normal @ up > np.cos(max_tilt_rad)) & (height > 1e-9)
    return normal[good], height[good]


def _refined(points: Array, normal: Array, height: float, up: Array, max_tilt_rad: float) -> Ground | None:
    """Least squares of -n.x / h = 1 over the points on the plane, which the fit may change, with a normal near `up`."""
    plane = -normal / height  # plane . x = 1 on it
    across = np.linalg.svd(up[None])[2][1:]
    for _ in range(ROUNDS):
        on: NDArray[np.bool_] = np.abs(points @ plane - 1) < TOLERANCE
        if on.sum() < MIN_POINTS:
            return None
        belief = across * height * NOISE / (max_tilt_rad / 3) * np.sqrt(on.sum() / INDEPENDENT)
        rows, ones = np.concatenate([points[on], belief]), np.append(np.ones(int(on.sum())), np.zeros(2))
        plane = np.linalg.lstsq(rows, ones, rcond=None)[0]
    size = float(np.linalg.norm(plane))
    found = -plane / size
    # Least squares shrinks `plane` by the square of the noise; the median of the heights does not.
    height = float(np.median(-(points[on] @ found)))
    below = int((points @ plane > 1 + 2 * TOLERANCE).sum())
    share = float(on.mean())
    if found @ up < np.cos(max_tilt_rad) or share < MIN_SHARE or below > MAX_BELOW * on.sum():
        return None
    return Ground(height, found, share)
