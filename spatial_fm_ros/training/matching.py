"""Which patches of neighbouring views show the same place, and a loss that makes their tokens alike.

VGGT learns correspondences from its tracks; nano has no tracker, so they come from depth and cameras of the drawn
scenes. The loss is the cross-entropy over all patches of the other view (InfoNCE; van den Oord et al., 2018) of the
tokens before views meet, half of whose channels are left free for what is not seen alike.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from spatial_fm_ros.core.models.vit.pose_encoding import inverse_pose
from spatial_fm_ros.training.worlds.generator import Batch

#: Cosines are divided by this.
TEMPERATURE = 0.1
#: A place is the same where its depth in the other view agrees so far.
SAME = 0.05


def partners(batch: Batch, patch: int) -> tuple[Tensor, Tensor]:
    """For the middle pixel of every patch of views 0..V-2: the patch of the next view that shows the same place.

    int64 [B, V - 1, P] row-major, and bool of the same shape: there is one, it is visible and stands still.
    """
    height, width = batch.depth.shape[-2:]
    rows, columns = height // patch, width // patch
    v = torch.arange(rows, device=batch.depth.device) * patch + patch // 2
    u = torch.arange(columns, device=batch.depth.device) * patch + patch // 2
    depth = batch.depth[:, :-1, v[:, None], u].flatten(2)
    still = batch.valid[:, :-1, v[:, None], u].flatten(2) & ~batch.moving[:, :-1, v[:, None], u].flatten(2)
    y, x = (grid.flatten().float() for grid in torch.meshgrid(v, u, indexing="ij"))
    K, other = batch.K[:, :-1, :, :, None], batch.K[:, 1:, :, :, None]
    rays = torch.stack(
        [(x - K[:, :, 0, 2]) / K[:, :, 0, 0], (y - K[:, :, 1, 2]) / K[:, :, 1, 1], 1 + 0 * depth], dim=-2
    )
    next_from_this = inverse_pose(batch.world_from_camera[:, 1:]) @ batch.world_from_camera[:, :-1]
    seen = next_from_this[..., :3, :3] @ (rays * depth[:, :, None]) + next_from_this[..., :3, 3:]
    z = seen[:, :, 2].clamp(min=1e-3)
    column = (seen[:, :, 0] / z * other[:, :, 0, 0] + other[:, :, 0, 2]).round().long()
    row = (seen[:, :, 1] / z * other[:, :, 1, 1] + other[:, :, 1, 2]).round().long()
    inside = (seen[:, :, 2] > 1e-2) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    there = batch.depth[:, 1:].flatten(2).gather(2, row * width + column)
    visible = (there - z).abs() < SAME * z
    place = (row // patch).clamp(max=rows - 1) * columns + (column // patch).clamp(max=columns - 1)
    return place, inside & visible & still


def matching_loss(tokens: Tensor, place: Tensor, good: Tensor) -> Tensor:
    """Of patch tokens [B, V, P, C] of single views; `place` and `good` as `partners` gives them."""
    half = F.normalize(tokens[..., : tokens.shape[-1] // 2].float(), dim=-1)
    alike = half[:, :-1] @ half[:, 1:].transpose(-1, -2) / TEMPERATURE
    cost = F.cross_entropy(alike.flatten(0, 2), place.flatten(), reduction="none")
    chosen = good.flatten()
    return torch.where(chosen, cost, torch.zeros_like(cost)).sum() / chosen.sum().clamp(min=1)
