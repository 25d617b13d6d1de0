"""Surface normals of depth images."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.types import Array

#: Neighbours whose depths differ by more than this share lie on different surfaces.
LARGEST_STEP = 0.1


def depth_normals(points: Array) -> Array:
    """Unit normals float64 [h, w, 3] in the camera frame, towards the camera; 0 where they are unknown.

    The cross product of central differences of `points` [h, w, 3], an unprojected depth image, NaN unknown.
    Unknown at the image border, beside unknown depth and across depth steps.
    """
    normals = np.zeros(points.shape)
    if min(points.shape[:2]) < 3:
        return normals
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    inner = points[1:-1, 1:-1, 2]
    with np.errstate(invalid="ignore"):
        flat = (np.abs(across[..., 2]) < 2 * LARGEST_STEP * inner) & (np.abs(down[..., 2]) < 2 * LARGEST_STEP * inner)
    normal = np.cross(down, across)  # right-handed with y down, this points at the camera
    length = np.linalg.norm(normal, axis=-1)
    known = flat & np.isfinite(length) & (length > 0) & np.isfinite(inner)
    normals[1:-1, 1:-1][known] = normal[known] / length[known, None]
    return normals
