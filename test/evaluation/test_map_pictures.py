"""Pictures of clouds: the nearest point of a pixel is seen, as a plain twin says; views look where they should."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.types import PointCloud
from spatial_fm_ros.evaluation.render import BACKGROUND, View, look_at, map_views, render


def test_equals_the_plain_twin():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (800, 3)) + (0, 0, 3)
    colors = rng.integers(0, 255, (800, 3), dtype=np.uint8)
    width, height, size = 60, 40, 0.12
    picture = render(points, colors, View("x", np.eye(4)), width, height, size)
    expected = np.empty((height, width, 3), np.uint8)
    expected[:] = BACKGROUND
    depth = np.full((height, width), np.inf, np.float32)
    for (x, y, z), color in zip(points, colors):
        scale = height / z
        u, v = round(x * scale + (width - 1) / 2), round(y * scale + (height - 1) / 2)
        r = int(np.clip(np.ceil((size * scale - 1) / 2), 0, 8))
        for row in range(max(0, v - r), min(height, v + r + 1)):
            for column in range(max(0, u - r), min(width, u + r + 1)):
                if z < depth[row, column]:
                    depth[row, column], expected[row, column] = z, color
    assert (picture == expected).all()


def test_looking_at_something_puts_it_in_the_middle():
    pose = look_at(np.array([3.0, -2.0, 4.0]), np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3)) and np.linalg.det(pose[:3, :3]) > 0
    assert (np.linalg.inv(pose) @ (0, 0, 10, 1))[1] < (np.linalg.inv(pose) @ (0, 0, 0, 1))[1]  # up is up
    picture = render(np.array([[1.0, 1.0, 0.0]]), np.array([[255, 0, 0]], np.uint8), View("x", pose), 41, 31)
    assert picture[15, 20].tolist() == [255, 0, 0]


def test_a_map_is_seen_from_every_side():
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (3000, 3)).astype(np.float32) * (2, 2, 0.2)
    cloud = PointCloud(points, np.full((3000, 3), 60, np.uint8), np.ones(3000, np.float32))
    camera = look_at(np.array([-4.0, 0, 1.0]), np.zeros(3), np.array([0.0, 0, 1.0]))
    pictures = map_views(cloud, camera[None], 0.05)
    assert set(pictures) == {"top", "left", "back", "right", "camera"}
    for name, picture in pictures.items():
        assert (picture[..., 0] == 60).mean() > 0.05, name
    assert map_views(PointCloud.empty(), camera[None], 0.05) == {}
