"""A window's geometry under the true camera, where the network has guessed another focal length.

z-depth d at pixel u of the network's camera is the point d * inv(K_net) u; under the true K it becomes
s * d * inv(K) u. With s = f_true / f_net every point keeps its size across the view, and views that look one
way stay exactly consistent with all image motion when camera centres are stretched by the same affine map,
diag(1, 1, s) up to the principal point. That is the direction in which images say nothing about the focal length
(the affine ambiguity; Hartley and Zisserman, Multiple View Geometry, 2004, chapter 19), so it is where a guess is
wrong. A view turned by small angles across the optical axis is turned by 1/s of them, which keeps its pixels.
But views that go round something do fix the focal length, and a network may get depth and poses right all the
same: then they are better left as they are. The images decide: under the right geometry the same point looks alike
in two views.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.geometry.rotations import chordal_mean, invert_pose
from spatial_fm_ros.core.types import Array, Depth, Image

#: Below this, as |log s|, a correction is not worth its errors; above the second the guess is no focal length.
NEGLIGIBLE, ABSURD = 0.002, 0.5
#: Pixels compared per pair of views, and the blur under which they are, in pixels: a wrong focal length shifts by
#: a few per cent of the disparity.
PIXELS, BLUR = 1500, 1.5


@dataclass(frozen=True, eq=False)
class TrueGeometry:
    """world_from_camera [N, 4, 4] and the factor of all depths under the true cameras; ratio: f_true / f_net, the
    median of the window."""

    world_from_camera: Array
    depth_factor: float
    ratio: float


def under_true_cameras(
    world_from_camera: Array, K_net: Array, K_true: Array, depth: Depth, grey: Image
) -> TrueGeometry:
    """Poses float64 [N, 4, 4] and depth [N, h, w] (NaN unknown) found with K_net, for K_true [N, 3, 3] of one grid.

    grey: uint8 [N, h, w] on the same grid. Precondition: all poses are finite.
    """
    log_ratios = np.log(K_true[:, [0, 1], [0, 1]] / K_net[:, [0, 1], [0, 1]])
    ratio = float(np.exp(np.median(log_ratios.mean(axis=1))))
    kept = TrueGeometry(world_from_camera, 1.0, ratio)
    if not NEGLIGIBLE < abs(np.log(ratio)) < ABSURD:
        return kept
    stretched = TrueGeometry(_stretched(world_from_camera, K_net, K_true, ratio), ratio, ratio)
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), BLUR) for image in grey]).astype(np.float32)
    errors = [_unlikeness(found, K_true, depth, blurred) for found in (kept, stretched)]
    return kept if errors[0] < errors[1] else stretched


def _stretched(poses: Array, K_net: Array, K_true: Array, s: float) -> Array:
    """Centres by s * inv(K_true) K_net in the mean camera's frame about its centre; turns across its axis by 1/s."""
    mean_rotation = chordal_mean(poses[:, :3, :3])
    centre = poses[:, :3, 3].mean(axis=0)
    affine = s * np.linalg.inv(np.median(K_true, axis=0)) @ np.median(K_net, axis=0)
    local = (poses[:, :3, 3] - centre) @ mean_rotation
    turns = Rotation.from_matrix(mean_rotation.T @ poses[:, :3, :3]).as_rotvec()
    turns[:, :2] /= s
    moved = poses.copy()
    moved[:, :3, 3] = local @ affine.T @ mean_rotation.T + centre
    moved[:, :3, :3] = mean_rotation @ Rotation.from_rotvec(turns).as_matrix()
    return moved


def _unlikeness(found: TrueGeometry, K: Array, depth: Depth, images: NDArray[np.float32]) -> float:
    """Median difference of grey levels between pixels and where they fall in other views; infinite without any."""
    count, height, width = depth.shape
    poses, differences = found.world_from_camera, []
    for i, j in {(i, i + step) for step in (1, max(1, count // 2)) for i in range(count - step)}:
        known = np.flatnonzero(np.isfinite(depth[i]))
        if not len(known):
            continue
        known = known[np.linspace(0, len(known) - 1, min(PIXELS, len(known))).astype(np.int64)]
        v, u = np.divmod(known, width)
        z = depth[i, v, u].astype(np.float64) * found.depth_factor
        rays = np.linalg.inv(K[i]) @ np.stack([u, v, np.ones_like(u)])
        j_from_i = invert_pose(poses[j]) @ poses[i]
        seen = K[j] @ (j_from_i[:3, :3] @ (rays * z) + j_from_i[:3, 3:])
        with np.errstate(divide="ignore", invalid="ignore"):
            at = (seen[:2] / seen[2]).astype(np.float32)
        inside = (seen[2] > 0) & (at >= 0).all(axis=0) & (at[0] <= width - 1) & (at[1] <= height - 1)
        there = cv2.remap(images[j], at[0][None], at[1][None], cv2.INTER_LINEAR)[0]
        differences.append(np.abs(there - images[i, v, u])[inside])
    every = np.concatenate(differences) if differences else np.zeros(0)
    return float(np.median(every)) if len(every) else float("inf")
