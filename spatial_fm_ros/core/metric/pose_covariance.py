"""How well a keyframe's pose in the map is known: an order of magnitude for those who fuse it, no posterior.

What a window's seam, its depth and the scale allow; how the map as a whole has drifted is not in it.
"""

from __future__ import annotations

import math

import numpy as np

from spatial_fm_ros.core.types import Array, ScaleEstimate, ScaleState, SeamReport

#: Variance of what is not known: large, but finite, so that filters take it.
UNKNOWN_VARIANCE = 1e6
#: Residual (point distance over depth) below which no seam is believed, and that of a window that nothing is before.
LEAST_RESIDUAL, FIRST_RESIDUAL = 0.002, 0.02
#: No position is known better than this, metres.
LEAST_POSITION_M = 0.002


def pose_variances(
    seam: SeamReport | None, refused_residual: float, depth: float, scale: ScaleEstimate, distance: float
) -> tuple[float, float]:
    """Variances (each position axis, each rotation axis) of a camera in the map; > 0 and at most UNKNOWN_VARIANCE.

    A seam's residual is point distance over depth: it bounds rotation in radians, and position as that share of the
    scene's median `depth`. Without a seam it is that of a first window; after a refused one it is at least
    `refused_residual` (seam.max_residual), for odometry put the window where it is. A scale that is off moves a camera
    by that share of its `distance` from the map's origin. Without a scale, or depth, the position is not known.
    """
    residual = _residual(seam, refused_residual)
    rotation = min(residual**2, UNKNOWN_VARIANCE)
    sigma = scale.sigma if scale.state is ScaleState.METRIC else math.inf
    spread = math.hypot(max(residual * depth, LEAST_POSITION_M), sigma * distance if math.isfinite(sigma) else sigma)
    # Not a number is no length either.
    return (min(spread**2, UNKNOWN_VARIANCE) if spread < math.inf else UNKNOWN_VARIANCE), rotation


def covariance(variances: tuple[float, float], lever: Array) -> Array:
    """[6, 6] of a point that is `lever` [3] away from one with these variances, on the same body.

    Order x y z, turns about x y z; both in the fixed axes that `lever` is given in (geometry_msgs/PoseWithCovariance).
    A turn by the small vector w moves the point by w x lever.
    """
    position, rotation = variances
    x, y, z = lever
    moved = np.eye(6)
    moved[:3, 3:] = [[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]]
    found = moved @ np.diag([position] * 3 + [rotation] * 3) @ moved.T
    return np.asarray(0.5 * (found + found.T))


def _residual(seam: SeamReport | None, refused_residual: float) -> float:
    if seam is None:
        return FIRST_RESIDUAL
    known = seam.residual if math.isfinite(seam.residual) else 0.0
    return max(known, LEAST_RESIDUAL if seam.accepted else refused_residual)
