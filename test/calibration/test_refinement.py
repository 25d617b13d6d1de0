"""Calibration refined while mapping: faults of the simulator found, bounds kept, nothing done where all is right."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.calibration.estimate import Estimate, SensorCorrection
from spatial_fm_ros.core.calibration.matched_turns import MOST_TURNS, MatchedTurns, TurnSet, WindowTurns, offset_nodes
from spatial_fm_ros.core.calibration.told import as_data, in_words, sentences
from spatial_fm_ros.core.calibration.turn_fit import fit_turns
from spatial_fm_ros.core.calibration.verdict import (
    LARGEST_ANGLE_SIGMA,
    PERSISTENCE,
    STEP_RAD,
    Applied,
    wanted_offset,
)
from spatial_fm_ros.core.calibration.verdict import wanted_turn as wanted_turn_by
from spatial_fm_ros.core.config import CalibrationConfig, IntakeConfig
from spatial_fm_ros.core.config_files import load_config
from spatial_fm_ros.core.intake.sensors import Correction, Sensors, corrected_rig
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import ImuSample, LidarScan, PoseSample, Rig
from spatial_fm_ros.simulation.faults import FaultInjector, FaultPlan
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

CONFIG = CalibrationConfig(refine=True)


def wanted_turn(found, config):
    return wanted_turn_by(found, config, LARGEST_ANGLE_SIGMA)


NODES = offset_nodes(CONFIG.max_time_offset_s)


def turn_set(rng, windows=30, size=5, axes=(1.0, 1.0, 1.0), offset=0.0, turn=(0.0, 0.0, 0.0), white=0.0, walk=0.0):
    """Turns of a swaying camera and of a sensor with the same axes, which errs in every keyframe and by a walk."""
    seconds = 0.4 * (windows * size + 1) + 1.0
    knots = np.arange(0.0, seconds + 2.0, 0.5)
    sway = CubicSpline(knots, np.cumsum(0.2 * rng.standard_normal((len(knots), 3)), axis=0) * axes)
    stamps = 0.5 + 0.4 * np.arange(windows * size + 1)
    true = Rotation.from_rotvec(np.asarray(turn))

    def body(at):
        return Rotation.from_rotvec(sway(at))

    first, second = body(stamps[:-1]) * true, body(stamps[1:]) * true
    seen = (first.inv() * second).as_rotvec()
    noise = white * rng.standard_normal((len(stamps), 3))
    seen = seen + np.diff(noise, axis=0) + walk * rng.standard_normal(seen.shape)
    felt = [(body(stamps[:-1] + n - offset).inv() * body(stamps[1:] + n - offset)).as_rotvec() for n in NODES]
    return TurnSet(seen, np.stack(felt, axis=1), np.diff(stamps), np.repeat(np.arange(windows), size))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    offset=st.floats(-0.05, 0.05),
    turn=st.tuples(*[st.floats(-0.05, 0.05)] * 3),
)
def test_clock_and_mounting_are_found(seed, offset, turn):
    turns = turn_set(np.random.default_rng(seed), offset=offset, turn=turn, white=0.002, walk=0.001)
    found = fit_turns(turns, NODES, np.eye(3), has_bias=False)
    assert abs(found.offset_s - offset) < 4 * found.offset_sigma_s
    assert (np.abs(found.rotation - turn) < 4 * found.sigma).all()
    assert found.offset_sigma_s < 0.004 and np.degrees(found.sigma).max() < 0.4


@pytest.mark.parametrize(("white", "walk"), [(0.005, 0.0), (0.0, 0.005), (0.004, 0.003)])
def test_stated_deviations_hold(white, walk):
    """However the errors of neighbouring keyframes belong together."""
    far = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        offset, turn = rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04, 3)
        turns = turn_set(rng, windows=12, offset=offset, turn=turn, white=white, walk=walk)
        found = fit_turns(turns, NODES, np.eye(3), has_bias=False)
        far.append([(found.offset_s - offset) / found.offset_sigma_s, *((found.rotation - turn) / found.sigma)])
    within = (np.abs(far) < 2.0).mean(axis=0)
    assert (within > 0.9).all(), within


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), turn=st.tuples(*[st.floats(-0.04, 0.04)] * 3))
def test_an_axis_that_is_not_seen_stays_as_told(seed, turn):
    """A robot on a floor turns about the camera's y: the mounting about it is anybody's guess."""
    turns = turn_set(np.random.default_rng(seed), axes=(0.0, 1.0, 0.0), turn=turn, white=0.002)
    found = fit_turns(turns, NODES, np.eye(3), has_bias=False)
    assert np.degrees(found.sigma[1]) > 3.0 and np.degrees(found.sigma[[0, 2]]).max() < 0.5
    assert abs(np.degrees(wanted_turn(found, CONFIG).value[1])) < 0.2  # the axis is not quite that of the camera


def test_wrong_windows_do_not_count():
    rng = np.random.default_rng(2)
    turns = turn_set(rng, offset=0.02, turn=(0.02, -0.01, 0.03), white=0.002)
    wrong = turns.seen.copy()
    wrong[rng.random(len(wrong)) < 0.15] += 0.2
    found = fit_turns(dataclasses.replace(turns, seen=wrong), NODES, np.eye(3), has_bias=False)
    assert abs(found.offset_s - 0.02) < 2 * found.offset_sigma_s
    assert (np.abs(found.rotation - (0.02, -0.01, 0.03)) < 2 * found.sigma).all()


def test_nothing_is_said_of_too_little_or_of_a_stranger():
    rng = np.random.default_rng(3)
    turns = turn_set(rng, windows=4)
    assert fit_turns(turns, NODES, np.eye(3), has_bias=False) is None
    still = turn_set(rng, axes=(0.0, 0.0, 0.0), white=1e-4)
    assert fit_turns(still, NODES, np.eye(3), has_bias=False) is None
    own, other = turn_set(rng), turn_set(rng)
    found = fit_turns(dataclasses.replace(own, felt=other.felt), NODES, np.eye(3), has_bias=False)
    assert found is None or not (wanted_turn(found, CONFIG).significant or wanted_offset(found, CONFIG).significant)


def estimate(degrees, offset_s=0.0, sigma_deg=0.15, offset_sigma_s=0.001):
    return Estimate(offset_s, offset_sigma_s, np.radians(degrees), np.radians(sigma_deg) ** 2 * np.eye(3))


def test_a_correction_begins_late_and_moves_in_steps():
    applied = Applied(3, STEP_RAD)
    for _ in range(PERSISTENCE - 1):
        applied.follow(wanted_turn(estimate([2.0, 0.0, 0.0]), CONFIG))
        assert not applied.value.any()
    before = applied.value
    for _ in range(6):
        applied.follow(wanted_turn(estimate([2.0, 0.0, 0.0]), CONFIG))
        assert np.linalg.norm(applied.value - before) <= STEP_RAD + 1e-12
        before = applied.value
    assert np.degrees(applied.value) == pytest.approx([2.0, 0.0, 0.0])
    applied.follow(wanted_turn(estimate([9.0, 0.0, 0.0], sigma_deg=2.0), CONFIG))  # suddenly nothing is known
    assert np.degrees(applied.value) == pytest.approx([2.0, 0.0, 0.0])


@pytest.mark.parametrize("degrees", [[0.3, 0.2, 0.0], [0.0, 0.0, 0.44]])
def test_what_may_be_chance_is_left_alone(degrees):
    wanted = wanted_turn(estimate(degrees), CONFIG)
    assert wanted.seen and not wanted.significant
    assert not wanted_offset(estimate([0.0] * 3, offset_s=0.0029), CONFIG).significant
    assert not wanted_offset(estimate([0.0] * 3, offset_s=0.03, offset_sigma_s=0.005), CONFIG).seen


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(-8, 8), st.floats(0.05, 1.0)), min_size=1, max_size=30), st.floats(0.5, 5.0))
def test_no_course_of_estimates_leaves_the_bounds(course, limit):
    config = CalibrationConfig(refine=True, max_rotation_deg=limit)
    applied = Applied(3, STEP_RAD)
    for degrees, sigma in course:
        applied.follow(wanted_turn(estimate([degrees, 0.3 * degrees, 0.0], sigma_deg=sigma), config))
        assert np.degrees(np.linalg.norm(applied.value)) <= limit + 1e-9


def test_what_is_beyond_the_bounds_is_told_and_not_applied():
    rotation, offset = Applied(3, STEP_RAD), Applied(1, 0.01)
    found = estimate([7.0, 0.0, 0.0], offset_s=0.08)
    for _ in range(5):
        rotation.follow(wanted_turn(found, CONFIG))
        offset.follow(wanted_offset(found, CONFIG))
    assert rotation.beyond and offset.beyond and not rotation.value.any() and not offset.value.any()
    state = SensorCorrection("lidar", 9, found, 0.0, rotation.value, True, True)
    clock, mounting = sentences([state], CONFIG, IntakeConfig(lidar_time_offset_s=0.01))
    assert "80 +- 1 ms later" in clock and "not corrected" in clock and "intake.lidar_time_offset_s: -0.070" in clock
    assert "turned by 7.0 deg" in mounting and "max_rotation_deg (3)" in mounting and "check TF" in mounting
    assert as_data(state)["beyond_bounds"] and dict(in_words(state))["stamps corrected"] == "0.0 ms"


def test_sensors_move_stamps_and_mountings_together():
    rig = get_scenario("room_drive").rig()
    sensors = Sensors(IntakeConfig())
    sensors.rig = rig
    for k in range(3):
        pose = np.eye(4)
        pose[0, 3] = 0.02 * k
        sensors.add_pose(PoseSample(k * 20_000_000, pose))
        sensors.add_imu(ImuSample(k * 20_000_000, np.zeros(3), np.zeros(3)))
        sensors.add_scan(LidarScan(k * 20_000_000, np.zeros((1, 3), np.float32)))
    turn = np.radians([1.0, -2.0, 0.5])
    sensors.correct(Correction({"odometry": 5_000_000, "imu": -3_000_000}, {"odometry": turn}))
    assert sensors.poses.latest_ns == 35_000_000 and sensors.poses.at(15_000_000)[0, 3] == pytest.approx(0.02)
    assert sensors.imu.latest_ns == 43_000_000 and sensors.imu.between(43_000_000, 43_000_000)[0].stamp_ns == 43_000_000
    assert sensors.scans.latest_ns == 40_000_000
    sensors.add_pose(PoseSample(60_000_000, np.eye(4)))
    assert sensors.poses.latest_ns == 55_000_000
    # Camera and LiDAR stay together on the body; the camera keeps its place.
    now = sensors.rig
    assert now.body_from_camera[:3, 3] == pytest.approx(rig.body_from_camera[:3, 3])
    step = Rotation.from_matrix(rig.body_from_camera[:3, :3].T @ now.body_from_camera[:3, :3])
    assert step.as_rotvec() == pytest.approx(turn)
    for part in ("body_from_lidar", "body_from_imu"):
        told = np.linalg.inv(rig.body_from_camera) @ getattr(rig, part)
        assert np.linalg.inv(now.body_from_camera) @ getattr(now, part) == pytest.approx(told)
    sensors.correct(Correction())
    assert sensors.rig is rig and sensors.poses.latest_ns == 60_000_000


def test_a_turn_of_the_imu_moves_the_imu_alone():
    rig = get_scenario("room_drive").rig()
    turn = np.radians([0.5, 1.0, -1.5])
    now = corrected_rig(rig, Correction(turns={"imu": turn}), poses_of_lidar=False)
    assert now.body_from_camera == pytest.approx(rig.body_from_camera)
    told, corrected = (np.linalg.inv(r.body_from_camera)[:3, :3] @ r.body_from_imu[:3, :3] for r in (rig, now))
    assert Rotation.from_matrix(told @ corrected.T).as_rotvec() == pytest.approx(turn)


def test_lidar_odometry_turns_the_camera_against_the_lidar():
    rig = get_scenario("room_drive").rig()
    now = corrected_rig(rig, Correction(turns={"lidar": np.array([0.02, 0.0, 0.0])}), poses_of_lidar=True)
    assert now.body_from_lidar is rig.body_from_lidar
    step = rig.body_from_camera[:3, :3].T @ now.body_from_camera[:3, :3]
    assert Rotation.from_matrix(step).as_rotvec() == pytest.approx([0.02, 0.0, 0.0])
    assert corrected_rig(Rig(), Correction(turns={"imu": np.ones(3)}), False).body_from_imu is None


def test_memory_is_bounded_and_turns_wait_for_the_sensor():
    collected = MatchedTurns(NODES)

    def felt(stamps, shifts):
        return np.zeros((len(stamps), len(shifts), 3))

    for window in range(MOST_TURNS):
        stamps = np.array([[k, k + 1] for k in range(3)]) * 10**9 + window * 3 * 10**9
        collected.expect(WindowTurns(stamps, np.zeros((3, 3))))
        # The sensor has got to this window's newest image, and beyond the one before.
        assert collected.match(felt, int(stamps.max()), 0.0) == (window > 0)
    assert MOST_TURNS <= len(collected.all()) < MOST_TURNS + 3


def simulator(name="room_handheld", seed=0, duration_s=19.0):
    scenario = get_scenario(
        name, seed=seed, duration_s=duration_s, camera_hz=4.0, detail=0.2, lidar_hz=0.0, imu_hz=100.0, odometry_hz=50.0
    )
    return Simulator(scenario.with_size(96))


def mapped(sim, plan=None, refine=True, jump_at_s=None):
    """A pipeline after the whole run, with the plan's faults."""
    config = load_config(overrides={
        "model.name": "oracle", "intake.max_interval_s": "0.25", "calibration.refine": str(refine).lower(),
        "scale.ignore": "imu", "map.stride": "4",
    })  # fmt: skip
    injector = FaultInjector(plan or FaultPlan())
    pipeline = Pipeline(config, OracleModel(config.model, sim.truth))
    pipeline.load()
    pipeline.set_rig(injector.rig(sim.rig))
    for event in injector.apply(sim.events(0)):
        sample = event.sample
        if isinstance(sample, PoseSample) and jump_at_s and sample.stamp_ns > sim.scenario.start_ns + jump_at_s * 1e9:
            turned = np.eye(4)
            turned[:3, :3] = Rotation.from_rotvec([0.0, 0.0, 1.0]).as_matrix()
            turned[:3, 3] = (3.0, 1.0, 0.0)
            sample = dataclasses.replace(sample, odom_from_body=turned @ sample.odom_from_body)
        pipeline.add(sample)
        if pipeline.ready():
            pipeline.step()
    return pipeline


def left_deg(rig, sim, sensor):
    """Error of the rotation between camera and sensor, degrees."""
    body = {"odometry": np.eye(3), "imu": rig.body_from_imu[:3, :3]}[sensor]
    true = {"odometry": np.eye(3), "imu": sim.rig.body_from_imu[:3, :3]}[sensor]
    turn = (body.T @ rig.body_from_camera[:3, :3]).T @ true.T @ sim.rig.body_from_camera[:3, :3]
    return np.degrees(Rotation.from_matrix(turn).magnitude())


@pytest.fixture(scope="module")
def handheld():
    return simulator()


WRONG = FaultPlan(
    streams=("odometry", "imu"), drop=0.1, reorder=0.05, extrinsic_error_deg=1.5, odometry_offset_s=0.025,
    imu_offset_s=-0.02, seed=4,
)  # fmt: skip


def test_while_mapping_clocks_and_mountings_become_right(handheld):
    pipeline = mapped(handheld, WRONG, jump_at_s=7.0)
    sensors = pipeline.sensors
    assert pipeline.pose_jumps == 1
    assert sensors.correction.clock_ns("odometry") == pytest.approx(25e6, abs=2e6)
    assert sensors.correction.clock_ns("imu") == pytest.approx(-20e6, abs=2e6)
    for sensor in ("odometry", "imu"):
        assert left_deg(sensors.told_rig, handheld, sensor) == pytest.approx(1.5, abs=0.01)
        assert left_deg(sensors.rig, handheld, sensor) < 0.3
    told = sentences(pipeline.corrections, pipeline.config.calibration, pipeline.config.intake)
    assert len(told) == 4 and "intake.pose_time_offset_s: -0.02" in told[0] and "in TF is wrong" in told[1]
    pipeline.reset()
    assert sensors.rig is sensors.told_rig and not sensors.correction.clocks_ns and not pipeline.corrections


def test_a_robot_that_is_right_is_not_touched(handheld):
    """What comes out is what comes out without refinement, to the last bit."""
    refined, plain = mapped(handheld), mapped(handheld, refine=False)
    assert plain.refinement is None and not plain.corrections
    assert {state.sensor for state in refined.corrections} == {"odometry", "imu"}
    assert all(state.estimate is not None for state in refined.corrections)
    assert not sentences(refined.corrections, refined.config.calibration, refined.config.intake)
    for one, other in zip(refined.trajectories(), plain.trajectories(), strict=True):
        assert np.array_equal(one.world_from_camera, other.world_from_camera)
    assert np.array_equal(refined.map_cloud().points, plain.map_cloud().points)
    assert refined.scale == plain.scale


def test_a_robot_that_is_too_far_off_is_not_touched_and_told(handheld):
    pipeline = mapped(handheld, FaultPlan(extrinsic_error_deg=6.0, odometry_offset_s=0.08, seed=4))
    (odometry,) = [state for state in pipeline.corrections if state.sensor == "odometry"]
    assert odometry.offset_beyond and odometry.rotation_beyond
    assert pipeline.sensors.rig is pipeline.sensors.told_rig and pipeline.sensors.correction.clock_ns("odometry") == 0
    assert odometry.estimate.offset_s == pytest.approx(0.08, abs=3 * odometry.estimate.offset_sigma_s)
    assert np.degrees(np.linalg.norm(odometry.estimate.rotation)) == pytest.approx(6.0, abs=0.6)


def test_another_mounting_from_tf_is_learnt_anew(handheld):
    pipeline = mapped(handheld, WRONG)
    assert pipeline.sensors.rig is not pipeline.sensors.told_rig
    pipeline.set_rig(handheld.rig)  # somebody mended TF
    assert left_deg(pipeline.sensors.rig, handheld, "odometry") > 1.0
    assert pipeline.finish() is not None
    assert left_deg(pipeline.sensors.rig, handheld, "odometry") < 1e-6
    assert not pipeline.corrections[0].applied_rotation.any()
