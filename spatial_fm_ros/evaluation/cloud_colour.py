"""How good the colours of a cloud are: alike within a voxel, and near a reference's.

Colours are compared as CIE 1976 distances in L*a*b* (about 2.3 is the smallest difference people see,
Mahy et al., 1994), because equal steps in RGB do not look equal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Array, Image


@dataclass(frozen=True)
class ColourErrors:
    """Distances in CIE L*a*b* units.

    consistency: median distance of a point's colour from the mean of its voxel, over voxels of at least 3
    points (NaN: there is none); reference_mean, reference_median: distance from the nearest reference point
    within reach; compared: share of points that have one.
    """

    consistency: float
    voxels: int
    reference_mean: float
    reference_median: float
    compared: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def to_lab(colors: Image) -> NDArray[np.float32]:
    """L*a*b* float32 [N, 3] of sRGB colours uint8 [N, 3]."""
    if not len(colors):
        return np.zeros((0, 3), np.float32)
    return np.asarray(cv2.cvtColor(colors[None].astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)[0], np.float32)


def colour_consistency(points: Array, colors: Image, voxel: float) -> tuple[float, int]:
    """(median distance from the voxel's mean colour, number of voxels with at least 3 points)."""
    lab = to_lab(colors).astype(np.float64)
    keys = np.floor(points / voxel).astype(np.int64)
    _, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    mean = np.stack([np.bincount(inverse, lab[:, i]) for i in range(3)], axis=1) / counts[:, None]
    full = counts[inverse] >= 3
    if not full.any():
        return float("nan"), 0
    distance = np.linalg.norm(lab[full] - mean[inverse[full]], axis=1)
    return float(np.median(distance)), int((counts >= 3).sum())


def evaluate_colours(
    points: Array, colors: Image, truth_points: Array, truth_colors: Image, *, reach: float, voxel: float
) -> ColourErrors:
    """Colours of points [n, 3] against the nearest of truth_points [m, 3] within `reach`, both in one frame.

    voxel: edge for the consistency. Raises InputError for empty clouds or sizes that are not positive.
    """
    if not (reach > 0 and voxel > 0):
        raise InputError(f"Reach and voxel must be above 0, got {reach:g} and {voxel:g}.")
    if not len(points) or not len(truth_points):
        raise InputError(f"Both clouds need points, got {len(points)} and {len(truth_points)}.")
    consistency, voxels = colour_consistency(points, colors, voxel)
    distance, nearest = cKDTree(truth_points).query(points, distance_upper_bound=reach, workers=2)
    found = np.isfinite(distance)
    difference = np.linalg.norm(to_lab(colors[found]) - to_lab(truth_colors[nearest[found]]), axis=1)
    return ColourErrors(
        consistency,
        voxels,
        float(difference.mean()) if found.any() else float("nan"),
        float(np.median(difference)) if found.any() else float("nan"),
        float(found.mean()),
    )
