"""Do the depths of different views tell the same surface? Agreement, contradiction, and their average."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spatial_fm_ros.core.models.geometric.dense_sweep import pair_warp, sample_positions

#: Relative depth difference that counts as the same surface, and as very well the same.
SAME = 0.03
CLOSE = 0.01


@dataclass(frozen=True)
class CrossView:
    """What the other views say about each pixel of one view, all float32 [h, w]."""

    same: Tensor  # number of views whose own depth is within SAME
    close: Tensor  # number of views within CLOSE
    through: Tensor  # number of views that see past the point to something farther: contradictions
    seen: Tensor  # number of views whose image and depth cover the point
    inverse_depth: Tensor  # averaged over the view itself and all that agree


def cross_view(view: int, inverse_depths: Tensor, K: Tensor, world_from_camera: Tensor) -> CrossView:
    """Compare one view with all others.

    inverse_depths float32 [N, h, w] (0 = unknown), K float64 [N, 3, 3], world_from_camera float64
    [N, 4, 4]. Depths are compared in the other view's frame, at its nearest pixel.
    """
    views, height, width = inverse_depths.shape
    own = inverse_depths[view]
    zero = torch.zeros_like(own)
    same, close, through, seen, shift = zero.clone(), zero.clone(), zero.clone(), zero.clone(), zero.clone()
    known = own > 0
    for other in range(views):
        if other == view:
            continue
        other_from_view = torch.linalg.inv(world_from_camera[other]) @ world_from_camera[view]
        A, e = pair_warp(K[view], K[other], other_from_view, (height, width))
        positions = sample_positions(A, e, own[None])
        found = F.grid_sample(inverse_depths[other][None, None], positions, mode="nearest", align_corners=True)[0, 0]
        # a point at inverse depth w keeps z w = A_z + w e_z in the other frame
        expected = own / (A[2] + own * e[2]).clamp_min(1e-6)
        valid = known & (found > 0)
        difference = torch.where(valid, found / expected.clamp_min(1e-12) - 1.0, zero)
        agrees = valid & (difference.abs() < SAME)
        seen += valid
        same += agrees
        close += valid & (difference.abs() < CLOSE)
        through += valid & (difference < -SAME)
        shift += torch.where(agrees, difference, zero)
    return CrossView(same, close, through, seen, own * (1.0 + shift / (1.0 + same)))
