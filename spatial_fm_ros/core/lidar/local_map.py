"""The LiDAR's surroundings over some seconds: compensated scans in the odometry frame, as one thinned cloud."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.lidar.deskew import deskewed
from spatial_fm_ros.core.types import Array, LidarScan

#: More scans, or more points of one, make a map slower and hardly better.
MOST_SCANS = 8
MOST_POINTS = 8_000


class LocalMap:
    """Scans placed by the sensors' poses, kept from one window to the next. Bounded; one thread at a time."""

    def __init__(self, sensors: Sensors) -> None:
        self._sensors = sensors
        self._placed: dict[int, NDArray[np.float32]] = {}  # scan stamp -> points in the odometry frame
        self._mount: Array | None = None

    def reset(self) -> None:
        """Forget all placed scans."""
        self._placed.clear()

    def around(self, first_ns: int, last_ns: int, range_m: tuple[float, float]) -> list[NDArray[np.float32]]:
        """Clouds float32 [N, 3], metres in the odometry frame, of scans evenly over a time.

        Those are left out whose poses are unknown or of another odometry frame than the one at `last_ns`,
        and returns nearer or farther than `range_m`.
        """
        mount = self._sensors.rig.body_from_lidar
        if mount is None:
            return []
        if mount is not self._mount:
            self._placed.clear()
            self._mount = mount
        scans = self._sensors.scans.between(first_ns, last_ns)
        chosen = np.unique(np.linspace(0, len(scans) - 1, min(MOST_SCANS, len(scans))).round().astype(int))
        clouds = {}
        for scan in (scans[i] for i in chosen):
            if self._sensors.poses.jumped_between(scan.stamp_ns, last_ns):
                continue
            points = self._placed.get(scan.stamp_ns)
            if points is None:
                points = self._in_odometry(scan, mount, range_m)
            if points is not None:
                clouds[scan.stamp_ns] = points
        self._placed = clouds
        return [cloud for cloud in clouds.values() if len(cloud)]

    def _in_odometry(self, scan: LidarScan, mount: Array, range_m: tuple[float, float]) -> NDArray[np.float32] | None:
        pose = self._sensors.poses.at(scan.stamp_ns)
        if pose is None:
            return None
        points = deskewed(thinned(scan, range_m), self._sensors.poses.at, mount, scan.stamp_ns)
        if points is None:
            return None
        odom_from_lidar = (pose @ mount).astype(np.float32)
        placed: NDArray[np.float32] = points @ odom_from_lidar[:3, :3].T + odom_from_lidar[:3, 3]
        return placed


def thinned(scan: LidarScan, range_m: tuple[float, float]) -> LidarScan:
    """The scan's returns within a range, `MOST_POINTS` of them at most, evenly at random (the same each time)."""
    rng = np.random.default_rng(0)
    rows: NDArray[np.int64] = np.arange(len(scan.points))
    if len(rows) > 4 * MOST_POINTS:  # few of a real sweep's points are none, so that most can be left out unseen
        rows = rows[rng.random(len(rows)) < 4 * MOST_POINTS / len(rows)]
    ranges = np.linalg.norm(scan.points[rows], axis=1)
    rows = rows[(ranges >= range_m[0]) & (ranges <= range_m[1])]
    if len(rows) > MOST_POINTS:
        rows = rows[rng.random(len(rows)) < MOST_POINTS / len(rows)]
    times = scan.point_times_ns
    return LidarScan(scan.stamp_ns, scan.points[rows], point_times_ns=None if times is None else times[rows])


def one_per_cell(points: Array, size: float) -> Array:
    """The first point [M, 3] of every cubic cell of edge `size` that has one."""
    cells = np.floor((points - points.min(axis=0)) / size).astype(np.int64)
    span = cells.max(axis=0) + 1
    key = (cells[:, 0] * span[1] + cells[:, 1]) * span[2] + cells[:, 2]
    _, first = np.unique(key, return_index=True)
    kept: Array = points[np.sort(first)]
    return kept
