"""The fast layers against the plain ones, layer by layer, at tiny and at true sizes."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from spatial_fm_ros.core.models.vit.block import Block
from spatial_fm_ros.core.models.vit.dpt import FusionBlock, PixelLayers, Reassemble, resized
from spatial_fm_ros.core.models.vit.fast import attention as fast_attention
from spatial_fm_ros.core.models.vit.fast import block as fast_block
from spatial_fm_ros.core.models.vit.fast import dense, dtype_policy, optimised
from spatial_fm_ros.core.models.vit.fast import linear as fast_linear
from spatial_fm_ros.core.models.vit.positions import grid_positions
from spatial_fm_ros.core.models.vit.rope import rope_table, rotate

pytestmark = pytest.mark.usefixtures("two_threads")

#: Of the largest value; float32 keeps 24 bits, and sums of a thousand terms lose some.
ROUNDING = 3e-6
#: bfloat16 keeps 8 bits: a product of two rounded numbers is off by 2^-8 at most, sums by far less.
LOW = 2e-2


def worst(got: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value."""
    assert got.shape == expected.shape
    return float((got.double() - expected.double()).abs().max() / expected.double().abs().max())


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that keep the variance of activations, with biases, norms and LayerScale that matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        if parameter.ndim > 1:
            parameter.data = noise / fan_in**0.5
        else:
            parameter.data = (0.0 if name.endswith("bias") else 1.0) + 0.3 * noise
    return module.eval().requires_grad_(False)


def lowered(module: nn.Module) -> nn.Module:
    """A copy with its matrices in bfloat16."""
    other = copy.deepcopy(module)
    for layer in other.modules():
        if isinstance(layer, nn.Linear):
            layer.bfloat16()
    return other


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# -- linear layers ----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 63, 64, 300])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_layers_equal_torch_in_float32(rows: int, gelu: bool, bias: bool) -> None:
    layer = randomised(nn.Linear(48, 130, bias=bias))
    x = drawn(2, rows, 48)
    expected = F.gelu(layer(x)) if gelu else layer(x)
    assert worst(fast_linear.linear(x, layer, gelu=gelu), expected) < ROUNDING


def test_without_the_library_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = randomised(nn.Linear(32, 80)), drawn(100, 32)
    usual = fast_linear.linear(x, layer, gelu=True)
    monkeypatch.setattr(fast_linear, "onednn_linear_works", lambda: False)
    assert worst(fast_linear.linear(x, layer, gelu=True), usual) < ROUNDING


def test_few_rows_lose_nothing_by_low_weights() -> None:
    """A camera head sees a handful of tokens: its activations stay float32, its weights alone are rounded."""
    layer = randomised(nn.Linear(200, 1500)).bfloat16()
    x = drawn(1, 5, 200)
    got = fast_linear.linear(x, layer, gelu=True)
    expected = F.gelu(F.linear(x, layer.weight.float(), layer.bias.float()))
    assert got.dtype == torch.float32
    assert worst(got, expected) < ROUNDING
    many = fast_linear.linear(x.expand(20, -1, -1), layer, gelu=True)
    assert many.dtype == torch.bfloat16
    assert ROUNDING < worst(many[:1], expected) < LOW


# -- attention and blocks ---------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 5), columns=st.integers(1, 5), specials=st.integers(0, 3), quarter=st.integers(1, 8))
def test_rotation_in_one_pass_equals_the_plain_one(rows: int, columns: int, specials: int, quarter: int) -> None:
    table = rope_table(grid_positions(rows, columns, specials), 4 * quarter)
    tokens = len(table.cos)
    x = drawn(2, tokens, 3, 4 * quarter)
    expected = rotate(x.transpose(1, 2), table).transpose(1, 2)
    half = tokens // 2
    turning = fast_attention.Turning.of(table)
    parts = [turning.apply(x[:, part], part) for part in (slice(0, half), slice(half, tokens))]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tokens", [1, 7, 100])
def test_attention_in_bfloat16_is_as_exact_as_torch(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = (drawn(2, 3, tokens, 16, seed=s) for s in (1, 2, 3))
    exact = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    low = [x.bfloat16() for x in (query, key, value)]
    reference = F.scaled_dot_product_attention(*low).transpose(1, 2).flatten(2)
    assert torch.equal(fast_attention.attention(*low), reference)  # short: torch's kernel is the faster one
    monkeypatch.setattr(fast_attention, "FEWEST_TOKENS", 1)
    monkeypatch.setattr(fast_attention, "SCORE_BYTES", 2 * tokens * 30)  # in pieces of at most 30 queries
    got = fast_attention.attention(*low)
    assert got.dtype == torch.bfloat16
    assert worst(got, exact) < max(LOW / 2, 2 * worst(reference, exact))
    assert worst(fast_attention.attention(query, key, value), exact) < ROUNDING


def test_scores_of_sharp_heads_are_not_rounded() -> None:
    """A head with scores of tens is left to torch's kernel, its calm neighbour is not."""
    query, key, value = (drawn(1, 2, fast_attention.FEWEST_TOKENS, 64, seed=s) for s in (1, 2, 3))
    query[:, 1] *= 6.0
    exact = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    low = [x.bfloat16() for x in (query, key, value)]
    got = fast_attention.attention(*low).unflatten(2, (2, 64))
    torchs = F.scaled_dot_product_attention(*low).transpose(1, 2)
    calm, sharp = (float((got[:, :, h] - exact[:, :, h]).std() / exact[:, :, h].std()) for h in (0, 1))
    assert calm < 0.008 and sharp < 0.008
    assert torch.equal(got[:, :, 1], torchs[:, :, 1]) and not torch.equal(got[:, :, 0], torchs[:, :, 0])


@pytest.mark.parametrize("piece", [5, 17, 1000])
@pytest.mark.parametrize("kind", ["plain", "qk_norm", "rope", "swiglu"])
def test_blocks_equal_plain_blocks(kind: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fast_block.PIECE, "cpu", piece)
    plain = randomised(Block(32, 4, eps=1e-5, qk_norm=kind in ("qk_norm", "rope"), swiglu=kind == "swiglu"))
    assert isinstance(plain, Block)
    table = rope_table(grid_positions(4, 4, 1), 8) if kind == "rope" else None
    x = drawn(3, 17, 32)
    kept = x.clone()
    expected = plain(x, table)
    assert worst(fast_block.FastBlock(plain)(x, table), expected) < ROUNDING
    assert torch.equal(x, kept), "the caller's tokens are not written to"
    twin = fast_block.FastBlock(lowered(plain))  # type: ignore[arg-type]
    got = twin(x.repeat(4, 1, 1), table)[:3]
    assert got.dtype == torch.float32
    assert ROUNDING < worst(got, expected) < LOW


def test_a_block_of_true_size() -> None:
    """VGGT-1B's width and the tokens of one frame of 518x392."""
    plain = randomised(Block(1024, 16, eps=1e-5, qk_norm=True))
    table = rope_table(grid_positions(28, 37, 5), 64)
    x = 2 * drawn(1, 1041, 1024)
    expected = plain(x, table)
    assert worst(fast_block.FastBlock(plain)(x, table), expected) < ROUNDING  # type: ignore[arg-type]
    low = fast_block.FastBlock(lowered(plain))  # type: ignore[arg-type]
    changed = expected - x
    assert float((low(x, table) - expected).norm() / changed.norm()) < 0.006


# -- dense heads ------------------------------------------------------------------------------


@pytest.mark.parametrize("relu_skip", [False, True])
@pytest.mark.parametrize("lateral", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (12, 3)])
def test_fusion_equals_the_plain_one(relu_skip: bool, lateral: bool, size: tuple[int, int]) -> None:
    """out_conv before the resize instead of behind it."""
    owner = nn.ModuleList([randomised(FusionBlock(8, relu_skip, lateral))])
    top, other = drawn(2, 8, 4, 6), drawn(2, 8, 4, 6, seed=2)
    expected = owner[0](top, other if lateral else None, size)
    kept = other.clone()
    got = optimised(owner)[0](top, other if lateral else None, size)
    assert isinstance(owner[0], dense.FastFusionBlock)
    assert worst(got, expected) < ROUNDING
    assert torch.equal(other, kept), "two chains read the same lateral maps"


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    rows=st.integers(2, 30),
    columns=st.integers(2, 30),
    band=st.integers(1, 40),
    precision=st.sampled_from([None, torch.float32, torch.float64]),
)
def test_full_size_in_bands_equals_the_whole(
    height: int, width: int, rows: int, columns: int, band: int, precision: torch.dtype | None
) -> None:
    plain = randomised(PixelLayers(8, 6, 3))
    assert isinstance(plain, PixelLayers)
    x, aspect = drawn(2, 8, height, width), columns / rows
    expected = plain(x, (rows, columns), aspect, precision)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(dense.BAND_BYTES, "cpu", band * 2 * 8 * columns * 4)
        got = dense.FastPixelLayers(plain)(x, (rows, columns), aspect, precision)
    assert worst(got, expected) < 10 * ROUNDING  # interpolation weights are rounded in another order


def test_rows_of_a_resize_are_those_of_the_whole() -> None:
    x = drawn(1, 4, 20, 12).contiguous(memory_format=torch.channels_last)
    whole = resized(x, (140, 84))
    for rows in (slice(0, 9), slice(60, 75), slice(130, 140)):
        assert worst(dense._resized_rows(x, (140, 84), rows), whole[:, :, rows]) < ROUNDING


def test_convolutions_compute_in_the_dtype_of_their_weights() -> None:
    plain = randomised(Reassemble(16, (8, 8, 12, 12)))
    tokens = drawn(2, 12, 16)
    expected = [plain.reassembled(tokens, level, (3, 4), 4 / 3, torch.float64) for level in range(4)]
    fast = optimised(copy.deepcopy(plain))
    for level, exact in enumerate(expected):
        assert worst(fast.reassembled(tokens, level, (3, 4), 4 / 3, torch.float64), exact) < ROUNDING
    for name, parameter in fast.named_parameters():
        parameter.data = parameter.data.to(torch.bfloat16 if "norm" not in name else torch.float32)
    for level, exact in enumerate(expected):
        got = fast.reassembled(tokens, level, (3, 4), 4 / 3, torch.float64)
        assert got.dtype == torch.bfloat16
        assert worst(got, exact) < LOW


# -- precision --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "low"),
    [
        ("aggregator.frame_blocks.3.attn.qkv.weight", True),
        ("aggregator.patch_embed.blocks.0.mlp.fc1.bias", True),
        ("camera_head.trunk.2.attn.proj.weight", True),
        ("camera_head.poseLN_modulation.1.weight", True),
        ("backbone.pretrained.blocks.11.mlp.w12.weight", True),
        ("da3.backbone.pretrained.blocks.11.mlp.w3.weight", True),
        ("depth_head.projects.0.weight", True),
        ("point_head.scratch.refinenet4.resConfUnit2.conv1.bias", True),
        ("head.scratch.refinenet1_aux.resConfUnit1.conv2.weight", True),
        ("da3_metric.head.scratch.layer4_rn.weight", True),
        ("head.scratch.output_conv1_aux.3.4.weight", True),
        ("aggregator.frame_blocks.3.attn.q_norm.weight", False),
        ("aggregator.frame_blocks.3.ls1.gamma", False),
        ("aggregator.patch_embed.patch_embed.proj.weight", False),
        ("aggregator.patch_embed.pos_embed", False),
        ("camera_head.pose_branch.fc1.weight", False),
        ("depth_head.norm.weight", False),
        ("depth_head.scratch.output_conv2.0.weight", False),
        ("head.scratch.output_conv2_aux.3.0.weight", False),
        ("head.scratch.refinenet1_aux.out_conv.weight", False),
        ("head.scratch.sky_output_conv2.2.bias", False),
        ("track_head.feature_extractor.projects.0.weight", False),
        ("track_head.tracker.updateformer.time_blocks.0.mlp.fc1.weight", False),
        ("cam_dec.backbone.0.weight", False),
    ],
)
def test_what_may_be_of_low_precision(name: str, low: bool) -> None:
    assert dtype_policy(torch.bfloat16)(name, torch.empty(0)) == (torch.bfloat16 if low else torch.float32)
    assert dtype_policy(torch.float32)(name, torch.empty(0)) == torch.float32
