"""The similarity that takes a window's camera poses to the metric poses of the same cameras.

What positions alone leave open is never taken from them: on a straight path they fix neither the rotation
about it nor, under noise, its sign, so there the orientations give the rotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.robust import huber_weights, weighted_median
from spatial_fm_ros.core.geometry.rotations import chordal_mean, invert_pose, nearest_rotation, rotation_angle
from spatial_fm_ros.core.geometry.similarity import Sim3, umeyama
from spatial_fm_ros.core.metric.linearity import PathShape, path_shape
from spatial_fm_ros.core.types import Array

#: A keyframe fits a similarity when it lies within this share of the path's extent of its place.
INLIER_SHARE = 0.05
#: or within this of it: odometry of a short way is not better.
INLIER_M = 0.03
#: Pairs closer than this share of the extent carry noise rather than scale.
SHORTEST_PAIR = 0.25
#: A three-point hypothesis may differ from the median distance ratio by this factor, not more.
SCALE_FACTOR = 1.5
#: Where orientations agree within `SOUND_GAP_DEG`, a rotation from positions may depart from theirs so far.
SOUND_GAP_DEG = 10.0
LARGEST_TURN_DEG = 20.0
#: Triplets tried at most; windows of up to 12 keyframes are tried completely.
TRIPLETS = 220
#: Poses are not believed to be better than this in scale, however well they agree.
SMALLEST_SIGMA = 0.001
#: Share of a random walk against white noise in the errors of poses: the step of the walk over the noise.
WALKS = (0.0, 0.5, 1.5, 4.0)


@dataclass(frozen=True, eq=False)
class PoseAlignment:
    """odom = scale * rotation @ world + translation for camera centres; orientations turn by `rotation`.

    kind: "umeyama" (positions fix everything), "straight" (rotation from orientations, scale along the
    path) or "static" (no scale: scale NaN, sigma infinite; rotation from orientations). sigma: standard
    deviation of log(scale). inliers bool [N]: keyframes that fit. travel_m: odometry's extent;
    rotation_gap_deg: by how much camera orientations disagree with `rotation`, in the median.
    """

    kind: str
    scale: float
    rotation: Array
    translation: Array
    inliers: NDArray[np.bool_]
    sigma: float
    travel_m: float
    rotation_gap_deg: float

    @property
    def odom_from_world(self) -> Sim3:
        """Raises InputError for a static alignment, which has no scale."""
        return Sim3(self.scale, self.rotation, self.translation)


def align_poses(
    odom: Array, world: Array, min_travel_m: float, body_from_camera: Array | None = None
) -> PoseAlignment:
    """Align camera poses world_from_camera with odom_from_camera, both [N, 4, 4], N >= 3, by keyframe.

    body_from_camera [4, 4]: the camera on the body whose steps odometry measures; None: they are the camera's own.

    Distances alone choose the keyframes that agree on one scale. The linearity of both paths then decides
    about the rotation: three-point RANSAC (Fischler and Bolles 1981) and Umeyama's fit (1991), or on a
    straight path the chordal mean of the cameras' rotations (Hartley et al. 2013). Where too few keyframes
    agree, sigma is infinite. Raises InputError when orientations spread so widely that they have no mean.
    """
    a, b = odom[:, :3, 3], world[:, :3, 3]
    body_from_camera = np.eye(4) if body_from_camera is None else body_from_camera
    turns = odom[:, :3, :3] @ np.swapaxes(world[:, :3, :3], -1, -2)
    oriented = _mean_rotation(turns)
    gap_deg = _gap_deg(turns, oriented)
    ratio, fits = _consensus(a, b)
    travel = path_shape(a[fits] if fits.sum() > 1 else a).travel
    if travel < min_travel_m or not fits.any():
        middle = a.mean(axis=0) - oriented @ b.mean(axis=0)
        nothing = np.zeros(len(a), dtype=bool)
        return PoseAlignment(
            "static", float("nan"), oriented, middle, nothing, float("inf"), min(travel, path_shape(a).travel), gap_deg
        )
    log_scale, sigma, rotation, kind = float(np.log(ratio)), float("inf"), oriented, "straight"
    if fits.sum() >= max(3, len(a) / 2):
        shape, seen = path_shape(a[fits]), path_shape(b[fits])
        found = None
        if not shape.is_straight and not seen.is_straight:
            tolerance = _tolerance(travel)
            found = _ransac(a, b, ratio, oriented if gap_deg < SOUND_GAP_DEG else None, tolerance)
        if found is not None:
            kind, (fits, rotation) = "umeyama", found
        paths = [(each, b[fits]) for each in (a[fits], _followed(odom[fits], world[fits], body_from_camera))]
        if found is None:
            paths = [_on_line(each, other, path_shape(each), seen) for each, other in paths]
        log_scale, sigma = scale_of(paths, turned=found is not None)
        # What was left out as an outlier may have been the tail of the noise.
        sigma *= float(np.sqrt(len(a) / fits.sum()))
    scale = float(np.exp(log_scale))
    translation = np.median((a - scale * b @ rotation.T)[fits], axis=0)
    return PoseAlignment(kind, scale, rotation, translation, fits, sigma, travel, _gap_deg(turns, rotation))


def scale_of(paths: Sequence[tuple[Array, Array]], turned: bool = False) -> tuple[float, float]:
    """log(scale) and its standard deviation for a = scale * b + t, each [N, C] in order along the path.

    paths: readings (a, b) of one path that differ in how the steps of a are turned; `turned`: b is also
    rotated by an unknown rotation (C = 3).

    Errors of poses are partly new in every keyframe and partly a walk, and the walk weighs the ends of the path
    differently. Neither share is known, nor which reading errs less, so generalised least squares is done for
    each reading and each of `WALKS` and averaged by restricted likelihood (Patterson and Thompson 1971). Both sides
    may err, so the scale is that of symmetric regression (Horn 1987). Few keyframes: sigma is widened to Student's
    quantile. Not enough of them: sigma is infinite.
    """
    count, columns = paths[0][0].shape
    freedom = columns * (count - 1) - (4 if turned else 1)
    if freedom < 1:
        (a, b), *_ = paths
        return float(np.log(np.linalg.norm(np.ptp(a, axis=0)) / np.linalg.norm(np.ptp(b, axis=0)))), float("inf")
    fits = [_fitted(a, b, walk, freedom, turned) for a, b in paths for walk in WALKS]
    found = np.array([fit for fit in fits if fit is not None])
    if not len(found):
        return 0.0, float("inf")
    logs, variances, likelihoods = found.T
    chance = np.exp(likelihoods - likelihoods.max())
    chance /= chance.sum()
    mean = float(chance @ logs)
    variance = float(chance @ (variances + (logs - mean) ** 2))
    widened = float(student.ppf(0.977, freedom)) / 2.0
    return mean, max(widened * float(np.sqrt(variance)), SMALLEST_SIGMA)


def _fitted(a: Array, b: Array, walk: float, freedom: int, turned: bool) -> tuple[float, float, float] | None:
    """log(scale), its variance and the log of the restricted likelihood under one share of a walk in the errors;
    None where the paths run against each other."""
    count, columns = a.shape
    steps = np.linalg.norm(np.diff(a, axis=0), axis=1)
    way = np.concatenate([[0.0], np.cumsum(steps)]) / max(float(steps.mean()), 1e-12)
    V = np.eye(count) + walk**2 * np.minimum(way[:, None], way[None, :])
    inverse = np.linalg.inv(V)
    row = inverse.sum(axis=0)
    projector = inverse - np.outer(row, row) / row.sum()
    spread = b.T @ projector @ b
    aa, bb = float(np.sum(a * (projector @ a))), float(np.trace(spread))
    # What is known of the fitted parameters: the scale, and the three angles of a rotation.
    known = np.log(bb) + (np.linalg.slogdet(bb * np.eye(3) - spread)[1] if turned else 0.0)
    covariance = a.T @ projector @ b
    ab = float(np.sum(nearest_rotation(covariance) * covariance) if turned else np.trace(covariance))
    if not ab > 0:
        return None
    unexplained = max(1.0 - ab * ab / (aa * bb), 1e-12)
    likelihood = (
        -0.5 * columns * (np.linalg.slogdet(V)[1] + np.log(row.sum()))
        - 0.5 * known - 0.5 * freedom * np.log(unexplained * aa) - np.log(1.0 + walk)
    )  # fmt: skip
    # Half the unexplained share is how far symmetric regression is from either one-sided one.
    return 0.5 * float(np.log(aa / bb)), unexplained / freedom + (0.5 * unexplained) ** 2, float(likelihood)


def _followed(odom: Array, world: Array, body_from_camera: Array) -> Array:
    """Camera centres [N, 3] by odometry's steps and the images' orientations; odom, world as in `align_poses`.

    The heading that odometry has lost since the start bends its path, and its tilt swings a camera far from the
    body: neither is felt by the body's steps as seen from the camera.
    """
    body = odom @ invert_pose(body_from_camera)
    turns = world[:, :3, :3] @ np.swapaxes(odom[:, :3, :3], -1, -2)
    between = nearest_rotation(turns[1:] + turns[:-1])
    steps = np.einsum("nij,nj->ni", between, np.diff(body[:, :3, 3], axis=0))
    lever = world[:, :3, :3] @ body_from_camera[:3, :3].T @ body_from_camera[:3, 3]
    followed: Array = np.vstack([np.zeros(3), np.cumsum(steps, axis=0)]) + lever
    return followed


def _tolerance(travel_m: float) -> float:
    return max(INLIER_SHARE * travel_m, INLIER_M)


def _consensus(a: Array, b: Array) -> tuple[float, NDArray[np.bool_]]:
    """Scale on which the most keyframes agree by their distances alone, and which those are.

    Every pair that is far enough apart proposes its ratio of distances; another keyframe agrees when its
    distances to both ends fit that ratio. The scale is the weighted median ratio of the agreeing pairs.
    No keyframe agrees when images or odometry saw no motion.
    """
    metres = np.linalg.norm(a[:, None] - a, axis=2)
    units = np.linalg.norm(b[:, None] - b, axis=2)
    first, second = np.triu_indices(len(a), k=1)
    far = metres[first, second] > SHORTEST_PAIR * metres.max()
    far &= units[first, second] > 0.1 * SHORTEST_PAIR * units.max()
    first, second = first[far], second[far]
    if not len(first):
        return float("nan"), np.zeros(len(a), dtype=bool)
    ratio = metres[first, second] / units[first, second]
    gaps = [np.abs(metres[end] - ratio[:, None] * units[end]) for end in (first, second)]
    tolerance = np.maximum(INLIER_SHARE * ratio * units.max(), INLIER_M)
    residual = np.maximum(*gaps) / tolerance[:, None]
    best = int(np.argmin(np.minimum(np.square(residual), 1.0).sum(axis=1)))
    fits: NDArray[np.bool_] = residual[best] < 1.0
    agreeing = fits[first] & fits[second]
    weight = metres[first, second][agreeing]
    return float(np.exp(weighted_median(np.log(ratio[agreeing]), weight))), fits


def _ransac(
    a: Array, b: Array, ratio: float, oriented: Array | None, tolerance: float
) -> tuple[NDArray[np.bool_], Array] | None:
    """Inliers and rotation of the best three-point hypothesis, refined; None when less than half agree.

    Hypotheses far from the scale `ratio`, or from the rotation `oriented` where that is known, are left out.
    """
    triplets = np.array(list(combinations(range(len(a)), 3)))
    if len(triplets) > TRIPLETS:
        triplets = triplets[np.random.default_rng(0).choice(len(triplets), TRIPLETS, replace=False)]
    scale, rotation, translation, sound = _similarities(a[triplets], b[triplets])
    sound &= np.abs(np.log(scale / ratio)) < np.log(SCALE_FACTOR)
    if oriented is not None:
        sound &= rotation_angle(rotation @ oriented.T) < np.radians(LARGEST_TURN_DEG)
    if not sound.any():
        return None
    placed = np.einsum("t,tij,nj->tni", scale, rotation, b) + translation[:, None]
    residual = np.linalg.norm(placed - a, axis=2)
    cost = np.minimum(np.square(residual / tolerance), 1.0).sum(axis=1)
    best = int(np.argmin(np.where(sound, cost, np.inf)))
    inliers: NDArray[np.bool_] = residual[best] < tolerance
    for _ in range(3):
        if inliers.sum() < max(3, len(a) / 2):
            return None
        try:
            sim = umeyama(a[inliers], b[inliers])
        except InputError:
            return None
        inliers = np.linalg.norm(sim.apply(b) - a, axis=1) < tolerance
    turned = oriented is not None and rotation_angle(sim.R @ oriented.T) > np.radians(LARGEST_TURN_DEG)
    return None if turned or inliers.sum() < max(3, len(a) / 2) else (inliers, sim.R)


def _similarities(a: Array, b: Array) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """Umeyama's closed form for many sets at once: a, b [T, n, 3] -> scale [T], rotation [T, 3, 3],
    translation [T, 3] and whether the set fixes them (not on a line)."""
    mean_a, mean_b = a.mean(axis=1), b.mean(axis=1)
    da, db = a - mean_a[:, None], b - mean_b[:, None]
    covariance = np.einsum("tni,tnj->tij", da, db)
    singular = np.linalg.svd(covariance, compute_uv=False)
    rotation = nearest_rotation(covariance)
    spread = np.square(db).sum(axis=(1, 2))
    scale = np.einsum("tij,tij->t", rotation, covariance) / np.maximum(spread, 1e-300)
    sound: NDArray[np.bool_] = (singular[:, 1] > 1e-3 * singular[:, 0]) & (scale > 0)
    scale = np.where(sound, scale, 1.0)
    return scale, rotation, mean_a - scale[:, None] * np.einsum("tij,tj->ti", rotation, mean_b), sound


def _on_line(a: Array, b: Array, shape: PathShape, seen: PathShape) -> tuple[Array, Array]:
    """Both paths as positions [N, 1] along their own directions, with the same sign."""
    along_a, along_b = (a - a.mean(axis=0)) @ shape.direction, (b - b.mean(axis=0)) @ seen.direction
    return along_a[:, None], (along_b if along_a @ along_b > 0 else -along_b)[:, None]


def _mean_rotation(turns: Array) -> Array:
    """Chordal mean of rotations [N, 3, 3] with outlying ones weighed down."""
    mean = chordal_mean(turns)
    for _ in range(5):
        mean = chordal_mean(turns, huber_weights(rotation_angle(turns @ mean.T)))
    return mean


def _gap_deg(turns: Array, rotation: Array) -> float:
    return float(np.degrees(np.median(rotation_angle(turns @ rotation.T))))
