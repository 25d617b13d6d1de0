"""Inverse-depth images as surfaces: smoothing that keeps slopes and steps, enlarging, steepness."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spatial_fm_ros.core.models.geometric.dense_sweep import box_mean

#: Steepest slope followed, in multiples of the tolerance a pixel.
STEEPEST = 2.0


def smooth_planar(surface: Tensor, radius: int, tolerance: float, passes: int = 1) -> Tensor:
    """Mean over (2 radius + 1)^2 windows of [h, w], along the local slope, of those within `tolerance` of it.

    Planes are planes in inverse depth too, so slanted surfaces keep their slope while the terraces
    that whole planes leave on them go; values beyond a step of depth take no part.
    """
    height, width = surface.shape
    for _ in range(passes):
        across, down = _slopes(surface, radius, STEEPEST * tolerance)
        padded = F.pad(surface[None, None], (radius, radius, radius, radius), mode="replicate")[0, 0]
        total, count = torch.zeros_like(surface), torch.zeros_like(surface)
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                there = padded[dy + radius : dy + radius + height, dx + radius : dx + radius + width]
                here = there - across * dx - down * dy
                near = ((here - surface).abs() < tolerance).to(surface.dtype)
                total.addcmul_(near, here)
                count.add_(near)
        surface = torch.where(count > 0, total / count.clamp_min(1.0), surface)
    return surface


def _slopes(surface: Tensor, radius: int, steepest: float) -> tuple[Tensor, Tensor]:
    """Slopes per pixel along columns and rows: windowed means of differences without those that jump,
    then without those far from that mean."""
    across, down = torch.zeros_like(surface), torch.zeros_like(surface)
    across[:, 1:-1] = 0.5 * (surface[:, 2:] - surface[:, :-2])
    down[1:-1] = 0.5 * (surface[2:] - surface[:-2])
    slopes = []
    for difference in (across, down):
        mean = _mean_where(difference, difference.abs() < steepest, radius)
        slopes.append(_mean_where(difference, (difference - mean).abs() < steepest / 3, radius))
    return slopes[0], slopes[1]


def _mean_where(values: Tensor, kept: Tensor, radius: int) -> Tensor:
    """Mean over windows of the kept values; zero where none is kept."""
    weight = kept.to(values.dtype)
    return box_mean(values * weight, radius) / box_mean(weight, radius).clamp_min(1e-6)


def enlarge(surface: Tensor, step_above: float, size: tuple[int, int]) -> Tensor:
    """[h, w] to `size`: linear on smooth surfaces, nearest where 3x3 pixels differ by more than `step_above`:
    there is no surface between the two sides of a step."""
    linear = F.interpolate(surface[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    return torch.where(repeat(spread(surface), size) < step_above, linear, repeat(surface, size))


def repeat(values: Tensor, size: tuple[int, int]) -> Tensor:
    """[h, w] to `size` by nearest neighbour."""
    return F.interpolate(values[None, None], size=size, mode="nearest")[0, 0]


def spread(values: Tensor) -> Tensor:
    """Largest minus smallest value in 3x3 windows of [h, w]."""
    high = F.max_pool2d(values[None, None], 3, 1, 1)[0, 0]
    low = -F.max_pool2d(-values[None, None], 3, 1, 1)[0, 0]
    return high - low
