"""Where tokens are: grid positions for RoPE and learned position embeddings brought to another grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def grid_positions(rows: int, columns: int, specials: int, device: torch.device | str | None = None) -> Tensor:
    """int64 [specials + rows * columns, 2]: (y, x) from (1, 1), row-major, after `specials` tokens at (0, 0)."""
    y, x = torch.meshgrid(
        torch.arange(1, rows + 1, device=device), torch.arange(1, columns + 1, device=device), indexing="ij"
    )
    patches = torch.stack([y, x], dim=-1).flatten(0, 1)
    return torch.cat([patches.new_zeros(specials, 2), patches])


def resized_position_embedding(
    embedding: Tensor, rows: int, columns: int, *, antialias: bool, offset: float
) -> Tensor:
    """A learned embedding [1, 1 + M*M, C] (class entry first) for a grid of rows x columns.

    Bicubic in float32 with align_corners=False. offset 0: sampled by the output size; otherwise by the
    scale factors (rows + offset) / M and (columns + offset) / M, as DINOv2 was trained. The square
    grid of its own size is left as it is.
    """
    side = math.isqrt(embedding.shape[1] - 1)
    if (rows, columns) == (side, side):
        return embedding
    grid = embedding[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    if offset:
        factors = ((rows + offset) / side, (columns + offset) / side)
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic", antialias=antialias)
    else:
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=antialias)
    patches = grid.permute(0, 2, 3, 1).flatten(1, 2).to(embedding.dtype)
    return torch.cat([embedding[:, :1], patches], dim=1)
