"""`spatial-fm map` with LiDAR odometry: a recording without odometry becomes metric by its scans."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from running import oracle

from spatial_fm_ros.evaluation.trajectory import evaluate_trajectory
from spatial_fm_ros.evaluation.tum import read_tum

LIDAR = ("--set", "ros.pose_source=lidar")


def test_a_bag_is_metric_by_its_scans(recorded, tmp_path, spatial_fm):
    """The bag's odometry is there, and not used."""
    out = tmp_path / "out"
    done = spatial_fm("map", recorded / "bag", "-o", out, *oracle(recorded / "bag"), *LIDAR)
    assert done.returncode == 0, done.stderr
    truth = read_tum(recorded / "bag" / "truth" / "poses.tum")
    report = json.loads((out / "report.json").read_text())
    assert report["scale"]["state"] == "metric" and "poses" in report["scale"]["observers"]
    assert report["counts"]["poses"] == report["counts"]["scans"] >= 30
    assert evaluate_trajectory(read_tum(out / "trajectory.tum"), truth).se3.ate.rmse < 0.03


def test_a_sequence_folder_is_metric_and_level(recorded, tmp_path, spatial_fm):
    """No body is known there: the camera is it, and the map has x forward and z up all the same."""
    out = tmp_path / "out"
    done = spatial_fm("map", recorded / "sequence", "-o", out, *oracle(recorded / "sequence"), *LIDAR)
    assert done.returncode == 0, done.stderr
    poses = read_tum(out / "trajectory.tum")
    truth = read_tum(recorded / "sequence" / "truth" / "poses.tum")
    assert json.loads((out / "report.json").read_text())["scale"]["state"] == "metric"
    assert evaluate_trajectory(poses, truth).se3.ate.rmse < 0.05
    assert np.ptp(poses.poses[:, 2, 3]) < 0.05 < 0.3 < np.ptp(poses.poses[:, 0, 3])


def test_without_scans_it_says_so(recorded, tmp_path, spatial_fm):
    out = tmp_path / "out"
    done = spatial_fm(
        "map", recorded / "bag", "-o", out, *oracle(recorded / "bag"), *LIDAR, "--points-topic", "none",
        "--set", "scale.ignore=imu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the recording gave no LiDAR scan" in done.stderr
    assert json.loads((out / "report.json").read_text())["scale"]["state"] != "metric"
