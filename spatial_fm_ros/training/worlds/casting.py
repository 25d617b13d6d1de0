"""Rays against all bodies of their scene: exact, without any loop over pixels, views or bodies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from spatial_fm_ros.training.worlds import ground as grounds
from spatial_fm_ros.training.worlds.ground import Ground
from spatial_fm_ros.training.worlds.solids import INTERVALS, SLOTS, Axes, Solids, kind_slices

#: Products of rays and bodies worked on at a time: what a processor's cache holds; on a GPU what memory allows.
PIECE = {"cpu": 1 << 18, "cuda": 1 << 26}
#: Nearer than this, in units of the ray, nothing is seen.
NEAREST = 1e-3
SKY = -1
Caster = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
#: Slot of the ground in Hits.slot: behind those of the bodies.
GROUND = sum(SLOTS.values())


@dataclass(frozen=True, eq=False)
class World:
    """Geometry of B scenes. The sky is where nothing is. compiled: rays are cast by a kernel made for the purpose."""

    solids: Solids
    ground: Ground
    compiled: bool = False


@dataclass(frozen=True, eq=False)
class Hits:
    """distance [B, V, P] in units of the ray (infinite: sky), slot int64 [B, V, P] (SKY, GROUND or a body's)."""

    distance: Tensor
    slot: Tensor


def cast(world: World, origins: Tensor, rays: Tensor, times: Tensor) -> Hits:
    """First hits of world rays [B, V, P, 3] from origins [B, V, 3] or [B, V, P, 3], in views at times [B, V]."""
    batch, views, pixels, _ = rays.shape
    nearest = torch.empty(batch, views, pixels, dtype=rays.dtype, device=rays.device)
    slot = torch.empty(batch, views, pixels, dtype=torch.int64, device=rays.device)
    at = world.solids.center[:, None] + times[..., None, None] * world.solids.velocity[:, None]
    into = world.solids.rotation / world.solids.half[..., None, :]
    bodies = _compiled() if world.compiled else _cast_bodies
    most = PIECE.get(rays.device.type, PIECE["cuda"])
    step = max(1, most // (batch * views * max(SLOTS.values())))
    for start in range(0, pixels, step):
        part = slice(start, min(start + step, pixels))
        own = origins[:, :, part] if origins.ndim == 4 else origins[:, :, None]
        nearest[:, :, part], slot[:, :, part] = bodies(into, world.solids.present, at, own, rays[:, :, part])
    every = (origins if origins.ndim == 4 else origins[:, :, None]).expand_as(rays)
    below = grounds.cast(world.ground, every.flatten(1, 2), rays.flatten(1, 2)).view_as(nearest)
    slot = torch.where(below < nearest, GROUND, slot)
    nearest = torch.minimum(nearest, below)
    return Hits(nearest, torch.where(torch.isinf(nearest), SKY, slot))


def _cast_bodies(into: Tensor, present: Tensor, at: Tensor, origins: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest distance and its slot [B, V, p] of rays [B, V, p, 3].

    into [B, K, 3, 3]: (row vector) @ into goes from world axes to a body's stretched axes; present [B, K]; `at`
    [B, V, K, 3], the bodies' centres.
    """
    nearest = slot = None
    for kind, where in kind_slices(SLOTS).items():
        turn = into[:, where]
        direction = _stretched(rays, turn)
        # Origins are few where a whole view shares one; their difference from the centre comes first, for its digits.
        shift = at[:, :, None, where]
        relative = origins[..., None, :] - shift  # [B, V, p or 1, K, 3]
        origin = _components(torch.einsum("bvpki,bkij->jbvpk", relative, turn))
        near, far = INTERVALS[kind](origin, direction)
        if kind == "room":
            distance, hit = far, (near < 0) & (far > NEAREST)
        else:
            distance, hit = near, (near < far) & (near > NEAREST)
        distance = torch.where(hit & present[:, None, None, where], distance, torch.inf)
        best, which = distance.min(dim=-1)
        which = which + where.start
        if nearest is None or slot is None:
            nearest, slot = best, which
        else:
            slot = torch.where(best < nearest, which, slot)
            nearest = torch.minimum(nearest, best)
    assert nearest is not None and slot is not None
    return nearest, slot


@lru_cache(maxsize=1)
def _compiled() -> Caster:
    caster: Caster = torch.compile(_cast_bodies, dynamic=True)
    return caster


def _stretched(rays: Tensor, turn: Tensor) -> Axes:
    """Rays [B, V, p, 3] in the axes of every body [B, K, 3, 3]: three tensors [B, V, p, K], by one product."""
    batch, views, pixels, _ = rays.shape
    matrix = turn.permute(0, 2, 3, 1).flatten(2)  # [B, 3, 3 K], axis-major
    product = torch.bmm(rays.reshape(batch, views * pixels, 3), matrix)
    return _components(product.view(batch, views, pixels, 3, -1).movedim(3, 0))


def _components(x: Tensor) -> Axes:
    return x[0], x[1], x[2]


def view_rays(K: Tensor, world_from_camera: Tensor, pixels: Tensor) -> Tensor:
    """World rays [B, V, P, 3] through pixels [P, 2] (u, v), z = 1 in camera axes, so that distance is depth.

    K [B, V, 3, 3] with pixel centres at integers and without skew; poses [B, V, 4, 4].
    """
    u, v = pixels.unbind(-1)
    x = (u - K[..., 0, 2, None]) / K[..., 0, 0, None]
    y = (v - K[..., 1, 2, None]) / K[..., 1, 1, None]
    rays = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    return rays @ world_from_camera[..., :3, :3].transpose(-1, -2)


def pixel_grid(height: int, width: int, device: torch.device) -> Tensor:
    """Centres [height * width, 2] of all pixels as (u, v), row-major."""
    v, u = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack([u, v], dim=-1).flatten(0, 1)
