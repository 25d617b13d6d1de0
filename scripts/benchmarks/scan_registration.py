"""Poses of a LiDAR by direct registration of every scan onto the first, with Open3D: a reference where the poses that
come with a recording are odometry themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import open3d as o3d

from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.types import Array, LidarScan

#: Points nearer are the car's own, points farther too sparse for planes, metres.
NEAREST_M, FARTHEST_M = 3.0, 60.0
#: Normals: radius, metres, and number of neighbours.
NORMAL_RADIUS_M, NEIGHBOURS = 0.6, 30
#: Coarse to fine: reach of a point, metres, and the width of Tukey's loss, metres.
STAGES = ((1.0, 0.3), (0.5, 0.15), (0.3, 0.08))

_icp = o3d.pipelines.registration


def register(scans: Sequence[LidarScan], begin: Array) -> tuple[Array, Array]:
    """first_from_lidar [N, 4, 4] by point to plane (Chen and Medioni 1992), and the RMS distance [N, 2] of matched
    points, metres, by the poses `begin` [N, 4, 4] (any world) from which it starts, and by its own."""
    clouds = [_cloud(scan) for scan in scans]
    poses, distances = [np.eye(4)], [(0.0, 0.0)]
    for cloud, pose in zip(clouds[1:], begin[1:], strict=True):
        start = invert_pose(begin[0]) @ pose
        found = start
        for reach, width in STAGES:
            estimation = _icp.TransformationEstimationPointToPlane(_icp.TukeyLoss(k=width))
            criteria = _icp.ICPConvergenceCriteria(max_iteration=60)
            found = _icp.registration_icp(cloud, clouds[0], reach, found, estimation, criteria).transformation
        before, after = (
            _icp.evaluate_registration(cloud, clouds[0], STAGES[-1][0], each).inlier_rmse for each in (start, found)
        )
        poses.append(np.array(found))
        distances.append((before, after))
    return np.stack(poses), np.array(distances)


def _cloud(scan: LidarScan) -> o3d.geometry.PointCloud:
    points = scan.points.reshape(-1, 3).astype(np.float64)
    away = np.linalg.norm(points, axis=1)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points[(away > NEAREST_M) & (away < FARTHEST_M)]))
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamHybrid(NORMAL_RADIUS_M, NEIGHBOURS))
    return cloud
