"""Rooms, halls and laden tables."""

from __future__ import annotations

import torch
from torch import Tensor

from spatial_fm_ros.training.worlds.layout import Bodies, Layout, flat_ground, xyz
from spatial_fm_ros.training.worlds.random import Draw


def indoor(draw: Draw, batch: int, kind: Tensor) -> Layout:
    """A furnished room, a hall or corridor with pillars, or a room around a laden table, by `kind`."""
    b = Bodies(draw, batch)
    hall, table = (kind == 1)[:, None], (kind == 2)[:, None]
    length = torch.where(hall, draw.log_uniform(4, 16, batch, 1), draw.log_uniform(1.4, 4.5, batch, 1))
    width = torch.where(hall, draw.log_uniform(0.8, 7, batch, 1), draw.log_uniform(1.3, 3.5, batch, 1))
    top = torch.where(hall, draw.uniform(2.3, 6, batch, 1), draw.uniform(2.2, 3.4, batch, 1))
    room = xyz(length, width, top / 2)
    b.put(b.slots("room", 0, 1), xyz(0 * length, 0 * width, top / 2), room, torch.ones_like(hall))

    furniture = b.slots("box", 0, 10)
    half = xyz(
        draw.uniform(0.2, 1.0, batch, 10), draw.uniform(0.12, 0.4, batch, 10), draw.log_uniform(0.15, 1.1, batch, 10)
    )
    long_wall, side = draw.chance(0.5, batch, 10), draw.sign(batch, 10)
    along = draw.uniform(-1, 1, batch, 10)
    x = torch.where(long_wall, along * (length - half[..., 0]), side * (length - half[..., 1] - 0.02))
    y = torch.where(long_wall, side * (width - half[..., 1] - 0.02), along * (width - half[..., 0]))
    yaw = torch.where(long_wall, 0.0, torch.pi / 2) + 0.03 * draw.normal(batch, 10)
    free = draw.chance(0.25, batch, 10)
    x = torch.where(free, draw.uniform(-0.9, 0.9, batch, 10) * length, x)
    y = torch.where(free, draw.uniform(-0.9, 0.9, batch, 10) * width, y)
    yaw = torch.where(free, draw.uniform(0, torch.pi, batch, 10), yaw)
    some = draw.chance(draw.uniform(0.2, 1.0, batch, 1), batch, 10)
    b.put(furniture, xyz(x, y, half[..., 2]), half, some, yaw)

    panels = b.slots("box", 10, 8)
    half = xyz(
        draw.uniform(0.15, 0.8, batch, 8), draw.uniform(0.008, 0.05, batch, 8), draw.uniform(0.12, 0.7, batch, 8)
    )
    long_wall, side, along = draw.chance(0.5, batch, 8), draw.sign(batch, 8), draw.uniform(-0.95, 0.95, batch, 8)
    x = torch.where(long_wall, along * length, side * (length - half[..., 1]))
    y = torch.where(long_wall, side * (width - half[..., 1]), along * width)
    z = draw.uniform(0.8, 1.9, batch, 8)
    b.put(panels, xyz(x, y, z), half, draw.chance(0.8, batch, 8), torch.where(long_wall, 0.0, torch.pi / 2))

    boards = b.slots("box", 18, 3)
    height = draw.uniform(0.35, 0.95, batch, 3)
    half = xyz(draw.uniform(0.35, 1.0, batch, 3), draw.uniform(0.3, 0.6, batch, 3), draw.uniform(0.01, 0.04, batch, 3))
    place = draw.uniform(-0.6, 0.6, batch, 3, 2) * torch.stack([length, width], dim=-1)
    place[:, 0] = torch.where(table, 0.0, place[:, 0])
    present = draw.chance(0.6, batch, 3) | (table & (torch.arange(3, device=draw.device) == 0))
    turn = draw.uniform(0, torch.pi, batch, 3)
    b.put(boards, torch.cat([place, height[..., None]], -1), half, present, turn)

    # Legs of the first two boards; pillars in two rows where it is a hall.
    legs = b.slots("cylinder", 0, 8)
    corner = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]], device=draw.device).repeat(2, 1)
    own = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1], device=draw.device)
    inset = corner * (half[:, own, :2] - 0.05)
    c, s = turn[:, own].cos(), turn[:, own].sin()
    x = place[:, own, 0] + c * inset[..., 0] - s * inset[..., 1]
    y = place[:, own, 1] + s * inset[..., 0] + c * inset[..., 1]
    thick = draw.uniform(0.012, 0.05, batch, 1)
    spread = torch.linspace(-0.85, 0.85, 4, device=draw.device).repeat(2)
    x = torch.where(hall, spread * length, x)
    y = torch.where(hall, corner[:, 1].sign() * 0.55 * width * torch.ones_like(x), y)
    thick = torch.where(hall, draw.uniform(0.08, 0.4, batch, 1), thick)
    rise = torch.where(hall, top / 2, height[:, own] / 2)
    b.put(
        legs, xyz(x, y, rise), xyz(thick, thick, rise), torch.where(hall, draw.chance(0.7, batch, 1), present[:, own])
    )

    # Pipes and lamps: thin, level under the ceiling or upright.
    pipes = b.slots("cylinder", 8, 2)
    thin = draw.uniform(0.01, 0.06, batch, 2)
    level = draw.chance(0.5, batch, 2)
    upright = draw.uniform(0.4, 0.9, batch, 2)
    x, y = draw.uniform(-0.9, 0.9, batch, 2) * length, draw.uniform(-0.9, 0.9, batch, 2) * width
    z = torch.where(level, top - 0.2, upright)
    b.put(
        pipes, xyz(x * ~level, y, z), xyz(thin, thin, torch.where(level, length, upright)), draw.chance(0.5, batch, 2)
    )
    b.tilt[:, pipes] = torch.where(level, torch.pi / 2, 0.0)

    _clutter(draw, b, batch, table)
    ones = torch.ones_like(length)[:, 0]
    margin = 0.25
    low = torch.stack([-length[:, 0] + margin, -width[:, 0] + margin, 0.3 * ones], -1)
    high = torch.stack([length[:, 0] - margin, width[:, 0] - margin, (top[:, 0] - 0.3).clamp(max=2.2)], -1)
    target = torch.cat([place[:, 0] * table, draw.uniform(0.5, 1.2, batch, 1)], -1)
    reach = torch.minimum(length, width)[:, 0] - margin
    return Layout(
        **b.fields(),
        **flat_ground(draw, batch, False),
        low=low,
        high=high,
        target=target,
        step=torch.where(hall[:, 0], 2.0, 0.8) * ones,
        orbit=draw.uniform(0.5, 1.0, batch) * reach,
        road=hall[:, 0] & draw.chance(0.7, batch),
    )


def _clutter(draw: Draw, b: Bodies, batch: int, table: Tensor) -> None:
    """Small things on furniture and tables; in half of the scenes all of a kind have one size, as instances do."""
    for kind, start, count in (("box", 21, 11), ("cylinder", 10, 2), ("ball", 0, 8)):
        where = b.slots(kind, start, count)
        parent = torch.where(table & draw.chance(0.85, batch, count), 18, draw.index(10, batch, count))
        parent = torch.where(draw.chance(0.2, batch, count) & ~table, 18 + draw.index(3, batch, count), parent)
        index = parent[..., None].expand(-1, -1, 3)
        below, size = b.center.gather(1, index), b.half.gather(1, index)
        half = draw.log_uniform(0.02, 0.22, batch, count, 3)
        half = torch.where(draw.chance(0.5, batch, 1, 1), half[:, :1], half)
        if kind != "box":
            half[..., 1] = half[..., 0]
        place = draw.uniform(-0.8, 0.8, batch, count, 2) * size[..., :2]
        turn = b.yaw.gather(1, parent)
        x = below[..., 0] + turn.cos() * place[..., 0] - turn.sin() * place[..., 1]
        y = below[..., 1] + turn.sin() * place[..., 0] + turn.cos() * place[..., 1]
        z = below[..., 2] + size[..., 2] + half[..., 2]
        # Some stand on the floor.
        z = torch.where(draw.chance(0.2, batch, count) & ~table, half[..., 2], z)
        present = b.present.gather(1, parent) & draw.chance(0.85, batch, count)
        b.put(where, xyz(x, y, z), half, present, draw.uniform(0, torch.pi, batch, count))
