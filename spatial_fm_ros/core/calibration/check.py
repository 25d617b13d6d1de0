"""Compares how the camera turned with how IMU, odometry and LiDAR turned, from one stretch of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.calibration.hand_eye import MIN_TURNED_RAD, MIN_TURNS, HandEye, calibrate
from spatial_fm_ros.core.calibration.orientations import Orientations, from_gyro, from_poses
from spatial_fm_ros.core.calibration.visual_turns import Turns, VisualTurns
from spatial_fm_ros.core.config import LidarConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.optical import BODY_FROM_OPTICAL
from spatial_fm_ros.core.geometry.rotations import is_pose
from spatial_fm_ros.core.intake.clocks import TOLD_S, SensorClocks
from spatial_fm_ros.core.intake.stamps import TimeLine
from spatial_fm_ros.core.lidar.odometry import LidarOdometry
from spatial_fm_ros.core.types import Array, Frame, ImuSample, LidarScan, PoseSample, Rig

Sample = Frame | ImuSample | PoseSample | LidarScan
#: Small samples of a new time that wait for it to last.
WAITING = 1000
#: Sensors that are compared with the camera.
SENSORS = ("imu", "odometry", "lidar")
#: LiDAR odometry takes a sweep for a moment, so that fast sways come out askew: turns over this many seconds are
#: compared, and offset (s) and angles (rad) are not better known than this.
LIDAR_SPAN_S, LIDAR_LEAST = 1.0, (0.005, np.radians(0.5))
#: A rotation between camera and sensor beyond the first is tried with an optical frame in place of the camera's; one
#: below the second is right, rad.
FAR_OFF, LIKE_THAT = np.radians(40.0), np.radians(15.0)
#: LiDAR odometry for its orientations alone: of the LiDAR itself, in whatever frame.
NO_MOUNTING = Rig(body_from_camera=np.eye(4), body_from_lidar=np.eye(4))


@dataclass(frozen=True, eq=False)
class Comparison:
    """One sensor against the camera: what was found, or the reason why nothing was. `mounted`: TF knew how the sensor
    is mounted, and the rotation found is what is wrong there; else it is the whole mounting. `later_s`: by when samples
    came, its stamps are so much later than the camera's, where that is too much for any delay. not_optical: the
    camera's frame in TF turns as a body-like one does (x forward); `found` is then of the optical frame in its place.
    """

    sensor: str
    found: HandEye | None
    reason: str
    mounted: bool
    later_s: float | None = None
    not_optical: bool = False


class CalibrationCheck:
    """Takes samples in order of time, at once; images cost about 15 ms, scans about 40 ms each."""

    def __init__(self, lidar: LidarConfig, visual: VisualTurns | None = None) -> None:
        """`visual`: turns of images that were tracked already."""
        self._visual = visual or VisualTurns()
        self._imu: list[ImuSample] = []
        self._poses: list[PoseSample] = []
        self._scans: list[PoseSample] = []
        self._lidar_config = lidar
        self._lidar: LidarOdometry | None = None
        self._heard: dict[str, str] = {}  # sensor -> what is wrong with its last bad sample
        self._clocks = SensorClocks()
        self._lines: dict[type, TimeLine[Sample]] = {}

    def add(self, sample: Sample) -> None:
        """A sample that cannot be used is remembered as a reason, and left out; so is one whose stamp is not of its
        sensor's time (TimeLine)."""
        kind = type(sample)
        hold = WAITING if kind in (ImuSample, PoseSample) else 0
        line = self._lines.setdefault(kind, TimeLine(f"A {kind.__name__}", hold))
        admitted = line.admit(sample.stamp_ns, sample.arrived_ns, sample)
        if admitted.moved and kind is Frame:
            self._clocks = SensorClocks()
        for each in admitted.items:
            self._add(each)

    def _add(self, sample: Sample) -> None:
        if isinstance(sample, ImuSample):
            self._heard.setdefault("imu", "")
            self._clocks.sample("imu", sample.stamp_ns, sample.arrived_ns)
            self._imu.append(sample)
        elif isinstance(sample, PoseSample):
            self._heard.setdefault("odometry", "")
            self._clocks.sample("odometry", sample.stamp_ns, sample.arrived_ns)
            if is_pose(sample.odom_from_body, tolerance=1e-2):
                self._poses.append(sample)
        elif isinstance(sample, LidarScan):
            self._heard.setdefault("lidar", "")
            self._clocks.sample("lidar", sample.stamp_ns, sample.arrived_ns)
            self._add_scan(sample)
        else:
            self._clocks.image(sample.stamp_ns, sample.arrived_ns)
            try:
                self._visual.add(sample)
            except InputError as error:
                self._heard["camera"] = str(error)

    @property
    def turned_enough(self) -> bool:
        """The images show enough turning for a comparison."""
        turns = self._visual.turns()
        return len(turns) >= MIN_TURNS and turns.total_rad >= MIN_TURNED_RAD

    def compare(self, sensor_from_camera: Mapping[str, Array | None]) -> list[Comparison]:
        """One comparison for each sensor heard; rotations [3, 3] by sensor, None or missing where unknown."""
        done = []
        for sensor in SENSORS:
            if sensor not in self._heard:
                continue
            mounting = sensor_from_camera.get(sensor)
            later = self._clocks.later_s(sensor)
            if later is not None and abs(later) >= TOLD_S:
                done.append(Comparison(sensor, None, "its clock is another one", mounting is not None, later))
                continue
            try:
                turns = self._visual.turns()
                if not len(turns) and "camera" in self._heard:
                    raise InputError(self._heard["camera"])
                orientations = self._orientations(sensor)
                found = _calibrated(sensor, turns, orientations, mounting)
                instead = None
                if mounting is not None and float(np.linalg.norm(found.rotation)) > FAR_OFF:
                    instead = _as_optical(sensor, turns, orientations, mounting)
                shown = instead is not None
                done.append(Comparison(sensor, instead or found, "", mounting is not None, not_optical=shown))
            except InputError as error:
                done.append(Comparison(sensor, None, str(error), mounting is not None))
        return done

    def _add_scan(self, scan: LidarScan) -> None:
        if self._lidar is None:
            self._lidar = LidarOdometry(self._lidar_config)
        try:
            pose = self._lidar.add(scan, NO_MOUNTING)
        except InputError as error:
            self._heard["lidar"] = str(error)
            return
        if pose is not None:
            self._scans.append(pose)

    def _orientations(self, sensor: str) -> Orientations:
        if sensor == "imu":
            return from_gyro(self._imu)
        samples = self._poses if sensor == "odometry" else self._scans
        if len(samples) < 2 and self._heard[sensor]:
            raise InputError(self._heard[sensor])
        return from_poses(samples)


def _calibrated(sensor: str, turns: Turns, orientations: Orientations, mounting: Array | None) -> HandEye:
    if sensor == "lidar":
        return calibrate(turns.joined(LIDAR_SPAN_S), orientations, mounting, False, LIDAR_LEAST)
    return calibrate(turns, orientations, mounting, has_bias=sensor == "imu")


def _as_optical(sensor: str, turns: Turns, orientations: Orientations, mounting: Array) -> HandEye | None:
    """The comparison with the optical frame in place of a body-like one, None where that fits no better. On a drive
    on level ground only some axes are seen, and what was found about them alone looks like nothing in particular."""
    try:
        found = _calibrated(sensor, turns, orientations, mounting @ BODY_FROM_OPTICAL[:3, :3])
    except InputError:
        return None
    return found if found.seen.any() and float(np.linalg.norm(found.rotation)) < LIKE_THAT else None
