"""Two depth images of one view become one: what the images measured, and the prior bent onto it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.models.hybrid.correction import LEAST_SIGMA, Correction, chance_within
from spatial_fm_ros.core.models.hybrid.prior import PriorWindow
from spatial_fm_ros.core.types import Array, Depth

#: Measured depth at least this sure is evidence about the prior; every n-th pixel of a row and column is enough.
EVIDENCE, STRIDE = 0.7, 2
#: Depth with a smaller chance of being within 5 % is left unknown, whoever says it.
LEAST_CHANCE = 0.3
WITHIN = 0.05
#: Deviation of the log depth of a prior that was never judged.
UNKNOWN_SIGMA = 0.1
#: Share of prior depth, as sure as it usually is, that is an outlier; of wrong measured depth, the share that misses
#: by about MISSED (log depth) rather than lying anywhere; the density of that, over log depth.
OUTLIERS, NEAR_MISSES, MISSED, ANYWHERE = 0.05, 0.5, 0.12, 0.3


@dataclass(frozen=True, eq=False)
class Bent:
    """The prior's depth of a window in another gauge: depth [N, h, w], the chance [N, h, w] that it is within 5 %, the
    standard deviation sigma [N, h, w] of its logarithm, and the share sound [N, h, w] of such pixels that is none of
    the prior's own outliers; corrections by view, None where a view had no evidence of its own; scale: gauge units
    over the prior's, which is known if `anchored`."""

    depth: Depth
    chance: Depth
    sigma: Depth
    sound: Depth
    corrections: Sequence[Correction | None]
    scale: float
    anchored: bool

    @property
    def judged(self) -> bool:
        """Whether any view could be compared."""
        return any(each is not None for each in self.corrections)

    @property
    def raw(self) -> float:
        """The prior's error of log depth before it was bent, median over views; NaN where it was not judged."""
        found = [each.raw for each in self.corrections if each is not None]
        return float(np.median(found)) if found else float("nan")


def measured(depth: Depth, confidence: Depth, least: float = EVIDENCE) -> tuple[Array, Array]:
    """Pixels [M, 2] and depth [M] of one view [h, w] of at least a confidence: evidence about a prior."""
    v, u = np.nonzero(np.isfinite(depth[::STRIDE, ::STRIDE]) & (confidence[::STRIDE, ::STRIDE] >= least))
    v, u = v * STRIDE, u * STRIDE
    return np.stack([u, v], axis=1).astype(np.float64), depth[v, u].astype(np.float64)


def bend(
    prior: PriorWindow,
    evidence: Sequence[tuple[Array, Array]],
    usual: float | None = None,
    doubted: bool = True,
    scale: float = float("nan"),
) -> Bent:
    """The prior's depth brought to the evidence (pixels [M, 2], depth [M]) of every view.

    usual: its error of log depth, as far as it is known from other windows. scale: of the gauge over the prior's,
    for the case that no view has evidence enough; without, it stays the prior's own.

    Views without enough of their own take the scale of the others; their chance is that of an error as large as
    that of the others was before they were bent, or, unless `doubted`, what the prior says itself. That holds where
    no view could be judged, too.
    """
    found = [prior.correction(view, *each, usual) if len(each[1]) else None for view, each in enumerate(evidence)]
    if usual is None and sum(each is not None for each in found) > 2:
        usual = float(np.median([each.raw for each in found if each is not None]))
        found = [each and prior.correction(view, *evidence[view], usual) for view, each in enumerate(found)]
    judged = [each for each in found if each is not None]
    scales = np.log([each.scale for each in judged] or [scale if np.isfinite(scale) else 1.0])
    middle = float(np.median(scales))
    raw = float(np.hypot(np.median([each.raw for each in judged]), scales.std())) if judged else usual or UNKNOWN_SIGMA
    depth, chance, sigmas, sound = (np.empty_like(prior.depth) for _ in range(4))
    for view, each in enumerate(found):
        factor = each.log_factor if each is not None else np.float32(middle)
        depth[view] = prior.depth[view] * np.exp(factor)
        sigmas[view] = each.sigma if each is not None else max(raw, LEAST_SIGMA)
        sound[view] = np.minimum(prior.confidence[view] / max(prior.usual_confidence(view), 1e-6), 1.0)
        if each is not None or (doubted and judged):
            chance[view] = chance_within(WITHIN, sigmas[view]) * sound[view]
        else:
            chance[view] = prior.confidence[view]
    chance[~np.isfinite(depth)] = 0.0
    anchored = bool(judged) or bool(np.isfinite(scale))
    return Bent(depth, chance, sigmas, (1.0 - OUTLIERS) * sound, found, float(np.exp(middle)), anchored)


def filled(depth: Depth, confidence: Depth, bent: Bent) -> tuple[Depth, Depth]:
    """Depth and confidence [N, h, w], pixel by pixel of whichever is more likely right, after each was told the other.

    What the images measured is confirmed or doubted by how far the bent prior is from it (Bayes): right depths lie
    around the prior as its deviation says, or anywhere where the prior is an outlier; wrong ones near the truth, or
    anywhere.
    """
    chance = np.where(bent.chance >= LEAST_CHANCE, bent.chance, 0.0)
    confidence = np.where(chance > 0, _reconsidered(depth, confidence, bent), confidence)
    better = chance > np.where(np.isfinite(depth), confidence, 0.0)
    chosen, likely = np.where(better, bent.depth, depth), np.where(better, chance, confidence)
    known = np.isfinite(chosen) & (likely >= LEAST_CHANCE)
    return np.where(known, chosen, np.nan).astype(np.float32), np.where(known, likely, 0.0).astype(np.float32)


def _reconsidered(depth: Depth, confidence: Depth, bent: Bent) -> Depth:
    """Confidence [N, h, w] of measured depth once the bent prior is known; NaN where either is unknown."""
    with np.errstate(invalid="ignore"):
        apart = np.log(depth / bent.depth)
        if_right = bent.sound * _normal(apart, bent.sigma) + (1.0 - bent.sound) * ANYWHERE
        near = _normal(apart, np.hypot(bent.sigma, MISSED))
        if_wrong = NEAR_MISSES * near + (1.0 - NEAR_MISSES) * ANYWHERE
        right = confidence * if_right
        told: Depth = right / np.maximum(right + (1.0 - confidence) * if_wrong, 1e-12)
    return np.where(np.isfinite(apart), told, confidence).astype(np.float32)


def _normal(value: Depth, sigma: Depth) -> Depth:
    """Density of a normal distribution about zero."""
    density: Depth = np.exp(-0.5 * np.square(value / sigma)) / (sigma * np.float32(np.sqrt(2.0 * np.pi)))
    return density
