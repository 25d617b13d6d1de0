"""How good a network is on scenes with known truth: neighbouring cameras, and depth after one scale a scene."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spatial_fm_ros.core.models.vggt.network import VggtOutput
from spatial_fm_ros.core.models.vit import pose_encoding
from spatial_fm_ros.training.targets import Targets

#: Neighbours nearer to each other than this share of the mean distance have no direction worth measuring.
LEAST_BASELINE = 0.01


@torch.no_grad()
def measures(output: VggtOutput, wanted: Targets, size: tuple[int, int]) -> dict[str, Tensor]:
    """Of what can be measured, flat: `rotation`, `direction` degrees of neighbours, `absrel` of scenes; `turns` [n, 2],
    found and true, of neighbours about each axis."""
    assert output.pose_enc is not None and output.depth is not None
    found, _ = pose_encoding.decode(output.pose_enc.double(), size)
    truth, _ = pose_encoding.decode(wanted.pose_enc.double(), size)
    between, true_between = _neighbours(found), _neighbours(truth)
    turn = between[..., :3, :3].transpose(-1, -2) @ true_between[..., :3, :3]
    trace = turn.diagonal(dim1=-2, dim2=-1).sum(-1)
    rotation = torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))
    step, true_step = between[..., :3, 3], true_between[..., :3, 3]
    cosine = (step * true_step).sum(-1) / (step.norm(dim=-1) * true_step.norm(dim=-1)).clamp(min=1e-9)
    direction = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    usable = wanted.usable[:, None].expand_as(rotation)
    moved = usable & (true_step.norm(dim=-1) > LEAST_BASELINE)
    ratios = [
        _absrel(depth[valid], true[valid])
        for depth, true, valid in zip(output.depth[..., 0].float(), wanted.depth, wanted.valid, strict=True)
    ]
    return {
        "rotation": rotation[usable],
        "direction": direction[moved],
        "absrel": torch.stack(ratios)[wanted.usable],
        "turns": torch.stack([_turn(between), _turn(true_between)], dim=-1)[usable].flatten(0, 1),
    }


def summary(parts: list[dict[str, Tensor]]) -> dict[str, float]:
    """Medians over several batches, and `following`, the correlation of found with true turns; NaN for none.

    A network that always says the same has medians, too; the correlation tells earlier than they do that it has
    begun to see how cameras turn.
    """
    result = {}
    for name in ("rotation", "direction", "absrel"):
        every = torch.cat([part[name] for part in parts])
        result[name] = float(every.float().median()) if len(every) else math.nan
    turns = torch.cat([part["turns"] for part in parts])
    result["following"] = float(torch.corrcoef(turns.T)[0, 1]) if len(turns) > 1 else math.nan
    return result


def _turn(pose: Tensor) -> Tensor:
    """Sines of turns [..., 3] about the camera's axes, from the part of a rotation that is not symmetric."""
    R = pose[..., :3, :3]
    return (
        torch.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], dim=-1) / 2
    )


def _neighbours(camera_from_world: Tensor) -> Tensor:
    """Pose [B, V - 1, 4, 4] of every camera in the one before it."""
    inverse = pose_encoding.inverse_pose(camera_from_world)
    bottom = inverse.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*camera_from_world.shape[:-2], 1, 4)
    whole = torch.cat([camera_from_world, bottom], dim=-2)
    return whole[:, :-1] @ inverse[:, 1:]


def _absrel(depth: Tensor, truth: Tensor) -> Tensor:
    if len(depth) == 0:
        return torch.tensor(math.nan, device=depth.device)
    scale = (truth / depth.clamp(min=1e-6)).median()
    return ((scale * depth - truth).abs() / truth).mean()
