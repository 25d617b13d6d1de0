"""LiDAR scans brought to a camera at the moment of its image: the right scan, deskewed and moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.geometry.rotations import interpolate_pose, invert_pose, is_pose, move_points
from spatial_fm_ros.core.intake.scans import ScanBuffer
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.lidar.deskew import deskewed
from spatial_fm_ros.core.metric.projection import in_view
from spatial_fm_ros.core.types import Array, Camera, LidarScan, PosedKeyframe, Rig

#: A sweep is not longer than this, so that one that began earlier cannot reach an image.
LONGEST_SWEEP_S = 0.35
#: The image grown by this share of the focal length: what the camera may turn to during a sweep.
VIEW_MARGIN = 0.35
#: Points nearer than this to the LiDAR are no returns (drivers fill lost ones with zeros).
NO_RETURN_M = 0.1
#: More points of one scan do not change its mode.
MOST_POINTS = 12_000


def mount_of(rig: Rig) -> tuple[Array | None, str]:
    """camera_from_lidar [4, 4], or None and why it is not known."""
    for pose, what in ((rig.body_from_lidar, "LiDAR"), (rig.body_from_camera, "camera")):
        if pose is None:
            return None, f"where the {what} is mounted is not known: its frame is not connected in TF"
        if not is_pose(pose):
            return None, f"the {what}'s mount is not a rigid transform (mirrored, scaled or NaN): correct its TF"
    assert rig.body_from_camera is not None and rig.body_from_lidar is not None
    return invert_pose(rig.body_from_camera) @ rig.body_from_lidar, ""


def nearest_scan(scans: ScanBuffer, stamp_ns: int, max_gap_ns: int) -> LidarScan | None:
    """The scan whose sweep is centred closest to a stamp; None when none is within the gap."""
    reach = max_gap_ns + round(LONGEST_SWEEP_S * 1e9)
    around = scans.between(stamp_ns - reach, stamp_ns + reach)
    gaps = [abs(sweep_centre_ns(scan) - stamp_ns) for scan in around]
    if not gaps or min(gaps) > max_gap_ns:
        return None
    return around[int(np.argmin(gaps))]


def sweep_centre_ns(scan: LidarScan) -> int:
    """The middle of a sweep's time; its stamp where points have no times."""
    times = scan.point_times_ns
    if times is None or not len(times):
        return scan.stamp_ns
    return scan.stamp_ns + (int(times.min()) + int(times.max())) // 2


def possible_hits(scan: LidarScan, camera_from_lidar: Array, camera: Camera) -> LidarScan:
    """The scan's real returns that may fall into the camera's image, about `MOST_POINTS` at most.

    Intensity and rings are left behind.
    """
    points = np.asarray(scan.points, dtype=np.float32).reshape(-1, 3)
    rotation, shift = camera_from_lidar[:3, :3].astype(np.float32), camera_from_lidar[:3, 3].astype(np.float32)
    # Row by row, for products of long arrays with 3x3 matrices and reductions over threes are many times slower.
    kept = np.flatnonzero(points @ rotation[2] + shift[2] > 0)  # leaves most of a spinning LiDAR's points out
    ahead = np.take(points, kept, axis=0)
    x, y, z = (ahead @ rotation[i] + shift[i] for i in range(3))
    squared = np.einsum("ij,ij->i", ahead, ahead)
    seen = in_view(camera, x, y, z, VIEW_MARGIN) & np.isfinite(squared) & (squared > NO_RETURN_M**2)
    kept = kept[seen]
    if len(kept) > MOST_POINTS:  # at random: every n-th would keep some rings and lose others
        kept = kept[np.random.default_rng(0).random(len(kept)) < MOST_POINTS / len(kept)]
    times = scan.point_times_ns
    if times is not None:
        times = np.asarray(times).reshape(-1)
        times = times[kept] if len(times) == len(points) else None
    return LidarScan(scan.stamp_ns, points[kept], point_times_ns=times, frame_id=scan.frame_id)


class ScanPlacer:
    """Moves scans by the sensors' poses where they reach, else by the window's own cameras."""

    def __init__(self, sensors: Sensors, keyframes: Sequence[PosedKeyframe], camera_from_lidar: Array) -> None:
        self._sensors = sensors
        self._camera_from_lidar = camera_from_lidar
        ordered = sorted(keyframes, key=lambda keyframe: keyframe.stamp_ns)
        self._stamps = np.array([keyframe.stamp_ns for keyframe in ordered])
        self._poses = [keyframe.world_from_camera for keyframe in ordered]

    def by_poses(self, scan: LidarScan, at_ns: int) -> Array | None:
        """Points float64 [N, 3], metres, in the camera frame at a stamp; None where poses do not reach."""
        body_from_lidar = self._sensors.rig.body_from_lidar
        if body_from_lidar is None:
            return None
        moved = deskewed(scan, self._sensors.poses.at, body_from_lidar, at_ns)
        return None if moved is None else self._in_camera(moved)

    def by_window(self, scan: LidarScan, at_ns: int, scale: float) -> Array:
        """The same by the window's cameras with `scale` metres per world unit (0: their turning alone).

        Where not even those reach, the scan is taken as it is.
        """
        moved = deskewed(scan, lambda stamp: self._camera_at(stamp, scale), self._camera_from_lidar, at_ns)
        return self._in_camera(scan.points if moved is None else moved)

    def _in_camera(self, points: NDArray[np.float32]) -> Array:
        return move_points(self._camera_from_lidar, points.astype(np.float64))

    def _camera_at(self, stamp_ns: int, scale: float) -> Array | None:
        """world_from_camera in metres between two keyframes; None outside of the window."""
        i = int(np.searchsorted(self._stamps, stamp_ns))
        if i == len(self._stamps) or (i == 0 and self._stamps[0] != stamp_ns):
            return None
        if self._stamps[i] == stamp_ns:
            pose = self._poses[i].copy()
        else:
            before, after = self._stamps[i - 1], self._stamps[i]
            pose = interpolate_pose(self._poses[i - 1], self._poses[i], float((stamp_ns - before) / (after - before)))
        pose[:3, 3] *= scale
        return pose
