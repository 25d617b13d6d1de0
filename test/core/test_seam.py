"""Seams against exact similarities: two views of one synthetic surface in different gauges."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.align.seam import OverlapView, align_window
from spatial_fm_ros.core.config import SeamConfig
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.types import Camera, PosedKeyframe

CAMERA = Camera(80, 60, np.array([[70.0, 0, 39.5], [0, 70.0, 29.5], [0, 0, 1]]))
CONFIG = SeamConfig()


def wavy_depth(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[0:60, 0:80]
    phase = rng.uniform(0, 6, 3)
    return (3 + np.sin(u / 9 + phase[0]) + np.cos(v / 7 + phase[1]) + 0.02 * u).astype(np.float32)


def keyframes(count: int = 3) -> list[PosedKeyframe]:
    poses = np.tile(np.eye(4), (count, 1, 1))
    for i in range(count):
        poses[i, :3, :3] = Rotation.from_euler("y", 4 * i, degrees=True).as_matrix()
        poses[i, :3, 3] = [0.3 * i, 0.05 * i, 0.1 * i]
    return [
        PosedKeyframe(
            i, i, "camera", poses[i], CAMERA, wavy_depth(i), np.ones((60, 80), np.float32),
            np.zeros((60, 80, 3), np.uint8), 0,
        )  # fmt: skip
        for i in range(count)
    ]


def seen_from(world_from_window: Sim3, world: list[PosedKeyframe]) -> list[OverlapView]:
    """The same keyframes in a window's gauge."""
    back = world_from_window.inverse()
    return [
        OverlapView(
            back.apply_pose(k.world_from_camera), CAMERA.K, k.depth / np.float32(world_from_window.scale), k.confidence
        )
        for k in world
    ]


def random_sim(seed: int) -> Sim3:
    rng = np.random.default_rng(seed)
    return Sim3(float(np.exp(rng.uniform(-2, 2))), Rotation.random(random_state=rng).as_matrix(), rng.normal(0, 8, 3))


def assert_close(found: Sim3, truth: Sim3, scale: float, degrees: float, units: float) -> None:
    assert abs(found.log_scale - truth.log_scale) < scale
    angle = np.degrees(np.linalg.norm(Rotation.from_matrix(found.R @ truth.R.T).as_rotvec()))
    assert angle < degrees
    assert np.linalg.norm(found.t - truth.t) < units


@pytest.mark.parametrize("seed", range(5))
def test_exact_gauge_is_recovered(seed: int) -> None:
    truth, world = random_sim(seed), keyframes()
    found, report = align_window(world, seen_from(truth, world), CONFIG)
    assert found is not None and report.accepted
    assert_close(found, truth, 1e-5, 1e-3, 1e-4 * max(1.0, np.linalg.norm(truth.t)))
    assert report.residual < 1e-5 and report.inlier_share == pytest.approx(1.0)
    assert report.scale == pytest.approx(truth.scale, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_outliers_barely_move_it(seed: int) -> None:
    truth, world = random_sim(seed), keyframes()
    rng = np.random.default_rng(seed)
    views = []
    for view in seen_from(truth, world):
        depth = view.depth * np.exp(rng.normal(0, 0.01, view.depth.shape))
        wrong = rng.random(depth.shape) < 0.25
        depth = np.where(wrong, depth * np.exp(rng.normal(0.5, 0.5, depth.shape)), depth).astype(np.float32)
        views.append(OverlapView(view.window_from_camera, view.K, depth, view.confidence))
    found, report = align_window(world, views, CONFIG)
    assert found is not None and report.accepted
    assert_close(found, truth, 0.01, 0.5, 0.03 * max(1.0, np.linalg.norm(truth.t)))
    assert 0.6 < report.inlier_share < 0.95


def test_unrelated_depth_is_refused() -> None:
    truth, world = random_sim(1), keyframes()
    rng = np.random.default_rng(0)
    views = [
        OverlapView(v.window_from_camera, v.K, rng.uniform(0.2, 9, v.depth.shape).astype(np.float32), v.confidence)
        for v in seen_from(truth, world)
    ]
    _, report = align_window(world, views, CONFIG)
    assert not report.accepted and "residual" in report.reason


def test_contradicting_orientations_are_refused() -> None:
    truth, world = random_sim(2), keyframes()
    views = seen_from(truth, world)
    bent = views[1].window_from_camera.copy()
    bent[:3, :3] = bent[:3, :3] @ Rotation.from_euler("x", 40, degrees=True).as_matrix()
    views[1] = OverlapView(bent, views[1].K, views[1].depth, views[1].confidence)
    _, report = align_window(world, views, CONFIG)
    assert not report.accepted


def test_without_depth_cameras_give_pose_but_no_scale() -> None:
    truth = Sim3(1.0, random_sim(3).R, np.array([1.0, 2.0, 3.0]))
    world = keyframes(1)
    blank = np.full_like(world[0].depth, np.nan)
    views = [OverlapView(v.window_from_camera, v.K, blank, v.confidence) for v in seen_from(truth, world)]
    found, report = align_window(world, views, CONFIG)
    assert found is not None and report.accepted
    assert np.isnan(report.scale)
    assert_close(found, truth, 1e-9, 1e-5, 1e-6)


def test_empty_overlap_is_refused_with_a_reason() -> None:
    found, report = align_window([], [], CONFIG)
    assert found is None and not report.accepted and report.reason


def test_another_depth_grid_is_refused_with_a_reason() -> None:
    world = keyframes()
    views = [
        OverlapView(v.window_from_camera, v.K, v.depth[::2, ::2], v.confidence[::2, ::2])
        for v in seen_from(Sim3.identity(), world)
    ]
    found, report = align_window(world, views, CONFIG)
    assert found is None and not report.accepted and "grid" in report.reason


def test_opposed_cameras_are_refused_not_averaged() -> None:
    """Half of the overlap turned by 180 degrees: there is no mean rotation."""
    world = keyframes(2)
    views = seen_from(Sim3.identity(), world)
    turned = views[1].window_from_camera.copy()
    turned[:3, :3] = turned[:3, :3] @ np.diag([-1.0, 1.0, -1.0])
    views[1] = OverlapView(turned, views[1].K, views[1].depth, views[1].confidence)
    _, report = align_window(world, views, CONFIG)
    assert not report.accepted and report.reason
