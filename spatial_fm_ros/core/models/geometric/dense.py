"""Dense depth of a window with known cameras: multi-view plane-sweep stereo in torch.

Each view is swept over inverse depths between its sparse points' extremes at half the grid's
resolution (agreement of the best two of up to four sources, semi-global smoothing), refined around
that surface at the grid's resolution, compared with the depths of all other views, and given a
confidence: the calibrated chance of lying within 5 % of the truth. What nothing supports stays NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatial_fm_ros.core.config import GeometricConfig
from spatial_fm_ros.core.models.geometric.dense_aggregate import best_plane, semi_global
from spatial_fm_ros.core.models.geometric.dense_confidence import FEATURES, calibrated
from spatial_fm_ros.core.models.geometric.dense_consistency import cross_view
from spatial_fm_ros.core.models.geometric.dense_surface import enlarge, repeat, smooth_planar, spread
from spatial_fm_ros.core.models.geometric.dense_sweep import agreement, box_mean, pair_warp, sample_positions, whiten
from spatial_fm_ros.core.models.geometric.dense_views import ViewPlan, plan_views, project
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.types import Array, Camera, Depth, Image

#: Radius of whitening; radii of the boxes that agreement is averaged over, coarse and fine.
WHITEN_RADIUS = 2
COARSE_RADII, FINE_RADII = (2, 1), (3, 2)
SMALL_STEP, LARGE_STEP = 0.08, 0.6
#: Hypotheses to each side of the surface and their spacing in coarse planes, pass by pass.
FINE_PASSES = ((3, 1 / 3), (2, 1 / 4))
FEWEST_PLANES, MOST_PLANES = 16, 128
#: Chances below this are reported as unknown depth.
KNOWN = 0.1


@dataclass(frozen=True, eq=False)
class Swept:
    """One view after its own sweep, before other views are asked: inverse_depth [h, w] in the gauge it was
    made in (0 unknown) and its rows of the features [F, h, w]."""

    inverse_depth: Tensor
    features: Tensor

    def in_gauge(self, unit: float) -> Swept:
        """The same in a gauge whose unit of length is `unit` of this one's."""
        return Swept(self.inverse_depth * unit, self.features)


@dataclass(frozen=True)
class Evidence:
    """What the sweep found before it is judged: inverse_depth [N, h, w] (0 unknown), features [N, F, h, w]."""

    inverse_depth: Tensor
    features: Tensor
    K: Array
    swept: tuple[Swept, ...]


@dataclass(frozen=True, eq=False)
class DenseDepth:
    """depth [N, h, w] (NaN unknown), confidence [N, h, w] (0 where unknown), K [N, 3, 3] of that grid."""

    depth: Depth
    confidence: Depth
    K: Array
    swept: tuple[Swept, ...]


def estimate_depth(
    images: Image,
    K: Array,
    world_from_camera: Array,
    points: Array,
    visibility: NDArray[np.bool_],
    config: GeometricConfig,
    device: str | torch.device = "cpu",
    tasks: Tasks | None = None,
    known: Mapping[int, Swept] | None = None,
) -> DenseDepth:
    """Depth and confidence of every posed view of a window.

    images uint8 [N, H, W, 3] RGB pinhole; K float64 [N, 3, 3]; world_from_camera float64 [N, 4, 4]
    in the gauge of points float64 [M, 3] with visibility bool [N, M] (the views each was matched in).
    Views in `known` are not swept again: a window before has done it, in this gauge's unit. Depth is
    float32 along z in gauge units, confidence float32 in [0, 1].
    """
    evidence = gather_evidence(
        images, K, world_from_camera, points, visibility, config, device, tasks or Tasks(), known or {}
    )
    confidence = calibrated(evidence.features)
    sure = (evidence.inverse_depth > 0) & (confidence >= KNOWN)
    depth = torch.where(sure, 1.0 / evidence.inverse_depth, torch.nan)
    confidence = torch.where(sure, confidence, 0.0)
    return DenseDepth(depth.cpu().numpy(), confidence.cpu().numpy(), evidence.K, evidence.swept)


def grid_size(image_height: int, image_width: int, config: GeometricConfig) -> tuple[int, int]:
    """(height, width) of the depth grid: even, so that the coarse grid is exactly half."""
    scale = min(1.0, config.dense_width / max(image_height, image_width))
    return max(16, 2 * round(0.5 * image_height * scale)), max(16, 2 * round(0.5 * image_width * scale))


def prepared(
    images: Image,
    K: Array,
    world_from_camera: Array,
    points: Array,
    visibility: NDArray[np.bool_],
    config: GeometricConfig,
    device: str | torch.device,
) -> tuple[Image, Level, Tensor, list[ViewPlan | None]]:
    """Grey images [N, H, W], their level of the depth grid's size, poses float64 [N, 4, 4] on the device and what each
    view is compared with; arguments as `estimate_depth`."""
    full_height, full_width = images.shape[1:3]
    height, width = grid_size(full_height, full_width, config)
    grey = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images])
    level = Level.of(grey, K, width, height, device)
    poses = torch.as_tensor(world_from_camera, dtype=torch.float64, device=device)
    plans = plan_views(points, visibility, world_from_camera, K, (full_height, full_width), config.dense_sources)
    return grey, level, poses, plans


@torch.inference_mode()
def gather_evidence(
    images: Image,
    K: Array,
    world_from_camera: Array,
    points: Array,
    visibility: NDArray[np.bool_],
    config: GeometricConfig,
    device: str | torch.device,
    tasks: Tasks,
    known: Mapping[int, Swept],
) -> Evidence:
    """Sweep, refine and compare all views; arguments as `estimate_depth`."""
    views, full_height, full_width = images.shape[:3]
    height, width = grid_size(full_height, full_width, config)
    grey, fine, poses, plans = prepared(images, K, world_from_camera, points, visibility, config, device)
    coarse = Level.of(grey, K, width // 2, height // 2, device)
    inverse = torch.zeros((views, height, width), device=device)
    features = torch.zeros((views, len(FEATURES), height, width), device=device)
    planned = [(view, plan) for view, plan in enumerate(plans) if plan is not None]

    def sweep(item: tuple[int, ViewPlan]) -> None:
        view, plan = item
        if view in known:
            inverse[view], features[view] = known[view].inverse_depth, known[view].features
        else:
            inverse[view] = _view_depth(view, plan, coarse, fine, poses, features[view])

    def compare(item: tuple[int, ViewPlan]) -> None:
        view, _ = item
        others = cross_view(view, inverse, fine.K, poses)
        fused[view] = others.inverse_depth
        for name in ("same", "close", "through", "seen"):
            features[view, FEATURES.index(name)] = getattr(others, name)
        features[view, FEATURES.index("around")] = box_mean((others.same >= 2).float(), 2)
        features[view, FEATURES.index("sparse")] = _sparse_agreement(
            inverse[view], points[visibility[view]], world_from_camera[view], fine.K[view].cpu().numpy()
        )

    tasks.map(sweep, planned)
    swept = tuple(Swept(inverse[view].clone(), features[view].clone()) for view in range(views))
    fused = inverse.clone()
    tasks.map(compare, planned)
    return Evidence(fused, features, fine.K.cpu().numpy(), swept)


@dataclass(frozen=True)
class Level:
    """All views at one resolution: grey and whitened images, local contrast [N, h, w], K [N, 3, 3]."""

    grey: Tensor
    white: Tensor
    contrast: Tensor
    K: Tensor

    @property
    def size(self) -> tuple[int, int]:
        return self.grey.shape[1], self.grey.shape[2]

    @staticmethod
    def of(grey: Image, K: Array, width: int, height: int, device: str | torch.device) -> Level:
        small = np.stack([cv2.resize(g, (width, height), interpolation=cv2.INTER_AREA) for g in grey])
        full_height, full_width = grey.shape[1:]
        K_small = np.stack([Camera(full_width, full_height, k).resized(width, height).K for k in K])
        level = torch.as_tensor(small, device=device).float()
        white, contrast = whiten(level, WHITEN_RADIUS)
        return Level(level, white, contrast, torch.as_tensor(K_small, device=device))

    def warps(self, view: int, sources: tuple[int, ...], poses: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [
            pair_warp(self.K[view], self.K[s], torch.linalg.inv(poses[s]) @ poses[view], self.size) for s in sources
        ]


def _view_depth(view: int, plan: ViewPlan, coarse: Level, fine: Level, poses: Tensor, features: Tensor) -> Tensor:
    """Inverse depth [h, w] of one view; fills its rows of the features [F, h, w]."""
    sources = list(plan.sources)
    warps = coarse.warps(view, plan.sources, poses)
    planes = int(np.clip(_sweep_length(warps, plan, coarse.size) + 1, FEWEST_PLANES, MOST_PLANES))
    w = torch.linspace(plan.far, plan.near, planes, device=fine.grey.device)
    step = (plan.near - plan.far) / (planes - 1)
    score = agreement(coarse.white[view], coarse.white[sources], warps, w[:, None, None], COARSE_RADII)
    cost = 1.0 - score.clamp_min_(0.0)
    smooth = semi_global(cost, coarse.grey[view], SMALL_STEP, LARGE_STEP)
    position, best, second = best_plane(smooth)
    surface = plan.far + step * position

    surface = smooth_planar(surface, 3, 2.0 * step, passes=2)

    inverse = enlarge(surface, 1.5 * step, fine.size)
    fine_warps = fine.warps(view, plan.sources, poses)
    for count, spacing in FINE_PASSES:
        offsets = torch.arange(-count, count + 1, device=inverse.device) * (step * spacing)
        hypotheses = (inverse[None] + offsets[:, None, None]).clamp_min(0.25 * plan.far)
        fine_cost = 1.0 - agreement(fine.white[view], fine.white[sources], fine_warps, hypotheses, FINE_RADII)
        position, lowest, _ = best_plane(fine_cost)
        inverse = (inverse + (position - count) * (step * spacing)).clamp_min(0.25 * plan.far)
        inverse = smooth_planar(inverse, 2, 0.5 * step)

    filled = {
        "score": 1.0 - lowest,
        "margin": repeat(second - best, fine.size),
        "coarse": repeat(1.0 - best, fine.size),
        "contrast": torch.log2(1.0 + fine.contrast[view]),
        "sensitivity": _sensitivity(fine_warps, inverse),
        "edge": spread(inverse) / inverse,
    }
    for name, value in filled.items():
        features[FEATURES.index(name)] = value
    return inverse


def _sensitivity(warps: list[tuple[Tensor, Tensor]], inverse: Tensor) -> Tensor:
    """Pixels [h, w] by which the sources' positions move when a depth changes by 5 %, root sum of squares."""
    height, width = inverse.shape
    moved = torch.zeros_like(inverse)
    for A, e in warps:
        here, nearer = sample_positions(A, e, torch.stack((inverse, 1.05 * inverse)))
        way = here.clamp_(-1.0, 1.0).sub_(nearer.clamp_(-1.0, 1.0)).square_()
        moved += way[..., 0] * (0.25 * width**2) + way[..., 1] * (0.25 * height**2)
    return moved.sqrt_()


def _sweep_length(warps: list[tuple[Tensor, Tensor]], plan: ViewPlan, size: tuple[int, int]) -> float:
    """Pixels the longest epipolar segment between near and far covers, over a coarse raster of pixels."""
    height, width = size
    longest = 0.0
    for A, e in warps:
        some = A[:, height // 8 :: height // 4, width // 8 :: width // 4]
        ends = [some + w * e[:, None, None] for w in (plan.near, plan.far)]
        ends = [end[:2] / end[2].clamp_min(1e-3) for end in ends]
        # outside the image the way does not matter
        way = 0.5 * (ends[0].clamp(-1.2, 1.2) - ends[1].clamp(-1.2, 1.2))
        longest = max(longest, float(torch.hypot(way[0] * width, way[1] * height).quantile(0.8)))
    return longest


def _sparse_agreement(inverse: Tensor, points: Array, world_from_camera: Array, K: Array) -> float:
    """Share of the view's own sparse points that its dense depth meets within 5 %."""
    pixels, depth = project(points, world_from_camera[None], K[None])
    height, width = inverse.shape
    u, v = np.rint(np.nan_to_num(pixels[0], nan=-1.0)).astype(int).T
    inside = (depth[0] > 0) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
    if not inside.any():
        return 0.0
    found = inverse.cpu().numpy()[v[inside], u[inside]]
    return float(np.mean(np.abs(found * depth[0][inside] - 1.0) < 0.05))
