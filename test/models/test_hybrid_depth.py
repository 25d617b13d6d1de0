"""A prior's depth bent onto what images measured, and the choice between the two."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.models.geometric.dense_hint import STRAYING, DepthHint
from spatial_fm_ros.core.models.hybrid.correction import chance_within, fit_correction
from spatial_fm_ros.core.models.hybrid.fusion import LEAST_CHANCE, bend, filled, measured
from spatial_fm_ros.core.models.hybrid.prior import PriorWindow
from spatial_fm_ros.core.models.hybrid.trust import Trust
from spatial_fm_ros.core.types import Prediction

SIZE = (90, 120)


def smooth(rng: np.random.Generator, mean: float) -> np.ndarray:
    """A smooth image whose size is `mean` on average."""
    field = cv2.resize(rng.normal(0, 1, (4, 5)).astype(np.float32), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    return field * (mean / np.abs(field).mean())


def evidence(error: np.ndarray, count: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and log(true / prior depth) there."""
    pixels = np.column_stack([rng.integers(0, SIZE[1], count), rng.integers(0, SIZE[0], count)]).astype(float)
    u, v = pixels.astype(int).T
    return pixels, error[v, u] + rng.normal(0, noise, count)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.07, 0.15]), st.integers(300, 3000), st.floats(-2.0, 2.0))
def test_a_smooth_bend_is_found_and_its_uncertainty_covers_what_remains(
    seed: int, mean: float, count: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    error = smooth(rng, mean) + np.float32(scale)
    found = fit_correction(*evidence(error, count, 0.01, rng), SIZE)
    assert found is not None
    left = error - found.log_factor
    assert np.abs(left).mean() < 0.6 * mean + 0.004
    assert (np.abs(left) < 3.0 * found.sigma).mean() > 0.9
    assert 0.4 * mean < found.raw < 3.0 * mean


@pytest.mark.parametrize("seed", range(4))
def test_a_patch_of_wrong_evidence_does_not_bend_the_prior(seed: int) -> None:
    rng = np.random.default_rng(seed)
    error = smooth(rng, 0.07)
    pixels, ratio = evidence(error, 2000, 0.01, rng)
    wrong = (pixels[:, 0] < 40) & (pixels[:, 1] < 40)
    ratio[wrong] += 1.2
    found = fit_correction(pixels, ratio, SIZE)
    assert found is not None
    assert np.abs(error - found.log_factor)[:40, :40].mean() < np.abs(error)[:40, :40].mean() + 0.06
    assert np.abs(error - found.log_factor)[45:, 45:].mean() < 0.05


def test_too_little_or_impossible_evidence_tells_nothing() -> None:
    rng = np.random.default_rng(0)
    assert fit_correction(np.zeros((0, 2)), np.zeros(0), SIZE) is None
    assert fit_correction(np.full((500, 2), 20.0), np.zeros(500), SIZE) is None  # one cell
    wild = evidence(np.zeros(SIZE), 500, 0.6, rng)
    assert fit_correction(*wild, SIZE) is not None
    assert fit_correction(*wild, SIZE, usual=0.08) is None


def test_far_from_all_evidence_a_prior_is_as_uncertain_as_it_was() -> None:
    rng = np.random.default_rng(1)
    pixels, ratio = evidence(smooth(rng, 0.1), 3000, 0.005, rng)
    near = pixels[:, 0] < 60
    found = fit_correction(pixels[near], ratio[near], SIZE)
    assert found is not None
    assert np.median(found.sigma[:, 100:]) > 2.0 * np.median(found.sigma[:, :50])


def test_chance_within_is_that_of_a_normal_error() -> None:
    error = np.random.default_rng(0).normal(0, 0.06, 200_000)
    assert chance_within(0.05, np.float32(0.06)) == pytest.approx((np.abs(error) < np.log(1.05)).mean(), abs=0.005)


def window(depth: np.ndarray, confidence: np.ndarray | None = None) -> PriorWindow:
    count = len(depth)
    sure = np.ones_like(depth) if confidence is None else confidence
    return PriorWindow(
        np.tile(np.eye(4), (count, 1, 1)), np.ones(count, bool), depth.astype(np.float32), sure.astype(np.float32),
        np.tile(np.eye(3), (count, 1, 1)),
    )  # fmt: skip


def test_planes_keep_their_depth_on_another_grid() -> None:
    K = np.array([[40.0, 0, 31.5], [0, 40.0, 23.5], [0, 0, 1]])
    v, u = np.mgrid[:48, :64]
    inverse = 0.1 + 0.002 * u + 0.001 * v
    said = Prediction(
        np.eye(4)[None], K[None], (1 / inverse)[None].astype(np.float32), np.full((1, 48, 64), 0.7, np.float32),
        np.array([True]),
    )  # fmt: skip
    said.depth[0, 10:20, 30:40] = np.nan
    for size in ((96, 128), (24, 32)):
        prior = PriorWindow.of(said, size)
        scale = size[0] / 48
        V, U = np.mgrid[: size[0], : size[1]]
        there = 0.1 + 0.002 * ((U + 0.5) / scale - 0.5) + 0.001 * ((V + 0.5) / scale - 0.5)
        inner = np.s_[2:-2, 2:-2]
        known = np.isfinite(prior.depth[0])
        ok = np.abs(prior.depth[0] * there - 1)[inner][known[inner]]
        assert np.median(ok) < 1e-4 and np.quantile(ok, 0.9) < 0.01
        hole = np.s_[int(12 * scale) : int(18 * scale), int(32 * scale) : int(38 * scale)]
        assert not known[hole].any() and known.mean() > 0.94
        assert np.allclose(prior.confidence[0][known], 0.7, atol=1e-5) and (prior.confidence[0][~known] == 0).all()
        wanted = [[40 * scale, 0, 32 * scale - 0.5], [0, 40 * scale, 24 * scale - 0.5], [0, 0, 1]]
        assert np.allclose(prior.K[0], wanted)


@pytest.fixture()
def scene() -> tuple[np.ndarray, PriorWindow, np.ndarray, np.ndarray]:
    """Truth [3, h, w], a bent prior in another unit, and measured depth with confidence: right in the left half, a
    wrong patch there with little confidence, unknown in the right half."""
    rng = np.random.default_rng(5)
    truth = np.stack([2.0 + np.exp(smooth(rng, 0.3)) for _ in range(3)])
    prior = window(0.2 * truth * np.exp(np.stack([smooth(rng, 0.06) for _ in range(3)])))
    depth = (truth * np.exp(rng.normal(0, 0.01, truth.shape))).astype(np.float32)
    confidence = np.full(depth.shape, 0.9, np.float32)
    depth[:, 20:40, 10:25] *= 2.0
    confidence[:, 20:40, 10:25] = 0.6
    depth[:, :, 60:], confidence[:, :, 60:] = np.nan, 0.0
    return truth, prior, depth, confidence


def test_what_images_do_not_see_is_filled_and_what_the_prior_contradicts_is_replaced(
    scene: tuple[np.ndarray, PriorWindow, np.ndarray, np.ndarray]
) -> None:
    truth, prior, depth, confidence = scene
    bent = bend(prior, [measured(d, c) for d, c in zip(depth, confidence)])
    assert bent.judged and bent.scale == pytest.approx(5.0, rel=0.1)
    result, sure = filled(depth, confidence, bent)
    wrong = np.abs(np.log(result / truth))
    assert np.nanmax(wrong[:, 20:40, 10:25]) < 0.4 and np.nanmedian(wrong[:, 20:40, 10:25]) < 0.06
    left = np.ones(SIZE, bool)
    left[20:40, 10:25], left[:, 60:] = False, False
    assert np.nanmedian(wrong[:, left]) < 0.015 and np.isfinite(result[:, left]).mean() > 0.99
    assert np.isfinite(result[:, :, 60:80]).mean() > 0.9 and np.nanmedian(wrong[:, :, 60:80]) < 0.05
    assert (sure[np.isfinite(result)] >= LEAST_CHANCE).all() and (sure[~np.isfinite(result)] == 0).all()
    # What both say is surer than either.
    assert np.median(sure[:, left]) > 0.9


def test_a_bad_prior_changes_little(scene: tuple[np.ndarray, PriorWindow, np.ndarray, np.ndarray]) -> None:
    truth, prior, depth, confidence = scene
    rng = np.random.default_rng(2)
    bad = window(np.exp(rng.normal(0, 0.8, truth.shape)))
    bent = bend(bad, [measured(d, c) for d, c in zip(depth, confidence)])
    result, sure = filled(depth, confidence, bent)
    known = np.isfinite(result)
    assert np.array_equal(result[known], depth[known]) and known[:, :20, :50].all() and not known[:, :, 60:].any()
    trust = Trust()
    assert trust.believed and trust.depth is None
    trust.learn(depth=bent.raw)
    assert not trust.believed
    for _ in range(3):
        trust.learn(depth=0.08, rotation=0.01, position=float("nan"))
    assert trust.believed and trust.depth == pytest.approx(0.08) and trust.position is None


def test_without_evidence_the_prior_speaks_for_itself_in_the_given_scale() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.2, 1.0, (2, *SIZE))
    prior = window(np.full((2, *SIZE), 3.0), sure)
    nothing = [(np.zeros((0, 2)), np.zeros(0))] * 2
    bent = bend(prior, nothing, scale=2.0)
    assert not bent.judged and bent.anchored and np.isnan(bent.raw)
    assert np.allclose(bent.depth, 6.0) and np.array_equal(bent.chance, prior.confidence)
    assert not bend(prior, nothing).anchored
    pixels = np.column_stack([rng.uniform(0, 119, 50), rng.uniform(0, 89, 50)])
    assert prior.scale_of([(pixels, np.full(50, 12.0)), nothing[0]]) == pytest.approx(4.0)
    assert np.isnan(prior.scale_of([(pixels[:5], np.full(5, 12.0)), nothing[0]]))


def test_doubted_pixels_are_neither_evidence_nor_filled_in(
    scene: tuple[np.ndarray, PriorWindow, np.ndarray, np.ndarray]
) -> None:
    truth, prior, depth, confidence = scene
    sure = prior.confidence.copy()
    lie = prior.depth.copy()
    lie[:, 50:70, 20:110] *= 4.0
    sure[:, 50:70, 20:110] = 0.05
    prior = replace(prior, depth=lie, confidence=sure)
    bent = bend(prior, [measured(d, c) for d, c in zip(depth, confidence)])
    assert bent.scale == pytest.approx(5.0, rel=0.1)
    result, _ = filled(depth, confidence, bent)
    assert np.nanmax(np.abs(np.log(result / truth))[:, 50:70]) < 0.3
    assert not np.isfinite(result[:, 50:70, 60:110]).any()


def test_the_penalty_of_a_hint_is_bounded_and_zero_at_it() -> None:
    inverse = torch.full((4, 5), 0.5)
    hint = DepthHint(inverse, torch.full((4, 5), 0.05))
    cost = hint.penalty(torch.stack([inverse, 0.5 * torch.exp(torch.tensor(0.05)) * torch.ones(4, 5), 5 * inverse]))
    assert torch.allclose(cost[0], torch.zeros(4, 5), atol=1e-6)
    assert torch.allclose(cost[1], torch.full((4, 5), STRAYING * (1 - np.exp(-0.5))), atol=1e-5)
    assert torch.allclose(cost[2], torch.full((4, 5), STRAYING), atol=1e-6)
