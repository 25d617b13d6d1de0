"""The geometric model on rendered windows with exact truth: cameras, depth, and what it must not invent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.geometric.model import GeometricModel
from spatial_fm_ros.core.models.registry import create_model
from spatial_fm_ros.core.types import Camera, Keyframe, Prediction, Window, WindowState
from spatial_fm_ros.simulation.camera import SimulatedCamera
from spatial_fm_ros.simulation.worlds import build_world

CAMERA = Camera(400, 304, np.array([[330.0, 0.0, 199.5], [0.0, 330.0, 151.5], [0.0, 0.0, 1.0]]))
FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def pose(x: float, y: float, yaw_deg: float = 0.0, z: float = 1.2) -> np.ndarray:
    """world_from_camera of a camera that looks along +x when yaw is 0."""
    result = np.eye(4)
    result[:3, :3] = Rotation.from_euler("z", yaw_deg, degrees=True).as_matrix() @ FORWARD
    result[:3, 3] = (x, y, z)
    return result


SIDEWAYS = [pose(2.0 + 0.02 * i, 2.0 + 0.14 * i, -1.5 * i) for i in range(13)]
TURN = [pose(2.0, 2.5, 6.0 * i) for i in range(5)]


@pytest.fixture(scope="module")
def eye() -> SimulatedCamera:
    return SimulatedCamera(build_world("room", detail=0.4), CAMERA)


@pytest.fixture(scope="module")
def images(eye: SimulatedCamera) -> list[np.ndarray]:
    return [eye.render(p) for p in SIDEWAYS]


@pytest.fixture()
def model() -> GeometricModel:
    made = create_model(ModelConfig(device="cpu", threads=1))
    assert isinstance(made, GeometricModel)
    made.load()
    return made


def window(
    images: Sequence[np.ndarray], ids: Sequence[int], overlap: int = 0, camera: Camera | None = CAMERA
) -> Window:
    keyframes = tuple(
        Keyframe(i, i * 10**8, image, camera, "camera", 24.0, "disparity") for i, image in zip(ids, images, strict=True)
    )
    return Window(0, keyframes, overlap)


def check_cameras(prediction: Prediction, truth: Sequence[np.ndarray], share: float = 0.02) -> float:
    """Asserts centres within a share of the path and rotations within a degree; returns metres per unit."""
    posed = prediction.posed
    found, true = prediction.world_from_camera[posed], np.array(truth)[posed]
    # Orientation from the cameras' orientations: centres on a line leave it open.
    rotation = Rotation.from_matrix(true[:, :3, :3] @ found[:, :3, :3].transpose(0, 2, 1)).mean().as_matrix()
    turned = true[:, :3, :3].transpose(0, 2, 1) @ rotation @ found[:, :3, :3]
    assert np.degrees(Rotation.from_matrix(turned).magnitude()).max() < 1.0
    centres, aim = found[:, :3, 3] @ rotation.T, true[:, :3, 3]
    centres, aim = centres - centres.mean(0), aim - aim.mean(0)
    scale = float((centres * aim).sum() / (centres**2).sum())
    path = np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1).sum()
    assert np.sqrt(((scale * centres - aim) ** 2).sum(1).mean()) < share * path
    return scale


def test_window_has_true_cameras_and_depth(
    model: GeometricModel, eye: SimulatedCamera, images: list[np.ndarray]
) -> None:
    prediction = model.infer(window(images[:8], range(8)))
    assert prediction.state is WindowState.OK and prediction.posed.all() and not prediction.metric
    assert np.allclose(prediction.world_from_camera[0], np.eye(4), atol=1e-9)
    scale = check_cameras(prediction, SIDEWAYS[:8])
    height, width = prediction.depth.shape[1:]
    assert np.allclose(prediction.K, CAMERA.resized(width, height).K)
    grid = SimulatedCamera(eye.world, CAMERA.resized(width, height))
    truth = np.stack([grid.depth(p) for p in SIDEWAYS[:8]])
    sure = prediction.confidence >= 0.5
    assert sure.mean() > 0.4
    assert np.median(np.abs(prediction.depth[sure] * scale / truth[sure] - 1.0)) < 0.03
    assert set(prediction.figures) >= {"parallax_deg", "inlier_ratio", "tracks", "reprojection_px", "focal_px"}
    assert prediction.figures["reprojection_px"] < 1.5 and prediction.figures["tracks"] > 200


def test_windows_repeat_exactly(images: list[np.ndarray]) -> None:
    results = []
    for _ in range(2):
        model = GeometricModel(ModelConfig(device="cpu", threads=1))
        model.load()
        results.append(model.infer(window(images[:4], range(4))))
    assert np.allclose(results[0].world_from_camera, results[1].world_from_camera, atol=1e-9)


def test_windows_continue_one_gauge_in_bounded_memory(
    model: GeometricModel, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    extract = model.extractor
    assert extract is not None
    monkeypatch.setattr(model, "extractor", lambda image: seen.append(1) or extract(image))
    first = model.infer(window(images[:8], range(8)))
    second = model.infer(window(images[5:13], range(5, 13), overlap=3))
    assert len(seen) == 13  # overlap keyframes cost nothing again
    check_cameras(second, SIDEWAYS[5:13])
    # Relative motion of the overlap cameras is the same in both gauges, up to scale.
    step_a = np.linalg.inv(first.world_from_camera[5]) @ first.world_from_camera[7]
    step_b = np.linalg.inv(second.world_from_camera[0]) @ second.world_from_camera[2]
    assert np.degrees(Rotation.from_matrix(step_a[:3, :3].T @ step_b[:3, :3]).magnitude()) < 0.3
    assert step_a[:3, 3] @ step_b[:3, 3] > 0.995 * np.linalg.norm(step_a[:3, 3]) * np.linalg.norm(step_b[:3, 3])
    model.map.config = replace(model.map.config, memory=3)
    model.map.prune(window(images[10:13], range(10, 13)))
    assert len(model.map.views) == 6 and all(a in model.map.views for pair in model.map.pairs for a in pair)
    model.reset()
    assert not model.map.views


def test_unknown_focal_length_is_estimated(model: GeometricModel, images: list[np.ndarray]) -> None:
    prediction = model.infer(window(images[:8], range(8), camera=None))
    assert prediction.posed.all()
    assert prediction.figures["focal_px"] == pytest.approx(330.0, rel=0.06)
    check_cameras(prediction, SIDEWAYS[:8], share=0.04)
    width = prediction.depth.shape[2]
    assert prediction.K[0, 0, 0] == pytest.approx(prediction.figures["focal_px"] * width / 400, rel=1e-6)


def test_pure_rotation_gives_rotations_and_nothing_else(model: GeometricModel, eye: SimulatedCamera) -> None:
    prediction = model.infer(window([eye.render(p) for p in TURN], range(len(TURN))))
    assert prediction.state is WindowState.NO_PARALLAX
    assert prediction.posed.all() and np.isnan(prediction.depth).all() and not prediction.confidence.any()
    assert np.allclose(prediction.world_from_camera[:, :3, 3], 0.0)
    true = np.array([np.linalg.inv(TURN[0]) @ p for p in TURN])[:, :3, :3]
    wrong = true.transpose(0, 2, 1) @ prediction.world_from_camera[:, :3, :3]
    assert np.degrees(Rotation.from_matrix(wrong).magnitude()).max() < 0.5


def test_standing_still_has_no_parallax(model: GeometricModel, images: list[np.ndarray]) -> None:
    prediction = model.infer(window([images[0]] * 4, range(4)))
    assert prediction.state is WindowState.NO_PARALLAX and np.isnan(prediction.depth).all()
    assert np.allclose(prediction.world_from_camera, np.eye(4), atol=1e-6)


def test_stopping_keeps_the_pose_it_had(model: GeometricModel, images: list[np.ndarray]) -> None:
    model.infer(window(images[:6], range(6)))
    still = [*images[3:6], *[images[5]] * 3]
    prediction = model.infer(window(still, [3, 4, 5, 6, 7, 8], overlap=3))
    assert prediction.state is WindowState.OK and prediction.posed.all()
    last = prediction.world_from_camera[2]
    step = np.linalg.norm(prediction.world_from_camera[1, :3, 3] - last[:3, 3])
    assert np.linalg.norm(prediction.world_from_camera[3:, :3, 3] - last[:3, 3], axis=1).max() < 0.1 * step


@pytest.mark.parametrize("level", [0, 255])
def test_blank_windows_have_no_texture(model: GeometricModel, level: int) -> None:
    prediction = model.infer(window([np.full((304, 400, 3), level, np.uint8)] * 3, range(3)))
    assert prediction.state is WindowState.NO_TEXTURE and not prediction.posed.any()
    assert np.isnan(prediction.world_from_camera).all() and np.isnan(prediction.depth).all()


def test_a_black_image_between_good_ones_is_left_out(model: GeometricModel, images: list[np.ndarray]) -> None:
    mixed = [*images[:3], np.zeros_like(images[0]), *images[3:5]]
    prediction = model.infer(window(mixed, range(6)))
    assert prediction.posed.tolist() == [True, True, True, False, True, True]
    assert np.isnan(prediction.world_from_camera[3]).all() and np.isnan(prediction.depth[3]).all()
    assert "1 of 6" in prediction.note
    check_cameras(prediction, [*SIDEWAYS[:3], np.eye(4), *SIDEWAYS[3:5]])


def test_unrelated_images_fail(model: GeometricModel, images: list[np.ndarray]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, images[0].shape, np.uint8)
    prediction = model.infer(window([images[0], noise], range(2)))
    assert prediction.state is WindowState.FAILED and not prediction.posed.any()


def test_two_keyframes_are_enough(model: GeometricModel, images: list[np.ndarray]) -> None:
    prediction = model.infer(window([images[0], images[3]], range(2)))
    assert prediction.state is WindowState.OK and prediction.posed.all()
    turned = (np.linalg.inv(SIDEWAYS[0]) @ SIDEWAYS[3])[:3, :3].T @ prediction.world_from_camera[1, :3, :3]
    assert np.degrees(Rotation.from_matrix(turned).magnitude()) < 0.7


def test_a_lost_camera_finds_its_way_back(
    model: GeometricModel, eye: SimulatedCamera, images: list[np.ndarray]
) -> None:
    model.infer(window(images[:6], range(6)))
    away = [eye.render(pose(5.0, 3.0, 170.0 + 2.0 * i)) for i in range(2)]  # the opposite wall
    back = [images[2], images[4]]
    prediction = model.infer(window([*images[4:6], *away, *back], [4, 5, 6, 7, 8, 9], overlap=2))
    assert prediction.posed.tolist() == [True, True, False, False, True, True]
    check_cameras(prediction, [*SIDEWAYS[4:6], np.eye(4), np.eye(4), SIDEWAYS[2], SIDEWAYS[4]], share=0.04)


def test_inference_needs_loading(images: list[np.ndarray]) -> None:
    with pytest.raises(ModelError, match="load"):
        GeometricModel(ModelConfig(device="cpu")).infer(window(images[:2], range(2)))


def test_a_missing_cuda_device_is_named() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(ModelError, match="cuda:3"):
        GeometricModel(ModelConfig(device="cuda:3")).load()
