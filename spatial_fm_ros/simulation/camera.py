"""The simulated camera: any calibration, exposure, shading, noise, smooth edges, motion blur."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.types import Array, Camera, Depth, Image
from spatial_fm_ros.simulation.trajectory import Trajectory
from spatial_fm_ros.simulation.world import Field, World

#: Offsets in pixels of the extra rays on edges (a rotated grid).
_SUBPIXELS = np.array([[0.125, 0.375], [0.375, -0.125], [-0.125, -0.375], [-0.375, 0.125]])


@dataclass(frozen=True)
class CameraModel:
    """How images come about beyond geometry. Noise is in grey levels at mid grey; `exposure_wobble`
    is the slow change of automatic exposure as a share; blur is off with one sub-frame."""

    noise: float = 1.6
    exposure: float = 1.0
    exposure_wobble: float = 0.06
    vignetting: float = 0.18
    antialias: bool = True
    exposure_time_s: float = 0.008
    subframes: int = 1


def pixel_rays(camera: Camera, pixels: Array) -> Array:
    """Rays float64 [N, 3] with z = 1 in camera axes through pixels [N, 2] (u, v), distortion undone."""
    points = np.ascontiguousarray(pixels, np.float64).reshape(-1, 1, 2)
    if camera.is_pinhole:
        K = camera.K
        y = (points[:, 0, 1] - K[1, 2]) / K[1, 1]
        x = (points[:, 0, 0] - K[0, 2] - K[0, 1] * y) / K[0, 0]
        return np.stack([x, y, np.ones_like(x)], 1)
    coefficients = np.array(camera.distortion, np.float64)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
    if camera.distortion_model == "equidistant":
        flat = cv2.fisheye.undistortPoints(points, camera.K, coefficients, criteria=stop)
    else:
        flat = cv2.undistortPointsIter(points, camera.K, coefficients, None, None, stop)
    return np.concatenate([flat[:, 0], np.ones((len(flat), 1))], 1)


class SimulatedCamera:
    """Renders `camera` in `world`. One object serves one thread; cheap to make again."""

    def __init__(self, world: World, camera: Camera, model: CameraModel | None = None, seed: int = 0) -> None:
        self.world, self.camera, self.model, self.seed = world, camera, model or CameraModel(), seed
        grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), 2).reshape(-1, 2)
        self._pixels = grid.astype(np.float64)
        self._rays = pixel_rays(camera, self._pixels).astype(np.float32)
        self._lengths: Field = np.linalg.norm(self._rays, axis=1)
        # A pixel's angle shrinks towards the border of a wide image; this is its mean.
        self._angle = float(1.0 / np.sqrt(camera.K[0, 0] * camera.K[1, 1]) / np.mean(self._lengths) ** 1.5)
        radius2 = ((self._pixels - camera.K[:2, 2]) ** 2).sum(1) / ((camera.width / 2) ** 2 + (camera.height / 2) ** 2)
        self._vignette = (
            (1.0 - self.model.vignetting * radius2).astype(np.float32).reshape(camera.height, camera.width, 1)
        )

    def depth(self, world_from_camera: Array) -> Depth:
        """Exact depth along z float32 [H, W] in metres of every pixel's centre; NaN where only sky is."""
        distance = self.world.cast(world_from_camera[:3, 3], _turn(self._rays, world_from_camera)).distance
        distance = np.where(np.isinf(distance), np.nan, distance).astype(np.float32)
        return distance.reshape(self.camera.height, self.camera.width)

    def render(self, world_from_camera: Array) -> Image:
        """Noise-free image uint8 [H, W, 3] at one pose."""
        hits = self.world.cast(world_from_camera[:3, 3], _turn(self._rays, world_from_camera))
        image = self.world.colors(hits, self._angle, self._lengths)
        shape = (self.camera.height, self.camera.width)
        if self.model.antialias:
            edge = np.flatnonzero(_edges(hits.patch.reshape(shape), hits.distance.reshape(shape)))
            image[edge] = self._supersample(edge, world_from_camera)
        return image.reshape(*shape, 3)

    def _supersample(self, edge: NDArray[np.int64], world_from_camera: Array) -> Image:
        """Mean colour of several rays inside each of the pixels `edge`."""
        right, down = self._steps
        center, right, down = self._rays[edge], right[edge], down[edge]
        rays = np.concatenate([center + np.float32(x) * right + np.float32(y) * down for x, y in _SUBPIXELS])
        hits = self.world.cast(world_from_camera[:3, 3], _turn(rays, world_from_camera))
        colors = self.world.colors(hits, self._angle, np.tile(self._lengths[edge], len(_SUBPIXELS)))
        mean: Field = colors.reshape(len(_SUBPIXELS), -1, 3).mean(0, dtype=np.float32)
        return (mean + 0.5).astype(np.uint8)

    @cached_property
    def _steps(self) -> tuple[Field, Field]:
        """How a ray changes over one pixel to the right and one down, float32 [N, 3]."""
        steps = []
        for offset in ((0.5, 0.0), (0.0, 0.5)):
            ahead = pixel_rays(self.camera, self._pixels + offset)
            behind = pixel_rays(self.camera, self._pixels - offset)
            steps.append((ahead - behind).astype(np.float32))
        return steps[0], steps[1]

    def prepare(self) -> None:
        """Makes what later calls share, so that several threads may then render at once."""
        _ = self._steps, self._pool, self.world.paint

    def image(self, trajectory: Trajectory, body_from_camera: Array, time_s: float, index: int) -> Image:
        """What the camera delivers at `time_s` (middle of the exposure) as its image number `index`."""
        model = self.model
        if model.subframes > 1:
            offsets = (np.arange(model.subframes) + 0.5) / model.subframes - 0.5
            poses = trajectory.world_from_body(time_s + offsets * model.exposure_time_s) @ body_from_camera
            light = np.mean([self.render(pose).astype(np.float32) for pose in poses], axis=0)
        else:
            light = self.render(trajectory.world_from_body(np.array([time_s]))[0] @ body_from_camera).astype(np.float32)
        wobble = np.sin(0.7 * time_s) * 0.6 + np.sin(0.23 * time_s + 1.0) * 0.4
        light *= self._vignette * np.float32(model.exposure * (1 + model.exposure_wobble * wobble))
        if model.noise > 0:
            # Shot and read noise: variance grows with the grey level.
            sigma = np.float32(model.noise) * np.sqrt(np.float32(0.4) + np.maximum(light, 0) * np.float32(0.6 / 128))
            light += sigma * self._noise(index, light.shape)
        image: Image = np.clip(light + 0.5, 0, 255).astype(np.uint8)
        return image

    def _noise(self, index: int, shape: tuple[int, ...]) -> Field:
        """Unit noise, cut from one pool at an offset of its own for every image."""
        rng = np.random.default_rng([self.seed, 5, index])
        size = int(np.prod(shape))
        start = int(rng.integers(0, len(self._pool) - size))
        return self._pool[start : start + size].reshape(shape)

    @cached_property
    def _pool(self) -> Field:
        size = 4 * 3 * self.camera.width * self.camera.height
        return np.random.default_rng([self.seed, 6]).standard_normal(size, dtype=np.float32)


def _turn(rays: Field, world_from_camera: Array) -> Field:
    """Rays [N, 3] turned to world axes. Column by column: BLAS wastes its threads on three columns."""
    rotation = world_from_camera[:3, :3].astype(np.float32)
    turned = np.empty_like(rays)
    for i in range(3):
        turned[:, i] = rays[:, 0] * rotation[i, 0] + rays[:, 1] * rotation[i, 1] + rays[:, 2] * rotation[i, 2]
    return turned


def _edges(patch: NDArray[np.int64], distance: Field) -> NDArray[np.bool_]:
    """Pixels beside a border between patches or a jump in depth."""
    with np.errstate(invalid="ignore"):
        across = (patch[:, 1:] != patch[:, :-1]) | (np.abs(distance[:, 1:] - distance[:, :-1]) > 0.1 * distance[:, 1:])
        along = (patch[1:] != patch[:-1]) | (np.abs(distance[1:] - distance[:-1]) > 0.1 * distance[1:])
    edge = np.zeros(patch.shape, bool)
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= along
    edge[:-1] |= along
    return edge
