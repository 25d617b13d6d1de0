"""The fixed sine map that tells a dense head where in the image each cell lies."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

#: The map is added to the features with this weight.
WEIGHT = 0.1
BASE = 100.0


@lru_cache(maxsize=64)
def sine_map(
    rows: int,
    columns: int,
    channels: int,
    aspect: float,
    precision: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> Tensor:
    """float32 [channels, rows, columns], before its weight; `aspect` = width / height of the image.

    Cell centres lie on a rectangle of unit half diagonal; the first half of the channels encodes x, the
    second y, each as sines and then cosines of falling frequency. `precision`: of the angles
    (float64 in VGGT, float32 in Depth Anything 3). Raises ValueError unless channels is a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f"A sine map needs a multiple of 4 channels, got {channels}.")
    diagonal = (aspect**2 + 1.0) ** 0.5
    quarter = channels // 4
    frequency = BASE ** (-torch.arange(quarter, dtype=precision) / quarter)

    def encoded(cells: int, span: float) -> Tensor:
        limit = span * (cells - 1) / cells
        angle = torch.linspace(-limit, limit, cells, dtype=precision)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], dim=-1).float()

    x = encoded(columns, aspect / diagonal)[None].expand(rows, -1, -1)
    y = encoded(rows, 1.0 / diagonal)[:, None].expand(-1, columns, -1)
    return torch.cat([x, y], dim=-1).permute(2, 0, 1).contiguous().to(device)
