"""Worlds to pass through: a straight tunnel and a street of boxes."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.simulation.decor import car, facade, glass, poster
from spatial_fm_ros.simulation.lighting import Lamp, Lighting, Sun
from spatial_fm_ros.simulation.materials import Material, asphalt, brick, concrete, grass, metal, plaster, road, tiles
from spatial_fm_ros.simulation.mesh import Builder, Patch
from spatial_fm_ros.simulation.noise import RNG, rgb
from spatial_fm_ros.simulation.worlds_indoor import lamp_shade


def tunnel(rng: RNG, low_texture: bool) -> tuple[list[Patch], Lighting]:
    """A straight arched tunnel, 80 m along x, 5.2 m wide. Its shape hardly changes along the way, so
    that a LiDAR cannot see how far it went: the case where scale is unobservable from clouds."""
    b = Builder(110.0)
    radius, base, length = 2.6, 1.2, 10.0
    strength = 0.2 if low_texture else 1.3
    angle = np.linspace(0, np.pi, 21)
    arch = np.stack([-radius * np.cos(angle), base + radius * np.sin(angle)], 1)
    lamps = []
    for x in np.arange(-5.0, 75.0, length).tolist():
        ring = np.column_stack([np.full(len(arch), x), arch])
        color = rgb(rng, 0.15, 0.45, 0.65)
        b.add(np.stack([ring, ring + [length, 0, 0]], 1), concrete(color, strength, False))
        for y, left, right in ((radius, x, x + length), (-radius, x + length, x)):
            b.wall((left, y), (right, y), 0, base, concrete(color, strength, True))
        b.floor(x, -radius, x + length, radius, 0, asphalt)
        for y in (-1.2, 1.2) if rng.uniform() < 0.5 else (0.0,):
            at = x + float(rng.uniform(1, 9))
            height = base + np.sqrt(radius**2 - y**2)
            b.box((at, y), (1.0, 0.16, 0.05), lamp_shade, z0=height - 0.2, bottom=True, glow=1.4)
            lamps.append(Lamp((at, y, float(height) - 0.45), (4.6, 4.3, 3.5)))
    for side, z, r in ((1, 1.5, 0.09), (1, 1.8, 0.06), (-1, 1.2, 0.12)):
        y = side * (np.sqrt(max(radius**2 - max(z - base, 0) ** 2, 0)) - r)
        for x in np.arange(-5.0, 75.0, 20.0).tolist():
            b.pipe(np.array([x, y, z]), np.array([20.0, 0, 0]), r, metal(rgb(rng, 0.6, 0.3, 0.6)))
    for x, facing in ((-5.0, 1.0), (75.0, -1.0)):
        b.wall((x, -facing * radius), (x, facing * radius), 0, base + radius, brick(size=1.5), density=0.7)
    return b.patches, Lighting(tuple(lamps), ambient=(0.3, 0.3, 0.31), occlusion_m=1.5, cell_m=0.2)


def street(rng: RNG, low_texture: bool) -> tuple[list[Patch], Lighting]:
    """A street of 100 m along x between house fronts, with parked cars, trees, posts and a sky."""
    b = Builder(60.0)
    for x in np.arange(-10.0, 90.0, 25.0).tolist():
        b.floor(x, -4, x + 25, 4, 0, road, density=1.4)
        for low, high in ((4.0, 6.5), (-6.5, -4.0)):
            b.floor(x, low, x + 25, high, 0.12, tiles(rgb(rng, 0.1, 0.45, 0.6), 0.6), density=1.4)
        b.wall((x + 25, 4), (x, 4), 0, 0.12, concrete())
        b.wall((x, -4), (x + 25, -4), 0, 0.12, concrete())
    b.floor(-30, -40, 110, 40, -0.02, grass, density=0.25)
    front = plaster((0.8, 0.78, 0.74), 0.3) if low_texture else facade
    for side in (1, -1):
        x, deep = -10.0, 8.0
        while x < 90:
            wide, tall = float(rng.uniform(6, 13)), float(rng.uniform(6.5, 12))
            setback = float(rng.choice([0.0, 0.0, 0.6, 1.5]))
            _house(b, x, x + wide, side * (6.5 + setback), side * (6.5 + setback + deep), tall, front)
            x += wide + float(rng.choice([0.0, 0.0, 1.5, 3.0]))
    for x, left, right in ((-12.0, -15.0, 15.0), (92.0, 15.0, -15.0)):
        b.wall((x, left), (x, right), 0, 11, front)
    for side in (1, -1):
        x = -6.0 + 2 * side
        while x < 86:
            if rng.uniform() < 0.55:
                _parked_car(b, rng, x, side * 2.95)
            x += float(rng.uniform(5.5, 8.5))
        for x in (np.arange(-4.0, 88.0, 11.0) + 3 * side).tolist():
            at = (float(x + rng.uniform(-1, 1)), side * 4.8)
            kind = rng.uniform()
            if kind < 0.6:
                tall = float(rng.uniform(2.4, 3.4))
                b.cylinder(at, 0.14, 0.1, tall + 0.5, brick((0.35, 0.27, 0.2), (0.25, 0.2, 0.15), 0.5), 12, density=2.0)
                a, c, d = (float(r) for r in rng.uniform(1.1, 1.8, 3))
                b.boulder((*at, tall + 1.1), (a, c, d), grass, rng, 0.3, 24, density=0.8)
            elif kind < 0.8:
                b.cylinder(at, 0.07, 0.1, 4.6, metal((0.4, 0.43, 0.4)), 10, density=2.0)
            else:
                b.box(at, (1.3, 0.12, 1.9), poster, z0=0.4, yaw=float(rng.uniform(-0.3, 0.3)), density=2.0, bottom=True)
    sun = Sun((0.45, -0.5, 0.9), (1.15, 1.08, 0.95))
    return b.patches, Lighting((), sun, ambient=(0.42, 0.47, 0.56), occlusion_m=6.0, cell_m=0.4)


def _house(b: Builder, x0: float, x1: float, y_front: float, y_back: float, tall: float, front: Material) -> None:
    """A house whose front faces the street (y = 0); nobody sees its back and roof from there."""
    left, right = (x0, x1) if y_front > 0 else (x1, x0)
    b.wall((left, y_front), (right, y_front), 0, tall, front)
    b.wall((left, y_back), (left, y_front), 0, tall, front, density=0.7)
    b.wall((right, y_front), (right, y_back), 0, tall, front, density=0.7)
    b.wall((right, y_back), (left, y_back), 0, tall, concrete(), density=0.1)
    b.floor(x0, min(y_front, y_back), x1, max(y_front, y_back), tall, concrete(), density=0.1)


def _parked_car(b: Builder, rng: RNG, x: float, y: float) -> None:
    """Two boxes: body and cabin."""
    color = rgb(rng, 0.8, 0.2, 0.85)
    turn = float(rng.normal(0, 0.03))
    long, tall = float(rng.uniform(3.8, 4.6)), float(rng.uniform(0.62, 0.8))
    b.box((x, y), (long, 1.75, tall), car(color), top=metal(color), z0=0.22, yaw=turn, bottom=True, density=1.6)
    b.box((x - 0.15, y), (0.52 * long, 1.55, 0.55), glass, top=metal(color), z0=0.22 + tall, yaw=turn, density=1.6)
