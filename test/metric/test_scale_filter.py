"""The filter on the world's scale: states, contradictions between observers, honest sigma, smoothing."""

from dataclasses import replace

import numpy as np
import pytest

from spatial_fm_ros.core.config import ScaleConfig
from spatial_fm_ros.core.metric.filter import GATE, ScaleFilter
from spatial_fm_ros.core.metric.observers import ScaleObservation, unusable
from spatial_fm_ros.core.types import ScaleState

CONFIG = ScaleConfig()
DRIFT = CONFIG.drift_per_window


def observation(
    log_scale: float, sigma: float = 0.01, name: str = "poses", systematic: float = 0.0
) -> ScaleObservation:
    return ScaleObservation(name, log_scale, sigma, True, systematic=systematic)


def test_states_follow_the_evidence() -> None:
    scale = ScaleFilter(CONFIG)
    scale.update([])
    assert scale.state is ScaleState.RELATIVE and scale.sigma == np.inf
    scale.update([unusable("poses", "standing still")])
    assert scale.state is ScaleState.UNOBSERVABLE and "standing still" in scale.reason
    scale.update([observation(0.7)])
    assert scale.state is ScaleState.METRIC
    assert scale.estimate().value == pytest.approx(np.exp(0.7), rel=1e-6)
    assert scale.estimate(applied=0.7).value == pytest.approx(1.0, rel=1e-6)
    assert scale.estimate().observers == ("poses",)


def test_metric_is_held_then_lost_with_hysteresis() -> None:
    scale = ScaleFilter(CONFIG)
    scale.update([observation(0.0)])
    between = round((0.5 * (CONFIG.metric_sigma + CONFIG.lost_sigma) / CONFIG.drift_per_window) ** 2)
    for _ in range(between):
        scale.predict(DRIFT)
    scale.update([unusable("poses", "still")])
    assert scale.state is ScaleState.METRIC and scale.observers == ("poses",) and "held" in scale.reason
    for _ in range(round((CONFIG.lost_sigma / CONFIG.drift_per_window) ** 2)):
        scale.predict(DRIFT)
    scale.update([unusable("poses", "still")])
    assert scale.state is ScaleState.UNOBSERVABLE and scale.observers == ()


def test_one_contradiction_is_reported_many_restart() -> None:
    scale = ScaleFilter(CONFIG)
    for _ in range(5):
        scale.update([observation(0.0)])
    scale.update([observation(1.0)])
    assert scale.log_scale == pytest.approx(0.0) and "+172% away" in scale.rejected[0]
    for _ in range(CONFIG.conflicts_before_restart):
        scale.update([observation(1.0)])
    assert scale.log_scale == pytest.approx(1.0, abs=0.02) and scale.state is ScaleState.METRIC


def test_a_seam_that_slips_is_found_and_the_windows_after_it_are_mended() -> None:
    """The chain grows by a tenth between two windows; until three windows have said so it is not believed, and then
    the very windows that were denied get their scale, while those before keep theirs."""
    scale, slip = ScaleFilter(CONFIG), np.log(1.1)
    for window in range(12):
        scale.predict(DRIFT)
        scale.update([observation(0.2 - slip * (window >= 6), 0.003, systematic=0.005)])
        if 6 <= window < 8:
            assert scale.rejected and scale.log_scale == pytest.approx(0.2, abs=1e-6)
            assert scale.estimate().sigma > 0.9 * slip  # nobody confirms it: it may be as wrong as they say
    assert scale.estimate().sigma < 0.01 and not scale.rejected
    assert np.allclose(scale.smoothed(), np.where(np.arange(12) < 6, 0.2, 0.2 - slip), atol=1e-4)


def test_two_instruments_with_one_voice_are_believed_at_once() -> None:
    scale = ScaleFilter(CONFIG)
    for said in (0.0, 0.0, 0.0, 0.1, 0.1):
        scale.predict(DRIFT)
        lidar = replace(observation(said + 0.003, 0.004, "lidar_depth", 0.005), witness="lidar")
        scale.update([observation(said, 0.004, systematic=0.005), lidar])
        assert scale.log_scale == pytest.approx(said, abs=0.005) and not scale.rejected
        assert scale.state is ScaleState.METRIC and scale.estimate().sigma < 0.01
    assert np.allclose(scale.smoothed(), [0, 0, 0, 0.1, 0.1], atol=0.005)


def test_a_slip_is_found_behind_windows_without_metres() -> None:
    scale = ScaleFilter(CONFIG)
    for said in (0.0, 0.0, 0.0, 0.3, None, 0.3, None, 0.3, 0.3):
        scale.predict(DRIFT)
        scale.update([unusable("poses", "still") if said is None else observation(said, 0.003)])
    assert np.allclose(scale.smoothed(), [0, 0, 0, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3], atol=2e-3)


def test_two_that_disagree_are_a_conflict_not_an_average() -> None:
    scale = ScaleFilter(CONFIG)
    states = []
    for _ in range(8):
        scale.predict(DRIFT)
        scale.update([observation(0.0), observation(0.3, name="lidar")])
        states.append(scale.state)
    assert states[0] is ScaleState.METRIC and states[-1] is ScaleState.CONFLICT
    assert scale.log_scale == pytest.approx(0.0, abs=1e-3)
    assert "lidar keeps contradicting poses" in scale.reason and scale.rejected[0].startswith("lidar: +35% away")
    for _ in range(CONFIG.conflicts_before_restart - 1):
        scale.update([observation(0.0), observation(0.0, name="lidar")])
        assert scale.state is ScaleState.CONFLICT  # it does not flicker
    scale.update([observation(0.0), observation(0.0, name="lidar")])
    assert scale.state is ScaleState.METRIC


def test_the_majority_wins() -> None:
    """One against two stays rejected; two against one take over."""
    scale = ScaleFilter(CONFIG)
    for _ in range(10):
        scale.predict(DRIFT)
        scale.update([observation(0.0), observation(0.0, name="lidar"), observation(0.4, name="registration")])
    assert scale.state is ScaleState.METRIC and scale.log_scale == pytest.approx(0.0, abs=1e-3)
    scale = ScaleFilter(CONFIG)
    scale.update([observation(0.4, name="registration")])
    for _ in range(10):
        scale.predict(DRIFT)
        scale.update([observation(0.0), observation(0.0, name="lidar"), observation(0.4, name="registration")])
    assert scale.state is ScaleState.METRIC and scale.log_scale == pytest.approx(0.0, abs=1e-3)
    assert set(scale.observers) == {"poses", "lidar"}


def test_a_weak_observer_makes_no_conflict() -> None:
    scale = ScaleFilter(CONFIG)
    for _ in range(10):
        scale.predict(DRIFT)
        scale.update([observation(0.0, 0.005), observation(0.9, 0.1, "metric_model")])
    assert scale.state is ScaleState.METRIC and scale.rejected


def test_a_constant_bias_is_not_averaged_away() -> None:
    """After many windows the stated deviation is the bias's, and truth lies within it as often as it says."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        scale = ScaleFilter(CONFIG)
        bias, truth = rng.normal(0, 0.02), 0.4
        for _ in range(30):
            truth += rng.normal(0, CONFIG.drift_per_window)
            scale.predict(DRIFT)
            scale.update([observation(truth + bias + rng.normal(0, 0.01), 0.01, systematic=0.02)])
            inside.append(abs(scale.log_scale - truth) < 2 * scale.sigma)
        assert 0.019 < scale.sigma < 0.023
    assert 0.93 < np.mean(inside) < 0.97


def test_two_observers_share_their_biases() -> None:
    """Fused, they are better than each; the weaker one learns its bias from the stronger."""
    rng = np.random.default_rng(1)
    errors, weak_alone = [], []
    for _ in range(200):
        scale = ScaleFilter(CONFIG)
        biases = rng.normal(0, [0.01, 0.05])
        for _ in range(10):
            noise = rng.normal(0, 0.01, 2)
            scale.predict(DRIFT)
            strong = observation(biases[0] + noise[0], 0.01, "a", 0.01)
            weak = observation(biases[1] + noise[1], 0.01, "b", 0.05)
            scale.update([strong, weak])
        errors.append(scale.log_scale)
        weak_alone.append(biases[1])
        assert scale.sigma < 0.0125
    assert np.std(errors) < 0.0125 < np.std(weak_alone)


def test_smoothing_is_the_least_squares_answer() -> None:
    """The smoothed chain equals the batch solution over scales and bias."""
    rng = np.random.default_rng(2)
    count, sigma, systematic, drift = 12, 0.02, 0.03, CONFIG.drift_per_window
    values = rng.normal(0, 0.03, count)
    scale = ScaleFilter(CONFIG)
    for i, value in enumerate(values):
        if i:
            scale.predict(DRIFT)
        scale.update([observation(value, sigma, systematic=systematic)])
    rows, wanted = [], []
    for i, value in enumerate(values):
        row = np.zeros(count + 1)
        row[[i, count]] = 1.0 / sigma
        rows.append(row)
        wanted.append(value / sigma)
    for i in range(1, count):
        row = np.zeros(count + 1)
        row[i], row[i - 1] = 1.0 / drift, -1.0 / drift
        rows.append(row)
        wanted.append(0.0)
    bias = np.zeros(count + 1)
    bias[count] = 1.0 / systematic
    batch = np.linalg.lstsq(np.vstack([*rows, bias]), np.array([*wanted, 0.0]), rcond=None)[0]
    np.testing.assert_allclose(scale.smoothed(), batch[:count], atol=1e-6)


def test_an_observer_that_joins_late_still_smooths_the_past() -> None:
    scale = ScaleFilter(CONFIG)
    scale.update([observation(0.05, 0.05)])
    first = scale.log_scale
    for _ in range(6):
        scale.predict(DRIFT)
        scale.update([observation(0.05, 0.05), observation(0.0, 0.002, "lidar", 0.001)])
    assert abs(scale.smoothed()[0]) < 0.5 * abs(first)


def test_units_of_the_world_do_not_matter() -> None:
    """What the world was multiplied by is told as `applied`; the estimate of the chain stays."""
    plain, moved = ScaleFilter(CONFIG), ScaleFilter(CONFIG)
    applied = 0.0
    for value in (0.3, 0.31, 0.29):
        plain.predict(DRIFT)
        moved.predict(DRIFT)
        plain.update([observation(value)])
        moved.update([observation(value - applied)], applied)
        applied = moved.log_scale
    assert moved.log_scale == pytest.approx(plain.log_scale) and moved.sigma == pytest.approx(plain.sigma)
    assert moved.estimate(applied).value == pytest.approx(1.0)


def test_the_gate_counts_biases_in() -> None:
    scale = ScaleFilter(CONFIG)
    scale.update([observation(0.0, 0.005)])
    scale.update([observation(0.9 * GATE * 0.1, 0.005, "metric_model", 0.1)])
    assert not scale.rejected


def test_two_observers_of_one_instrument_are_one_voice() -> None:
    """Of their biases, correlated by a half, only the own part is averaged; together they outvote nobody."""
    scale = ScaleFilter(CONFIG)
    for _ in range(30):
        both = [replace(observation(0.1, 0.01, name, 0.02), witness="lidar") for name in ("depth", "registration")]
        scale.predict(DRIFT)
        scale.update(both)
    assert scale.sigma == pytest.approx(0.02 * 0.75**0.5, rel=0.05)
    assert set(scale.observers) == {"depth", "registration"}
    scale = ScaleFilter(CONFIG)
    scale.update([observation(0.0)])
    for _ in range(8):
        both = [replace(observation(0.4, 0.01, name), witness="lidar") for name in ("depth", "registration")]
        scale.predict(DRIFT)
        scale.update([observation(0.0), *both])
    assert scale.state is ScaleState.CONFLICT and scale.log_scale == pytest.approx(0.0, abs=1e-3)
