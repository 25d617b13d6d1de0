"""A simulated run against its exact truth: what the demo's scoreboard and the benchmarks share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.types import Camera, Depth, PointCloud
from spatial_fm_ros.evaluation.depth import DepthPair
from spatial_fm_ros.evaluation.scoreboard import Score, depth_scores, map_scores, trajectory_scores
from spatial_fm_ros.evaluation.trajectory import TrajectoryErrors, evaluate_trajectory
from spatial_fm_ros.evaluation.tum import StampedPoses
from spatial_fm_ros.simulation.truth import Truth

#: Surface points and map points compared at most; more change the shares by less than a tenth of a per cent.
SURFACE_POINTS = 200_000
MAP_POINTS = 200_000


@dataclass(frozen=True, eq=False)
class PublishedDepth:
    """One published depth image."""

    stamp_ns: int
    camera: Camera
    depth: Depth
    confidence: Depth


def score_against(
    truth: Truth, estimate: StampedPoses, samples: Iterable[PublishedDepth], cloud: PointCloud
) -> tuple[TrajectoryErrors, list[Score], list[DepthPair]]:
    """All geometric figures of a run, lengths taken as the metres they claim to be.

    The map is brought into the truth's frame by the trajectory's SE(3) fit, without scale. Raises
    InputError when the poses cannot be compared.
    """
    stamps = estimate.stamps_ns
    errors = evaluate_trajectory(estimate, StampedPoses(stamps, truth.world_from_cameras(stamps), "the truth"))
    pairs = [DepthPair(str(s.stamp_ns), s.depth, truth.depth(s.stamp_ns, s.camera), s.confidence) for s in samples]
    points = errors.se3.truth_from_estimate.apply(_some(cloud).points)
    distance = truth.distance_to_surface(points)
    visible = truth.visible_points(SURFACE_POINTS, [int(s) for s in stamps])
    scores = [
        *trajectory_scores(errors),
        *depth_scores(pairs),
        *map_scores(points, np.asarray(distance, np.float64), visible),
    ]
    return errors, scores, pairs


def spread(items: Sequence[PublishedDepth], count: int) -> list[PublishedDepth]:
    """At most `count` of them, evenly over the run."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).astype(int)]


def _some(cloud: PointCloud) -> PointCloud:
    if len(cloud) <= MAP_POINTS:
        return cloud
    index = np.random.default_rng(0).choice(len(cloud), MAP_POINTS, replace=False)
    return cloud[index]
