"""Errors of relative poses between views, which need neither scale nor a common world, and their AUC."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import invert_pose, rotation_angle
from spatial_fm_ros.core.types import Array

#: What a pair counts that was not posed, degrees.
WORST = 180.0


def pair_errors(world_from_camera: Array, truth: Array, neighbours: bool = False) -> tuple[Array, Array]:
    """Rotation and direction of translation of pairs of views, degrees: of all pairs i < j, or of `neighbours` only.

    Poses float64 [N, 4, 4] each, in any worlds and scales; pairs with a pose that is not finite count 180 degrees.
    Raises InputError for shapes that differ or fewer than two views.
    """
    if world_from_camera.shape != truth.shape or truth.ndim != 3 or len(truth) < 2:
        raise InputError(
            f"Relative poses need two equal sets [N, 4, 4] of at least two poses, got {list(world_from_camera.shape)} "
            f"and {list(truth.shape)}."
        )
    count = len(truth)
    first, second = np.triu_indices(count, 1)
    if neighbours:
        first, second = np.arange(count - 1), np.arange(1, count)
    known = np.isfinite(world_from_camera).all(axis=(1, 2))
    safe = np.where(known[:, None, None], world_from_camera, np.eye(4))
    found, wanted = (invert_pose(poses[first]) @ poses[second] for poses in (safe, truth))
    turn = np.swapaxes(found[:, :3, :3], -1, -2) @ wanted[:, :3, :3]
    rotation = np.degrees(np.asarray(rotation_angle(turn)))
    lengths = np.linalg.norm(found[:, :3, 3], axis=1) * np.linalg.norm(wanted[:, :3, 3], axis=1)
    cosine = (found[:, :3, 3] * wanted[:, :3, 3]).sum(axis=1) / np.maximum(lengths, 1e-12)
    direction = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    posed = known[first] & known[second]
    return np.where(posed, rotation, WORST), np.where(posed, direction, WORST)


def auc(errors: Array, threshold: float) -> float:
    """Area under the curve of the share of pairs with an error below t, for t from 0 to `threshold`, over its width.

    Exact for the given errors; NaN without any.
    """
    if not len(errors):
        return float("nan")
    return float(np.mean(np.clip(1.0 - np.asarray(errors) / threshold, 0.0, 1.0)))
