"""Light baked into textures once: lamps with soft shadows, sun, ambient light with occlusion.

Surfaces are Lambertian, so what a camera sees of a point does not depend on where it stands: stereo
and matching get honest images at no cost per frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from spatial_fm_ros.simulation.mesh import Array, Patch

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Lamp:
    """A small glowing ball: centre and radius in metres, RGB power (irradiance at 1 m)."""

    center: tuple[float, float, float]
    power: tuple[float, float, float] = (3.0, 2.8, 2.5)
    radius: float = 0.15


@dataclass(frozen=True)
class Sun:
    """Light from far away; `towards` points from the ground to it."""

    towards: tuple[float, float, float]
    power: tuple[float, float, float] = (1.6, 1.5, 1.3)
    radius: float = 0.02  # radians


@dataclass(frozen=True)
class Lighting:
    """All light of a world. `occlusion_m`: surfaces nearer than about this keep ambient light away."""

    lamps: tuple[Lamp, ...] = ()
    sun: Sun | None = None
    ambient: tuple[float, float, float] = (0.35, 0.36, 0.38)
    occlusion_m: float = 1.0
    cell_m: float = 0.12
    samples: int = 6
    ambient_samples: int = 16


def _surface(patch: Patch, rows: int, cols: int) -> tuple[Array, Array]:
    """Points and outward unit normals float64 [rows, cols, 3] at the centres of a grid of cells."""
    height, width = (n - 1 for n in patch.grid.shape[:2])
    down = (np.arange(rows) + 0.5) / rows * height
    right = (np.arange(cols) + 0.5) / cols * width
    i, j = np.meshgrid(down.astype(int), right.astype(int), indexing="ij")
    v, u = (down[:, None, None] - i[..., None]), (right[None, :, None] - j[..., None])
    grid = patch.grid
    above = grid[i, j] * (1 - u) + grid[i, j + 1] * u
    points = above * (1 - v) + (grid[i + 1, j] * (1 - u) + grid[i + 1, j + 1] * u) * v
    right_edge = patch.grid[i, j + 1] - patch.grid[i, j] + patch.grid[i + 1, j + 1] - patch.grid[i + 1, j]
    down_edge = patch.grid[i + 1, j] - patch.grid[i, j] + patch.grid[i + 1, j + 1] - patch.grid[i, j + 1]
    normal = np.cross(down_edge, right_edge)
    return points, normal / np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-12)


def _cast(scene: o3d.t.geometry.RaycastingScene, origins: Array, directions: Array) -> Field:
    rays = np.concatenate([origins, directions], 1).astype(np.float32)
    distances: Field = scene.cast_rays(o3d.core.Tensor.from_numpy(rays))["t_hit"].numpy()
    return distances


def bake(
    patches: list[Patch], scene: o3d.t.geometry.RaycastingScene, lighting: Lighting, rng: np.random.Generator
) -> list[Field]:
    """Linear RGB light float32 [rows, cols, 3] arriving at each patch, on grids of about `cell_m`."""
    shapes, points, normals = [], [], []
    for patch in patches:
        size = patch.size_m
        shape = tuple(int(np.clip(np.ceil(s / lighting.cell_m), 2, 400)) for s in size)
        p, n = _surface(patch, *shape)
        shapes.append(shape)
        points.append(p.reshape(-1, 3))
        normals.append(n.reshape(-1, 3))
    at, normal = np.concatenate(points), np.concatenate(normals)
    at = at + 2e-3 * normal
    total = np.zeros_like(at)
    hits = np.zeros(len(at))
    for _ in range(lighting.ambient_samples):
        # Cosine-weighted directions: the normal plus a random unit vector.
        ball = rng.standard_normal(at.shape)
        way = normal + ball / np.linalg.norm(ball, axis=1, keepdims=True)
        way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
        hits += 1 - np.exp(-_cast(scene, at, way).astype(np.float64) / lighting.occlusion_m)
    total += (hits / lighting.ambient_samples)[:, None] * np.array(lighting.ambient)
    for lamp in lighting.lamps:
        total += _lamp(scene, lamp, at, normal, lighting.samples, rng)
    if lighting.sun is not None:
        towards = np.array(lighting.sun.towards) / np.linalg.norm(lighting.sun.towards)
        cosine = np.maximum(normal @ towards, 0)
        lit = np.flatnonzero(cosine > 0)
        open_share = np.zeros(len(at))
        for _ in range(lighting.samples):
            way = towards + lighting.sun.radius * rng.standard_normal((len(lit), 3))
            open_share[lit] += np.isinf(_cast(scene, at[lit], way)) / lighting.samples
        total += (cosine * open_share)[:, None] * np.array(lighting.sun.power)
    parts = np.split(total.astype(np.float32), np.cumsum([h * w for h, w in shapes])[:-1])
    return [cv2.GaussianBlur(part.reshape(*s, 3), (3, 3), 0) for part, s in zip(parts, shapes, strict=True)]


def _lamp(
    scene: o3d.t.geometry.RaycastingScene, lamp: Lamp, at: Array, normal: Array, samples: int, rng: np.random.Generator
) -> Array:
    to_lamp = np.array(lamp.center) - at
    distance = np.linalg.norm(to_lamp, axis=1)
    cosine = np.einsum("ij,ij->i", to_lamp, normal) / np.maximum(distance, 1e-6)
    strength = np.maximum(cosine, 0) / (0.3 + distance**2)
    lit = np.flatnonzero(strength > 2e-3)
    seen = np.zeros(len(at))
    for _ in range(samples):
        way = to_lamp[lit] + lamp.radius * rng.standard_normal((len(lit), 3))
        seen[lit] += (_cast(scene, at[lit], way) > 0.97) / samples
    light: Array = (strength * seen)[:, None] * np.array(lamp.power)
    return light
