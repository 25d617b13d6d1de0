"""From VGGT's depth and cameras to points and back, as its published helpers count pixels.

They take a pixel's integer coordinates against the principal point (W/2, H/2) that the pose encoding implies, which
puts the image's centre half a pixel off; the rest of this package has pixel centres at integers throughout
and the centre at ((W - 1)/2, (H - 1)/2). Use these functions to compare with published results.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spatial_fm_ros.core.geometry.cameras import unproject
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.types import Array

#: Depth that counts as seen.
SMALLEST_DEPTH = 1e-8


def world_points_from_depth(depth: ArrayLike, camera_from_world: ArrayLike, K: ArrayLike) -> Array:
    """float64 [S, H, W, 3] of depth [S, H, W] along z, poses [S, 3 or 4, 4] and K [S, 3, 3]."""
    points = unproject(K, depth)
    world_from_camera = invert_pose(camera_from_world)
    rotated = np.einsum("sij,shwj->shwi", world_from_camera[:, :3, :3], points)
    return np.asarray(rotated + world_from_camera[:, None, None, :3, 3])


def seen(depth: ArrayLike) -> NDArray[np.bool_]:
    """Where depth is above zero; false for NaN."""
    return np.asarray(np.asarray(depth) > SMALLEST_DEPTH)


def project_points(points: ArrayLike, camera_from_world: ArrayLike, K: ArrayLike) -> tuple[Array, Array]:
    """Pixels [S, P, 2] and camera coordinates [S, P, 3] of world points [P, 3] in every view.

    Points behind a camera are projected through it, like the published helper does; a point at its centre gives 0.
    """
    pose = np.asarray(camera_from_world, dtype=np.float64)
    local = np.einsum("sij,pj->spi", pose[:, :3, :3], np.asarray(points, dtype=np.float64)) + pose[:, None, :3, 3]
    image = np.einsum("sij,spj->spi", np.asarray(K, dtype=np.float64), local)
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = image[..., :2] / image[..., 2:]
    pixels[np.isnan(pixels)] = 0.0
    return pixels, local
