"""LiDAR points on a depth image: which pixels they fall on, which the camera can see, how sure the pixel is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.types import Array, Camera, Depth

#: Points nearer than this are the robot itself, or nothing.
NEAREST_M = 0.2
#: Depth is averaged over so many pixels; an edge is where it then varies more than usual.
PATCH = 5
#: Standard deviation of log depth inside a patch that is never called an edge.
EDGE_FLOOR = 0.04
#: More points of one image do not make it say more: its pixels err together.
MOST_HITS = 1200
#: How much farther than the nearest point beside it a point may lie and still be on the same surface.
SAME_SURFACE = 0.15


@dataclass(frozen=True, eq=False)
class DepthField:
    """The network's depth where it can be compared, [h, w] each, float32.

    log_depth: mean of log depth over a patch (NaN: unknown, unsure or an edge); slope [2, h, w]: its change
    per pixel along u and v; confidence: as the network gave it.
    """

    log_depth: Depth
    slope: Depth
    confidence: Depth


@dataclass(frozen=True, eq=False)
class Hits:
    """LiDAR points that fall on comparable pixels, [N] each.

    points [N, 3] in the camera frame, metres; log_ratio: log(LiDAR depth / network depth); slope [N, 2] of
    log network depth per pixel; confidence.
    """

    points: Array
    log_ratio: Array
    slope: Array
    confidence: Array

    def __len__(self) -> int:
        return len(self.log_ratio)


def depth_field(depth: Depth, confidence: Depth, min_confidence: float) -> DepthField:
    """Smoothed log depth without edges, of depth [h, w] in any unit (NaN unknown) and confidence [h, w]."""
    with np.errstate(invalid="ignore"):
        known = np.isfinite(depth) & (depth > 0) & (confidence >= min_confidence)
    logs = np.log(np.where(known, depth, 1.0)).astype(np.float32)
    centre = np.float32(np.median(logs[known])) if known.any() else np.float32(0)
    logs = np.where(known, logs - centre, 0).astype(np.float32)
    ones = known.astype(np.float32)
    count, total, squares = (_box(layer) for layer in (ones, logs, logs * logs))
    enough = known & (count > PATCH * PATCH / 2)
    many = np.maximum(count, 1.0)
    mean = total / many
    deviation = np.sqrt(np.maximum(squares / many - mean * mean, 0.0))
    usual = float(np.median(deviation[enough])) if enough.any() else 0.0
    smooth = enough & (deviation <= max(2.0 * usual, EDGE_FLOOR))
    return DepthField(
        np.where(smooth, mean + centre, np.nan).astype(np.float32),
        _slope(np.where(enough, mean, np.nan)),
        confidence,
    )


@dataclass(frozen=True, eq=False)
class Visible:
    """LiDAR points that a camera sees, [N] each, and the pixels they fall on.

    points [N, 3] in the camera frame; slope [N, 2] of log network depth per pixel, 0 where unknown; in_image:
    how many points fell into the image, hidden ones too; spacing: mean distance between these, in pixels.
    """

    points: Array
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    slope: Array
    in_image: int
    spacing: float


def visible(field: DepthField, camera: Camera, points: Array) -> Visible:
    """Of LiDAR points [N, 3] of the camera frame (metres) those inside the image of the pinhole `camera`, whose
    depth `field` is, without those that a nearer LiDAR point hides."""
    height, width = field.log_depth.shape
    points = points[points[:, 2] > NEAREST_M]  # NaN is not
    u, v = _pixels(camera.K, points)
    inside = (u > -0.5) & (u < width - 0.5) & (v > -0.5) & (v < height - 0.5)
    points, u, v = points[inside], u[inside], v[inside]
    column, row = np.rint(u).astype(np.int64), np.rint(v).astype(np.int64)
    slope = field.slope[:, row, column].T.astype(np.float64)
    spacing = float(np.sqrt((np.ptp(u) + 1.0) * (np.ptp(v) + 1.0) / len(u))) if len(u) else float("inf")
    seen = ~_hidden(points[:, 2], u, v, np.abs(slope).sum(axis=1), spacing, (height, width))
    return Visible(points[seen], row[seen], column[seen], slope[seen], len(u), spacing)


def hits(field: DepthField, camera: Camera, points: Array) -> tuple[Hits, int]:
    """LiDAR points [N, 3] of the camera frame (metres) on comparable pixels of `field`, whose pinhole
    `camera` is, without those that something nearer hides; and how many fell into the image at all."""
    seen = visible(field, camera, points)
    chosen = np.flatnonzero(np.isfinite(field.log_depth[seen.row, seen.column]))
    if len(chosen) > MOST_HITS:
        chosen = chosen[np.random.default_rng(0).random(len(chosen)) < MOST_HITS / len(chosen)]
    row, column, kept = seen.row[chosen], seen.column[chosen], seen.points[chosen]
    found = Hits(
        kept,
        np.log(kept[:, 2]) - field.log_depth[row, column],
        seen.slope[chosen],
        field.confidence[row, column].astype(np.float64),
    )
    return found, seen.in_image


def in_view(camera: Camera, x: Depth, y: Depth, z: Depth, margin: float) -> NDArray[np.bool_]:
    """Which points x, y, z [N] of the camera frame lie in front of a pinhole and in its image grown by `margin`,
    a share of the focal length, on every side. NaN is not."""
    (fx, _, cx), (_, fy, cy) = camera.K[:2]
    seen: NDArray[np.bool_] = z > 0
    seen &= (x > (-cx / fx - margin) * z) & (x < ((camera.width - cx) / fx + margin) * z)
    seen &= (y > (-cy / fy - margin) * z) & (y < ((camera.height - cy) / fy + margin) * z)
    return seen


def _pixels(K: Array, points: Array) -> tuple[Array, Array]:
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    return K[0, 0] * x + K[0, 1] * y + K[0, 2], K[1, 1] * y + K[1, 2]


def _hidden(
    z: Array, u: Array, v: Array, slope: Array, spacing: float, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Points [N] that lie clearly behind another one beside them: the LiDAR sees around things, the camera
    does not. A coarse buffer of nearest depths, its cells wide enough that beams leave no gaps; `slope`
    (change of log depth per pixel) tells how far a surface itself recedes over those cells."""
    if not len(z):
        return np.zeros(0, dtype=bool)
    cell = float(np.clip(1.5 * spacing, 2.0, 24.0))
    row, column = ((v + 0.5) / cell).astype(np.int64), ((u + 0.5) / cell).astype(np.int64)
    nearest = np.full((int(shape[0] / cell) + 1, int(shape[1] / cell) + 1), np.inf, np.float32)
    np.minimum.at(nearest, (row, column), z.astype(np.float32))
    around = cv2.erode(nearest, np.ones((3, 3), np.uint8))
    hidden: NDArray[np.bool_] = np.log(z / around[row, column]) > SAME_SURFACE + 1.5 * cell * slope
    return hidden


def _box(layer: Depth) -> Depth:
    """Sums over a patch around every pixel; nothing lies outside the image."""
    summed = cv2.boxFilter(layer, -1, (PATCH, PATCH), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(summed, dtype=np.float32)


def _slope(mean: Depth) -> Depth:
    """Change per pixel along u and v, [2, h, w], over a patch's width; 0 where it is unknown."""
    reach = PATCH // 2
    slope = np.zeros((2, *mean.shape), np.float32)
    slope[0, :, reach:-reach] = mean[:, 2 * reach :] - mean[:, : -2 * reach]
    slope[1, reach:-reach] = mean[2 * reach :] - mean[: -2 * reach]
    return np.nan_to_num(slope / np.float32(2 * reach))
