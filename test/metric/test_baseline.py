"""Scale from the distances between the cameras of a rig, on poses with known errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import IntakeConfig, ScaleConfig
from spatial_fm_ros.core.geometry.rotations import pose_from
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.baseline import BaselineObserver
from spatial_fm_ros.core.metric.observers import PlacedWindow
from spatial_fm_ros.core.types import Camera, CompanionPose, PosedKeyframe, Rig

RIGHT = pose_from(np.eye(3), np.array([0.12, 0.0, 0.0]))
#: A second companion, above and turned.
ABOVE = pose_from(Rotation.from_rotvec([0.3, 0.2, 0.0]).as_matrix(), np.array([0.05, -0.4, 0.1]))
CAMERA = Camera(8, 6, np.array([[8.0, 0, 3.5], [0, 8.0, 2.5], [0, 0, 1]]))
SECOND = 10**9


def observer(**companions):
    sensors = Sensors(IntakeConfig())
    sensors.rig = Rig(companions=companions or {"right": RIGHT})
    return BaselineObserver(ScaleConfig(), sensors)


def walk(rng, count, speed):
    """Metric camera poses one second apart."""
    turns = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.1, (count, 3)), axis=0)).as_matrix()
    places = np.cumsum(rng.normal(0, 1, (count, 3)) * speed / np.sqrt(3), axis=0)
    return pose_from(turns, places)


def window_of(poses, mounts, units=1.0, noise=0.0, rng=None, late_ns=0):
    """A window in a turned world of `units` per metre about its first camera, places off by `noise` metres each."""
    rng = rng or np.random.default_rng(0)
    gauge = Sim3(units, Rotation.from_rotvec([0.3, -2.0, 0.7]).as_matrix(), np.zeros(3))

    def placed(pose):
        wrong = pose.copy()
        wrong[:3, 3] += noise * rng.standard_normal(3)
        return gauge.apply_pose(wrong)

    depth = np.full((6, 8), 3.0 * units, np.float32)
    keyframes = tuple(
        PosedKeyframe(
            i, i * SECOND, "left", placed(pose), CAMERA, depth, np.ones_like(depth),
            np.zeros((6, 8, 3), np.uint8), 0,
        )
        for i, pose in enumerate(poses)
    )  # fmt: skip
    companions = tuple(
        CompanionPose(i, i * SECOND + late_ns, name, placed(pose @ mount))
        for i, pose in enumerate(poses)
        for name, mount in mounts.items()
    )
    return PlacedWindow(keyframes, companions=companions)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(-3.0, 3.0), st.integers(1, 8), st.floats(0.0, 2.0))
def test_exact_cameras_give_the_exact_scale(seed, log_units, count, speed):
    rng = np.random.default_rng(seed)
    mounts = {"right": RIGHT, "above": ABOVE}
    seen = observer(**mounts).observe(window_of(walk(rng, count, speed), mounts, np.exp(log_units)))
    assert seen.usable, seen.reason
    assert seen.log_scale == pytest.approx(-log_units, abs=1e-9)
    assert seen.systematic == ScaleConfig().baseline_sigma
    assert seen.figures["companions"] == 2 * count


@pytest.mark.parametrize("noise_m", [0.002, 0.006, 0.02])
def test_noise_lies_within_its_sigma_and_does_not_lengthen(noise_m):
    rng = np.random.default_rng(5)
    scaled, errors = [], []
    for _ in range(300):
        seen = observer().observe(window_of(walk(rng, 5, 0.5), {"right": RIGHT}, 2.0, noise_m, rng))
        assert seen.usable, seen.reason
        errors.append(seen.log_scale + np.log(2.0))
        scaled.append(errors[-1] / seen.sigma)
    assert 0.92 <= np.mean(np.abs(scaled) < 2) <= 0.999
    spread = np.std(errors)
    assert abs(np.mean(np.exp(-np.array(errors)))) == pytest.approx(1.0, abs=4 * spread / np.sqrt(300))


def test_one_wrong_companion_does_not_count():
    window = window_of(walk(np.random.default_rng(1), 5, 0.5), {"right": RIGHT}, 1.0, 0.001)
    wrong = window.companions[2].world_from_camera.copy()
    wrong[:3, 3] += 0.5
    companions = tuple(
        CompanionPose(c.of, c.stamp_ns, c.frame_id, wrong if i == 2 else c.world_from_camera)
        for i, c in enumerate(window.companions)
    )
    seen = observer().observe(PlacedWindow(window.keyframes, companions=companions))
    assert seen.usable and abs(seen.log_scale) < 0.02


def test_images_taken_a_little_apart_are_brought_together():
    """A rig at 1 m/s, its second camera 10 ms late: 1 cm of 12, if it were not known."""
    poses = pose_from(np.tile(np.eye(3), (5, 1, 1)), np.arange(5)[:, None] * np.array([1.0, 0.0, 0.2]))
    late = pose_from(np.eye(3), np.array([0.01, 0.0, 0.002])) @ RIGHT
    seen = observer().observe(window_of(poses, {"right": late}, 3.0, late_ns=10_000_000))
    assert seen.log_scale == pytest.approx(-np.log(3.0), abs=1e-6)


def test_a_rig_that_stands_says_the_same_again_with_less_weight():
    still = np.tile(np.eye(4), (4, 1, 1))
    watch = observer()
    sigmas = [watch.observe(window_of(still, {"right": RIGHT}, 1.0, 0.001)).sigma for _ in range(20)]
    assert sigmas[0] < sigmas[1] < sigmas[3] and sigmas[-1] == pytest.approx(8.0 * sigmas[0], rel=0.3)
    # However often it looks, it does not know its scale much better than after the first look.
    assert np.sum(np.square(1 / np.array(sigmas))) < 3.0 / sigmas[0] ** 2
    moved = still.copy()
    moved[:, 0, 3] = 0.5
    assert watch.observe(window_of(moved, {"right": RIGHT}, 1.0, 0.001)).sigma == pytest.approx(sigmas[0], rel=0.5)
    watch.rescaled(10.0)
    assert watch.observe(window_of(moved, {"right": RIGHT}, 10.0, 0.001)).sigma > 1.2 * sigmas[0]
    watch.reset()
    assert watch.observe(window_of(moved, {"right": RIGHT}, 10.0, 0.001)).sigma == pytest.approx(sigmas[0], rel=0.5)


@pytest.mark.parametrize("sigma_deg", [0.01, 0.1, 1.0])
def test_a_known_orientation_takes_the_tilt_of_a_standing_pair_away(sigma_deg):
    """A pair whose turn the images mistake by 0.06 deg shows a wall at 3 m 2.6 % too far away; the noise is all of this
    kind."""
    rng = np.random.default_rng(6)
    scaled, errors = [], []
    for _ in range(60):
        seen_turn, told_turn = rng.normal(0, np.radians(0.05), 3), rng.normal(0, np.radians(sigma_deg), 3)
        wrong = RIGHT.copy()
        wrong[:3, :3] = Rotation.from_rotvec(seen_turn).as_matrix()
        wrong[0, 3] -= 3.0 * seen_turn[1]  # what keeps the disparity at 3 m
        told = RIGHT.copy()
        told[:3, :3] = Rotation.from_rotvec(told_turn).as_matrix()
        watch = observer(right=told)
        watch.config = ScaleConfig(baseline_turn_sigma_deg=sigma_deg)
        seen = watch.observe(window_of(np.tile(np.eye(4), (4, 1, 1)), {"right": wrong}, 1.0, 1e-4, rng))
        errors.append(seen.log_scale)
        scaled.append(errors[-1] / seen.sigma)
    assert np.std(errors) == pytest.approx({0.01: 0.005, 0.1: 0.02, 1.0: 0.022}[sigma_deg], rel=0.3)
    assert np.mean(np.abs(scaled) < 2) >= 0.85


def test_motion_of_the_rig_makes_it_more_certain_than_standing():
    rng = np.random.default_rng(3)
    standing = observer().observe(window_of(walk(rng, 5, 0.0), {"right": RIGHT}, 1.0, 0.001, rng))
    driving = observer().observe(window_of(walk(rng, 5, 1.0), {"right": RIGHT}, 1.0, 0.001, rng))
    assert standing.sigma > 2 * driving.sigma


@pytest.mark.parametrize(
    ("told", "seen", "words"),
    [
        (np.linalg.inv(RIGHT), RIGHT, "cameras swapped"),
        (RIGHT, pose_from(np.eye(3), np.array([0.0, 0.12, 0.0])), "off the direction in which TF has it"),
        (RIGHT, pose_from(Rotation.from_rotvec([0.0, 0.3, 0.0]).as_matrix(), RIGHT[:3, 3]), "turned by 17 deg"),
    ],
)
def test_a_wrong_rig_is_said_and_gives_no_scale(told, seen, words):
    watch = observer()
    watch.sensors.rig = Rig(companions={"right": told})
    rng = np.random.default_rng(2)
    found = watch.observe(window_of(walk(rng, 4, 0.5), {"right": seen}, 1.0, 1e-4, rng))
    assert not found.usable and words in found.reason


def test_a_baseline_lost_in_noise_is_said():
    rng = np.random.default_rng(4)
    reasons = [observer().observe(window_of(walk(rng, 4, 1.0), {"right": RIGHT}, 1.0, 0.3, rng)) for _ in range(10)]
    assert not any(found.usable for found in reasons)
    assert any("lost in the noise" in found.reason for found in reasons)


def test_a_single_camera_is_no_observer():
    assert observer().observe(window_of(walk(np.random.default_rng(0), 3, 1.0), {})) is None
