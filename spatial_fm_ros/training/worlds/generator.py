"""Batches of scenes, made when they are asked for; the same seed and number give the same batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spatial_fm_ros.training.worlds.casting import SKY, World, cast, pixel_grid, view_rays
from spatial_fm_ros.training.worlds.materials import draw_light, dress
from spatial_fm_ros.training.worlds.overlap import choose_step
from spatial_fm_ros.training.worlds.paths import draw_intrinsics, draw_motion
from spatial_fm_ros.training.worlds.random import Draw, mixed
from spatial_fm_ros.training.worlds.scenes import draw_layout
from spatial_fm_ros.training.worlds.sensor import Sensor, expose
from spatial_fm_ros.training.worlds.shading import shade
from spatial_fm_ros.training.worlds.solids import SLOTS, kind_slices
from spatial_fm_ros.training.worlds.textures import Bank, make_bank

#: Bodies nearer to any camera than this share of a step, and at least so many metres, are taken away.
CLEARANCE_SHARE, CLEARANCE = 0.15, 0.12
#: Batches that share a bank of textures.
BATCHES_PER_BANK = 25
#: Depth beyond this is treated like the sky: a few views have no parallax on it.
FARTHEST = 120.0


@dataclass(frozen=True, eq=False)
class Batch:
    """B scenes of V views. images float32 [B, V, 3, H, W] in [0, 1]; depth [B, V, H, W] metres along z, 0 where there
    is none; moving bool [B, V, H, W]; K [B, V, 3, 3] with pixel centres at integers; world_from_camera [B, V, 4, 4];
    kind int64 [B] (place in scenes.SCENES); overlap [B], the least share that two neighbours have in common."""

    images: Tensor
    depth: Tensor
    moving: Tensor
    K: Tensor
    world_from_camera: Tensor
    kind: Tensor
    overlap: Tensor

    @property
    def valid(self) -> Tensor:
        return self.depth > 0


class Generator:
    """Makes batches on a device. textures, texture_size: of the bank that a run of batches shares; compiled: cast
    rays by a kernel made for it, which takes a minute to make."""

    def __init__(
        self,
        seed: int,
        device: torch.device | str,
        textures: int = 96,
        texture_size: int = 256,
        sensor: Sensor | None = None,
        compiled: bool = False,
    ) -> None:
        self.seed, self.device = seed, torch.device(device)
        self.textures, self.texture_size = textures, texture_size
        self.sensor, self.compiled = sensor or Sensor(), compiled
        self._bank: tuple[int, Bank] | None = None

    def bank(self, number: int) -> Bank:
        """The textures of batch `number`."""
        group = number // BATCHES_PER_BANK
        if self._bank is None or self._bank[0] != group:
            draw = Draw(mixed(self.seed, 1, group), self.device)
            self._bank = (group, make_bank(draw, self.textures, self.texture_size))
        return self._bank[1]

    @torch.no_grad()
    def batch(self, number: int, scenes: int, views: int, size: tuple[int, int]) -> Batch:
        """Batch `number` of this seed: `scenes` scenes of `views` images of `size` = (height, width)."""
        draw = Draw(mixed(self.seed, 2, number), self.device)
        bank = self.bank(number)
        height, width = size
        layout, kind = draw_layout(draw, scenes)
        K = draw_intrinsics(draw, scenes, views, height, width)
        motion = draw_motion(draw, layout, kind, views)
        world = dress(draw, layout, kind, self.textures, torch.zeros(scenes, device=self.device), self.compiled)
        poses, step, overlap = choose_step(draw, world, motion, K, size)
        solids = replace(world.solids, velocity=layout.velocity * step[:, None, None])
        world = cleared(replace(world, solids=solids), poses, motion.when, step)
        light = draw_light(draw, layout, kind, self.textures)

        rays = view_rays(K, poses, pixel_grid(height, width, self.device))
        origins = poses[..., :3, 3]
        hits = cast(world, origins, rays, motion.when)
        angle = 1.0 / (K[..., 0, 0] * K[..., 1, 1]).sqrt() / rays.norm(dim=-1).mean(-1) ** 1.5
        color = shade(world, light, bank, hits, origins, rays, motion.when, angle)
        images = expose(color.unflatten(2, size).movedim(-1, 2), self.sensor, draw)
        speed = world.solids.velocity.norm(dim=-1)
        body = hits.slot.clamp(0, speed.shape[1] - 1).flatten(1)
        moving = (speed.gather(1, body) > 0).view_as(hits.slot) & (hits.slot != SKY) & (hits.slot < speed.shape[1])
        seen = (hits.slot != SKY) & (hits.distance < FARTHEST)
        depth = torch.where(seen, hits.distance, torch.zeros_like(hits.distance))
        return Batch(images, depth.unflatten(2, size), moving.unflatten(2, size), K, poses, kind, overlap)


def cleared(world: World, poses: Tensor, times: Tensor, step: Tensor) -> World:
    """Without the bodies that a camera of poses [B, V, 4, 4] would be in or hit; the room stays."""
    solids = world.solids
    at = solids.center[:, None] + times[..., None, None] * solids.velocity[:, None]
    relative = poses[:, :, None, :3, 3] - at
    local = torch.einsum("bvki,bkij->bvkj", relative, solids.rotation).abs() - solids.half[:, None]
    near = local.amax(-1).amin(1) < (CLEARANCE_SHARE * step).clamp(min=CLEARANCE)[:, None]
    near[:, kind_slices(SLOTS)["room"]] = False
    return replace(world, solids=replace(solids, present=solids.present & ~near))
