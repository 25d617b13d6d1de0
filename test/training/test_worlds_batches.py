"""Batches of the generator: repeatable, consistent between views, within the ranges that are promised."""

from __future__ import annotations

import math

import pytest
import torch

from spatial_fm_ros.core.models.vit.pose_encoding import inverse_pose
from spatial_fm_ros.training.targets import unprojected
from spatial_fm_ros.training.worlds import paths, sensor
from spatial_fm_ros.training.worlds.generator import FARTHEST, Generator
from spatial_fm_ros.training.worlds.overlap import LEAST
from spatial_fm_ros.training.worlds.random import Draw, mixed
from spatial_fm_ros.training.worlds.scenes import SCENES
from spatial_fm_ros.training.worlds.textures import Bank, make_bank, power_noise

SIZE, SEED = (56, 84), 6


@pytest.fixture(scope="module")
def generator():
    return Generator(SEED, "cpu", textures=24, texture_size=64)


@pytest.fixture(scope="module")
def batch(generator):
    return generator.batch(0, 24, 3, SIZE)


def test_shapes_and_ranges(batch):
    assert batch.images.shape == (24, 3, 3, *SIZE) and batch.depth.shape == (24, 3, *SIZE)
    assert torch.equal((batch.images * 255).round() / 255, batch.images) and batch.images.min() >= 0
    assert batch.images.max() <= 1 and (batch.images.flatten(1).std(1) > 0.01).all()
    assert torch.isfinite(batch.depth).all() and batch.depth.max() < FARTHEST
    assert batch.depth[batch.valid].min() > 0.01
    assert set(batch.kind.tolist()) == set(range(len(SCENES)))
    rotation = batch.world_from_camera[..., :3, :3]
    torch.testing.assert_close(
        rotation @ rotation.transpose(-1, -2), torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(24, 3))
    fov = 2 * torch.rad2deg(torch.atan(SIZE[1] / 2 / batch.K[..., 0, 0]))
    assert fov.min() >= paths.NARROWEST - 1e-3 and fov.max() <= paths.WIDEST + 1e-3 and fov.std() > 10


def test_indoor_scenes_are_closed_and_sky_is_outside(batch):
    seen = batch.valid.float().mean((1, 2, 3))
    inside = batch.kind < list(SCENES).index("street")
    assert (seen[inside] == 1).all() and (seen[~inside] < 1).any()


def test_the_same_seed_and_number_give_the_same_batch_and_others_do_not(generator):
    first = generator.batch(9, 5, 2, (28, 42))
    again = Generator(SEED, "cpu", textures=24, texture_size=64).batch(9, 5, 2, (28, 42))
    for name in ("images", "depth", "moving", "K", "world_from_camera", "kind", "overlap"):
        assert torch.equal(getattr(again, name), getattr(first, name)), name
    other = generator.batch(10, 5, 2, (28, 42))
    assert not torch.equal(other.world_from_camera, first.world_from_camera)
    assert len({mixed(a, b) for a in range(40) for b in range(40)}) == 1600


def test_a_view_s_points_are_where_the_next_view_sees_them(batch):
    """Depth, cameras and intrinsics belong together: what stands still is at one place in both views."""
    local = unprojected(batch.depth, batch.K)
    pose = batch.world_from_camera[:, :, None, None]
    world = (pose[..., :3, :3] @ local[..., None])[..., 0] + pose[..., :3, 3]
    camera_from_world = inverse_pose(batch.world_from_camera)[:, 1:, None, None]
    seen = (camera_from_world[..., :3, :3] @ world[:, :-1, ..., None])[..., 0] + camera_from_world[..., :3, 3]
    K = batch.K[:, 1:, None, None]
    u = (K[..., 0, 0] * seen[..., 0] / seen[..., 2] + K[..., 0, 2]).round().long()
    v = (K[..., 1, 1] * seen[..., 1] / seen[..., 2] + K[..., 1, 2]).round().long()
    inside = batch.valid[:, :-1] & ~batch.moving[:, :-1] & (seen[..., 2] > 0)
    inside &= (u >= 0) & (u < SIZE[1]) & (v >= 0) & (v < SIZE[0])
    index = v.clamp(0, SIZE[0] - 1) * SIZE[1] + u.clamp(0, SIZE[1] - 1)
    there = batch.depth[:, 1:].flatten(2).gather(2, index.flatten(2)).view_as(index)
    agree = (there / seen[..., 2] - 1).abs() < 0.05
    share = (agree & inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)
    # What is hidden in the next view, or slanted by more than 5 % a pixel, does not agree.
    assert share.median() > 0.93 and (share > 0.6).float().mean() > 0.9
    # And the images show it: grey levels of the same point differ less than those of any two.
    grey = batch.images.mean(2)
    moved = grey[:, 1:].flatten(2).gather(2, index.flatten(2)).view_as(index)
    good = agree & inside
    same = (grey[:, :-1] - moved)[good].abs().mean()
    shuffled = (grey[:, :-1] - grey[:, 1:].flip(-1))[good].abs().mean()
    assert same < 0.5 * shuffled


def test_neighbours_overlap_as_asked(batch, generator):
    more = [generator.batch(i, 16, 4, (28, 42)).overlap for i in range(2, 5)]
    overlap = torch.cat(more)
    assert (overlap >= LEAST).float().mean() > 0.85
    assert overlap.std() > 0.1, "steps of different lengths"


def test_moving_bodies_are_marked_and_move(generator):
    found = [generator.batch(i, 32, 2, (28, 42)) for i in range(5, 8)]
    moving = torch.cat([b.moving for b in found])
    kinds = torch.cat([b.kind for b in found])
    streets = kinds == list(SCENES).index("street")
    assert moving[streets].any() and not moving[~streets].any()
    assert moving[streets].float().mean() < 0.3, "most of a street stands still"


def test_a_bank_tiles_and_its_levels_are_means():
    bank = make_bank(Draw(0, "cpu"), 12, 32)
    assert bank.texels.shape == (12 * (4 * 32 * 32 - 1) // 3, 3) and bank.texels.min() >= 0 and bank.texels.max() <= 1
    texture = torch.arange(12)
    uv = torch.rand(12, 2)
    level = torch.full((12,), 1.3)
    torch.testing.assert_close(bank.sample(texture, uv + 3, level), bank.sample(texture, uv, level), atol=1e-4, rtol=0)
    first = bank.texels[: 12 * 32 * 32].view(12, 32, 32, 3)
    torch.testing.assert_close(bank.sample(texture, uv, torch.full((12,), 99.0)), first.mean((1, 2)), atol=1e-5, rtol=0)
    at = (torch.tensor([[5.0, 9.0]]) + 0.5) / 32
    torch.testing.assert_close(bank.sample(texture[3:4], at, torch.zeros(1)), first[3, 9, 5][None], atol=1e-5, rtol=0)
    second = bank.sample(texture[3:4], (torch.tensor([[2.0, 4.0]]) + 0.5) / 16, torch.ones(1))
    torch.testing.assert_close(second, first[3, 8:10, 4:6].mean((0, 1))[None], atol=1e-5, rtol=0)


def test_noise_falls_with_frequency_as_asked():
    for exponent in (0.8, 1.5):
        noise = power_noise(Draw(1, "cpu"), 24, 128, exponent)
        spectrum = torch.fft.rfft2(noise).abs().pow(2).mean(0)
        radius = torch.hypot(torch.fft.fftfreq(128)[:, None], torch.fft.rfftfreq(128))
        bands = [(0.03, 0.06), (0.06, 0.12), (0.12, 0.24)]
        power = [float(spectrum[(radius >= a) & (radius < b)].mean().log()) for a, b in bands]
        for first, second in zip(power, power[1:], strict=False):
            assert (second - first) / math.log(2) == pytest.approx(-2 * exponent, abs=0.25)


def test_blur_keeps_light_and_spreads_points():
    light = torch.zeros(1, 1, 3, 31, 31)
    light[..., 15, 15] = 1.0
    blurred = sensor._blurred(light, sensor.Sensor(blur=0.9, motion=3.0), Draw(0, "cpu"))
    assert float(blurred.sum()) == pytest.approx(3.0, rel=1e-4) and float(blurred.max()) < 0.8


def test_a_camera_s_faults_can_be_turned_off():
    light = torch.rand(2, 2, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.1
    clean = sensor.Sensor(blur=0.0, motion=0.0, noise=0.0, vignetting=0.0, cast=0.0)
    image = sensor.expose(light, clean, Draw(1, "cpu"))
    noisy = sensor.expose(
        light, sensor.Sensor(noise=20.0, blur=0.0, motion=0.0, vignetting=0.0, cast=0.0), Draw(1, "cpu")
    )
    # Without faults an image is a rising function of light.
    for i in range(2):
        order = light[i, 0, 0, 5:15, 5:15].flatten().argsort()
        steps = image[i, 0, 0, 5:15, 5:15].flatten()[order].diff()
        assert (steps > -0.03).all()
    assert (noisy - image).std() > 0.01


def test_a_bank_is_shared_by_a_run_of_batches(generator):
    assert generator.bank(0) is generator.bank(3)
    first = generator.bank(0)
    second = generator.bank(25)
    assert isinstance(second, Bank) and not torch.equal(first.texels, second.texels)
