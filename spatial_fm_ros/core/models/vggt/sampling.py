"""Reading feature maps between their cells, as VGGT's tracker does."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: Slowest frequency of the sine tables, as a divisor.
BASE = 10000.0
#: Fastest multiplier of the motion embedding.
MOTION = 1000.0


def sampled(maps: Tensor, points: Tensor, padding: str) -> Tensor:
    """Bilinear values [N, P, C] of maps [N, C, h, w] at points [N, P, 2] = (x, y), cell centres at integers.

    padding: 'border' or 'zeros' beyond the centres of the outermost cells. An axis with a single cell is
    read at that cell wherever the point lies.
    """
    size = points.new_tensor([maps.shape[-1], maps.shape[-2]])
    unit = 2 * points / (size - 1).clamp(min=1) - 1
    values = F.grid_sample(maps, unit[:, :, None], mode="bilinear", padding_mode=padding, align_corners=True)
    return values[..., 0].transpose(1, 2)


def sine_table(cells: int, channels: int, device: torch.device) -> Tensor:
    """float32 [cells, channels]: sines, then cosines, of the cell's index at falling frequencies.

    Vaswani et al., 2017, with the angles in float64.
    """
    half = channels // 2
    frequency = BASE ** (-torch.arange(half, dtype=torch.float64, device=device) / half)
    angle = torch.arange(cells, dtype=torch.float64, device=device)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()


def position_map(channels: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """float32 [channels, rows, columns]: the first half of the channels encodes x, the second y."""
    x = sine_table(columns, channels // 2, device)[None].expand(rows, -1, -1)
    y = sine_table(rows, channels // 2, device)[:, None].expand(-1, columns, -1)
    return torch.cat([x, y], dim=-1).permute(2, 0, 1)


def motion_embedding(motion: Tensor, channels: int) -> Tensor:
    """Displacements [..., 2] as [..., 2 * channels]: for x, then y, sine and cosine of rising multiples in turn.

    The multiples are linear in their index and reach almost 1000 rad a pixel, as the checkpoint was trained:
    what follows is as sensitive to rounding.
    """
    index = torch.arange(0, channels, 2, dtype=motion.dtype, device=motion.device)
    angle = motion[..., None] * (index * (MOTION / channels))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-3)


class Correlation:
    """Likeness of track features and the map around their tracks, on a pyramid.

    maps: [N, C, h, w]. Only the window around every track is compared, `chunk` tracks at a time, which reads
    the maps at the window's points first and multiplies then; comparing every cell of every map with every
    track and reading the result gives the same numbers at h * w / window times the memory.
    """

    def __init__(self, maps: Tensor, levels: int, radius: int, chunk: int = 64) -> None:
        self.pyramid = [maps]
        for _ in range(levels - 1):
            self.pyramid.append(F.avg_pool2d(self.pyramid[-1], 2))
        side = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device)
        # x is the slow axis of the window.
        self.window = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).flatten(0, 1)
        self.chunk = chunk

    def __call__(self, features: Tensor, points: Tensor) -> Tensor:
        """Features [N, P, C] at points [N, P, 2] to [N, P, levels * window]."""
        parts = zip(features.split(self.chunk, dim=1), points.split(self.chunk, dim=1), strict=True)
        return torch.cat([self._compared(f, p) for f, p in parts], dim=1)

    def _compared(self, features: Tensor, points: Tensor) -> Tensor:
        scaled = features / features.shape[-1] ** 0.5
        levels = []
        for level, maps in enumerate(self.pyramid):
            around = points[:, :, None] / 2**level + self.window
            values = sampled(maps, around.flatten(1, 2), "zeros").unflatten(1, around.shape[1:3])
            levels.append(torch.einsum("npwc,npc->npw", values, scaled))
        return torch.cat(levels, dim=-1)
