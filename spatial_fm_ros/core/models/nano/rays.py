"""Known cameras as tokens: every patch is told which way it looks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.models.vit.block import Mlp

#: Of a fresh network's answer to rays, so that images speak first.
SIGMA = 0.02
#: Numbers a patch is told: the ray (x, y) with z = 1 at its centre, and how it changes over the patch, across and down.
NUMBERS = 4


class RayEmbedding(nn.Module):
    """What is added to the patch tokens: an embedding of the patch's rays, or a learned one where they are unknown."""

    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = Mlp(NUMBERS, dim // 2, dim)
        self.unknown = nn.Parameter(SIGMA * torch.randn(dim))

    def forward(self, K: Tensor, grid: tuple[int, int]) -> Tensor:
        """[B, S, rows * columns, dim] for cameras K [B, S, 3, 3]; a K that is not finite is an unknown camera.

        K has pixel centres at integers, on images of `grid` (rows, columns) patches.
        """
        known = torch.isfinite(K).all(dim=(-2, -1))[..., None, None]
        rays = patch_rays(torch.where(known, K, torch.eye(3, dtype=K.dtype, device=K.device)), grid, self.patch)
        # Cameras of robots look 40 to 110 degrees wide; an identity stands for the unknown and must not weigh.
        rays = torch.where(known, rays, torch.zeros_like(rays))
        return torch.where(known, self.embed(rays), self.unknown)


def patch_rays(K: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """[..., rows * columns, NUMBERS] of K [..., 3, 3], row-major."""
    rows, columns = grid
    at = (torch.arange(max(grid), device=K.device, dtype=K.dtype) + 0.5) * patch - 0.5
    v, u = torch.meshgrid(at[:rows], at[:columns], indexing="ij")
    fx, fy = K[..., 0, 0, None], K[..., 1, 1, None]
    y = (v.flatten() - K[..., 1, 2, None]) / fy
    x = (u.flatten() - K[..., 0, 2, None] - K[..., 0, 1, None] * y) / fx
    return torch.stack([x, y, (patch / fx).expand_as(x), (patch / fy).expand_as(y)], dim=-1)
