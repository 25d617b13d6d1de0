"""nano beyond VGGT: what it does with known cameras."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.errors import InputError, ModelError
from spatial_fm_ros.core.geometry.cameras import unproject
from spatial_fm_ros.core.models.nano import SETTINGS, build
from spatial_fm_ros.core.models.nano import adapter as nano_adapter
from spatial_fm_ros.core.models.nano.adapter import VARIANTS
from spatial_fm_ros.core.models.nano.rays import RayEmbedding, patch_rays
from spatial_fm_ros.core.models.registry import create_model
from spatial_fm_ros.core.types import Camera, Keyframe, Window, WindowState

K = torch.tensor([[50.0, 0, 27.5], [0, 52.0, 20.5], [0, 0, 1]])


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    network = build(VARIANTS["tiny"]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def images(views, height=42, width=56):
    return torch.rand(1, views, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_patches_are_told_the_rays_of_their_pixels():
    rays = patch_rays(K, (3, 4), 14)
    points = unproject(K.numpy(), np.ones((42, 56)))
    centers = points.reshape(3, 14, 4, 14, 3).mean((1, 3)).reshape(12, 3)
    np.testing.assert_allclose(rays[:, :2].numpy(), centers[:, :2], atol=1e-6)
    step = points[0, 14] - points[0, 0], points[14, 0] - points[0, 0]
    np.testing.assert_allclose(rays[0, 2:].numpy(), [step[0][0], step[1][1]], atol=1e-6)


def test_a_camera_that_is_not_known_gets_the_learned_answer():
    torch.manual_seed(0)
    embed = RayEmbedding(16, 14)
    some = torch.stack([K, torch.full((3, 3), float("nan"))])[None]
    told = embed(some, (3, 4))
    assert told.shape == (1, 2, 12, 16) and torch.isfinite(told).all()
    assert torch.equal(told[0, 1], embed.unknown.expand(12, 16)) and not torch.allclose(told[0, 0], told[0, 1])
    told.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in embed.parameters())


def test_intrinsics_change_the_answer_and_no_intrinsics_are_nan(tiny):
    x = images(3)
    with torch.inference_mode():
        known, other = (
            tiny(x, K.expand(1, 3, 3, 3)),
            tiny(x, (K * torch.tensor([2.0, 2, 1])[:, None]).expand(1, 3, 3, 3)),
        )
        unknown, nan = tiny(x), tiny(x, torch.full((3, 3, 3), torch.nan))
    assert not torch.allclose(known.pose_enc, other.pose_enc) and not torch.allclose(known.depth, unknown.depth)
    assert torch.equal(unknown.depth, nan.depth) and torch.equal(unknown.pose_enc, nan.pose_enc)


@pytest.mark.parametrize("views", [1, 2, 24])
def test_any_number_of_views(tiny, views):
    with torch.inference_mode():
        found = tiny(images(views, 28, 28))
    assert found.depth.shape == (1, views, 28, 28, 1) and found.world_points.shape == (1, views, 28, 28, 3)
    assert found.pose_enc.shape == (1, views, 9) and torch.isfinite(found.depth).all()


def test_later_views_are_alike_whatever_their_order(tiny):
    x, cameras = images(4), torch.stack([K, 1.1 * K, 1.2 * K, 1.3 * K])[None]
    cameras[..., 2, 2] = 1
    order = [0, 3, 1, 2]
    with torch.inference_mode():
        plain, turned = tiny(x, cameras), tiny(x[:, order], cameras[:, order])
    torch.testing.assert_close(plain.depth[:, order], turned.depth, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(plain.pose_enc[:, order], turned.pose_enc, atol=1e-4, rtol=1e-4)


def test_cameras_of_another_number_are_refused(tiny):
    with pytest.raises(InputError, match=r"need K \[1, 3, 3, 3\]"):
        tiny(images(3), K.expand(1, 2, 3, 3))
    with pytest.raises(InputError, match="patch tokens"):
        tiny.relate(torch.zeros(1, 2, 5, 64), (42, 56))


def test_the_size_that_ships():
    with torch.device("meta"):
        network = build()
    parameters = sum(p.numel() for p in network.parameters())
    assert 14e6 <= parameters <= 20e6 and SETTINGS["patch_size"] == 14
    assert parameters == pytest.approx(17.7e6, abs=0.05e6), "core/models/nano/network.py says so"


def keyframes(count, known=True):
    rng = np.random.default_rng(0)
    camera = Camera(112, 84, np.array([[90.0, 0, 55.5], [0, 90, 41.5], [0, 0, 1]])) if known else None
    return tuple(
        Keyframe(i, i, rng.integers(0, 255, (84, 112, 3), np.uint8), camera, "camera", 0.0, "test")
        for i in range(count)
    )


@pytest.mark.parametrize("known", [True, False])
def test_a_window_through_the_model(known):
    model = create_model(ModelConfig(name="nano", checkpoint="random:tiny", threads=1))
    model.load()
    prediction = model.infer(Window(0, keyframes(3, known), 0))
    assert prediction.state is WindowState.OK and prediction.depth.shape == (3, 168, 224)
    assert "RANDOM WEIGHTS" in prediction.note and model.random_weights and not prediction.metric
    if known:
        assert prediction.K[0, 0, 0] == pytest.approx(180.0)
    some = keyframes(2, True)[:1] + keyframes(2, False)[1:]
    assert model.infer(Window(1, some, 0)).state is WindowState.OK


def test_the_network_is_told_the_camera_of_each_keyframe(monkeypatch):
    model = create_model(ModelConfig(name="nano", checkpoint="random:tiny", threads=1))
    model.load()
    heard = []
    relate = type(model.network).relate
    monkeypatch.setattr(
        type(model.network),
        "relate",
        lambda self, t, size, K=None, **k: (heard.append(K), relate(self, t, size, K, **k))[1],
    )
    model.infer(Window(0, keyframes(1, True) + keyframes(2, False)[1:], 0))
    expected = keyframes(1)[0].camera.resized(224, 168).K
    np.testing.assert_allclose(heard[0][0].numpy(), expected)
    assert torch.isnan(heard[0][1]).all()


def test_without_weights_a_sentence_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(nano_adapter, "WEIGHTS", tmp_path / "nano.safetensors")
    with pytest.raises(ModelError, match=r"has no weights here.*model:=geometric"):
        create_model(ModelConfig(name="nano")).load()
    with pytest.raises(ModelError, match="Unknown nano variant 'huge'"):
        create_model(ModelConfig(name="nano", checkpoint="random:huge")).load()
