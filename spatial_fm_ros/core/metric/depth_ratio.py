"""One log-scale from many depth ratios: by keyframe and range, with what can be wrong about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import t as student

from spatial_fm_ros.core.config import LidarScaleConfig
from spatial_fm_ros.core.metric.extrinsic_slack import (
    REGION_ERROR,
    ExtrinsicEvidence,
    Slack,
    evidence,
    explained,
    region_error,
    regions,
    sensitivity,
)
from spatial_fm_ros.core.metric.mode import Mode, located, weighted_mode
from spatial_fm_ros.core.metric.projection import Hits
from spatial_fm_ros.core.types import Array

#: Log depth of a smoothed pixel against the LiDAR's: standard deviation beside what misplaced pixels make.
PIXEL_NOISE = 0.03
#: A projected point is not better placed than this, in pixels, even with a perfect extrinsic.
PIXEL_ROUNDING = 0.5
#: Pixels that a parameter lets in without any confidence count this much.
SMALLEST_CONFIDENCE = 0.01
#: Range bins: enough to see a bias that grows with depth, few enough to fill.
RANGE_BINS = 4
#: Neighbouring pixels err together: so many of them are worth one.
TOGETHER = 30.0
#: What keyframes of one window usually differ by, and how many keyframes that belief is worth.
USUAL_SCATTER, USUAL_COUNT = 0.005, 2.0
#: Points of a keyframe beyond this number do not make it count more.
FULL_KEYFRAME = 1000.0
#: Passes in which outliers and the extrinsic's error are told apart.
SLACK_PASSES = 3
#: Ranges that disagree by more than this are reported.
REPORTED_GAP = 0.05


@dataclass(frozen=True, eq=False)
class View:
    """The hits of one keyframe, and the focal length of its depth grid in pixels."""

    hits: Hits
    focal: float


@dataclass(frozen=True)
class DepthRatio:
    """log_scale: of metres per world unit; sigma and systematic as in ScaleObservation; warning: a sentence
    when ranges disagree; figures by name; evidence: computes what the ratios say of the extrinsic."""

    log_scale: float
    sigma: float
    systematic: float
    warning: str
    figures: dict[str, float]
    evidence: Callable[[], ExtrinsicEvidence]


def rough_log_scale(views: Sequence[View], options: LidarScaleConfig) -> float:
    """The mode over all views, of which at least one must have hits, as it is."""
    weights = np.concatenate([_pixel_weights(view, options) for view in views])
    return weighted_mode(np.concatenate([view.hits.log_ratio for view in views]), weights).value


def window_ratio(views: Sequence[View], options: LidarScaleConfig) -> DepthRatio:
    """The mode over all views without what the extrinsic explains. At least one view must have hits.

    sigma is the scatter between keyframes (pixels of one image err together and do not count), over the
    root of their number; systematic what stays open of the extrinsic's effect on these very pixels, and what
    near and far disagree by.
    """
    views = [view for view in views if len(view.hits)]
    weights = [_pixel_weights(view, options) for view in views]
    joined = np.concatenate(weights)
    ratios, overall, slack, found = _without_slack(views, joined, options)
    split = np.cumsum([len(view.hits) for view in views])[:-1]
    own = [
        located(part, weight, overall.value, overall.spread)
        for part, weight in zip(np.split(ratios, split), weights, strict=True)
    ]
    counted = np.array([float((mode.weights > 0).sum()) for mode in own])
    trust = np.minimum(counted, FULL_KEYFRAME)
    values = np.array([mode.value for mode in own])
    log_scale = float(trust @ values / trust.sum()) if trust.sum() > 0 else overall.value
    sigma = _scatter(values, trust, log_scale)
    metres = np.concatenate([view.hits.points[:, 2] for view in views])
    depths, biases, noise = _by_range(metres, ratios, joined, log_scale)
    gap = float(np.sqrt(max(float(np.var(biases)) - noise**2, 0.0))) if len(biases) > 1 else 0.0
    figures = {
        "points": float(counted.sum()),
        "keyframes": float((counted >= options.min_points).sum()),
        "spread": overall.spread,
        "inlier_share": float(counted.sum() / len(ratios)),
        "extrinsic_sigma": slack.sigma,
        "range_gap": gap,
    }
    for i, (depth, bias) in enumerate(zip(depths, biases, strict=True)):
        figures[f"range_{i}_m"], figures[f"range_{i}_bias"] = depth, bias
    systematic = float(np.hypot(slack.sigma, gap))
    return DepthRatio(log_scale, sigma, systematic, _warning(depths, biases, noise), figures, found)


def _without_slack(
    views: Sequence[View], weights: Array, options: LidarScaleConfig
) -> tuple[Array, Mode, Slack, Callable[[], ExtrinsicEvidence]]:
    """Log ratios [N] of all views less what an error of the extrinsic explains of them, their mode, that error, and
    what the ratios alone say of it."""
    ratios = np.concatenate([view.hits.log_ratio for view in views])
    changes = np.concatenate([sensitivity(view.hits, view.focal) for view in views], axis=1)
    tiles = np.concatenate([regions(view.hits) for view in views])
    corrected, overall, slack, error = ratios, weighted_mode(ratios, weights), Slack(np.zeros(6), 0.0), REGION_ERROR
    for _ in range(SLACK_PASSES):
        slack = explained(ratios, overall.weights, error, changes, options)
        corrected = ratios - slack.correction @ changes
        overall = weighted_mode(corrected, weights)
        error = region_error(corrected - overall.value, overall.weights, tiles)
    return corrected, overall, slack, partial(evidence, ratios, overall.weights, error, changes)


def _pixel_weights(view: View, options: LidarScaleConfig) -> Array:
    """Confidence over variance: where depth changes fast over pixels, a misplaced point is worth little."""
    misplaced = PIXEL_ROUNDING**2 + np.square(view.focal * np.radians(options.extrinsic_sigma_deg))
    misplaced = misplaced + np.square(view.focal * options.extrinsic_sigma_m / view.hits.points[:, 2])
    variance = PIXEL_NOISE**2 + np.square(view.hits.slope).sum(axis=1) * misplaced
    weight: Array = np.maximum(view.hits.confidence, SMALLEST_CONFIDENCE) * PIXEL_NOISE**2 / variance
    return weight


def _scatter(values: Array, trust: Array, centre: float) -> float:
    """Standard deviation of the weighted mean of keyframes, a few of which say little about scatter: a prior
    joins in, and Student's quantile widens."""
    effective = float(trust.sum() ** 2 / max(float(trust @ trust), 1e-12))
    freedom = max(effective - 1.0, 0.0)
    squares = float(trust @ np.square(values - centre) / max(trust.sum(), 1e-12)) * effective
    variance = (squares + USUAL_COUNT * USUAL_SCATTER**2) / (freedom + USUAL_COUNT)
    widened = float(student.ppf(0.977, freedom + USUAL_COUNT)) / 2.0
    return widened * float(np.sqrt(variance / max(effective, 1.0)))


def _by_range(depth: Array, ratio: Array, weight: Array, log_scale: float) -> tuple[list[float], list[float], float]:
    """Mean depth in metres and bias of every range bin, near to far, and the noise of such a bias.

    Bins are cut by the LiDAR's depth, which the network's errors do not sort; each has its own mode, so that
    a far range that is off as a whole is seen and not taken for outliers.
    """
    if len(depth) < RANGE_BINS * TOGETHER:
        return [], [], 0.0
    edges = np.quantile(depth, np.linspace(0, 1, RANGE_BINS + 1)[1:-1])
    bins = np.searchsorted(edges, depth)
    depths, biases, variances = [], [], []
    for i in range(RANGE_BINS):
        chosen = bins == i
        mode = weighted_mode(ratio[chosen], weight[chosen])
        mass = mode.weights.sum()
        if not mass > 0:
            continue
        effective = mass**2 / float(np.square(mode.weights).sum()) / TOGETHER
        depths.append(float((mode.weights * depth[chosen]).sum() / mass))
        biases.append(mode.value - log_scale)
        variances.append(mode.spread**2 / max(effective, 1.0))
    return depths, biases, float(np.sqrt(np.mean(variances))) if variances else 0.0


def _warning(depths: Sequence[float], biases: Sequence[float], noise: float) -> str:
    if len(biases) < 2 or np.ptp(biases) < max(REPORTED_GAP, 4.0 * noise):
        return ""
    told = ", ".join(f"{bias:+.0%} at {depth:.1f} m" for depth, bias in zip(depths, biases, strict=True))
    return f"near and far disagree ({told}): the network's depth bends, or the extrinsic is off"
