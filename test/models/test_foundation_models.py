"""vggt and depth_anything_3 as the pipeline sees them, with the tiny published-layout checkpoints."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from foundation_models import SMALL, loaded, source, window
from foundation_scene import keyframes, pinhole, poses

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.models import depth_anything_3, vggt
from spatial_fm_ros.core.models.depth_anything_3 import adapter as da3_adapter
from spatial_fm_ros.core.models.foundation.images import Canvas, draw
from spatial_fm_ros.core.models.foundation.output import NetworkOutput
from spatial_fm_ros.core.models.vggt import adapter as vggt_adapter
from spatial_fm_ros.core.types import Camera, Keyframe, Prediction, WindowState


def assert_same(a: Prediction, b: Prediction, tolerance: float = 2e-4) -> None:
    np.testing.assert_array_equal(a.posed, b.posed)
    np.testing.assert_allclose(a.world_from_camera, b.world_from_camera, atol=tolerance)
    np.testing.assert_allclose(a.K, b.K, rtol=tolerance)
    np.testing.assert_allclose(a.depth, b.depth, rtol=tolerance)
    np.testing.assert_allclose(a.confidence, b.confidence, atol=tolerance)


def said(model, canvas: Canvas, frames: tuple[Keyframe, ...]) -> NetworkOutput:
    with torch.inference_mode():
        return model.relate(model.network, model.embed(model.network, canvas.images), canvas, frames)


def test_vggt_says_what_its_network_says(vggt_model, room) -> None:
    canvas = draw([keyframe.image for keyframe in room], 84, torch.device("cpu"), 1.0)
    found = said(vggt_model, canvas, room)
    weights, settings = source("vggt_tiny_a")
    network = vggt.build(json.loads(settings.read_text()))
    network.load_state_dict(load_file(weights))
    with torch.inference_mode():
        plain = network.eval()(canvas.images)
    t, q, fov = plain.pose_enc[0].double().split([3, 4, 2], dim=-1)
    centre = -vggt_adapter.pose_encoding.matrix_from_quaternion(q).mT @ t[..., None]
    np.testing.assert_allclose(found.world_from_camera[:, :3, 3], centre[..., 0], atol=1e-4)
    focal = torch.tensor([56.0, 84.0]) / 2 / torch.tan(fov / 2)
    np.testing.assert_allclose(found.K[:, [1, 0], [1, 0]], focal, rtol=1e-4)
    np.testing.assert_allclose(found.K[:, :2, 2], [[(84 - 1) / 2, (56 - 1) / 2]] * len(room))
    np.testing.assert_allclose(found.depth, plain.depth[0, ..., 0], rtol=1e-4)
    np.testing.assert_allclose(found.confidence, plain.depth_conf[0], rtol=1e-4)
    assert found.sky is None and not found.metric


def test_depth_anything_3_says_what_its_network_says(da3_model, room) -> None:
    canvas = draw([keyframe.image for keyframe in room], 84, torch.device("cpu"), 0.0)
    found = said(da3_model, canvas, room)
    weights, settings = source("da3_tiny_a")
    network = depth_anything_3.build(json.loads(settings.read_text()))
    network.load_published(load_file(weights))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        plain = network.eval()((canvas.images - mean[:, None, None])[None] / std[:, None, None])
    w2c = plain.extrinsics[0].double().numpy()
    centre = -np.swapaxes(w2c[:, :, :3], 1, 2) @ w2c[:, :, 3:]
    np.testing.assert_allclose(found.world_from_camera[:, :3, 3], centre[..., 0], atol=1e-4)
    np.testing.assert_allclose(found.K[:, :2, :2], plain.intrinsics[0, :, :2, :2], rtol=1e-4)
    np.testing.assert_allclose(found.K[:, :2, 2], [[(84 - 1) / 2, (56 - 1) / 2]] * len(room))
    np.testing.assert_allclose(found.depth, plain.depth[0], rtol=1e-4)
    np.testing.assert_allclose(found.confidence, plain.depth_conf[0], rtol=1e-4)


def test_a_prediction_is_what_the_network_said(model, room) -> None:
    """With the network's own cameras nothing is added but our conventions."""
    canvas = draw([keyframe.image for keyframe in room], 84, torch.device("cpu"), model.margin)
    found = said(model, canvas, room)
    cameras = [Camera(84, 56, K).resized(160, 120) for K in found.K]
    own = tuple(replace(keyframe, camera=camera) for keyframe, camera in zip(room, cameras))
    prediction = model.infer(window(own))
    np.testing.assert_allclose(prediction.world_from_camera, found.world_from_camera, atol=2e-4)
    np.testing.assert_allclose(prediction.K, found.K, rtol=1e-9)
    np.testing.assert_allclose(prediction.depth, found.depth, rtol=2e-4)
    assert prediction.state is WindowState.OK and prediction.note == ""


def test_a_shared_keyframe_is_not_seen_again_and_nothing_changes(model, room, monkeypatch) -> None:
    seen: list[int] = []
    embed = type(model).embed

    def counted(self, network, images):
        seen.append(len(images))
        return embed(self, network, images)

    monkeypatch.setattr(type(model), "embed", counted)
    model.infer(window(room[:4]))
    second = model.infer(window(room[2:7], 1, 2))
    assert seen == [4, 3]
    model.reset()
    assert_same(second, model.infer(window(room[2:7], 1, 2)))
    assert seen == [4, 3, 5]


def test_published_intrinsics_are_the_cameras_own(model, room) -> None:
    prediction = model.infer(window(room[:3]))
    width, height = prediction.depth.shape[2], prediction.depth.shape[1]
    np.testing.assert_allclose(prediction.K, [pinhole().resized(width, height).K] * 3)
    assert not prediction.metric and prediction.figures["focal_ratio"] > 0


@pytest.mark.parametrize(("width", "height"), [(120, 160), (320, 40), (400, 8), (160, 120)])
def test_one_view_of_any_aspect(model, width: int, height: int) -> None:
    camera = pinhole(width, height, 120.0)
    prediction = model.infer(window(keyframes(poses("sideways", 1), camera)))
    assert prediction.posed.all() and prediction.depth.shape[0] == 1
    assert max(prediction.depth.shape[1:]) == 84 and min(prediction.depth.shape[1:]) >= 14
    np.testing.assert_allclose(prediction.K[0], camera.resized(*prediction.depth.shape[:0:-1]).K)


def test_sizes_may_change_within_and_between_windows(model, room) -> None:
    upright = Camera(120, 160, np.array([[110.0, 0, 59.5], [0, 110.0, 79.5], [0, 0, 1]]))
    first = model.infer(window(room[:2]))
    mixed = model.infer(window((*room[1:3], *keyframes(poses("around", 2), upright, first_id=50)), 1, 1))
    assert mixed.depth.shape[1:] == first.depth.shape[1:] and mixed.posed.all()  # seams compare pixels
    np.testing.assert_allclose(mixed.K[3], upright.resized(*first.depth.shape[:0:-1]).K)
    model.reset()
    alone = model.infer(window(keyframes(poses("around", 2), upright, first_id=50)))
    assert alone.depth.shape[1] > alone.depth.shape[2]


def test_memory_layout_and_float_images_change_nothing(model, room) -> None:
    plain = model.infer(window(room[:2]))
    model.reset()
    wide = [np.zeros((120, 320, 3), np.uint8) for _ in range(2)]
    for canvas, keyframe in zip(wide, room):
        canvas[:, ::2] = keyframe.image
    strided = tuple(replace(k, image=canvas[:, ::2]) for k, canvas in zip(room, wide))
    assert_same(model.infer(window(strided)), plain)
    model.reset()
    floats = tuple(replace(k, image=k.image.astype(np.float32) / 255) for k in room[:2])
    assert_same(model.infer(window(floats)), plain, tolerance=0.05)


def test_known_cameras_condition_depth_anything_3_only_when_all_are_known(checkpoints, room, monkeypatch) -> None:
    model = loaded("depth_anything_3", checkpoints / "da3_tiny_a")
    posed = tuple(replace(k, odom_from_camera=pose) for k, pose in zip(room, poses("around", 7)))
    plain = model.infer(window(room[:4]))
    conditioned = model.infer(window(posed[:4]))
    assert np.abs(np.log(conditioned.depth / plain.depth)).max() > 1e-3
    assert_same(model.infer(window((*posed[:3], room[3]))), plain)
    uncalibrated = replace(room[3], camera=None)
    expected = model.infer(window((*room[:3], uncalibrated)))
    with_pose = replace(uncalibrated, odom_from_camera=posed[3].odom_from_camera)
    assert_same(model.infer(window((*posed[:3], with_pose))), expected)
    off = loaded("depth_anything_3", checkpoints / "da3_tiny_a", replace(SMALL, use_poses=False))
    assert_same(off.infer(window(posed[:4])), plain)
    for few in (1, 2):  # centres that fix no similarity: the network's own scale stays
        assert model.infer(window(posed[:few])).posed.all()
    still = tuple(replace(k, odom_from_camera=np.eye(4)) for k in room[:4])
    assert model.infer(window(still)).posed.all()


def test_the_answer_comes_in_the_scale_of_known_poses() -> None:
    given = invert_pose(poses("around", 6))
    own = Sim3(0.37, poses("around")[2][:3, :3], np.array([1.0, 2.0, 3.0]))
    predicted = invert_pose(own.apply_pose(poses("around", 6)))
    back, factor = da3_adapter._in_given_world(predicted[:, :3], given)
    assert factor == pytest.approx(1 / 0.37)
    np.testing.assert_allclose(back, poses("around", 6), atol=1e-9)
    for degenerate in (slice(0, 1), slice(0, 2)):
        kept, factor = da3_adapter._in_given_world(predicted[degenerate, :3], given[degenerate])
        assert factor == 1.0
        np.testing.assert_allclose(kept, invert_pose(predicted[degenerate]), atol=1e-12)
    line = invert_pose(poses("forward", 6))
    assert da3_adapter._in_given_world(line[:, :3], line)[1] == 1.0
    unlike = predicted[[3, 0, 5, 1, 4, 2]]
    assert da3_adapter._in_given_world(unlike[:, :3], given)[1] == 1.0
    broken = predicted.copy()
    broken[2] = np.nan
    assert da3_adapter._in_given_world(broken[:, :3], given)[1] == 1.0


def test_a_nested_checkpoint_is_metric_and_knows_sky(checkpoints, room) -> None:
    model = loaded("depth_anything_3", checkpoints / "nested")
    assert model.infer(window(room[:3])).metric
    shared = model.infer(window(room[1:5], 1, 2))
    model.reset()
    assert_same(shared, model.infer(window(room[1:5], 1, 2)), tolerance=1e-3)
    weights, settings = checkpoints / "nested" / "model.safetensors", checkpoints / "nested" / "config.json"
    network = depth_anything_3.build(json.loads(settings.read_text()))
    network.load_published(load_file(weights))
    canvas = draw([k.image for k in room[:3]], 84, torch.device("cpu"), 1.0)
    found = said(model, canvas, room[:3])
    with torch.inference_mode():
        plain = network.eval()(da3_adapter.normalised(canvas.images)[None])
    np.testing.assert_array_equal(found.sky, plain.sky[0] >= 0.3)
    np.testing.assert_allclose(found.depth, plain.depth[0], rtol=1e-3)
    np.testing.assert_allclose(found.K[:, :2, :2], plain.intrinsics[0, :, :2, :2], rtol=1e-4)
    assert found.metric and np.isnan(shared.depth).any() == bool(found.sky.any())


def test_nothing_but_sky_is_said(checkpoints, tmp_path, room) -> None:
    tensors = load_file(checkpoints / "nested" / "model.safetensors")
    tensors["model.da3_metric.head.scratch.sky_output_conv2.2.bias"] += 1000.0
    save_file(tensors, tmp_path / "model.safetensors")
    shutil.copy(checkpoints / "nested" / "config.json", tmp_path)
    prediction = loaded("depth_anything_3", tmp_path).infer(window(room[:2]))
    assert prediction.state is WindowState.FAILED and "but sky" in prediction.note


def test_a_metric_checkpoint_measures_from_the_odometrys_poses(checkpoints, tmp_path, room) -> None:
    shutil.copy(checkpoints / "da3_tiny_m" / "model.safetensors", tmp_path)
    settings = json.loads((checkpoints / "da3_tiny_m" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"model_name": "da3metric-large"}))
    model = loaded("depth_anything_3", tmp_path)
    posed = tuple(replace(k, odom_from_camera=pose) for k, pose in zip(room, poses("around", 7)))
    prediction = model.infer(window(posed[:3]))
    assert prediction.metric and prediction.posed.all() and prediction.note == ""
    np.testing.assert_array_equal(prediction.world_from_camera, poses("around", 7)[:3])
    shared = model.infer(window(posed[1:4], 1, 2))
    model.reset()
    assert_same(shared, model.infer(window(posed[1:4], 1, 2)))
    twice = Camera(160, 120, pinhole().K * [[2], [2], [1]])  # of twice the focal length: as far again
    model.reset()
    far = model.infer(window(tuple(replace(k, camera=twice) for k in posed[:3])))
    np.testing.assert_allclose(far.depth, 2 * prediction.depth, rtol=1e-4)
    known = np.isfinite(prediction.depth)
    np.testing.assert_allclose(prediction.confidence[known], 0.5)
    lost = model.infer(window((*posed[:2], room[2]), 1))
    assert lost.posed.tolist() == [True, True, False] and "1 keyframes have none" in lost.note
    alone = model.infer(window(room[:3], 2))
    assert alone.state is WindowState.FAILED and "needs odometry and intrinsics" in alone.note


def test_points_of_the_point_head_become_depth(checkpoints, room) -> None:
    model = loaded("vggt", checkpoints / "vggt_tiny_a", replace(SMALL, points_from="points"))
    assert "depth_head" not in dict(model.network.named_children()) or model.network.depth_head is None
    assert model.infer(window(room[:3])).depth.shape == (3, 56, 84)
    camera_from_world = torch.from_numpy(invert_pose(poses("around", 2))[:, :3])
    points = torch.rand(2, 4, 5, 3, dtype=torch.float64)
    depth = vggt_adapter._depth_of_points(points, camera_from_world)
    expected = torch.einsum("nij,nhwj->nhwi", camera_from_world[:, :, :3], points)
    expected += camera_from_world[:, None, None, :, 3]
    torch.testing.assert_close(depth, expected[..., 2])
    with pytest.raises(ModelError, match="no point head"):
        loaded("depth_anything_3", "random:tiny", replace(SMALL, points_from="points"))
