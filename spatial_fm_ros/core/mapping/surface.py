"""The surface a keyframe saw, as coloured world points with normals."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.config import MapConfig
from spatial_fm_ros.core.geometry.cameras import unproject
from spatial_fm_ros.core.geometry.normals import depth_normals
from spatial_fm_ros.core.geometry.rotations import move_points
from spatial_fm_ros.core.types import PointCloud, PosedKeyframe


def surface_points(keyframe: PosedKeyframe, config: MapConfig) -> PointCloud:
    """The confident pixels of a keyframe, every `stride`-th of a row and a column, in the world."""
    grid = (slice(None, None, config.stride),) * 2
    depth, confidence = keyframe.depth[grid], keyframe.confidence[grid]
    use = np.isfinite(depth) & (confidence >= config.min_confidence)
    if config.max_depth > 0:
        use &= depth <= config.max_depth
    pose = keyframe.world_from_camera
    in_camera = unproject(keyframe.camera.K, keyframe.depth)
    points = move_points(pose, in_camera[grid][use])
    normals = depth_normals(in_camera)[grid][use] @ pose[:3, :3].T
    return PointCloud(
        points.astype(np.float32),
        keyframe.image[grid][use],
        confidence[use].astype(np.float32),
        normals.astype(np.float32),
    )
