"""Surfaces and light of a layout: from where things stand to what can be seen."""

from __future__ import annotations

import torch
from torch import Tensor

from spatial_fm_ros.training.worlds.casting import World
from spatial_fm_ros.training.worlds.ground import Ground
from spatial_fm_ros.training.worlds.layout import Layout
from spatial_fm_ros.training.worlds.random import Draw
from spatial_fm_ros.training.worlds.shading import Light
from spatial_fm_ros.training.worlds.solids import FACES, SLOTS, Solids, kind_slices

#: Share of batches of scenes whose first lamp casts shadows: they double the work.
SHADOWS = 0.5


def rotations(yaw: Tensor, tilt: Tensor) -> Tensor:
    """world_from_body [..., 3, 3]: tilted about y, then turned about z."""
    cy, sy, ct, st = yaw.cos(), yaw.sin(), tilt.cos(), tilt.sin()
    zero = torch.zeros_like(yaw)
    rows = [
        torch.stack([cy * ct, -sy, cy * st], -1),
        torch.stack([sy * ct, cy, sy * st], -1),
        torch.stack([-st, zero, ct], -1),
    ]
    return torch.stack(rows, -2)


def dress(draw: Draw, layout: Layout, kind: Tensor, textures: int, step: Tensor, compiled: bool = False) -> World:
    """The layout with materials. Velocities, which the layout has in steps, become metres a view by step [B]."""
    batch, total = layout.present.shape
    size = layout.half.amax(-1)
    outside = (kind >= 3)[:, None]
    tile = torch.where(outside, 2.0, 1.0) * draw.log_uniform(0.5, 3.0, batch, total) * size.clamp(0.15, 4.0).sqrt()
    texture = draw.index(textures, batch, total, FACES)
    # Most things are of one material all around; a room has walls of one kind, a floor and a ceiling.
    alike = draw.chance(0.6, batch, total, 1)
    texture = torch.where(alike, texture[..., :1], texture)
    room = kind_slices(SLOTS)["room"]
    walls = torch.where(draw.chance(0.6, batch, 1, 1), texture[:, room, :1], texture[:, room, :4])
    texture[:, room] = torch.cat([walls, draw.index(textures, batch, 1, 2)], -1)
    tint = (0.35 * draw.normal(batch, total, 1) + 0.12 * draw.normal(batch, total, 3)).exp()
    # Instances: in some scenes every body looks like its neighbour.
    same = draw.chance(0.25, batch, 1, 1) & (torch.arange(total, device=draw.device)[:, None] < room.start)
    texture = torch.where(same, texture[:, :1], texture)
    solids = Solids(
        center=layout.center,
        rotation=rotations(layout.yaw, layout.tilt),
        half=layout.half,
        velocity=layout.velocity * step[:, None, None],
        present=layout.present,
        texture=texture,
        tile=tile,
        tint=tint,
        gloss=draw.uniform(0, 0.25, batch, total) * draw.chance(0.3, batch, total),
    )
    ground = Ground(
        present=layout.grounded,
        heights=layout.heights,
        extent=layout.extent,
        flat=layout.flat,
        texture=draw.index(textures, batch),
        tile=draw.log_uniform(2.0, 9.0, batch),
        tint=(0.2 * draw.normal(batch, 3)).exp(),
        gloss=torch.zeros(batch, device=draw.device),
    )
    return World(solids, ground, compiled)


def draw_light(draw: Draw, layout: Layout, kind: Tensor, textures: int) -> Light:
    """A sun outside; two lamps inside, of which the first may cast shadows."""
    batch = len(kind)
    outside = (kind >= 3)[:, None]
    warm = 1 + torch.tensor([0.12, 0.0, -0.12], device=draw.device) * draw.normal(batch, 1)
    around, height = draw.uniform(0, 2 * torch.pi, batch), draw.uniform(0.35, 1.4, batch)
    direction = torch.stack([height.cos() * around.cos(), height.cos() * around.sin(), height.sin()], -1)
    low, high = layout.low, layout.high
    lamps = draw.uniform(low[:, None], high[:, None], batch, 2, 3)
    lamps[..., 2] = high[:, None, 2] + 0.1
    room = (high - low).norm(dim=-1)
    sun = torch.stack([direction, direction], 1) * 300.0
    strength = draw.uniform(0.3, 1.6, batch, 2, 1) * torch.tensor([[1.0], [0.5]], device=draw.device)
    strength[:, 1] = torch.where(outside, 0.0, strength[:, 1])
    sky = torch.stack(
        [draw.uniform(0.25, 0.7, batch), draw.uniform(0.35, 0.8, batch), draw.uniform(0.5, 1.0, batch)], -1
    )
    return Light(
        position=torch.where(outside[..., None], sun, lamps),
        power=(strength * warm[:, None]).clamp(min=0),
        reach=torch.where(outside, torch.inf, (0.5 * room)[:, None]).expand(-1, 2),
        ambient=draw.uniform(0.15, 0.7, batch, 1) * (1 + 0.08 * draw.normal(batch, 3)),
        horizon=(0.6 * sky + 0.4).clamp(0, 1),
        zenith=sky * draw.uniform(0.4, 1.0, batch, 1),
        clouds=draw.index(textures, batch),
        cloudiness=draw.uniform(0, 2.0, batch),
        shadows=draw.chance(SHADOWS, batch),
    )
