"""VGGT against the numbers of the published network, and what it promises beside them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spatial_fm_ros.core.errors import InputError, ModelError
from spatial_fm_ros.core.models import vggt
from spatial_fm_ros.core.models.vit.pose_encoding import decode

pytestmark = pytest.mark.usefixtures("two_threads")

COPIES = Path(__file__).parent / "data" / "vggt"
ORIGINALS = os.environ.get("SPATIAL_FM_FIXTURES", "")
#: The copies keep every third row and column of dense results.
THINNED = 3
COPIED = ("tiny_a_s2_56x84", "tiny_b_b2s2_84x56", "tiny_b_s5_70x70", "smallscale")
CASES = (*COPIED, "tiny_a_s5_70x70")


def fixtures(*names: str) -> list:
    """Paths of the copies, and of the complete originals where they are."""
    absent = pytest.mark.skipif(not ORIGINALS, reason="SPATIAL_FM_FIXTURES does not name the folder of fixtures")
    copies = [pytest.param(COPIES / f"vggt_{name}.npz", id=f"{name}-copy") for name in names if name in COPIED]
    originals = [pytest.param(Path(ORIGINALS) / f"vggt_{name}.npz", id=name, marks=absent) for name in names]
    return copies + originals


def network(name: str, **kwargs) -> vggt.Vggt:
    config = json.loads((COPIES / f"vggt_{name}_config.json").read_text())
    with torch.device("meta"):
        model = vggt.build(config, **kwargs)
    model.load_published(load_file(COPIES / f"vggt_{name}_weights.safetensors"), assign=True)
    return model.eval()


@pytest.fixture(scope="module")
def tiny_b() -> vggt.Vggt:
    return network("tiny_b")


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    with np.load(COPIES / "vggt_tiny_b_b2s2_84x56.npz") as file:
        return torch.from_numpy(file["images"])


def results(output: vggt.VggtOutput) -> dict[str, torch.Tensor]:
    """All tensors of an output under the fixtures' names."""
    named = {f"pose_enc_iter{i}": t for i, t in enumerate(output.pose_enc_iterations or [])}
    named |= {f"track_iter{i}": t for i, t in enumerate(output.track_iterations or [])}
    single = ("pose_enc", "depth", "depth_conf", "world_points", "world_points_conf", "track", "vis", "conf")
    return named | {name: getattr(output, name) for name in single if getattr(output, name) is not None}


def agree(name: str, got: torch.Tensor, expected: np.ndarray, noise: float = 0.0) -> None:
    """Within the fixtures' tolerances, or ten times the rounding noise of the published network if that is less."""
    if got.shape != expected.shape:
        got = got[:, :, ::THINNED, ::THINNED]
    assert got.shape == expected.shape, name
    error = np.abs(got.numpy() - expected).max()
    if name.startswith("track"):
        tolerance = 1e-3  # pixels
    elif name in ("vis", "conf"):
        tolerance = 1e-4
    else:
        largest = np.abs(expected).max()
        tolerance = min(2e-5 * largest, max(10 * noise, 2e-6 * largest) if noise else np.inf)
    assert error <= tolerance, f"{name}: {error} > {tolerance}"


@pytest.mark.parametrize("path", fixtures(*(name for name in CASES if name != "smallscale")))
def test_equals_the_published_network(path: Path) -> None:
    fixture = dict(np.load(path))
    noise = json.loads(str(fixture["meta"]))["noise_floor"]
    model = network(path.stem[5:11])
    images, points = torch.from_numpy(fixture["images"]), torch.from_numpy(fixture["query_points"])
    size = (images.shape[-2], images.shape[-1])
    seen = watched(model)
    with torch.no_grad():
        output = model(images, points)
        got = results(output) | seen
        patches = model.embed(images)
        layers = model.aggregator(patches, (size[0] // 14, size[1] // 14), range(model.config.aa_depth))
    got |= {f"agg_{layer:02d}": tokens for layer, tokens in layers.items()}
    got["dbg_dino_patch_tokens"] = patches.flatten(0, 1)
    got["extrinsic"], got["intrinsic"] = decode(output.pose_enc, size)
    compared = set(fixture) & set(got)
    assert compared >= set(fixture) - {"images", "query_points", "meta", "world_points_from_depth"}
    for name in compared:
        agree(name, got[name], fixture[name], noise.get(name, [0.0])[0])


def watched(model: vggt.Vggt) -> dict[str, torch.Tensor]:
    """Filled, in the next call, with what the fixtures record inside the dense heads."""
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str, module: torch.nn.Module) -> None:
        def hook(_module, _inputs, output) -> None:
            seen[name] = torch.cat([seen[name], output]) if name in seen else output

        module.register_forward_hook(hook)

    for level in range(4):
        keep(f"dbg_depth_level{level}", model.depth_head.resize_layers[level])
        keep(f"dbg_depth_fused{level + 1}", model.depth_head.scratch.get_submodule(f"refinenet{level + 1}"))
    keep("dbg_depth_logits", model.depth_head.scratch.output_conv2)
    keep("dbg_point_logits", model.point_head.scratch.output_conv2)

    def maps(_module, inputs) -> None:
        seen["dbg_track_fmaps"] = inputs[0]

    model.track_head.tracker.register_forward_pre_hook(maps)
    return seen


@pytest.mark.parametrize("path", fixtures("smallscale"))
def test_every_norm_has_the_published_epsilon(path: Path) -> None:
    """Tokens so small that 1e-5 and 1e-6 below the root differ."""
    fixture = dict(np.load(path))
    model = network("tiny_a")
    given = {name: torch.from_numpy(fixture[name]) for name in fixture}
    tokens = {k: given[f"tokens_{k:02d}"] for k in range(5)}
    model.aggregator.forward = lambda *_: tokens  # only the heads run, on the recorded tokens
    with torch.no_grad():
        for name, got in results(model.relate(torch.zeros(1, 2, 24, 32), (56, 84), given["query_points"])).items():
            if name in fixture:
                agree(name, got, fixture[name])


@pytest.mark.parametrize("heads", [("camera",), ("depth",), ("camera", "point"), ("track",), ()])
def test_heads_can_be_left_out(heads, tiny_b, pictures) -> None:
    model = network("tiny_b", heads=heads)
    points = torch.full((2, 1, 2), 20.0)
    prefixes = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert prefixes == {"aggregator"} | {f"{head}_head" for head in heads}
    with torch.no_grad():
        alone, off = results(model(pictures, points)), results(tiny_b(pictures, points, heads=heads))
        whole = results(tiny_b(pictures, points))
    fields = {"camera": "pose_enc", "depth": "depth", "point": "world_points", "track": "track"}
    for head, field in fields.items():
        assert (field in alone) == (head in heads)
    assert set(alone) == set(off)
    for name, tensor in alone.items():
        assert torch.equal(tensor, off[name])
        torch.testing.assert_close(tensor, whole[name], rtol=1e-6, atol=1e-6)


def test_only_tapped_layers_are_kept(tiny_b, pictures, monkeypatch) -> None:
    asked = []
    plain = tiny_b.aggregator.forward
    monkeypatch.setattr(tiny_b.aggregator, "forward", lambda *args: asked.append(args[-1]) or plain(*args))
    with torch.no_grad():
        tiny_b(pictures, heads=("camera",))
        tiny_b(pictures, heads=("camera", "depth"))
    assert asked == [{3}, {0, 1, 2, 3}]


def test_chunks_of_frames_mean_nothing(tiny_b, pictures) -> None:
    points = torch.full((2, 3, 2), 20.0)
    with torch.no_grad():
        whole, chunked = (results(tiny_b(pictures, points, frames_per_chunk=n)) for n in (8, 3))
    for name, tensor in whole.items():
        torch.testing.assert_close(chunked[name], tensor, rtol=2e-6, atol=2e-5)


def test_patch_tokens_of_known_frames_are_used_again(tiny_b, pictures) -> None:
    """A window over frames of two others, whose first step is not repeated."""
    with torch.no_grad():
        kept = tiny_b.embed(pictures)
        window = torch.cat([pictures[0, 1:], pictures[1]])
        reused = tiny_b.relate(torch.cat([kept[:1, 1:], kept[1:]], dim=1), (84, 56))
        expected = results(tiny_b(window))
    for name, tensor in results(reused).items():
        torch.testing.assert_close(tensor, expected[name], rtol=2e-6, atol=2e-6)


def test_scenes_of_a_batch_do_not_see_each_other(tiny_b, pictures) -> None:
    points = torch.tensor([[[3.0, 50.0]], [[40.0, 20.5]]])
    with torch.no_grad():
        both = results(tiny_b(pictures, points))
        second = results(tiny_b(pictures[1], points[1]))
    for name, tensor in second.items():
        torch.testing.assert_close(both[name][1:], tensor, rtol=1e-5, atol=1e-4)


def test_one_frame_and_one_patch(tiny_b) -> None:
    with torch.no_grad():
        output = tiny_b(torch.rand(1, 3, 14, 14, generator=torch.Generator().manual_seed(1)))
    assert output.depth.shape == (1, 1, 14, 14, 1) and output.pose_enc.shape == (1, 1, 9)
    assert all(torch.isfinite(tensor).all() for tensor in results(output).values())


def test_images_of_any_layout_and_type(tiny_b) -> None:
    levels = torch.randint(0, 256, (2, 28, 42, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    channels_last = levels.permute(0, 3, 1, 2)
    assert not channels_last.is_contiguous()
    with torch.no_grad():
        expected = tiny_b(channels_last.contiguous().float() / 255).depth
        assert torch.equal(tiny_b(channels_last).depth, expected)
        torch.testing.assert_close(tiny_b(channels_last.double() / 255).depth, expected, rtol=1e-5, atol=1e-6)


def test_trains_after_inference(pictures) -> None:
    """Every parameter but the unused mask token gets a finite gradient, also where constants were cached before."""
    model = network("tiny_b")
    points = torch.tensor([[[3.0, 50.0], [40.0, 20.5]]]).expand(2, -1, -1)
    with torch.inference_mode():
        model(pictures, points)
    model.train()
    total = sum(tensor.square().mean() for tensor in results(model(pictures, points)).values())
    total.backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {"aggregator.patch_embed.mask_token"}
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    idle = {name for name, p in model.named_parameters() if p.grad is not None and not p.grad.any()}
    assert not idle


def test_fresh_networks_can_learn() -> None:
    """Tokens that start equal would stay equal; a few steps bring the loss down."""
    torch.manual_seed(0)
    config = json.loads((COPIES / "vggt_tiny_b_config.json").read_text())
    model = vggt.build(config, heads=("camera", "depth"))
    registers = model.aggregator.patch_embed.register_tokens[0]
    assert not torch.equal(registers[0], registers[1])
    images, target = torch.rand(1, 2, 3, 28, 28), 2.0 + torch.rand(1, 2, 28, 28, 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = (model(images).depth - target).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_heads_stay_in_full_precision_under_autocast(tiny_b, pictures) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = tiny_b(pictures, torch.full((2, 1, 2), 20.0))
    with torch.no_grad():
        expected = tiny_b(pictures)
    assert all(tensor.dtype == torch.float32 for tensor in results(output).values())
    relative = ((output.depth - expected.depth).abs() / expected.depth).mean()
    assert 0 < relative < 0.05


@pytest.mark.parametrize(
    ("images", "points", "message"),
    [
        (torch.zeros(2, 3, 30, 28), None, "multiples of 14, got 28x30"),
        (torch.zeros(3, 28, 28), None, r"\[B, S, 3, H, W\]"),
        (torch.zeros(2, 4, 28, 28), None, r"\[B, S, 3, H, W\]"),
        (torch.zeros(0, 3, 28, 28), None, r"\[B, S, 3, H, W\]"),
        (torch.zeros(2, 3, 28, 28, dtype=torch.int32), None, "floating"),
        (torch.zeros(2, 3, 28, 28), torch.zeros(1, 0, 2), "N of at least 1"),
        (torch.zeros(2, 3, 28, 28), torch.zeros(2, 1, 2), r"\[1, N, 2\]"),
    ],
)
def test_what_is_no_window_is_refused(images, points, message, tiny_b) -> None:
    with pytest.raises(InputError, match=message):
        tiny_b(images, points)


def test_more_sentences(tiny_b) -> None:
    images = torch.zeros(2, 3, 28, 28)
    with pytest.raises(ModelError, match="has the heads camera, depth, point, track, not sky"):
        tiny_b(images, heads=("depth", "sky"))
    with pytest.raises(ModelError, match="not sky"):
        vggt.build({}, heads=("sky",))
    with pytest.raises(InputError, match="at least 1 frame"):
        tiny_b(images, frames_per_chunk=0)
    with pytest.raises(InputError, match=r"patch tokens \[B, S, 6, C\]"):
        tiny_b.relate(tiny_b.embed(images), (28, 42))
    config = json.loads((COPIES / "vggt_tiny_a_config.json").read_text()) | {"track_corr_levels": 7}
    with pytest.raises(InputError, match="at least 128 pixels"):
        vggt.build(config, heads=("track",))(images, torch.zeros(1, 1, 2))
