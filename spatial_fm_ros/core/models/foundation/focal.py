"""A window's geometry under the true camera, where the network has guessed another focal length.

z-depth d at pixel u of the network's camera is the point d * inv(K_net) u; under the true K it becomes
s * d * inv(K) u. With s = f_true / f_net every point keeps its size across the view, and views that look one
way stay exactly consistent with all image motion when camera centres are stretched by the same affine map,
diag(1, 1, s) up to the principal point. That is the direction in which images say nothing about the focal length
(the affine ambiguity; Hartley and Zisserman, Multiple View Geometry, 2004, chapter 19), so it is where a guess is
wrong. A view turned by small angles across the optical axis is turned by 1/s of them, which keeps its pixels.
Views that go round something do fix the focal length; then depth and poses are better left as they are. Which of the
two holds is measured: the same pixels seen from two views must be the same points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.geometry.rotations import chordal_mean, invert_pose
from spatial_fm_ros.core.types import Array, Depth

#: Below this, as |log s|, a correction is not worth its errors; above the second the guess is no focal length.
NEGLIGIBLE, ABSURD = 0.002, 0.5
#: Pixels compared per pair of views, and how well their depths must agree before.
PIXELS, AGREEMENT = 400, 0.1


@dataclass(frozen=True, eq=False)
class TrueGeometry:
    """world_from_camera [N, 4, 4] and the factor of all depths under the true cameras.

    ratio: f_true / f_net, the median of the window; spread: median distance over depth between the points of the
    same pixel in two views (NaN where none are shared).
    """

    world_from_camera: Array
    depth_factor: float
    ratio: float
    spread: float


def under_true_cameras(world_from_camera: Array, K_net: Array, K_true: Array, depth: Depth) -> TrueGeometry:
    """Poses float64 [N, 4, 4] and depth [N, h, w] (NaN unknown) found with K_net, for K_true [N, 3, 3] of one grid.

    Precondition: all poses are finite.
    """
    log_ratios = np.log(K_true[:, [0, 1], [0, 1]] / K_net[:, [0, 1], [0, 1]])
    log_s = float(np.median(log_ratios.mean(axis=1)))
    kept = TrueGeometry(world_from_camera, 1.0, float(np.exp(log_s)), float("nan"))
    if not NEGLIGIBLE < abs(log_s) < ABSURD:
        return kept
    pairs = _shared_pixels(world_from_camera, K_net, depth)
    stretched = _stretched(world_from_camera, K_net, K_true, kept.ratio)
    if pairs is None:
        return TrueGeometry(stretched, kept.ratio, kept.ratio, float("nan"))
    spreads = [
        _spread(pairs, poses, K_true, factor) for poses, factor in ((world_from_camera, 1.0), (stretched, kept.ratio))
    ]
    if spreads[0] < spreads[1]:
        return TrueGeometry(world_from_camera, 1.0, kept.ratio, spreads[0])
    return TrueGeometry(stretched, kept.ratio, kept.ratio, spreads[1])


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


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The same scene point in two views: view numbers, pixels [M, 2] and depths [M] of both."""

    views: tuple[Array, Array]
    pixels: tuple[Array, Array]
    depths: tuple[Array, Array]


def _shared_pixels(poses: Array, K: Array, depth: Depth) -> _Pairs | None:
    """Pixels that meet in two views under the network's own geometry; None where there are too few."""
    count, height, width = depth.shape
    steps = {1, max(1, count // 2)}
    found: list[tuple[Array, ...]] = []
    for i, j in [(i, i + step) for step in steps for i in range(count - step)]:
        known = np.flatnonzero(np.isfinite(depth[i]))
        if not len(known):
            continue
        v, u = np.divmod(known[np.linspace(0, len(known) - 1, min(PIXELS, len(known))).astype(np.int64)], width)
        z = depth[i, v, u].astype(np.float64)
        first = np.stack([u, v], axis=1).astype(np.float64)
        points = _lifted(first, z, K[i]) @ poses[i, :3, :3].T + poses[i, :3, 3]
        back = invert_pose(poses[j])
        seen = points @ back[:3, :3].T + back[:3, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            second = (seen @ K[j].T)[:, :2] / seen[:, 2:]
        inside = (seen[:, 2] > 0) & (second > -0.5).all(1) & (second < (width - 0.5, height - 0.5)).all(1)
        first, second, z, expected = first[inside], second[inside], z[inside], seen[inside, 2]
        at = np.rint(second).astype(np.int64)
        there = depth[j, at[:, 1], at[:, 0]].astype(np.float64)
        agree = np.abs(there / expected - 1.0) < AGREEMENT
        size = int(agree.sum())
        found.append(
            (np.full(size, i), np.full(size, j), first[agree], second[agree], z[agree], there[agree])
        )
    if sum(len(each[0]) for each in found) < PIXELS // 4:
        return None
    i_all, j_all, first, second, z, there = (np.concatenate(column) for column in zip(*found, strict=True))
    return _Pairs((i_all, j_all), (first, second), (z, there))


def _spread(pairs: _Pairs, poses: Array, K: Array, factor: float) -> float:
    """Median distance over depth of the pairs' points under these cameras."""
    points = []
    for view, pixels, z in zip(pairs.views, pairs.pixels, pairs.depths, strict=True):
        local = _lifted(pixels, z * factor, K[view])
        points.append(np.einsum("nij,nj->ni", poses[view, :3, :3], local) + poses[view, :3, 3])
    return float(np.median(np.linalg.norm(points[0] - points[1], axis=1) / (pairs.depths[0] * factor)))


def _lifted(pixels: Array, z: Array, K: Array) -> Array:
    """Points [M, 3] of pixels [M, 2] at depths [M]; K [3, 3] or one for each pixel [M, 3, 3]."""
    homogeneous = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
    rays: Array = np.linalg.solve(np.broadcast_to(K, (len(pixels), 3, 3)), homogeneous[..., None])[..., 0]
    return rays * z[:, None]
