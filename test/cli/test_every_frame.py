"""A pose for every frame from odometry and corrected keyframes; which map is the largest; the run's record."""

from __future__ import annotations

import numpy as np
import pytest

from spatial_fm_ros.core.align.submap import Trajectory
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.types import PoseSample
from spatial_fm_ros.offline.record import RunRecord
from spatial_fm_ros.offline.results import coverage
from spatial_fm_ros.offline.trajectories import ordered, pose_every_frame

MS = 1_000_000


def pose(x: float, yaw: float = 0.0) -> np.ndarray:
    made = np.eye(4)
    made[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    made[0, 3] = x
    return made


def run() -> tuple[RunRecord, Trajectory, np.ndarray]:
    """Truth x = t at 1 m/s; odometry lags 10 % behind; keyframes every second are exact."""
    body_from_camera = np.eye(4)
    body_from_camera[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    body_from_camera[:3, 3] = (0.1, 0.0, 0.5)
    record = RunRecord()
    for i in range(0, 501, 20):
        record.add_pose(PoseSample(i * 10 * MS, pose(0.9 * i / 100)))
    record.frame_stamps = [i * 100 * MS for i in range(51)]
    keys = [0, 10, 20, 30, 40, 50]
    stamps = np.array([k * 100 * MS for k in keys])
    truth = np.stack([pose(k / 10) @ body_from_camera for k in keys])
    for number, k in enumerate(keys):
        record.odom_from_camera[number] = pose(0.9 * k / 10) @ body_from_camera
    return record, Trajectory(0, np.arange(6), stamps, truth), body_from_camera


def test_frames_between_keyframes_are_corrected():
    record, trajectory, body_from_camera = run()
    every = pose_every_frame(record, trajectory, body_from_camera, 0.5)
    assert every is not None and len(every) == 51
    world_from_body = every.poses @ invert_pose(body_from_camera)
    assert np.allclose(world_from_body[:, 0, 3], np.arange(51) / 10, atol=1e-9)


def test_the_last_correction_is_kept_beyond_the_last_keyframe():
    record, trajectory, body_from_camera = run()
    short = Trajectory(0, np.arange(4), trajectory.stamps_ns[:4], trajectory.world_from_camera[:4])
    every = pose_every_frame(record, short, body_from_camera, 0.5)
    assert every is not None
    x = (every.poses @ invert_pose(body_from_camera))[:, 0, 3]
    assert x[50] == pytest.approx(3.0 + 0.9 * 2.0)


def test_no_file_when_some_frame_has_no_odometry():
    record, trajectory, body_from_camera = run()
    record.frame_stamps.append(60_000 * MS)
    assert pose_every_frame(record, trajectory, body_from_camera, 0.5) is None
    record, trajectory, body_from_camera = run()
    assert pose_every_frame(record, trajectory, body_from_camera, 0.1) is None  # poses 0.2 s apart
    record.odom_from_camera.clear()
    assert pose_every_frame(record, trajectory, body_from_camera, 0.5) is None


def test_largest_map_first_and_coverage():
    def made(submap: int, stamps: list[int]) -> Trajectory:
        return Trajectory(submap, np.arange(len(stamps)), np.array(stamps), np.tile(np.eye(4), (len(stamps), 1, 1)))

    maps = ordered([made(0, [0, 1]), made(1, []), made(2, [2, 3, 4]), made(3, [5])])
    assert [t.submap for t in maps] == [2, 0, 3]
    assert coverage(maps[0], [0, 4, 8]) == 0.25
    assert coverage(None, [0, 4]) == 0.0 and ordered([]) == []
