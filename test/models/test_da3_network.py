"""Depth Anything 3 against the numbers of the published networks, and what it promises beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from da3_fixtures import FOLDERS, Recording, recorded, tiny

from spatial_fm_ros.core.errors import ConfigError, InputError
from spatial_fm_ros.core.models import depth_anything_3
from spatial_fm_ros.core.models.depth_anything_3 import network as network_module
from spatial_fm_ros.core.models.depth_anything_3.cameras import decode_cameras
from spatial_fm_ros.core.models.depth_anything_3.nested import align
from spatial_fm_ros.core.models.depth_anything_3.reference_view import reference_first, reordered

CASES = (
    "a_s1_56x84",
    "a_b2_s3_56x70",
    "a_s2_70x70",
    "a_s4_posed_56x70",
    "a_s5_70x56",
    "b_s1_70x70",
    "b_s2_84x56",
    "b_s3_posed_70x56",
    "b_s5_70x70",
    "m_s1_70x98",
    "m_s3_56x84",
)
RESULTS = ("ref_idx", "depth", "depth_conf", "ray", "ray_conf", "pose_enc", "extrinsics", "intrinsics", "sky")


def pictures(batch: int, views: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(batch, views, 3, height, width, generator=torch.Generator().manual_seed(5))


def watch(model, recording: Recording) -> tuple[dict[str, torch.Tensor], list]:
    """What the recording has of the network's inside, filled by the next call; and the hooks."""
    seen: dict[str, torch.Tensor] = {}
    scratch = model.head.scratch
    parts = {f"dbg_level{k}": model.head.resize_layers[k] for k in range(4)}
    parts |= {f"dbg_{name}": part for name, part in scratch.named_children() if name.startswith("refinenet")}
    parts |= {f"dbg_block_{i:02d}": block for i, block in enumerate(model.trunk.blocks)}
    parts["dbg_logits"] = scratch.output_conv2
    if hasattr(model, "cam_dec"):
        parts["dbg_aux_logits"] = scratch.output_conv2_aux["3"]
        parts["cam_token"] = model.cam_enc
    else:
        parts["dbg_sky_logits"] = scratch.sky_output_conv2

    def keep(name: str):
        def hook(_module, _inputs, output) -> None:
            seen[name] = output.reshape(recording[name].shape)

        return hook

    return seen, [part.register_forward_hook(keep(name)) for name, part in parts.items() if name in recording]


@pytest.mark.parametrize(("folder", "case"), recorded(*CASES))
def test_equals_the_published_network(folder: Path, case: str) -> None:
    recording = Recording(folder, case)
    model = tiny(case[0])
    images = recording["images"]
    layers = [int(name.rpartition("_")[2]) for name in recording.arrays if name.startswith("aux_feat")]
    given_cameras = {}
    if "in_extrinsics" in recording:
        given_cameras = {"extrinsics": recording["in_extrinsics"], "intrinsics": recording["in_intrinsics"]}
    seen, hooks = watch(model, recording)
    with torch.inference_mode():
        found = model(images, aux_layers=layers, **given_cameras)
        for hook in hooks:
            hook.remove()
        views = model.view_tokens(images)
        tokens = seen["cam_token"] if given_cameras else None
        features = model.trunk.joint(views, tokens)
        seen["dbg_embed"] = model.trunk.embedded(images.flatten(0, 1))
    first_seen = f"dbg_block_{model.trunk.joint_start - 1:02d}"
    if found.ref_idx is not None and first_seen in seen:  # recorded with the reference first already
        order = reference_first(found.ref_idx, images.shape[1])
        seen[first_seen] = reordered(seen[first_seen], order)
    seen |= {f"feat_{k}": level for k, level in enumerate(features.levels)}
    seen |= {"cam_feat": features.camera, "dbg_sel_tokens": views.describing}
    seen |= {f"aux_feat_layer_{i}": feature for i, feature in found.aux.items()}
    seen |= {name: value for name in RESULTS if (value := getattr(found, name)) is not None}
    seen |= {"raw_depth": found.raw_depth, "raw_sky": found.sky}
    compared = {name for name in recording.arrays if not name.startswith(("images", "in_", "alt_"))}
    assert compared <= set(seen)
    assert ("ref_idx" in recording) == (found.ref_idx is not None)
    for name in compared:
        recording.agrees(name, seen[name])


@pytest.mark.parametrize(("folder", "case"), recorded("a_b2_s3_56x70", "a_s5_70x56", "b_s5_70x70"))
@pytest.mark.parametrize("strategy", ["first", "middle", "saddle_sim_range"])
def test_other_reference_views_equal_the_published_ones(folder: Path, case: str, strategy: str) -> None:
    recording = Recording(folder, case)
    with torch.inference_mode():
        found = tiny(case[0])(recording["images"], reference=strategy)
    recording.agrees(f"alt_{strategy}_ref_idx", found.ref_idx)
    recording.agrees(f"alt_{strategy}_pose_enc", found.pose_enc)
    recording.agrees(f"alt_{strategy}_depth_s4", found.depth[..., ::4, ::4])


@pytest.mark.parametrize("folder", FOLDERS)
def test_nested_equals_the_published_network(folder: Path) -> None:
    recording = Recording(folder, "nested_s3_56x84")
    model = tiny("nested")
    with torch.inference_mode():
        found = model(recording["images"])
        anyview, metric = model.da3(recording["images"]), model.da3_metric(recording["images"])
        alignment = align(anyview.depth, anyview.depth_conf, anyview.intrinsics, metric.depth, metric.sky)
    for name in ("depth", "depth_conf", "extrinsics", "intrinsics"):
        recording.agrees(f"any_{name}", getattr(anyview, name))
        recording.agrees(name, getattr(found, name))
    recording.agrees("metric_depth", metric.depth)
    recording.agrees("metric_sky", metric.sky)
    recording.agrees("metric_depth_scaled", alignment.metric_depth)
    recording.agrees("non_sky", alignment.non_sky)
    recording.agrees("align_mask", alignment.mask)
    recording.agrees("median_conf", alignment.median_conf)
    recording.agrees("scale_factor", found.scale_factor)
    assert torch.equal(found.sky, metric.sky)


@pytest.mark.parametrize("name", ["a", "b", "m", "nested"])
def test_views_seen_before_give_the_same_result(name: str) -> None:
    """Tokens of single views, also when they were computed one by one, stand for the images."""
    model, images = tiny(name), pictures(1, 4, 42, 56)
    with torch.inference_mode():
        plain = model(images)
        single = [model.view_tokens(images[:, i : i + 1]) for i in range(4)]
        together = model.view_tokens(images)
        views = type(together)(
            torch.cat([v.tokens for v in single], dim=1),
            torch.cat([v.describing for v in single], dim=1),
            together.grid,
            {i: torch.cat([v.taps[i] for v in single], dim=1) for i in together.taps},
        )
        reused = model(images, views=views)
    for field in RESULTS:
        if (value := getattr(plain, field)) is not None:
            torch.testing.assert_close(getattr(reused, field), value, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["a", "m"])
def test_chunks_of_views_do_not_change_results(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published metric head fails with more than one scene of more than eight views."""
    model, images = tiny(name), pictures(2, 9, 28, 42)
    with torch.inference_mode():
        chunked = model(images)
        monkeypatch.setitem(network_module.HEAD_CHUNK, "cpu", 100)
        whole = model(images)
    for field in ("depth", "depth_conf", "ray", "sky"):
        if (value := getattr(whole, field)) is not None:
            torch.testing.assert_close(getattr(chunked, field), value, rtol=1e-5, atol=1e-5)
    assert chunked.depth.shape == (2, 9, 28, 42)


def test_scenes_of_a_batch_do_not_see_each_other() -> None:
    model, images = tiny("a"), pictures(2, 3, 42, 28)
    with torch.inference_mode():
        both = model(images)
        alone = [model(images[i : i + 1]) for i in range(2)]
    for field in ("ref_idx", "depth", "pose_enc", "ray"):
        expected = torch.cat([getattr(one, field) for one in alone])
        torch.testing.assert_close(getattr(both, field), expected, rtol=1e-5, atol=1e-5)


def test_order_of_the_views_does_not_matter_where_the_reference_is_chosen() -> None:
    """Shuffled images give the shuffled results, since the same view is chosen."""
    model, images = tiny("b"), pictures(1, 5, 42, 42)
    order = torch.tensor([3, 0, 4, 2, 1])
    with torch.inference_mode():
        found, shuffled = model(images), model(images[:, order])
    assert order[shuffled.ref_idx] == found.ref_idx
    torch.testing.assert_close(shuffled.depth, found.depth[:, order], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shuffled.pose_enc, found.pose_enc[:, order], rtol=1e-4, atol=1e-4)


def test_rays_can_be_left_out_and_poses_taken_from_them() -> None:
    model, images = tiny("b"), pictures(1, 3, 42, 56)
    with torch.inference_mode():
        plain, without = model(images), model(images, rays=False)
        by_rays, again = (model(images, rays=False, use_ray_pose=True) for _ in range(2))
    assert without.ray is None and without.ray_conf is None
    torch.testing.assert_close(without.depth, plain.depth)
    torch.testing.assert_close(without.extrinsics, plain.extrinsics)
    torch.testing.assert_close(by_rays.ray, plain.ray)
    assert torch.equal(by_rays.extrinsics, again.extrinsics)
    assert not torch.allclose(by_rays.extrinsics, plain.extrinsics, atol=0.01)
    rotation = by_rays.extrinsics[..., :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(1, 3, 3, 3), rtol=0, atol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    """Networks of this kind are to be trained here; the cameras' tokens are learned from both branches."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = depth_anything_3.build(nested_tiny())
    images = pictures(1, 3, 28, 42)
    poses = torch.eye(4).repeat(1, 3, 1, 1)
    poses[0, :, :3, 3] = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.2], [0.0, 1.0, 0.1]])
    K = torch.tensor([[40.0, 0.0, 21.0], [0.0, 40.0, 14.0], [0.0, 0.0, 1.0]]).repeat(1, 3, 1, 1)
    loss = torch.zeros(())
    for cameras in ({}, {"extrinsics": poses, "intrinsics": K}):
        found = model.da3(images, **cameras)
        loss = loss + sum(getattr(found, n).mean() for n in ("depth", "depth_conf", "ray", "ray_conf"))
        loss = loss + found.pose_enc.square().sum()
    metric = model.da3_metric(images)
    (loss + metric.raw_depth.mean() + metric.sky.mean()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    still = [name for name, p in model.named_parameters() if not p.grad.any()]
    assert [name for name in still if "k_norm.bias" not in name and "fc_fov" not in name] == []


def nested_tiny() -> dict:
    shape = {"embed_dim": 16, "depth": 4, "num_heads": 2, "out_layers": [0, 1, 2, 3], "img_size": 56}
    head = {"features": 8, "out_channels": [4, 4, 4, 4]}
    anyview = {"alt_start": 1, "qknorm_start": 1, "rope_start": 1, "cat_token": True, **shape, **head}
    return {"kind": "nested", "anyview": anyview, "metric": {"kind": "metric", **shape, **head}}


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), views=st.integers(1, 4))
@settings(max_examples=12, deadline=None)
def test_any_size_gives_results_of_that_size(rows: int, columns: int, views: int) -> None:
    """From one patch up, portrait and panorama, one view and more."""
    with torch.inference_mode():
        found = tiny("nested")(pictures(1, views, 14 * rows, 14 * columns))
    assert found.depth.shape == (1, views, 14 * rows, 14 * columns)
    assert found.ray.shape == (1, views, 8 * rows, 8 * columns, 6)
    assert found.extrinsics.shape == (1, views, 3, 4) and found.extrinsics.isfinite().all()
    assert found.depth.isfinite().all() and (found.depth_conf >= 1).all()


def test_memory_layout_of_the_images_does_not_matter() -> None:
    images = pictures(1, 3, 42, 56)
    strange = images.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    assert not strange.is_contiguous()
    with torch.inference_mode():
        plain, found = tiny("a")(images), tiny("a")(strange)
    torch.testing.assert_close(found.depth, plain.depth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["a", "nested"])
def test_a_broken_view_makes_unknown_numbers_not_exceptions(name: str) -> None:
    images = pictures(1, 3, 28, 28)
    images[0, 1] = torch.nan
    with torch.inference_mode():
        found = tiny(name)(images, use_ray_pose=True)
    assert found.depth.isnan().any() and found.extrinsics.isnan().any()


def test_a_broken_view_of_the_metric_network_stays_unknown() -> None:
    """It is not taken for sky, which would be given a depth; the other views do not suffer."""
    model, images = tiny("m"), pictures(1, 3, 56, 56)
    broken = images.clone()
    broken[0, 1] = torch.nan
    with torch.inference_mode():
        plain, found = model(images[:, [0, 2]]), model(broken)
    assert found.depth[0, 1].isnan().all()
    torch.testing.assert_close(found.depth[:, [0, 2]], plain.depth, rtol=1e-5, atol=1e-5)


def test_nothing_but_sky_has_no_metres() -> None:
    model, images = tiny("nested"), pictures(1, 2, 28, 28)
    with torch.inference_mode():
        metric, found = model.da3_metric(images), model.da3(images)
        alignment = align(found.depth, found.depth_conf, found.intrinsics, metric.depth, torch.ones_like(metric.sky))
        result = depth_anything_3.nested.in_metres(found, torch.ones_like(metric.sky), alignment)
    assert alignment.scale.isnan() and result.depth.isnan().all() and (result.depth_conf == 1).all()


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(1, 2, 3, 28, 30), "multiples of 14"),
        (torch.zeros(2, 3, 28, 28), "B, S, 3, H, W"),
        (torch.zeros(1, 2, 1, 28, 28), "B, S, 3, H, W"),
        (torch.zeros(1, 0, 3, 28, 28), "B, S, 3, H, W"),
        (torch.zeros(1, 2, 3, 28, 28, dtype=torch.uint8), "normalised float"),
    ],
)
def test_images_that_cannot_be_taken_are_refused(images: torch.Tensor, words: str) -> None:
    for name in ("a", "m", "nested"):
        with pytest.raises(InputError, match=words):
            tiny(name)(images)
        with pytest.raises(InputError, match=words):
            tiny(name).view_tokens(images)


def test_cameras_that_cannot_be_taken_are_refused() -> None:
    images = pictures(1, 2, 28, 28)
    poses, K = torch.eye(4).repeat(1, 2, 1, 1), torch.eye(3).repeat(1, 2, 1, 1)
    with pytest.raises(InputError, match="both"):
        tiny("a")(images, extrinsics=poses)
    with pytest.raises(InputError, match="1 x 2 views"):
        tiny("a")(images, extrinsics=poses[:, :1], intrinsics=K)
    with pytest.raises(ConfigError, match="saddle_balanced"):
        tiny("a")(images, reference="best")
    for name in ("a", "m", "nested"):
        with pytest.raises(InputError, match="same images"):
            tiny(name)(images, views=tiny(name).view_tokens(images[:, :1]))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("huge", "small, base, large"),
        ({"embed_dim": 16}, "depth"),
        ({**nested_tiny()["anyview"], "widht": 3}, "widht"),
        ({**nested_tiny()["anyview"], "out_layers": [0, 1, 2, 4]}, "below depth 4"),
        ({**nested_tiny()["anyview"], "num_heads": 3}, "num_heads"),
        ({**nested_tiny()["anyview"], "alt_start": -1}, "alt_start"),
        ({**nested_tiny()["anyview"], "kind": "stereo"}, "stereo"),
        ({"kind": "nested", "anyview": nested_tiny()["metric"], "metric": nested_tiny()["metric"]}, "anyview"),
        ({"kind": "nested", "anyview": nested_tiny()["anyview"]}, "metric"),
    ],
)
def test_configurations_that_cannot_be_built_are_refused(config, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        depth_anything_3.build(config)


def test_low_precision_backbone_stays_close_to_float32() -> None:
    """Heads and cameras keep float32 under autocast, so that only the backbone's rounding is left."""
    images = pictures(1, 2, 56, 56)
    with torch.inference_mode():
        exact = tiny("b")(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = tiny("b")(images)
    assert rough.depth.dtype == torch.float32 and rough.pose_enc.dtype == torch.float32
    assert torch.equal(rough.extrinsics, decode_cameras(rough.pose_enc, (56, 56))[0])
    error = ((rough.depth - exact.depth).abs() / exact.depth).median()
    assert 0 < float(error) < 0.02
