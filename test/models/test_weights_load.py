"""Weights into networks: exact, strict, in the wanted dtypes, in the memory they need and no more."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models import depth_anything_3, vggt
from spatial_fm_ros.core.models.weights.files import read
from spatial_fm_ros.core.models.weights.fitting import fit
from spatial_fm_ros.core.models.weights.identify import expect, identify
from spatial_fm_ros.core.models.weights.licences import PUBLISHED
from spatial_fm_ros.core.models.weights.load import fill
from spatial_fm_ros.core.models.weights.mapped import MappedFiles
from spatial_fm_ros.core.models.weights.random import randomise

HERE = Path(__file__).parent
TINY_VGGT = {
    "img_size": 70, "embed_dim": 32, "dino_depth": 2, "dino_num_heads": 2, "aa_depth": 4, "aa_num_heads": 2,
    "camera_trunk_depth": 1, "camera_num_heads": 2, "dpt_features": 16, "dpt_out_channels": [8, 8, 16, 16],
    "intermediate_layer_idx": [0, 1, 2, 3], "track_features": 16, "track_corr_levels": 2, "track_corr_radius": 1,
    "track_hidden_size": 32, "track_depth": 1,
}  # fmt: skip
TINY_DA3 = {
    "kind": "anyview", "img_size": 70, "embed_dim": 64, "depth": 6, "num_heads": 4, "ffn": "mlp", "alt_start": 2,
    "qknorm_start": 2, "rope_start": 2, "cat_token": True, "out_layers": [2, 3, 4, 5], "features": 16,
    "out_channels": [8, 16, 32, 32],
}  # fmt: skip


def float32(name: str, tensor: torch.Tensor) -> torch.dtype:
    return torch.float32


def on_meta(build, *arguments, **options):
    with torch.device("meta"):
        return build(*arguments, **options)


def published(network: nn.Module) -> dict[str, torch.Tensor]:
    """A network's weights as its checkpoint holds them."""
    if not hasattr(network, "published_layout"):
        return {name: tensor.clone() for name, tensor in network.state_dict().items()}
    layout, own = network.published_layout(), network.state_dict()
    tensors = {name: torch.randn(shape) for name, shape in layout.needed.items()}
    return tensors | {stored: own[name].clone() for name, stored in layout.published.items()}


@pytest.fixture(params=["vggt", "depth_anything_3"])
def tiny(request, tmp_path):
    """Build function of a tiny network, its weights, and their file."""
    torch.manual_seed(0)
    module, config = {"vggt": (vggt, TINY_VGGT), "depth_anything_3": (depth_anything_3, TINY_DA3)}[request.param]
    network = module.build(config)
    path = tmp_path / "model.safetensors"
    save_file(published(network), path)
    return lambda: module.build(config), network, path


def test_a_filled_network_is_the_saved_one(tiny, tmp_path):
    build, network, path = tiny
    torch.save({"model": load_file(path)}, tmp_path / "model.pt")
    for file in (path, tmp_path / "model.pt"):
        before = file.read_bytes()
        filled = on_meta(build)
        found = fill(filled, read(file).tensors, "cpu", float32)
        assert found.random is False and found.parameters == sum(p.numel() for p in network.parameters())
        assert found.bytes == 4 * found.parameters
        for name, tensor in network.state_dict().items():
            assert torch.equal(filled.state_dict()[name], tensor), name
        files = MappedFiles()
        assert all(files.hold(p) and p.requires_grad for p in filled.parameters())  # no copy was made
        with torch.no_grad():
            next(filled.parameters()).fill_(3.0)
        assert file.read_bytes() == before


def test_every_parameter_gets_the_dtype_asked_for(tiny):
    build, network, path = tiny
    filled = on_meta(build)

    def dtype_of(name: str, tensor: torch.Tensor) -> torch.dtype:
        return torch.bfloat16 if tensor.ndim > 1 and name.endswith("weight") else torch.float32

    found = fill(filled, read(path).tensors, "cpu", dtype_of)
    assert 2 * found.parameters < found.bytes < 3 * found.parameters
    for name, tensor in network.state_dict().items():
        dtype = dtype_of(name, tensor)
        assert filled.state_dict()[name].dtype == dtype
        assert torch.equal(filled.state_dict()[name], tensor.to(dtype)), name
    # Pages given back are read again from the file: what stayed mapped, and what is read anew, is as saved.
    again = on_meta(build)
    fill(again, read(path).tensors, "cpu", float32)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_heads_that_are_not_built_are_left_in_the_file(tmp_path):
    whole = vggt.build(TINY_VGGT)
    save_file(published(whole), tmp_path / "model.safetensors")
    filled = on_meta(vggt.build, TINY_VGGT, heads=("camera", "depth"))
    fill(filled, read(tmp_path / "model.safetensors").tensors, "cpu", float32)
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in filled.state_dict().items())


def test_half_files_are_widened(tiny, tmp_path):
    build, network, path = tiny
    half = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path).items()}
    save_file(half, tmp_path / "half.safetensors")
    filled = on_meta(build)
    fill(filled, read(tmp_path / "half.safetensors").tensors, "cpu", float32)
    for name, tensor in network.state_dict().items():
        assert torch.equal(filled.state_dict()[name], tensor.to(torch.bfloat16).float())


def test_buffers_and_odd_tensors_are_placed():
    """Networks here have no buffers and contiguous weights; the loader does not rely on it."""
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    tensors = {name: torch.randn(tensor.shape) for name, tensor in network.state_dict().items()}
    tensors["0.weight"] = torch.arange(9.0).reshape(3, 3).T
    filled = on_meta(lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    fill(filled, tensors, "cpu", lambda name, tensor: torch.float64)
    assert all(tensor.dtype == torch.float64 for tensor in filled.state_dict().values())
    assert torch.equal(filled[0].weight, tensors["0.weight"].double())
    assert torch.equal(filled[1].running_mean, tensors["1.running_mean"].double())
    assert torch.equal(tensors["0.weight"], torch.arange(9.0).reshape(3, 3).T)  # memory that is no file stays


def test_what_does_not_fit_is_named(tiny):
    build, network, path = tiny
    tensors = load_file(path)
    names = list(tensors)
    few = {name: tensor for name, tensor in tensors.items() if name not in names[10:16]}
    few["extra.weight"] = torch.ones(2)
    few[names[20]] = torch.ones(7, 5)
    filled = on_meta(build)
    with pytest.raises(ModelError) as raised:
        fill(filled, few, "cpu", float32)
    words = str(raised.value)
    assert all(name in words for name in (names[20], "extra.weight")), words
    assert sum(name in words for name in names[10:16]) == 4 and ", ..." in words and "6 " in words
    assert all(tensor.is_meta for tensor in filled.state_dict().values())  # nothing was changed


def test_another_size_is_named():
    small = {name: torch.ones(tensor.shape) for name, tensor in vggt.build(TINY_VGGT).state_dict().items()}
    with pytest.raises(ModelError, match=re.escape("of another size (width 32, 4 block pairs), the network like")):
        fill(on_meta(vggt.build, {**TINY_VGGT, "aa_depth": 5}), small, "cpu", float32)


# -- which architecture ----------------------------------------------------------------------------


@cache
def shapes_of(model: str, variant: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published file; GIANT files hold a Gaussian head, which is not read."""
    if model == "vggt":
        return {name: tuple(tensor.shape) for name, tensor in on_meta(vggt.build).state_dict().items()}
    layout = on_meta(depth_anything_3.build, variant).published_layout()
    gaussians = {name: shape for name, shape in layout.allowed.items() if "gs_head." in name}
    return layout.needed | (gaussians if variant in ("giant", "nested") else {})


@pytest.mark.parametrize("known", PUBLISHED, ids=lambda known: known.id)
def test_published_checkpoints_are_identified_and_fit(known):
    """Names and shapes of every variant: right name, right parameter count, nothing missing or foreign."""
    shapes = dict(shapes_of(known.model, known.variant.replace("mono", "metric")))
    count = 0
    for shape in shapes.values():
        count += torch.Size(shape).numel()
    assert count == known.parameters
    found, fits = fit(shapes)
    assert found.model == known.model and fits == "every name and shape is as published"
    assert found.variant == known.variant.replace("mono", "metric")
    assert expect(known.model, shapes, Path("x")) == found
    other = "depth_anything_3" if known.model == "vggt" else "vggt"
    remedy = f"x is {found.note}, but model:={other} was asked for: use model:={known.model},"
    with pytest.raises(ModelError, match=re.escape(remedy)):
        expect(other, shapes, Path("x"))


def test_a_vggt_without_some_heads():
    shapes = {k: tuple(v.shape) for k, v in on_meta(vggt.build, heads=("camera", "depth")).state_dict().items()}
    found, fits = fit(shapes)
    assert found.heads == ("camera", "depth") and "heads camera, depth only" in found.note
    assert fits == "every name and shape is as published"
    del shapes["camera_head.empty_pose_tokens"]
    with pytest.raises(ModelError, match="1 tensors are missing .camera_head.empty_pose_tokens."):
        fit(shapes)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["cls_token", "blocks.0.attn.qkv.weight", "patch_embed.proj.weight"], "DINOv2"),
        (["embeddings.cls_token", "embeddings.patch_embeddings.projection.weight"], "transformers"),
        (
            ["pretrained.cls_token", "pretrained.blocks.0.norm1.weight", "depth_head.projects.0.weight"],
            "Anything 1 or 2",
        ),
        (["enc_blocks.0.norm1.weight", "dec_blocks.0.norm1.weight", "patch_embed.proj.weight"], "DUSt3R"),
        (["visual.class_embedding", "transformer.resblocks.0.ln_1.weight"], "CLIP"),
        (["image_encoder.pos_embed", "mask_decoder.x"], "Segment Anything"),
        (["conv1.weight", "layer1.0.conv1.weight"], "ResNet"),
        (["conv.weight", "head.bias"], "does not know (its tensors begin with conv.weight, head.bias)"),
        ([], "does not know"),
    ],
)
def test_foreign_networks_are_named(keys, words):
    shapes = dict.fromkeys(keys, (4, 4))
    found = identify(shapes)
    assert found.model == "" and words in found.note
    assert fit(shapes) == (found, "nothing here")
    with pytest.raises(ModelError, match="spatial-fm weights list"):
        expect("vggt", shapes, Path("x"))


def test_nano_is_no_vggt():
    shapes = {k: tuple(v.shape) for k, v in on_meta(vggt.build, TINY_VGGT).state_dict().items()}
    found = identify({**shapes, "ray_embed.unknown": (32,)})
    assert found.model == "nano" and found.note.startswith("a nano checkpoint (width ")


def test_other_sizes_are_named():
    tiny = on_meta(depth_anything_3.build, TINY_DA3).published_layout().needed
    assert identify(tiny).note == "a Depth Anything 3 checkpoint of another size (any-view, width 64, 6 blocks)"
    assert fit(tiny)[1].startswith("only a network built with its own settings")
    cut = {
        k: v for k, v in on_meta(depth_anything_3.build, "small").published_layout().needed.items() if ".11." not in k
    }
    assert identify(cut).variant == "" and "width 384, 11 blocks" in identify(cut).note


# -- full size -------------------------------------------------------------------------------------

MEASURE = """
import json, sys, torch
from pathlib import Path
from sparse_checkpoint import write_sparse
from spatial_fm_ros.core.models import depth_anything_3, vggt
from spatial_fm_ros.core.models.weights.files import read
from spatial_fm_ros.core.models.weights.load import fill

def peak():  # kB of this process, and begin anew
    kb = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
    Path("/proc/self/clear_refs").write_text("5")
    return kb

torch.set_num_threads(2)
found = []
for name in ("linears", "vggt", "giant"):
    with torch.device("meta"):
        if name == "linears":
            network = torch.nn.Sequential(*(torch.nn.Linear(2048, 2048, bias=False) for _ in range(8)))
        else:
            network = vggt.build() if name == "vggt" else depth_anything_3.build(name)
    if name == "giant":
        shapes = network.published_layout().needed
    else:
        shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    path = write_sparse(Path(sys.argv[1]) / name, shapes)
    dtype = torch.bfloat16 if name == "linears" else torch.float32
    peak()
    start = peak()
    figures = fill(network, read(path).tensors, "cpu", lambda *_: dtype)
    found.append([len(shapes), figures.parameters, figures.bytes, peak() - start])
    del network
print(json.dumps(found))
"""


def test_full_size_checkpoints_load_in_small_memory(tmp_path):
    """VGGT-1B (5.0 GB) and DA3-GIANT (5.3 GB) stay mapped; converted weights cost their own size and no more."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *(path for path in sys.path if path)])}
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    converted, mapped, giant = json.loads(done.stdout)
    assert converted[:3] == [8, 33_554_432, 67_108_864]
    assert 65_536 <= converted[3] < 65_536 + 45_000  # kB: the bfloat16 copy and at most a few of the float32 tensors
    assert mapped[:3] == [1797, 1_256_537_516, 5_026_150_064] and mapped[3] < 100_000
    assert giant[1] > 1.3e9 and giant[3] < 100_000


# -- random weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_random_weights_are_seeded_and_marked(tiny, dtype):
    build = tiny[0]
    one, two, other = on_meta(build), build(), on_meta(build)
    for network, seed in ((one, 1), (two, 1), (other, 2)):
        found = randomise(network, seed, "cpu", lambda name, tensor: dtype)
        assert found.random and found.bytes == found.parameters * dtype.itemsize
    same = [torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items()]
    assert all(same) and all(tensor.dtype == dtype for tensor in one.state_dict().values())
    weights = [
        name for name, p in one.named_parameters() if p.ndim == 2 and p.numel() > 100 and name.endswith("weight")
    ]
    assert not any(torch.equal(one.state_dict()[name], other.state_dict()[name]) for name in weights)
    assert not any(torch.equal(one.state_dict()[weights[0]], one.state_dict()[name]) for name in weights[1:])


def test_random_matrices_keep_variance():
    """Through 12 wide layers, the size of a signal stays; no two rows are alike, although the pool is used again."""
    with torch.device("meta"):
        network = nn.Sequential(*(nn.Linear(1500, 1500) for _ in range(12)), nn.Linear(3, 1_500_000))
    randomise(network, 0, "cpu", float32)
    signal = torch.randn(64, 1500, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = network[:-1](signal)
    assert 0.8 < out.std().item() < 1.25
    rows = network[-1].weight.detach().double() @ torch.tensor([1.0, 2**0.5, 3**0.5], dtype=torch.float64)
    assert len(torch.unique(rows)) > 0.999 * len(rows)


def test_random_networks_give_usable_predictions():
    """Finite depth of a moderate range, and cameras that see something, so that the whole pipeline has work."""
    images = torch.rand(1, 3, 3, 70, 70, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first = on_meta(vggt.build, {**TINY_VGGT, "embed_dim": 64}, heads=("camera", "depth", "point"))
        randomise(first, 0, "cpu", float32)
        out = first(images)
        second = on_meta(depth_anything_3.build, TINY_DA3)
        randomise(second, 0, "cpu", float32)
        result = second(images)
    for depth, pose in ((out.depth, out.pose_enc), (result.depth, result.pose_enc)):
        assert torch.isfinite(depth).all() and depth.min() > 1e-3 and depth.max() < 1e3
        assert torch.isfinite(pose).all() and (pose[..., 7:] > 0.4).all() and (pose[..., 7:] < 2.0).all()
        assert torch.allclose(pose[..., 3:7].norm(dim=-1), torch.ones(()), atol=0.3)
