"""Depth Anything 3: cameras from rays, and known poses before and after the network."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).parent))
from da3_fixtures import FOLDERS, Recording

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import invert_pose, pose_from
from spatial_fm_ros.core.models.depth_anything_3.posed import centres, normalised_extrinsics, predicted_from_given
from spatial_fm_ros.core.models.depth_anything_3.ray_pose import (
    DRAWS,
    MIN_Z,
    cameras_from_rays,
    candidate_count,
    draw_samples,
    fit_cameras,
)


@pytest.fixture(params=FOLDERS, scope="module")
def rays(request: pytest.FixtureRequest) -> Recording:
    return Recording(request.param, "raypose")


@pytest.fixture(params=FOLDERS, scope="module")
def alignment(request: pytest.FixtureRequest) -> Recording:
    return Recording(request.param, "alignment")


@pytest.mark.parametrize("case", ["clean", "noisy", "offcentre", "zmask", "wide", "one"])
def test_cameras_from_rays_equal_the_published_ones(rays: Recording, case: str) -> None:
    if f"{case}_ray" not in rays:
        pytest.skip("this case is only among the originals, which SPATIAL_FM_FIXTURES names")
    about = rays.meta[case]
    ray, conf, samples = (rays[f"{case}_{name}"] for name in ("ray", "conf", "sample_idx"))
    assert candidate_count(about["h"], about["w"]) == about["n_sample"]
    found = fit_cameras(ray.flatten(0, 1), conf.flatten(0, 1), samples=samples)
    rays.agrees(f"{case}_homography", found.homography)
    rays.agrees(f"{case}_c2w", found.world_from_camera[None])
    rays.agrees(f"{case}_focal", found.focal[None])
    rays.agrees(f"{case}_pp", found.centre[None])
    extrinsics, K = cameras_from_rays(ray, conf, (about["H"], about["W"]), samples=samples)
    rays.agrees(f"{case}_extrinsics", extrinsics)
    rays.agrees(f"{case}_intrinsics", K)


def ray_map(rotation: np.ndarray, position: np.ndarray, focal: np.ndarray, rows: int, columns: int) -> torch.Tensor:
    """Rays [1, 1, rows, columns, 6] of a pinhole, its focal lengths in half widths and half heights."""
    y, x = np.meshgrid((2 * np.arange(rows) + 1) / rows - 1, (2 * np.arange(columns) + 1) / columns - 1, indexing="ij")
    directions = np.stack([x / focal[0], y / focal[1], np.ones_like(x)], axis=-1) @ rotation.T
    origins = np.broadcast_to(position, directions.shape)
    return torch.from_numpy(np.concatenate([directions, origins], axis=-1))[None, None]


@given(
    turn=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    position=st.tuples(*[st.floats(-5, 5)] * 3),
    focal=st.tuples(*[st.floats(0.7, 3.0)] * 2),
)
@settings(max_examples=25, deadline=None)
def test_rays_of_a_centred_pinhole_give_it_back(turn, position, focal) -> None:
    """Also when a fifth of the rays is nonsense, half of that not finite."""
    rotation = Rotation.from_rotvec(turn).as_matrix()
    ray = ray_map(rotation, np.array(position), np.array(focal), 16, 24)
    conf = torch.full(ray.shape[:-1], 2.0)
    flat = ray.flatten(0, 3)
    broken = torch.randperm(len(flat), generator=torch.Generator().manual_seed(1))[: len(flat) // 5]
    flat[broken[::2], :3] = torch.tensor([3.0, -4.0, 1.0], dtype=flat.dtype)
    flat[broken[1::2]] = torch.nan
    extrinsics, K = cameras_from_rays(flat.reshape(ray.shape), conf, (160, 240))
    found = np.eye(4)
    found[:3] = extrinsics[0, 0].double().numpy()
    np.testing.assert_allclose(invert_pose(found)[:3, :3], rotation, atol=1e-5)
    np.testing.assert_allclose(invert_pose(found)[:3, 3], position, atol=1e-4)
    np.testing.assert_allclose(K[0, 0].diagonal(), [focal[0] * 120, focal[1] * 80, 1], rtol=1e-4)
    np.testing.assert_allclose(K[0, 0, :2, 2], [120, 80], atol=1e-2)


def test_a_camera_that_looks_back_is_no_mirror_image() -> None:
    """Its directions have a negative z, which a homography does not tell from positive ones."""
    rotation = Rotation.from_rotvec([0.1, 2.8, -0.2]).as_matrix()
    ray = ray_map(rotation, np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.0]), 16, 24)
    assert (ray[..., 2] < 0).all()
    extrinsics, _ = cameras_from_rays(ray, torch.full(ray.shape[:-1], 2.0), (160, 240))
    np.testing.assert_allclose(extrinsics[0, 0, :, :3].double().numpy().T, rotation, atol=1e-5)


def test_views_without_usable_rays_have_no_camera_and_spoil_no_other() -> None:
    good = ray_map(np.eye(3), np.zeros(3), np.ones(2), 8, 8)
    flat = good.clone()
    flat[..., 2] = MIN_Z / 2
    ray = torch.cat([good, flat, torch.full_like(good, torch.nan)], dim=1)
    extrinsics, K = cameras_from_rays(ray, torch.full(ray.shape[:-1], 2.0), (112, 112))
    torch.testing.assert_close(extrinsics[0, 0], torch.eye(4)[:3], rtol=0, atol=1e-6)
    assert extrinsics[0, 1:].isnan().any(-1).any(-1).all() and K[0, 1:].isnan().any(-1).any(-1).all()


def test_samples_are_seeded_and_without_repetition() -> None:
    drawn = draw_samples(40)
    assert drawn.shape == (DRAWS, 8) and torch.equal(drawn, draw_samples(40))
    assert not torch.equal(drawn, draw_samples(40, torch.Generator().manual_seed(7)))
    assert all(len(set(row.tolist())) == 8 for row in drawn) and 0 <= int(drawn.min()) <= int(drawn.max()) < 40


@pytest.mark.parametrize("views", [1, 2, 3, 4, 5, 12])
def test_normalised_extrinsics_equal_the_published_ones(alignment: Recording, views: int) -> None:
    """Five views: so close together that the least spread of 0.1 acts."""
    found = normalised_extrinsics(alignment.arrays[f"extnorm_in_S{views}"])
    alignment.agrees(f"extnorm_out_S{views}", found)


@given(seed=st.integers(0, 2**32 - 1), views=st.integers(1, 9), scale=st.floats(0.5, 50))
@settings(max_examples=30, deadline=None)
def test_normalised_extrinsics_do_not_depend_on_world_and_unit(seed: int, views: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    camera_from_world = pose_from(Rotation.random(views, random).as_matrix(), random.uniform(-1, 1, (views, 3)))
    spread = np.sort(np.linalg.norm(centres(camera_from_world) - centres(camera_from_world)[0], axis=1))
    if spread[(views - 1) // 2] < 0.2:
        scale = 1.0  # the least spread of 0.1 is an absolute one
    moved = camera_from_world @ invert_pose(pose_from(Rotation.random(rng=random).as_matrix(), random.normal(size=3)))
    moved[:, :3, 3] *= scale
    found = normalised_extrinsics(moved)
    np.testing.assert_allclose(found, normalised_extrinsics(camera_from_world), atol=1e-9)
    np.testing.assert_allclose(found[0], np.eye(4), atol=1e-9)


@pytest.mark.parametrize("views", [3, 4, 5, 12])
def test_similarity_to_the_given_cameras_equals_the_published_one(alignment: Recording, views: int) -> None:
    """Twelve views: two of them are outliers, and draws decide."""
    predicted, given_poses = (alignment.arrays[f"umeyama_S{views}_{name}"] for name in ("pred_ext", "in_ext"))
    found = predicted_from_given(predicted, given_poses)
    alignment.agrees(f"umeyama_S{views}_r_f64", found.R)
    alignment.agrees(f"umeyama_S{views}_t_f64", found.t)
    alignment.agrees(f"umeyama_S{views}_s_f64", found.scale)
    aligned = invert_pose(found.apply_pose(invert_pose(given_poses.astype(np.float64))))
    alignment.agrees(f"umeyama_S{views}_aligned_ext_f64", aligned)


@pytest.mark.parametrize(
    "place", [[[0, 0, 0]], [[0, 0, 0], [1, 0, 0]], [[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[1, 1, 1]] * 4]
)
def test_cameras_that_determine_no_similarity_are_refused(place: list[list[float]]) -> None:
    poses = pose_from(np.tile(np.eye(3), (len(place), 1, 1)), np.array(place, dtype=float))
    with pytest.raises(InputError):
        predicted_from_given(poses, poses)
