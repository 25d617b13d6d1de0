"""What the prior model said of a window, on the depth grid of the geometric model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.models.hybrid.correction import Correction, fit_correction
from spatial_fm_ros.core.types import Array, Camera, Depth, Prediction

#: Pixels the prior itself doubts more than this share of its usual confidence are no measure of its error.
DOUBTED = 0.5
#: Fewer points tell no scale.
FEWEST_POINTS = 10
#: A resampled pixel needs this much of its surroundings known.
COVERED = 0.5


@dataclass(frozen=True, eq=False)
class PriorWindow:
    """Cameras and depth of N views in the prior's gauge: world_from_camera [N, 4, 4] (NaN where not `posed` [N]),
    depth and confidence float32 [N, h, w], K [N, 3, 3] of that grid."""

    world_from_camera: Array
    posed: NDArray[np.bool_]
    depth: Depth
    confidence: Depth
    K: Array
    metric: bool = False

    @staticmethod
    def of(said: Prediction, size: tuple[int, int]) -> PriorWindow:
        """On a grid of `size` (height, width) of the same images."""
        height, width = size
        grids = [_resized(d, c, width, height) for d, c in zip(said.depth, said.confidence, strict=True)]
        old_height, old_width = said.depth.shape[1:]
        K = np.stack([Camera(old_width, old_height, K).resized(width, height).K for K in said.K])
        posed: NDArray[np.bool_] = said.posed & np.isfinite(said.world_from_camera).all(axis=(1, 2))
        depth, confidence = (np.stack(part) for part in zip(*grids, strict=True))
        return PriorWindow(said.world_from_camera, posed, depth, confidence, K, said.metric)

    @property
    def size(self) -> tuple[int, int]:
        return self.depth.shape[1], self.depth.shape[2]

    @property
    def empty(self) -> bool:
        return not self.posed.any() and not np.isfinite(self.depth).any()

    def K_of(self, size: tuple[int, int]) -> Array:
        """K [N, 3, 3] of the same views as images of `size` (width, height)."""
        return np.stack([Camera(self.size[1], self.size[0], K).resized(*size).K for K in self.K])

    def usual_confidence(self, view: int) -> float:
        """The median over the pixels of a view that have depth; 0 without any."""
        known = np.isfinite(self.depth[view])
        return float(np.median(self.confidence[view][known])) if known.any() else 0.0

    def ratio(self, view: int, pixels: Array, depth: Array) -> tuple[Array, Array]:
        """Of points at pixels [M, 2] of a view whose depth [M] is known: those on depth that the prior does not doubt,
        and log(known / prior depth) there."""
        height, width = self.size
        inside = (pixels > -0.5).all(1) & (pixels[:, 0] < width - 0.5) & (pixels[:, 1] < height - 0.5) & (depth > 0)
        u, v = np.rint(pixels[inside]).astype(int).T
        own = self.depth[view, v, u]
        sure = np.isfinite(own) & (self.confidence[view, v, u] >= DOUBTED * self.usual_confidence(view))
        return pixels[inside][sure], np.log(depth[inside][sure] / own[sure])

    def scale_of(self, points: Sequence[tuple[Array, Array]]) -> float:
        """The factor on the prior's depth that meets points (pixels, depth) of all views best; NaN for too few."""
        ratios = np.concatenate([self.ratio(view, *each)[1] for view, each in enumerate(points)])
        return float(np.exp(np.median(ratios))) if len(ratios) >= FEWEST_POINTS else float("nan")

    def correction(self, view: int, pixels: Array, depth: Array, usual: float | None = None) -> Correction | None:
        """How the view's depth has to be bent to meet depth [M] at pixels [M, 2]; None where nothing can be said.
        `usual`: as `fit_correction`."""
        return fit_correction(*self.ratio(view, pixels, depth), self.size, usual)


def _resized(depth: Depth, confidence: Depth, width: int, height: int) -> tuple[Depth, Depth]:
    """Linear in inverse depth (planes stay planes) and confidence, over the known pixels alone."""
    if depth.shape == (height, width):
        return depth, confidence
    known = np.isfinite(depth) & (depth > 0)
    shrinks = depth.shape[1] > width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    inverse = np.where(known, 1.0 / np.where(known, depth, 1.0), 0.0)
    layers = np.stack([known, inverse, np.where(known, confidence, 0.0)], axis=2)
    weight, inverse, sure = np.moveaxis(cv2.resize(layers.astype(np.float32), (width, height), interpolation=how), 2, 0)
    there = weight > COVERED
    return (
        np.where(there, weight / np.maximum(inverse, 1e-12), np.nan).astype(np.float32),
        np.where(there, sure / np.maximum(weight, 1e-6), 0.0).astype(np.float32),
    )
