"""From a cost volume to one inverse depth per pixel: semi-global smoothing, best plane, sub-plane peak."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def semi_global(cost: Tensor, guide: Tensor, small_step: float, large_step: float) -> Tensor:
    """Semi-global sum (Hirschmueller 2008) of costs [D, h, w] along both axes, both ways: [D, h, w].

    Neighbours one plane apart pay `small_step`, farther apart `large_step`, less across edges of the
    guide image [h, w] (grey levels). The result is the mean of four path costs.
    """
    across = _both_ways(cost.permute(2, 1, 0), guide.T, small_step, large_step).permute(2, 1, 0)
    down = _both_ways(cost.permute(1, 2, 0), guide, small_step, large_step).permute(2, 0, 1)
    return (across + down).mul_(0.25)


def _both_ways(cost: Tensor, guide: Tensor, small_step: float, large_step: float) -> Tensor:
    """Path costs summed forward and backward along axis 0 of [L, M, D], guide [L, M]."""
    length, lines, planes = cost.shape
    both = torch.stack((cost, cost.flip(0)), 1)  # [L, 2, M, D]: one loop serves both ways
    edge = (guide[1:] - guide[:-1]).abs()
    jump = large_step / (1.0 + edge / 10.0)
    jump = jump.clamp_min(2.0 * small_step)
    jumps = torch.stack((jump, jump.flip(0)), 1)[..., None]  # [L-1, 2, M, 1]
    path = both[0].clone()
    total = torch.empty_like(both)
    total[0] = path
    for step in range(1, length):
        lowest = path.amin(-1, keepdim=True)
        neighbour = F.pad(path, (1, 1), value=torch.inf)
        near = torch.minimum(neighbour[..., 2:], neighbour[..., :-2]).add_(small_step)
        reached = torch.minimum(torch.minimum(path, near), lowest + jumps[step - 1])
        path = reached.sub_(lowest).add_(both[step])
        total[step] = path
    return total[:, 0] + total[:, 1].flip(0)


def best_plane(cost: Tensor, apart: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """(position, lowest cost, lowest cost more than `apart` planes away), each [h, w], of [D, h, w].

    Position is the fractional plane index at the vertex of a parabola through the best plane and its
    two neighbours.
    """
    planes = len(cost)
    lowest, index = cost.min(0)
    centre = index.clamp(1, planes - 2)
    left = cost.gather(0, (centre - 1)[None])[0]
    middle = cost.gather(0, centre[None])[0]
    right = cost.gather(0, (centre + 1)[None])[0]
    curvature = left - 2.0 * middle + right
    offset = torch.where(curvature > 1e-9, 0.5 * (left - right) / curvature.clamp_min(1e-9), torch.zeros_like(left))
    position = torch.where(index == centre, centre + offset.clamp(-0.5, 0.5), index.to(cost.dtype))
    number = torch.arange(planes, device=cost.device)[:, None, None]
    second = cost.masked_fill((number - index).abs() <= apart, torch.inf).amin(0)
    return position, lowest, second
