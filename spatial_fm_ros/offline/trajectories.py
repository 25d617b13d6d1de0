"""From the poses of keyframes to trajectory files, and to a pose for every frame where odometry exists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.align.submap import Trajectory
from spatial_fm_ros.core.geometry.rotations import interpolate_pose, invert_pose
from spatial_fm_ros.core.types import Array
from spatial_fm_ros.evaluation.tum import StampedPoses, write_tum
from spatial_fm_ros.offline.record import RunRecord

#: Images so little outside of the poses that a refined clock may have done it are given the nearest one.
CLOCK_SLACK_NS = 5_000_000


def ordered(trajectories: list[Trajectory]) -> list[Trajectory]:
    """Maps with keyframes, the one with most of them first, then in order of time."""
    filled = [t for t in trajectories if len(t.stamps_ns)]
    if not filled:
        return []
    largest = max(filled, key=lambda t: len(t.stamps_ns))
    return [largest, *(t for t in filled if t is not largest)]


def write_trajectories(folder: Path, trajectories: list[Trajectory], files: list[str]) -> None:
    """trajectory.tum of the first, trajectory_1.tum ... of the others; names go to `files`. OutputError."""
    for number, trajectory in enumerate(trajectories):
        name = "trajectory.tum" if number == 0 else f"trajectory_{number}.tum"
        write_tum(folder / name, trajectory.stamps_ns, trajectory.world_from_camera)
        files.append(name)


def interpolated(stamps_ns: NDArray[np.int64], poses: Array, at_ns: int, max_gap_ns: int) -> Array | None:
    """The pose at a stamp between two of a rising sequence [n], or None outside or in a longer gap."""
    after = int(np.searchsorted(stamps_ns, at_ns))
    if after < len(stamps_ns) and stamps_ns[after] == at_ns:
        exact: Array = poses[after]
        return exact
    if after == 0 or after == len(stamps_ns):
        return None
    before_ns, after_ns = int(stamps_ns[after - 1]), int(stamps_ns[after])
    if after_ns - before_ns > max_gap_ns:
        return None
    return interpolate_pose(poses[after - 1], poses[after], (at_ns - before_ns) / (after_ns - before_ns))


def pose_every_frame(
    record: RunRecord,
    trajectory: Trajectory,
    body_from_camera: Array | None,
    max_gap_s: float,
    refined_ns: int | None = None,
) -> StampedPoses | None:
    """World poses of all frames: odometry, corrected as the keyframes around each frame are.

    The correction world_from_odom of a keyframe is interpolated between the two nearest keyframes
    and kept beyond the first and last. None when some frame has no odometry or fewer than two
    keyframes have, so that the file either covers everything or does not exist. Needs a metric world.
    `refined_ns`: calibration was refined on the way, to body_from_camera and recorded poses so much earlier;
    odometry at keyframes is then read anew.
    """
    known = [i for i, k in enumerate(trajectory.keyframe_ids) if int(k) in record.odom_from_camera]
    if len(known) < 2 or len(record.pose_stamps) < 2 or not record.frame_stamps:
        return None
    order = np.argsort(record.pose_stamps, kind="stable")
    pose_stamps = np.array(record.pose_stamps, dtype=np.int64)[order] - (refined_ns or 0)
    poses = np.stack(record.poses)[order]
    if body_from_camera is not None:
        poses = poses @ body_from_camera
    max_gap_ns = round(max_gap_s * 1e9)

    def at(stamp_ns: int) -> Array | None:
        inside = int(np.clip(stamp_ns, pose_stamps[0], pose_stamps[-1]))
        if refined_ns is not None and abs(inside - stamp_ns) < CLOCK_SLACK_NS:
            stamp_ns = inside  # a refined clock is not exact
        return interpolated(pose_stamps, poses, stamp_ns, max_gap_ns)

    at_keyframes = {i: record.odom_from_camera[int(trajectory.keyframe_ids[i])] for i in known}
    if refined_ns is not None:
        anew = {i: at(int(trajectory.stamps_ns[i])) for i in known}
        at_keyframes = {i: pose for i, pose in anew.items() if pose is not None}
        known = list(at_keyframes)
        if len(known) < 2:
            return None
    key_stamps = trajectory.stamps_ns[known]
    odometry = np.stack([at_keyframes[i] for i in known])
    corrections = trajectory.world_from_camera[known] @ invert_pose(odometry)
    stamps = np.unique(np.array(record.frame_stamps, dtype=np.int64))
    found = []
    for stamp in stamps:
        odom_from_camera = at(int(stamp))
        if odom_from_camera is None:
            return None
        nearest = int(np.clip(stamp, key_stamps[0], key_stamps[-1]))
        correction = interpolated(key_stamps, corrections, nearest, np.iinfo(np.int64).max)
        assert correction is not None
        found.append(correction @ odom_from_camera)
    return StampedPoses(stamps, np.stack(found), "trajectory_all")
