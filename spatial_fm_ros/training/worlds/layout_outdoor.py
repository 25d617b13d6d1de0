"""Streets and fields."""

from __future__ import annotations

import torch
from torch import Tensor

from spatial_fm_ros.training.worlds.layout import HEIGHT_CELLS, Bodies, Layout, flat_ground, xyz
from spatial_fm_ros.training.worlds.random import Draw


def street(draw: Draw, batch: int) -> Layout:
    """A straight street along x: fronts on both sides, cars, poles, trees, people; some of it moving."""
    b = Bodies(draw, batch)
    road = draw.uniform(2.5, 6.0, batch, 1)
    walk = road + draw.uniform(1.0, 4.0, batch, 1)
    ones = torch.ones_like(road)
    fronts = b.slots("box", 0, 16)
    wide = draw.uniform(2.0, 7.0, batch, 2, 8)
    gap = draw.uniform(0.0, 4.0, batch, 2, 8) * draw.chance(0.4, batch, 2, 8)
    x = (2 * wide + gap).cumsum(-1) - wide - 25.0
    deep, tall = draw.uniform(2.0, 6.0, batch, 2, 8), draw.uniform(1.5, 9.0, batch, 2, 8)
    side = torch.tensor([-1.0, 1.0], device=draw.device)[:, None]
    y = side * (walk[..., None] + deep + draw.uniform(0, 1.5, batch, 2, 8))
    size = xyz(wide, deep, tall).flatten(1, 2)
    b.put(fronts, xyz(x, y, tall).flatten(1, 2), size, draw.chance(0.9, batch, 16))

    bodies, cabins = b.slots("box", 16, 5), b.slots("box", 21, 5)
    side = draw.sign(batch, 5)
    moving = draw.chance(0.35, batch, 5)
    y = side * torch.where(moving, 0.4 * road, road - 1.1)
    x = draw.uniform(-20, 20, batch, 5)
    half = xyz(draw.uniform(1.6, 2.4, batch, 5), draw.uniform(0.75, 0.95, batch, 5), draw.uniform(0.35, 0.6, batch, 5))
    present = draw.chance(0.7, batch, 5)
    b.put(bodies, xyz(x, y, half[..., 2] + 0.2), half, present)
    cabin = half * half.new_tensor([0.55, 0.92, 0.8])
    b.put(cabins, xyz(x, y, 0.2 + 2 * half[..., 2] + cabin[..., 2]), cabin, present)
    speed = moving * side * draw.uniform(0.1, 1.0, batch, 5)
    for where in (bodies, cabins):
        b.velocity[:, where, 0] = speed

    kerbs = b.slots("box", 26, 2)
    strip = (draw.uniform(12, 20, batch, 1) * ones).expand(-1, 2)
    y = torch.tensor([-1.0, 1.0], device=draw.device) * (road + strip)
    b.put(
        kerbs,
        xyz(0 * y, y, 0.06 + 0 * y),
        xyz(60 + 0 * y, strip, 0.06 + 0 * y),
        draw.chance(0.7, batch, 1).expand(-1, 2),
    )
    bins = b.slots("box", 28, 4)
    half = draw.uniform(0.2, 0.7, batch, 4, 3)
    y = draw.sign(batch, 4) * (road + 0.8)
    b.put(
        bins,
        xyz(draw.uniform(-15, 15, batch, 4), y, half[..., 2]),
        half,
        draw.chance(0.6, batch, 4),
        0.1 * draw.normal(batch, 4),
    )

    poles = b.slots("cylinder", 0, 12)
    spacing = draw.uniform(3.0, 9.0, batch, 1)
    column = torch.arange(6, device=draw.device).repeat_interleave(2) - 2.5
    x = column * spacing + draw.uniform(-2, 2, batch, 1)
    y = torch.tensor([-1.0, 1.0], device=draw.device).repeat(6) * (road + 0.5)
    thin, tall = draw.uniform(0.03, 0.18, batch, 1), draw.uniform(0.8, 4.0, batch, 1)
    b.put(poles, xyz(x, y, tall), xyz(thin, thin, tall).expand(-1, 12, -1), draw.chance(0.7, batch, 12))
    crowns = b.slots("ball", 0, 4)
    size = draw.uniform(0.6, 2.0, batch, 4, 3)
    top = xyz(x[:, :4], y[:, :4], 2 * tall)
    b.put(crowns, top, size, draw.chance(0.5, batch, 1) & b.present[:, poles][:, :4])
    people = b.slots("ball", 4, 4)
    half = xyz(
        draw.uniform(0.18, 0.32, batch, 4), draw.uniform(0.18, 0.32, batch, 4), draw.uniform(0.7, 0.95, batch, 4)
    )
    y = draw.sign(batch, 4) * (walk - 0.7)
    b.put(people, xyz(draw.uniform(-12, 12, batch, 4), y, half[..., 2]), half, draw.chance(0.7, batch, 4))
    b.velocity[:, people, :2] = 0.3 * draw.normal(batch, 4, 2) * draw.chance(0.6, batch, 4, 1)

    base = draw.uniform(0.7, 2.0, batch)
    low = torch.stack([torch.full_like(base, -18), -road[:, 0], base], -1)
    high = torch.stack([torch.full_like(base, 18), road[:, 0], base + 0.3], -1)
    target = torch.stack([draw.uniform(-8, 8, batch), draw.sign(batch) * walk[:, 0], base], -1)
    return Layout(
        **b.fields(),
        **flat_ground(draw, batch, True),
        low=low,
        high=high,
        target=target,
        step=torch.full_like(base, 4.0),
        orbit=draw.uniform(4, 9, batch),
        road=draw.chance(0.9, batch),
    )


def field(draw: Draw, batch: int) -> Layout:
    """Hills, or a level place, with boulders, trees, huts, fences and slabs."""
    b = Bodies(draw, batch)
    extent = draw.uniform(15, 45, batch)
    heights, flat = _hills(draw, batch, extent)

    def height(place: Tensor) -> Tensor:
        """Of places [B, n, 2], from the nearest grid point: bodies are sunk into the ground by more than the error."""
        cell = ((place / extent[:, None, None] + 1) / 2 * (HEIGHT_CELLS - 1)).round().long().clamp(0, HEIGHT_CELLS - 1)
        return heights.flatten(1).gather(1, cell[..., 1] * HEIGHT_CELLS + cell[..., 0])

    huts = b.slots("box", 0, 6)
    half = draw.uniform(0.4, 2.5, batch, 6, 3)
    place = draw.normal(batch, 6, 2) * 8
    b.put(
        huts,
        torch.cat([place, (height(place) + 0.6 * half[..., 2])[..., None]], -1),
        half,
        draw.chance(0.5, batch, 6),
        draw.uniform(0, torch.pi, batch, 6),
    )
    fence = b.slots("box", 6, 10)
    at = torch.arange(10, device=draw.device) - 4.5
    heading, spacing = draw.uniform(0, torch.pi, batch, 1), draw.uniform(0.5, 2.5, batch, 1)
    place = torch.stack([heading.cos() * at * spacing, heading.sin() * at * spacing], -1) + 3 * draw.normal(batch, 1, 2)
    half = xyz(draw.uniform(0.04, 0.15, batch, 1), draw.uniform(0.04, 0.15, batch, 1), draw.uniform(0.3, 0.9, batch, 1))
    b.put(
        fence,
        torch.cat([place, (height(place) + 0.5 * half[..., 2])[..., None]], -1),
        half.expand(-1, 10, -1),
        draw.chance(0.6, batch, 1).expand(-1, 10),
        heading,
    )
    slabs = b.slots("box", 16, 16)
    half = draw.log_uniform(0.06, 0.6, batch, 16, 3)
    place = draw.normal(batch, 16, 2) * 5
    b.put(
        slabs,
        torch.cat([place, (height(place) + 0.4 * half[..., 2])[..., None]], -1),
        half,
        draw.chance(0.6, batch, 16),
        draw.uniform(0, torch.pi, batch, 16),
    )
    b.tilt[:, slabs] = 0.3 * draw.normal(batch, 16)
    trunks = b.slots("cylinder", 0, 12)
    place = draw.normal(batch, 12, 2) * 9
    thin, tall = draw.uniform(0.04, 0.3, batch, 12), draw.uniform(0.5, 3.0, batch, 12)
    foot = height(place)
    b.put(
        trunks,
        torch.cat([place, (foot + 0.9 * tall)[..., None]], -1),
        xyz(thin, thin, tall),
        draw.chance(0.6, batch, 12),
    )
    b.tilt[:, trunks] = 0.08 * draw.normal(batch, 12)
    balls = b.slots("ball", 0, 8)
    size = draw.log_uniform(0.15, 1.8, batch, 8, 3)
    crown = (torch.arange(8, device=draw.device) < 4).float()
    on_ground = draw.normal(batch, 8, 2) * 6
    place = crown[:, None] * place[:, :8] + (1 - crown[:, None]) * on_ground
    z = torch.where(crown > 0, foot[:, :8] + 1.8 * tall[:, :8], height(place) + 0.4 * size[..., 2])
    b.put(balls, torch.cat([place, z[..., None]], -1), size, draw.chance(0.6, batch, 8))

    base = draw.uniform(0.4, 2.2, batch)
    reach = (0.3 * extent).clamp(max=9.0)  # near the bodies
    low = torch.stack([-reach, -reach, base], -1)
    high = torch.stack([reach, reach, base + 1.0], -1)
    target = torch.cat([draw.normal(batch, 2), base[:, None]], -1)
    return Layout(
        **b.fields(),
        grounded=torch.ones_like(flat),
        flat=flat,
        heights=heights,
        extent=extent,
        low=low,
        high=high,
        target=target,
        step=torch.full_like(base, 3.0),
        orbit=draw.uniform(2, 8, batch),
        road=torch.zeros_like(flat),
    )


def _hills(draw: Draw, batch: int, extent: Tensor) -> tuple[Tensor, Tensor]:
    """Heights [B, G, G] of power-law hills, and bool [B] where the ground is level."""
    flat = draw.chance(0.3, batch)
    waves, count = draw.normal(batch, 12, 2), 12
    number = torch.arange(1, count + 1, device=draw.device)
    frequency = waves / waves.norm(dim=-1, keepdim=True) * number.sqrt()[:, None] * torch.pi
    at = torch.linspace(-1, 1, HEIGHT_CELLS, device=draw.device)
    y, x = torch.meshgrid(at, at, indexing="ij")
    phase = draw.uniform(0, 2 * torch.pi, batch, count, 1, 1)
    angle = frequency[..., 0, None, None] * x + frequency[..., 1, None, None] * y + phase
    hills = (angle.sin() / number[:, None, None]).sum(1)
    rise = extent * draw.uniform(0.01, 0.06, batch)
    return torch.where(flat[:, None, None], 0.0, hills * rise[:, None, None]), flat
