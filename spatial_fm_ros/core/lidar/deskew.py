"""Motion compensation of LiDAR sweeps: every point moved to where the LiDAR would have seen it at one time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.geometry.rotations import interpolate_pose, invert_pose
from spatial_fm_ros.core.types import Array, LidarScan

#: Poses are asked for at knots this far apart; between knots the motion is taken as even (SLERP and line).
KNOT_NS = 10_000_000
#: Poses that end inside a sweep are carried on with constant velocity for so long, not longer.
MAX_EXTRAPOLATION_NS = 150_000_000


def deskewed(
    scan: LidarScan, pose_at: Callable[[int], Array | None], body_from_lidar: Array, at_ns: int
) -> NDArray[np.float32] | None:
    """The scan's points float32 [N, 3], metres, in the LiDAR frame as it stood at `at_ns`.

    `pose_at` gives odom_from_body [4, 4] at a stamp, None where it is unknown (as `PoseBuffer.at`).
    Rows stay those of `scan.points`: NaN points stay NaN, times may be in any order and repeat; without
    point times the whole sweep is taken at `scan.stamp_ns`. None when the poses do not reach over the
    sweep and `at_ns`, apart from `MAX_EXTRAPOLATION_NS` at the sweep's ends, or break (a jump, a gap)
    within it: then nothing is known about the motion.
    """
    points = np.asarray(scan.points, dtype=np.float64)
    if not len(points):
        return points.astype(np.float32)
    anchor = pose_at(at_ns)
    if scan.point_times_ns is None:
        first_ns = last_ns = scan.stamp_ns
    else:
        first_ns = scan.stamp_ns + int(scan.point_times_ns.min())
        last_ns = scan.stamp_ns + int(scan.point_times_ns.max())
    knots = _knots(first_ns, last_ns)
    poses = _completed([pose_at(int(stamp)) for stamp in knots], knots)
    if anchor is None and poses is not None and first_ns <= at_ns <= last_ns:
        anchor = _within(poses, knots, at_ns)
    if anchor is None or poses is None:
        return None
    at_from_lidar = invert_pose(anchor @ body_from_lidar) @ poses @ body_from_lidar
    if scan.point_times_ns is None or len(knots) == 1:
        return (points @ at_from_lidar[0, :3, :3].T + at_from_lidar[0, :3, 3]).astype(np.float32)
    since_first = (scan.point_times_ns + (scan.stamp_ns - first_ns)) / (knots[1] - knots[0])
    return _moved(points, since_first, at_from_lidar).astype(np.float32)


def _knots(first_ns: int, last_ns: int) -> NDArray[np.int64]:
    """Evenly spaced stamps over a sweep, both ends included."""
    if last_ns == first_ns:
        return np.array([first_ns])
    count = -(-(last_ns - first_ns) // KNOT_NS)
    step = -(-(last_ns - first_ns) // count)  # rounded up: the last knot must not come before the last point
    return first_ns + step * np.arange(count + 1)


def _completed(poses: Sequence[Array | None], knots: NDArray[np.int64]) -> Array | None:
    """Poses [K, 4, 4] with missing ends carried on from the two nearest; None where that is not allowed."""
    known = [i for i, pose in enumerate(poses) if pose is not None]
    if not known or len(known) != known[-1] - known[0] + 1:
        return None
    missing_ns = max(knots[known[0]] - knots[0], knots[-1] - knots[known[-1]])
    if missing_ns and (missing_ns > MAX_EXTRAPOLATION_NS or len(known) < 2):
        return None
    filled = np.array([np.eye(4) if pose is None else pose for pose in poses])
    for ends, inner in ((range(known[0]), known[:2]), (range(known[-1] + 1, len(poses)), known[-2:])):
        for i in ends:
            a, b = inner
            filled[i] = interpolate_pose(filled[a], filled[b], (i - a) / (b - a))
    return filled


def _within(poses: Array, knots: NDArray[np.int64], at_ns: int) -> Array:
    """The pose at a stamp between the first and the last knot."""
    if len(knots) == 1:
        pose: Array = poses[0]
        return pose
    i = min(int((at_ns - knots[0]) // (knots[1] - knots[0])), len(knots) - 2)
    return interpolate_pose(poses[i], poses[i + 1], (at_ns - knots[i]) / (knots[i + 1] - knots[i]))


def _moved(points: Array, when: Array, at_from_lidar: Array) -> Array:
    """Points [N, 3] through poses [K, 4, 4] at fractional knots `when` [N] in [0, K - 1].

    Between two knots rotation is exp(f w), written by Rodrigues' formula as I + sin(f a) K + (1 - cos(f a)) K^2,
    so that a segment's points need three products with 3x3 matrices instead of a rotation each.
    """
    segment = np.clip(when.astype(np.int64), 0, len(at_from_lidar) - 2)
    order = np.argsort(segment, kind="stable")
    bounds = np.searchsorted(segment[order], np.arange(len(at_from_lidar)))
    moved = np.empty_like(points)
    R, t = at_from_lidar[:, :3, :3], at_from_lidar[:, :3, 3]
    steps = Rotation.from_matrix(np.swapaxes(R[:-1], 1, 2) @ R[1:]).as_rotvec()
    angles = np.linalg.norm(steps, axis=1)
    # The matrices that multiply crosswise by each axis.
    axes = np.cross(np.eye(3), (steps / np.maximum(angles, 1e-12)[:, None])[:, None])
    across = R[:-1] @ axes
    inward = across @ axes
    for k in range(len(at_from_lidar) - 1):
        rows = order[bounds[k] : bounds[k + 1]]
        if not len(rows):
            continue
        fraction = when[rows] - k
        mine, angle = points[rows], fraction * angles[k]
        turned = mine @ R[k].T
        turned += np.sin(angle)[:, None] * (mine @ across[k].T)
        turned += (1.0 - np.cos(angle))[:, None] * (mine @ inward[k].T)
        moved[rows] = turned + t[k] + fraction[:, None] * (t[k + 1] - t[k])
    return moved
