"""Normals of depth images and exposure gains against what they were made of."""

import numpy as np
import pytest

from spatial_fm_ros.core.geometry.cameras import pinhole_rays, unproject
from spatial_fm_ros.core.geometry.normals import depth_normals
from spatial_fm_ros.core.mapping.exposure import MIN_POINTS, exposed, exposure_gains

K = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])


def plane_depth(normal: np.ndarray, distance: float) -> np.ndarray:
    """Depth [48, 64] of the plane n.x = -distance."""
    return (-distance / (pinhole_rays(K, 64, 48) @ normal)).astype(np.float32)


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.3, 0.2, -1), (0, -1, -0.4), (-0.8, 0, -1)])
def test_planes_have_their_normal(normal: tuple) -> None:
    n = np.array(normal) / np.linalg.norm(normal)
    depth = plane_depth(n, 2.0)
    depth[~(depth > 0)] = np.nan
    depth[depth > 20] = np.nan
    found = depth_normals(unproject(K, depth))
    known = np.linalg.norm(found, axis=-1) > 0
    assert known.sum() > 300
    np.testing.assert_allclose(found[known], np.broadcast_to(n, found[known].shape), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found[known], axis=-1), 1.0)


def test_steps_and_holes_have_none() -> None:
    depth = np.full((48, 64), 2.0, np.float32)
    depth[:, 32:] = 3.0
    depth[10, 10] = np.nan
    known = np.linalg.norm(depth_normals(unproject(K, depth)), axis=-1) > 0
    assert not known[:, 31:33].any() and not known[9:12, 10].any() and not known[0].any()
    assert known[20, 5:30].all()
    assert not depth_normals(unproject(K, np.full((2, 64), 2.0, np.float32))).any()


def test_gains_are_found_among_clipped_and_changed_points() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 255, (4000, 3))
    gains = np.array([0.8, 1.25, 1.0])
    colors = np.clip(np.rint(true / gains + rng.normal(0, 2, true.shape)), 0, 255).astype(np.uint8)
    known = true.astype(np.float32)
    known[:800] = rng.uniform(0, 255, (800, 3))  # the scene changed there
    known[3000:] = np.nan
    found = exposure_gains(colors, known)
    np.testing.assert_allclose(found, gains, rtol=0.02)
    assert np.abs(exposed(colors, found)[1000:2000].astype(float) - true[1000:2000]).mean() < 4.0


def test_too_few_common_points_change_nothing() -> None:
    colors = np.full((1000, 3), 100, np.uint8)
    known = np.full((1000, 3), np.nan, np.float32)
    known[: MIN_POINTS - 1] = 150
    np.testing.assert_array_equal(exposure_gains(colors, known), 1.0)
    known[:500] = 255  # clipped
    np.testing.assert_array_equal(exposure_gains(colors, known), 1.0)
