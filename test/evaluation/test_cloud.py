"""Cloud errors: exact on constructed offsets, equal to a plain twin, alignment found again."""

from __future__ import annotations

import os

import numpy as np
import open3d as o3d
import pytest
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.io.cloud_files import read_points
from spatial_fm_ros.evaluation.cloud import evaluate_cloud, thin


def room(n: int = 20_000, seed: int = 0) -> np.ndarray:
    """Points on the floor, two walls and a block of a room of 4 x 3 x 2.5 m."""
    rng = np.random.default_rng(seed)
    size = np.array([4.0, 3.0, 2.5])
    points = rng.uniform(0, 1, (n, 3)) * size
    part = rng.integers(0, 3, n)
    points[np.arange(n), part] = 0.0
    block = rng.uniform(0, 1, (n // 4, 3)) * (0.8, 0.6, 1.0)
    block[:, 2] = 1.0
    return np.concatenate([points, block + (1.5, 1.0, 0.0)])


def test_a_shifted_floor():
    x, y = np.meshgrid(np.arange(0, 2, 0.02), np.arange(0, 2, 0.02))
    truth = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
    errors = evaluate_cloud(truth + (0, 0, 0.03), truth, threshold=0.05, voxel=0.0)
    assert errors.accuracy_mean == pytest.approx(0.03) and errors.completeness_mean == pytest.approx(0.03)
    assert errors.f_score == 1.0 and errors.alignment == "none"
    half = evaluate_cloud(truth[: len(truth) // 2], truth, threshold=0.05, voxel=0.0)
    assert half.precision == 1.0 and half.recall == pytest.approx(0.5, abs=0.03)
    assert half.f_score == pytest.approx(2 * half.recall / (1 + half.recall))
    assert evaluate_cloud(truth + (0, 0, 0.06), truth, threshold=0.05, voxel=0.0).f_score == 0.0


def test_distances_equal_the_plain_twin():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, (200, 3)), rng.normal(0, 1, (150, 3))
    table = np.linalg.norm(a[:, None] - b[None], axis=-1)
    errors = evaluate_cloud(a, b, threshold=0.3, voxel=0.0)
    assert errors.accuracy_mean == pytest.approx(table.min(1).mean())
    assert errors.completeness_median == pytest.approx(np.median(table.min(0)))
    assert errors.precision == pytest.approx((table.min(1) < 0.3).mean())


def test_thinning_keeps_one_mean_per_voxel():
    rng = np.random.default_rng(2)
    points = rng.uniform(0, 1, (5000, 3))
    kept = thin(points, 0.25)
    cells: dict[tuple, list] = {}
    for point in points:
        cells.setdefault(tuple(np.floor((point - points.min(0)) / 0.25).astype(int)), []).append(point)
    expected = np.array([np.mean(cell, axis=0) for cell in cells.values()])
    assert len(kept) == len(expected)
    assert np.allclose(np.sort(kept, axis=0), np.sort(expected, axis=0))


@pytest.mark.parametrize(("icp", "scale"), [(True, 1.0), (False, 1.03)])
def test_a_small_misalignment_is_found(icp, scale):
    truth, other = room(seed=0), room(seed=1)
    offset = Sim3(scale, Rotation.from_rotvec([0.01, -0.02, 0.015]).as_matrix(), np.array([0.03, -0.02, 0.04]))
    known = None if icp else offset
    errors = evaluate_cloud(offset.inverse().apply(other), truth, icp=icp, truth_from_estimate=known)
    assert errors.accuracy_mean < 0.02 and errors.f_score > 0.97
    assert errors.scale == pytest.approx(scale)
    assert errors.alignment == ("ICP" if icp else "given similarity")


def test_files_are_read_as_exactly_as_they_hold_points(tmp_path):
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(room(100) + [450_000, 5_400_000, 0]))
    cloud.colors = o3d.utility.Vector3dVector(np.full((125, 3), [1.0, 0.2, 0.0]))
    o3d.io.write_point_cloud(str(tmp_path / "a.ply"), cloud)
    points, colors = read_points(tmp_path / "a.ply")
    np.testing.assert_array_equal(points, np.asarray(cloud.points))  # map coordinates need float64
    assert (colors == [255, 51, 0]).all()
    o3d.io.write_point_cloud(str(tmp_path / "b.ply"), o3d.geometry.PointCloud(cloud.points))
    assert read_points(tmp_path / "b.ply")[1] is None


def test_sentences(tmp_path):
    for content in (b"nothing", b"ply\nformat ascii 1.0\nelement vertex 99999999999\nend_header\n"):
        (tmp_path / "c.ply").write_bytes(content)
        with pytest.raises(InputError, match=r"c\.ply"):
            read_points(tmp_path / "c.ply")
    os.mkfifo(tmp_path / "fifo.pcd")
    for name, said in (("fifo.pcd", "is no regular file"), ("no.ply", "cannot be read"), ("a.txt", "ply or")):
        with pytest.raises(InputError, match=said):
            read_points(tmp_path / name)
    for threshold, voxel in ((np.inf, None), (0.1, -1.0), (0.1, np.nan), (1e-300, None)):
        with pytest.raises(InputError, match="above 0|or above|cannot be thinned"):
            evaluate_cloud(room(), room(), threshold=threshold, voxel=voxel)
    with pytest.raises(InputError, match="above 0"):
        evaluate_cloud(room(), room(), threshold=0)
    with pytest.raises(InputError, match="lie within"):
        evaluate_cloud(room(500) + 100, room(500), icp=True)
