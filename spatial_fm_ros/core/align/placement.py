"""Where a window goes in the world: onto the current submap by its seam, or into a new submap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spatial_fm_ros.core.align.seam import OverlapView, align_window
from spatial_fm_ros.core.align.submap import Submap
from spatial_fm_ros.core.config import SeamConfig
from spatial_fm_ros.core.geometry.optical import BODY_FROM_OPTICAL
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.types import Array, Keyframe, PosedKeyframe, Prediction, SeamReport, Window

#: Median depth of a world without metres, in its units: voxels sized for metres then suit it.
TYPICAL_DEPTH = 3.0


def place_on_submap(
    window: Window, prediction: Prediction, submap: Submap, config: SeamConfig
) -> tuple[Sim3 | None, SeamReport]:
    """The seam of the window with the submap's tail. The similarity is None when the seam is refused."""
    world: list[PosedKeyframe] = []
    views: list[OverlapView] = []
    for i, keyframe in enumerate(window.keyframes[: window.overlap]):
        known = submap.tail.get(keyframe.id)
        if known is not None and prediction.posed[i]:
            world.append(known)
            views.append(
                OverlapView(
                    prediction.world_from_camera[i],
                    prediction.K[i],
                    prediction.depth[i],
                    prediction.confidence[i],
                )
            )
    sim, seam = align_window(world, views, config)
    if sim is None or not seam.accepted:
        return None, seam
    scale_is_open = not np.isfinite(seam.scale)
    if scale_is_open and submap.has_structure and prediction.has_depth:
        return None, replace(seam, accepted=False, reason=f"{seam.reason}; the scale is not carried over")
    return sim, seam


def start_submap(
    window: Window, prediction: Prediction, previous: PosedKeyframe | None, world_from_odom: Array | None
) -> Sim3:
    """world_from_window of a new submap, by its first posed keyframe (that has odometry, where the world has it).

    With odometry the keyframe goes where odometry has it (under the correction known so far); else
    onto the last pose of the world, as large as the last depth seen there; else to the origin,
    looking along x, with a median depth of `TYPICAL_DEPTH` units.
    """
    posed = [int(i) for i in np.flatnonzero(prediction.posed)]
    first = posed[0]
    if world_from_odom is not None:  # the first one may have come before any pose did
        first = next((i for i in posed if window.keyframes[i].odom_from_camera is not None), first)
    keyframe = window.keyframes[first]
    world_from_camera = _first_pose(keyframe, previous, world_from_odom)
    scale = _matching_scale(prediction, previous) if keyframe.odom_from_camera is None else 1.0
    window_from_camera = prediction.world_from_camera[first]
    rotation = world_from_camera[:3, :3] @ window_from_camera[:3, :3].T
    translation = world_from_camera[:3, 3] - scale * rotation @ window_from_camera[:3, 3]
    return Sim3(scale, rotation, translation)


def scaled_about(sim: Sim3, factor: float, centre: Array) -> Sim3:
    """`sim` followed by a scaling by `factor` about the world point `centre` [3]."""
    return Sim3(factor, np.eye(3), (1.0 - factor) * centre) @ sim


def _first_pose(keyframe: Keyframe, previous: PosedKeyframe | None, world_from_odom: Array | None) -> Array:
    if keyframe.odom_from_camera is not None:
        correction = np.eye(4) if world_from_odom is None else world_from_odom
        pose: Array = correction @ keyframe.odom_from_camera
        return pose
    return BODY_FROM_OPTICAL if previous is None else previous.world_from_camera


def _matching_scale(prediction: Prediction, previous: PosedKeyframe | None) -> float:
    """World over window median depth; 1 where the window has none."""
    if not prediction.has_depth:
        return 1.0
    known = previous is not None and np.isfinite(previous.depth).any()
    wanted = float(np.nanmedian(previous.depth)) if previous is not None and known else TYPICAL_DEPTH
    return wanted / float(np.nanmedian(prediction.depth))
