"""Which views help to see the depth of a view, and between which depths to look: both from sparse points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.types import Array

#: Parallax (degrees) a good source view has at the points it shares with the reference.
GOOD_PARALLAX_DEG = (3.0, 12.0)
#: Below this median parallax a pair of views says nothing useful about depth.
MIN_PARALLAX_DEG = 0.4
MIN_POINTS = 8


@dataclass(frozen=True)
class ViewPlan:
    """How one reference view is swept. Inverse depths in 1 / gauge units, `near` > `far` > 0."""

    sources: tuple[int, ...]  # best first
    near: float
    far: float
    parallax_deg: float  # median over the points of the best source


def project(points: Array, world_from_camera: Array, K: Array) -> tuple[Array, Array]:
    """Pixels [N, M, 2] and depths [N, M] of world points [M, 3] in N views (depth <= 0: behind)."""
    camera_from_world = np.linalg.inv(world_from_camera)
    in_camera = np.einsum("nij,mj->nmi", camera_from_world[:, :3, :3], points)
    in_camera += camera_from_world[:, None, :3, 3]
    depth = in_camera[..., 2]
    safe = np.where(depth > 1e-9, depth, np.nan)
    with np.errstate(invalid="ignore"):
        homogeneous = np.einsum("nij,nmj->nmi", K, in_camera / safe[..., None])
    return homogeneous[..., :2], depth


def parallax_deg(points: Array, centres: Array) -> Array:
    """Angle [N, N, M] in degrees under which two camera centres [N, 3] see each point [M, 3]."""
    rays = points[None] - centres[:, None]
    rays = rays / np.maximum(np.linalg.norm(rays, axis=-1, keepdims=True), 1e-12)
    # atan2 of |difference| and |sum| stays exact for tiny angles, where arccos of the dot product does not
    apart = np.linalg.norm(rays[:, None] - rays[None], axis=-1)
    along = np.linalg.norm(rays[:, None] + rays[None], axis=-1)
    angle: Array = np.degrees(2.0 * np.arctan2(apart, along))
    return angle


def plan_views(
    points: Array,
    visibility: NDArray[np.bool_],
    world_from_camera: Array,
    K: Array,
    size: tuple[int, int],
    max_sources: int,
) -> list[ViewPlan | None]:
    """A plan for every view, None where no other view shows enough parallax or points are too few.

    points [M, 3], visibility [N, M], world_from_camera [N, 4, 4], K [N, 3, 3] of images of `size`
    (height, width). A source is worth the number of the reference's points it sees under good
    parallax; points it was not matched in, but that fall into its image, count less.
    """
    views = len(world_from_camera)
    if views < 2 or len(points) < MIN_POINTS:
        return [None] * views
    height, width = size
    pixels, depth = project(points, world_from_camera, K)
    with np.errstate(invalid="ignore"):
        inside = (depth > 0) & (pixels >= 0).all(-1) & (pixels[..., 0] < width) & (pixels[..., 1] < height)
    angles = parallax_deg(points, world_from_camera[:, :3, 3])
    low, high = GOOD_PARALLAX_DEG
    worth = np.minimum(angles / low, 1.0) ** 2 * np.minimum(high / np.maximum(angles, 1e-9), 1.0) ** 2
    plans: list[ViewPlan | None] = []
    for view in range(views):
        seen = visibility[view] & (depth[view] > 0)
        if seen.sum() < MIN_POINTS:
            plans.append(None)
            continue
        share = np.where(visibility[:, seen], 1.0, 0.3) * inside[:, seen]
        score = (worth[view][:, seen] * share).sum(1)
        median = np.array(
            [np.median(angles[view, j, seen][share[j] > 0]) if (share[j] > 0).any() else 0.0 for j in range(views)]
        )
        score[(median < MIN_PARALLAX_DEG) | (np.arange(views) == view)] = 0.0
        order = [int(j) for j in np.argsort(-score, kind="stable")[:max_sources] if score[j] > 0.02 * score.max()]
        if not order or score[order[0]] <= 0.0:
            plans.append(None)
            continue
        near, far = inverse_depth_range(depth[view][inside[view] | seen], depth[view][seen])
        plans.append(ViewPlan(tuple(order), near, far, float(median[order[0]])))
    return plans


def inverse_depth_range(in_image: Array, seen: Array) -> tuple[float, float]:
    """(near, far) inverse depth to sweep: robust percentiles of the sparse points with a wide margin.

    `seen` are depths of points matched in the view, `in_image` of all that project into it (some
    hidden: they only widen the range). Surfaces between sparse points are often nearer or farther.
    """
    near = max(1.0 / np.percentile(seen, 2), 1.0 / np.percentile(in_image, 5))
    far = min(1.0 / np.percentile(seen, 98), 1.0 / np.percentile(in_image, 95))
    return float(near * 1.6), float(far * 0.6)
