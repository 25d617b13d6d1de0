"""Seams: bring a new window onto the world through the keyframes it shares with the window before.

Both windows hold depth of the same pixels and a pose of the same cameras. One similarity must map
all of them: it is found by iteratively reweighted least squares (Huber weights, Huber 1964) over
pixel points and camera frames, each step being a weighted closed form (Umeyama 1991).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.config import SeamConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.cameras import unproject
from spatial_fm_ros.core.geometry.robust import huber_weights, weighted_median
from spatial_fm_ros.core.geometry.rotations import chordal_mean, rotation_angle
from spatial_fm_ros.core.geometry.similarity import Sim3, umeyama
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
    """Points of shared pixels: window gauge, world, relative weights, world depth."""

    window: Array
    world: Array
    weight: Array
    depth: Array


def align_window(
    world: Sequence[PosedKeyframe], window: Sequence[OverlapView], config: SeamConfig
) -> tuple[Sim3 | None, SeamReport]:
    """world_from_window from shared keyframes given in both frames, in the same order.

    Returns the similarity and its report; the similarity is None where none could be computed.
    Without shared depth (a camera that only turns) the scale is not observed: the cameras alone
    give rotation and translation, and the report says so with scale NaN.
    """
    if not world:
        return None, _refused("no keyframe of the overlap is posed in both windows")
    pixels = _shared_pixels(world, window)
    if len(pixels.depth) < config.min_pixels:
        return _align_cameras_only(world, window, config, len(pixels.depth))
    try:
        sim, residual = _solve(world, window, pixels)
    except InputError as error:
        return None, _refused(f"the overlap is degenerate ({error})")
    share = float(np.average(residual < config.max_residual, weights=pixels.weight))
    return sim, _checked(world, window, sim, weighted_median(residual, pixels.weight), share, config)


def _solve(
    world: Sequence[PosedKeyframe], window: Sequence[OverlapView], pixels: _Correspondences
) -> tuple[Sim3, Array]:
    """IRLS from a robust start. Returns the similarity and the relative residual of every pixel."""
    sim = _initial(world, window, pixels)
    world_frames, window_frames = _frame_points(world, window, pixels)
    # The cameras together weigh as much as the pixels: pixels are many but share one depth bias.
    base = pixels.weight / pixels.weight.sum()
    frame_base = np.full(len(world_frames), 1.0 / len(world_frames))
    depth_scale = float(np.median(pixels.depth))
    for _ in range(ITERATIONS):
        residual = np.linalg.norm(sim.apply(pixels.window) - pixels.world, axis=1) / pixels.depth
        frame_residual = np.linalg.norm(sim.apply(window_frames) - world_frames, axis=1) / depth_scale
        # Weights divide by depth squared so that every pixel counts by its relative error.
        w_pixels = base * huber_weights(residual) * (depth_scale / pixels.depth) ** 2
        w_frames = frame_base * huber_weights(frame_residual)
        updated = umeyama(
            np.vstack([pixels.world, world_frames]),
            np.vstack([pixels.window, window_frames]),
            np.concatenate([w_pixels, w_frames]),
        )
        change = abs(updated.log_scale - sim.log_scale) + rotation_angle(updated.R @ sim.R.T)
        sim = updated
        if change < 1e-9:
            break
    residual = np.linalg.norm(sim.apply(pixels.window) - pixels.world, axis=1) / pixels.depth
    return sim, residual


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
    columns: list[tuple[Array, Array, Array, Array]] = []
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
                _move(view.window_from_camera, in_window),
                _move(keyframe.world_from_camera, in_world),
                weight.reshape(-1)[index].astype(np.float64),
                keyframe.depth.reshape(-1)[index].astype(np.float64),
            )
        )
    window_points, world_points, weights, depths = (np.concatenate(c) for c in zip(*columns, strict=True))
    return _Correspondences(window_points, world_points, weights, depths)


def _frame_points(
    world: Sequence[PosedKeyframe], window: Sequence[OverlapView], pixels: _Correspondences
) -> tuple[Array, Array]:
    """Each camera as four points: its centre and the tips of its axes, as long as half the scene is deep."""
    length = 0.5 * float(np.median(pixels.depth))
    ratio = _depth_ratio(world, window)
    tips = np.vstack([np.zeros(3), np.eye(3)])
    world_points = [_move(k.world_from_camera, tips * length) for k in world]
    window_points = [_move(v.window_from_camera, tips * length / ratio) for v in window]
    return np.vstack(world_points), np.vstack(window_points)


def _depth_ratio(world: Sequence[PosedKeyframe], window: Sequence[OverlapView]) -> float:
    """Median of world depth over window depth on shared pixels."""
    logs = []
    for keyframe, view in zip(world, window, strict=True):
        known = np.isfinite(keyframe.depth) & np.isfinite(view.depth)
        logs.append(np.log(keyframe.depth[known].astype(np.float64) / view.depth[known]))
    return float(np.exp(np.median(np.concatenate(logs))))


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


def _move(a_from_b: Array, points: Array) -> Array:
    moved: Array = points @ a_from_b[:3, :3].T + a_from_b[:3, 3]
    return moved
