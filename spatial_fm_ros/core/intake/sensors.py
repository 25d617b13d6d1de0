"""What the robot's sensors beside the camera said, by time, with where they are mounted."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TypeVar

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import IntakeConfig
from spatial_fm_ros.core.geometry.rotations import invert_pose, pose_from
from spatial_fm_ros.core.intake.clocks import SensorClocks, heard_apart, none_near
from spatial_fm_ros.core.intake.companions import CompanionBuffer
from spatial_fm_ros.core.intake.poses import PoseBuffer
from spatial_fm_ros.core.intake.scans import ImuBuffer, ScanBuffer, TimeBuffer
from spatial_fm_ros.core.types import Array, ImuSample, LidarScan, PoseSample, Rig

#: Images that sensors are looked for at: one in this time, so many of them.
IMAGE_EVERY_NS, IMAGES = 100_000_000, 60
#: Before so much of them was seen, what is late is no fault.
SEEN_NS = 2_000_000_000
#: A sample is near an image within this; poses are by `intake.pose_max_gap_s`.
NEAR_S = 0.5


@dataclass(frozen=True, eq=False)
class Correction:
    """What is wrong with the calibration as told, by sensor ('odometry', 'lidar', 'imu'; TF's poses are odometry).

    clocks_ns: its stamps are so much later than the camera's. turns: by that sensor, the true camera is the told one
    turned by this rotation vector [3], rad, in the camera's axes. LiDAR odometry's poses are the LiDAR's.
    """

    clocks_ns: Mapping[str, int] = field(default_factory=dict)
    turns: Mapping[str, Array] = field(default_factory=dict)

    def clock_ns(self, sensor: str) -> int:
        return self.clocks_ns.get(sensor, 0)


class Sensors:
    """Poses, scans and inertial samples on the camera's clock, and the rig. Thread-safe.

    Scale observers read it; the pipeline's `add_*` fill it. `rig` is the one in use: as told, turned by the correction.
    """

    def __init__(self, config: IntakeConfig) -> None:
        self.config = config
        self.told_rig = self._rig = Rig()
        self.correction = Correction()
        self.poses_of_lidar = False  # poses are LiDAR odometry's
        self._lock = Lock()  # a sample's stamp and its buffer's clock belong together
        self.poses = PoseBuffer(config.pose_max_gap_s, config.buffer_s)
        self.scans = ScanBuffer(config.buffer_s)
        self.imu = ImuBuffer(config.buffer_s)
        self.companions = CompanionBuffer(config)
        self.clocks = SensorClocks()
        self._images: deque[int] = deque(maxlen=IMAGES)  # stamps of recent images

    @property
    def rig(self) -> Rig:
        """Extrinsics in use. Setting it tells new ones; the correction is applied to them."""
        return self._rig

    @rig.setter
    def rig(self, told: Rig) -> None:
        with self._lock:
            self.told_rig = told
            self._rig = corrected_rig(told, self.correction, self.poses_of_lidar)

    def correct(self, correction: Correction) -> None:
        """Use this correction from now on, for what is in the buffers as well."""
        with self._lock:
            before, self.correction = self.correction, correction
            later = {name: before.clock_ns(name) - correction.clock_ns(name) for name in ("odometry", "lidar", "imu")}
            self.poses.shift(later["lidar" if self.poses_of_lidar else "odometry"])
            self.scans.shift(later["lidar"], _moved)
            self.imu.shift(later["imu"], _moved)
            self._rig = corrected_rig(self.told_rig, correction, self.poses_of_lidar)

    def add_image(self, stamp_ns: int, arrived_ns: int | None, moved: bool = False) -> None:
        """An image of the camera came: what the others say is compared with its time. moved: that went elsewhere."""
        with self._lock:
            if moved:
                self.clocks = SensorClocks()
                self._images.clear()
            self.clocks.image(stamp_ns, arrived_ns)
            if not self._images or abs(stamp_ns - self._images[-1]) >= IMAGE_EVERY_NS:
                self._images.append(stamp_ns)

    def add_pose(self, sample: PoseSample) -> None:
        """Raises InputError for a pose that is none, and for one whose stamp is not of this time."""
        with self._lock:
            offset_ns = _ns(self.config.pose_time_offset_s) - self.correction.clock_ns("odometry")
            sample = _moved(sample, offset_ns)
            self.poses.add(sample).or_raise()
            self.clocks.sample("odometry", sample.stamp_ns, sample.arrived_ns)
            self.poses.other_clock = self.clocks.is_other("odometry")

    def add_lidar_pose(self, sample: PoseSample) -> None:
        """A pose of LiDAR odometry: it is on the LiDAR's clock. Raises InputError as `add_pose`."""
        with self._lock:
            self.poses_of_lidar = True
            self.poses.add(_moved(sample, self._lidar_offset_ns())).or_raise()
            self.poses.other_clock = self.clocks.is_other("lidar")

    def add_scan(self, scan: LidarScan) -> bool:
        """True when time went back: this scan is older than those before, and belongs to another time.

        Raises InputError for one whose stamp is not of this time.
        """
        with self._lock:
            scan = _moved(scan, self._lidar_offset_ns())
            before = self.scans.latest_ns
            moved = self.scans.add(scan).or_raise().moved
            self.clocks.sample("lidar", scan.stamp_ns, scan.arrived_ns)
            self.scans.other_clock = self.clocks.is_other("lidar")
            return moved and before is not None and scan.stamp_ns <= before

    def add_imu(self, sample: ImuSample) -> None:
        """Raises InputError for a sample whose stamp is not of this time."""
        with self._lock:
            offset_ns = _ns(self.config.imu_time_offset_s) - self.correction.clock_ns("imu")
            sample = _moved(sample, offset_ns)
            self.imu.add(sample).or_raise()
            self.clocks.sample("imu", sample.stamp_ns, sample.arrived_ns)
            self.imu.other_clock = self.clocks.is_other("imu")

    def clock_problem(self, sensor: str, within_s: float | None = None) -> str:
        """Why what a sensor ('odometry', 'lidar', 'imu') says is not of the time of any recent image, with the offset
        that would mend it; empty where it is, and where one of both was not heard. within_s: as it is said."""
        with self._lock:
            if not self.clocks.compares(sensor):
                return ""
            configured = {
                "odometry": self.config.pose_time_offset_s,
                "lidar": self.config.lidar_time_offset_s,
                "imu": self.config.imu_time_offset_s,
            }[sensor]
            if within_s is None:
                within_s = self.config.pose_max_gap_s if sensor == "odometry" else NEAR_S
            later = self.clocks.later_s(sensor)
            if self.clocks.is_other(sensor):
                return none_near(sensor, within_s, later, configured)
            if self._images[-1] - self._images[0] >= SEEN_NS and not self._is_near(sensor):
                return none_near(sensor, within_s, later, configured)
            if later is not None and abs(later) >= self.clocks.told_s:
                return heard_apart(sensor, later, configured)
            return ""

    @property
    def poses_reach_images(self) -> bool:
        """There is a pose at the time of some recent image."""
        with self._lock:
            return any(self.poses.at(stamp) is not None for stamp in self._images)

    def _is_near(self, sensor: str) -> bool:
        """Some recent image has a sample of the sensor near it."""
        if sensor == "odometry":
            return self.poses.withheld or any(self.poses.at(stamp) is not None for stamp in self._images)
        buffer: TimeBuffer[LidarScan] | TimeBuffer[ImuSample] = self.scans if sensor == "lidar" else self.imu
        return any(buffer.nearest(stamp, _ns(NEAR_S)) is not None for stamp in self._images)

    def odom_from_camera(self, stamp_ns: int) -> Array | None:
        """[4, 4] at a stamp, None where poses do not reach; without an extrinsic, poses are the camera's own."""
        odom_from_body = self.poses.at(stamp_ns)
        if odom_from_body is None or self.rig.body_from_camera is None:
            return odom_from_body
        pose: Array = odom_from_body @ self.rig.body_from_camera
        return pose

    def clear(self) -> None:
        """Forget all samples, and what they said of clocks; the rig and its correction stay."""
        self.poses.clear()
        self.scans.clear()
        self.imu.clear()
        self.companions.clear()
        with self._lock:
            self.clocks = SensorClocks()
            self._images.clear()

    def _lidar_offset_ns(self) -> int:
        return _ns(self.config.lidar_time_offset_s) - self.correction.clock_ns("lidar")


def corrected_rig(told: Rig, correction: Correction, poses_of_lidar: bool) -> Rig:
    """The rig with turned mountings. Odometry turns the camera on the body, about its own place, and LiDAR and IMU
    with it, so that between them nothing changes but by their own turns. To the poses of LiDAR odometry the LiDAR is
    part of the body: there the camera alone is turned."""
    turns = {name: turn for name, turn in correction.turns.items() if turn.any()}
    if told.body_from_camera is None or not turns:
        return told
    body_from_camera = told.body_from_camera @ _turn(turns.get("lidar" if poses_of_lidar else "odometry"))

    def carried(name: str, body_from_sensor: Array | None) -> Array | None:
        if body_from_sensor is None or told.body_from_camera is None:
            return body_from_sensor
        camera_from_sensor = invert_pose(told.body_from_camera) @ body_from_sensor
        back = invert_pose(_turn(turns.get(name)))[:3, :3]
        turned = pose_from(back @ camera_from_sensor[:3, :3], camera_from_sensor[:3, 3])
        return np.asarray(body_from_camera @ turned)

    body_from_lidar = told.body_from_lidar if poses_of_lidar else carried("lidar", told.body_from_lidar)
    return replace(
        told,
        body_from_camera=body_from_camera,
        body_from_lidar=body_from_lidar,
        body_from_imu=carried("imu", told.body_from_imu),
    )


def _turn(vector: Array | None) -> Array:
    """A pose [4, 4] that turns by a rotation vector."""
    rotation = np.eye(3) if vector is None else Rotation.from_rotvec(vector).as_matrix()
    return pose_from(rotation, np.zeros(3))


Sample = TypeVar("Sample", PoseSample, LidarScan, ImuSample)


def _moved(sample: Sample, offset_ns: int) -> Sample:
    return replace(sample, stamp_ns=sample.stamp_ns + offset_ns)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
