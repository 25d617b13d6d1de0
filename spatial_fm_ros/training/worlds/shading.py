"""What colour a hit has: texture at the size of a pixel's footprint, light with shadows, sky."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spatial_fm_ros.training.worlds.casting import GROUND, SKY, Hits, World, cast
from spatial_fm_ros.training.worlds.solids import FACES, SLOTS, kind_slices
from spatial_fm_ros.training.worlds.textures import Bank

#: Shadow rays start this share of the hit's distance before it, so that a surface does not shade itself.
LIFT = 3e-3
SHININESS = 24.0


@dataclass(frozen=True, eq=False)
class Light:
    """Lamps at position [B, L, 3] with power [B, L, 3], halved at distance reach [B, L] (infinite: a sun); ambient
    light [B, 3] from above and half of it from below; sky colours [B, 3] at the horizon and overhead, clouds int64 [B]
    (texture) with strength [B]. The first lamp casts shadows in scenes where shadows [B] is true."""

    position: Tensor
    power: Tensor
    reach: Tensor
    ambient: Tensor
    horizon: Tensor
    zenith: Tensor
    clouds: Tensor
    cloudiness: Tensor
    shadows: Tensor


@dataclass(frozen=True, eq=False)
class Surface:
    """Of every hit, [B, N, ...]: texture int64, uv in tiles, tile metres a texture covers, normal, tint, gloss."""

    texture: Tensor
    uv: Tensor
    tile: Tensor
    normal: Tensor
    tint: Tensor
    gloss: Tensor


def shade(
    world: World,
    light: Light,
    bank: Bank,
    hits: Hits,
    origins: Tensor,
    rays: Tensor,
    times: Tensor,
    pixel_angle: Tensor,
) -> Tensor:
    """Linear RGB [B, V, P, 3] of hits of rays [B, V, P, 3] from origins [B, V, 3]; pixel_angle [B, V] radians."""
    batch, views, pixels, _ = rays.shape
    distance = torch.where(hits.slot == SKY, torch.zeros_like(hits.distance), hits.distance)
    points = origins[:, :, None] + distance[..., None] * rays
    surface = surfaces(world, hits.slot.flatten(1, 2), points.flatten(1, 2), _per_ray(times, pixels))
    length = rays.norm(dim=-1).flatten(1, 2)
    view = -rays.flatten(1, 2) / length[..., None]
    facing = (surface.normal * view).sum(-1)
    normal = torch.where(facing[..., None] < 0, -surface.normal, surface.normal)
    footprint = distance.flatten(1, 2) * length * _per_ray(pixel_angle, pixels) / facing.abs().clamp(min=0.05).sqrt()
    lod = torch.log2((footprint * bank.size / surface.tile).clamp(min=1e-6))
    albedo = bank.sample(surface.texture.flatten(), surface.uv.flatten(0, 1), lod.flatten()).view(batch, -1, 3)
    albedo = (albedo * surface.tint).clamp(0, 1)

    flat_points = points.flatten(1, 2)
    lit = light.ambient[:, None] * (0.75 + 0.25 * normal[..., 2:])
    shine = torch.zeros_like(lit)
    blocked = _shadows(world, light, points, distance, times)
    for lamp in range(light.position.shape[1]):
        towards = light.position[:, None, lamp] - flat_points
        far = towards.norm(dim=-1, keepdim=True)
        towards = towards / far
        power = light.power[:, None, lamp] / (1 + (far / light.reach[:, None, lamp, None]) ** 2)
        if lamp == 0:
            power = power * (1 - blocked.flatten(1, 2)[..., None])
        lit = lit + power * (normal * towards).sum(-1, keepdim=True).clamp(min=0)
        half = F.normalize(towards + view, dim=-1)
        shine = shine + power * (normal * half).sum(-1, keepdim=True).clamp(min=0) ** SHININESS
    color = (albedo * lit + surface.gloss[..., None] * shine).view(batch, views, pixels, 3)
    return torch.where((hits.slot == SKY)[..., None], sky(light, bank, rays), color)


def _per_ray(values: Tensor, pixels: int) -> Tensor:
    """[B, V] as [B, V * pixels]."""
    return values[:, :, None].expand(-1, -1, pixels).flatten(1, 2)


def _shadows(world: World, light: Light, points: Tensor, distance: Tensor, times: Tensor) -> Tensor:
    """Float [B, V, P], 1 where the first lamp is hidden; only for scenes that have shadows."""
    blocked = torch.zeros_like(distance)
    scenes = torch.nonzero(light.shadows)[:, 0]
    if len(scenes) == 0:
        return blocked
    part = World(world.solids.map(lambda x: x[scenes]), world.ground.only(scenes), world.compiled)
    towards = light.position[scenes, None, None, 0] - points[scenes]
    start = points[scenes] + LIFT * distance[scenes, ..., None] * F.normalize(towards, dim=-1)
    reached = cast(part, start, towards, times[scenes]).distance
    return blocked.index_copy(0, scenes, ((reached > LIFT) & (reached < 0.98)).float())


def sky(light: Light, bank: Bank, rays: Tensor) -> Tensor:
    """[B, V, P, 3] by direction, with clouds on a level high above."""
    batch = len(rays)
    unit = F.normalize(rays, dim=-1).flatten(1, 2)
    height = unit[..., 2:].clamp(min=0)
    color = torch.lerp(light.horizon[:, None], light.zenith[:, None].expand(-1, unit.shape[1], -1), height.sqrt())
    uv = unit[..., :2] / (height + 0.25) * 0.3
    texture = light.clouds[:, None].expand(-1, unit.shape[1])
    cover = bank.sample(texture.flatten(), uv.flatten(0, 1), torch.full_like(unit[..., 0], 1.0).flatten())
    cover = cover.view(batch, -1, 3).mean(-1, keepdim=True) * light.cloudiness[:, None, None] * height.sqrt()
    return torch.lerp(color, light.horizon[:, None].expand_as(color), cover.clamp(0, 1)).view_as(rays)


def surfaces(world: World, slot: Tensor, points: Tensor, times: Tensor) -> Surface:
    """Material and outward normal at points [B, N, 3] on the bodies or the ground of slot [B, N], at times [B, N]."""
    solids, ground = world.solids, world.ground
    body = torch.where((slot == SKY) | (slot == GROUND), 0, slot)

    def of(values: Tensor) -> Tensor:
        index = body.view(*body.shape, *[1] * (values.ndim - 2)).expand(*body.shape, *values.shape[2:])
        return values.gather(1, index)

    center = of(solids.center) + times[..., None] * of(solids.velocity)
    rotation, half = of(solids.rotation), of(solids.half)
    local = torch.einsum("bni,bnij->bnj", points - center, rotation)
    unit = local / half
    where = kind_slices(SLOTS)
    is_cylinder = (body >= where["cylinder"].start) & (body < where["cylinder"].stop)
    is_ball = (body >= where["ball"].start) & (body < where["ball"].stop)
    # The face of a box is that of its largest coordinate; a cylinder's side and a ball count as their x face.
    axis = unit.abs().argmax(-1)
    side = unit[..., :2].norm(dim=-1) >= unit[..., 2].abs()
    axis = torch.where(is_cylinder, torch.where(side, 0, 2), torch.where(is_ball, 0, axis))
    sign = unit.gather(-1, axis[..., None])[..., 0].sign()
    flat_normal = F.one_hot(axis, 3) * sign[..., None]
    round_normal = unit / half
    round_normal = torch.where(
        (is_cylinder & side)[..., None], round_normal * round_normal.new_tensor([1, 1, 0]), round_normal
    )
    curved = (is_cylinder & side) | is_ball
    normal = torch.where(curved[..., None], F.normalize(round_normal, dim=-1), flat_normal)
    normal = torch.einsum("bnij,bnj->bni", rotation, normal)

    around = torch.atan2(unit[..., 1], unit[..., 0]) * half[..., 0]
    up = torch.where(is_ball, torch.asin(unit[..., 2].clamp(-1, 1)) * half[..., 2], local[..., 2])
    first = torch.where(curved, around, torch.where(axis == 0, local[..., 1], local[..., 0]))
    second = torch.where(curved, -up, torch.where(axis == 2, local[..., 1], -local[..., 2]))
    face = 2 * axis + (sign > 0)
    tile = of(solids.tile)
    texture = of(solids.texture).gather(-1, face[..., None].clamp(max=FACES - 1))[..., 0]
    # Every face begins elsewhere on its texture.
    offset = torch.stack([torch.frac(0.618 * body + 0.37 * face), torch.frac(0.414 * body + 0.71 * face)], dim=-1)
    uv = torch.stack([first, second], dim=-1) / tile[..., None] + offset

    low = slot == GROUND
    many = slot.shape[1]
    if bool(ground.present.any()):
        up_normal = ground.normals(points)
        normal = torch.where(low[..., None], up_normal, normal)
        uv = torch.where(low[..., None], points[..., :2] / ground.tile[:, None, None], uv)
    return Surface(
        texture=torch.where(low, ground.texture[:, None].expand(-1, many), texture),
        uv=uv,
        tile=torch.where(low, ground.tile[:, None].expand(-1, many), tile),
        normal=normal,
        tint=torch.where(low[..., None], ground.tint[:, None].expand(-1, many, -1), of(solids.tint)),
        gloss=torch.where(low, ground.gloss[:, None].expand(-1, many), of(solids.gloss)),
    )
