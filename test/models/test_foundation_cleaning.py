"""Pixels that are not to be believed, and how far the others are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from spatial_fm_ros.core.models.foundation import cleaning
from spatial_fm_ros.core.models.foundation.confidence import HALF_BY_LOSS, chance

SLOPES = st.floats(-0.02, 0.02)


@given(SLOPES, SLOPES, st.floats(0.05, 10.0))
def test_no_plane_has_edges_however_steep_its_depth(across: float, down: float, near: float) -> None:
    """Inverse depth of a plane is linear in the image; here it falls to a hundredth over 40 pixels."""
    v, u = np.mgrid[:40, :40]
    inverse = across * u + down * v
    depth = (1.0 / (near * (0.01 + inverse - inverse.min()))).astype(np.float32)
    assert not cleaning.edges(depth, 0.05).any()


@given(st.floats(1.2, 20.0), st.integers(3, 36), st.booleans())
def test_a_jump_is_an_edge_on_both_sides_and_nothing_else_is(ratio: float, at: int, upright: bool) -> None:
    depth = np.full((40, 40), 2.0, np.float32)
    depth[:, at:] *= np.float32(ratio)
    expected = np.zeros_like(depth, bool)
    expected[:, at - 1 : at + 1] = True
    if upright:
        depth, expected = depth.T, expected.T
    np.testing.assert_array_equal(cleaning.edges(depth, 0.05), expected)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("ratio", [1.5, 3.0, 10.0])
def test_the_slope_that_networks_draw_across_a_jump_is_an_edge(ratio: float, width: int) -> None:
    """Straight in inverse depth it has no bend of its own."""
    inverse = np.interp(np.arange(40), [10, 11 + width], [0.5, 0.5 / ratio])
    found = cleaning.edges((1 / np.tile(inverse, (6, 1))).astype(np.float32), 0.05)
    assert found[:, 10 : 12 + width].all() and found.sum() == 6 * (2 + width)


def test_unknown_depth_tells_nothing_of_edges() -> None:
    depth = np.full((2, 9, 9), 3.0, np.float32)
    depth[:, 4] = np.nan
    assert not cleaning.edges(depth, 0.05).any()
    assert cleaning.edges(np.zeros((3, 1, 1), np.float32), 0.05).shape == (3, 1, 1)


def test_blown_out_areas_but_not_single_bright_pixels() -> None:
    image = np.full((40, 60, 3), 120, np.uint8)
    image[5:20, 10:30] = 255
    image[30, ::7] = 255
    image[33:40, 40:60] = (255, 255, 40)  # a colour is left
    found = cleaning.saturated(image)
    assert found[5:20, 10:30].all() and found.sum() == 15 * 20


def test_backgrounds() -> None:
    image = np.array([[[255, 250, 241], [239, 255, 255], [3, 0, 8], [9, 0, 0]]], np.uint8)
    assert cleaning.white(image).tolist() == [[True, False, False, False]]
    assert cleaning.black(image).tolist() == [[False, False, True, False]]


def test_sky_by_colour_is_bright_bluish_flat_and_far() -> None:
    image = np.full((60, 80, 3), (90, 70, 50), np.uint8)
    image[:20] = (150, 180, 230)
    image[40:50, 30:50] = (150, 180, 230)  # a blue box nearby
    depth = np.full((60, 80), 3.0, np.float32)
    depth[:20] = 80.0
    found = cleaning.sky_by_colour(image, depth)
    assert found[:17].all() and not found[21:].any()
    assert not cleaning.sky_by_colour(image[..., ::-1].copy(), depth).any()
    unknown = np.where(depth > 10, np.nan, depth)
    assert cleaning.sky_by_colour(image, unknown)[:17].all()


@pytest.mark.parametrize("half", [HALF_BY_LOSS, 1.0, 0.0])
@given(arrays(np.float32, array_shapes(min_dims=3, max_dims=3), elements=st.floats(1.0, 1e4, width=32)))
def test_chance_is_monotone_and_a_probability(half: float, confidence: np.ndarray) -> None:
    found = chance(confidence, half)
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    order = np.argsort(confidence, axis=None, kind="stable")
    assert np.all(np.diff(found.reshape(-1)[order]) >= 0)


def test_chance_at_known_points() -> None:
    found = chance(np.array([1.0, 1.0 + HALF_BY_LOSS, 5.0, np.inf, np.nan, 0.5], np.float32), HALF_BY_LOSS)
    np.testing.assert_allclose(found, [0.0, 0.5, 1 - np.exp(-1.0), 0.0, 0.0, 0.0], atol=1e-6)
    spread = np.linspace(1.0, 3.0, 101, dtype=np.float32)
    assert chance(spread, 0.0)[40] == pytest.approx(0.5, abs=1e-6)  # the 40th percentile of the window
    assert chance(np.full(10, 1.01, np.float32), 0.0).max() < 0.15  # evidence of hardly anything stays little
    assert not chance(np.full((2, 3), np.nan, np.float32), 0.0).any()
