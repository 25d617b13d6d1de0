"""Dense depth on little scenes with exact truth: what is seen must be right, what is not must be unknown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.config import GeometricConfig
from spatial_fm_ros.core.models.geometric.dense import estimate_depth as dense_depth
from spatial_fm_ros.core.types import Camera

HEIGHT, WIDTH = 120, 160
K = np.array([[130.0, 0.0, 79.5], [0.0, 130.0, 59.5], [0.0, 0.0, 1.0]])
CONFIG = GeometricConfig(dense_width=160)


@pytest.fixture(autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


def texture(seed: int, size: int = 512) -> np.ndarray:
    """Grey noise with a 1/f spectrum, as natural images have."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    frequency[0, 0] = 1.0
    values = np.fft.ifft2(np.fft.fft2(np.random.default_rng(seed).standard_normal((size, size))) / frequency).real
    return np.clip(128.0 + 40.0 * values / values.std(), 0.0, 255.0)


class Planes:
    """World planes n.X = c, each with a texture and, if wanted, only where |x| and |y| stay within a box."""

    def __init__(self, *planes: tuple[tuple[float, float, float], float, tuple[float, float, float, float] | None]):
        self.planes = planes
        self.textures = [texture(seed) for seed in range(len(planes))]

    def view(self, world_from_camera: np.ndarray, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 [H, W, 3] and exact depth [H, W]; four rays a pixel against aliasing."""
        depth = self._cast(world_from_camera, 0.0, 0.0)[1]
        shifts = [(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)]
        grey = np.mean([self._cast(world_from_camera, *shift)[0] for shift in shifts], axis=0)
        return np.repeat(np.clip(grey * gain, 0, 255).round().astype(np.uint8)[..., None], 3, -1), depth

    def _cast(self, world_from_camera: np.ndarray, du: float, dv: float) -> tuple[np.ndarray, np.ndarray]:
        v, u = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
        rays = np.stack([u + du, v + dv, np.ones_like(u)], -1) @ np.linalg.inv(K).T @ world_from_camera[:3, :3].T
        origin = world_from_camera[:3, 3]
        depth, grey = np.full((HEIGHT, WIDTH), np.inf), np.zeros((HEIGHT, WIDTH))
        for (normal, offset, box), image in zip(self.planes, self.textures, strict=True):
            t = (offset - origin @ np.array(normal)) / (rays @ np.array(normal))
            hit = origin + rays * t[..., None]
            ok = (t > 0) & (t < depth)
            if box is not None:
                x0, x1, y0, y1 = box
                ok &= (hit[..., 0] > x0) & (hit[..., 0] < x1) & (hit[..., 1] > y0) & (hit[..., 1] < y1)
            # bilinear look-up, 100 texels a metre, wrapped
            tu, tv = 100.0 * hit[..., 0] + 256.0, 100.0 * hit[..., 1] + 256.0
            tu, tv = np.nan_to_num(tu, posinf=0, neginf=0), np.nan_to_num(tv, posinf=0, neginf=0)
            iu, iv = np.floor(tu).astype(int), np.floor(tv).astype(int)
            fu, fv = tu - iu, tv - iv
            left, right, top, bottom = iu % 512, (iu + 1) % 512, iv % 512, (iv + 1) % 512
            value = (image[top, left] * (1 - fu) + image[top, right] * fu) * (1 - fv)
            value += (image[bottom, left] * (1 - fu) + image[bottom, right] * fu) * fv
            depth, grey = np.where(ok, t, depth), np.where(ok, value, grey)
        return grey, depth


def sideways(count: int = 4, step: float = 0.1, depth_axis: float = 0.0) -> np.ndarray:
    poses = np.repeat(np.eye(4)[None], count, 0)
    poses[:, 0, 3] = step * (np.arange(count) - (count - 1) / 2)
    poses[:, 1, 3] = 0.3 * step * np.cos(np.arange(count))
    poses[:, 2, 3] = depth_axis * np.arange(count)
    return poses


def observe(scene: Planes, poses: np.ndarray, gains: list[float] | None = None):
    """Arguments of estimate_depth, and the truth [N, H, W]: sparse points on a raster of every view."""
    gains = gains or [1.0] * len(poses)
    views = [scene.view(pose, gain) for pose, gain in zip(poses, gains, strict=True)]
    images, truth = np.stack([v[0] for v in views]), np.stack([v[1] for v in views])
    points = []
    for pose, depth in zip(poses, truth, strict=True):
        v, u = np.mgrid[6:HEIGHT:17, 6:WIDTH:17]
        rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K).T
        points.append((rays * depth[v, u][..., None]).reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3])
    points = np.concatenate(points)
    visibility = np.zeros((len(poses), len(points)), bool)
    for i, (pose, depth) in enumerate(zip(poses, truth, strict=True)):
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        pixel = np.rint((local / local[:, 2:]) @ K.T).astype(int)
        ok = (pixel[:, 0] >= 0) & (pixel[:, 0] < WIDTH) & (pixel[:, 1] >= 0) & (pixel[:, 1] < HEIGHT)
        u, v = pixel[ok, 0], pixel[ok, 1]
        visibility[i, ok] = np.abs(depth[v, u] / local[ok, 2] - 1.0) < 0.02
    return (images, np.repeat(K[None], len(poses), 0), poses, points, visibility), truth


def score(depth: np.ndarray, confidence: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(AbsRel of confident pixels, their share)."""
    sure = confidence >= 0.5
    return float(np.mean(np.abs(depth[sure] / truth[sure] - 1.0))), float(sure.mean())


def estimate_depth(*arguments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, confidence and K of the grid."""
    found = dense_depth(*arguments)
    return found.depth, found.confidence, found.K


def test_fronto_parallel_plane() -> None:
    arguments, truth = observe(Planes(((0, 0, 1), 2.0, None)), sideways())
    depth, confidence, K_grid = estimate_depth(*arguments, CONFIG)
    assert depth.dtype == confidence.dtype == np.float32 and depth.shape == truth.shape
    assert np.allclose(K_grid, K)
    error, share = score(depth, confidence, truth)
    assert error < 0.01 and share > 0.85


@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    tilt=st.floats(-0.6, 0.6),
    slope=st.floats(-0.4, 0.4),
    scale=st.sampled_from([0.01, 1.0, 300.0]),
    forward=st.floats(-0.05, 0.05),
)
def test_slanted_plane_in_any_gauge(tilt: float, slope: float, scale: float, forward: float) -> None:
    scene = Planes(((tilt, slope, 1.0), 2.0, None))
    (images, Ks, poses, points, visibility), truth = observe(scene, sideways(depth_axis=forward))
    poses = poses.copy()
    poses[:, :3, 3] *= scale
    depth, confidence, _ = estimate_depth(images, Ks, poses, points * scale, visibility, CONFIG)
    error, share = score(depth / scale, confidence, truth)
    assert error < 0.02 and share > 0.6


def test_occluding_plane_keeps_its_edge() -> None:
    scene = Planes(((0, 0, 1), 3.0, None), ((0, 0, 1), 1.5, (-0.25, 0.25, -0.3, 0.3)))
    arguments, truth = observe(scene, sideways())
    depth, confidence, _ = estimate_depth(*arguments, CONFIG)
    error, share = score(depth, confidence, truth)
    assert error < 0.03 and share > 0.7
    sure = confidence >= 0.5
    for surface in (1.5, 3.0):  # both are found, and nothing between them is believed
        assert np.mean(sure[np.abs(truth - surface) < 0.1]) > 0.6
    between = sure & (depth > 1.7) & (depth < 2.7)
    assert between.mean() < 0.01


def test_exposure_changes_do_not_matter() -> None:
    arguments, truth = observe(Planes(((0.2, 0, 1), 2.0, None)), sideways(), [1.0, 0.7, 1.2, 0.6])
    error, share = score(*estimate_depth(*arguments, CONFIG)[:2], truth)
    assert error < 0.015 and share > 0.75


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_or_saturated_images_have_no_confident_depth(level: int) -> None:
    (images, *rest), _ = observe(Planes(((0, 0, 1), 2.0, None)), sideways())
    depth, confidence, _ = estimate_depth(np.full_like(images, level), *rest, CONFIG)
    assert (confidence < 0.5).all()
    assert np.isnan(depth[confidence == 0.0]).all()


def test_noise_alone_has_no_confident_depth() -> None:
    (images, *rest), _ = observe(Planes(((0, 0, 1), 2.0, None)), sideways())
    noise = np.random.default_rng(0).normal(128, 2.0, images.shape).round().astype(np.uint8)
    _, confidence, _ = estimate_depth(noise, *rest, CONFIG)
    assert np.mean(confidence >= 0.5) < 0.01


def test_identical_poses_give_no_depth() -> None:
    (images, Ks, poses, points, visibility), _ = observe(Planes(((0, 0, 1), 2.0, None)), sideways(step=0.0))
    same = np.repeat(poses[:1], len(poses), 0)
    depth, confidence, _ = estimate_depth(images, Ks, same, points, visibility, CONFIG)
    assert np.isnan(depth).all() and (confidence == 0.0).all()


def test_wrong_poses_are_noticed() -> None:
    arguments, truth = observe(Planes(((0, 0, 1), 2.0, None)), sideways())
    images, Ks, poses, points, visibility = arguments
    rng = np.random.default_rng(1)
    wrong = poses.copy()
    wrong[:, :2, 3] += 0.05 * rng.standard_normal((len(poses), 2))
    depth, confidence, _ = estimate_depth(images, Ks, wrong, points, visibility, CONFIG)
    assert np.mean(confidence) < 0.5 * np.mean(estimate_depth(*arguments, CONFIG)[1])


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_points_or_views_give_unknown_depth(count: int) -> None:
    (images, Ks, poses, points, visibility), _ = observe(Planes(((0, 0, 1), 2.0, None)), sideways(count=2))
    depth, confidence, _ = estimate_depth(images, Ks, poses, points[:count], visibility[:, :count], CONFIG)
    assert np.isnan(depth).all() and not confidence.any()
    depth, confidence, _ = estimate_depth(images[:1], Ks[:1], poses[:1], points, visibility[:1], CONFIG)
    assert depth.shape == (1, HEIGHT, WIDTH) and np.isnan(depth).all()


def test_grid_keeps_the_pixel_centre_convention() -> None:
    arguments, truth = observe(Planes(((0.3, 0, 1), 2.0, None)), sideways())
    depth, confidence, K_grid = estimate_depth(*arguments, GeometricConfig(dense_width=80))
    assert depth.shape == (4, 60, 80)
    assert np.allclose(K_grid, Camera(WIDTH, HEIGHT, K).resized(80, 60).K)
    error, share = score(depth, confidence, truth.reshape(4, 60, 2, 80, 2).mean((2, 4)))
    assert error < 0.01 and share > 0.7


def test_results_repeat() -> None:
    arguments, _ = observe(Planes(((0, 0, 1), 2.0, None)), sideways(count=3))
    first, second = estimate_depth(*arguments, CONFIG), estimate_depth(*arguments, CONFIG)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b, equal_nan=True)


def test_views_swept_before_are_not_swept_again() -> None:
    arguments, _ = observe(Planes(((0.2, 0, 1), 2.0, None)), sideways())
    first = dense_depth(*arguments, CONFIG)
    again = dense_depth(*arguments, CONFIG, known=dict(enumerate(first.swept)))
    np.testing.assert_array_equal(again.depth, first.depth)
    np.testing.assert_array_equal(again.confidence, first.confidence)
    # In a gauge of another unit the same depth comes out in that unit.
    images, Ks, poses, points, visibility = arguments
    smaller = poses.copy()
    smaller[:, :3, 3] /= 4.0
    known = {i: swept.in_gauge(4.0) for i, swept in enumerate(first.swept)}
    other = dense_depth(images, Ks, smaller, points / 4.0, visibility, CONFIG, known=known)
    both = np.isfinite(other.depth) & np.isfinite(first.depth)
    assert both.mean() > 0.5
    np.testing.assert_allclose(4.0 * other.depth[both], first.depth[both], rtol=0.02)
