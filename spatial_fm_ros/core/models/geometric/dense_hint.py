"""Depth searched around a surface that something else expects: images decide within its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatial_fm_ros.core.config import GeometricConfig
from spatial_fm_ros.core.models.geometric.dense import FINE_RADII, Level, prepared
from spatial_fm_ros.core.models.geometric.dense_aggregate import best_plane
from spatial_fm_ros.core.models.geometric.dense_surface import smooth_planar
from spatial_fm_ros.core.models.geometric.dense_sweep import agreement
from spatial_fm_ros.core.models.geometric.dense_views import ViewPlan
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.types import Array, Depth, Image

#: What a hypothesis far from a hint costs beyond one that meets it, in units of correlation.
STRAYING = 0.15
#: Hypotheses to each side of a hint, their spacing in its standard deviations, and the step, in spacings, up to which
#: neighbours are one surface.
SIDE, SPACING, SMOOTHED = 3, 0.5, 0.6


@dataclass(frozen=True, eq=False)
class DepthHint:
    """Expected depth of one view: inverse_depth float32 [h, w] in gauge units (0 unknown) and the standard
    deviation of its logarithm, sigma float32 [h, w]."""

    inverse_depth: Tensor
    sigma: Tensor

    def penalty(self, hypotheses: Tensor) -> Tensor:
        """Costs [D, h, w] of inverse depths [D, h, w]: 0 at the hint, STRAYING at most far from it."""
        apart = torch.log(hypotheses / self.inverse_depth) / self.sigma
        return apart.square_().mul_(-0.5).exp_().mul_(-STRAYING).add_(STRAYING)


@torch.inference_mode()
def search_around(
    hints: Mapping[int, DepthHint],
    images: Image,
    K: Array,
    world_from_camera: Array,
    points: Array,
    visibility: NDArray[np.bool_],
    config: GeometricConfig,
    device: str | torch.device,
    tasks: Tasks,
) -> dict[int, Depth]:
    """Depth float32 [h, w] (NaN where the hint knows none) of the views with hints, in the gauge of `points`.

    Other arguments as `dense.estimate_depth`. Views that no other view sees under parallax are left out.
    """
    _, level, poses, plans = prepared(images, K, world_from_camera, points, visibility, config, device)
    wanted = [(view, plan, hints[view]) for view, plan in enumerate(plans) if plan is not None and view in hints]
    found = tasks.map(lambda item: _searched(item[0], item[1], item[2], level, poses), wanted)
    return {view: depth.cpu().numpy() for (view, _, _), depth in zip(wanted, found, strict=True)}


def _searched(view: int, plan: ViewPlan, hint: DepthHint, level: Level, poses: Tensor) -> Tensor:
    known = hint.inverse_depth > 0
    start = torch.where(known, hint.inverse_depth, plan.far)
    hint = DepthHint(start, hint.sigma)
    warps = level.warps(view, plan.sources, poses)
    steps = torch.arange(-SIDE, SIDE + 1, device=start.device)[:, None, None]
    hypotheses = start * torch.exp(steps * (SPACING * hint.sigma))
    cost = 1.0 - agreement(level.white[view], level.white[list(plan.sources)], warps, hypotheses, FINE_RADII)
    position, _, _ = best_plane(cost.add_(hint.penalty(hypotheses)))
    inverse = start * torch.exp((position - SIDE) * (SPACING * hint.sigma))
    tolerance = SMOOTHED * SPACING * float((hint.sigma * start)[known].median()) if known.any() else 0.0
    inverse = smooth_planar(inverse, 2, tolerance)
    return torch.where(known, 1.0 / inverse, torch.nan)
