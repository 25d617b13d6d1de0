"""Sensors on other clocks than the camera's: how far apart, what is said, and that nothing of them is used."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest

from spatial_fm_ros.core.config import Config, IntakeConfig, ModelConfig, ScaleConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.intake.clocks import PARAMETERS
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.observers import PlacedWindow
from spatial_fm_ros.core.metric.poses import PoseObserver
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Camera, Frame, ImuSample, LidarScan, PosedKeyframe, PoseSample

S, MS = 1_000_000_000, 1_000_000
START = 1_700_000_000 * S


def heard(
    later_s: float, timed: bool = True, config: IntakeConfig | None = None, seconds: float = 6.0, rate: float = 1.0
) -> Sensors:
    """Images at 10 Hz that arrive 80 ms late; poses, scans and IMU samples on a clock that is later."""
    sensors, events = Sensors(config or IntakeConfig()), []
    for hz, delay, kind in ((10, 80 * MS, "image"), (50, 5 * MS, "pose"), (10, 60 * MS, "scan"), (100, 2 * MS, "imu")):
        for i in range(round(seconds * hz)):
            at = round(i * S / hz)
            events.append((at + delay if timed else at + (kind != "image") * round(later_s * S), at, kind))
    for arrival, at, kind in sorted(events):
        arrived = round(arrival / rate) if timed else None
        stamp = START + at
        if kind == "image":
            sensors.add_image(stamp, arrived)
            continue
        stamp += round(later_s * S)
        if kind == "pose":
            pose = np.eye(4)
            pose[0, 3] = at / S
            sensors.add_pose(PoseSample(stamp, pose, arrived_ns=arrived))
        elif kind == "scan":
            sensors.add_scan(LidarScan(stamp, np.ones((4, 3), np.float32), arrived_ns=arrived))
        else:
            sensors.add_imu(ImuSample(stamp, np.zeros(3), np.zeros(3), arrived_ns=arrived))
    return sensors


@pytest.mark.parametrize("later_s, rate", [(37.0, 1.0), (-37.0, 8.0), (7200.0, 8.0), (-1.6e9, 1.0), (3.0, 1.0)])
def test_the_offset_that_is_told_mends_it(later_s: float, rate: float) -> None:
    sensors = heard(later_s, rate=rate)
    told = {}
    for sensor, parameter in PARAMETERS.items():
        problem = sensors.clock_problem(sensor)
        found = re.search(rf"set {re.escape(parameter)} to (-?[\d.]+)", problem)
        assert found, problem
        told[sensor] = float(found[1])
        assert told[sensor] == pytest.approx(-later_s, abs=0.25)
    # 37 s ahead would find, after a while, poses that lie in the buffer: of quite another moment.
    if abs(later_s) > 10.0:
        assert all(sensors.odom_from_camera(START + i * 100 * MS) is None for i in range(60))
        assert sensors.scans.between(0, 10 * START) == [] and sensors.imu.nearest(START, 10 * START) is None
    config = IntakeConfig(
        pose_time_offset_s=told["odometry"], lidar_time_offset_s=told["lidar"], imu_time_offset_s=told["imu"]
    )
    mended = heard(later_s, config=config, rate=rate)
    assert [mended.clock_problem(sensor) for sensor in PARAMETERS] == ["", "", ""]
    assert mended.odom_from_camera(START + 3 * S)[0, 3] == pytest.approx(3.0, abs=0.25)


@pytest.mark.parametrize("later_s", [0.0, 0.3, -0.3])
def test_clocks_that_agree_and_messages_that_take_their_time_are_no_problem(later_s: float) -> None:
    for timed in (True, False):
        sensors = heard(later_s, timed)
        assert [sensors.clock_problem(sensor) for sensor in PARAMETERS] == ["", "", ""]
        assert sensors.odom_from_camera(START + 3 * S) is not None


def test_without_times_of_arrival_recordings_that_do_not_overlap_are_compared() -> None:
    for later_s in (37.0, -3600.0):
        sensors = heard(later_s, timed=False)
        assert f"set intake.pose_time_offset_s to {-later_s:.1f}" in sensors.clock_problem("odometry")
    assert not heard(3.0, timed=False).clock_problem("odometry")  # they overlap: nobody can know


def test_poses_on_another_clock_are_no_observer_that_is_absent() -> None:
    sensors = heard(37.0)
    grid = np.ones((4, 4), np.float32)
    camera = Camera(4, 4, np.array([[4.0, 0, 2], [0, 4, 2], [0, 0, 1]]))
    keyframes = tuple(
        PosedKeyframe(i, START + i * S, "camera", np.eye(4), camera, grid, grid, np.zeros((4, 4, 3), np.uint8), 0)
        for i in range(4)
    )
    seen = PoseObserver(ScaleConfig(), sensors).observe(PlacedWindow(keyframes))
    assert seen is not None and not seen.usable
    assert "no pose within 0.5 s of an image (they are 37.1 s ahead)" in seen.reason
    assert "set intake.pose_time_offset_s to -37.1" in seen.reason
    assert PoseObserver(ScaleConfig(), Sensors(IntakeConfig())).observe(PlacedWindow(keyframes)) is None


def test_poses_too_far_apart_are_said() -> None:
    sensors = Sensors(IntakeConfig(pose_max_gap_s=0.5))
    for i in range(60):
        sensors.add_image(START + i * 100 * MS + 30 * MS, i * 100 * MS)
        if i % 20 == 0:
            sensors.add_pose(PoseSample(START + i * 100 * MS, np.eye(4), arrived_ns=i * 100 * MS))
    assert sensors.clock_problem("odometry") == (
        "no pose within 0.5 s of an image: check its rate and clock, or intake.pose_time_offset_s"
    )


@pytest.mark.parametrize("first_s", [-4e8, -100.0, 4e8])
def test_a_wrong_first_image_is_no_other_clock(first_s: float) -> None:
    """How fast time passes is not told by a stamp that was left."""
    pipeline = Pipeline(Config(), OracleModel(ModelConfig(), {}))  # type: ignore[arg-type]  # never asked
    for i in range(600):
        arrived, stamp = i * 10 * MS, START + i * 10 * MS
        pipeline.add_imu(ImuSample(stamp, np.zeros(3), np.zeros(3), arrived_ns=arrived))
        if i % 10 == 0:
            wrong = round(first_s * S) if i == 0 else 0
            with contextlib.suppress(InputError):
                pipeline.offer(Frame(stamp + wrong, np.full((8, 8, 3), i % 200, np.uint8), arrived_ns=arrived))
    assert pipeline.sensors.clock_problem("imu") == ""
