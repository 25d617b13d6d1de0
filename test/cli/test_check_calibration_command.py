"""`spatial-fm check-calibration` on recorded bags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spatial_fm_ros.simulation.faults import FaultPlan
from spatial_fm_ros.simulation.recording import write_bag
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

SCENARIO = replace(
    get_scenario("room_handheld", seed=2, detail=0.2, duration_s=7.0, camera_hz=8.0, lidar_hz=0.0, imu_hz=50.0)
).with_size(240)


def test_a_late_imu_is_named_and_the_rest_is_fine(tmp_path: Path, spatial_fm) -> None:
    write_bag(Simulator(SCENARIO), tmp_path / "bag", threads=2, plan=FaultPlan(imu_offset_s=0.04))
    done = spatial_fm("check-calibration", tmp_path / "bag")
    assert done.returncode == 1, done.stderr
    assert "later than the camera's; set intake.imu_time_offset_s: -0.04" in done.stdout
    assert "odometry: its stamps agree with the camera's" in done.stdout
    assert "the rotation between camera and IMU in TF is right" in done.stdout
    still = spatial_fm("check-calibration", tmp_path / "bag", "--seconds", 0.5, "--imu-topic", "none")
    assert still.returncode == 0 and "could not be compared" in still.stdout, still.stderr


def test_nothing_to_compare_is_said(recorded: Path, spatial_fm) -> None:
    options = ("--odometry-topic", "none", "--imu-topic", "none", "--points-topic", "none", "--seconds", 1)
    done = spatial_fm("check-calibration", recorded / "bag", *options)
    assert done.returncode == 0 and "no LiDAR to compare" in done.stderr
    assert spatial_fm("check-calibration", recorded / "missing").returncode == 2
