"""The weighted mode against samples whose hill is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.metric.mode import weighted_mode


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), spread=st.floats(0.01, 0.2), share=st.floats(0.0, 0.45), shift=st.floats(-9, 9))
def test_one_sided_contamination_does_not_pull(seed: int, spread: float, share: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    count = 4000
    values = shift + rng.normal(0, spread, count)
    wrong = rng.random(count) < share
    values[wrong] += rng.uniform(2 * spread, 30 * spread, wrong.sum())
    mode = weighted_mode(values, np.ones(count))
    assert abs(mode.value - shift) < 0.25 * spread + 0.002
    assert 0.6 * spread < mode.spread < 1.5 * spread
    assert mode.weights[np.abs(values - shift) > 8 * spread].max(initial=0.0) == 0.0


def test_weights_decide_between_two_hills() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 0.02, 1000), rng.normal(1, 0.02, 1000)])
    for heavy, expected in ((0, 0.0), (1, 1.0)):
        weights = np.where(np.arange(2000) // 1000 == heavy, 1.0, 0.4)
        assert weighted_mode(values, weights).value == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3, 0.3], [0.3, 0.3, 0.3, 5.0]])
def test_few_or_equal_values(values: list[float]) -> None:
    assert weighted_mode(np.array(values), np.ones(len(values))).value == pytest.approx(0.3, abs=0.02)
