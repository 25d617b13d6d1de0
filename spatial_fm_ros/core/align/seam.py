"""Seams: bring a new window onto the world through the keyframes it shares with the window before.

Both windows hold depth of the same pixels and a pose of the same cameras. One similarity must map
all of them: it is found by iteratively reweighted least squares over pixel points and camera frames
(Huber weights to converge, then Tukey's so that outliers count nothing), each step being a weighted
closed form (Umeyama 1991).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spatial_fm_ros.core.config import SeamConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.cameras import unproject
from spatial_fm_ros.core.geometry.robust import huber_weights, tukey_weights, weighted_median
from spatial_fm_ros.core.geometry.rotations import chordal_mean, move_points, nearest_rotation, rotation_angle
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.types import Array, Depth, PosedKeyframe, SeamReport

#: Overlap pixels used per keyframe; more change the result by less than its noise.
PIXELS_PER_KEYFRAME = 3000
ITERATIONS = 12


@dataclass(frozen=True, eq=False)
class OverlapView:
    """One shared keyframe as the new window sees it, in the window's gauge."""

    window_from_camera: Array
    K: Array
    depth: Depth
    confidence: Depth


@dataclass(frozen=True, eq=False)
class _Correspondences:
    """Points of shared pixels [N, 3] in window gauge and world, their weights and depths [N]."""

    window: Array
    world: Array
    weight: Array
    depth: Array
    window_depth: Array


def align_window(
    world: Sequence[PosedKeyframe], window: Sequence[OverlapView], config: SeamConfig
) -> tuple[Sim3 | None, SeamReport]:
    """world_from_window from shared keyframes given in both frames, in the same order. Never raises.

    Returns the similarity and its report; the similarity is None where none could be computed.
    Without shared depth (a camera that only turns) the scale is not observed: the cameras alone
    give rotation and translation, and the report says so with scale NaN.
    """
    if not world:
        return None, _refused("no keyframe of the overlap is posed in both windows")
    try:
        pixels = _shared_pixels(world, window)
        if len(pixels.depth) < config.min_pixels:
            return _align_cameras_only(world, window, config, len(pixels.depth))
        sim, residual = _solve(world, window, pixels)
    except InputError as error:
        return None, _refused(f"the overlap cannot be used: {error}")
    share = float(np.average(residual < config.max_residual, weights=pixels.weight))
    report = _checked(world, window, sim, weighted_median(residual, pixels.weight), share, config)
    return sim, replace(report, scale_sigma=_scale_sigma(world, window))


def _solve(
    world: Sequence[PosedKeyframe], window: Sequence[OverlapView], pixels: _Correspondences
) -> tuple[Sim3, Array]:
    """IRLS from a robust start. Returns the similarity and the relative residual of every pixel.

    The cameras together weigh as much as the pixels (pixels are many but share one depth bias):
    their centres count for all of the similarity, their axes for the rotation only.
    """
    sim = _initial(world, window, pixels)
    depth_scale = float(np.median(pixels.depth))
    window_centres = np.stack([v.window_from_camera[:3, 3] for v in window])
    world_centres = np.stack([k.world_from_camera[:3, 3] for k in world])
    window_points = np.vstack([pixels.window, window_centres])
    world_points = np.vstack([pixels.world, world_centres])
    depths = (
        np.concatenate([pixels.depth, np.full(len(world), depth_scale)]),
        np.concatenate([pixels.window_depth, np.full(len(world), depth_scale / sim.scale)]),
    )
    base = np.concatenate([pixels.weight / pixels.weight.sum(), np.full(len(world), 1.0 / len(world))])
    axes = np.einsum(
        "nij,nkj->nik",
        np.stack([k.world_from_camera[:3, :3] for k in world]),
        np.stack([v.window_from_camera[:3, :3] for v in window]),
    )
    for weigh in (huber_weights, tukey_weights):
        for _ in range(ITERATIONS):
            residual, divisor = _residual(sim, window_points, world_points, depths)
            robust = np.concatenate(
                [weigh(residual[: -len(world)]), huber_weights(residual[-len(world) :])]
            )
            # Dividing by depth squared makes every point count by its relative error.
            updated = _weighted_similarity(
                world_points, window_points, base * robust * (depth_scale / divisor) ** 2, axes, depth_scale
            )
            change = abs(updated.log_scale - sim.log_scale) + rotation_angle(updated.R @ sim.R.T)
            sim = updated
            if change < 1e-7:
                break
    residual, _ = _residual(sim, window_points, world_points, depths)
    return sim, residual[: -len(world)]


def _weighted_similarity(a: Array, b: Array, weight: Array, axes: Array, length: float) -> Sim3:
    """a_from_b of points [N, 3] as Umeyama 1991 has it, the camera rotations `axes` [n, 3, 3] joining
    into the rotation as if each axis were a point at distance `length`. Raises InputError when the
    points do not fix a scale."""
    w = weight / weight.sum()
    a_mean, b_mean = w @ a, w @ b
    a_centred, b_centred = a - a_mean, b - b_mean
    spread = float(w @ np.square(b_centred).sum(axis=1))
    if not spread > 0:
        raise InputError("all overlap points fall together")
    covariance = (a_centred * w[:, None]).T @ b_centred
    # Axes are unit vectors on both sides: brought to the covariance's units by both extents.
    extent = length * np.sqrt(spread) / max(np.sqrt(float(w @ np.square(a_centred).sum(axis=1))), 1e-12)
    covariance_with_axes = covariance + axes.mean(axis=0) * length * extent / 3.0
    rotation = nearest_rotation(covariance_with_axes)
    if not np.sum(rotation * covariance) > 0:
        raise InputError("the overlap points contradict the cameras")
    # Horn's symmetric scale (1987): both sides are noisy, and a scale fitted from one to the other comes out too
    # small by the noise's share of the spread (0.4 % for 5 % noise of depth).
    scale = float(np.sqrt(w @ np.square(a_centred).sum(axis=1) / spread))
    return Sim3(scale, rotation, a_mean - scale * rotation @ b_mean)


def _residual(
    sim: Sim3, window_points: Array, world_points: Array, depths: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Distances over depth, and that depth: the larger of both sides', so that a depth that is far too
    large in one of them gains no leverage."""
    divisor = np.maximum(depths[0], sim.scale * depths[1])
    return np.linalg.norm(sim.apply(window_points) - world_points, axis=1) / divisor, divisor


def _initial(
    world: Sequence[PosedKeyframe], window: Sequence[OverlapView], pixels: _Correspondences
) -> Sim3:
    """Scale by the median depth ratio, rotation by the cameras' chordal mean, translation by the median."""
    rotation = _camera_rotation(world, window)
    scale = _depth_ratio(world, window)
    translation = np.median(pixels.world - scale * pixels.window @ rotation.T, axis=0)
    return Sim3(scale, rotation, translation)


def _align_cameras_only(
    world: Sequence[PosedKeyframe], window: Sequence[OverlapView], config: SeamConfig, pixels: int
) -> tuple[Sim3 | None, SeamReport]:
    """Without shared depth and without baseline, cameras fix rotation and place; scale stays open."""
    rotation = _camera_rotation(world, window)
    centres_world = np.stack([k.world_from_camera[:3, 3] for k in world])
    centres_window = np.stack([v.window_from_camera[:3, 3] for v in window])
    translation = np.mean(centres_world - centres_window @ rotation.T, axis=0)
    sim = Sim3(1.0, rotation, translation)
    angle = _largest_rotation_deg(world, window, sim)
    reason = f"only {pixels} shared pixels with depth, {config.min_pixels} needed: cameras alone were used"
    if angle > config.max_rotation_deg:
        return None, _refused(f"{reason}, and they disagree by {angle:.1f} deg")
    return sim, SeamReport(True, float("nan"), float("nan"), float("nan"), reason)


def _checked(
    world: Sequence[PosedKeyframe],
    window: Sequence[OverlapView],
    sim: Sim3,
    residual: float,
    share: float,
    config: SeamConfig,
) -> SeamReport:
    angle = _largest_rotation_deg(world, window, sim)
    reason = ""
    if residual > config.max_residual:
        reason = f"median residual {residual:.3f} of depth, at most {config.max_residual} allowed"
    elif share < config.min_inlier_share:
        reason = f"{share:.0%} of the overlap agrees, {config.min_inlier_share:.0%} needed"
    elif angle > config.max_rotation_deg:
        reason = f"camera orientations disagree by {angle:.1f} deg, at most {config.max_rotation_deg} allowed"
    return SeamReport(not reason, residual, share, sim.scale, reason)


def _refused(reason: str) -> SeamReport:
    return SeamReport(False, float("nan"), 0.0, float("nan"), reason)


def _shared_pixels(world: Sequence[PosedKeyframe], window: Sequence[OverlapView]) -> _Correspondences:
    """The most confident pixels known on both sides, spread over the image."""
    columns: list[tuple[Array, ...]] = []
    for keyframe, view in zip(world, window, strict=True):
        if keyframe.depth.shape != view.depth.shape:
            raise InputError(
                f"The overlap's depth grids differ ({keyframe.depth.shape} and {view.depth.shape}); "
                "a model must keep its grid between windows of one camera."
            )
        weight = np.sqrt(keyframe.confidence * view.confidence)
        known = np.isfinite(keyframe.depth) & np.isfinite(view.depth) & (weight > 0)
        index = np.flatnonzero(known)
        if len(index) > PIXELS_PER_KEYFRAME:
            index = index[np.linspace(0, len(index) - 1, PIXELS_PER_KEYFRAME).astype(np.int64)]
        in_window = unproject(view.K, view.depth).reshape(-1, 3)[index]
        in_world = unproject(keyframe.camera.K, keyframe.depth).reshape(-1, 3)[index]
        columns.append(
            (
                move_points(view.window_from_camera, in_window),
                move_points(keyframe.world_from_camera, in_world),
                weight.reshape(-1)[index].astype(np.float64),
                keyframe.depth.reshape(-1)[index].astype(np.float64),
                view.depth.reshape(-1)[index].astype(np.float64),
            )
        )
    return _Correspondences(*(np.concatenate(c) for c in zip(*columns, strict=True)))


def _log_ratios(world: Sequence[PosedKeyframe], window: Sequence[OverlapView]) -> list[Array]:
    """Of each keyframe with pixels known on both sides: log(world depth / window depth) of these."""
    ratios = []
    for keyframe, view in zip(world, window, strict=True):
        known = np.isfinite(keyframe.depth) & np.isfinite(view.depth)
        if known.any():
            ratios.append(np.log(keyframe.depth[known].astype(np.float64) / view.depth[known]))
    return ratios


def _depth_ratio(world: Sequence[PosedKeyframe], window: Sequence[OverlapView]) -> float:
    """Median of world depth over window depth on shared pixels."""
    return float(np.exp(np.median(np.concatenate(_log_ratios(world, window)))))


def _scale_sigma(world: Sequence[PosedKeyframe], window: Sequence[OverlapView]) -> float:
    """Standard deviation of the log-scale: the scatter of the keyframes' median depth ratios over their root
    number, wide for the few they are (as Student's t would have it, roughly). NaN for a single keyframe."""
    ratios = [float(np.median(each)) for each in _log_ratios(world, window)]
    if len(ratios) < 2:
        return float("nan")
    widened = (len(ratios) + 1.0) / (len(ratios) - 1.0)
    return float(np.std(ratios, ddof=1) / np.sqrt(len(ratios)) * widened**0.5)


def _camera_rotation(world: Sequence[PosedKeyframe], window: Sequence[OverlapView]) -> Array:
    relative = [
        k.world_from_camera[:3, :3] @ v.window_from_camera[:3, :3].T
        for k, v in zip(world, window, strict=True)
    ]
    return chordal_mean(np.stack(relative))


def _largest_rotation_deg(world: Sequence[PosedKeyframe], window: Sequence[OverlapView], sim: Sim3) -> float:
    angles = [
        rotation_angle(k.world_from_camera[:3, :3].T @ sim.R @ v.window_from_camera[:3, :3])
        for k, v in zip(world, window, strict=True)
    ]
    return float(np.degrees(max(angles)))
