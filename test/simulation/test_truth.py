"""The simulated sensors agree with the truth they come with."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Camera
from spatial_fm_ros.simulation.camera import CameraModel, pixel_rays
from spatial_fm_ros.simulation.inertial import GRAVITY, ImuModel, OdometryModel, imu_samples, odometry_poses
from spatial_fm_ros.simulation.lidar import LidarModel
from spatial_fm_ros.simulation.scenario import SCENARIOS, Scenario, get_scenario
from spatial_fm_ros.simulation.simulator import Simulator
from spatial_fm_ros.simulation.trajectory import follow, handheld, rotation
from spatial_fm_ros.simulation.truth import Truth

CLEAN = CameraModel(noise=0.0, exposure_wobble=0.0, vignetting=0.0)


def small(name: str, **changes: Any) -> Scenario:
    return get_scenario(name, detail=0.3, **changes).with_size(320)


def project(camera: Camera, points: np.ndarray) -> np.ndarray:
    pixels, _ = cv2.projectPoints(
        points.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), camera.K, np.array(camera.distortion)
    )
    return pixels.reshape(-1, 2)


def test_pixel_rays_invert_the_distortion() -> None:
    camera = SCENARIOS["room_drive"].camera()
    grid = np.stack(np.meshgrid(np.arange(0, 640, 9.0), np.arange(0, 480, 9.0)), 2).reshape(-1, 2)
    assert np.abs(project(camera, pixel_rays(camera, grid)) - grid).max() < 1e-6


@given(
    focal=st.floats(150, 900),
    shift=st.floats(-20, 20),
    radial=st.floats(-0.12, 0.1),
    tangential=st.floats(-0.002, 0.002),
    fisheye=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_pixel_rays_project_back(focal: float, shift: float, radial: float, tangential: float, fisheye: bool) -> None:
    K = np.array([[focal, 0, 160 + shift], [0, 1.02 * focal, 120 - shift], [0, 0, 1]])
    model = "equidistant" if fisheye else "plumb_bob"
    coefficients = (radial / 4, 0.01, 0.0, 0.0) if fisheye else (radial, 0.01, tangential, -tangential, 0.0)
    camera = Camera(320, 240, K, model, coefficients)
    grid = np.stack(np.meshgrid(np.arange(20, 300, 20.0), np.arange(20, 220, 20.0)), 2).reshape(-1, 2)
    # Rays far from the axis of a short lens may leave the range where the model is one-to-one.
    grid = grid[np.linalg.norm((grid - K[:2, 2]) / focal, axis=1) < 0.8]
    rays = pixel_rays(camera, grid)
    if fisheye:
        back, _ = cv2.fisheye.projectPoints(rays.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), K, np.array(coefficients))
        back = back.reshape(-1, 2)
    else:
        back = project(camera, rays)
    assert np.abs(back - grid).max() < 1e-4


@pytest.mark.parametrize("name", ["room_drive", "street_drive"])
def test_images_and_depth_agree_between_two_poses(name: str) -> None:
    """Pixels of one image, carried by their true depth into another, find the same colour there."""
    truth = Truth(small(name, camera_model=CLEAN))
    camera = truth.renderer().camera
    start = truth.scenario.start_ns
    first, second = start + 10_000_000_000, start + 11_200_000_000
    pose_a, pose_b = truth.world_from_camera(first), truth.world_from_camera(second)
    image_a, image_b = truth.renderer().render(pose_a), truth.renderer().render(pose_b)
    depth_a, depth_b = truth.depth(first), truth.depth(second)
    grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), 2).reshape(-1, 2)
    known = np.isfinite(depth_a.ravel())
    points = pixel_rays(camera, grid[known].astype(float)) * depth_a.ravel()[known, None]
    there = np.linalg.inv(pose_b) @ pose_a
    moved = points @ there[:3, :3].T + there[:3, 3]
    moved_ok = moved[:, 2] > 0.2
    at = project(camera, moved[moved_ok]).astype(np.float32)
    seen = (at[:, 0] > 1) & (at[:, 0] < camera.width - 2) & (at[:, 1] > 1) & (at[:, 1] < camera.height - 2)
    at = at[seen]
    expected = moved[moved_ok][seen, 2]
    # Visible in both: the depth found there is the depth computed.
    found = depth_b[np.round(at[:, 1]).astype(int), np.round(at[:, 0]).astype(int)]
    visible = np.abs(found - expected) < 0.01 * expected
    assert visible.mean() > 0.75
    source = image_a.reshape(-1, 3)[known][moved_ok][seen].astype(float)
    keep = len(at) // 100 * 100
    colors = cv2.remap(image_b, at[:keep].reshape(100, -1, 2), None, cv2.INTER_LINEAR).reshape(-1, 3).astype(float)
    difference = np.abs(colors - source[:keep]).mean(1)[visible[:keep]]
    assert np.median(difference) < 4.0
    # Against chance: unrelated pixels differ far more.
    assert np.median(difference) < 0.25 * np.median(np.abs(colors - colors[::-1]).mean(1))


def test_undistorted_depth_is_that_of_the_same_rays() -> None:
    truth = Truth(small("room_drive"))
    K = truth.renderer().camera.K
    stamp = truth.scenario.start_ns
    full = truth.depth(stamp, Camera(320, 240, K))
    double = truth.depth(stamp, Camera(320, 240, K).resized(640, 480))
    # The centre of a pixel lies between four pixels of the double size.
    mean = cv2.resize(double, (320, 240), interpolation=cv2.INTER_AREA)
    assert np.median(np.abs(mean - full) / full) < 1e-3


@pytest.mark.parametrize("name", ["room_drive", "tunnel_straight"])
def test_lidar_points_lie_on_the_surface(name: str) -> None:
    model = LidarModel(noise_m=0.0, columns=300)
    simulator = Simulator(small(name, lidar_model=model))
    scan = simulator.scan(57)
    assert scan.point_times_ns is not None and scan.ring is not None and scan.intensity is not None
    assert scan.stamp_ns == simulator.scenario.start_ns + 5_700_000_000
    assert scan.point_times_ns.min() >= 0 and scan.point_times_ns.max() < 100_000_000
    assert set(np.unique(scan.ring)) <= set(range(model.rings))
    assert scan.intensity.min() >= 0 and scan.intensity.max() <= 255
    times = (scan.stamp_ns + scan.point_times_ns - simulator.scenario.start_ns) / 1e9
    poses = simulator.truth.trajectory.world_from_body(times) @ simulator.rig.body_from_lidar
    points = np.einsum("nij,nj->ni", poses[:, :3, :3], scan.points.astype(float)) + poses[:, :3, 3]
    assert simulator.truth.distance_to_surface(points).max() < 2e-3
    # Without undoing the sweep's motion they do not: the motion inside a sweep is there. Along the
    # tunnel a LiDAR cannot see it: shifted points lie on the same walls.
    flat = scan.points.astype(float) @ poses[0, :3, :3].T + poses[0, :3, 3]
    off = np.percentile(simulator.truth.distance_to_surface(flat), 95)
    assert off > 5e-3 if name == "room_drive" else off < 1e-3


def test_lidar_noise_and_dropouts_have_the_asked_size() -> None:
    model = LidarModel(noise_m=0.02, dropout=0.2, columns=300, max_range_m=200)
    scan = Simulator(small("room_still", lidar_model=model)).scan(3)
    clean = Simulator(small("room_still", lidar_model=dataclasses.replace(model, noise_m=0.0))).scan(3)
    error = np.linalg.norm(scan.points, axis=1) - np.linalg.norm(clean.points, axis=1)
    assert abs(error.std() - 0.02) < 0.001 and abs(error.mean()) < 0.001
    assert 0.6 < len(scan.points) / (300 * model.rings) < 0.85


@pytest.mark.parametrize("name", ["room_drive", "room_handheld"])
def test_imu_integrates_to_the_trajectory(name: str) -> None:
    truth = Truth(small(name, duration_s=8.0))
    dt = 1e-3
    times = np.arange(0, 8.0, dt)
    clean = ImuModel(0, 0, 0, 0)
    gyro, accel = imu_samples(truth.trajectory, truth.rig.body_from_imu, times, clean, 0)
    world_from_imu = truth.trajectory.world_from_body(times) @ truth.rig.body_from_imu
    speed = np.gradient(world_from_imu[:, :3, 3], dt, axis=0)
    turn, place, velocity = world_from_imu[10, :3, :3], world_from_imu[10, :3, 3], speed[10]
    for k in range(10, 7900):
        middle = (gyro[k] + gyro[k + 1]) / 2 * dt
        half = turn @ cv2.Rodrigues(middle / 2)[0]
        force = half @ ((accel[k] + accel[k + 1]) / 2) + GRAVITY
        place = place + velocity * dt + 0.5 * force * dt**2
        velocity = velocity + force * dt
        turn = turn @ cv2.Rodrigues(middle)[0]
    true = world_from_imu[7900]
    assert np.linalg.norm(place - true[:3, 3]) < 2e-3
    assert np.degrees(np.arccos(np.clip((np.trace(turn.T @ true[:3, :3]) - 1) / 2, -1, 1))) < 0.01


def test_imu_at_rest_feels_gravity_and_its_noise() -> None:
    truth = Truth(small("room_still"))
    times = np.arange(0, 10, 0.005)
    gyro, accel = imu_samples(truth.trajectory, truth.rig.body_from_imu, times, ImuModel(), 1)
    assert np.allclose(accel.mean(0), [0, 0, 9.81], atol=0.08)
    assert np.allclose(accel.std(0), 0.03, rtol=0.1) and np.allclose(gyro.std(0), 0.002, rtol=0.1)


def test_odometry_drifts_as_asked() -> None:
    trajectory = follow([(0, 0), (10, 0), (20, 1), (30, 0), (40, 0)], 60.0, bumps=0.0)
    times = np.arange(0, 60.0, 0.02)
    start = np.linalg.inv(trajectory.world_from_body(times[:1])[0])
    ideal, _ = odometry_poses(trajectory, times, OdometryModel(0, 0, 0), 0)
    assert np.abs(ideal - start @ trajectory.world_from_body(times)).max() < 1e-6
    scaled, _ = odometry_poses(trajectory, times, OdometryModel(0.01, 0, 0), 0)
    assert np.isclose(np.linalg.norm(scaled[-1, :3, 3]) / np.linalg.norm(ideal[-1, :3, 3]), 1.01, atol=1e-6)
    yaws = []
    for seed in range(60):
        poses, covariances = odometry_poses(trajectory, times, OdometryModel(0, 0.002, 0), seed)
        yaws.append(np.arctan2(poses[-1, 1, 0], poses[-1, 0, 0]))
        assert np.all(np.linalg.eigvalsh(covariances[-1]) > 0)
    assert 0.7 < np.std(yaws) / (0.002 * np.sqrt(trajectory.length())) < 1.4


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_scenarios_keep_clear_of_surfaces_and_move_smoothly(name: str) -> None:
    truth = Truth(small(name))
    stamps = truth.scenario.start_ns + (np.arange(0, truth.scenario.duration_s, 0.2) * 1e9).astype(np.int64)
    places = truth.world_from_cameras(stamps)[:, :3, 3]
    assert truth.distance_to_surface(places).min() > 0.3
    times = np.arange(0, truth.scenario.duration_s, 0.05)
    assert np.linalg.norm(truth.trajectory.acceleration(times), axis=1).max() < 4.0
    assert np.linalg.norm(truth.trajectory.angular_velocity(times), axis=1).max() < 1.5


def test_trajectory_derivatives_match_differences() -> None:
    trajectory = handheld(
        lambda s: np.stack([np.sin(3 * s), s, 0 * s], 1), lambda s: np.stack([2 * s, 0.3 * s, -0.2 * s], 1), 6.0, 3
    )
    times, h = np.linspace(0.5, 5.5, 40), 1e-5
    before, at, after = (trajectory.world_from_body(times + d) for d in (-h, 0, h))
    assert np.allclose((after - before)[:, :3, 3] / (2 * h), trajectory.velocity(times), atol=1e-6)
    skew = np.swapaxes(at[:, :3, :3], 1, 2) @ (after - before)[:, :3, :3] / (2 * h)
    rates = np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], 1)
    assert np.allclose(rates, trajectory.angular_velocity(times), atol=1e-6)
    change = (trajectory.angular_velocity(times + h) - trajectory.angular_velocity(times - h)) / (2 * h)
    assert np.allclose(change, trajectory.angular_acceleration(times), atol=1e-5)
    assert np.allclose(np.linalg.det(rotation(np.random.default_rng(0).uniform(-3, 3, (50, 3)))), 1)


def test_pure_rotation_keeps_the_camera_in_place() -> None:
    truth = Truth(small("room_rotation"))
    places = truth.world_from_cameras(truth.scenario.start_ns + np.arange(20) * 1_000_000_000)[:, :3, 3]
    assert np.ptp(places, axis=0).max() < 1e-4


def test_surface_points_lie_on_surfaces_and_visible_ones_are_seen() -> None:
    truth = Truth(small("room_drive"))
    assert truth.distance_to_surface(truth.surface_points(5000)).max() < 1e-3
    stamps = [truth.scenario.start_ns + k * 2_000_000_000 for k in range(5)]
    seen = truth.visible_points(4000, stamps)
    assert len(seen) == 4000 and truth.distance_to_surface(seen).max() < 5e-3
    assert np.all(seen.min(0) > -0.01) and np.all(seen.max(0) < [8.01, 6.01, 2.71])


def test_truth_of_another_run_is_refused() -> None:
    truth = Truth(small("room_drive"))
    with pytest.raises(InputError, match="outside scenario room_drive"):
        truth.world_from_camera(0)
