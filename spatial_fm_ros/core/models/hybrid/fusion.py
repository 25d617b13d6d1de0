"""Two depth images of one view become one: what the images measured, and the prior bent onto it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.models.hybrid.correction import LEAST_SIGMA, Correction, chance_within
from spatial_fm_ros.core.models.hybrid.prior import PriorWindow
from spatial_fm_ros.core.types import Array, Depth

#: Measured depth at least this sure is evidence about the prior; every n-th pixel of a row and column is enough.
EVIDENCE, STRIDE = 0.6, 2
#: Prior depth with a smaller chance of being within 5 % is left unknown where the images can judge it.
LEAST_CHANCE = 0.3
WITHIN = 0.05


@dataclass(frozen=True, eq=False)
class Bent:
    """The prior's depth of a window in another gauge: depth [N, h, w] and the chance [N, h, w] that it is within 5 %;
    corrections by view, None where a view had no evidence of its own; scale: gauge units over the prior's."""

    depth: Depth
    chance: Depth
    corrections: Sequence[Correction | None]
    scale: float

    @property
    def judged(self) -> bool:
        """Whether any view could be compared."""
        return any(each is not None for each in self.corrections)

    @property
    def raw(self) -> float:
        """The prior's error of log depth before it was bent, median over views; NaN where it was not judged."""
        found = [each.raw for each in self.corrections if each is not None]
        return float(np.median(found)) if found else float("nan")


def measured(depth: Depth, confidence: Depth) -> tuple[Array, Array]:
    """Pixels [M, 2] and depth [M] of one view [h, w] that are sure enough to judge a prior by."""
    v, u = np.nonzero(np.isfinite(depth[::STRIDE, ::STRIDE]) & (confidence[::STRIDE, ::STRIDE] >= EVIDENCE))
    v, u = v * STRIDE, u * STRIDE
    return np.stack([u, v], axis=1).astype(np.float64), depth[v, u].astype(np.float64)


def bend(prior: PriorWindow, evidence: Sequence[tuple[Array, Array]], doubted: bool = True) -> Bent:
    """The prior's depth brought to the evidence (pixels [M, 2], depth [M]) of every view.

    Views without enough of their own take the scale of the others; their chance is that of an error as large as
    that of the others was before they were bent, or, unless `doubted`, what the prior says itself.
    """
    found = [prior.correction(view, *each) if len(each[1]) else None for view, each in enumerate(evidence)]
    judged = [each for each in found if each is not None]
    scales = np.log([each.scale for each in judged]) if judged else np.zeros(1)
    middle = float(np.median(scales))
    raw = float(np.hypot(np.median([each.raw for each in judged]), scales.std())) if judged else 0.0
    depth, chance = np.empty_like(prior.depth), np.empty_like(prior.confidence)
    for view, each in enumerate(found):
        factor = each.log_factor if each is not None else np.float32(middle)
        depth[view] = prior.depth[view] * np.exp(factor)
        sigma = each.sigma if each is not None else np.full(prior.size, max(raw, LEAST_SIGMA), np.float32)
        if each is not None or (doubted and judged):
            doubt = np.minimum(prior.confidence[view] / max(prior.usual_confidence(view), 1e-6), 1.0)
            chance[view] = chance_within(WITHIN, sigma) * doubt
        else:
            chance[view] = 0.0 if doubted else prior.confidence[view]
    chance[~np.isfinite(depth)] = 0.0
    return Bent(depth, chance, found, float(np.exp(middle)))


def filled(depth: Depth, confidence: Depth, bent: Bent) -> tuple[Depth, Depth]:
    """Depth and confidence [N, h, w], pixel by pixel of whichever is more likely right."""
    chance = np.where(bent.chance >= LEAST_CHANCE, bent.chance, 0.0)
    better = chance > np.where(np.isfinite(depth), confidence, 0.0)
    return (
        np.where(better, bent.depth, depth).astype(np.float32),
        np.where(better, chance, confidence).astype(np.float32),
    )
