"""Pose encodings and camera geometry against the numbers of the published model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

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
