"""Targets and losses: exact where the answer is known, independent of the world's gauge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spatial_fm_ros.core.models.vggt.network import VggtOutput
from spatial_fm_ros.core.models.vit import pose_encoding
from spatial_fm_ros.training.losses import ALPHA, camera_loss, dense_loss, losses
from spatial_fm_ros.training.matching import matching_loss, partners
from spatial_fm_ros.training.measures import measures, summary
from spatial_fm_ros.training.targets import targets
from spatial_fm_ros.training.worlds.generator import Generator
from spatial_fm_ros.training.worlds.paths import pose_from_angles

SIZE = (28, 42)


@pytest.fixture(scope="module")
def batch():
    return Generator(1, "cpu", textures=8, texture_size=16).batch(0, 10, 3, SIZE)


def exact(wanted, confidence=2.0):
    """What a network without faults would say."""
    flat = torch.full_like(wanted.depth, confidence)
    return VggtOutput(
        pose_enc=wanted.pose_enc,
        pose_enc_iterations=[wanted.pose_enc] * 4,
        depth=wanted.depth[..., None],
        depth_conf=flat,
        world_points=wanted.points,
        world_points_conf=flat,
    )


def test_targets_are_in_the_first_camera_with_mean_distance_one(batch):
    wanted = targets(batch)
    pose, K = pose_encoding.decode(wanted.pose_enc, SIZE)
    identity = torch.eye(3, 4).expand_as(pose[:, 0])
    torch.testing.assert_close(pose[:, 0], identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(K[..., [0, 1], [0, 1]], batch.K[..., [0, 1], [0, 1]], rtol=1e-4, atol=0)
    for points, valid in zip(wanted.points, wanted.valid, strict=True):
        assert float(points[valid].norm(dim=-1).mean()) == pytest.approx(1.0, rel=1e-4)
    # Depth is the points' z in every camera.
    z = torch.einsum("bvj,bvhwj->bvhw", pose[..., 2, :3], wanted.points) + pose[..., 2, 3, None, None]
    torch.testing.assert_close(z[wanted.valid], wanted.depth[wanted.valid], rtol=1e-3, atol=1e-4)


def test_targets_do_not_know_the_world_s_gauge(batch):
    turn = pose_from_angles(torch.tensor([3.0, -2, 1]), torch.tensor(0.7), torch.tensor(-0.4), torch.tensor(1.1))
    poses = turn @ batch.world_from_camera
    poses[..., :3, 3] *= 2.5
    moved = replace(batch, world_from_camera=poses, depth=batch.depth * 2.5)
    a, b = targets(batch), targets(moved)
    torch.testing.assert_close(a.pose_enc, b.pose_enc, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(a.points, b.points, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(2.5 * a.scale, b.scale, rtol=1e-4, atol=0)


def test_an_exact_answer_costs_nothing_but_its_confidence(batch):
    wanted = targets(batch)
    found = losses(exact(wanted, 2.0), wanted, camera_weight=5.0)
    assert float(found.camera) == pytest.approx(0.0, abs=1e-7)
    assert float(found.depth) == pytest.approx(-ALPHA * float(torch.tensor(2.0).log()), rel=1e-4)
    measured = summary([measures(exact(wanted), wanted, SIZE)])
    assert measured["rotation"] < 0.05 and measured["direction"] < 0.1 and measured["absrel"] < 1e-5


def test_the_best_confidence_is_alpha_over_the_error():
    truth, valid = torch.zeros(1, 1, 6, 6, 1), torch.ones(1, 1, 6, 6, dtype=torch.bool)
    error, tried = 0.04, torch.tensor([4.0, 5.0, 6.0])
    costs = [dense_loss(truth + error, torch.full((1, 1, 6, 6), float(c)), truth, valid) for c in tried]
    assert float(tried[int(torch.stack(costs).argmin())]) == pytest.approx(ALPHA / error)


def test_a_jump_that_is_drawn_flat_costs_its_gradient():
    truth, valid = torch.zeros(1, 1, 8, 8, 1), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    confidence = torch.ones(1, 1, 8, 8)
    step = torch.zeros(1, 1, 8, 8, 1)
    step[..., 4:, :] = 0.2
    bent, shifted = dense_loss(step, confidence, truth, valid), dense_loss(truth + 0.1, confidence, truth, valid)
    assert float(bent) == pytest.approx(0.1 + 0.5 * 0.2 / 7, rel=1e-5) and float(shifted) == pytest.approx(
        0.1, rel=1e-5
    )


def test_what_is_not_valid_costs_nothing_whatever_is_said_there(batch):
    wanted = targets(batch)
    nothing = ~wanted.valid
    assert nothing.any()
    said = exact(wanted)
    said.depth = torch.where(nothing[..., None], torch.tensor(1e6), said.depth)
    said.world_points = torch.where(~wanted.still[..., None], torch.tensor(-1e6), said.world_points)
    plain, odd = losses(exact(wanted), wanted, 5.0), losses(said, wanted, 5.0)
    torch.testing.assert_close(plain.total, odd.total)


def test_later_iterations_of_the_camera_weigh_more(batch):
    wanted = targets(batch)
    good, bad = wanted.pose_enc, wanted.pose_enc + 0.3
    assert camera_loss([good, good, good, bad], wanted) > camera_loss([bad, good, good, good], wanted) > 0


def test_measures_see_the_error_that_is_there(batch):
    wanted = targets(batch)
    said = exact(wanted)
    pose, K = pose_encoding.decode(wanted.pose_enc, SIZE)
    two = torch.tensor(0.0349066)
    turn = pose_from_angles(torch.zeros(3), torch.zeros(()), torch.zeros(()), torch.zeros(()))[:3, :3]
    roll = turn.T @ pose_from_angles(torch.zeros(3), torch.zeros(()), torch.zeros(()), two)[:3, :3]
    pose[:, 1] = roll @ pose[:, 1]
    said.pose_enc = pose_encoding.encode(pose, K, SIZE)
    said.depth = 3.0 * said.depth
    found = measures(said, wanted, SIZE)
    torch.testing.assert_close(found["rotation"], torch.full_like(found["rotation"], 2.0), atol=0.05, rtol=0)
    assert float(found["absrel"].max()) < 1e-5
    assert summary([measures(exact(wanted), wanted, SIZE)])["following"] == pytest.approx(1.0, abs=1e-3)
    still = exact(wanted)
    still.pose_enc = pose_encoding.encode(torch.eye(4).expand(*pose.shape[:2], 4, 4), K, SIZE)
    assert np.isnan(summary([measures(still, wanted, SIZE)])["following"]), "who never turns follows nothing"


def test_partners_show_the_same_place(batch):
    """Each patch's middle pixel, lifted and seen from the next view by plain arithmetic, falls into its partner."""
    place, good = partners(batch, 14)
    rows, columns = SIZE[0] // 14, SIZE[1] // 14
    assert place.shape == (10, 2, rows * columns) and 0.2 < float(good.float().mean()) < 1
    for scene, view, patch in torch.nonzero(good).tolist()[::7]:
        row, column = 14 * (patch // columns) + 7, 14 * (patch % columns) + 7
        depth = batch.depth[scene, view, row, column].double()
        K, other = batch.K[scene, view].double(), batch.K[scene, view + 1].double()
        ray = torch.linalg.inv(K) @ torch.tensor([column, row, 1.0], dtype=torch.float64)
        point = batch.world_from_camera[scene, view].double() @ torch.cat([depth * ray, torch.ones(1)])
        seen = other @ (torch.linalg.inv(batch.world_from_camera[scene, view + 1].double()) @ point)[:3]
        u, v = (seen[:2] / seen[2]).round().long().tolist()
        assert place[scene, view, patch] == (v // 14) * columns + u // 14
        assert float(batch.depth[scene, view + 1, v, u]) == pytest.approx(float(seen[2]), rel=0.06)


def test_the_matching_loss_is_low_where_partners_are_alike():
    place = torch.tensor([[[2, 0, 1]]])
    good = torch.tensor([[[True, True, False]]])
    own = torch.eye(3, 8)
    other = torch.zeros(3, 8)
    other[place[0, 0]] = own
    matched = torch.stack([own, other])[None]
    low, high = matching_loss(matched, place, good), matching_loss(torch.stack([own, own])[None], place, good)
    assert low < 1e-3 < 5 < high
    # Half of the channels are free, and a patch without a partner is asked nothing.
    matched[..., 4:] = torch.randn(1, 2, 3, 4)
    matched[0, 1, 1] = 0
    torch.testing.assert_close(matching_loss(matched, place, good), low, atol=1e-3, rtol=0)
