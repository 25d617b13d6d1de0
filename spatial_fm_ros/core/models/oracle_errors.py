"""Errors as a network has them: cameras that turn and look a little wrong, depth that is bent smoothly.

Their sizes are those by which networks are judged: medians over neighbouring views, mean relative error.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import OracleConfig
from spatial_fm_ros.core.types import Array, Depth

#: Medians of the length of a normal vector of standard deviation 1 in three and in two dimensions
#: (chi distributions); the mean of its size in one.
MEDIAN_3D, MEDIAN_2D, MEAN_1D = 1.5382, 1.1774, 0.7979
#: Nodes of a depth warp down and across the image, and their shares of its variance: large parts of the view
#: err together, single things a little on their own.
WARP_NODES = {(4, 5): 0.8, (12, 16): 0.2}


def erring(
    depth: Depth, poses: Array, posed: NDArray[np.bool_], options: OracleConfig, rng: np.random.Generator
) -> tuple[Depth, Array]:
    """Depth [N, h, w] and world_from_camera [N, 4, 4] with the errors of `options`; unchanged where these are 0."""
    if options.warp > 0:
        depth = _warped(depth, options.warp, rng)
    if max(options.rotation_error_deg, options.direction_error_deg) > 0 and posed.sum() > 1:
        poses = _mistaken(poses, posed, options.rotation_error_deg, options.direction_error_deg, rng)
    return depth, poses


def _warped(depth: Depth, size: float, rng: np.random.Generator) -> Depth:
    """Every view times the exponential of a smooth random image, of `size` in the mean."""
    count, height, width = depth.shape
    bend = np.zeros(depth.shape, np.float32)
    for grid, share in WARP_NODES.items():
        nodes = rng.normal(0.0, 1.0, (count, *grid)).astype(np.float32)
        field = np.stack([cv2.resize(node, (width, height), interpolation=cv2.INTER_CUBIC) for node in nodes])
        bend += field * np.sqrt(share / np.mean(np.square(field)))
    warped: Depth = (depth * np.exp(bend * (size / MEAN_1D))).astype(np.float32)
    return warped


def _mistaken(
    poses: Array, posed: NDArray[np.bool_], rotation_deg: float, direction_deg: float, rng: np.random.Generator
) -> Array:
    """Every camera turned and shifted on its own, so that neighbours err by the given medians.

    The direction to the next camera is seen from a camera that is itself turned: what that makes of it is left
    out of the shift.
    """
    wrong = poses.copy()
    places = np.flatnonzero(posed)
    steps = np.linalg.norm(np.diff(poses[places, :3, 3], axis=0), axis=1)
    turn = np.radians(rotation_deg) / MEDIAN_3D / np.sqrt(2.0)
    aside = np.sqrt(max((np.tan(np.radians(direction_deg)) / MEDIAN_2D) ** 2 - turn**2, 0.0) / 2.0)
    turns = Rotation.from_rotvec(rng.normal(0.0, 1.0, (len(places), 3)) * turn).as_matrix()
    wrong[places, :3, :3] = poses[places, :3, :3] @ turns
    wrong[places, :3, 3] += rng.normal(0.0, 1.0, (len(places), 3)) * (aside * float(np.median(steps)))
    return wrong
