"""How near a cloud is to the true surface (accuracy), how much of it is there (completeness), F-score.

Knapitsch et al., 'Tanks and Temples', ACM TOG 2017: precision and recall at a distance threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import nearest_rotation
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.types import Array


@dataclass(frozen=True)
class CloudErrors:
    """Distances in the truth's unit. accuracy: estimate to truth; completeness: truth to estimate.

    precision, recall: shares nearer than `threshold`; f_score their harmonic mean. truth_from_estimate: the
    alignment that was applied, `scale` its scale (1 = none).
    """

    accuracy_mean: float
    accuracy_median: float
    completeness_mean: float
    completeness_median: float
    precision: float
    recall: float
    f_score: float
    threshold: float
    estimate_points: int
    truth_points: int
    voxel: float
    alignment: str
    scale: float
    truth_from_estimate: Sim3

    def as_dict(self) -> dict[str, Any]:
        """Figures only."""
        return {name: value for name, value in vars(self).items() if name != "truth_from_estimate"}


def thin(points: Array, voxel: float) -> Array:
    """One point, the mean, per occupied voxel of that edge, so that dense places do not count more.

    Raises InputError for an edge that divides the cloud into more voxels than can be numbered.
    """
    if voxel <= 0 or not len(points):
        return points
    extent = float(np.ptp(points, axis=0).max())
    if not extent / voxel < 2**53:
        raise InputError(f"A cloud of {extent:g} m cannot be thinned to voxels of {voxel:g} m; give others (--voxel).")
    keys = np.floor((points - points.min(axis=0)) / voxel).astype(np.int64)
    _, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    sums = np.stack([np.bincount(inverse, weights=points[:, axis]) for axis in range(3)], axis=1)
    means: Array = sums / counts[:, None]
    return means


def refine(estimate: Array, truth: Array, threshold: float) -> Sim3:
    """truth_from_estimate, rigid, by Open3D's point-to-plane ICP among pairs nearer than 4, then 2 thresholds.

    Chen and Medioni, 'Object Modelling by Registration of Multiple Range Images', 1992. Starts from the
    identity: both clouds must roughly lie in one frame. Scale is not refined: closest points are biased
    towards shrinking; take it from trajectories. Raises InputError when too few points are near each other.
    """
    import open3d as o3d

    clouds = [o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points)) for points in (estimate, truth)]
    clouds[1].estimate_normals(o3d.geometry.KDTreeSearchParamKNN(20))
    registration = o3d.pipelines.registration
    matrix = np.eye(4)
    for reach in (4 * threshold, 2 * threshold):
        result = registration.registration_icp(
            *clouds,
            reach,
            matrix,
            registration.TransformationEstimationPointToPlane(),
            registration.ICPConvergenceCriteria(max_iteration=50),
        )
        matches = len(result.correspondence_set)
        if matches < 10:
            raise InputError(
                f"Only {matches} of {len(estimate)} points lie within {reach:g} of the truth; "
                "align by trajectories first (--trajectories) or raise the threshold."
            )
        matrix = np.asarray(result.transformation)
    return Sim3(1.0, nearest_rotation(matrix[:3, :3]), matrix[:3, 3])


def evaluate_cloud(
    estimate: Array,
    truth: Array,
    *,
    threshold: float = 0.05,
    voxel: float | None = None,
    truth_from_estimate: Sim3 | None = None,
    icp: bool = False,
) -> CloudErrors:
    """Errors of points [n, 3] against points [m, 3] of the true surface.

    Both are thinned to one point per `voxel` (default threshold / 2, 0 = not). The estimate is first
    moved by `truth_from_estimate`, then, rigidly, by `icp`. Raises InputError on empty clouds.
    """
    if not 0 < threshold < math.inf:
        raise InputError(f"The distance threshold must be above 0, and finite, got {threshold:g}.")
    voxel = threshold / 2 if voxel is None else voxel
    if not 0 <= voxel < math.inf:
        raise InputError(f"The edge of voxels must be 0 (none) or above, and finite, got {voxel:g}.")
    total = truth_from_estimate or Sim3.identity()
    moved = total.apply(estimate)
    truth = thin(np.asarray(truth, dtype=np.float64), voxel)
    if icp:
        more = refine(thin(moved, voxel), truth, threshold)
        total, moved = more @ total, more.apply(moved)
    moved = thin(moved, voxel)
    if not len(moved) or not len(truth):
        raise InputError(f"Both clouds need points, got {len(moved)} and {len(truth)}.")
    to_truth, _ = cKDTree(truth).query(moved, workers=2)
    to_estimate, _ = cKDTree(moved).query(truth, workers=2)
    precision, recall = float((to_truth < threshold).mean()), float((to_estimate < threshold).mean())
    words = ["given similarity"] if truth_from_estimate is not None else []
    words += ["ICP"] if icp else []
    return CloudErrors(
        accuracy_mean=float(to_truth.mean()),
        accuracy_median=float(np.median(to_truth)),
        completeness_mean=float(to_estimate.mean()),
        completeness_median=float(np.median(to_estimate)),
        precision=precision,
        recall=recall,
        f_score=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        threshold=threshold,
        estimate_points=len(moved),
        truth_points=len(truth),
        voxel=voxel,
        alignment=" + ".join(words) or "none",
        scale=total.scale,
        truth_from_estimate=total,
    )
