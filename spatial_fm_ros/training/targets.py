"""What the network should say of a batch: everything in the first camera's frame, with a mean distance of 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spatial_fm_ros.core.models.vit import pose_encoding
from spatial_fm_ros.training.worlds.generator import Batch


@dataclass(frozen=True, eq=False)
class Targets:
    """pose_enc [B, V, 9] of camera_from_first; depth [B, V, H, W]; points [B, V, H, W, 3] in the first camera's frame;
    valid, still bool [B, V, H, W]; scale [B], metres of the unit; usable bool [B]: enough of the scene is seen."""

    pose_enc: Tensor
    depth: Tensor
    points: Tensor
    valid: Tensor
    still: Tensor
    scale: Tensor
    usable: Tensor


#: Share of pixels with depth that every view of a scene needs to count.
LEAST_SEEN = 0.15


def targets(batch: Batch) -> Targets:
    """Wang et al., VGGT, 2025, section 3.4: the ground truth is normalised, the network's output never is."""
    first_from_world = pose_encoding.inverse_pose(batch.world_from_camera[:, :1])
    first_from_camera = first_from_world @ batch.world_from_camera
    height, width = batch.depth.shape[-2:]
    local = unprojected(batch.depth, batch.K)
    pose = first_from_camera[:, :, None, None]
    points = (pose[..., :3, :3] @ local[..., None])[..., 0] + pose[..., :3, 3]
    valid = batch.valid
    count = valid.sum((1, 2, 3))
    distance = torch.where(valid, points.norm(dim=-1), 0.0).sum((1, 2, 3))
    scale = torch.where(count > 0, distance / count.clamp(min=1), 1.0).clamp(min=1e-3)
    camera_from_first = pose_encoding.inverse_pose(first_from_camera)
    camera_from_first[..., :3, 3] /= scale[:, None, None]
    return Targets(
        pose_enc=pose_encoding.encode(camera_from_first, batch.K, (height, width)),
        depth=batch.depth / scale[:, None, None, None],
        points=points / scale[:, None, None, None, None],
        valid=valid,
        still=valid & ~batch.moving,
        scale=scale,
        usable=(valid.float().mean((2, 3)) >= LEAST_SEEN).all(1),
    )


def unprojected(depth: Tensor, K: Tensor) -> Tensor:
    """Camera points [..., H, W, 3] of depth [..., H, W] and K [..., 3, 3] with pixel centres at integers, no skew."""
    height, width = depth.shape[-2:]
    u = torch.arange(width, device=depth.device, dtype=depth.dtype)
    v = torch.arange(height, device=depth.device, dtype=depth.dtype)[:, None]
    x = (u - K[..., 0, 2, None, None]) / K[..., 0, 0, None, None]
    y = (v - K[..., 1, 2, None, None]) / K[..., 1, 1, None, None]
    return torch.stack([x * depth, y * depth, depth], dim=-1)
