"""A prior's cameras and those of solved images in one gauge, how far they are apart, and views added to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import chordal_mean, invert_pose
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.models.geometric.dense_views import project
from spatial_fm_ros.core.models.geometric.structure import Mask, Structure
from spatial_fm_ros.core.models.hybrid.prior import PriorWindow
from spatial_fm_ros.core.types import Array


@dataclass(frozen=True, eq=False)
class Aligned:
    """The prior's cameras in a structure's gauge. camera_from_world [N, 4, 4] (NaN where not posed); gauge: the
    similarity; depth: median of the structure's points in its views."""

    camera_from_world: Array
    gauge: Sim3
    depth: float


def align(structure: Structure, first: int, prior: PriorWindow) -> Aligned | None:
    """The prior's cameras and scale in the gauge of a structure whose views from `first` on are the window's.

    The scale is that of depth at the structure's points: it is known where cameras stand nearly in one place, too.
    None where the two share too little.
    """
    world_from_camera = invert_pose(structure.camera_from_world[first:])
    both = structure.posed[first:] & prior.posed
    if not both.any():
        return None
    visible = structure.visibility()[first:]
    nothing = (np.zeros((0, 2)), np.zeros(0))
    seen = [
        _seen(structure.points[visible[view]], world_from_camera[view], prior.K[view]) if both[view] else nothing
        for view in range(len(both))
    ]
    scale = prior.scale_of(seen)
    if not np.isfinite(scale):
        return None
    rotations = world_from_camera[both, :3, :3] @ np.swapaxes(prior.world_from_camera[both, :3, :3], -1, -2)
    try:
        rotation = chordal_mean(rotations)
    except InputError:
        return None
    centres = scale * prior.world_from_camera[both, :3, 3] @ rotation.T
    shift = np.median(world_from_camera[both, :3, 3] - centres, axis=0)
    gauge = Sim3(scale, rotation, shift)
    poses = np.full_like(prior.world_from_camera, np.nan)
    poses[prior.posed] = invert_pose(gauge.apply_pose(prior.world_from_camera[prior.posed]))
    return Aligned(poses, gauge, float(np.median(np.concatenate([depth for _, depth in seen]))))


def _seen(points: Array, world_from_camera: Array, K: Array) -> tuple[Array, Array]:
    """Pixels [M, 2] and depth [M] of the points [m, 3] in front of a camera."""
    pixels, depth = project(points, world_from_camera[None], K[None])
    ahead = depth[0] > 0
    return pixels[0][ahead], depth[0][ahead]


def completed(world_from_camera: Array, posed: Mask, prior: Array, scale: float) -> tuple[Array, Mask]:
    """Poses [N, 4, 4] with those not `posed` [N] where `prior` [N, 4, 4] (NaN unknown; `scale` gauge units to its
    unit) has them from the nearest posed one by number; and which are known then."""
    told: Mask = np.asarray(np.isfinite(prior).all(axis=(1, 2)))
    anchors = np.flatnonzero(posed & told)
    poses, known = world_from_camera.copy(), posed.copy()
    if not len(anchors):
        return poses, known
    for view in np.flatnonzero(~known & told):
        anchor = int(anchors[np.abs(anchors - view).argmin()])
        step = invert_pose(prior[anchor]) @ prior[view]
        step[:3, 3] *= scale
        poses[view], known[view] = poses[anchor] @ step, True
    return poses, known


def apart(camera_from_world: Array, wanted: Array) -> tuple[Array, Array]:
    """Motions (rotation [N, 3], shift [N, 3]) in each camera's frame that take its pose to `wanted`; NaN unknown."""
    turns, shifts = np.full((len(wanted), 3), np.nan), np.full((len(wanted), 3), np.nan)
    known = np.isfinite(wanted).all(axis=(1, 2))
    if not known.any():
        return turns, shifts
    here, there = camera_from_world[known], wanted[known]
    turns[known] = Rotation.from_matrix(there[:, :3, :3] @ np.swapaxes(here[:, :3, :3], -1, -2)).as_rotvec()
    way = invert_pose(there)[:, :3, 3] - invert_pose(here)[:, :3, 3]
    shifts[known] = -np.einsum("nij,nj->ni", here[:, :3, :3], way)
    return turns, shifts


def moved_by(camera_from_world: Array, motion: Array) -> Array:
    """Poses [N, 4, 4] after motions [N, 6] as `apart` gives them."""
    world_from_camera = invert_pose(camera_from_world)
    turn = Rotation.from_rotvec(motion[:, :3]).as_matrix()
    centres = world_from_camera[:, :3, 3] - np.einsum("nji,nj->ni", camera_from_world[:, :3, :3], motion[:, 3:])
    poses = np.asarray(camera_from_world).copy()
    poses[:, :3, :3] = turn @ camera_from_world[:, :3, :3]
    poses[:, :3, 3] = -np.einsum("nij,nj->ni", poses[:, :3, :3], centres)
    return poses
