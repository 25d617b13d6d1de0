"""The pose observer against known scales, rotations and faults."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import IntakeConfig, ScaleConfig
from spatial_fm_ros.core.geometry.rotations import pose_from, rotation_angle
from spatial_fm_ros.core.geometry.similarity import Sim3, umeyama
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.linearity import path_shape
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation
from spatial_fm_ros.core.metric.pose_alignment import _similarities, align_poses, scale_of
from spatial_fm_ros.core.metric.poses import PoseObserver
from spatial_fm_ros.core.types import Array, Camera, PosedKeyframe, PoseSample, Rig

CONFIG = ScaleConfig()
CAMERA = Camera(2, 2, np.eye(3))
SECOND = 1_000_000_000


def arc(count: int = 8, step: float = 0.25, radius: float = 1.25) -> Array:
    """Camera poses [count, 4, 4] on an arc that climbs a little, looking along it."""
    angle = np.arange(count) * step / radius
    rotations = Rotation.from_euler("z", angle[:, None]).as_matrix()
    places = radius * np.stack([np.sin(angle), 1 - np.cos(angle), 0.05 * np.sin(3 * angle)], 1)
    return pose_from(rotations, places)


def line(count: int = 8, step: float = 0.25) -> Array:
    """Camera poses on a straight line with a slight nod."""
    rotations = Rotation.from_euler("y", 0.01 * np.sin(np.arange(count))[:, None]).as_matrix()
    return pose_from(rotations, np.arange(count)[:, None] * np.array([step, 0.0, 0.0]))


def noisy(poses: Array, metres: float, radians: float, rng: np.random.Generator) -> Array:
    changed = poses.copy()
    changed[:, :3, 3] += rng.normal(0, metres, (len(poses), 3))
    changed[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, radians, (len(poses), 3))).as_matrix() @ poses[:, :3, :3]
    return changed


def gauge(seed: int) -> Sim3:
    rng = np.random.default_rng(seed)
    return Sim3(float(np.exp(rng.uniform(-2, 2))), Rotation.random(random_state=rng).as_matrix(), rng.normal(0, 5, 3))


def placed(odom: Array | None, world: Array, interval_ns: int = SECOND) -> PlacedWindow:
    blank = np.zeros((2, 2), np.float32)
    return PlacedWindow(
        tuple(
            PosedKeyframe(i, i * interval_ns, "c", pose, CAMERA, blank, blank, np.zeros((2, 2, 3), np.uint8), 0,
                          None if odom is None else odom[i])
            for i, pose in enumerate(world)
        )
    )  # fmt: skip


def observed(odom: Array | None, world: Array, sensors: Sensors | None = None) -> ScaleObservation | None:
    return PoseObserver(CONFIG, sensors or Sensors(IntakeConfig())).observe(placed(odom, world))


def usable(odom: Array, world: Array) -> ScaleObservation:
    seen = observed(odom, world)
    assert seen is not None and seen.usable, seen
    return seen


def refusal(odom: Array, world: Array, sensors: Sensors | None = None) -> str:
    seen = observed(odom, world, sensors)
    assert seen is not None and not seen.usable and np.isinf(seen.sigma)
    return seen.reason


def fed(poses: Array, stamps_ns: list[int], covariance: Array | None = None) -> Sensors:
    sensors = Sensors(IntakeConfig())
    for pose, stamp in zip(poses, stamps_ns, strict=True):
        sensors.add_pose(PoseSample(stamp, pose, covariance))
    return sensors


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), curved=st.booleans(), count=st.integers(4, 9))
def test_exact_poses_give_the_exact_similarity_in_any_gauge(seed: int, curved: bool, count: int) -> None:
    odom = arc(count) if curved else line(count)
    world_from_odom = gauge(seed)
    found = align_poses(odom, world_from_odom.apply_pose(odom), 0.3)
    truth = world_from_odom.inverse()
    if count >= 6:  # a shorter arc is hardly bent
        assert found.kind == ("umeyama" if curved else "straight")
    assert np.log(found.scale) == pytest.approx(truth.log_scale, abs=1e-8)
    assert rotation_angle(found.rotation @ truth.R.T) < 1e-6
    assert np.allclose(found.odom_from_world.t, truth.t, atol=1e-6 * (1 + truth.scale * 20))
    assert found.inliers.all() and found.rotation_gap_deg < 1e-3


@pytest.mark.parametrize("path", [arc, line])
def test_observation_says_metres_per_world_unit(path: type[Array]) -> None:
    odom = path()
    seen = usable(odom, Sim3(1 / 37.0, np.eye(3), np.ones(3)).apply_pose(odom))
    assert seen.log_scale == pytest.approx(np.log(37.0), abs=1e-8)
    assert seen.systematic == CONFIG.odometry_sigma and seen.reason == ""
    assert seen.figures["straight"] == float(path is line) and seen.figures["keyframes"] == 8


@pytest.mark.parametrize(("path", "white", "walk"), [(arc, 0.015, 0.0), (line, 0.015, 0.0), (arc, 0.004, 0.015),
                                                     (line, 0.004, 0.015)])  # fmt: skip
def test_sigma_covers_the_error(path: type[Array], white: float, walk: float) -> None:
    """Noise that is new in every pose, and noise that adds up along the way: 2 sigma hold, and not for free."""
    truth = path()
    ratios = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        odom = noisy(truth, white, 0.002, rng)
        odom[:, :3, 3] += np.cumsum(rng.normal(0, walk / np.sqrt(7), (8, 3)), axis=0)
        seen = usable(odom, noisy(truth, 0.3 * white, 0.002, rng))
        ratios.append(seen.log_scale / np.hypot(seen.sigma, seen.systematic))
    assert np.mean(np.abs(ratios) < 2) >= 0.9
    assert np.sqrt(np.mean(np.square(ratios))) > 0.4


def test_lost_heading_does_not_reach_the_scale() -> None:
    """Odometry whose heading and tilt wander, the camera on a mast: steps count, not where they led."""
    body = arc(step=0.2, radius=0.8)
    body_from_camera = pose_from(Rotation.from_euler("x", -1.6).as_matrix(), np.array([0.15, 0.0, 0.6]))
    steps = np.linalg.inv(body[:-1]) @ body[1:]
    found, free = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        wandered = [np.eye(4)]
        for step, turn in zip(steps, Rotation.from_rotvec(rng.normal(0, 0.02, (7, 3))).as_matrix(), strict=True):
            wandered.append(wandered[-1] @ pose_from(turn, np.zeros(3)) @ step)
        odom, world = np.stack(wandered) @ body_from_camera, gauge(seed).apply_pose(body @ body_from_camera)
        found.append(np.log(align_poses(odom, world, 0.3, body_from_camera).scale) + gauge(seed).log_scale)
        free.append(umeyama(odom[:, :3, 3], world[:, :3, 3]).log_scale + gauge(seed).log_scale)
    assert np.std(found) < 0.25 * np.std(free)


def test_no_rotation_flip_in_a_straight_tunnel() -> None:
    """Positions on a line leave the rotation about it free, and noise would choose it: orientations must."""
    truth = line(step=0.4)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        world_from_odom = gauge(seed)
        world = world_from_odom.apply_pose(noisy(truth, 0.02, 0.01, rng))
        found = align_poses(noisy(truth, 0.01, 0.005, rng), world, 0.3)
        assert found.kind == "straight"
        assert np.degrees(rotation_angle(found.rotation @ world_from_odom.R)) < 3.0
        assert abs(np.log(found.scale * world_from_odom.scale)) < 0.06


def test_a_slightly_bent_path_is_not_turned_over_by_noise() -> None:
    truth = arc(step=0.25, radius=4.0)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = align_poses(noisy(truth, 0.03, 0.005, rng), noisy(truth, 0.03, 0.01, rng), 0.3)
        assert np.degrees(rotation_angle(found.rotation)) < 21.0


@pytest.mark.parametrize("path", [arc, line])
def test_wrong_poses_are_left_out(path: type[Array]) -> None:
    truth = path()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        odom = noisy(truth, 0.002, 0.002, rng)
        wrong = rng.choice(8, 2, replace=False)
        odom[wrong, :3, 3] += rng.choice([-1, 1], (2, 1)) * np.array([0.6, 0.4, 0.2]) * rng.uniform(0.7, 1.5, (2, 1))
        found = align_poses(odom, truth, 0.3)
        assert not found.inliers[wrong].any() and found.inliers.sum() == 6
        assert abs(np.log(found.scale)) < 0.01


def test_many_similarities_at_once_are_umeyamas() -> None:
    rng = np.random.default_rng(3)
    b = rng.normal(0, 1, (30, 3, 3))
    a = np.stack([gauge(i).apply(points) for i, points in enumerate(b)]) + rng.normal(0, 0.01, b.shape)
    b[7] = np.arange(3)[:, None] * np.ones(3)  # on a line
    scale, rotation, translation, sound = _similarities(a, b)
    assert not sound[7] and sound.sum() == 29
    for i in np.flatnonzero(sound):
        plain = umeyama(a[i], b[i])
        assert scale[i] == pytest.approx(plain.scale, rel=1e-9)
        assert np.allclose(rotation[i], plain.R, atol=1e-9) and np.allclose(translation[i], plain.t, atol=1e-8)


def test_path_shape_of_known_shapes() -> None:
    angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    circle = path_shape(np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1))
    assert circle.ratio == pytest.approx(1.0, abs=1e-6) and circle.travel == pytest.approx(2.0, abs=1e-3)
    straight = path_shape(line()[:, :3, 3])
    assert straight.is_straight and straight.travel == pytest.approx(1.75)
    assert np.allclose(straight.direction, [1, 0, 0])
    assert path_shape(np.zeros((4, 3))).ratio == 0.0


def test_too_few_points_have_no_deviation() -> None:
    log_scale, sigma = scale_of([(np.array([[0.0], [2.0]]), np.array([[0.0], [1.0]]))])
    assert log_scale == pytest.approx(np.log(2)) and np.isinf(sigma)


def test_standing_still_and_turning_are_unobservable() -> None:
    still = pose_from(arc()[:, :3, :3], np.random.default_rng(0).normal(0, 0.002, (8, 3)))
    assert "travelled 0.0" in refusal(still, arc())
    assert "saw no motion" in refusal(arc(), pose_from(arc()[:, :3, :3], np.zeros((8, 3))))


def test_no_odometry_is_no_observer() -> None:
    assert observed(None, arc()) is None


def test_few_or_unknown_poses_are_refused() -> None:
    world = arc()
    world[3:] = np.nan  # the model did not pose them
    assert "3 keyframes" in refusal(arc(), world)


def test_slipping_odometry_is_refused() -> None:
    assert "disagree" in refusal(noisy(arc(), 0.6, 0.0, np.random.default_rng(1)), arc())


def test_a_mirrored_mount_is_named() -> None:
    sensors = Sensors(IntakeConfig())
    sensors.rig = Rig(body_from_camera=np.diag([1.0, 1.0, -1.0, 1.0]))
    assert "mirrored" in refusal(arc(), arc(), sensors)


def test_only_the_side_after_a_jump_counts() -> None:
    truth = arc(12)
    jumped = truth.copy()
    jumped[5:, :3, 3] += [1.0, 0.0, 0.0]
    sensors = fed(jumped, [i * SECOND // 10 for i in range(12)])
    assert sensors.poses.jumps == 1
    observer = PoseObserver(CONFIG, sensors)
    seen = observer.observe(placed(jumped, Sim3(0.5, np.eye(3), np.zeros(3)).apply_pose(truth), SECOND // 10))
    assert seen is not None and seen.usable and "jumped: only the newest 7 of 12" in seen.reason
    assert seen.log_scale == pytest.approx(np.log(2), abs=1e-6)
    few = observer.observe(PlacedWindow(placed(jumped, truth, SECOND // 10).keyframes[:7]))
    assert few is not None and not few.usable and "jumped" in few.reason


def test_odometry_that_restarts_at_zero_is_a_jump() -> None:
    """A driver restarted after 3 m: its poses begin at the identity again, stamps go on."""
    truth = arc(20, step=0.3)
    restarted = truth.copy()
    restarted[12:] = np.linalg.inv(truth[12]) @ truth[12:]
    sensors = fed(restarted, [i * SECOND // 10 for i in range(20)])
    assert sensors.poses.jumps == 1
    seen = PoseObserver(CONFIG, sensors).observe(placed(restarted, truth, SECOND // 10))
    assert seen is not None and seen.usable and "newest 8 of 20" in seen.reason
    assert seen.log_scale == pytest.approx(0.0, abs=1e-6)


def test_covariances_of_zero_change_nothing() -> None:
    stamps = [i * SECOND // 10 for i in range(8)]
    window = placed(arc(), arc(), SECOND // 10)
    with_zeros = PoseObserver(CONFIG, fed(arc(), stamps, np.zeros((6, 6)))).observe(window)
    without = PoseObserver(CONFIG, fed(arc(), stamps)).observe(window)
    assert with_zeros is not None and without is not None
    assert dataclasses.asdict(with_zeros) == dataclasses.asdict(without)
