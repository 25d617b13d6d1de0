"""How far an estimated scale is from the truth, overall and along the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.similarity import umeyama
from spatial_fm_ros.core.types import Array
from spatial_fm_ros.evaluation.tum import NS, StampedPoses


@dataclass(frozen=True, eq=False)
class ScaleErrors:
    """scale: estimate's units per true unit, 1 = right; error: |log scale| as a share (0.02 = 2 %).

    local: the same in windows along the way [m]; local_stamps_s [m] their middle; drift: largest over
    smallest local scale, minus 1 (robustly: 95th over 5th percentile).
    """

    scale: float
    error: float
    local: Array
    local_stamps_s: Array
    drift: float


def evaluate_scale(estimate: StampedPoses, truth: StampedPoses, window: int = 20) -> ScaleErrors:
    """Scale of matched trajectories (equal length, same stamps in order).

    Raises InputError when they do not match in length or are too short for one window of 3.
    """
    if len(estimate) != len(truth) or len(truth) < 3:
        raise InputError(
            f"Scale needs two matched trajectories of at least 3 poses, got {len(estimate)} and {len(truth)}."
        )
    scale = 1.0 / umeyama(truth.positions, estimate.positions).scale
    window = max(3, min(window, len(truth)))
    local, stamps = [], []
    for start in range(0, len(truth) - window + 1, max(1, window // 2)):
        part = slice(start, start + window)
        spread = truth.positions[part] - truth.positions[part].mean(axis=0)
        seen = estimate.positions[part] - estimate.positions[part].mean(axis=0)
        if np.linalg.norm(spread) > 0:  # radii of gyration: defined on straight parts too, where Sim(3) is not
            local.append(float(np.linalg.norm(seen) / np.linalg.norm(spread)))
            stamps.append(float(truth.stamps_ns[part].mean()) / NS)
    values = np.array(local)
    low, high = np.percentile(values, [5, 95]) if len(values) else (1.0, 1.0)
    drift = float(high / low - 1.0) if low > 0 else float("inf")
    return ScaleErrors(scale, float(abs(np.log(scale))), values, np.array(stamps), drift)
