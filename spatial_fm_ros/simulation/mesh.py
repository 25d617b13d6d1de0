"""Building worlds from textured patches: walls, floors, boxes, pillars, arches, boulders.

World axes: x, y level, z up, metres. A patch is a grid of vertices seen from outside: its columns
run to the viewer's right, its rows downwards, and its texture is laid over it in metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.simulation.materials import Material

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Patch:
    """grid float64 [rows + 1, columns + 1, 3]; texels_per_m before the world's detail factor;
    glow > 0: the texture shines by itself (a lamp, a view through a window)."""

    grid: Array
    material: Material
    texels_per_m: float
    glow: float = 0.0

    @property
    def size_m(self) -> tuple[float, float]:
        """Mean height and width over the surface."""
        down = np.linalg.norm(np.diff(self.grid, axis=0), axis=2).sum(0).mean()
        right = np.linalg.norm(np.diff(self.grid, axis=1), axis=2).sum(1).mean()
        return float(down), float(right)

    def triangles(self) -> tuple[Array, Array]:
        """Corners float64 [T, 3, 3] and texture coordinates (right, down in 0..1) float64 [T, 3, 2]."""
        rows, cols = self.grid.shape[0] - 1, self.grid.shape[1] - 1
        right, down = np.meshgrid(np.linspace(0, 1, cols + 1), np.linspace(0, 1, rows + 1))
        uv = np.stack([right, down], 2)

        def corners(values: Array) -> Array:
            a, b, c, d = values[:-1, :-1], values[:-1, 1:], values[1:, 1:], values[1:, :-1]
            pairs = np.stack([np.stack([a, c, b], 2), np.stack([a, d, c], 2)], 2)
            return pairs.reshape(-1, 3, values.shape[2])

        return corners(self.grid), corners(uv)


class Builder:
    """Collects the patches of a world; every method adds some."""

    def __init__(self, texels_per_m: float) -> None:
        self.texels_per_m = texels_per_m
        self.patches: list[Patch] = []

    def add(self, grid: Array, material: Material, density: float = 1.0, glow: float = 0.0) -> None:
        self.patches.append(Patch(np.asarray(grid, np.float64), material, self.texels_per_m * density, glow))

    def quad(self, top_left: Array, right: Array, down: Array, material: Material, **options: float) -> None:
        """A rectangle from its top-left corner and its two edges, as a viewer sees it."""
        corner, right, down = (np.asarray(v, np.float64) for v in (top_left, right, down))
        grid = np.stack([np.stack([corner, corner + right]), np.stack([corner + down, corner + right + down])])
        self.add(grid, material, **options)

    def wall(
        self,
        left: tuple[float, float],
        right: tuple[float, float],
        z0: float,
        z1: float,
        material: Material,
        **options: float,
    ) -> None:
        """A vertical rectangle; `left` and `right` are its ends (x, y) as a viewer sees it."""
        edge = (right[0] - left[0], right[1] - left[1], 0.0)
        self.quad(np.array([*left, z1]), np.array(edge), np.array([0, 0, z0 - z1]), material, **options)

    def floor(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        z: float,
        material: Material,
        up: bool = True,
        **options: float,
    ) -> None:
        """A level rectangle seen from above (`up`) or from below."""
        height = y1 - y0
        corner, down = ((x0, y1, z), (0, -height, 0)) if up else ((x0, y0, z), (0, height, 0))
        self.quad(np.array(corner), np.array([x1 - x0, 0, 0]), np.array(down), material, **options)

    def box(
        self,
        center: tuple[float, float],
        size: tuple[float, float, float],
        material: Material,
        top: Material | None = None,
        z0: float = 0.0,
        yaw: float = 0.0,
        bottom: bool = False,
        **options: float,
    ) -> None:
        """A box of `size` (along its x, y, z) standing at height z0, turned by `yaw` radians."""
        half = np.array(size[:2]) / 2
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ turn.T + np.array(center)
        z1 = z0 + size[2]
        for i in range(4):
            a, b = corners[i], corners[(i + 1) % 4]
            self.wall((a[0], a[1]), (b[0], b[1]), z0, z1, material, **options)
        left, right = np.append(corners[3], z1), np.append(corners[2], z1)
        self.quad(left, right - left, np.append(corners[0], z1) - left, top or material, **options)
        if bottom:
            left, right = np.append(corners[0], z0), np.append(corners[1], z0)
            self.quad(left, right - left, np.append(corners[3], z0) - left, top or material, **options)

    def panel(
        self,
        left: tuple[float, float],
        right: tuple[float, float],
        z0: float,
        z1: float,
        material: Material,
        thickness: float = 0.03,
        **options: float,
    ) -> None:
        """Something flat hung on a wall: `left` and `right` as a viewer sees it on the wall's surface."""
        a, b = np.array(left, float), np.array(right, float)
        along = b - a
        out = np.array([along[1], -along[0]]) / np.linalg.norm(along) * thickness
        yaw = float(np.arctan2(along[1], along[0]))
        middle = (a + b) / 2 + out / 2
        edge = float(np.linalg.norm(along))
        self.wall(tuple(a + out), tuple(b + out), z0, z1, material, **options)
        rim = Builder(self.texels_per_m)
        rim.box((middle[0], middle[1]), (edge, thickness, z1 - z0), material, z0=z0, yaw=yaw, bottom=True)
        # Of the box's sides the front is the panel itself and the back touches the wall.
        self.patches += [rim.patches[i] for i in (1, 3, 4, 5)]

    def table(
        self, center: tuple[float, float], size: tuple[float, float, float], material: Material, yaw: float = 0.0
    ) -> None:
        """A board on four legs."""
        self.box(center, (size[0], size[1], 0.04), material, z0=size[2] - 0.04, yaw=yaw, bottom=True)
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            at = turn @ np.array([sx * (size[0] / 2 - 0.05), sy * (size[1] / 2 - 0.05)]) + np.array(center)
            self.box((at[0], at[1]), (0.06, 0.06, size[2] - 0.04), material, yaw=yaw)

    def cylinder(
        self,
        center: tuple[float, float],
        radius: float,
        z0: float,
        z1: float,
        material: Material,
        sides: int = 24,
        **options: float,
    ) -> None:
        """An upright round pillar without ends."""
        angle = np.linspace(0, 2 * np.pi, sides + 1)
        ring = np.stack([center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle)], 1)
        rows = [np.column_stack([ring, np.full(sides + 1, z)]) for z in (z1, z0)]
        self.add(np.stack(rows), material, **options)

    def pipe(self, start: Array, along: Array, radius: float, material: Material, sides: int = 10) -> None:
        """A round pipe from `start` along a level vector."""
        start, along = np.asarray(start, float), np.asarray(along, float)
        side = np.cross(along / np.linalg.norm(along), [0, 0, 1.0])
        angle = np.linspace(0, 2 * np.pi, sides + 1)
        ring = start + radius * (np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.array([0, 0, 1.0]))
        # Rows run around the pipe, columns along it; long slivers would cost the ray caster precision.
        pieces = int(np.ceil(np.linalg.norm(along) / 2.0))
        share = np.linspace(0, 1, pieces + 1)[None, :, None]
        self.add((ring[:, None] + share * along)[::-1], material)

    def boulder(
        self,
        center: tuple[float, float, float],
        radii: tuple[float, float, float],
        material: Material,
        rng: np.random.Generator,
        rough: float = 0.15,
        sides: int = 18,
        **options: float,
    ) -> None:
        """A closed, bumpy ellipsoid: stones, bushes, tree crowns, cushions."""
        rows = max(4, sides // 2)
        around, polar = np.meshgrid(np.linspace(0, 2 * np.pi, sides + 1), np.linspace(0.02, np.pi - 0.02, rows + 1))
        bumps = np.zeros_like(around)
        for _ in range(10):
            k, m = int(rng.integers(1, 5)), int(rng.integers(1, 5))
            phase = rng.uniform(0, 2 * np.pi, 2)
            bumps += np.sin(k * around + phase[0]) * np.sin(m * polar + phase[1]) / (k + m)
        radius = 1 + rough * bumps * np.sin(polar)
        ball = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], 2)
        self.add(np.array(center) + ball * radius[..., None] * np.array(radii), material, **options)
