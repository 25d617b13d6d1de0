"""The model's own metres as an observer."""

import numpy as np
import pytest

from spatial_fm_ros.core.config import IntakeConfig, ModelConfig, OracleConfig, ScaleConfig
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.metric_model import MetricModelObserver
from spatial_fm_ros.core.metric.observers import PlacedWindow
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.types import Keyframe, Window
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

OBSERVER = MetricModelObserver(ScaleConfig(model_sigma=0.07, model_systematic=0.12), Sensors(IntakeConfig()))


@pytest.mark.parametrize("units", [0.01, 1.0, 25.0])
def test_metres_per_world_unit_are_the_inverse_of_the_placing(units):
    seen = OBSERVER.observe(PlacedWindow((), 0, units, metric_gauge=True))
    assert seen.usable and seen.log_scale == pytest.approx(-np.log(units))
    assert (seen.sigma, seen.systematic) == (0.07, 0.12)


def test_a_model_without_metres_is_no_observer():
    assert OBSERVER.observe(PlacedWindow((), 0, 2.0, metric_gauge=False)) is None


@pytest.mark.parametrize("units", [0.0, -1.0, float("nan"), float("inf")])
def test_a_window_without_size_is_refused(units):
    seen = OBSERVER.observe(PlacedWindow((), 0, units, metric_gauge=True))
    assert not seen.usable and "no size" in seen.reason


def test_a_metric_model_gives_true_metres():
    """The oracle without its random gauge: distances of its gauge are metres of the truth."""
    sim = Simulator(get_scenario("room_still", detail=0.1, distortion=()).with_size(64))
    model = OracleModel(ModelConfig(name="oracle", oracle=OracleConfig(random_gauge=False)), sim.truth)
    stamp = sim.scenario.start_ns + 1_000_000_000
    camera = sim.scenario.camera()
    blank = np.zeros((camera.height, camera.width, 3), np.uint8)
    prediction = model.infer(Window(0, (Keyframe(0, stamp, blank, camera, "c", 0.0, ""),), 0))
    placed = PlacedWindow((), 0, 4.0, prediction.metric)  # the world has 4 units in a metre
    world_depth = 4.0 * prediction.depth[0]
    metres = np.exp(OBSERVER.observe(placed).log_scale) * world_depth
    assert np.nanmax(np.abs(metres - sim.truth.depth(stamp, camera))) < 1e-4
