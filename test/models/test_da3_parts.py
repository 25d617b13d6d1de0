"""Parts of Depth Anything 3 against recorded numbers that pin their constants, and against plain formulas."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from da3_fixtures import FOLDERS, Recording, tiny

from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.core.models.depth_anything_3 import Output
from spatial_fm_ros.core.models.depth_anything_3.backbone import GRID_OFFSET
from spatial_fm_ros.core.models.depth_anything_3.cameras import decode_cameras, encode_cameras
from spatial_fm_ros.core.models.depth_anything_3.metric_head import sky_filled
from spatial_fm_ros.core.models.depth_anything_3.nested import align, in_metres
from spatial_fm_ros.core.models.depth_anything_3.reference_view import (
    STRATEGIES,
    reference_first,
    reference_view,
    reordered,
    restored,
)
from spatial_fm_ros.core.models.depth_anything_3.statistics import quantile
from spatial_fm_ros.core.models.vit.block import Block
from spatial_fm_ros.core.models.vit.dpt import FusionBlock
from spatial_fm_ros.core.models.vit.pose_encoding import matrix_from_quaternion, quaternion_from_matrix
from spatial_fm_ros.core.models.vit.positions import grid_positions, resized_position_embedding
from spatial_fm_ros.core.models.vit.rope import rope_table, rotate
from spatial_fm_ros.core.models.vit.sine_map import sine_map


@pytest.fixture(params=FOLDERS, scope="module")
def components(request: pytest.FixtureRequest) -> Recording:
    return Recording(request.param, "components")


@pytest.fixture(params=FOLDERS, scope="module")
def alignment(request: pytest.FixtureRequest) -> Recording:
    return Recording(request.param, "alignment")


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("head_dim", [16, 24, 64])
def test_rotations_of_local_and_global_blocks(components: Recording, head_dim: int) -> None:
    positions = grid_positions(3, 4, specials=1)
    components.agrees("rope_pos_local_3x4", positions)
    components.agrees("rope_pos_global_3x4", positions.clamp(max=1))
    for kind, at in (("local", positions), ("global", positions.clamp(max=1))):
        turned = rotate(components[f"rope_in_hd{head_dim}"], rope_table(at, head_dim))
        components.agrees(f"rope_{kind}_hd{head_dim}", turned)


def test_the_network_uses_these_positions(components: Recording) -> None:
    """Local and global tables of the backbone are those of the recording, the global one once for every view."""
    trunk = tiny("a").trunk
    head_dim = trunk.config.embed_dim // trunk.config.num_heads
    local, everywhere = trunk._ropes((3, 4), 2, torch.device("cpu"))
    assert torch.equal(local.cos, rope_table(components["rope_pos_local_3x4"], head_dim).cos)
    once = rope_table(components["rope_pos_global_3x4"], head_dim)
    assert torch.equal(everywhere.sin, torch.cat([once.sin, once.sin]))


def test_position_embedding_of_other_grids(components: Recording) -> None:
    compared = 0
    for name in components.arrays:
        if match := re.fullmatch(r"posembed_(\d+)_H(\d+)_W(\d+)", name):
            side, height, width = map(int, match.groups())
            grid = resized_position_embedding(
                components[f"posembed_{side}"], height // 14, width // 14, antialias=False, offset=GRID_OFFSET
            )
            wanted = components[name]
            components.agrees(name, grid if grid.shape == wanted.shape else grid[:, ::3])
            compared += 1
    assert compared >= 8


def test_sine_maps(components: Recording) -> None:
    compared = 0
    for name in components.arrays:
        if match := re.fullmatch(r"uvemb_w(\d+)_h(\d+)_W(\d+)_H(\d+)_C(\d+)", name):
            columns, rows, width, height, channels = map(int, match.groups())
            found = sine_map(rows, columns, channels, width / height, torch.float32)
            components.agrees(name, found.permute(1, 2, 0))
            compared += 1
    assert compared >= 3


def test_fusion_block_keeps_its_input_beside_the_convolutions(components: Recording) -> None:
    block = FusionBlock(8, relu_skip=False)
    weights = {n.removeprefix("ffb_w."): components[n] for n in components.arrays if n.startswith("ffb_w.")}
    block.load_state_dict(weights)
    top, lateral = components["ffb_in_top"], components["ffb_in_lateral"]
    components.agrees("ffb_out_size5x7", block(top, lateral, (5, 7)))
    components.agrees("ffb_out_x2", block(top, lateral, (6, 8)))
    components.agrees("rcu_out_top", block.resConfUnit2(top))


def test_ray_layers(components: Recording) -> None:
    scratch = tiny("a").head.scratch
    components.agrees("auxneck_out", scratch.output_conv1_aux["3"](components["auxneck_in"]))
    components.agrees("auxout_out", scratch.output_conv2_aux["3"](components["auxout_in"]))


def test_every_norm_has_the_published_epsilon(components: Recording) -> None:
    """Inputs so small that 1e-5 and 1e-6 below the root differ."""
    trunk, x = tiny("a").trunk, components["eps_block_in"]
    head_dim = trunk.config.embed_dim // trunk.config.num_heads
    positions = grid_positions(3, 4, specials=1)
    local, everywhere = rope_table(positions, head_dim), rope_table(positions.clamp(max=1), head_dim)
    components.agrees("eps_block0_out", trunk.blocks[0](x))
    components.agrees("eps_block2_out_local", trunk.blocks[2](x, local))
    components.agrees("eps_block3_out_global", trunk.blocks[3](x, everywhere))
    components.agrees("eps_final_norm_out", trunk.norm(x))
    levels = [components[f"eps_head_in_{k}"] for k in range(4)]
    found = tiny("a").head([level.flatten(0, 1) for level in levels], (4, 6))
    for name, value in zip(("depth", "depth_conf", "ray", "ray_conf"), found):
        components.agrees(f"eps_head_{name}", value[None])


def test_query_and_key_norms_have_the_published_epsilon(components: Recording) -> None:
    block = Block(16, 2, eps=1e-6, qk_norm=True)
    weights = {n.removeprefix("qkblock_w."): components[n] for n in components.arrays if n.startswith("qkblock_w.")}
    block.load_state_dict(weights)
    components.agrees("qkblock_out", block(components["qkblock_in"], rope_table(grid_positions(3, 4, 1), 8)))


def test_cameras_in_and_out(components: Recording) -> None:
    size = (56, 84)
    encoded = encode_cameras(components["cam_ext"], components["cam_int"], size)
    components.agrees("cam_pose_encoding", encoded)
    components.agrees("cam_enc_token", tiny("a").cam_enc(components["cam_ext"], components["cam_int"], size))
    components.agrees("camdec_pose_enc", tiny("a").cam_dec(components["camdec_in"]))
    components.agrees("quat_to_mat", matrix_from_quaternion(components["quat_xyzw"]))
    components.agrees("mat_to_quat", quaternion_from_matrix(components["quat_to_mat"]))
    back, K = decode_cameras(encoded, size)
    torch.testing.assert_close(back, components["cam_ext"][..., :3, :], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(K[..., 0, 0], components["cam_int"][..., 0, 0], rtol=1e-5, atol=0)


def test_decoded_cameras_are_finite_for_any_field_of_view(components: Recording) -> None:
    """A view of nothing and one of more than half the world give a huge focal length, as published."""
    encoded = components["decode_in"]
    for size in ((56, 84), (70, 70), (70, 56), (56, 70)):
        extrinsics, K = decode_cameras(encoded, size)
        if torch.equal(K[..., 0, 2], components["decode_intrinsics"][..., 0, 2]) and torch.equal(
            K[..., 1, 2], components["decode_intrinsics"][..., 1, 2]
        ):
            components.agrees("decode_intrinsics", K)
            break
    else:
        raise AssertionError("no size tried is the recorded one")
    components.agrees("decode_w2c", extrinsics)
    assert K.isfinite().all() and (K[..., 0, 0] > 0).all()


@pytest.mark.parametrize("views", [3, 4, 6, 9])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_reference_views(components: Recording, views: int, strategy: str) -> None:
    tokens = components[f"refsel_in_S{views}"][:, :, 0]
    chosen, wanted = reference_view(tokens, strategy), components[f"refsel_{strategy}_S{views}"].long()
    if strategy == "saddle_sim_range":
        # The two views that are least alike spread alike: rounding, which processors do differently, chooses there.
        direction = torch.nn.functional.normalize(tokens.double(), dim=-1)
        similarity = direction @ direction.mT - torch.eye(views)
        spread = similarity.amax(-1) - similarity.amin(-1)
        rows = torch.arange(len(tokens))
        chosen = torch.where((spread[rows, chosen] - spread[rows, wanted]).abs() < 1e-6, wanted, chosen)
    assert torch.equal(chosen, wanted)


@pytest.mark.parametrize("strategy", STRATEGIES[:2])
def test_reference_view_is_chosen_in_full_precision(strategy: str) -> None:
    tokens = torch.randn(200, 8, 48, generator=torch.Generator().manual_seed(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = reference_view(tokens, strategy)
    assert torch.equal(found, reference_view(tokens, strategy))


def test_unknown_reference_strategy_is_refused() -> None:
    with pytest.raises(ConfigError, match="saddle_sim_range"):
        reference_view(torch.ones(1, 3, 4), "nearest")


def test_order_with_the_reference_first(components: Recording) -> None:
    components.agrees("reorder_S6", reference_first(torch.arange(6), 6))


@given(views=st.integers(1, 9), data=st.data())
@settings(max_examples=30, deadline=None)
def test_restored_undoes_reordered(views: int, data: st.DataObject) -> None:
    reference = torch.tensor(data.draw(st.lists(st.integers(0, views - 1), min_size=2, max_size=2)))
    x = torch.arange(2 * views * 3.0).reshape(2, views, 3)
    order = reference_first(reference, views)
    moved = reordered(x, order)
    assert torch.equal(moved[torch.arange(2), 0], x[torch.arange(2), reference])
    assert torch.equal(restored(moved, order), x)


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200), fraction=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_quantile_is_numpy_s(values: list[float], fraction: float) -> None:
    expected = np.quantile(np.array(values), fraction)
    found = float(quantile(torch.tensor(values, dtype=torch.float64), fraction))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_quantile_of_more_values_than_torch_takes() -> None:
    values = torch.zeros(2**24 + 4)
    values[: len(values) // 2] = 1.0
    with pytest.raises(RuntimeError):
        torch.quantile(values, 0.99)
    assert quantile(values, 0.49) == 0.0 and quantile(values, 0.51) == 1.0


@pytest.mark.parametrize("case", ["few_sky", "eleven_sky", "few_nonsky", "eleven_nonsky"])
def test_a_handful_of_sky_is_left_alone(alignment: Recording, case: str) -> None:
    filled = sky_filled(alignment["mono_depth_in"], alignment[f"mono_{case}_sky"])
    alignment.agrees(f"mono_{case}_depth", filled)
    assert torch.equal(filled, alignment["mono_depth_in"]) == case.startswith("few")


@pytest.mark.parametrize("case", ["n1", "n2", "n3"])
def test_depth_brought_to_metres(alignment: Recording, case: str) -> None:
    """n2: sky farther than 200 m; n3: no sky."""
    sky = alignment[f"{case}_in_sky"]
    metric = sky_filled(alignment[f"{case}_in_metric"], sky)
    alignment.agrees(f"{case}_mono_depth", metric)
    depth, conf = alignment[f"{case}_in_depth"], alignment[f"{case}_in_conf"]
    found = align(depth, conf, alignment[f"{case}_in_int"], metric, sky)
    alignment.agrees(f"{case}_metric_scaled", found.metric_depth)
    alignment.agrees(f"{case}_scale", found.scale)
    before = Output(depth=depth, depth_conf=conf, extrinsics=alignment[f"{case}_in_ext"])
    result = in_metres(before, sky, found)
    alignment.agrees(f"{case}_out_depth", result.depth)
    alignment.agrees(f"{case}_out_conf", result.depth_conf)
    alignment.agrees(f"{case}_out_ext", result.extrinsics)
    assert result.scale_factor == found.scale


def test_depth_near_zero_does_not_tell_the_scale() -> None:
    """Neither below a thousandth of the network's unit nor below a centimetre; both bounds are outside."""
    depth = torch.tensor([2.0, 0.001, 0.002, 0.0011, 2.0]).repeat(8).reshape(1, 1, 5, 8)
    metric = torch.tensor([6.0, 6.0, 0.01, 0.011, 6.0]).repeat(8).reshape(1, 1, 5, 8)
    K = torch.diag(torch.tensor([300.0, 300.0, 1.0]))[None, None]
    found = align(depth, torch.ones_like(depth), K, metric, torch.zeros_like(depth))
    assert torch.equal(found.mask, (depth > 0.001) & (metric > 0.01))
    assert int(found.mask.sum()) == 24 and float(found.scale) == pytest.approx(3.0, rel=1e-4)
