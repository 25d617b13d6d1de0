"""Odometry against the images' own camera motion: which of the two explains the matches of a window?

Structure from motion follows whatever most matches lie on, be it a lorry that fills half the image.
Odometry does not see the image, so it is judged by it: a match is explained by a camera motion when
some point in front of both cameras projects to both its ends (its epipolar segment, not only the
line: Hartley and Zisserman, Multiple View Geometry, 9.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.metric.pose_alignment import align_poses
from spatial_fm_ros.core.models.geometric.local_map import View
from spatial_fm_ros.core.models.geometric.matching import PairGeometry, bearings, mutual_matches
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.types import Array

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Odometry and images agree when the cameras of the window come within this share of the path, or this
#: distance, of each other, and their orientations within this angle.
SAME_SHARE, SAME_M, SAME_DEG = 0.1, 0.03, 1.5
LEAST_TRAVEL_M = 0.1  # with less, odometry says nothing about the direction of travel
#: Features more alike than this are matches to be explained; below, most are wrong under any motion.
ALIKE = 0.82
FEWEST_MATCHES = 100
ENOUGH = 0.3  # share of the matches that odometry must explain to be believed at all
CLEARLY = 0.05  # more of them than without any motion, where images see none
#: No camera is accelerated by more than this; poses that say so belong to an odometry that jumped.
LARGEST_ACCELERATION = 12.0  # m/s^2
STEP_NOISE_M = 0.06  # error of a step between keyframes that is not taken for acceleration
NEAREST_M = 0.5  # nothing nearer is expected in front of the camera


@dataclass(frozen=True, eq=False)
class PutativeMatches:
    """Matches of one pair of views by their looks alone: indices int64 [m, 2], unit rays [m, 3] in both."""

    indices: Indices
    rays_a: Array
    rays_b: Array


def prior_poses(views: Sequence[View]) -> Array | None:
    """odom_from_camera [N, 4, 4] of all views, or None where one is unknown, has no calibrated camera, or
    their motion is none a camera can make."""
    poses = [view.keyframe.odom_from_camera for view in views if view.keyframe.camera is not None]
    known = [pose for pose in poses if pose is not None and np.isfinite(pose).all()]
    if len(known) < max(3, len(views)):
        return None
    found = np.array(known)
    # The rig's cameras share instants: each has a motion of its own.
    for camera in {view.keyframe.frame_id for view in views}:
        own = [i for i, view in enumerate(views) if view.keyframe.frame_id == camera]
        if not _possible(found[own][:, :3, 3], np.array([views[i].keyframe.stamp_ns for i in own])):
            return None
    return found


def _possible(centres: Array, stamps_ns: Indices) -> bool:
    """Whether every step between keyframes departs from the step before by a plausible acceleration only."""
    seconds = np.diff(stamps_ns) / 1e9
    if (seconds <= 0).any():
        return False
    steps = np.diff(centres, axis=0)
    expected = steps[:-1] * (seconds[1:] / seconds[:-1])[:, None]
    departure = np.linalg.norm(steps[1:] - expected, axis=1)
    noise = STEP_NOISE_M * (1.0 + seconds[1:] / seconds[:-1])
    allowed = 0.5 * LARGEST_ACCELERATION * seconds[1:] * (seconds[1:] + seconds[:-1])
    return bool((departure < noise + allowed).all())


def agree(odom_from_camera: Array, world_from_camera: Array, strictness: float = 1.0) -> bool:
    """Whether both tell the same motion [N, 4, 4], up to a similarity, within `strictness` of the usual limits.
    Standing odometry agrees with none."""
    try:
        alignment = align_poses(odom_from_camera, world_from_camera, LEAST_TRAVEL_M)
    except InputError:
        return False
    if alignment.kind == "static":
        return False
    apart = alignment.odom_from_world.apply(world_from_camera[:, :3, 3]) - odom_from_camera[:, :3, 3]
    allowed = strictness * max(SAME_SHARE * alignment.travel_m, SAME_M)
    turned = alignment.rotation_gap_deg / SAME_DEG
    return turned < strictness and float(np.sqrt(np.square(apart).sum(1).mean())) < allowed


def putative_matches(
    views: Sequence[View], K: Array, first: int, tasks: Tasks
) -> dict[tuple[int, int], PutativeMatches]:
    """Matches {(a, b): ...}, a < b by place in `views`, of all pairs that hold one of views[first:]; K [N, 3, 3]."""
    wanted = [(a, b) for b in range(first, len(views)) for a in range(b)]

    def of_pair(pair: tuple[int, int]) -> PutativeMatches:
        a, b = pair
        indices = mutual_matches(views[a].features, views[b].features, ALIKE)
        rays_a = bearings(views[a].features.xy[indices[:, 0]], K[a])
        return PutativeMatches(indices, rays_a, bearings(views[b].features.xy[indices[:, 1]], K[b]))

    return dict(zip(wanted, tasks.map(of_pair, wanted), strict=True))


def explained(
    rays_a: Array, rays_b: Array, b_from_a: Array, tolerance: float, nearest: float, moving: bool = False
) -> Mask:
    """Matches [m] whose ray in b comes within `tolerance` (on the image plane at depth 1) of where a point on
    their ray in a, at least `nearest` from it and in front of both cameras, would be seen.

    `moving`: the point may also have moved along with the camera's way, so that it is seen on the other side
    of the infinitely far point: what drives in the same lane, or faster in the next.
    """
    start = rays_a @ b_from_a[:3, :3].T  # the point infinitely far away
    there = rays_b[:, :2] / rays_b[:, 2:]
    t = b_from_a[:3, 3]
    sure = start[:, 2] > 1e-6
    p = start[:, :2] / np.where(sure, start[:, 2], 1.0)[:, None]
    met = np.zeros(len(start), dtype=bool)
    for sign in (1.0, -1.0) if moving else (1.0,):
        # A point at inverse distance w is seen at start + w t: on a straight segment from w = 0 on.
        w = np.full(len(start), sign / nearest)
        if sign * t[2] < 0:
            w = sign * np.minimum(1.0 / nearest, 0.95 * np.maximum(start[:, 2], 0.0) / abs(t[2]))
        end = start + w[:, None] * t
        way = end[:, :2] / np.where(sure, end[:, 2], 1.0)[:, None] - p
        along = ((there - p) * way).sum(1) / np.maximum((way * way).sum(1), 1e-18)
        apart = there - p - along.clip(0.0, 1.0)[:, None] * way
        met |= sure & (np.einsum("ij,ij->i", apart, apart) < tolerance**2)
    return met


def explained_share(
    matches: Mapping[tuple[int, int], PutativeMatches],
    camera_from_world: Array,
    posed: Mask,
    tolerance: float,
    nearest: float,
    moving: bool = True,
) -> float:
    """Share of all matches that the cameras [N, 4, 4] explain; those of views that are not posed [N] count as
    not explained. 0 where there are fewer than `FEWEST_MATCHES`; other arguments as `explained`."""
    total = sum(len(pair.indices) for pair in matches.values())
    if total < FEWEST_MATCHES:
        return 0.0
    count = 0
    for (a, b), pair in matches.items():
        if posed[a] and posed[b]:
            b_from_a = camera_from_world[b] @ invert_pose(camera_from_world[a])
            count += int(explained(pair.rays_a, pair.rays_b, b_from_a, tolerance, nearest, moving).sum())
    return count / total


def pairs_of_poses(
    matches: Mapping[tuple[int, int], PutativeMatches],
    camera_from_world: Array,
    focal: float,
    tolerance_px: float,
    nearest: float = NEAREST_M,
) -> dict[tuple[int, int], PairGeometry]:
    """Pairs of views with the matches that known cameras explain by points at least `nearest` away."""
    pairs = {}
    for (a, b), pair in matches.items():
        b_from_a = camera_from_world[b] @ invert_pose(camera_from_world[a])
        kept = explained(pair.rays_a, pair.rays_b, b_from_a, tolerance_px / focal, nearest)
        if not kept.any():
            continue
        sine = np.linalg.norm(np.cross(pair.rays_a[kept] @ b_from_a[:3, :3].T, pair.rays_b[kept]), axis=1)
        pairs[a, b] = PairGeometry(
            matches=pair.indices[kept],
            b_from_a=b_from_a,
            rotation=b_from_a[:3, :3],
            parallax_deg=float(np.degrees(np.arcsin(np.median(sine).clip(0.0, 1.0)))),
            parallax_px=float(np.quantile(sine, 0.75) * focal),
            putative=len(pair.indices),
        )
    return pairs
