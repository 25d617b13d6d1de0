"""The losses of VGGT (Wang et al., 2025, section 3.4) without tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spatial_fm_ros.core.models.vggt.network import VggtOutput
from spatial_fm_ros.training.targets import Targets

#: Weight of -log confidence (VGGT's alpha).
ALPHA = 0.2
#: Where the camera's Huber loss becomes linear.
HUBER = 0.1
#: An earlier iteration of the camera head weighs this share of the next (RAFT's sequence loss; Teed and Deng, 2020).
FADE = 0.8
#: Errors above this many units are the far end of open scenes; they count as this much and no more.
LARGEST = 10.0


@dataclass(frozen=True, eq=False)
class Losses:
    """Scalars; `total` is their weighted sum."""

    total: Tensor
    camera: Tensor
    depth: Tensor
    point: Tensor
    match: Tensor

    def numbers(self) -> dict[str, float]:
        return {name: float(getattr(self, name).detach()) for name in ("total", "camera", "depth", "point", "match")}


def losses(
    output: VggtOutput, wanted: Targets, camera_weight: float, match: Tensor | None = None, match_weight: float = 0.0
) -> Losses:
    """Of all three heads, with a matching loss (matching.py) beside them; scenes not usable count nothing in heads."""
    assert output.pose_enc_iterations is not None and output.depth is not None and output.depth_conf is not None
    assert output.world_points is not None and output.world_points_conf is not None
    camera = camera_loss(output.pose_enc_iterations, wanted)
    shown = wanted.usable[:, None, None, None]
    depth = dense_loss(output.depth, output.depth_conf, wanted.depth[..., None], wanted.valid & shown)
    # A body that moves is at several places of the one world.
    point = dense_loss(output.world_points, output.world_points_conf, wanted.points, wanted.still & shown)
    match = torch.zeros_like(camera) if match is None else match
    return Losses(camera_weight * camera + depth + point + match_weight * match, camera, depth, point, match)


def camera_loss(iterations: Sequence[Tensor], wanted: Targets) -> Tensor:
    """Huber loss of encodings [B, V, 9], the later iterations weighing more."""
    weights = [FADE ** (len(iterations) - 1 - i) for i in range(len(iterations))]
    total = torch.zeros((), device=wanted.pose_enc.device)
    for weight, encoding in zip(weights, iterations, strict=True):
        error = F.huber_loss(encoding.float(), wanted.pose_enc, reduction="none", delta=HUBER) / HUBER
        total = total + weight * _mean(error.sum(-1), wanted.usable[:, None].expand(error.shape[:2]))
    return total / sum(weights)


def dense_loss(value: Tensor, confidence: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """c |e| + c |grad e| - alpha log c of values [B, V, H, W, n]; confidence, valid [B, V, H, W]."""
    error = torch.where(valid[..., None], value - truth, torch.zeros_like(truth))
    size = error.norm(dim=-1) if error.shape[-1] > 1 else error[..., 0].abs()
    loss = _mean(confidence * size.clamp(max=LARGEST) - ALPHA * confidence.log(), valid)
    for axis in (2, 3):
        both = _later(valid, axis) & _earlier(valid, axis)
        bend = (_later(error, axis) - _earlier(error, axis)).abs().sum(-1).clamp(max=LARGEST)
        loss = loss + 0.5 * _mean(_later(confidence, axis) * bend, both)
    return loss


def _later(x: Tensor, axis: int) -> Tensor:
    return x.narrow(axis, 1, x.shape[axis] - 1)


def _earlier(x: Tensor, axis: int) -> Tensor:
    return x.narrow(axis, 0, x.shape[axis] - 1)


def _mean(x: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, x, torch.zeros_like(x)).sum() / where.sum().clamp(min=1)
