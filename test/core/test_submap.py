"""Bending a submap: keyframes, voxels and the tail follow the scales of their windows."""

import numpy as np

from spatial_fm_ros.core.align.submap import Submap
from spatial_fm_ros.core.config import MapConfig, ScaleConfig
from spatial_fm_ros.core.mapping.voxel_map import VoxelMap
from spatial_fm_ros.core.metric.filter import ScaleFilter
from spatial_fm_ros.core.types import Camera, PointCloud, PosedKeyframe

WINDOWS = 5
ORIGIN = np.array([10.0, -2.0, 1.0])


def keyframe(i: int, scales: np.ndarray) -> PosedKeyframe:
    """Two keyframes a window, a step of one true metre each, in units of the window's scale."""
    pose = np.eye(4)
    pose[:3, 3] = ORIGIN + np.array([sum(1.0 / scales[j // 2] for j in range(1, i + 1)), 0.0, 0.0])
    depth = np.full((2, 2), 3.0 / scales[i // 2], np.float32)
    return PosedKeyframe(
        i, i, "camera", pose, Camera(2, 2, np.eye(3)), depth, np.ones_like(depth), np.zeros((2, 2, 3), np.uint8), 0
    )


def built(scales: np.ndarray) -> Submap:
    submap = Submap(0, ORIGIN, VoxelMap(MapConfig(voxel_size=0.05)), ScaleFilter(ScaleConfig()))
    for window in range(WINDOWS):
        submap.applied.append(0.0)
        for i in (2 * window, 2 * window + 1):
            k = keyframe(i, scales)
            submap.add_keyframe(k)
            point = k.world_from_camera[:3, 3] + [0.0, 0.0, k.depth[0, 0]]
            cloud = PointCloud(point[None].astype(np.float32), np.full((1, 3), i, np.uint8), np.ones(1, np.float32))
            submap.add_points(cloud, k.world_from_camera[:3, 3])
        submap.tail = {i: keyframe(i, scales) for i in (2 * window, 2 * window + 1)}
    return submap


def test_a_bent_submap_is_the_one_built_with_right_scales() -> None:
    rng = np.random.default_rng(0)
    scales = np.exp(rng.normal(0, 0.05, WINDOWS))
    scales[:2] = 1.0
    submap, truth = built(scales), built(np.ones(WINDOWS))
    factors = submap.bend(np.log(scales[2:]))
    np.testing.assert_allclose(np.stack(submap.poses), np.stack(truth.poses), atol=1e-12)
    np.testing.assert_allclose(submap.applied, np.log(scales))
    assert set(factors) == set(range(4, 10))
    np.testing.assert_allclose(factors[4], scales[2])
    bent, right = submap.cloud(), truth.cloud()
    order = np.argsort(bent.colors[:, 0])
    np.testing.assert_allclose(bent.points[order], right.points[np.argsort(right.colors[:, 0])], atol=1e-5)
    for i, k in submap.tail.items():
        np.testing.assert_allclose(k.world_from_camera, truth.tail[i].world_from_camera, atol=1e-12)
        np.testing.assert_allclose(k.depth, truth.tail[i].depth, rtol=1e-6)


def test_rescaling_is_about_the_origin() -> None:
    submap = built(np.ones(WINDOWS))
    before = submap.cloud().points.astype(np.float64) - ORIGIN
    submap.rescale(np.log(2.0))
    np.testing.assert_allclose(submap.cloud().points - ORIGIN, 2.0 * before, atol=1e-5)
    np.testing.assert_allclose(submap.poses[0][:3, 3], ORIGIN)
    np.testing.assert_allclose(submap.poses[3][:3, 3], ORIGIN + [6.0, 0.0, 0.0])
    assert submap.applied == [np.log(2.0)] * WINDOWS


def test_a_keyframe_of_the_submap_before_hangs_on_the_first() -> None:
    submap = built(np.ones(WINDOWS))
    stranger = keyframe(0, np.ones(WINDOWS))
    submap.tail[77] = stranger
    submap.bend(np.full(WINDOWS, 0.1))
    np.testing.assert_allclose(submap.tail[77].depth, stranger.depth * np.exp(0.1), rtol=1e-6)


def test_small_bends_come_together_before_voxels_move() -> None:
    submap, truth = built(np.ones(WINDOWS)), built(np.ones(WINDOWS))
    before = submap.cloud().points
    submap.bend(np.full(WINDOWS, 1e-4))
    np.testing.assert_array_equal(submap.cloud().points, before)
    for _ in range(30):
        submap.bend(np.full(WINDOWS, 1e-3))
    truth.bend(np.full(WINDOWS, 1e-4 + 30e-3))
    np.testing.assert_allclose(np.stack(submap.poses), np.stack(truth.poses), atol=1e-9)
    gap = np.linalg.norm(np.sort(submap.cloud().points, axis=0) - np.sort(truth.cloud().points, axis=0), axis=1)
    assert gap.max() < 0.5 * submap.voxels.config.voxel_size + 0.01
