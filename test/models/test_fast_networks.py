"""Whole networks with fast layers, against their plain selves and the recorded numbers of the published ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from spatial_fm_ros.core.models import depth_anything_3, vggt
from spatial_fm_ros.core.models.vit.block import Block
from spatial_fm_ros.core.models.vit.fast import dtype_policy, optimised
from spatial_fm_ros.core.models.weights.load import fill, place
from spatial_fm_ros.core.models.weights.random import randomise

pytestmark = pytest.mark.usefixtures("two_threads")

DATA = Path(__file__).parent / "data"
#: Networks and a recording of each.
RECORDED = {
    "vggt_tiny_a": "vggt_tiny_a_s2_56x84",
    "vggt_tiny_b": "vggt_tiny_b_s5_70x70",
    "da3_tiny_a": "da3_tiny_a_s5_70x56",
    "da3_tiny_b": "da3_tiny_b_s2_84x56",
    "da3_tiny_m": "da3_tiny_m_s1_70x98",
}
RESULTS = ("pose_enc", "depth", "depth_conf", "world_points", "world_points_conf", "ray", "ray_conf", "sky")
TOLERANCE = 2e-5  # of the largest value, as the recordings state it


def folder(name: str) -> Path:
    return DATA / name.partition("_")[0]


def built(name: str) -> nn.Module:
    """On the meta device."""
    config = json.loads((folder(name) / f"{name}_config.json").read_text())
    with torch.device("meta"):
        if name.startswith("da3"):
            return depth_anything_3.build(config)
        return vggt.build(config, heads=("camera", "depth", "point"))


def loaded(name: str, network: nn.Module, precision: torch.dtype = torch.float32) -> nn.Module:
    weights = load_file(folder(name) / f"{name}_weights.safetensors")
    fill(network, weights, "cpu", dtype_policy(precision))
    return network.eval()


def images_of(name: str) -> tuple[Tensor, dict[str, np.ndarray]]:
    with np.load(folder(name) / f"{RECORDED[name]}.npz") as file:
        content = {key: file[key] for key in file.files if key != "meta"}
    return torch.from_numpy(content.pop("images")), content


def run(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        output = network(images)
    found = {name: getattr(output, name, None) for name in RESULTS}
    return {name: value for name, value in found.items() if value is not None}


def thinned(dense: Tensor, like: Tensor) -> Tensor:
    """Some copies keep every second to fourth row and column of dense results [B, S, H, W, ...]."""
    if dense.shape == like.shape:
        return dense
    return next(d for step in range(2, 5) if (d := dense[:, :, ::step, ::step]).shape == like.shape)


def worst(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", RECORDED)
def test_fast_networks_give_the_recorded_numbers(name: str) -> None:
    """Fast layers are put in before the weights come, as the pipeline does it."""
    images, recorded = images_of(name)
    network = optimised(built(name))
    assert not any(isinstance(module, Block) for module in network.modules())
    found = run(loaded(name, network), images)
    plain = run(loaded(name, built(name)), images)
    assert found.keys() == plain.keys()
    for key, value in found.items():
        assert worst(value, plain[key]) < TOLERANCE / 2, key
    for key in found.keys() & recorded.keys():
        expected = torch.from_numpy(recorded[key])
        assert worst(thinned(found[key], expected), expected) < TOLERANCE, key
    assert "depth" in recorded


@pytest.mark.parametrize("name", RECORDED)
def test_low_precision_stays_within_its_bounds(name: str) -> None:
    images, _ = images_of(name)
    exact = run(loaded(name, built(name)), images)
    low = run(loaded(name, optimised(built(name)), torch.bfloat16), images)
    for key, value in low.items():
        assert value.dtype == torch.float32 and value.isfinite().all(), key
    non_sky = low["sky"] < 0.29 if "sky" in low else torch.ones_like(low["depth"], dtype=torch.bool)
    error = (low["depth"] / exact["depth"] - 1).abs()[non_sky]
    assert 1e-4 < float(error.mean()) < 0.01
    if "pose_enc" in low:
        assert worst(low["pose_enc"], exact["pose_enc"]) < 0.01


def test_frames_of_a_window_may_be_embedded_at_different_times() -> None:
    images, _ = images_of("vggt_tiny_b")
    network = loaded("vggt_tiny_b", optimised(built("vggt_tiny_b")))
    assert isinstance(network, vggt.Vggt)
    whole = run(network, images)
    with torch.inference_mode():
        tokens = torch.cat([network.embed(images[:, :2]), network.embed(images[:, 2:])], dim=1)
        parts = network.relate(tokens, (70, 70), frames_per_chunk=2)
    assert parts.depth is not None
    assert worst(parts.depth, whole["depth"]) < TOLERANCE


def test_poses_condition_the_fast_network_as_the_plain_one() -> None:
    with np.load(DATA / "da3" / "da3_tiny_a_s4_posed_56x70.npz") as file:
        images, extrinsics, intrinsics = (
            torch.from_numpy(file[key]) for key in ("images", "in_extrinsics", "in_intrinsics")
        )
        expected = torch.from_numpy(file["depth"])
    network = loaded("da3_tiny_a", optimised(built("da3_tiny_a")))
    with torch.inference_mode():
        found = network(images, extrinsics, intrinsics).depth
    assert worst(thinned(found, expected), expected) < TOLERANCE


def test_tapped_tokens_are_kept_in_the_precision_of_the_blocks() -> None:
    images, _ = images_of("vggt_tiny_b")
    for precision in (torch.float32, torch.bfloat16):
        network = loaded("vggt_tiny_b", optimised(built("vggt_tiny_b")), precision)
        assert isinstance(network, vggt.Vggt)
        with torch.inference_mode():
            taps = network.aggregator(network.embed(images), (5, 5), {0, 3})
        assert {tap.dtype for tap in taps.values()} == {precision}


def test_names_and_sizes_of_parameters_stay() -> None:
    for network in (vggt.build, lambda: depth_anything_3.build("small"), lambda: depth_anything_3.build("nested")):
        with torch.device("meta"):
            plain, fast = network(), optimised(network())
        shapes = {name: tensor.shape for name, tensor in plain.state_dict().items()}
        assert {name: tensor.shape for name, tensor in fast.state_dict().items()} == shapes
        assert not any(parameter.requires_grad for parameter in fast.parameters())


def test_low_precision_halves_the_weights() -> None:
    """What VGGT-1B holds in mixed precision, by its shapes alone."""
    with torch.device("meta"):
        network = optimised(vggt.build(None, heads=("camera", "depth", "point")))
    full = sum(p.numel() * 4 for p in network.parameters())
    policy = dtype_policy(torch.bfloat16)
    mixed = sum(p.numel() * policy(name, p).itemsize for name, p in network.named_parameters())
    assert 0.5 < mixed / full < 0.51


def test_weights_may_be_random_before_and_moved_after() -> None:
    name = "vggt_tiny_b"
    images, _ = images_of(name)
    network = built(name)
    randomise(network, 3, "cpu", dtype_policy(torch.float32))
    expected = run(network.eval(), images)
    place(optimised(network), torch.device("cpu"), dtype_policy(torch.bfloat16))
    found = run(network, images)
    assert 1e-6 < worst(found["depth"], expected["depth"]) < 0.05
