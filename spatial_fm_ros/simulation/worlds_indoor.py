"""Indoor worlds: a furnished room, a corridor loop, a hall with pillars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.simulation.decor import books, cabinet, carton, door, outlook, painting, poster
from spatial_fm_ros.simulation.lighting import Lamp, Lighting
from spatial_fm_ros.simulation.materials import (
    Material,
    brick,
    concrete,
    fabric,
    grass,
    metal,
    planks,
    plaster,
    rug,
    tiles,
)
from spatial_fm_ros.simulation.mesh import Builder, Patch
from spatial_fm_ros.simulation.noise import RNG, rgb, tint

Walls = list[tuple[tuple[float, float], tuple[float, float]]]


def lamp_shade(rng: RNG, h: int, w: int, tpm: float) -> np.ndarray:
    """A bright diffuser with a dark rim."""
    image = tint((0.95, 0.93, 0.88), np.zeros((h, w), np.float32), 0.0)
    rim = max(1, int(0.03 * tpm))
    image[:rim] = image[-rim:] = 0.3
    image[:, :rim] = image[:, -rim:] = 0.3
    return image


def _inner_walls(x0: float, y0: float, x1: float, y1: float) -> Walls:
    """The four walls of a rectangle as seen from inside: east, north, west, south."""
    return [((x1, y1), (x1, y0)), ((x0, y1), (x1, y1)), ((x0, y0), (x0, y1)), ((x1, y0), (x0, y0))]


def _ceiling_lamp(builder: Builder, lamps: list[Lamp], x: float, y: float, z: float, power: float) -> None:
    """A flat lamp under a ceiling at height z."""
    builder.box((x, y), (0.9, 0.25, 0.06), lamp_shade, z0=z - 0.08, bottom=True, glow=1.4, density=0.5)
    lamps.append(Lamp((x, y, z - 0.25), (power, 0.95 * power, 0.85 * power)))


@dataclass(frozen=True)
class _Hanging:
    """Something to hang on walls: height of its lower edge and its size, as ranges in metres."""

    material: Material
    low: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]


def _hang(
    builder: Builder,
    rng: RNG,
    wall: tuple[tuple[float, float], tuple[float, float]],
    things: list[_Hanging],
    gap: tuple[float, float],
) -> None:
    """Things along a wall (ends as seen), one beside the other with random gaps."""
    a, b = np.array(wall[0]), np.array(wall[1])
    length = float(np.linalg.norm(b - a))
    along = (b - a) / length
    at = rng.uniform(0.4, 0.4 + gap[1])
    while True:
        thing = things[int(rng.integers(0, len(things)))]
        wide, tall = rng.uniform(*thing.width), rng.uniform(*thing.height)
        if at + wide > length - 0.4:
            return
        low = rng.uniform(*thing.low)
        left, right = a + at * along, a + (at + wide) * along
        ends = (float(left[0]), float(left[1])), (float(right[0]), float(right[1]))
        builder.panel(*ends, low, low + tall, thing.material, 0.03, density=1.6)
        at += wide + rng.uniform(*gap)


def _pictures(low: tuple[float, float], size: tuple[float, float]) -> list[_Hanging]:
    return [_Hanging(material, low, size, size) for material in (poster, painting, poster)]


def room(rng: RNG, low_texture: bool) -> tuple[list[Patch], Lighting]:
    """A living room of 8 x 6 x 2.7 m with a table in the middle and free floor around it."""
    b = Builder(200.0)
    strength = 0.15 if low_texture else 1.6
    paints = [
        plaster((0.8, 0.72, 0.6), strength),
        plaster((0.62, 0.7, 0.7), strength),
        plaster((0.83, 0.8, 0.74), strength),
    ]
    walls = _inner_walls(0, 0, 8, 6)
    for wall, material in zip(walls, [paints[0], brick(size=0.9), paints[1], paints[2]], strict=True):
        b.wall(*wall, 0, 2.7, paints[2] if low_texture else material)
    b.floor(0, 0, 8, 6, 0, planks())
    b.floor(0, 0, 8, 6, 2.7, plaster((0.86, 0.85, 0.82), strength * 0.7), up=False, density=0.6)
    b.floor(2.7, 2.0, 5.3, 4.0, 0.012, rug)
    # Along the walls: shelves, cabinets, sofa, desk, door, window.
    b.box((7.8, 1.5), (0.36, 1.8, 2.0), planks((0.5, 0.36, 0.24)))
    b.panel((7.62, 2.35), (7.62, 0.65), 0.05, 1.95, books, 0.01, density=1.3)
    b.box((7.72, 4.6), (0.5, 1.5, 0.85), cabinet(), top=planks((0.66, 0.5, 0.34)))
    b.box((7.75, 4.3), (0.25, 0.3, 0.32), carton, z0=0.85, yaw=0.3)
    b.boulder((7.7, 5.0, 1.12), (0.22, 0.22, 0.3), grass, rng, 0.3)
    b.box((2.2, 5.68), (1.9, 0.6, 0.42), fabric((0.35, 0.42, 0.55)))
    b.box((2.2, 5.88), (1.9, 0.2, 0.85), fabric((0.33, 0.4, 0.53)))
    for x in (1.5, 2.2, 2.9):
        b.boulder((x, 5.66, 0.52), (0.26, 0.2, 0.14), fabric(rgb(rng, 0.8, 0.3, 0.8)), rng, 0.12)
    b.box((5.2, 5.7), (1.4, 0.5, 0.75), cabinet((0.5, 0.42, 0.38)))
    b.panel((4.7, 5.995), (5.8, 5.995), 1.0, 1.75, painting, 0.04, density=1.5)
    b.panel((1.2, 5.995), (1.9, 5.995), 1.2, 2.1, poster, 0.01, density=1.5)
    b.panel((2.3, 5.995), (3.4, 5.995), 1.25, 2.0, painting, 0.04, density=1.5)
    b.panel((6.6, 5.995), (7.3, 5.995), 0.9, 2.1, poster, 0.01, density=1.5)
    b.panel((0.005, 0.9), (0.005, 1.8), 0.0, 2.05, door(), 0.05)
    b.wall((0.004, 2.6), (0.004, 4.6), 0.9, 2.2, outlook, glow=1.25)
    b.box((0.12, 3.6), (0.24, 2.2, 0.08), planks((0.8, 0.78, 0.74)), z0=0.82, bottom=True)
    b.box((0.09, 3.6), (0.12, 1.6, 0.6), metal((0.82, 0.82, 0.8)), z0=0.12)
    b.box((0.35, 5.4), (0.5, 0.5, 0.5), carton, yaw=0.2)
    b.box((0.33, 5.42), (0.4, 0.36, 0.35), carton, z0=0.5, yaw=-0.15)
    b.table((2.3, 0.4), (1.5, 0.6, 0.74), planks((0.7, 0.55, 0.38)))
    b.box((2.0, 0.25), (0.5, 0.06, 0.34), poster, z0=0.78)
    b.box((2.7, 0.35), (0.24, 0.3, 0.16), books, z0=0.74, yaw=0.2, density=1.5)
    b.box((4.6, 0.3), (1.1, 0.45, 1.25), cabinet((0.45, 0.52, 0.5)), top=planks())
    b.box((4.4, 0.3), (0.3, 0.3, 0.25), carton, z0=1.25, yaw=0.5)
    b.box((6.5, 0.35), (0.7, 0.5, 0.55), carton, yaw=0.1)
    b.box((6.4, 0.34), (0.45, 0.4, 0.4), carton, z0=0.55, yaw=-0.25)
    for x0, x1, low, high in (
        (7.1, 6.3, 1.25, 2.2),
        (5.9, 5.3, 1.3, 2.15),
        (4.0, 3.2, 1.1, 1.9),
        (3.0, 2.3, 1.25, 2.1),
        (1.3, 0.5, 0.8, 1.9),
    ):
        b.panel((x0, 0.005), (x1, 0.005), low, high, poster if x0 > 3.5 else painting, 0.02, density=1.5)
    b.panel((7.995, 3.6), (7.995, 2.7), 1.0, 2.0, painting, 0.03, density=1.5)
    b.panel((7.995, 5.5), (7.995, 4.0), 1.5, 2.2, poster, 0.02, density=1.5)
    # The middle: a table with things on it, chairs around.
    b.table((4.0, 3.0), (1.6, 0.9, 0.74), planks((0.62, 0.42, 0.26)), 0.12)
    b.box((3.6, 3.1), (0.32, 0.24, 0.22), carton, z0=0.74, yaw=0.5)
    b.box((4.4, 2.9), (0.22, 0.3, 0.12), books, z0=0.74, yaw=1.1, density=1.5)
    b.cylinder((4.1, 3.15), 0.07, 0.74, 1.0, fabric((0.7, 0.3, 0.25)), 16)
    b.boulder((4.1, 3.15, 1.08), (0.16, 0.16, 0.14), grass, rng, 0.35)
    for x, y, yaw in ((3.5, 2.2, 0.1), (4.5, 3.75, 3.0), (5.15, 3.0, 1.5)):
        b.table((x, y), (0.42, 0.42, 0.45), planks((0.4, 0.3, 0.22)), yaw)
        back = np.array([x, y]) - 0.19 * np.array([-np.sin(yaw), np.cos(yaw)])
        b.box((back[0], back[1]), (0.42, 0.03, 0.5), fabric((0.5, 0.25, 0.2)), z0=0.45, yaw=yaw, bottom=True)
    lamps: list[Lamp] = []
    for x, y in ((2.4, 3.0), (5.6, 3.0)):
        _ceiling_lamp(b, lamps, x, y, 2.7, 1.9)
    lamps.append(Lamp((0.7, 3.6, 1.6), (0.9, 1.0, 1.15), 0.5))
    return b.patches, Lighting(tuple(lamps), ambient=(0.42, 0.42, 0.43), occlusion_m=0.8)


def corridor(rng: RNG, low_texture: bool) -> tuple[list[Patch], Lighting]:
    """A corridor of 2.4 m around a block of 11.2 x 7.2 m: a loop of about 46 m through four corners."""
    b = Builder(130.0)
    strength = 0.15 if low_texture else 1.8
    outer = _inner_walls(0, 0, 16, 12)
    inner = [(q, p) for p, q in _inner_walls(2.4, 2.4, 13.6, 9.6)]
    paints: list[Material] = [
        plaster((0.8, 0.77, 0.66), strength),
        brick((0.6, 0.35, 0.28)),
        plaster((0.6, 0.7, 0.72), strength),
        concrete((0.6, 0.6, 0.58), 1.0, True),
        plaster((0.78, 0.66, 0.58), strength),
        plaster((0.7, 0.74, 0.62), strength),
        brick((0.7, 0.66, 0.6), size=1.3),
        plaster((0.8, 0.78, 0.74), strength),
    ]
    for i, wall in enumerate(outer + inner):
        b.wall(*wall, 0, 2.6, paints[-1] if low_texture else paints[i])
        entrance = _Hanging(door(rgb(rng, 0.6, 0.25, 0.7)), (0.0, 0.0), (0.9, 1.0), (2.0, 2.1))
        things = [*_pictures((0.8, 1.3), (0.5, 1.0)), entrance]
        _hang(b, rng, wall, things, (2.5, 6.0) if low_texture else (0.5, 2.2))
    for x0, y0, x1, y1 in ((0, 0, 16, 2.4), (0, 9.6, 16, 12), (0, 2.4, 2.4, 9.6), (13.6, 2.4, 16, 9.6)):
        b.floor(x0, y0, x1, y1, 0, tiles(rgb(rng, 0.12, 0.5, 0.65), 0.5))
        b.floor(x0, y0, x1, y1, 2.6, plaster((0.85, 0.84, 0.82), 0.8), up=False, density=0.5)
    lamps: list[Lamp] = []
    for x, y in ((1.2, 1.2), (4.5, 1.2), (8.0, 1.2), (11.5, 1.2), (14.8, 1.2), (14.8, 4.5), (14.8, 7.8), (14.8, 10.8),
                 (11.5, 10.8), (8.0, 10.8), (4.5, 10.8), (1.2, 10.8), (1.2, 7.8), (1.2, 4.5)):  # fmt: skip
        _ceiling_lamp(b, lamps, x, y, 2.6, float(rng.uniform(0.8, 1.3)))
    for x, y, kind in ((3.4, 0.3, 0), (6.6, 2.15, 1), (9.9, 0.28, 2), (12.8, 2.1, 0), (15.7, 3.4, 1), (13.9, 6.0, 2),
                       (15.72, 8.8, 0), (12.4, 11.7, 1), (9.3, 9.9, 2), (6.0, 11.7, 0), (3.3, 9.9, 1), (0.3, 9.0, 2),
                       (2.1, 6.6, 0), (0.3, 3.6, 1)):  # fmt: skip
        turn = float(rng.uniform(-0.25, 0.25))
        if kind == 0:
            b.box((x, y), (0.5, 0.5, 0.5), carton, yaw=turn)
            b.box((x, y), (0.36, 0.36, 0.35), carton, z0=0.5, yaw=-turn)
        elif kind == 1:
            b.cylinder((x, y), 0.2, 0, 0.5, metal((0.5, 0.45, 0.4)), 16)
            b.boulder((x, y, 0.85), (0.3, 0.3, 0.42), grass, rng, 0.3)
        else:
            b.box((x, y), (0.5, 0.45, 1.1), metal(rgb(rng, 0.5, 0.3, 0.7)), top=planks())
            b.box((x, y), (0.3, 0.3, 0.3), carton, z0=1.1, yaw=turn)
    return b.patches, Lighting(tuple(lamps), ambient=(0.4, 0.4, 0.4), occlusion_m=0.8)


def hall(rng: RNG, low_texture: bool) -> tuple[list[Patch], Lighting]:
    """A factory hall of 24 x 16 x 5 m with eight pillars, shelves, crates and machines."""
    b = Builder(110.0)
    strength = 0.15 if low_texture else 1.0
    paints: list[Material] = [
        brick(size=1.3),
        concrete((0.62, 0.6, 0.56), strength, True),
        brick((0.66, 0.5, 0.4), size=1.2),
        concrete((0.55, 0.58, 0.58), strength, True),
    ]
    for wall, paint in zip(_inner_walls(0, 0, 24, 16), paints, strict=True):
        b.wall(*wall, 0, 5, plaster((0.75, 0.74, 0.7), strength) if low_texture else paint)
        _hang(b, rng, wall, _pictures((1.0, 1.5), (0.8, 1.5)), (0.6, 2.5))
        _hang(b, rng, wall, [_Hanging(outlook, (3.3, 3.3), (1.2, 1.8), (1.2, 1.3))], (2.0, 4.0))
    b.floor(0, 0, 24, 16, 0, concrete((0.5, 0.5, 0.49), 1.2))
    b.floor(0, 0, 24, 16, 5, concrete((0.6, 0.6, 0.6), 0.8), up=False, density=0.5)
    stones = [
        concrete((0.7, 0.68, 0.62), 1.0, True),
        brick(size=0.8),
        tiles((0.5, 0.55, 0.6), 0.25),
        plaster((0.75, 0.55, 0.4), 2.0),
    ]
    for i, (x, y) in enumerate((x, y) for x in (4.5, 9.5, 14.5, 19.5) for y in (5.2, 10.8)):
        if i % 2:
            b.cylinder((x, y), 0.35, 0, 5, stones[i % 4], density=1.5)
        else:
            b.box((x, y), (0.6, 0.6, 5), stones[i % 4], density=1.5)
        b.panel((x - 0.25, y - 0.36), (x + 0.25, y - 0.36), 1.2, 1.9, poster, 0.02, density=2.0)
    for x in (3.0, 8.0, 13.0, 18.0, 22.0):
        b.box(
            (x, 0.6),
            (2.4, 0.7, 2.2),
            [books, cabinet((0.5, 0.45, 0.4)), metal((0.3, 0.42, 0.5))][int(rng.integers(0, 3))],
        )
        b.box((x + 0.4, 15.4), (2.6, 0.8, 1.6), [metal((0.5, 0.4, 0.25)), books, cabinet()][int(rng.integers(0, 3))])
        b.box(
            (x + float(rng.uniform(-0.5, 0.5)), 0.6), (0.6, 0.5, 0.5), carton, z0=2.2, yaw=float(rng.uniform(-0.3, 0.3))
        )
    for x, y in (
        (6.8, 7.2),
        (7.7, 8.5),
        (12.0, 7.5),
        (12.8, 8.8),
        (17.0, 8.2),
        (16.4, 7.0),
        (11.6, 9.0),
        (0.7, 5.0),
        (0.7, 11.4),
        (22.9, 4.6),
        (22.8, 11.2),
    ):
        size = rng.uniform(0.6, 1.1, 3)
        turn = float(rng.uniform(-0.6, 0.6))
        front = [carton, planks((0.6, 0.48, 0.32), 0.12), metal(rgb(rng, 0.7, 0.3, 0.7))][int(rng.integers(0, 3))]
        b.box((x, y), (size[0], size[1], size[2]), front, yaw=turn, density=1.6)
        if rng.uniform() < 0.6:
            b.box((x, y), (0.5, 0.45, 0.4), carton, z0=float(size[2]), yaw=-turn, density=1.6)
    for x, y, r in ((9.6, 7.7, 0.3), (10.3, 8.3, 0.3), (14.9, 8.2, 0.35), (20.6, 8.0, 0.3), (3.2, 8.0, 0.3)):
        b.cylinder((x, y), r, 0, 0.9, metal(rgb(rng, 0.8, 0.35, 0.8)), density=1.6)
        b.floor(x - 0.2, y - 0.2, x + 0.2, y + 0.2, 0.88, metal())
    for y in (4.0, 12.0):
        b.pipe(np.array([0, y, 4.5]), np.array([24.0, 0, 0]), 0.14, metal((0.6, 0.35, 0.25)))
    lamps: list[Lamp] = []
    for x in (3.5, 9.0, 15.0, 20.5):
        for y in (3.5, 8.0, 12.5):
            _ceiling_lamp(b, lamps, x, y, 5.0, float(rng.uniform(2.4, 3.6)))
    return b.patches, Lighting(tuple(lamps), ambient=(0.36, 0.37, 0.39), occlusion_m=1.5, cell_m=0.18)
