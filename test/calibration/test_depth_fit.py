"""The LiDAR's mounting by depth: evidence of windows added up, an error that each of them sees in part only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.calibration.depth_fit import MOST_WINDOWS, DepthFit
from spatial_fm_ros.core.calibration.turn_fit import MIN_WINDOWS
from spatial_fm_ros.core.calibration.verdict import LARGEST_BY_DEPTH, wanted_turn
from spatial_fm_ros.core.config import CalibrationConfig, LidarScaleConfig
from spatial_fm_ros.core.config_files import load_config
from spatial_fm_ros.core.metric.extrinsic_slack import ExtrinsicEvidence, evidence, explained
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Frame
from spatial_fm_ros.simulation.faults import FaultInjector, FaultPlan
from spatial_fm_ros.simulation.lidar import LidarModel
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

CONFIG = CalibrationConfig(refine=True)
SIGMA = np.array([0.02, 0.02, 0.02, 0.008, 0.008, 0.008])  # of one window: metres, radians


def window(rng, error, seen=1.0, sigma=SIGMA):
    """Evidence of a window that is off by `error` [6], of which depth shows the share `seen`."""
    mix = np.linalg.qr(rng.standard_normal((6, 6)))[0] * 0.2 + np.eye(6)
    information = mix.T @ np.diag(sigma**-2.0) @ mix
    noise = np.linalg.cholesky(np.linalg.inv(information)) @ rng.standard_normal(6)
    return ExtrinsicEvidence(information, information @ (seen * error + noise), 0.015)


def test_the_evidence_is_what_the_scale_observer_solves():
    rng = np.random.default_rng(0)
    changes, weights = rng.standard_normal((6, 400)), rng.random(400)
    ratios = 0.3 + 0.01 * changes[3] + 0.02 * rng.standard_normal(400)
    options = LidarScaleConfig(extrinsic_sigma_deg=0.7, extrinsic_sigma_m=0.015)
    found = evidence(ratios, weights, 0.02, changes)
    prior = np.diag(np.repeat([0.015, np.radians(0.7)], 3) ** -2.0)
    expected = explained(ratios, weights, 0.02, changes, options).correction
    assert np.linalg.solve(found.information + prior, found.pull) == pytest.approx(expected)
    nothing = evidence(ratios, np.zeros(400), 0.02, changes)
    assert not nothing.information.any() and not nothing.pull.any()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), turn=st.tuples(*[st.floats(-0.05, 0.05)] * 3))
def test_what_windows_see_in_part_is_corrected_whole(seed, turn):
    """Each window is taken under the correction so far; those from before it are forgotten."""
    rng = np.random.default_rng(seed)
    fit, applied = DepthFit(), np.zeros(3)
    for _ in range(4 * MOST_WINDOWS):
        fit.add(window(rng, np.concatenate([np.zeros(3), np.array(turn) - applied]), seen=0.6), applied)
        found = fit.estimate()
        if found is not None:
            applied = found.rotation
    assert (np.abs(found.rotation - turn) < 3 * found.sigma).all()


def test_stated_deviations_hold_with_what_all_windows_have_in_common():
    far = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        turn, fit = rng.uniform(-0.03, 0.03, 3), DepthFit()
        common = SIGMA * rng.standard_normal(6)  # the network bends depth alike in all windows
        for _ in range(10):
            fit.add(window(rng, np.concatenate([np.zeros(3), turn]) + common), np.zeros(3))
        found = fit.estimate()
        far.append((found.rotation - turn) / found.sigma)
    assert (np.abs(far) < 2.0).mean() > 0.9


def test_few_windows_and_unseen_axes_say_nothing():
    rng = np.random.default_rng(1)
    fit = DepthFit()
    sigma = SIGMA * np.array([1, 1, 1, 1, 1, 1e3])
    for count in range(1, MIN_WINDOWS + 3):
        part = window(rng, np.array([0, 0, 0, 0.04, 0, 0.04]), sigma=sigma)
        scaled = np.diag(sigma**-2.0)
        fit.add(ExtrinsicEvidence(scaled, scaled @ np.array([0, 0, 0, 0.04, 0, 0.04]), part.error), np.zeros(3))
        assert (fit.estimate() is None) == (count < MIN_WINDOWS)
    found = fit.estimate()
    assert np.degrees(found.sigma[2]) > 4.0 and abs(found.rotation[2]) < 0.005
    wanted = wanted_turn(found, CONFIG, LARGEST_BY_DEPTH)
    assert wanted.significant and wanted.value == pytest.approx([0.04, 0.0, 0.0], abs=2e-3)


def test_a_turned_lidar_is_corrected_while_mapping():
    scenario = get_scenario(
        "street_drive", seed=1, duration_s=11.0, camera_hz=5.0, detail=0.2, lidar_hz=5.0, imu_hz=0.0, odometry_hz=0.0,
        lidar_model=LidarModel(rings=32, columns=512),
    )  # fmt: skip
    sim = Simulator(scenario.with_size(128))
    injector = FaultInjector(FaultPlan(extrinsic_error_deg=2.0, seed=1))
    config = load_config(overrides={
        "model.name": "oracle", "intake.max_interval_s": "0.2", "calibration.refine": "true", "map.stride": "4",
        "model.oracle.noise": "0.03", "scale.ignore": "lidar_registration",
    })  # fmt: skip
    pipeline = Pipeline(config, OracleModel(config.model, sim.truth))
    pipeline.load()
    pipeline.set_rig(injector.rig(sim.rig))
    for event in injector.apply(sim.events(0)):
        if isinstance(event.sample, Frame):
            pipeline.add_frame(event.sample)
        else:
            pipeline.add_scan(event.sample)
    before, after = (left_deg(rig, sim) for rig in (pipeline.sensors.told_rig, pipeline.sensors.rig))
    assert before > 2.0 and after < 0.6 * before
    (state,) = pipeline.corrections
    assert state.sensor == "lidar" and not np.isfinite(state.estimate.offset_sigma_s) and not state.applied_offset_s
    true = Rotation.from_matrix(mounting(pipeline.sensors.told_rig) @ mounting(sim.rig).T).as_rotvec()
    assert (np.abs(state.estimate.rotation - true) < 3 * state.estimate.sigma).all()


def mounting(rig):
    """Rotation camera_from_lidar [3, 3]."""
    return rig.body_from_camera[:3, :3].T @ rig.body_from_lidar[:3, :3]


def left_deg(rig, sim):
    return np.degrees(Rotation.from_matrix(mounting(rig).T @ mounting(sim.rig)).magnitude())
