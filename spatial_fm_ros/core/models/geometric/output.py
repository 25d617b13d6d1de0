"""From solved views to the Prediction of a window: normal gauge, depth, state and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from spatial_fm_ros.core.config import GeometricConfig
from spatial_fm_ros.core.models.geometric.assistance import Assistance
from spatial_fm_ros.core.models.geometric.dense import estimate_depth, grid_size
from spatial_fm_ros.core.models.geometric.dense_hint import DepthHint, search_around
from spatial_fm_ros.core.models.geometric.dense_views import project
from spatial_fm_ros.core.models.geometric.local_map import View
from spatial_fm_ros.core.models.geometric.matching import PairGeometry
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.models.geometric.rotation_only import chain_rotations
from spatial_fm_ros.core.models.geometric.structure import Structure
from spatial_fm_ros.core.models.geometric.triangulation import parallax_angles
from spatial_fm_ros.core.types import Array, Camera, Depth, Prediction, WindowState

STEREO_PARALLAX_DEG = 2.0  # below this a window borrows older views for its depth
BORROWED_VIEWS = 3
Pairs = Mapping[tuple[int, int], PairGeometry]


def structured(
    views: Sequence[View],
    first: int,
    pairs: Pairs,
    structure: Structure,
    config: GeometricConfig,
    device: torch.device,
    tasks: Tasks,
    assistance: Assistance | None = None,
) -> Prediction:
    """Prediction of views[first:] with depth. The gauge: first posed camera, median sparse depth 1."""
    count = len(views) - first
    posed = structure.posed[first:]
    visible = structure.visibility()
    origin = first + int(posed.argmax())
    first_camera = structure.camera_from_world[origin]
    camera_from_world = structure.camera_from_world @ np.linalg.inv(first_camera)
    points = structure.points @ first_camera[:3, :3].T + first_camera[:3, 3]
    seen = points[visible[first:].any(0)]
    depths = [
        (seen_by @ camera_from_world[i, 2, :3] + camera_from_world[i, 2, 3])
        for i in range(first, len(views))
        if structure.posed[i] and len(seen_by := points[visible[i]])
    ]
    unit = float(np.median(np.concatenate(depths))) if depths else 1.0
    world_from_camera = np.asarray(np.linalg.inv(camera_from_world), dtype=np.float64)
    world_from_camera[:, :3, 3] /= unit
    points = points / unit

    inside = structure.tracks.view >= first
    angles = parallax_angles(structure.tracks, structure.camera_from_world, structure.points, inside)
    angles = angles[visible[first:].sum(0) >= 2]
    parallax = float(np.median(angles)) if len(angles) else 0.0
    older = np.flatnonzero(structure.posed[:first])
    borrowed = older[-BORROWED_VIEWS:] if parallax < STEREO_PARALLAX_DEG else older[:0]
    chosen = np.concatenate((borrowed, first + np.flatnonzero(posed)))
    known = {
        place: swept.in_gauge(unit) for place, i in enumerate(chosen) if (swept := views[i].swept) is not None
    }
    images = np.stack([views[i].keyframe.image for i in chosen])
    seen_from = (images, structure.K[chosen], world_from_camera[chosen], points, visible[chosen], config)
    dense = estimate_depth(*seen_from, device=device, tasks=tasks, known=known)
    for i, swept in zip(chosen, dense.swept, strict=True):
        # A view without a camera of its own may be solved with another focal length next time.
        lasting = views[i].keyframe.camera is not None and bool(swept.inverse_depth.any())
        views[i].swept = swept.in_gauge(1.0 / unit) if lasting else None
    depth, confidence, K_grid = (part[len(borrowed) :] for part in (dense.depth, dense.confidence, dense.K))
    all_K = np.tile(K_grid[0], (count, 1, 1))
    all_depth = np.full((count, *depth.shape[1:]), np.nan, dtype=np.float32)
    all_confidence = np.zeros_like(all_depth)
    all_K[posed], all_depth[posed], all_confidence[posed] = K_grid, depth, confidence
    if assistance is not None:
        place_of = {int(i) - first: place for place, i in enumerate(chosen)}

        def search(hints: Mapping[int, DepthHint]) -> Mapping[int, Depth]:
            here = {place_of[view]: hint for view, hint in hints.items() if view in place_of}
            found = search_around(here, *seen_from, device=device, tasks=tasks)
            return {int(chosen[place]) - first: depth for place, depth in found.items()}

        sparse = [(np.zeros((0, 2)), np.zeros(0)) for _ in range(count)]
        for view, place in place_of.items():
            if view >= 0:
                i = chosen[place]
                pixels, z = project(points[visible[i]], world_from_camera[i][None], all_K[[view]])
                sparse[view] = (pixels[0][z[0] > 0], z[0][z[0] > 0])
        all_depth, all_confidence = assistance.depth(all_depth, all_confidence, sparse, search)
    poses = world_from_camera[first:].copy()
    poses[~posed] = np.nan
    missing = int((~posed).sum())
    return Prediction(
        world_from_camera=poses,
        K=all_K,
        depth=all_depth,
        confidence=all_confidence,
        posed=posed.copy(),
        note=f"{missing} of {count} keyframes match nothing" if missing else "",
        figures={
            **_figures(views[first:], {(a - first, b - first): p for (a, b), p in pairs.items() if a >= first}),
            "parallax_deg": parallax,
            "tracks": float(len(seen)),
            "reprojection_px": float(np.sqrt(np.mean(structure.error_px[inside] ** 2))),
            "focal_px": float(structure.K[origin, 0, 0]),
        },
        continues=True,
    )


def without_structure(views: Sequence[View], K: Array, pairs: Pairs, config: GeometricConfig) -> Prediction:
    """Prediction of views that share no parallax: orientations where they match, no translation, no depth."""
    camera_from_world, posed = chain_rotations(len(views), pairs)
    if posed.sum() < 2:
        return blank(views, K, WindowState.FAILED, "no two keyframes match", config)
    note = "the camera turned or stood still: no translation, no depth"
    prediction = blank(views, K, WindowState.NO_PARALLAX, note, config)
    prediction.posed[:] = posed
    prediction.world_from_camera[posed] = np.linalg.inv(camera_from_world[posed])
    prediction.figures.update(_figures(views, pairs))
    return prediction


def blank(views: Sequence[View], K: Array, state: WindowState, note: str, config: GeometricConfig) -> Prediction:
    """A prediction that knows nothing but the intrinsics K [N, 3, 3] of the images."""
    full_height, full_width = views[0].keyframe.image.shape[:2]
    height, width = grid_size(full_height, full_width, config)
    depth = np.full((len(views), height, width), np.nan, dtype=np.float32)
    return Prediction(
        world_from_camera=np.full((len(views), 4, 4), np.nan),
        K=np.stack([Camera(full_width, full_height, k).resized(width, height).K for k in K]),
        depth=depth,
        confidence=np.zeros_like(depth),
        posed=np.zeros(len(views), dtype=bool),
        state=state,
        note=note,
        figures={"focal_px": float(K[0, 0, 0])},
    )


def _figures(views: Sequence[View], pairs: Pairs) -> dict[str, float]:
    neighbours = [pairs[i, i + 1] for i in range(len(views) - 1) if (i, i + 1) in pairs]
    ratio = [len(p) / max(p.putative, 1) for p in neighbours]
    return {
        "inlier_ratio": float(np.median(ratio)) if ratio else 0.0,
        "parallax_deg": float(np.median([p.parallax_deg for p in neighbours])) if neighbours else 0.0,
        "parallax_px": float(np.median([p.parallax_px for p in neighbours])) if neighbours else 0.0,
    }
