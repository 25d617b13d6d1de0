"""What the prior tells the geometric model while it solves a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from spatial_fm_ros.core.models.geometric.assistance import Assisted, Search
from spatial_fm_ros.core.models.geometric.calibration import FocalEstimate
from spatial_fm_ros.core.models.geometric.dense_hint import DepthHint
from spatial_fm_ros.core.models.geometric.problem import Problem
from spatial_fm_ros.core.models.geometric.structure import Structure
from spatial_fm_ros.core.models.hybrid.cameras import CameraSolver
from spatial_fm_ros.core.models.hybrid.correction import Correction
from spatial_fm_ros.core.models.hybrid.fusion import Bent, bend, filled, measured
from spatial_fm_ros.core.models.hybrid.prior import PriorWindow
from spatial_fm_ros.core.models.hybrid.trust import Trust
from spatial_fm_ros.core.types import Array, Depth

#: A view whose prior is off by more than this after it was bent is not searched around it.
WORST_HINT = 0.15


class PriorAssistance:
    """Help with one window. `bent`: the prior's depth in the gauge of the result, once depth was asked for."""

    def __init__(
        self,
        prior: PriorWindow,
        trust: Trust,
        solver: CameraSolver,
        focal: FocalEstimate,
        device: torch.device,
    ) -> None:
        self.prior = prior
        self.trust = trust
        self.solver = solver
        self.focal = focal
        self.device = device
        self.bent: Bent | None = None

    def cameras(self, problem: Problem, structure: Structure | None) -> Assisted:
        """Of cameras without calibration whose focal length is not settled, the prior's is where it starts from."""
        views = problem.views[problem.first :]
        K = np.array([self.focal.K(view) for view in views])
        if self.focal.uncertain(views):
            K = self.prior.K_of(views[0].features.size)
        return self.solver.solve(problem, structure, K, self.prior, self.trust)

    def depth(
        self, depth: Depth, confidence: Depth, sparse: Sequence[tuple[Array, Array]], search: Search
    ) -> tuple[Depth, Depth]:
        """Sweep, then the prior bent onto what that is sure of, then searched around; each pixel of the likelier.

        Where the sweep is sure of too little, the sparse points tell the scale, and the prior stands.
        """
        evidence = [measured(*view) for view in zip(depth, confidence, strict=True)]
        bent = bend(self.prior, evidence, self.trust.depth, scale=self.prior.scale_of(sparse))
        self.trust.learn(depth=bent.raw)
        if not self.trust.believed or not bent.anchored:
            return depth, confidence
        hints = {
            view: self._hint(bent.depth[view], each)
            for view, each in enumerate(bent.corrections)
            if each is not None and float(np.median(each.sigma)) < WORST_HINT
        }
        around = bent.depth.copy()
        for view, found in search(hints).items():
            around[view] = found
        self.bent = replace(bent, depth=around)
        return filled(depth, confidence, self.bent)

    def _hint(self, depth: Depth, correction: Correction) -> DepthHint:
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = np.where(np.isfinite(depth), 1.0 / depth, 0.0).astype(np.float32)
        return DepthHint(torch.from_numpy(inverse).to(self.device), torch.from_numpy(correction.sigma).to(self.device))
