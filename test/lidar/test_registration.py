"""The registration observer on simulated windows with exact truth: accurate, honest, and never raising."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.lidar.local_map import MOST_POINTS, MOST_SCANS, LocalMap
from spatial_fm_ros.core.metric.observers import PlacedWindow
from spatial_fm_ros.core.metric.registration import RegistrationObserver
from spatial_fm_ros.core.types import LidarScan, PosedKeyframe, PoseSample
from spatial_fm_ros.simulation.lidar import LidarModel
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

CONFIG = Config()
GRID = 128


@cache
def simulated(name):
    """Simulator, its first 24 scans and true depth of 6 keyframes over 2.4 s."""
    sim = Simulator(get_scenario(name, detail=0.25, lidar_model=LidarModel(rings=32, columns=450)))
    camera = dataclasses.replace(sim.scenario.with_size(GRID), distortion=()).camera()
    stamps = [sim.scenario.start_ns + (100 + 430 * i) * 10**6 for i in range(6)]
    return sim, [sim.scan(i) for i in range(24)], camera, [sim.truth.depth(s, camera) for s in stamps], stamps


def sensors_of(name, poses=True, change=lambda scan: scan):
    sim, scans, _, _, _ = simulated(name)
    sensors = Sensors(CONFIG.intake)
    sensors.rig = sim.rig
    for scan in map(change, scans):
        sensors.add_scan(scan)
    for ms in range(0, 2600, 20) if poses else ():
        stamp = sim.scenario.start_ns + ms * 10**6
        sensors.add_pose(PoseSample(stamp, sim.truth.world_from_body(stamp)))
    return sensors


def window_of(name, sensors, seed, noise=0.05):
    """The keyframes in a random gauge, and the true metres per unit."""
    sim, _, camera, depths, stamps = simulated(name)
    rng = np.random.default_rng(seed)
    gauge = Sim3(np.exp(rng.uniform(-1.5, 1.5)), Rotation.random(random_state=rng).as_matrix(), rng.normal(0, 5, 3))
    keyframes = []
    for i, (stamp, depth) in enumerate(zip(stamps, depths)):
        confidence = np.where(rng.random(depth.shape) < 0.1, 0.1, 1.0).astype(np.float32)
        wrong = np.where(confidence < 0.5, rng.uniform(0.5, 2.0, depth.shape), 1.0)
        pose = gauge.apply_pose(sim.truth.world_from_camera(stamp))
        noisy = depth * wrong * np.exp(rng.normal(0, noise, depth.shape)) * gauge.scale
        keyframes.append(
            PosedKeyframe(
                id=i, stamp_ns=stamp, frame_id="camera", world_from_camera=pose,
                camera=camera, depth=noisy.astype(np.float32), confidence=confidence,
                image=np.zeros((*depth.shape, 3), np.uint8), submap=0, odom_from_camera=sensors.odom_from_camera(stamp),
            )
        )  # fmt: skip
    return PlacedWindow(tuple(keyframes)), -gauge.log_scale


def observer_of(sensors):
    return RegistrationObserver(CONFIG.scale, CONFIG.lidar, sensors)


@pytest.mark.parametrize("name", ["room_drive", "room_handheld", "street_drive"])
def test_scale_is_right_and_its_deviation_honest(name):
    sensors = sensors_of(name)
    observer = observer_of(sensors)
    errors, sigmas = [], []
    for seed in range(4):
        window, truth = window_of(name, sensors, seed)
        seen = observer.observe(window)
        assert seen.usable, seen.reason
        errors.append(abs(seen.log_scale - truth))
        sigmas.append(np.hypot(seen.sigma, seen.systematic))
        assert seen.figures["residual_after_m"] <= 1.05 * seen.figures["residual_before_m"]
    assert max(errors) < 0.01 and max(sigmas) < 0.02
    assert (np.array(errors) < 2 * np.array(sigmas)).sum() >= 3


@pytest.mark.parametrize("name", ["room_still", "room_rotation", "room_drive"])
def test_without_any_poses_the_window_places_the_scans(name):
    sensors = sensors_of(name, poses=False)
    for seed in range(2):
        window, truth = window_of(name, sensors, seed)
        seen = observer_of(sensors).observe(window)
        assert seen.usable, seen.reason
        assert abs(seen.log_scale - truth) < 0.015


def test_metres_do_not_depend_on_the_unit():
    sensors = sensors_of("room_drive")
    window, _ = window_of("room_drive", sensors, 1)
    grown = PlacedWindow(tuple(_scaled(k, 7.0) for k in window.keyframes))
    small, large = observer_of(sensors).observe(window), observer_of(sensors).observe(grown)
    # Rounding, which differs between processors, may decide about the points of one cell: within half a deviation.
    assert large.log_scale == pytest.approx(small.log_scale - np.log(7.0), abs=0.5 * small.sigma)


def _scaled(keyframe, factor):
    pose = keyframe.world_from_camera.copy()
    pose[:3, 3] *= factor
    return dataclasses.replace(keyframe, world_from_camera=pose, depth=keyframe.depth * np.float32(factor))


def test_an_extrinsic_a_degree_off_costs_little_and_is_accounted_for():
    sensors = sensors_of("room_drive")
    error = np.eye(4)
    error[:3, :3] = Rotation.from_euler("xyz", [0.6, -0.7, 0.5], degrees=True).as_matrix()
    error[:3, 3] = (0.01, -0.01, 0.01)
    sensors.rig = dataclasses.replace(sensors.rig, body_from_lidar=sensors.rig.body_from_lidar @ error)
    window, truth = window_of("room_drive", sensors, 2)
    seen = observer_of(sensors).observe(window)
    assert seen.usable, seen.reason
    assert abs(seen.log_scale - truth) < min(0.02, 3 * np.hypot(seen.sigma, seen.systematic))


def test_a_jump_of_odometry_leaves_the_scans_before_it_out():
    sensors = sensors_of("room_drive")
    sim = simulated("room_drive")[0]
    half = sim.scenario.start_ns + 1_300 * 10**6
    for ms in range(1300, 2600, 20):
        stamp = sim.scenario.start_ns + ms * 10**6
        pose = sim.truth.world_from_body(stamp)
        pose[:3, 3] += (0.0, 1.5, 0.0)
        sensors.add_pose(PoseSample(stamp, pose))
    assert sensors.poses.jumped_between(half - 10**8, half + 10**8)
    clouds = LocalMap(sensors).around(sim.scenario.start_ns, sim.scenario.start_ns + 2_500 * 10**6, (0.5, 100.0))
    assert 0 < len(clouds) < 8
    window, truth = window_of("room_drive", sensors, 3)
    seen = observer_of(sensors).observe(window)
    assert not seen.usable or abs(seen.log_scale - truth) < 0.01


def test_the_local_map_lies_on_the_surfaces_and_is_bounded():
    sensors = sensors_of("room_handheld")
    sim = simulated("room_handheld")[0]
    start = sim.scenario.start_ns
    local = LocalMap(sensors)
    clouds = local.around(start, start + 2_400 * 10**6, (0.5, 100.0))
    assert len(clouds) <= MOST_SCANS and max(map(len, clouds)) <= 1.1 * MOST_POINTS
    distance = np.abs(sim.truth.distance_to_surface(np.concatenate(clouds).astype(float)))
    assert np.median(distance) < 0.015 and np.percentile(distance, 95) < 0.06
    again = local.around(start, start + 2_400 * 10**6, (0.5, 100.0))
    assert all(a is b for a, b in zip(clouds, again))  # placed once
    sensors.rig = dataclasses.replace(sensors.rig, body_from_lidar=sensors.rig.body_from_lidar.copy())
    assert local.around(start, start + 2_400 * 10**6, (0.5, 100.0))[0] is not again[0]  # another mount
    local.reset()
    assert local.around(start, start + 10, (0.5, 100.0))


def nothing(scan):
    return dataclasses.replace(scan, points=scan.points[:0], intensity=None, ring=None, point_times_ns=None)


BAD = {
    "empty": nothing,
    "nan": lambda scan: dataclasses.replace(scan, points=np.full_like(scan.points, np.nan)),
    "millimetres": lambda scan: dataclasses.replace(scan, points=scan.points * 1000),
    "elsewhere in time": lambda scan: dataclasses.replace(scan, stamp_ns=scan.stamp_ns + 30 * 10**9),
    "behind": lambda scan: LidarScan(scan.stamp_ns, scan.points[scan.points[:, 0] < -0.5]),
}


@pytest.mark.parametrize("poses", [True, False])
@pytest.mark.parametrize("what", BAD)
def test_bad_scans_are_refused_with_a_reason(what, poses):
    sensors = sensors_of("room_drive", poses, BAD[what])
    seen = observer_of(sensors).observe(window_of("room_drive", sensors, 0)[0])
    assert not seen.usable and len(seen.reason) > 10


def test_unsorted_times_and_holes_change_nothing_much():
    def organised(scan):
        order = np.random.default_rng(0).permutation(len(scan.points))
        points = np.concatenate([scan.points[order], np.full((64, 3), np.nan, np.float32)])
        times = np.concatenate([scan.point_times_ns[order], np.zeros(64, np.int64)])
        return LidarScan(scan.stamp_ns, points, point_times_ns=times)

    sensors = sensors_of("room_drive", True, organised)
    window, truth = window_of("room_drive", sensors, 0)
    assert abs(observer_of(sensors).observe(window).log_scale - truth) < 0.01


def test_sensors_that_are_absent_or_wrong():
    sensors = Sensors(CONFIG.intake)
    good = sensors_of("room_drive")
    window, _ = window_of("room_drive", good, 0)
    assert observer_of(sensors).observe(window) is None
    unknown = sensors_of("room_drive")
    unknown.rig = dataclasses.replace(unknown.rig, body_from_lidar=None)
    assert "TF does not say" in observer_of(unknown).observe(window).reason
    mirrored = sensors_of("room_drive")
    mirrored.rig = dataclasses.replace(mirrored.rig, body_from_lidar=np.diag([1.0, -1, 1, 1]))
    assert "no rigid transform" in observer_of(mirrored).observe(window).reason


def test_windows_without_use():
    sensors = sensors_of("room_drive")
    window, _ = window_of("room_drive", sensors, 0)
    blind = [dataclasses.replace(k, depth=np.full_like(k.depth, np.nan)) for k in window.keyframes]
    assert "no depth" in observer_of(sensors).observe(PlacedWindow(tuple(blind))).reason
    rng = np.random.default_rng(0)
    wild = [dataclasses.replace(k, depth=rng.uniform(1, 9, k.depth.shape).astype(np.float32)) for k in window.keyframes]
    seen = observer_of(sensors).observe(PlacedWindow(tuple(wild)))
    assert not seen.usable
