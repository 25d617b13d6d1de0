"""Pairs of keyframes: mutual nearest neighbours and their two-view geometry.

The relative pose comes from LO-RANSAC on the five-point solver (PoseLib). A rotation-only model is
fitted to the same matches: what it leaves over is the pair's parallax.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import poselib
import torch
from numpy.typing import NDArray

from spatial_fm_ros.core.models.geometric.features import Features
from spatial_fm_ros.core.types import Array

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PairGeometry:
    """Verified matches of features of image a and image b.

    matches int64 [m, 2] (feature of a, feature of b); b_from_a 4x4 with unit translation (its
    direction is meaningless without parallax); rotation [3, 3] b from a of the best rotation-only model,
    parallax_px what it leaves over (upper quartile, pixels); parallax_deg median angle between the rays
    of a match after the rotation of b_from_a; putative: matches before verification.
    """

    matches: Indices
    b_from_a: Array
    rotation: Array
    parallax_deg: float
    parallax_px: float
    putative: int

    def __len__(self) -> int:
        return len(self.matches)


NO_MATCHES = PairGeometry(np.zeros((0, 2), np.int64), np.eye(4), np.eye(3), 0.0, 0.0, 0)


@torch.inference_mode()
def mutual_matches(a: Features, b: Features, min_similarity: float) -> Indices:
    """Index pairs [m, 2] of features that are each other's nearest by cosine similarity."""
    if len(a) == 0 or len(b) == 0:
        return np.zeros((0, 2), np.int64)
    similarity = a.descriptors @ b.descriptors.T
    best, index_b = similarity.max(1)
    # A maximum without its place is many times cheaper down the columns than one with it.
    mutual = best == similarity.amax(0)[index_b]
    index_a = torch.nonzero(mutual & (best > min_similarity))[:, 0]
    found: Indices = torch.stack((index_a, index_b[index_a]), 1).cpu().numpy()
    return found


def bearings(xy: Array, K: Array) -> Array:
    """Unit rays [n, 3] through pixels [n, 2]."""
    rays = np.empty((len(xy), 3))
    rays[:, 0] = (xy[:, 0] - K[0, 2]) / K[0, 0]
    rays[:, 1] = (xy[:, 1] - K[1, 2]) / K[1, 1]
    rays[:, 2] = 1.0
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    return rays


def rotation_between(rays_a: Array, rays_b: Array, scale: float, rounds: int = 8) -> tuple[Array, Array]:
    """Rotation b_from_a [3, 3] that best takes rays a to rays b, and the angles [n] left over.

    Robust to a minority of outliers: least squares (Kabsch, 1976) re-weighted by Cauchy with `scale` radians.
    """
    weights = np.ones(len(rays_a))
    rotation, left = np.eye(3), np.zeros(len(rays_a))
    for _ in range(rounds):
        u, _, vt = np.linalg.svd((rays_b * weights[:, None]).T @ rays_a)
        u[:, 2] *= np.sign(np.linalg.det(u @ vt))
        rotation = u @ vt
        left = np.linalg.norm(np.cross(rays_a @ rotation.T, rays_b), axis=1)
        weights = 1.0 / (1.0 + (left / max(scale, float(np.median(left)))) ** 2)
    return rotation, left


def verify(
    a: Features, b: Features, K_a: Array, K_b: Array, putative: Indices, max_error_px: float, min_inliers: int
) -> PairGeometry:
    """The matches that agree with one relative pose; NO_MATCHES where fewer than `min_inliers` do."""
    if len(putative) < min_inliers:
        return NO_MATCHES
    xy_a, xy_b = a.xy[putative[:, 0]], b.xy[putative[:, 1]]
    pose, info = poselib.estimate_relative_pose(
        xy_a, xy_b, poselib_camera(K_a, a.size), poselib_camera(K_b, b.size),
        {"max_epipolar_error": max_error_px, "max_iterations": 500, "min_iterations": 50, "seed": 0},
        {"loss_type": "CAUCHY", "loss_scale": 0.5 * max_error_px, "max_iterations": 25},
    )  # fmt: skip
    inlier = np.asarray(info["inliers"], dtype=bool)
    if inlier.sum() < min_inliers:
        return NO_MATCHES
    rays_a, rays_b = bearings(xy_a[inlier], K_a), bearings(xy_b[inlier], K_b)
    b_from_a = np.eye(4)
    b_from_a[:3, :3], b_from_a[:3, 3] = pose.R, pose.t
    angle = np.linalg.norm(np.cross(rays_a @ b_from_a[:3, :3].T, rays_b), axis=1)
    focal = 0.5 * (K_a[0, 0] + K_b[0, 0])
    rotation, left = rotation_between(rays_a, rays_b, max_error_px / focal)
    return PairGeometry(
        matches=putative[inlier],
        b_from_a=b_from_a,
        rotation=rotation,
        parallax_deg=float(np.degrees(np.arcsin(np.median(angle).clip(0.0, 1.0)))),
        parallax_px=float(np.quantile(left, 0.75) * focal),
        putative=len(putative),
    )


def poselib_camera(K: Array, size: tuple[int, int]) -> dict[str, object]:
    """PoseLib's description of a pinhole."""
    return {
        "model": "PINHOLE",
        "width": size[0],
        "height": size[1],
        "params": [K[0, 0], K[1, 1], K[0, 2], K[1, 2]],
    }
