"""The IMU observer against simulated IMUs with exact truth: scale, gravity, rotations, and when it must be silent."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import InertialConfig, IntakeConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.gravity import GravityEstimate, level
from spatial_fm_ros.core.metric.inertial import InertialObserver
from spatial_fm_ros.core.metric.inertial_start import State
from spatial_fm_ros.core.metric.inertial_window import _linearised, _move
from spatial_fm_ros.core.metric.observers import PlacedWindow
from spatial_fm_ros.core.metric.preintegration import imu_track, preintegrate, reaches
from spatial_fm_ros.core.types import Camera, ImuSample, PosedKeyframe, Rig
from spatial_fm_ros.simulation.inertial import ImuModel
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

SIZE, OVERLAP = 8, 3
EXACT = ImuModel(0.0, 0.0, 0.0, 0.0)


def simulator(name: str, seed: int = 0, **changes) -> Simulator:
    scenario = get_scenario(name, seed=seed, camera_hz=0.0, lidar_hz=0.0, **{"duration_s": 20.0, **changes})
    return Simulator(scenario)


def sensors_of(sim: Simulator, rig: Rig | None = None, change=lambda sample: sample) -> Sensors:
    sensors = Sensors(IntakeConfig())
    sensors.rig = rig or sim.rig
    for sample in sim.imu:
        sensors.add_imu(change(sample))
    return sensors


class Windows:
    """Windows of a camera in a world turned by `turn` with `units` per metre; poses with noise."""

    def __init__(self, sim: Simulator, seed: int, gap_s: float, rotation=0.002, position=0.003) -> None:
        self.sim, self.rng = sim, np.random.default_rng(seed)
        self.rotation, self.position = rotation, position
        self.turn = Rotation.random(random_state=self.rng).as_matrix()
        self.units = float(np.exp(self.rng.uniform(-1, 1)))
        self.times = np.arange(1.0, sim.scenario.duration_s - 1.0, gap_s)

    def __iter__(self):
        for start in range(0, len(self.times) - SIZE, SIZE - OVERLAP):
            yield self.window(self.times[start : start + SIZE])

    def window(self, times) -> PlacedWindow:
        stamps = [self.sim.scenario.start_ns + int(t * 1e9) for t in times]
        truth = np.stack([self.sim.truth.world_from_camera(s) for s in stamps])
        poses = np.tile(np.eye(4), (len(stamps), 1, 1))
        wobble = Rotation.from_rotvec(self.rng.normal(0, self.rotation, (len(stamps), 3))).as_matrix()
        poses[:, :3, :3] = self.turn @ truth[:, :3, :3] @ wobble
        poses[:, :3, 3] = self.units * truth[:, :3, 3] @ self.turn.T
        extent = np.linalg.norm(np.ptp(poses[:, :3, 3], axis=0))
        poses[:, :3, 3] += self.rng.normal(0, max(self.position * extent, 0.003 * self.units), (len(stamps), 3))
        depth = np.full((4, 4), 3.0 * self.units, np.float32)
        camera, image = Camera(4, 4, np.eye(3)), np.zeros((4, 4, 3), np.uint8)
        ones = np.ones((4, 4), np.float32)
        return PlacedWindow(
            tuple(
                PosedKeyframe(i, stamp, "c", pose, camera, depth, ones, image, 0)
                for i, (stamp, pose) in enumerate(zip(stamps, poses, strict=True))
            ),
            OVERLAP,
        )


def test_preintegration_is_the_motion_between_the_stamps():
    sim = simulator("room_handheld", imu_hz=200.0, imu_model=EXACT)
    start = sim.scenario.start_ns
    stamps = [start + s for s in (1_003_000_000, 1_604_000_000, 2_401_000_000)]
    steps = preintegrate(imu_track(sim.imu), stamps)
    world_from_imu = np.stack([sim.truth.world_from_body(s) for s in stamps]) @ sim.rig.body_from_imu
    seconds = (np.array(stamps) - start) * 1e-9
    rates = np.einsum(
        "nij,nj->ni", world_from_imu[:, :3, :3],
        sim.truth.trajectory.angular_velocity(seconds) @ sim.rig.body_from_imu[:3, :3],
    )  # fmt: skip
    arm = world_from_imu[:, :3, 3] - sim.truth.trajectory.world_from_body(seconds)[:, :3, 3]
    speed = sim.truth.trajectory.velocity(seconds) + np.cross(rates, arm)
    fall, dt = np.array([0.0, 0.0, -9.81]), steps.seconds[:, None]
    back = np.swapaxes(world_from_imu[:-1, :3, :3], 1, 2)
    way = np.diff(world_from_imu[:, :3, 3], axis=0) - speed[:-1] * dt - 0.5 * fall * dt**2
    assert steps.rotation == pytest.approx(back @ world_from_imu[1:, :3, :3], abs=2e-4)
    assert steps.position == pytest.approx(np.einsum("nij,nj->ni", back, way), abs=1e-3)
    assert steps.velocity == pytest.approx(np.einsum("nij,nj->ni", back, np.diff(speed, axis=0) - fall * dt), abs=4e-3)


def test_bias_derivatives_predict_another_bias():
    track = imu_track(simulator("room_handheld").imu)
    stamps = [int(track.stamps_ns[0]) + i * 400_000_000 for i in (1, 2, 3)]
    bias = np.array([0.05, -0.03, 0.02, 0.004, -0.002, 0.003])
    here, there = preintegrate(track, stamps), preintegrate(track, stamps, bias)
    moved = np.concatenate([there.position - here.position, there.velocity - here.velocity], axis=1)
    assert moved == pytest.approx((here.by_bias @ bias)[:, 3:], abs=2e-4)
    turned = Rotation.from_matrix(np.swapaxes(here.rotation, 1, 2) @ there.rotation).as_rotvec()
    assert turned == pytest.approx((here.by_bias @ bias)[:, :3], abs=1e-5)


def test_derivatives_of_the_window_match_differences():
    sim = simulator("room_handheld")
    window = Windows(sim, 1, 0.5).window(np.arange(2.0, 5.0, 0.5))
    observer = InertialObserver(InertialConfig(), sensors_of(sim))
    keyframes, steps = observer._steps(window)
    views = _views_of(sim, keyframes)
    rng = np.random.default_rng(0)
    count = len(keyframes)

    def state() -> State:
        return State(
            views.world_from_imu.copy(), views.centres / 2.0, np.full((count, 3), 0.2), 2.0,
            np.array([1.0, 2.0, -9.5]), np.full(6, 0.01),
        )  # fmt: skip

    residual, jacobian = _linearised(state(), views, steps)
    for _ in range(10):
        step = 1e-6 * rng.normal(size=jacobian.shape[1])
        moved = state()
        _move(moved, step)
        change = _linearised(moved, views, steps)[0] - residual
        # Second-order terms of large residual rotations are left out of the derivative.
        assert change[:-7] == pytest.approx((jacobian @ step)[:-7], abs=3e-8)


def _views_of(sim, keyframes):
    from spatial_fm_ros.core.metric.inertial import _views

    return _views(keyframes, invert_pose(sim.rig.body_from_camera) @ sim.rig.body_from_imu)


@pytest.mark.parametrize(
    ("name", "gap_s", "noise", "median"),
    [("room_handheld", 0.5, 1.0, 0.04), ("room_handheld", 0.5, 3.0, 0.12), ("hall_drive", 0.7, 1.0, 0.09)],
)
def test_scale_lies_within_its_sigma(name, gap_s, noise, median):
    errors, scaled = [], []
    for seed in range(3):
        sim = simulator(name, seed, duration_s=40.0)
        windows = Windows(sim, seed, gap_s, 0.002 * noise, 0.003 * noise)
        observer = InertialObserver(InertialConfig(), sensors_of(sim))
        for window in windows:
            seen = observer.observe(window)
            if seen.usable:
                errors.append(seen.log_scale + np.log(windows.units))
                scaled.append(errors[-1] / np.hypot(seen.sigma, seen.systematic))
    assert len(errors) >= 15
    assert np.mean(np.abs(scaled) < 2) >= 0.88
    assert np.sqrt(np.mean(np.square(scaled))) > 0.5  # no larger than it need be
    assert np.median(np.abs(errors)) < median


@pytest.mark.parametrize("name", ["room_still", "tunnel_straight", "room_rotation"])
def test_without_acceleration_it_is_silent_about_scale_and_knows_gravity(name):
    for seed in range(2):
        sim = simulator(name, seed, duration_s=16.0 if name != "tunnel_straight" else 30.0)
        windows = Windows(sim, seed, 0.5)
        observer = InertialObserver(InertialConfig(), sensors_of(sim))
        for i, window in enumerate(windows):
            if name == "tunnel_straight" and i in (0, 1, 4, 5):
                continue  # speeding up and slowing down, where scale may be felt
            seen = observer.observe(window)
            assert not seen.usable and "accelerates too little" in seen.reason
            error = np.arccos(np.clip(observer.gravity.direction_in_world @ windows.turn @ [0, 0, -1.0], -1, 1))
            assert error < 3.5 * observer.gravity.sigma_rad and np.degrees(error) < 1.0


def test_gravity_while_driving_lies_within_its_sigma():
    scaled = []
    for seed in range(4):
        sim = simulator("room_drive", seed)
        windows = Windows(sim, seed, 0.6)
        observer = InertialObserver(InertialConfig(), sensors_of(sim))
        for window in windows:
            observer.observe(window)
            cosine = observer.gravity.direction_in_world @ windows.turn @ [0, 0, -1.0]
            scaled.append(np.arccos(np.clip(cosine, -1, 1)) / observer.gravity.sigma_rad)
    assert np.mean(np.array(scaled) < 2.45) > 0.9  # 95 % in two dimensions
    assert np.mean(scaled) > 0.2


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.05))
def test_levelling_brings_gravity_down_by_the_smallest_turn(direction):
    direction = np.array(direction) / np.linalg.norm(direction)
    gravity = GravityEstimate(direction, 0.01)
    turn = level(gravity)
    assert turn @ direction == pytest.approx([0, 0, -1], abs=1e-9)
    turned = Rotation.from_matrix(turn)
    assert turned.magnitude() == pytest.approx(gravity.tilt_rad, abs=1e-7)
    if gravity.tilt_rad > 1e-3:
        assert abs(turned.as_rotvec()[2]) < 1e-9


def observed(sim, rig=None, change=lambda sample: sample, windows=None):
    observer = InertialObserver(InertialConfig(), sensors_of(sim, rig, change))
    windows = windows or Windows(sim, 0, 0.5)
    return observer, observer.observe(windows.window(windows.times[4 : 4 + SIZE]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: dataclasses.replace(s, linear_acceleration=s.linear_acceleration / 9.81), "g instead of m/s^2"),
        (lambda s: dataclasses.replace(s, linear_acceleration=s.linear_acceleration - [0, 0, 9.81]), "taken out"),
        (lambda s: dataclasses.replace(s, linear_acceleration=np.full(3, np.nan)), "usable IMU samples"),
        (lambda s: dataclasses.replace(s, angular_velocity=np.degrees(s.angular_velocity)), "degrees per second"),
        (lambda s: dataclasses.replace(s, stamp_ns=s.stamp_ns + 3_600_000_000_000), "usable IMU samples"),
    ],
)
def test_a_bad_imu_is_named(change, words):
    observer, seen = observed(simulator("room_handheld"), change=change)
    assert not seen.usable and words in seen.reason
    assert observer.gravity is None


def test_a_wrong_extrinsic_is_told_from_a_wrong_window():
    sim = simulator("room_handheld")
    wrong = sim.rig.body_from_camera.copy()
    wrong[:3, :3] = wrong[:3, :3] @ Rotation.from_euler("y", 90, degrees=True).as_matrix()
    _, seen = observed(sim, dataclasses.replace(sim.rig, body_from_camera=wrong))
    assert not seen.usable
    assert 85 < float(re.search(r"in TF is wrong by about (.*) deg", seen.reason)[1]) < 95
    windows = Windows(sim, 0, 0.5)
    window = windows.window(windows.times[4 : 4 + SIZE])
    keyframes = list(window.keyframes)
    bent = keyframes[3].world_from_camera.copy()
    bent[:3, :3] = bent[:3, :3] @ Rotation.from_euler("x", 8, degrees=True).as_matrix()
    keyframes[3] = dataclasses.replace(keyframes[3], world_from_camera=bent)
    seen = InertialObserver(InertialConfig(), sensors_of(sim)).observe(PlacedWindow(tuple(keyframes), OVERLAP))
    assert not seen.usable and "the window's rotation is wrong" in seen.reason


def test_mirrored_and_missing_extrinsics_are_named():
    sim = simulator("room_handheld")
    mirrored = sim.rig.body_from_imu @ np.diag([1.0, -1.0, 1.0, 1.0])
    assert "left-handed" in observed(sim, dataclasses.replace(sim.rig, body_from_imu=mirrored))[1].reason
    assert "not known" in observed(sim, dataclasses.replace(sim.rig, body_from_imu=None))[1].reason


def test_no_imu_is_no_observer():
    sim = simulator("room_handheld", imu_hz=0.0)
    assert observed(sim)[1] is None


def test_holes_leave_the_keyframes_that_are_reached():
    sim = simulator("room_handheld")
    track = imu_track(sim.imu)
    assert reaches(track, int(track.stamps_ns[10]), int(track.stamps_ns[400]))
    holed = [s for i, s in enumerate(sim.imu) if not 200 < i < 240]
    assert not reaches(imu_track(holed), int(track.stamps_ns[10]), int(track.stamps_ns[400]))
    sensors = sensors_of(sim)
    sensors.clear()
    windows = Windows(sim, 0, 0.5)
    window = windows.window(windows.times[4 : 4 + SIZE])
    end = window.keyframes[2].stamp_ns + 100_000_000
    for sample in sim.imu:
        if sample.stamp_ns < end:
            sensors.add_imu(sample)
    seen = InertialObserver(InertialConfig(), sensors).observe(window)
    assert not seen.usable and "reaches 3 keyframes" in seen.reason
    with pytest.raises(InputError, match="usable IMU samples"):
        imu_track([ImuSample(0, np.zeros(3), np.array([0, 0, 9.81]))])


def test_rescaling_the_world_changes_the_scale_alone():
    sim = simulator("room_handheld")
    found = []
    for factor in (1.0, 7.0):
        windows = Windows(sim, 0, 0.5)
        observer = InertialObserver(InertialConfig(), sensors_of(sim))
        each = list(windows)
        observer.observe(each[0])
        observer.rescaled(factor)
        keyframes = []
        for keyframe in each[1].keyframes:
            pose = keyframe.world_from_camera.copy()
            pose[:3, 3] *= factor
            keyframes.append(dataclasses.replace(keyframe, world_from_camera=pose, depth=keyframe.depth * factor))
        found.append(observer.observe(PlacedWindow(tuple(keyframes), OVERLAP)))
    assert found[0].log_scale - found[1].log_scale == pytest.approx(np.log(7.0), abs=1e-6)
    assert found[0].sigma == pytest.approx(found[1].sigma, rel=1e-5)


def test_a_fast_imu_is_averaged_and_says_the_same():
    slow, fast = (simulator("room_handheld", imu_hz=rate, imu_model=EXACT) for rate in (100.0, 400.0))
    track = imu_track(fast.imu)
    assert len(track.stamps_ns) == pytest.approx(len(slow.imu), rel=0.01)
    stamps = [slow.scenario.start_ns + int(t * 1e9) for t in (1.0, 1.5, 2.0)]
    a, b = preintegrate(imu_track(slow.imu), stamps), preintegrate(track, stamps)
    assert a.position == pytest.approx(b.position, abs=2e-3)
    assert a.rotation == pytest.approx(b.rotation, abs=5e-4)
