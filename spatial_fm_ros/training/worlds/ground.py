"""The ground of outdoor scenes: a level plane, or hills given by heights on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

#: Steps along a ray through the layer of heights, and halvings of the step in which it goes below ground.
STEPS, HALVINGS = 40, 8
#: The horizon of the level plane: beyond this depth it is sky.
HORIZON = 150.0


@dataclass(frozen=True, eq=False)
class Ground:
    """present bool [B]; heights [B, G, G] (rows along y) over [-extent, extent] on both axes, extent [B]; flat bool [B]
    where all heights are 0. Materials as of a body with one face: texture int64 [B], tile [B], tint [B, 3], gloss [B].
    """

    present: Tensor
    heights: Tensor
    extent: Tensor
    flat: Tensor
    texture: Tensor
    tile: Tensor
    tint: Tensor
    gloss: Tensor

    def height_at(self, points: Tensor) -> Tensor:
        """[B, N] below points [B, N, 2 or 3], bilinear on the grid; the border's height beyond it."""
        grid = points[..., :2] / self.extent[:, None, None]
        return F.grid_sample(self.heights[:, None], grid[:, :, None], padding_mode="border", align_corners=True)[
            :, 0, :, 0
        ]

    def only(self, scenes: Tensor) -> Ground:
        """Of the scenes with these indices."""
        return Ground(**{name: getattr(self, name)[scenes] for name in self.__dataclass_fields__})

    def normals(self, points: Tensor) -> Tensor:
        """[B, N, 3] upwards, by central differences of half a cell."""
        step = self.extent[:, None] / self.heights.shape[-1]
        slopes = []
        for axis in range(2):
            shift = torch.zeros_like(points[..., :2])
            shift[..., axis] = step
            rise = self.height_at(points[..., :2] + shift) - self.height_at(points[..., :2] - shift)
            slopes.append(rise / (2 * step))
        return F.normalize(torch.stack([-slopes[0], -slopes[1], torch.ones_like(slopes[0])], dim=-1), dim=-1)


def cast(ground: Ground, origins: Tensor, rays: Tensor) -> Tensor:
    """Where rays [B, N, 3] from origins [B, N, 3] meet the ground, in units of the ray, [B, N]; infinite for a miss."""
    flat = -origins[..., 2] / torch.where(rays[..., 2] < -1e-9, rays[..., 2], torch.full_like(rays[..., 2], -1e-9))
    met = torch.where((rays[..., 2] < -1e-9) & (flat > 0) & (flat < HORIZON), flat, torch.inf)
    hilly = torch.nonzero(ground.present & ~ground.flat)[:, 0]
    if len(hilly):
        met = met.index_copy(0, hilly, _march(ground.only(hilly), origins[hilly], rays[hilly]))
    return torch.where(ground.present[:, None], met, torch.inf)


def _march(ground: Ground, origins: Tensor, rays: Tensor) -> Tensor:
    """First passage below the heights, by equal steps through the layer they fill and then by halving."""
    low, high = (ground.heights.flatten(1).amin(1), ground.heights.flatten(1).amax(1))
    vertical = torch.where(rays[..., 2].abs() < 1e-6, torch.full_like(rays[..., 2], -1e-6), rays[..., 2])
    ends = torch.stack([(bound[:, None] - origins[..., 2]) / vertical for bound in (low - 1e-3, high + 1e-3)])
    start, end = ends.amin(0).clamp(min=0), ends.amax(0)
    reach = 2.0 * ground.extent[:, None]
    end = torch.minimum(end, reach)
    step = (end - start).clamp(min=0) / STEPS

    def above(t: Tensor) -> Tensor:
        points = origins + t[..., None] * rays
        return points[..., 2] - ground.height_at(points)

    left = torch.full_like(start, torch.inf)
    for i in range(STEPS):
        before = start + i * step
        passed = torch.isinf(left) & (above(before + step) < 0)
        left = torch.where(passed, before, left)
    found = torch.isfinite(left) & (end > start)
    left = torch.where(found, left, torch.zeros_like(left))
    for _ in range(HALVINGS):
        step = step / 2
        left = torch.where(above(left + step) > 0, left + step, left)
    # Linear within the last piece, which is short against a cell of the grid.
    a, b = above(left), above(left + step)
    t = left + step * (a / (a - b).clamp(min=1e-9)).clamp(0, 1)
    return torch.where(found, t, torch.inf)
