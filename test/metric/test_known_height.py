"""Scale from the camera's height above ground, on simulated depth with noise and outliers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.config import IntakeConfig, ModelConfig, OracleConfig, ScaleConfig
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.gravity import GravityEstimate
from spatial_fm_ros.core.metric.ground import fit_ground
from spatial_fm_ros.core.metric.known_height import KnownHeightObserver
from spatial_fm_ros.core.metric.observers import PlacedWindow
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.types import Camera, Keyframe, PosedKeyframe, Rig, Window
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator


def simulated(name, seed=0):
    return Simulator(get_scenario(name, seed=seed, detail=0.1, distortion=()).with_size(160))


def window_of(sim, seconds, units, seed=0):
    """A window of the oracle (5 % noise, 10 % outliers) in a world of `units` per metre, not levelled."""
    options = OracleConfig(noise=0.05, outliers=0.1, random_gauge=False, seed=seed)
    model = OracleModel(ModelConfig(name="oracle", oracle=options), sim.truth)
    camera = sim.scenario.camera()
    blank = np.zeros((camera.height, camera.width, 3), np.uint8)
    stamps = [sim.scenario.start_ns + int(t * 1e9) for t in seconds]
    window = Window(seed, tuple(Keyframe(i, s, blank, camera, "c", 0.0, "") for i, s in enumerate(stamps)), 0)
    prediction = model.infer(window)
    turn = Sim3(units, np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]), np.ones(3))
    return PlacedWindow(
        tuple(
            PosedKeyframe(
                i, stamps[i], "c", turn.apply_pose(prediction.world_from_camera[i]),
                Camera(camera.width, camera.height, prediction.K[i]),
                (prediction.depth[i] * units).astype(np.float32), prediction.confidence[i], blank, 0,
            )
            for i in range(len(stamps))
        )
    )  # fmt: skip


def observer(height, rig=None, gravity=None):
    sensors = Sensors(IntakeConfig())
    sensors.rig = rig or Rig()
    return KnownHeightObserver(ScaleConfig(camera_height_m=height), sensors, lambda: gravity)


@pytest.mark.parametrize(("name", "height"), [("room_drive", 0.55), ("corridor_loop", 0.55), ("street_drive", 1.3)])
@pytest.mark.parametrize("knowing", ["rig", "gravity", "nothing"])
def test_scale_lies_within_its_sigma(name, height, knowing):
    errors, scaled = [], []
    for seed in range(2):
        sim = simulated(name, seed)
        for start in (6.0, 19.0):
            units = float(np.exp(np.random.default_rng([seed, int(start)]).uniform(-2, 2)))
            # Gravity in the turned world: -z of the simulated one.
            gravity = GravityEstimate(np.array([0.0, -1.0, 0.0]), 0.01) if knowing == "gravity" else None
            watch = observer(height, sim.rig if knowing == "rig" else None, gravity)
            seen = watch.observe(window_of(sim, start + 0.7 * np.arange(4), units, seed))
            assert seen.usable, seen.reason
            errors.append(seen.log_scale + np.log(units))
            scaled.append(errors[-1] / np.hypot(seen.sigma, seen.systematic))
    assert np.median(np.abs(errors)) < 0.03
    assert np.mean(np.abs(scaled) < 2) >= 0.75 and np.abs(scaled).max() < 3.5


def test_no_known_height_is_no_observer():
    assert observer(0.0).observe(window_of(simulated("room_still"), [1.0], 1.0)) is None


def test_no_ground_in_sight_is_said():
    sim = simulated("room_still")
    window = window_of(sim, [1.0, 2.0], 1.0)
    for keyframe in window.keyframes:
        keyframe.depth[keyframe.depth.shape[0] // 2 :] = np.nan  # everything below the horizon
    seen = observer(0.55, sim.rig).observe(window)
    assert not seen.usable and "0 of 2 keyframes" in seen.reason


def test_unconfident_depth_does_not_count():
    sim = simulated("room_still")
    window = window_of(sim, [1.0, 2.0], 1.0)
    for keyframe in window.keyframes:
        keyframe.confidence[:] = 0.2
    assert not observer(0.55, sim.rig).observe(window).usable


def scene(rng, height, up, table_share):
    """Points on a plane below the camera, a level table top half as far below, and things above the ground."""
    side = np.linalg.svd(up[None])[2][1:]
    ground = -height * up + (rng.uniform(-6, 6, (900, 2)) * height) @ side
    table = -0.5 * height * up + (rng.uniform(1, 2, (int(900 * table_share), 2)) * height) @ side
    things = rng.normal(0, height, (200, 3))
    things = things[things @ up > -0.9 * height]
    points = np.concatenate([ground, table, things])
    return points * np.exp(rng.normal(0, 0.03, (len(points), 1)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100.0), st.floats(0.0, 8.0), st.floats(0.0, 0.9))
def test_the_ground_is_found_below_a_table(seed, height, tilt_deg, table_share):
    rng = np.random.default_rng(seed)
    assumed = np.array([0.0, -1.0, 0.0])
    tilt = np.radians(tilt_deg)
    up = np.array([np.sin(tilt), -np.cos(tilt), 0.0])
    ground = fit_ground(scene(rng, height, up, table_share), assumed, np.radians(12), rng)
    assert ground is not None
    assert ground.height == pytest.approx(height, rel=0.04)
    assert ground.up @ up > np.cos(np.radians(2.5))


def test_a_wall_is_no_ground():
    rng = np.random.default_rng(0)
    wall = np.column_stack([rng.uniform(-3, 3, 800), rng.uniform(0, 2, 800), np.full(800, 3.0)])
    assert fit_ground(wall, np.array([0.0, -1.0, 0.0]), np.radians(12), rng) is None
