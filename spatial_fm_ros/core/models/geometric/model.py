"""The embedded model: local features, structure from motion, plane-sweep stereo. No checkpoint to fetch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.base import SpatialModel, Supports
from spatial_fm_ros.core.models.geometric.calibration import FocalEstimate
from spatial_fm_ros.core.models.geometric.features import Extractor, create_extractor
from spatial_fm_ros.core.models.geometric.local_map import LocalMap, View
from spatial_fm_ros.core.models.geometric.output import blank, structured, without_structure
from spatial_fm_ros.core.models.geometric.structure import Pairs, Structure, StructureSolver
from spatial_fm_ros.core.types import Prediction, Window, WindowState

MIN_FEATURES = 50  # fewer in most images of a window is a window without texture
MIN_POINTS = 30  # a structure with fewer points is not believed
CARRIED_SHARE = 0.7  # of a window that memory must carry; below it a fresh start is tried


class GeometricModel(SpatialModel):
    """Cameras from features and bundle adjustment, depth from multi-view stereo.

    Poses of recent keyframes are remembered: a window continues from the keyframes it shares with the
    one before, so that long tracks hold its scale and direction. The focal length is estimated, and
    refined over windows, where keyframes bring no camera.
    """

    name = "geometric"
    supports = Supports(min_views=2, max_views=64, intrinsics=True)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.map = LocalMap(config.geometric)
        self.focal = FocalEstimate()
        self.extractor: Extractor | None = None

    def load(self) -> None:
        threads = self.config.threads
        if threads:
            torch.set_num_threads(threads)
        self.device = torch.device(_device(self.config.device))
        geometric = self.config.geometric
        self.extractor = create_extractor(geometric.features, geometric.max_features, self.device)
        self.solver = StructureSolver(geometric, threads or torch.get_num_threads())

    def reset(self) -> None:
        self.map = LocalMap(self.config.geometric)
        self.focal = FocalEstimate()

    def infer(self, window: Window) -> Prediction:
        if self.extractor is None:
            raise ModelError("The geometric model was used before load(); call load() once first.")
        views = [self.map.view(keyframe, self.extractor) for keyframe in window.keyframes]
        support = self.map.support(window)
        first = len(support)
        everything = support + views
        K = np.array([self.focal.K(view) for view in views])
        if np.median([len(view.features) for view in views]) < MIN_FEATURES:
            self.map.prune(window)
            return blank(views, K, WindowState.NO_TEXTURE, "too few features: dark, blank or blurred images")
        pairs = self.map.match(everything, first, self.focal.K)
        structure = self._solve(everything, first, pairs)
        if structure is None:
            prediction = without_structure(views, K, inside(pairs, first))
        else:
            self.map.remember(everything, structure.camera_from_world, structure.posed)
            self.focal.update(everything, structure)
            prediction = structured(everything, first, pairs, structure, self.config.geometric, self.device)
        self.map.prune(window)
        return prediction

    def _solve(self, views: Sequence[View], first: int, pairs: Pairs) -> Structure | None:
        """Continues the running gauge; where that does not carry most of the window, starts afresh."""
        features = [view.features for view in views]
        K = np.array([self.focal.K(view) for view in views])
        refine = self.focal.uncertain(views)
        poses, known = self.map.poses(views)
        best: Structure | None = None
        count = 0
        if known.sum() >= 2:
            fixed = known & ~refine
            fixed[first:] = False
            continued = self.solver.extend(features, pairs, K, poses, known, fixed, refine)
            if _believable(continued, first):
                best, count = continued, int(continued.posed[first:].sum())
        if count < CARRIED_SHARE * (len(views) - first):
            fresh = self.solver.initialise(features[first:], inside(pairs, first), K[first:], refine)
            if fresh is not None and _believable(fresh, 0) and fresh.posed.sum() > count:
                best = fresh.behind(first)
        return best


def inside(pairs: Pairs, first: int) -> Pairs:
    """The pairs among views[first:], numbered from there."""
    return {(a - first, b - first): pair for (a, b), pair in pairs.items() if a >= first}


def _believable(structure: Structure, first: int) -> bool:
    """Whether at least two views from `first` on are posed, on enough points."""
    return int(structure.posed[first:].sum()) >= 2 and structure.tracks.count >= MIN_POINTS


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"Device '{name}' was asked for but no CUDA device is usable; set model.device to auto or cpu.")
    return name
