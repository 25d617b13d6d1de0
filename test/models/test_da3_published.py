"""Depth Anything 3 takes weights exactly as the hub stores them, and nothing else."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from da3_fixtures import nested_settings, nested_weights, published_keys, settings, tiny, weights

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models import depth_anything_3
from spatial_fm_ros.core.models.depth_anything_3.presets import HUB_NAMES

NORM = "model.head.scratch.output_conv2_aux.{}.2.weight"
#: Tensors and parameters of the published files.
SIZES = {
    "da3-small": (437, 34_299_463),
    "da3-base": (437, 135_366_599),
    "da3-large": (637, 410_941_767),
    "da3-giant": (971, 1_355_674_125),
    "da3metric-large": (406, 334_171_394),
    "da3mono-large": (406, 334_171_394),
    "da3nested-giant-large": (1377, 1_689_845_519),
}


def official(variant: str) -> dict[str, tuple[int, ...]]:
    keys = published_keys()
    if variant == "da3mono-large":
        return keys["da3metric-large"]
    if variant != "da3nested-giant-large":
        return keys[variant]
    return {
        key.replace("model.", f"model.{branch}.", 1): shape
        for part, branch in (("da3-giant", "da3"), ("da3metric-large", "da3_metric"))
        for key, shape in keys[part].items()
    }


@pytest.mark.parametrize("variant", SIZES)
def test_every_variant_has_the_published_keys_and_shapes(variant: str) -> None:
    with torch.device("meta"):
        network = depth_anything_3.build(HUB_NAMES[variant])
    layout = network.published_layout()
    gaussian = {key: shape for key, shape in layout.allowed.items() if "gs_head." in key}
    keys = official(variant)
    ours = layout.needed | (gaussian if any("gs_head." in key for key in keys) else {})
    assert ours == keys
    assert (len(ours), sum(map(math.prod, ours.values()))) == SIZES[variant]
    assert set(network.published_names(keys)) == set(network.state_dict())
    assert not list(network.buffers())


def test_presets_are_also_known_by_their_names_on_the_hub() -> None:
    with torch.device("meta"):
        by_hub = depth_anything_3.build("da3nested-giant-large")
    assert by_hub.config == depth_anything_3.PRESETS["nested"]


def test_stacks_that_nobody_reads_are_not_kept() -> None:
    """The largest variant saves 40 million parameters so, most of them its Gaussian head."""
    with torch.device("meta"):
        network = depth_anything_3.build("giant")
    assert sum(p.numel() for p in network.parameters()) < SIZES["da3-giant"][1] - 40_000_000
    assert not any("gs_head" in name or "_aux.0." in name for name in network.state_dict())


def test_a_plain_state_dict_names_the_shared_norm_four_times() -> None:
    """It is one norm; the first name is the one that every file has."""
    plain = dict(weights("a"))
    for kind in ("weight", "bias"):
        for k in (1, 2, 3):
            plain[NORM.format(k).replace("weight", kind)] = plain[NORM.format(0).replace("weight", kind)]
    network = depth_anything_3.build(settings("a"))
    network.load_published(plain)
    loaded = network.state_dict()
    assert set(loaded) == set(tiny("a").state_dict())
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in tiny("a").state_dict().items())


def test_assigned_tensors_become_the_parameters() -> None:
    with torch.device("meta"):
        network = depth_anything_3.build(settings("m"))
    given = {name: tensor.clone() for name, tensor in weights("m").items()}
    network.load_published(given, assign=True)
    memory = {tensor.data_ptr() for tensor in given.values()}
    assert all(parameter.data_ptr() in memory for parameter in network.parameters())


def test_a_gaussian_head_is_tolerated_with_its_shapes_only() -> None:
    network = depth_anything_3.build(settings("b"))
    layout = network.published_layout()
    gaussian = {name: torch.zeros(shape) for name, shape in layout.allowed.items() if "gs_head." in name}
    assert len(gaussian) == 66
    network.load_published(weights("b") | gaussian)
    name = "model.gs_head.scratch.output_conv2.2.weight"
    with pytest.raises(ModelError, match=name):
        network.load_published(weights("b") | gaussian | {name: torch.zeros(2, 32, 1, 1)})
    with pytest.raises(ModelError, match="gs_head"):
        depth_anything_3.build({**settings("b"), "gs": False}).load_published(weights("b") | gaussian)


@pytest.mark.parametrize("name", ["a", "m", "nested"])
def test_faults_of_a_file_are_named_and_nothing_is_loaded(name: str) -> None:
    network = depth_anything_3.build(nested_settings() if name == "nested" else settings(name))
    good = nested_weights() if name == "nested" else weights(name)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    last = list(good)[-1]
    for fault, words in (
        ({key: tensor for key, tensor in good.items() if key != last}, f"1 missing .{last}"),
        (good | {"model.extra": torch.zeros(1)}, "1 foreign .model.extra"),
        (good | {last: torch.zeros(5)}, f"1 of another shape .{last} is .5."),
        ({key.removeprefix("model."): tensor for key, tensor in good.items()}, "foreign"),
    ):
        with pytest.raises(ModelError, match=words):
            network.load_published(fault)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_the_error_says_which_variant_a_file_looks_like() -> None:
    with torch.device("meta"):
        network = depth_anything_3.build("base")
    for variant, words in (("da3-large", "LARGE"), ("da3metric-large", "METRIC or MONO"), ("da3-small", "SMALL")):
        with pytest.raises(ModelError, match=f"look like a Depth Anything 3 {words}.*network like.*BASE"):
            network.published_names(official(variant))


def test_the_weights_of_a_norm_that_is_stored_once_are_the_ones_used() -> None:
    """Leaving it as initialised would move rays by a third."""
    changed = dict(weights("a"))
    changed[NORM.format(0)] = torch.ones_like(changed[NORM.format(0)])
    network = depth_anything_3.build(settings("a"))
    network.load_published(changed)
    images = torch.randn(1, 1, 3, 28, 28, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        rays, right = network(images).ray, tiny("a")(images).ray
    assert (rays - right).abs().max() > 0.05 * right.abs().max()
