"""The parts of VGGT against the published numbers, and fast paths against plain ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from spatial_fm_ros.core.models.vggt.dense_head import activated, signed_expm1
from spatial_fm_ros.core.models.vggt.sampling import Correlation, motion_embedding, position_map, sampled
from spatial_fm_ros.core.models.vggt.update_transformer import UpdateTransformer
from spatial_fm_ros.core.models.vit.block import Block
from spatial_fm_ros.core.models.vit.dino import DinoV2
from spatial_fm_ros.core.models.vit.dpt import FusionBlock, ResidualConvUnit
from spatial_fm_ros.core.models.vit.positions import grid_positions, resized_position_embedding
from spatial_fm_ros.core.models.vit.rope import rope_table, rotate
from spatial_fm_ros.core.models.vit.sine_map import sine_map

DATA = Path(__file__).parent / "data" / "vggt"


def read(name: str) -> dict[str, torch.Tensor]:
    with np.load(DATA / name) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fi"}


@pytest.fixture(scope="module")
def parts() -> dict[str, torch.Tensor]:
    return read("vggt_components.npz")


def close(got: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-6) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def load(module: torch.nn.Module, given: dict[str, torch.Tensor], prefix: str) -> torch.nn.Module:
    module.load_state_dict({k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}, strict=True)
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("head_dim", [8, 64])
def test_rotary_embedding(parts, head_dim) -> None:
    positions = grid_positions(3, 4, specials=5)
    assert torch.equal(positions, parts["rope_positions_3x4_5special"][0])
    turned = rotate(parts[f"rope_in_hd{head_dim}"], rope_table(positions, head_dim))
    close(turned, parts[f"rope_out_hd{head_dim}"])


@pytest.mark.parametrize("case", ["w6_h4_W84_H56_C12", "w3_h2_W84_H56_C16", "w9_h5_W518_H294_C8"])
def test_sine_maps(parts, case) -> None:
    w, h, width, height, channels = (int(part[1:]) for part in case.split("_"))
    got = sine_map(h, w, channels, width / height)
    close(got.permute(1, 2, 0), parts[f"dptpos_emb_{case}"], 1e-7)


@pytest.mark.parametrize(
    ("height", "width"), [(392, 518), (182, 252), (518, 392), (56, 84), (14, 28), (518, 532), (518, 518)]
)
def test_position_embeddings(parts, height, width) -> None:
    learned = parts["posembed_37"]
    got = resized_position_embedding(learned, height // 14, width // 14, antialias=True, offset=0.0)
    # Its own size is left as it is.
    close(got, learned if (height, width) == (518, 518) else parts[f"posembed_H{height}_W{width}"])


def test_activations(parts) -> None:
    points, confidence = activated(parts["act_in"], signed_expm1)
    close(points, parts["act_points"])
    close(confidence, parts["act_points_conf"])
    depth, confidence = activated(parts["act_depth_in"], torch.exp)
    close(depth, parts["act_depth"])
    close(confidence, parts["act_depth_conf"])


def test_residual_units_and_fusion(parts) -> None:
    unit = load(ResidualConvUnit(4, relu_skip=True), parts, "rcu_w.")
    close(unit(parts["rcu_in"]), parts["rcu_out"])
    fusion = load(FusionBlock(4, relu_skip=True), parts, "ffb_w.")
    top, lateral = parts["ffb_in_top"], parts["ffb_in_lateral"]
    close(fusion(top, lateral, (5, 7)), parts["ffb_out_size5x7"])
    close(fusion(top, lateral, (6, 8)), parts["ffb_out_x2"])


def test_motion_embedding_and_position_map(parts) -> None:
    close(motion_embedding(parts["flowemb_in"], 8), parts["flowemb_out_C8"])
    close(position_map(28, 5, 7, torch.device("cpu"))[None], parts["trackpos_D28_h5_w7"], 1e-7)


def test_sampling(parts) -> None:
    got = sampled(parts["sample4d_map"], parts["sample4d_xy"], "border")
    close(got, parts["sample4d_out"])


@pytest.mark.parametrize(("levels", "radius"), [(3, 2), (5, 1)])
def test_correlation(parts, levels, radius) -> None:
    """Five levels end in a single cell."""
    maps, features, points = (parts[f"corr_{name}"][0] for name in ("fmaps", "targets", "coords"))
    close(Correlation(maps, levels, radius)(features, points), parts[f"corr_out_L{levels}_r{radius}"][0])


def test_correlation_equals_reading_the_whole_volume() -> None:
    """The plain way: every cell of every map with every track, then the window around the track."""
    generator = torch.Generator().manual_seed(3)
    maps, features = torch.randn(2, 8, 21, 17, generator=generator), torch.randn(2, 9, 8, generator=generator)
    points = torch.rand(2, 9, 2, generator=generator) * 30 - 5  # some outside
    levels, radius = 5, 2
    side = torch.arange(-radius, radius + 1.0)
    window = torch.cartesian_prod(side, side)
    plain, halved = [], maps
    for level in range(levels):
        halved = F.avg_pool2d(halved, 2) if level else halved
        volume = torch.einsum("npc,nchw->nphw", features, halved) / 8**0.5
        around = (points[:, :, None] / 2**level + window).flatten(0, 1)
        plain.append(sampled(volume.flatten(0, 1)[:, None], around, "zeros").view(2, 9, -1))
    got = Correlation(maps, levels, radius, chunk=4)(features, points)
    torch.testing.assert_close(got, torch.cat(plain, dim=-1), rtol=1e-5, atol=1e-5)


def test_update_transformer() -> None:
    given = read("vggt_updateformer.npz")
    with np.load(DATA / "vggt_updateformer.npz") as file:
        config = json.loads(str(file["config"]))
    model = UpdateTransformer(
        config["input_dim"],
        config["hidden_size"],
        config["output_dim"],
        config["time_depth"],
        config["num_virtual_tracks"],
    )
    close(load(model, given, "w.")(given["x"]), given["y"])


def test_epsilons_of_the_blocks() -> None:
    """On tokens so small that 1e-5 and 1e-6 differ."""
    given = read("vggt_smallscale.npz")
    weights = load_file(DATA / "vggt_tiny_a_weights.safetensors")
    x = given["block_in"]
    table = rope_table(given["block_pos"][0], 16)
    dino = load(DinoV2(518, 14, 32, 3, 2, 4.0, 4), weights, "aggregator.patch_embed.")
    close(dino.blocks[0](x), given["dino_block0_out"])
    close(dino.norm(x), given["dino_norm_out"])
    frame = load(Block(32, 2, eps=1e-5, qk_norm=True), weights, "aggregator.frame_blocks.0.")
    close(frame(x, table), given["frame_block0_out"])
    scene = load(Block(32, 2, eps=1e-5, qk_norm=True), weights, "aggregator.global_blocks.0.")
    close(scene(x.view(1, 58, 32), table.repeated(2)), given["global_block0_out"])
    small = load(Block(16, 2, eps=1e-5, qk_norm=True), given, "qkblock_w.")
    close(small(given["qkblock_in"], rope_table(given["block_pos"][0], 8)), given["qkblock_out"])
