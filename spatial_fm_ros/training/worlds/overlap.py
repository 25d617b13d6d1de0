"""How much neighbouring views have in common, and the longest steps that leave a wanted share."""

from __future__ import annotations

import torch
from torch import Tensor

from spatial_fm_ros.training.worlds.casting import SKY, World, cast, view_rays
from spatial_fm_ros.training.worlds.paths import Motion
from spatial_fm_ros.training.worlds.random import Draw

#: Steps that are tried: the layout's longest, and halves of it.
CANDIDATES = 7
#: A coarse image is enough to count: rows and columns.
ROWS, COLUMNS = 12, 16
#: Depths that agree so far are of the same surface.
SAME = 0.12
#: Shares of overlap that are asked for, drawn for every scene.
LEAST, MOST = 0.3, 0.95


def choose_step(
    draw: Draw, world: World, motion: Motion, K: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Poses [B, V, 4, 4], their step [B] in metres and the least overlap of neighbours [B].

    Of the candidate steps the longest with the drawn overlap is taken; where none has it, the shortest.
    """
    batch, views = motion.when.shape
    halvings = 0.5 ** torch.arange(CANDIDATES, device=draw.device)
    steps = motion.layout.step[:, None] * draw.uniform(0.6, 1.0, batch, 1) * halvings
    poses = motion.poses(steps)
    wanted = draw.uniform(LEAST, MOST, batch, 1)
    if views == 1:
        return poses[:, -1], steps[:, -1], torch.ones(batch, device=draw.device)
    share = neighbour_overlap(world, poses, K, size).amin(-1)
    good = share >= wanted
    first = torch.where(good.any(-1), good.float().argmax(-1), CANDIDATES - 1)
    scene = torch.arange(batch, device=draw.device)
    return poses[scene, first], steps[scene, first], share[scene, first]


def neighbour_overlap(world: World, poses: Tensor, K: Tensor, size: tuple[int, int]) -> Tensor:
    """Share [B, C, V - 1] of what view i sees that view i + 1 sees too. poses [B, C, V, 4, 4], K [B, V, 3, 3].

    Bodies stand still for this. Views that see hardly anything have no overlap.
    """
    batch, candidates, views = poses.shape[:3]
    height, width = size
    v = (torch.arange(ROWS, device=poses.device) + 0.5) * height / ROWS - 0.5
    u = (torch.arange(COLUMNS, device=poses.device) + 0.5) * width / COLUMNS - 0.5
    pixels = torch.stack(torch.broadcast_tensors(u, v[:, None]), dim=-1).flatten(0, 1)
    flat = poses.flatten(1, 2)
    all_K = K[:, None].expand(-1, candidates, -1, -1, -1).flatten(1, 2)
    rays = view_rays(all_K, flat, pixels)
    hits = cast(world, flat[..., :3, 3], rays, torch.zeros_like(flat[..., 0, 0]))
    seen = (hits.slot != SKY).unflatten(1, (candidates, views))
    distance = torch.where(torch.isinf(hits.distance), torch.zeros_like(hits.distance), hits.distance)
    points = (flat[:, :, None, :3, 3] + distance[..., None] * rays).unflatten(1, (candidates, views))
    depth = distance.unflatten(1, (candidates, views))

    other, camera = poses[:, :, 1:], K[:, None, 1:]
    local = (points[:, :, :-1] - other[..., None, :3, 3]) @ other[..., :3, :3]
    z = local[..., 2]
    image = local[..., :2] / z.clamp(min=1e-3)[..., None]
    x = image[..., 0] * camera[..., 0, 0, None] + camera[..., 0, 2, None]
    y = image[..., 1] * camera[..., 1, 1, None] + camera[..., 1, 2, None]
    column = ((x + 0.5) * COLUMNS / width).floor().long()
    row = ((y + 0.5) * ROWS / height).floor().long()
    inside = (z > 1e-2) & (column >= 0) & (column < COLUMNS) & (row >= 0) & (row < ROWS)
    cell = row.clamp(0, ROWS - 1) * COLUMNS + column.clamp(0, COLUMNS - 1)
    there = depth[:, :, 1:].gather(-1, cell)
    same = inside & ((there - z).abs() < SAME * z)
    known = seen[:, :, :-1]
    count = known.sum(-1)
    share = (same & known).sum(-1) / count.clamp(min=1)
    return torch.where(count > ROWS * COLUMNS // 10, share, torch.zeros_like(share))
