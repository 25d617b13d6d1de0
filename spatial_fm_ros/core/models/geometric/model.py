"""The embedded model: local features, structure from motion, plane-sweep stereo. No checkpoint to fetch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.base import SpatialModel, Supports
from spatial_fm_ros.core.models.device import pick_device
from spatial_fm_ros.core.models.geometric.assistance import Assistance
from spatial_fm_ros.core.models.geometric.calibration import FocalEstimate
from spatial_fm_ros.core.models.geometric.features import Extractor, create_extractor
from spatial_fm_ros.core.models.geometric.guided import Guided, GuidedSolver
from spatial_fm_ros.core.models.geometric.local_map import LocalMap, View
from spatial_fm_ros.core.models.geometric.output import blank, structured, without_structure
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.models.geometric.problem import Problem, believable, inside
from spatial_fm_ros.core.models.geometric.relocalisation import relocalise
from spatial_fm_ros.core.models.geometric.structure import Structure, StructureSolver
from spatial_fm_ros.core.models.geometric.wide_baseline import WideMatcher
from spatial_fm_ros.core.types import Array, Prediction, Window, WindowState

MIN_FEATURES = 50  # fewer in most images of a window is a window without texture
CARRIED_SHARE = 0.7  # of a window that memory must carry; below it a fresh start is tried


class GeometricModel(SpatialModel):
    """Cameras from features and bundle adjustment, depth from multi-view stereo.

    Poses of recent keyframes are remembered: a window continues from the keyframes it shares with the
    one before, so that long tracks hold its scale and direction. The focal length is estimated, and
    refined over windows, where keyframes bring no camera. Odometry takes the place of the images' own
    cameras in windows where it explains clearly more of what is seen (`pose_priors`).
    """

    name = "geometric"
    supports = Supports(min_views=2, max_views=64, intrinsics=True, poses=True)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.map = LocalMap(config.geometric)
        self.focal = FocalEstimate()
        self.extractor: Extractor | None = None

    def load(self) -> None:
        self.device = pick_device(self.config.device)
        threads = self.config.threads or len(os.sched_getaffinity(0))
        # On the processor the model's own tasks share the cores; a GPU takes its work from one thread.
        self.map.tasks = Tasks(threads if self.device.type == "cpu" else 1)
        torch.set_num_threads(1)
        geometric = self.config.geometric
        self.extractor = create_extractor(geometric.features, geometric.max_features, self.device)
        self.matcher = WideMatcher(self.device) if geometric.features == "xfeat" else None
        self.solver = StructureSolver(geometric, threads)
        self.guided = GuidedSolver(geometric, threads, self.map.tasks)

    def reset(self) -> None:
        self.map = LocalMap(self.config.geometric, self.map.tasks)
        self.focal = FocalEstimate()

    def infer(self, window: Window) -> Prediction:
        return self.infer_assisted(window, None)

    def infer_assisted(self, window: Window, assistance: Assistance | None) -> Prediction:
        """As `infer`, with another model's opinion of the same window; what is posed is what the images carry."""
        if self.extractor is None:
            raise ModelError("The geometric model was used before load(); call load() once first.")
        views = self.map.look(window.keyframes, self.extractor)
        K = np.array([self.focal.K(view) for view in views])
        if np.median([len(view.features) for view in views]) < MIN_FEATURES:
            self.map.prune(window)
            note = "too few features: dark, blank or blurred images"
            return blank(views, K, WindowState.NO_TEXTURE, note, self.config.geometric)
        support, kept = self.map.support(window), self.map.in_odometry
        problem = Problem(support + views, len(support), self.map.match(support + views, len(support), self.focal.K))
        problem, structure = self._solve(problem)
        guided = self.guided.solve(support, views, problem, structure, kept)
        if guided is not None:
            problem, structure = guided.problem, guided.structure
            self._enter_odometry(guided)
        elif assistance is not None:
            assisted = assistance.cameras(problem, structure)
            problem, structure = assisted.problem, assisted.structure
            if assisted.new_gauge:
                self.map.forget_poses()
        if structure is not None and self.focal.uncertain(problem.views):
            self.focal.update(problem.views, structure)
            # One window sees its focal length poorly: the mean of all windows is better, with poses to suit.
            structure = self.solver.with_K(structure, self._K(problem.views))
        if structure is None:
            prediction = without_structure(views, K, inside(problem.pairs, problem.first), self.config.geometric)
        else:
            self.map.remember(problem.views, structure.camera_from_world, structure.posed)
            prediction = structured(
                problem.views,
                problem.first,
                problem.pairs,
                structure,
                self.config.geometric,
                self.device,
                self.map.tasks,
                assistance,
            )
        self.map.prune(window)
        if guided is not None:
            note = "; ".join(part for part in (guided.note, prediction.note) if part)
            prediction = replace(prediction, note=note, figures={**prediction.figures, **guided.figures})
        return prediction

    def _enter_odometry(self, guided: Guided) -> None:
        """The running gauge becomes odometry's; depth swept from other poses than it gives is forgotten."""
        if not self.map.in_odometry:
            self.map.forget_poses()
            self.map.in_odometry = True
        if guided.structure is not None:
            for view, pose in zip(guided.problem.views, guided.structure.camera_from_world, strict=True):
                if view.camera_from_world is None or not np.allclose(view.camera_from_world, pose, atol=1e-9):
                    view.swept = None

    def _solve(self, problem: Problem) -> tuple[Problem, Structure | None]:
        """Continues the running gauge, with older keyframes where views are lost; else starts afresh."""
        best = self._continue(problem)
        if best is None or not best.posed[problem.first :].all():
            problem, best = self._relocalise(problem, best)
        count = 0 if best is None else int(best.posed[problem.first :].sum())
        if count < CARRIED_SHARE * (len(problem.views) - problem.first):
            first = problem.first
            features = [view.features for view in problem.views[first:]]
            refine = self.focal.uncertain(problem.views)
            fresh = self.solver.initialise(
                features, inside(problem.pairs, first), self._K(problem.views[first:]), refine
            )
            if fresh is not None and believable(fresh, 0) and fresh.posed.sum() > count:
                self.map.forget_poses()
                return problem, fresh.behind(first)
        return problem, best

    def _continue(self, problem: Problem) -> Structure | None:
        """The window in the running gauge, or None where remembered poses do not carry it."""
        views, first = problem.views, problem.first
        poses, known = self.map.poses(views)
        if known.sum() < 2:
            return None
        refine = self.focal.uncertain(views)
        fixed = known.copy()
        fixed[first:] = False
        if refine:
            fixed[:] = False
        features = [view.features for view in views]
        found = self.solver.extend(features, problem.pairs, self._K(views), poses, known, fixed, refine)
        return found if believable(found, first) else None

    def _relocalise(self, problem: Problem, best: Structure | None) -> tuple[Problem, Structure | None]:
        """Tries older keyframes for the views that `best` leaves out; keeps what poses more views."""
        views, first = problem.views, problem.first
        posed = np.zeros(len(views), dtype=bool) if best is None else best.posed
        lost = [view for view, known in zip(views[first:], posed[first:], strict=True) if not known]
        older = relocalise(lost, self.map, views, self.matcher, self.focal.K) if self.matcher else []
        if not older:
            return problem, best
        everything = older + list(views)
        wider = Problem(everything, first + len(older), self.map.match(everything, first + len(older), self.focal.K))
        found = self._continue(wider)
        if found is None or (best is not None and found.posed[wider.first :].sum() <= best.posed[first:].sum()):
            return problem, best
        return wider, found

    def _K(self, views: Sequence[View]) -> Array:
        return np.array([self.focal.K(view) for view in views])
