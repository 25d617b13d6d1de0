"""The voxel map against a plain dictionary, and its bounds."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.config import MapConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.mapping.voxel_index import AXIS_LIMIT, VoxelIndex, pack
from spatial_fm_ros.core.mapping.voxel_map import MAX_COUNT, MIN_WEIGHT, VoxelMap
from spatial_fm_ros.core.types import PointCloud, PointSource

ORIGIN = np.zeros(3)


class PlainMap:
    """The twin: a dictionary of voxels, one observation at a time within a batch."""

    def __init__(self, size):
        self.size, self.voxels = size, {}

    def insert(self, points, colors, confidence):
        batch = {}
        for p, c, w in zip(points, colors, confidence, strict=True):
            key = tuple(np.floor(p.astype(float) / self.size).astype(int))
            batch.setdefault(key, []).append((p.astype(float), c.astype(float), float(w)))
        new = 0
        for key, seen in batch.items():
            if key not in self.voxels:
                self.voxels[key] = [np.zeros(3), np.zeros(3), 0.0, 0.0]
                new += 1
            position, color, conf, count = self.voxels[key]
            total = count * max(conf, MIN_WEIGHT)
            weights = [max(w, MIN_WEIGHT) for _, _, w in seen]
            norm = total + sum(weights)
            self.voxels[key] = [
                (total * position + sum(w * p for w, (p, _, _) in zip(weights, seen, strict=True))) / norm,
                (total * color + sum(w * c for w, (_, c, _) in zip(weights, seen, strict=True))) / norm,
                (count * conf + sum(w for _, _, w in seen)) / (count + len(seen)),
                min(count + len(seen), MAX_COUNT),
            ]
        return new


def random_points(rng, n, spread=1.0):
    return (
        rng.uniform(-spread, spread, (n, 3)).astype(np.float32),
        rng.integers(0, 256, (n, 3), dtype=np.uint8),
        rng.uniform(0, 1, n).astype(np.float32),
    )


def cloud_of(points, colors, confidence, **more):
    return PointCloud(np.float32(points), np.uint8(colors), np.float32(confidence), **more)


def build(size=0.25, **changes):
    return VoxelMap(MapConfig(voxel_size=size, **changes))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(0, 400), st.sampled_from([0.05, 0.25, 2.0]))
def test_equals_the_dictionary(seed, batches, n, size):
    rng = np.random.default_rng(seed)
    fast, plain = build(size), PlainMap(size)
    for _ in range(batches):
        data = random_points(rng, n)
        assert fast.insert(PointCloud(*data), ORIGIN) == plain.insert(*data)
    assert len(fast) == len(plain.voxels)
    cloud, rows = fast.cloud(), {key: row for row, key in enumerate(fast._index.keys())}
    for voxel, (position, color, conf, _) in plain.voxels.items():
        row = rows[pack(np.array([voxel]))[0]]
        np.testing.assert_allclose(cloud.points[row], position, atol=2e-5)
        np.testing.assert_allclose(cloud.colors[row], color, atol=0.51)
        np.testing.assert_allclose(cloud.confidence[row], conf, atol=1e-5)


def test_mean_is_weighted_by_confidence_and_order_of_batches_does_not_matter():
    a, b = np.array([[0.1, 0.1, 0.1]]), np.array([[0.2, 0.1, 0.1]])
    red, blue = np.array([[200, 0, 0]], np.uint8), np.array([[0, 0, 200]], np.uint8)
    maps = [build(1.0), build(1.0)]
    for map_, order in zip(maps, ((0, 1), (1, 0)), strict=True):
        for i in order:
            map_.insert(cloud_of((a, b)[i], (red, blue)[i], [(0.75, 0.25)[i]]), ORIGIN)
    for map_ in maps:
        cloud = map_.cloud()
        np.testing.assert_allclose(cloud.points, [[0.125, 0.1, 0.1]], atol=1e-6)
        np.testing.assert_array_equal(cloud.colors, [[150, 0, 50]])
        np.testing.assert_allclose(cloud.confidence, [0.5])


def test_normals_are_averaged_and_of_unit_length():
    map_ = build(1.0)
    points, colors = np.full((2, 3), 0.5), np.zeros((2, 3), np.uint8)
    map_.insert(cloud_of(points, colors, [1.0, 1.0], normals=np.float32([[0.0, 0, 1], [1, 0, 0]])), ORIGIN)
    np.testing.assert_allclose(map_.cloud().normals, [[0.5**0.5, 0, 0.5**0.5]], atol=1e-6)
    map_.insert(cloud_of([[5.5, 0.5, 0.5]], colors[:1], [1.0]), ORIGIN)
    np.testing.assert_array_equal(map_.cloud().normals[1], 0.0)  # unknown stays unknown


def test_lidar_wins_in_whatever_order_it_comes():
    images = cloud_of([[0.9, 0.5, 0.5]] * 5, [[200, 0, 0]] * 5, [1.0] * 5)
    lidar = cloud_of([[0.1, 0.5, 0.5]], [[0, 0, 100]], [0.9], source=np.full(1, PointSource.LIDAR, np.uint8))
    for order in ([images, lidar], [lidar, images], [PointCloud.joined([images, lidar])]):
        map_ = build(1.0)
        for cloud in order:
            map_.insert(cloud, ORIGIN)
        seen = map_.cloud()
        np.testing.assert_allclose(seen.points, [[0.1, 0.5, 0.5]], atol=1e-6)
        np.testing.assert_array_equal(seen.colors, [[0, 0, 100]])
        np.testing.assert_allclose(seen.confidence, [0.9])
        assert seen.source.tolist() == [PointSource.LIDAR]


def test_colours_are_found_again():
    rng = np.random.default_rng(0)
    map_ = build(0.05)
    map_.insert(PointCloud(*random_points(rng, 3000)), ORIGIN)
    cloud = map_.cloud()
    np.testing.assert_allclose(map_.colors_at(cloud.points), cloud.colors, atol=0.51)
    assert np.isnan(map_.colors_at(cloud.points[:50] + np.float32(50.0))).all()
    assert len(map_) == len(cloud)


def test_bending_moves_voxels_with_their_anchor():
    map_ = build(0.1)
    for anchor, x in enumerate((0.05, 1.05, 2.05)):
        map_.insert(cloud_of([[x, 0.0, 0.0]], [[anchor, 0, 0]], [1.0]), ORIGIN, anchor)
    map_.bend([1.0, 2.0, 1.0], [[0, 0, 0], [0, 0, 0], [0, 5.0, 0]])
    seen = map_.cloud()
    order = np.argsort(seen.colors[:, 0])
    np.testing.assert_allclose(seen.points[order], [[0.05, 0, 0], [2.1, 0, 0], [2.05, 5.0, 0]], atol=1e-6)


def test_old_observations_fade():
    map_ = build(1.0)
    for value in [0.2] * 1000 + [0.8] * 200:
        map_.insert(cloud_of([[value, 0.5, 0.5]], [[0, 0, 0]], [1.0]), ORIGIN)
    assert map_.cloud().points[0, 0] > 0.75


def test_unusable_points_are_counted_and_left_out():
    map_ = build(0.1)
    points = np.array([[0, 0, 0], [np.nan, 0, 0], [0, np.inf, 0], [1e12, 0, 0], [1, 1, 1]])
    assert map_.insert(cloud_of(points, np.zeros((5, 3), np.uint8), [1, 1, 1, 1, np.nan]), ORIGIN) == 1
    assert map_.refused == 4 and np.isfinite(map_.cloud().points).all()
    assert map_.insert(cloud_of(np.full((2, 3), np.nan), np.zeros((2, 3), np.uint8), [1, 1]), ORIGIN) == 0
    assert map_.insert(PointCloud.empty(), ORIGIN) == 0
    with pytest.raises(InputError, match=r"\[N, 3\]"):
        map_.insert(cloud_of(np.zeros((2, 3)), np.zeros((3, 3), np.uint8), np.zeros(2)), ORIGIN)


@pytest.mark.parametrize("factor", [0.1, 0.97, 1.0, 1.5, 20.0])
def test_rescale(factor):
    rng = np.random.default_rng(0)
    map_ = build(0.05)
    map_.insert(PointCloud(*random_points(rng, 5000)), ORIGIN)
    before = map_.cloud()
    mass = before.confidence.sum()
    map_.rescale(factor)
    after = map_.cloud()
    twin = {tuple(k) for k in np.floor((before.points * np.float32(factor)).astype(float) / 0.05).astype(int)}
    assert len(after) == len(twin)
    if factor >= 1.0 and len(after) == len(before):
        np.testing.assert_allclose(np.sort(after.points[:, 0]), np.sort(before.points[:, 0] * factor), rtol=1e-5)
        np.testing.assert_allclose(after.confidence.sum(), mass, rtol=1e-4)
    # The map goes on as if it had been built in the new scale.
    assert map_.insert(after, ORIGIN) <= 0.01 * len(after)


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan, np.inf])
def test_rescale_refuses_nonsense(factor):
    with pytest.raises(InputError):
        build().rescale(factor)


def test_forget():
    rng = np.random.default_rng(0)
    map_ = build(0.05, forget_distance=0.5)
    map_.insert(PointCloud(*random_points(rng, 5000)), ORIGIN)
    before = map_.cloud()
    near = np.linalg.norm(before.points - [0.5, 0, 0], axis=1) <= 0.5
    assert map_.forget([0.5, 0, 0]) == (~near).sum() == map_.forgotten
    np.testing.assert_array_equal(map_.cloud().points, before.points[near])
    # What was kept is found again: the same points open no new voxels.
    assert map_.insert(map_.cloud(), ORIGIN) <= 5
    assert build(forget_distance=0.0).forget([9, 9, 9]) == 0


def test_a_full_map_drops_the_least_certain_and_farthest():
    rng = np.random.default_rng(0)
    map_ = build(0.02, max_voxels=2000)
    points, colors, _ = random_points(rng, 1500)
    map_.insert(cloud_of(points, colors, np.full(1500, 0.9)), ORIGIN)
    sure = map_.cloud().points
    far, colors, _ = random_points(rng, 3000)
    map_.insert(cloud_of(far + np.float32(20), colors, np.full(3000, 0.3)), ORIGIN)
    assert len(map_) == 1800 and map_.evicted > 0
    kept = map_.cloud().points
    assert {tuple(p) for p in sure} <= {tuple(p) for p in kept}
    for _ in range(20):
        map_.insert(PointCloud(*random_points(rng, 1000, 5.0)), ORIGIN)
        assert len(map_) <= 2000


def test_clear():
    map_ = build()
    map_.insert(PointCloud(*random_points(np.random.default_rng(0), 100)), ORIGIN)
    map_.clear()
    assert len(map_) == 0 and len(map_.cloud()) == 0
    assert map_.insert(cloud_of([[0, 0, 0]], [[1, 2, 3]], [0.5]), ORIGIN) == 1


def test_snapshots_while_inserting():
    map_, bad = build(0.02, max_voxels=3000), []
    done = threading.Event()

    def read():
        while not done.is_set():
            cloud = map_.cloud()
            if not len(cloud.points) == len(cloud.colors) == len(cloud.confidence) or (cloud.points < 0).any():
                bad.append(cloud)

    thread = threading.Thread(target=read)
    thread.start()
    rng = np.random.default_rng(0)
    for _ in range(50):
        points, colors, conf = random_points(rng, 500)
        map_.insert(cloud_of(np.abs(points), colors, conf), ORIGIN)
    done.set()
    thread.join()
    assert not bad


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 2**62), unique=True, max_size=50), max_size=20))
def test_index_numbers_keys_like_a_dictionary(batches):
    index, twin = VoxelIndex(), {}
    for batch in batches:
        keys = np.array(batch, np.int64)
        want = [twin.setdefault(k, len(twin)) for k in batch]
        np.testing.assert_array_equal(index.rows(keys), want)
    assert len(index) == len(twin)
    np.testing.assert_array_equal(index.keys(), list(twin))


def test_index_grows_over_many_neighbouring_keys():
    index = VoxelIndex()
    cells = np.stack(np.meshgrid(*[np.arange(-25, 25)] * 3), -1).reshape(-1, 3)
    keys = pack(cells)
    assert len(np.unique(keys)) == len(keys) and keys.min() >= 0
    for part in np.array_split(keys, 7):
        index.rows(part)
    np.testing.assert_array_equal(index.rows(keys), np.arange(len(keys)))
    index.rebuild(keys[::2])
    np.testing.assert_array_equal(index.rows(keys[::2]), np.arange(len(keys[::2])))
    corners = pack(np.array([[-AXIS_LIMIT] * 3, [AXIS_LIMIT - 1] * 3]))
    assert corners[0] == 0 and corners[1] == 2**63 - 1
