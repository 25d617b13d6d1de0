"""Pose encodings and camera geometry against the numbers of the published model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.geometry.cameras import pixel_grid
from spatial_fm_ros.core.models.vggt import geometry
from spatial_fm_ros.core.models.vit import pose_encoding

DATA = Path(__file__).parent / "data" / "vggt"


@pytest.fixture(scope="module")
def cameras() -> dict[str, torch.Tensor]:
    with np.load(DATA / "vggt_cameras.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def close(got: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-6) -> None:
    """Largest error against the largest value; infinite values have to agree exactly."""
    finite = torch.isfinite(expected)
    assert got.shape == expected.shape
    assert torch.equal(torch.isfinite(got), finite)
    assert (got - expected)[finite].abs().max() <= tolerance * expected[finite].abs().max()


def test_quaternions_and_matrices(cameras):
    close(pose_encoding.matrix_from_quaternion(cameras["quat_in_xyzw"]), cameras["quat_to_mat"])
    close(pose_encoding.quaternion_from_matrix(cameras["quat_to_mat"]), cameras["mat_to_quat"])


def test_pose_encoding_to_cameras_and_back(cameras):
    size = (392, 518)
    pose, K = pose_encoding.decode(cameras["pose_enc"], size)
    close(pose, cameras["extrinsic_392x518"])
    close(K, cameras["intrinsic_392x518"])
    close(pose_encoding.encode(pose, K, size), cameras["pose_enc_roundtrip"])
    shifted = pose_encoding.encode(pose, cameras["intrinsic_shifted_pp"], size)
    close(shifted, cameras["pose_enc_from_shifted_pp"])
    moved = K.clone()
    moved[..., :2, 2] += 7.0
    assert torch.equal(pose_encoding.encode(pose, moved, size), pose_encoding.encode(pose, K, size))


def test_a_field_of_view_of_zero_has_an_infinite_or_a_bounded_focal_length():
    encoding = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 0, 0])
    _, K = pose_encoding.decode(encoding, (10, 20))
    assert torch.isinf(K[0, 0]) and torch.isinf(K[1, 1])
    _, K = pose_encoding.decode(encoding, (10, 20), smallest_tangent=1e-6)
    assert K[0, 0] == pytest.approx(1e7) and K[1, 1] == pytest.approx(5e6)


def test_inverse_pose(cameras):
    close(pose_encoding.inverse_pose(cameras["unproj_extrinsic"]), cameras["se3_inverse"])


def test_points_from_depth(cameras):
    depth, pose, K = (cameras[f"unproj_{name}"].numpy() for name in ("depth", "extrinsic", "intrinsic"))
    points = geometry.world_points_from_depth(depth[..., 0], pose, K)
    expected = cameras["unproj_world_points"].numpy()
    assert points.dtype == expected.dtype == np.float64
    np.testing.assert_allclose(points, expected, atol=3e-7)
    np.testing.assert_array_equal(geometry.seen(depth[1, ..., 0]), cameras["unproj_mask_f1"].numpy())
    assert not geometry.seen(np.full(3, np.nan)).any()


@pytest.mark.parametrize("case", ["tiny_a_s2_56x84", "tiny_b_b2s2_84x56", "tiny_b_s5_70x70"])
def test_points_from_predicted_depth(case):
    """The fixtures thin dense results to every third row and column, so the camera follows."""
    with np.load(DATA / f"vggt_{case}.npz") as file:
        for scene in range(len(file["depth"])):
            K = file["intrinsic"][scene].copy()
            K[:, :2] /= 3
            points = geometry.world_points_from_depth(file["depth"][scene, ..., 0], file["extrinsic"][scene], K)
            expected = file["world_points_from_depth"][scene]
            assert np.abs(points - expected).max() <= 2e-5 * np.abs(expected).max()


def test_projection(cameras):
    points, pose, K = (cameras[name].numpy() for name in ("project_points", "unproj_extrinsic", "unproj_intrinsic"))
    pixels, local = geometry.project_points(points, pose, K)
    np.testing.assert_allclose(pixels, cameras["project_pixels"].numpy(), atol=2e-5)
    np.testing.assert_allclose(local, cameras["project_cam"].numpy().transpose(0, 2, 1), atol=2e-6)
    centre, _ = geometry.project_points(np.zeros((1, 3)), np.eye(4)[None], np.eye(3)[None])
    assert (centre == 0).all()


def test_projection_undoes_points_from_depth(cameras):
    pose, K = cameras["unproj_extrinsic"].numpy(), cameras["unproj_intrinsic"].numpy()
    depth = np.random.default_rng(4).uniform(1, 5, (3, 6, 9))
    points = geometry.world_points_from_depth(depth, pose, K)
    for view in range(3):
        pixels, local = geometry.project_points(points[view].reshape(-1, 3), pose, K)
        np.testing.assert_allclose(pixels[view], pixel_grid(9, 6).reshape(-1, 2), atol=1e-5)
        np.testing.assert_allclose(local[view, :, 2], depth[view].ravel(), atol=1e-5)


finite = st.floats(-1, 1)


@settings(max_examples=200, deadline=None)
@given(st.lists(finite, min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 1e-2), st.floats(0.1, 10))
def test_quaternions_agree_with_scipy(q, length):
    unit = np.array(q) / np.linalg.norm(q)
    R = pose_encoding.matrix_from_quaternion(torch.tensor(unit * length))
    np.testing.assert_allclose(R.numpy(), Rotation.from_quat(unit).as_matrix(), atol=1e-12)
    back = pose_encoding.quaternion_from_matrix(R)
    assert back[3] >= 0
    assert abs(back.numpy() @ unit) == pytest.approx(1, abs=1e-12)


def test_half_turns_keep_finite_gradients():
    R = torch.diag(torch.tensor([1.0, -1, -1])).requires_grad_()
    pose_encoding.quaternion_from_matrix(R).sum().backward()
    assert torch.isfinite(R.grad).all()
