"""Winograd's 3x3 convolutions against the direct sum."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from spatial_fm_ros.core.models.vit.dpt import ResidualConvUnit, Scratch
from spatial_fm_ros.core.models.vit.fast import optimised, winograd
from spatial_fm_ros.core.models.vit.fast.dense import FastConv2d

pytestmark = pytest.mark.usefixtures("two_threads")

#: Of the largest value, as `winograd.convolved` states it.
BOUND = 3e-6


def worst(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    return float((got.double() - expected.double()).abs().max() / expected.double().abs().max())


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_transforms_are_a_correlation_exactly() -> None:
    """In float64 nothing but its rounding is left: every kernel and signal of unit vectors."""
    into, kernel, back = winograd.matrices()
    for tap in range(3):
        for place in range(winograd.IN):
            g, d = torch.zeros(3).double(), torch.zeros(winograd.IN).double()
            g[tap], d[place] = 1.0, 1.0
            expected = torch.zeros(winograd.OUT).double()
            if 0 <= place - tap < winograd.OUT:
                expected[place - tap] = 1.0
            torch.testing.assert_close(back @ ((kernel @ g) * (into @ d)), expected, rtol=0, atol=1e-14)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 3),
    wide=st.integers(1, 9),
    out=st.integers(1, 9),
    height=st.integers(1, 23),
    width=st.integers(1, 23),
    tiles=st.integers(1, 40),
    bias=st.booleans(),
)
def test_any_size_in_any_pieces(
    count: int, wide: int, out: int, height: int, width: int, tiles: int, bias: bool
) -> None:
    x, weight = drawn(count, wide, height, width), drawn(out, wide, 3, 3, seed=2)
    added = drawn(out, seed=3) if bias else None
    expected = F.conv2d(x.double(), weight.double(), None if added is None else added.double(), padding=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "TILES", tiles)
        got = winograd.convolved(x, weight, added)
    assert got.dtype == torch.float32
    assert worst(got, expected) < 2 * BOUND  # of few numbers, the largest may be small


@pytest.mark.parametrize(("wide", "out", "size"), [(256, 256, (56, 74)), (512, 256, (28, 37)), (256, 128, (50, 61))])
def test_true_sizes_are_as_exact_as_the_direct_sum(wide: int, out: int, size: tuple[int, int]) -> None:
    x = drawn(1, wide, *size).relu().contiguous(memory_format=torch.channels_last)
    weight, bias = drawn(out, wide, 3, 3, seed=2) / (9 * wide) ** 0.5, drawn(out, seed=3)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    got, direct = winograd.convolved(x, weight, bias), F.conv2d(x, weight, bias, padding=1)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert worst(got, exact) < BOUND
    off = [(y.double() - exact).square().mean().sqrt() for y in (got, direct)]
    assert off[0] < 3 * off[1], "rounding of the transforms stays of the order of the sum's own"


@pytest.mark.parametrize(
    ("wide", "out", "size", "stride", "expected"),
    [
        (128, 128, (24, 24), 1, True),
        (128, 128, (24, 24), 2, False),
        (128, 128, (20, 20), 1, False),  # transforming the kernels is all the work
        (64, 128, (48, 48), 1, False),
        (128, 32, (48, 48), 1, False),
    ],
)
def test_layers_choose_it_where_it_pays(
    wide: int, out: int, size: tuple[int, int], stride: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        used.append(x.shape)
        return F.conv2d(x, weight, bias, padding=1)

    monkeypatch.setattr(winograd, "convolved", convolved)
    plain = nn.Conv2d(wide, out, 3, stride=stride, padding=1)
    x = drawn(1, wide, *size)
    with torch.no_grad():
        assert worst(FastConv2d(plain)(x), plain(x)) < BOUND
    assert bool(used) == expected
    used.clear()
    plain.bfloat16()
    with torch.no_grad():
        assert FastConv2d(plain)(x).dtype == torch.bfloat16
    assert not used


def test_a_fusion_chain_of_large_maps() -> None:
    """Channels and maps large enough for Winograd in the two finest levels, and the direct sum in the others."""
    plain = Scratch((96, 96, 96, 96), 96, relu_skip=True).eval().requires_grad_(False)
    for unit in plain.modules():
        if isinstance(unit, ResidualConvUnit):
            assert unit.conv1.bias is not None
            unit.conv1.bias.normal_(generator=torch.Generator().manual_seed(5))
    maps = [drawn(2, 96, 48 >> k, 40 >> k, seed=k) for k in range(4)]
    expected = plain.fused([plain.lateral(k, x) for k, x in enumerate(maps)])
    fast = optimised(copy.deepcopy(plain))
    got = fast.fused([fast.lateral(k, x) for k, x in enumerate(maps)])
    assert worst(got, expected) < 3 * BOUND
