"""LiDAR and image depth of one keyframe as one surface: LiDAR where it has seen, images in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from spatial_fm_ros.core.config import LidarScaleConfig
from spatial_fm_ros.core.geometry.cameras import unproject
from spatial_fm_ros.core.geometry.normals import depth_normals
from spatial_fm_ros.core.geometry.rotations import move_points
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.projection import Visible, depth_field, visible
from spatial_fm_ros.core.metric.scan_placing import ScanPlacer, mount_of, nearest_scan, possible_hits
from spatial_fm_ros.core.types import Array, Depth, PointCloud, PointSource, PosedKeyframe

#: Chance that a LiDAR depth on the right pixel is within 5 %: what is left is beams that graze an edge.
LIDAR_CONFIDENCE = 0.97
#: Image depth further than this from LiDAR (log ratio) is another surface or plainly wrong: not drawn to it.
LARGEST_CORRECTION = 0.25
#: A LiDAR point this much (log ratio) behind confident image depth is hidden by what the image shows.
BEHIND = 0.25
SURE = 0.7
#: A correction fades where fewer beams than this (weighted by nearness) lie within its reach.
FEWEST_BEAMS = 0.3


class LidarSurface:
    """Finds the scan of a keyframe and joins both. World units must be metres."""

    def __init__(self, config: LidarScaleConfig, sensors: Sensors) -> None:
        self.config = config
        self.sensors = sensors

    def join(self, keyframe: PosedKeyframe, window: Sequence[PosedKeyframe]) -> tuple[PosedKeyframe, PointCloud]:
        """The keyframe with its depth drawn to LiDAR's, and the LiDAR points that its camera sees, in the world.

        `window`: posed keyframes around it, whose cameras move the scan where no poses reach. Without a scan
        near in time or a usable extrinsic, the keyframe as it was and no points.
        """
        in_camera = self._scan_in_camera(keyframe, window)
        if in_camera is None or not len(in_camera):
            return keyframe, PointCloud.empty()
        return joined_surface(keyframe, in_camera)

    def _scan_in_camera(self, keyframe: PosedKeyframe, window: Sequence[PosedKeyframe]) -> Array | None:
        camera_from_lidar, _ = mount_of(self.sensors.rig)
        scan = nearest_scan(self.sensors.scans, keyframe.stamp_ns, round(self.config.max_gap_s * 1e9))
        if camera_from_lidar is None or scan is None:
            return None
        placer = ScanPlacer(self.sensors, window, camera_from_lidar)
        part = possible_hits(scan, camera_from_lidar, keyframe.camera)
        moved = placer.by_poses(part, keyframe.stamp_ns)
        return placer.by_window(part, keyframe.stamp_ns, 1.0) if moved is None else moved


def joined_surface(keyframe: PosedKeyframe, in_camera: Array) -> tuple[PosedKeyframe, PointCloud]:
    """As `LidarSurface.join`, from LiDAR points [N, 3] of the keyframe's camera frame, in world units.

    Points get the colour of their pixel and the normal of the depth there; hidden ones are left out. Around
    them image depth is multiplied by the local ratio of both (a normalised convolution, Knutsson and Westin,
    1993), which takes a bias out without drawing the pattern of the beams into it.
    """
    field = depth_field(keyframe.depth, keyframe.confidence, 0.0)
    seen = visible(field, keyframe.camera, in_camera)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.log(seen.points[:, 2]) - np.log(keyframe.depth[seen.row, seen.column].astype(np.float64))
        shown = ~((ratio > BEHIND) & (keyframe.confidence[seen.row, seen.column] > SURE))
    corrected = _drawn_to(keyframe.depth, seen, ratio)
    row, column, points = seen.row[shown], seen.column[shown], seen.points[shown]
    pose = keyframe.world_from_camera
    normals = depth_normals(unproject(keyframe.camera.K, corrected))[row, column] @ pose[:3, :3].T
    cloud = PointCloud(
        move_points(pose, points).astype(np.float32),
        keyframe.image[row, column],
        np.full(len(points), LIDAR_CONFIDENCE, np.float32),
        normals.astype(np.float32),
        np.full(len(points), PointSource.LIDAR, np.uint8),
    )
    return replace(keyframe, depth=corrected), cloud


def _drawn_to(depth: Depth, seen: Visible, ratio: Array) -> Depth:
    """Depth [h, w] times the smoothed ratio; unchanged far from all beams. ratio [N]: log(LiDAR / depth)."""
    use = np.abs(ratio) < LARGEST_CORRECTION  # NaN is not
    if not use.any():
        return depth
    beams, total = np.zeros(depth.shape, np.float32), np.zeros(depth.shape, np.float32)
    np.add.at(beams, (seen.row[use], seen.column[use]), 1.0)
    np.add.at(total, (seen.row[use], seen.column[use]), ratio[use].astype(np.float32))
    reach = max(seen.spacing, 1.0)
    # A Gaussian of unit height, so that the beams become a count of those near by.
    height = np.float32(2.0 * np.pi * reach**2)
    count, summed = (height * cv2.GaussianBlur(layer, (0, 0), reach) for layer in (beams, total))
    return np.asarray(depth * np.exp(summed / (count + FEWEST_BEAMS)), dtype=np.float32)
