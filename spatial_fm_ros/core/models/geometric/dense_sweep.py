"""Plane sweep: how well source views agree with a reference view at hypothetical inverse depths.

A reference pixel p at inverse depth w is seen by a source at A(p) + w e with A = K_s R K_r^-1 p and
e = K_s t (Collins 1996; Gallup et al. 2007): one product per view pair and one addition per
hypothesis. Agreement is normalised cross-correlation of images whitened by their local mean and
deviation, so exposure and gain cancel; noise in the whitening keeps weak texture from looking sure.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Grey levels below which local contrast is taken for sensor noise.
NOISE_LEVEL = 2.0
#: One pixel's whitened product counts within these bounds.
PRODUCT_BOUNDS = (-1.0, 1.5)
#: Added to the mean energy of warped sources (about 1 where all see texture) before dividing by it.
ENERGY_FLOOR = 0.1


def box_mean(values: Tensor, radius: int) -> Tensor:
    """Mean over (2 radius + 1)^2 windows of the last two axes of [..., h, w]; outside counts as zero."""
    size = 2 * radius + 1
    height, width = values.shape[-2:]
    padded = F.pad(values, (radius, radius, radius, radius))
    rows = padded[..., 0:width].clone()
    for shift in range(1, size):
        rows += padded[..., shift : shift + width]
    out = rows[..., 0:height, :].clone()
    for shift in range(1, size):
        out += rows[..., shift : shift + height, :]
    return out.mul_(1.0 / size**2)


def whiten(grey: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Locally normalised images and local contrast, both [N, h, w], of grey levels [N, h, w]."""
    inside = box_mean(torch.ones_like(grey[:1]), radius)
    mean = box_mean(grey, radius) / inside
    variance = (box_mean(grey * grey, radius) / inside - mean * mean).clamp_min(0.0)
    return (grey - mean) / (variance + NOISE_LEVEL**2).sqrt(), variance.sqrt()


def pixel_rays(height: int, width: int, K: Tensor) -> Tensor:
    """Rays [3, h, w] with z = 1 through the pixel centres (integers)."""
    v, u = torch.meshgrid(
        torch.arange(height, dtype=K.dtype, device=K.device),
        torch.arange(width, dtype=K.dtype, device=K.device),
        indexing="ij",
    )
    ones = torch.ones_like(u)
    return torch.einsum("ij,jhw->ihw", torch.linalg.inv(K), torch.stack((u, v, ones)))


def unit_square(K: Tensor, height: int, width: int) -> Tensor:
    """K that projects to [-1, 1] at the outer pixel centres, what grid_sample(align_corners=True) wants."""
    to_unit = torch.tensor(
        [[2.0 / (width - 1), 0.0, -1.0], [0.0, 2.0 / (height - 1), -1.0], [0.0, 0.0, 1.0]],
        dtype=K.dtype,
        device=K.device,
    )
    return to_unit @ K


def pair_warp(K_ref: Tensor, K_src: Tensor, src_from_ref: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(A [3, h, w], e [3]) float32: homogeneous source position of a reference pixel is A + w e.

    K [3, 3] and src_from_ref [4, 4] are float64; positions are in grid_sample's unit square.
    """
    height, width = size
    projection = unit_square(K_src, height, width)
    rotated = torch.einsum("ij,jhw->ihw", projection @ src_from_ref[:3, :3], pixel_rays(height, width, K_ref))
    return rotated.float(), (projection @ src_from_ref[:3, 3]).float()


def sample_positions(A: Tensor, e: Tensor, inverse_depth: Tensor) -> Tensor:
    """Positions [D, h, w, 2] in the source's unit square for inverse depths [D, 1, 1] or [D, h, w]."""
    depth = (A[2] + inverse_depth * e[2]).clamp_min_(1e-6)
    positions = torch.empty((*depth.shape, 2), dtype=depth.dtype, device=depth.device)
    torch.div(A[0] + inverse_depth * e[0], depth, out=positions[..., 0])
    torch.div(A[1] + inverse_depth * e[1], depth, out=positions[..., 1])
    return positions


def warp(source: Tensor, positions: Tensor) -> Tensor:
    """Source image [h, w] looked up at [D, h, w, 2]; zero where it does not see: no evidence."""
    planes, height, width, _ = positions.shape
    flat = positions.reshape(1, planes * height, width, 2)
    return F.grid_sample(source[None, None], flat, align_corners=True)[0, 0].reshape(planes, height, width)


def agreement(
    reference: Tensor,
    sources: Tensor,
    warps: list[tuple[Tensor, Tensor]],
    inverse_depth: Tensor,
    radii: tuple[int, ...],
    chunk: int = 8,
) -> Tensor:
    """Correlation [D, h, w] of the whitened reference [h, w] with its whitened sources [S, h, w].

    `inverse_depth` is [D, 1, 1] (planes) or [D, h, w] (around a surface). The product of each pixel
    is bounded, so that one hidden or glossy view cannot outvote the others, averaged over the
    sources (one that does not see the point adds zero: no evidence) and then over box windows of
    the given radii, one after the other. The warped sources' energy is divided out: interpolation
    between pixels takes contrast away, and would otherwise lock depths to whole-pixel shifts.
    """
    parts = []
    for start in range(0, len(inverse_depth), chunk):
        hypotheses = inverse_depth[start : start + chunk]
        total = torch.zeros(len(hypotheses), *reference.shape, device=reference.device)
        energy = torch.zeros_like(total)
        for source, (A, e) in zip(sources, warps, strict=True):
            warped = warp(source, sample_positions(A, e, hypotheses))
            energy.addcmul_(warped, warped)
            total.add_(warped.mul_(reference).clamp_(*PRODUCT_BOUNDS))
        for radius in radii:
            total, energy = box_mean(total, radius), box_mean(energy, radius)
        count = float(len(warps))
        parts.append(total.mul_((energy.div_(count).add_(ENERGY_FLOOR)).rsqrt_()).div_(count))
    return torch.cat(parts)
