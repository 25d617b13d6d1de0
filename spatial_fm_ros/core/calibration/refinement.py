"""Clocks and mountings corrected while mapping: each window's cameras against how the other sensors turned.

Off by default. What is corrected is told with its deviation and what to mend, so that the robot's description can be
put right; it is forgotten with the map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.calibration.depth_fit import DepthFit
from spatial_fm_ros.core.calibration.estimate import Estimate, SensorCorrection
from spatial_fm_ros.core.calibration.hand_eye import ROTATION_PRIOR
from spatial_fm_ros.core.calibration.matched_turns import (
    MatchedTurns,
    TurnsBetween,
    WindowTurns,
    offset_nodes,
    turns_of_imu,
    turns_of_poses,
)
from spatial_fm_ros.core.calibration.turn_fit import fit_turns
from spatial_fm_ros.core.calibration.verdict import (
    LARGEST_ANGLE_SIGMA,
    LARGEST_BY_DEPTH,
    STEP_RAD,
    STEP_S,
    Applied,
    wanted_offset,
    wanted_turn,
)
from spatial_fm_ros.core.config import CalibrationConfig
from spatial_fm_ros.core.geometry.rotations import is_pose, rotation_angle
from spatial_fm_ros.core.intake.sensors import Correction, Sensors
from spatial_fm_ros.core.metric.extrinsic_slack import ExtrinsicEvidence
from spatial_fm_ros.core.types import Array, Prediction, Window

#: A mounting that TF tells anew is another one when it differs by more than this, rad.
ANOTHER_MOUNTING = np.radians(0.01)
#: Before anything was compared.
UNKNOWN = Estimate(0.0, float("inf"), np.zeros(3), ROTATION_PRIOR**2 * np.eye(3))


class _Refined:
    """One sensor's correction. `mounting` [3, 3]: sensor_from_camera as told, of the body for poses."""

    def __init__(self, sensor: str, config: CalibrationConfig, mounting: Array) -> None:
        self.sensor = sensor
        self.config = config
        self.mounting = mounting
        self.turns = MatchedTurns(offset_nodes(config.max_time_offset_s))
        self.depth = DepthFit()
        self.estimate: Estimate | None = None
        self.offset = Applied(1, STEP_S)
        self.rotation = Applied(3, STEP_RAD)

    def by_turns(self, seen: WindowTurns, turns_between: TurnsBetween, latest_ns: int) -> None:
        """A window's turns against the sensor's. LiDAR odometry takes a sweep for a moment, which twists fast turns
        into each other: it tells the clock, and not the mounting."""
        self.turns.expect(seen)
        if not self.turns.match(turns_between, latest_ns, self.applied_offset_ns * 1e-9):
            return
        found = fit_turns(self.turns.all(), self.turns.nodes_s, self.mounting, has_bias=self.sensor == "imu")
        if found is None:
            return
        self.offset.follow(wanted_offset(found, self.config))
        if self.sensor == "lidar":
            known = self.estimate or UNKNOWN
            found = replace(found, rotation=known.rotation, covariance=known.covariance)
        else:
            self.rotation.follow(wanted_turn(found, self.config, LARGEST_ANGLE_SIGMA))
        self.estimate = found

    def by_depth(self, evidence: ExtrinsicEvidence) -> None:
        """A window's depth against that of the LiDAR."""
        self.depth.add(evidence, self.rotation.value)
        found = self.depth.estimate()
        if found is None:
            return
        self.rotation.follow(wanted_turn(found, self.config, LARGEST_BY_DEPTH))
        known = self.estimate or UNKNOWN
        self.estimate = replace(found, offset_s=known.offset_s, offset_sigma_s=known.offset_sigma_s)

    @property
    def applied_offset_ns(self) -> int:
        return round(float(self.offset.value[0]) * 1e9)

    def state(self) -> SensorCorrection:
        return SensorCorrection(
            self.sensor,
            max(self.turns.windows, self.depth.windows),
            self.estimate,
            self.applied_offset_ns * 1e-9,
            self.rotation.value.copy(),
            self.offset.beyond,
            self.rotation.beyond,
        )


class Refinement:
    """Looks at every window after it was mapped and corrects `sensors` for the next. `reset` forgets all of it.

    Odometry and TF are compared by the turns of their poses, the IMU by its gyro. A LiDAR's mounting is told by its
    depth, its clock by the turns of LiDAR odometry where that gives the poses; nothing else tells it.
    """

    def __init__(
        self, config: CalibrationConfig, sensors: Sensors, extrinsic: Callable[[], ExtrinsicEvidence | None]
    ) -> None:
        """`extrinsic`: what LiDAR depth said in the newest window."""
        self._config = config
        self._sensors = sensors
        self._extrinsic = extrinsic
        self.reset()

    def reset(self) -> None:
        """Back to the calibration as told."""
        self._refined: dict[str, _Refined] = {}
        self._newest_ns: int | None = None
        self._sensors.correct(Correction())

    def observe(self, window: Window, prediction: Prediction) -> None:
        """Learn from a window and move the corrections on."""
        seen = self._turns(window, prediction)
        sensors = self._sensors
        poses = "lidar" if sensors.poses_of_lidar else "odometry"
        for name, between, latest in (
            (poses, turns_of_poses(sensors), sensors.poses.latest_ns),
            ("imu", turns_of_imu(sensors), sensors.imu.latest_ns),
        ):
            if latest is not None and (sensor := self._sensor(name)) is not None:
                sensor.by_turns(seen, between, latest)
        evidence = self._extrinsic()
        if evidence is not None and (lidar := self._sensor("lidar")) is not None:
            lidar.by_depth(evidence)
        correction = Correction(
            {name: each.applied_offset_ns for name, each in self._refined.items()},
            {name: each.rotation.value for name, each in self._refined.items()},
        )
        if not _same(correction, sensors.correction):
            sensors.correct(correction)

    def states(self) -> tuple[SensorCorrection, ...]:
        """One for each sensor that is compared with the camera."""
        return tuple(each.state() for each in list(self._refined.values()))

    def _sensor(self, name: str) -> _Refined | None:
        """What is known of it; anew where TF tells another mounting, None where TF tells none."""
        mounting = _mounting(name, self._sensors)
        if mounting is None:
            return None
        known = self._refined.get(name)
        if known is None or rotation_angle(known.mounting.T @ mounting) > ANOTHER_MOUNTING:
            known = self._refined[name] = _Refined(name, self._config, mounting)
        return known

    def _turns(self, window: Window, prediction: Prediction) -> WindowTurns:
        """Turns between neighbouring keyframes that no window before has shown."""
        posed = np.flatnonzero(prediction.posed)
        stamps = np.array([window.keyframes[i].stamp_ns for i in posed], dtype=np.int64)
        pairs = np.stack([stamps[:-1], stamps[1:]], axis=1)
        rotations = prediction.world_from_camera[posed, :3, :3]
        fresh = pairs[:, 1] > (self._newest_ns if self._newest_ns is not None else -1)
        fresh &= pairs[:, 1] > pairs[:, 0]
        steps = (np.swapaxes(rotations[:-1], 1, 2) @ rotations[1:])[fresh]
        if len(stamps):
            self._newest_ns = max(int(stamps.max()), self._newest_ns or 0)
        vectors = Rotation.from_matrix(steps).as_rotvec() if len(steps) else np.zeros((0, 3))
        return WindowTurns(pairs[fresh], vectors)


def _mounting(sensor: str, sensors: Sensors) -> Array | None:
    """Rotation sensor_from_camera [3, 3] as told, of the body where poses stand for the sensor; None where unknown."""
    rig = sensors.told_rig
    other: Array | None = np.eye(4)
    if sensor == "imu":
        other = rig.body_from_imu
    elif sensor == "lidar" and not sensors.poses_of_lidar:
        other = rig.body_from_lidar
    camera = rig.body_from_camera
    if camera is None or other is None or not is_pose(camera) or not is_pose(other):
        return None
    return np.asarray(other[:3, :3].T @ camera[:3, :3])


def _same(a: Correction, b: Correction) -> bool:
    names = set(a.clocks_ns) | set(b.clocks_ns)
    zero = np.zeros(3)
    return all(
        a.clock_ns(n) == b.clock_ns(n) and np.array_equal(a.turns.get(n, zero), b.turns.get(n, zero)) for n in names
    )
