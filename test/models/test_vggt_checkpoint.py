"""VGGT's checkpoint: names, shapes, strict loading, and the settings that give them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spatial_fm_ros.core.errors import ConfigError, ModelError
from spatial_fm_ros.core.models import vggt

COPIES = Path(__file__).parent / "data" / "vggt"

# Names and shapes of VGGT-1B, written out from its description.
C, BOTH = 1024, 2048


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def affine(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def conv(name: str, out: int, into: int, kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into, kernel, kernel), f"{name}.bias": (out,)}


def block(name: str, dim: int, qk_norm: bool = False) -> dict[str, tuple[int, ...]]:
    shapes = affine(f"{name}.norm1", dim) | affine(f"{name}.norm2", dim)
    shapes |= linear(f"{name}.attn.qkv", 3 * dim, dim) | linear(f"{name}.attn.proj", dim, dim)
    shapes |= linear(f"{name}.mlp.fc1", 4 * dim, dim) | linear(f"{name}.mlp.fc2", dim, 4 * dim)
    shapes |= {f"{name}.ls1.gamma": (dim,), f"{name}.ls2.gamma": (dim,)}
    if qk_norm:
        shapes |= affine(f"{name}.attn.q_norm", 64) | affine(f"{name}.attn.k_norm", 64)
    return shapes


def dpt(name: str, features: int, half: int) -> dict[str, tuple[int, ...]]:
    shapes = affine(f"{name}.norm", BOTH)
    for level, channels in enumerate((256, 512, 1024, 1024)):
        shapes |= conv(f"{name}.projects.{level}", channels, BOTH, 1)
        shapes[f"{name}.scratch.layer{level + 1}_rn.weight"] = (features, channels, 3, 3)
        refine = f"{name}.scratch.refinenet{level + 1}"
        shapes |= conv(f"{refine}.out_conv", features, features, 1)
        for unit in (1, 2) if level < 3 else (2,):
            for k in (1, 2):
                shapes |= conv(f"{refine}.resConfUnit{unit}.conv{k}", features, features, 3)
    shapes |= conv(f"{name}.resize_layers.0", 256, 256, 4) | conv(f"{name}.resize_layers.1", 512, 512, 2)
    shapes |= conv(f"{name}.resize_layers.3", 1024, 1024, 3)
    return shapes | conv(f"{name}.scratch.output_conv1", half, features, 3)


def published_shapes() -> dict[str, tuple[int, ...]]:
    a = "aggregator"
    shapes = {f"{a}.camera_token": (1, 2, 1, C), f"{a}.register_token": (1, 2, 4, C)}
    d = f"{a}.patch_embed"
    shapes |= {f"{d}.cls_token": (1, 1, C), f"{d}.pos_embed": (1, 1370, C)}
    shapes |= {f"{d}.register_tokens": (1, 4, C), f"{d}.mask_token": (1, C)}
    shapes |= conv(f"{d}.patch_embed.proj", C, 3, 14) | affine(f"{d}.norm", C)
    for i in range(24):
        shapes |= block(f"{d}.blocks.{i}", C)
        shapes |= block(f"{a}.frame_blocks.{i}", C, True) | block(f"{a}.global_blocks.{i}", C, True)
    h = "camera_head"
    shapes |= {f"{h}.empty_pose_tokens": (1, 1, 9)}
    for i in range(4):
        shapes |= block(f"{h}.trunk.{i}", BOTH)
    shapes |= affine(f"{h}.token_norm", BOTH) | affine(f"{h}.trunk_norm", BOTH)
    shapes |= linear(f"{h}.embed_pose", BOTH, 9) | linear(f"{h}.poseLN_modulation.1", 3 * BOTH, BOTH)
    shapes |= linear(f"{h}.pose_branch.fc1", C, BOTH) | linear(f"{h}.pose_branch.fc2", 9, C)
    for h, n in (("point_head", 4), ("depth_head", 2)):
        shapes |= dpt(h, 256, 128) | conv(f"{h}.scratch.output_conv2.0", 32, 128, 3)
        shapes |= conv(f"{h}.scratch.output_conv2.2", n, 32, 1)
    shapes |= dpt("track_head.feature_extractor", 128, 128)
    t = "track_head.tracker"
    shapes |= {f"{t}.query_ref_token": (1, 2, 388)}
    shapes |= linear(f"{t}.corr_mlp.fc1", 384, 567) | linear(f"{t}.corr_mlp.fc2", 128, 384)
    shapes |= affine(f"{t}.fmap_norm", 128) | affine(f"{t}.ffeat_norm", 128)
    shapes |= linear(f"{t}.ffeat_updater.0", 128, 128)
    shapes |= linear(f"{t}.vis_predictor.0", 1, 128) | linear(f"{t}.conf_predictor.0", 1, 128)
    u = f"{t}.updateformer"
    shapes |= {f"{u}.virual_tracks": (1, 64, 1, 384)}
    shapes |= affine(f"{u}.input_norm", 388) | affine(f"{u}.output_norm", 384)
    shapes |= linear(f"{u}.input_transform", 384, 388) | linear(f"{u}.flow_head", 130, 384)
    for i in range(6):
        for kind, attention in (
            ("time", "attn"),
            ("space_virtual", "attn"),
            ("space_point2virtual", "cross_attn"),
            ("space_virtual2point", "cross_attn"),
        ):
            b = f"{u}.{kind}_blocks.{i}"
            shapes |= affine(f"{b}.norm1", 384) | affine(f"{b}.norm2", 384)
            shapes |= {f"{b}.{attention}.in_proj_weight": (1152, 384), f"{b}.{attention}.in_proj_bias": (1152,)}
            shapes |= linear(f"{b}.{attention}.out_proj", 384, 384)
            shapes |= linear(f"{b}.mlp.fc1", 1536, 384) | linear(f"{b}.mlp.fc2", 384, 1536)
            if attention == "cross_attn":
                shapes |= affine(f"{b}.norm_context", 384)
    return shapes


def test_vggt_1b_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        model = vggt.build()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == published_shapes()
    assert len(shapes) == 1797 and sum(p.numel() for p in model.parameters()) == 1_256_537_516
    assert not list(model.buffers())


def test_strict_loading_without_copies() -> None:
    weights = load_file(COPIES / "vggt_tiny_a_weights.safetensors")
    with torch.device("meta"):
        model = vggt.build(json.loads((COPIES / "vggt_tiny_a_config.json").read_text()))
    model.load_state_dict(weights, strict=True, assign=True)
    name = "aggregator.global_blocks.1.attn.qkv.weight"
    assert model.state_dict()[name].data_ptr() == weights[name].data_ptr()


def test_loading_tolerates_exactly_the_tensors_of_absent_heads() -> None:
    weights = load_file(COPIES / "vggt_tiny_b_weights.safetensors")
    with torch.device("meta"):
        model = vggt.build(json.loads((COPIES / "vggt_tiny_b_config.json").read_text()), heads=("camera", "depth"))
    model.load_published({k: v for k, v in weights.items() if not k.startswith("track_head.tracker")}, assign=True)
    with pytest.raises(ModelError, match=r"track_head\.extra"):
        model.load_published(weights | {"track_head.extra": torch.zeros(1)}, assign=True)
    with pytest.raises(ModelError, match=r"missing .*depth_head\.norm\.weight"):
        model.load_published({k: v for k, v in weights.items() if k != "depth_head.norm.weight"}, assign=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 3, "width": 2}, "Unknown VGGT settings depth, width; expected some of img_size"),
        ({"embed_dim": "1024"}, "'embed_dim' needs whole numbers"),
        ({"embed_dim": 1024.0}, "'embed_dim' needs whole numbers"),
        ({"aa_depth": 0}, "at least 1"),
        ({"aa_depth": 12}, "gives layers 0 to 11"),
        ({"aa_num_heads": 24}, "multiple of 96"),
        ({"dpt_out_channels": [256, 512, 1024]}, "needs 4 whole numbers"),
        ({"dpt_out_channels": [256, 512, 1024, 1022]}, "multiples of 4"),
        ({"intermediate_layer_idx": 4}, "needs 4 whole numbers"),
    ],
)
def test_settings_that_make_no_network(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        vggt.build(settings)
