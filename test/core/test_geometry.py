"""Rotations, poses and similarities: algebra as properties, fits against exact answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation, Slerp

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry import rotations as rot
from spatial_fm_ros.core.geometry.cameras import pinhole_rays, project, unproject
from spatial_fm_ros.core.geometry.similarity import Sim3, umeyama
from spatial_fm_ros.core.types import Camera

finite = st.floats(-10, 10, allow_nan=False, width=64)
vectors = hnp.arrays(np.float64, 3, elements=finite)
rotations = vectors.map(lambda v: Rotation.from_rotvec(v).as_matrix())
poses = st.builds(rot.pose_from, rotations, vectors)
similarities = st.builds(Sim3, st.floats(0.01, 100), rotations, vectors)


@given(rotations)
def test_quaternion_round_trip(R):
    q = rot.quaternion_from_matrix(R)
    assert q.shape == (4,) and q[3] >= 0 and np.isclose(np.linalg.norm(q), 1)
    np.testing.assert_allclose(rot.matrix_from_quaternion(-3 * q), R, atol=1e-12)


def test_quaternion_order_is_xyzw_and_shapes_are_kept():
    half = np.sqrt(0.5)
    np.testing.assert_allclose(
        rot.matrix_from_quaternion([0, 0, half, half]), [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12
    )
    assert rot.matrix_from_quaternion(np.tile([0.0, 0, 0, 1], (2, 5, 1))).shape == (2, 5, 3, 3)
    assert rot.quaternion_from_matrix(np.tile(np.eye(3), (2, 5, 1, 1))).shape == (2, 5, 4)


@pytest.mark.parametrize("bad", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [1, 2, 3]])
def test_unusable_quaternions_are_refused(bad):
    with pytest.raises(InputError, match="quaternion"):
        rot.matrix_from_quaternion(bad)


@given(vectors.filter(lambda v: np.linalg.norm(v) > 1e-6), st.sampled_from([1e-9, 1e-3, 1.0, 3.0, np.pi]))
def test_angle(axis, angle):
    R = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
    assert np.isclose(rot.rotation_angle(R), angle, rtol=1e-6, atol=1e-12)


@given(poses, poses)
def test_inverse_of_pose(a, b):
    np.testing.assert_allclose(rot.invert_pose(a) @ a, np.eye(4), atol=1e-10)
    np.testing.assert_allclose(rot.invert_pose(a @ b), rot.invert_pose(b) @ rot.invert_pose(a), atol=1e-9)
    assert rot.is_pose(a @ b)


@pytest.mark.parametrize(
    "matrix",
    [np.full((4, 4), np.nan), np.diag([1.0, 1, -1, 1]), np.diag([2.0, 2, 2, 1]), np.eye(3), np.eye(4) * 2],
)
def test_not_a_pose(matrix):
    assert not rot.is_pose(matrix)


@given(poses, poses, st.floats(0, 1))
def test_interpolation_equals_slerp(a, b, fraction):
    got = rot.interpolate_pose(a, b, fraction)
    step = rot.rotation_angle(a[:3, :3].T @ b[:3, :3])
    assert rot.is_pose(got, 1e-9)
    np.testing.assert_allclose(got[:3, 3], (1 - fraction) * a[:3, 3] + fraction * b[:3, 3], atol=1e-12)
    if step < 3.1:  # a half turn has two shortest ways
        twin = Slerp([0, 1], Rotation.from_matrix(np.stack([a[:3, :3], b[:3, :3]])))(fraction).as_matrix()
        np.testing.assert_allclose(got[:3, :3], twin, atol=1e-7)


def test_interpolation_ends_and_extrapolates():
    a, b = np.eye(4), rot.pose_from(Rotation.from_rotvec([0, 0, 0.4]).as_matrix(), np.array([1.0, 0, 0]))
    np.testing.assert_allclose(rot.interpolate_pose(a, b, 0.0), a, atol=1e-12)
    np.testing.assert_allclose(rot.interpolate_pose(a, b, 1.0), b, atol=1e-12)
    assert np.isclose(rot.rotation_angle(rot.interpolate_pose(a, b, 2.0)[:3, :3]), 0.8)


def test_chordal_mean():
    truth = Rotation.from_rotvec([0.3, -1.0, 0.5])
    around = [truth * Rotation.from_rotvec(s * e * 0.2) for e in np.eye(3) for s in (-1, 1)]
    R = np.stack([r.as_matrix() for r in around])
    np.testing.assert_allclose(rot.chordal_mean(R), truth.as_matrix(), atol=1e-9)
    np.testing.assert_allclose(rot.chordal_mean(R, [0, 0, 1, 0, 0, 0]), R[2], atol=1e-12)
    with pytest.raises(InputError):
        rot.chordal_mean(R, np.zeros(6))
    opposite = np.stack([Rotation.from_rotvec([0, 0, a]).as_matrix() for a in (0, np.pi)])
    with pytest.raises(InputError, match="no mean"):
        rot.chordal_mean(opposite)


@given(similarities, similarities, vectors)
def test_similarity_is_a_group(a, b, x):
    np.testing.assert_allclose((a @ b).apply(x), a.apply(b.apply(x)), rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose((a @ b).matrix, a.matrix @ b.matrix, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose((a @ a.inverse()).matrix, np.eye(4), atol=1e-8)
    np.testing.assert_allclose(Sim3.from_matrix(a.matrix).matrix, a.matrix, rtol=1e-9, atol=1e-9)
    assert np.isclose((a @ b).log_scale, a.log_scale + b.log_scale)
    np.testing.assert_array_equal(Sim3.identity().apply(x), x)


@given(similarities, poses, vectors)
def test_apply_pose_moves_what_the_camera_sees(world_from_gauge, gauge_from_camera, x):
    pose = world_from_gauge.apply_pose(gauge_from_camera)
    assert rot.is_pose(pose, 1e-9)
    seen = gauge_from_camera[:3, :3] @ x + gauge_from_camera[:3, 3]
    scaled = pose[:3, :3] @ (world_from_gauge.scale * x) + pose[:3, 3]
    np.testing.assert_allclose(scaled, world_from_gauge.apply(seen), rtol=1e-9, atol=1e-7)
    assert world_from_gauge.apply_pose(np.tile(gauge_from_camera, (3, 1, 1))).shape == (3, 4, 4)


@pytest.mark.parametrize("matrix", [np.diag([1, 1, -1, 1]), np.diag([1, 2, 3, 1]), np.zeros((4, 4)), np.eye(3)])
def test_from_matrix_refuses_what_is_no_similarity(matrix):
    with pytest.raises(InputError):
        Sim3.from_matrix(matrix)


@settings(deadline=None)
@given(similarities, st.integers(3, 40), st.integers(0, 2**31), st.booleans())
def test_umeyama_finds_the_exact_transform(truth, n, seed, planar):
    b = np.random.default_rng(seed).normal(size=(n, 3)) * (1, 1, 0 if planar else 1)
    got = umeyama(truth.apply(b), b)
    np.testing.assert_allclose(got.matrix, truth.matrix, rtol=1e-6, atol=1e-6 * truth.scale)


def test_umeyama_weights_scale_and_reflection():
    rng = np.random.default_rng(0)
    b = rng.normal(size=(50, 3))
    truth = Sim3(2.0, Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix(), np.array([1.0, 2, 3]))
    a = truth.apply(b)
    spoilt, weights = a.copy(), np.ones(50)
    spoilt[:10], weights[:10] = np.nan, 0.0
    np.testing.assert_allclose(umeyama(spoilt, b, weights).matrix, truth.matrix, atol=1e-9)
    rigid = umeyama(a, b, with_scale=False)
    assert rigid.scale == 1.0
    np.testing.assert_allclose(rigid.R, truth.R, atol=1e-9)
    assert np.linalg.det(umeyama(b * (1, 1, -1), b).R) > 0
    # A weight counts like so many copies of its point.
    noisy = a + rng.normal(size=a.shape) * 0.1
    counts = rng.integers(1, 4, 50)
    twin = umeyama(np.repeat(noisy, counts, axis=0), np.repeat(b, counts, axis=0))
    np.testing.assert_allclose(umeyama(noisy, b, counts).matrix, twin.matrix, atol=1e-9)


def test_umeyama_is_the_least_squares_optimum():
    rng = np.random.default_rng(1)
    b = rng.normal(size=(20, 3))
    a = 1.5 * b + rng.normal(size=b.shape) * 0.2
    best = umeyama(a, b)

    def cost(s: Sim3) -> float:
        return float(((a - s.apply(b)) ** 2).sum())

    for _ in range(50):
        step = Rotation.from_rotvec(rng.normal(size=3) * 0.01).as_matrix()
        near = Sim3(best.scale * np.exp(rng.normal() * 0.01), step @ best.R, best.t + rng.normal(size=3) * 0.01)
        assert cost(near) >= cost(best)


@pytest.mark.parametrize(
    "b",
    [
        np.zeros((5, 3)),
        np.arange(15.0).reshape(5, 3),
        np.eye(3)[:2],
        np.full((5, 3), 1e6),
        np.full((4, 3), np.inf),
    ],
    ids=["one place", "line", "two points", "far place", "infinite"],
)
def test_umeyama_refuses_degenerate_points(b):
    with pytest.raises(InputError):
        umeyama(b, b)


def test_pinhole_round_trip():
    camera = Camera(64, 48, np.array([[50.0, 0.3, 31.0], [0, 55.0, 22.0], [0, 0, 1]]))
    depth = np.random.default_rng(0).uniform(1, 5, (48, 64))
    points = unproject(camera.K, depth)
    u, v = np.meshgrid(np.arange(64), np.arange(48))
    np.testing.assert_allclose(project(camera, points), np.stack([u, v], -1), atol=1e-9)
    assert pinhole_rays(np.stack([camera.K] * 3), 64, 48).shape == (3, 48, 64, 3)
    assert unproject(np.stack([camera.K] * 3), np.stack([depth] * 3)).shape == (3, 48, 64, 3)
    assert np.isnan(project(camera, [[0, 0, -1.0], [0, 0, 0]])).all()
    assert np.isnan(unproject(camera.K, np.full((48, 64), np.nan))).all()
