"""What a short listening heard of the robot's motion, kept small, to compare clocks and mountings afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np

from spatial_fm_ros.core.calibration.check import CalibrationCheck
from spatial_fm_ros.core.calibration.report import Finding, findings, of_image_frame
from spatial_fm_ros.core.calibration.visual_turns import MIN_STEP_S, TRACK_SIDE
from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.types import Array, Camera, Frame, Image, ImuSample, LidarScan, PoseSample

#: At most so many images (150 MB), scans and points of a scan are kept; LiDAR odometry takes 40 ms a scan.
MAX_IMAGES, MAX_SCANS, MAX_POINTS = 400, 150, 20_000
MAX_SMALL = 100_000  # IMU samples, and poses


class MotionRecord:
    """Samples as they come, moved by the configured time offsets; `compare` when the listening is over."""

    def __init__(self, config: Config) -> None:
        self._config = config
        intake = config.intake
        self._offsets_s = {
            "imu": intake.imu_time_offset_s,
            "odometry": intake.pose_time_offset_s,
            "lidar": intake.lidar_time_offset_s,
        }
        self._images: list[tuple[int, Image]] = []
        self._size = (0, 0)
        self._imu: list[ImuSample] = []
        self._poses: list[PoseSample] = []
        self._scans: list[LidarScan] = []

    def add_image(self, stamp_ns: int, image: Image) -> None:
        """An RGB image; only a small copy is kept."""
        height, width = image.shape[:2]
        if (width, height) != self._size:
            self._images.clear()
        if len(self._images) >= MAX_IMAGES:
            return
        if self._images and 0 <= stamp_ns - self._images[-1][0] < MIN_STEP_S * 1e9:  # one stamp ahead ends nothing
            return
        self._size = (width, height)
        scale = min(1.0, TRACK_SIDE / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = image if scale == 1.0 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self._images.append((stamp_ns, np.array(small, dtype=np.uint8)))

    def add_imu(self, sample: ImuSample) -> None:
        if len(self._imu) < MAX_SMALL:
            self._imu.append(replace(sample, stamp_ns=sample.stamp_ns + self._shift("imu")))

    def add_pose(self, sample: PoseSample) -> None:
        if len(self._poses) < MAX_SMALL:
            self._poses.append(replace(sample, stamp_ns=sample.stamp_ns + self._shift("odometry")))

    def add_scan(self, scan: LidarScan) -> None:
        """Every n-th point of a scan is kept."""
        if len(self._scans) >= MAX_SCANS:
            return
        step = max(1, len(scan.points) // MAX_POINTS)
        times = scan.point_times_ns
        self._scans.append(
            LidarScan(
                stamp_ns=scan.stamp_ns + self._shift("lidar"),
                points=scan.points[::step].copy(),
                point_times_ns=None if times is None else times[::step].copy(),
                frame_id=scan.frame_id,
            )
        )

    def compare(
        self, camera: Camera | None, sensor_from_camera: Mapping[str, Array | None], doubt: str = ""
    ) -> list[Finding]:
        """What the motion says of each sensor's clock and mounting; `camera` is that of the images as they came,
        mountings are rotations [3, 3] by sensor ("imu", "odometry", "lidar"). doubt: what TF lets suspect of the frame
        of the images; told unless the motion decides."""
        if not self._images or camera is None or (camera.width, camera.height) != self._size:
            return of_image_frame(doubt, [])
        check = CalibrationCheck(self._config.lidar)
        for stamp, image in self._images:
            check.add(Frame(stamp, image, camera.resized(image.shape[1], image.shape[0])))
        for small in (*self._imu, *self._poses):
            check.add(small)
        # Without turning there is nothing to compare, and a scan costs much.
        for scan in self._scans if check.turned_enough else self._scans[:1]:
            check.add(scan)
        compared = check.compare(sensor_from_camera)
        said = [finding for comparison in compared for finding in findings(comparison, self._offsets_s)]
        return [*said, *of_image_frame(doubt, compared)]

    def _shift(self, sensor: str) -> int:
        return round(self._offsets_s[sensor] * 1e9)
