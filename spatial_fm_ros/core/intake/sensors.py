"""What the robot's sensors beside the camera said, by time, with where they are mounted."""

from __future__ import annotations

from dataclasses import replace

from spatial_fm_ros.core.config import IntakeConfig
from spatial_fm_ros.core.intake.poses import PoseBuffer
from spatial_fm_ros.core.intake.scans import ImuBuffer, ScanBuffer
from spatial_fm_ros.core.types import Array, ImuSample, LidarScan, PoseSample, Rig


class Sensors:
    """Poses, scans and inertial samples on the camera's clock, and the rig. Thread-safe.

    Scale observers read it; the pipeline's `add_*` fill it.
    """

    def __init__(self, config: IntakeConfig) -> None:
        self.config = config
        self.rig = Rig()
        self.poses = PoseBuffer(config.pose_max_gap_s, config.buffer_s)
        self.scans = ScanBuffer(config.buffer_s)
        self.imu = ImuBuffer(config.buffer_s)

    def add_pose(self, sample: PoseSample) -> None:
        """Raises InputError for a pose that is none."""
        self.poses.add(replace(sample, stamp_ns=sample.stamp_ns + _ns(self.config.pose_time_offset_s)))

    def add_lidar_pose(self, sample: PoseSample) -> None:
        """A pose of LiDAR odometry: it is on the LiDAR's clock. Raises InputError for a pose that is none."""
        self.poses.add(replace(sample, stamp_ns=sample.stamp_ns + _ns(self.config.lidar_time_offset_s)))

    def add_scan(self, scan: LidarScan) -> None:
        self.scans.add(replace(scan, stamp_ns=scan.stamp_ns + _ns(self.config.lidar_time_offset_s)))

    def add_imu(self, sample: ImuSample) -> None:
        self.imu.add(replace(sample, stamp_ns=sample.stamp_ns + _ns(self.config.imu_time_offset_s)))

    def odom_from_camera(self, stamp_ns: int) -> Array | None:
        """[4, 4] at a stamp, None where poses do not reach; without an extrinsic, poses are the camera's own."""
        odom_from_body = self.poses.at(stamp_ns)
        if odom_from_body is None or self.rig.body_from_camera is None:
            return odom_from_body
        pose: Array = odom_from_body @ self.rig.body_from_camera
        return pose

    def clear(self) -> None:
        """Forget all samples; the rig stays."""
        self.poses.clear()
        self.scans.clear()
        self.imu.clear()


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
