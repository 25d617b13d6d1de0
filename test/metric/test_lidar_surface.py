"""LiDAR and image depth joined on a scene whose surfaces are known."""

import numpy as np
import pytest

from spatial_fm_ros.core.geometry.cameras import unproject
from spatial_fm_ros.core.mapping.lidar_surface import joined_surface
from spatial_fm_ros.core.types import Camera, PointSource, PosedKeyframe

CAMERA = Camera(160, 120, np.array([[120.0, 0, 79.5], [0, 120.0, 59.5], [0, 0, 1]]))


def scene() -> np.ndarray:
    """A wall at 4 m with a box in front of it at 2 m."""
    depth = np.full((120, 160), 4.0, np.float32)
    depth[40:80, 60:100] = 2.0
    return depth


def keyframe(depth: np.ndarray) -> PosedKeyframe:
    pose = np.eye(4)
    pose[:3, 3] = (5.0, -1.0, 2.0)
    image = np.zeros((120, 160, 3), np.uint8)
    image[..., 0] = np.arange(160)
    image[..., 1] = np.arange(120)[:, None]
    return PosedKeyframe(0, 0, "camera", pose, CAMERA, depth, np.full_like(depth, 0.9), image, 0)


def beams(every: int = 6) -> np.ndarray:
    """LiDAR points on the true surface, one in `every` rows and columns."""
    return unproject(CAMERA.K, scene())[3::every, 3::every].reshape(-1, 3)


def test_a_bias_of_the_images_is_taken_out() -> None:
    rng = np.random.default_rng(0)
    noisy = (scene() * 1.08 * np.exp(rng.normal(0, 0.02, scene().shape))).astype(np.float32)
    joined, cloud = joined_surface(keyframe(noisy), beams())
    error = np.log(joined.depth / scene())
    assert abs(np.median(error)) < 0.01 < abs(np.median(np.log(noisy / scene())))
    assert (np.abs(error) < 0.05).mean() > 0.93
    assert (cloud.source == PointSource.LIDAR).all()


def test_points_have_the_colour_of_their_pixel_and_a_normal() -> None:
    _, cloud = joined_surface(keyframe(scene()), beams())
    assert len(cloud) > 0.9 * len(beams())
    in_camera = cloud.points - [5.0, -1.0, 2.0]
    pixel = np.rint(120.0 * in_camera[:, :2] / in_camera[:, 2:] + [79.5, 59.5])
    np.testing.assert_array_equal(cloud.colors[:, :2], pixel)
    known = np.abs(cloud.normals).sum(axis=1) > 0
    assert known.mean() > 0.8
    np.testing.assert_allclose(cloud.normals[known], np.broadcast_to([0, 0, -1.0], (known.sum(), 3)), atol=1e-5)


def test_what_the_image_shows_in_front_hides_the_points_behind() -> None:
    """The LiDAR, mounted elsewhere, sees the wall behind the box."""
    behind = unproject(CAMERA.K, np.full((120, 160), 4.0))[45:75:3, 65:95:3].reshape(-1, 3)
    _, cloud = joined_surface(keyframe(scene()), behind)
    assert len(cloud) == 0
    _, cloud = joined_surface(keyframe(scene()), np.concatenate([behind, beams(3)]))
    in_camera = cloud.points - [5.0, -1.0, 2.0]
    inside = (np.abs(in_camera[:, 0] / in_camera[:, 2]) < 0.1) & (np.abs(in_camera[:, 1] / in_camera[:, 2]) < 0.1)
    assert inside.any() and (in_camera[inside, 2] < 2.1).all()


def test_depth_far_from_beams_and_other_surfaces_are_left_alone() -> None:
    left = beams()[beams()[:, 0] < -1.5]
    joined, _ = joined_surface(keyframe((scene() * 1.1).astype(np.float32)), left)
    np.testing.assert_allclose(joined.depth[:, 120:], 1.1 * scene()[:, 120:], rtol=1e-3)
    wrong = beams() * 2.0  # a LiDAR on another surface altogether
    joined, _ = joined_surface(keyframe(scene()), wrong)
    np.testing.assert_array_equal(joined.depth, scene())


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.full((50, 3), np.nan), np.array([[0.0, 0, -3]] * 9)])
def test_nothing_usable_changes_nothing(points: np.ndarray) -> None:
    joined, cloud = joined_surface(keyframe(scene()), points)
    np.testing.assert_array_equal(joined.depth, scene())
    assert len(cloud) == 0
