"""What a world takes of a map file: under the rules of mapped voxels, and never mixed with another unit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spatial_fm_ros.core.config import MapConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.cloud_files import MapFile, SavedMap, read_map, write_map
from spatial_fm_ros.core.io.map_facts import MapFacts
from spatial_fm_ros.core.mapping.loaded_map import load
from spatial_fm_ros.core.types import PointCloud, ScaleState


def cloud_of(points):
    points = np.asarray(points, np.float32)
    return PointCloud(points, np.full(points.shape, 90, np.uint8), np.full(len(points), 0.5, np.float32))


SAYS_NOTHING = MapFacts()


def file_of(points, facts=SAYS_NOTHING):
    return MapFile(cloud_of(points), facts, Path("a.ply"))


def spread(n, extent=50.0):
    return np.random.default_rng(1).uniform(-extent, extent, (n, 3))


def test_a_map_of_the_same_voxels_stays_as_it_is_to_the_bit(tmp_path):
    """Voxels of several submaps lie on grids of their own: another grid would join some of them."""
    facts = MapFacts(ScaleState.METRIC, 0.01, "map", 0.03)
    saved = SavedMap(cloud_of(spread(5000, 1.0)), facts)
    for name in ("a.ply", "a.pcd"):
        write_map(tmp_path / name, saved)
        loaded = load(read_map(tmp_path / name), MapConfig(voxel_size=0.03))
        write_map(tmp_path / f"again_{name}", SavedMap(loaded.cloud, loaded.facts))
        assert (tmp_path / name).read_bytes() == (tmp_path / f"again_{name}").read_bytes() and not loaded.note


def test_more_points_than_a_map_holds_are_thinned_and_that_is_said():
    loaded = load(file_of(spread(40_000), MapFacts(voxel_size=0.03)), MapConfig(max_voxels=20_000))
    assert 15_000 < len(loaded.cloud) <= 20_000
    assert f"40000 points became {len(loaded.cloud)} voxels" in loaded.note and "max_voxels 20000" in loaded.note


def test_a_denser_cloud_becomes_voxels():
    loaded = load(file_of(spread(20_000, 1.0)), MapConfig(voxel_size=0.5))
    assert len(loaded.cloud) <= 5**3 and "20000 points became" in loaded.note and loaded.facts.voxel_size == 0.5


def test_points_that_no_voxel_holds_are_left_out_and_counted():
    points = np.vstack([spread(100), [[1e38, 0, 0], [0, -1e38, 0]]])
    for facts in (MapFacts(), MapFacts(voxel_size=0.03)):
        loaded = load(file_of(points, facts), MapConfig(voxel_size=0.03))
        assert np.abs(loaded.cloud.points).max() < 60 and "2 points farther out" in loaded.note
    # However few the others are, and whatever their middle is.
    kept = load(file_of([[1e38, 0, 0], [1, 2, 3], [1e38, 0, 0]]), MapConfig())
    np.testing.assert_allclose(kept.cloud.points, [[1, 2, 3]])
    for far in ([[3e38, 0, 0], [-3e38, 0, 0], [3e38, 0, 0], [-3e38, 0, 0]], [[1e38, 0, 0]], [[2e9, 2e9, 0]] * 3):
        with pytest.raises(InputError, match="all lie too far out"):
            load(file_of(far), MapConfig())


def test_a_map_far_from_the_origin_is_held_as_submaps_are():
    loaded = load(file_of(spread(100) + [500_000.0, 5_000_000.0, 0.0]), MapConfig(voxel_size=0.03))
    assert len(loaded.cloud) == 100 and "farther out" not in loaded.note


def test_the_unit_is_what_the_file_says_or_its_user():
    for facts, metres, state in (
        (MapFacts(ScaleState.METRIC, 0.01), False, ScaleState.METRIC),
        (MapFacts(ScaleState.RELATIVE), True, ScaleState.RELATIVE),  # the file knows better
        (MapFacts(), True, ScaleState.METRIC),
        (MapFacts(), False, None),
    ):
        loaded = load(file_of(spread(10), facts), MapConfig(), metres)
        assert loaded.facts.scale_state is state
        assert (loaded.scale.state is ScaleState.METRIC) == (state is ScaleState.METRIC)
        assert "a.ply" in loaded.scale.reason


def test_points_left_out_while_reading_are_said():
    assert "3 points that are not finite" in load(replace(file_of(spread(10)), left_out=3), MapConfig()).note
