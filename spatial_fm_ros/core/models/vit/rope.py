"""Rotary position embedding in two dimensions: half of a head's channels turn with y, half with x."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RopeTable:
    """cos and sin float32 [T, head_dim], one row per token; broadcast over batch and heads."""

    cos: Tensor
    sin: Tensor

    def repeated(self, times: int) -> RopeTable:
        """The same tokens once for every frame, frame-major."""
        return RopeTable(self.cos.repeat(times, 1), self.sin.repeat(times, 1))


def rope_table(positions: Tensor, head_dim: int, base: float = 100.0) -> RopeTable:
    """The table of integer positions [T, 2] as (y, x).

    Axis a turns the pair (j, j + d/2) of its d = head_dim/2 channels by position_a * base^(-2j/d)
    (Su et al., RoFormer, 2021, once per image axis); position 0 is the identity.
    """
    half = head_dim // 2
    exponent = torch.arange(0, half, 2, dtype=torch.float32, device=positions.device) / half
    angle = positions[:, :, None].float() * base**-exponent  # [T, 2, d/2]
    angle = torch.cat([angle, angle], dim=-1).flatten(1)
    return RopeTable(angle.cos(), angle.sin())


def rotate(x: Tensor, table: RopeTable) -> Tensor:
    """Apply the table to queries or keys [..., T, head_dim], in at least float32, back in the dtype of x."""
    first, second = x.float().unflatten(-1, (2, 2, -1)).unbind(-2)
    turned = torch.stack([-second, first], dim=-2).flatten(-3)
    return (x * table.cos + turned * table.sin).to(x.dtype)
