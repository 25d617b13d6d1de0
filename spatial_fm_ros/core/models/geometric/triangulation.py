"""Points from tracks and known cameras, for all tracks at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.models.geometric.tracks import Tracks
from spatial_fm_ros.core.types import Array

Mask = NDArray[np.bool_]


def normalise(tracks: Tracks, K: Array) -> Array:
    """Observations [n, 2] on the image plane at depth 1; K [N, 3, 3]."""
    k = K[tracks.view]
    return np.stack(((tracks.xy[:, 0] - k[:, 0, 2]) / k[:, 0, 0], (tracks.xy[:, 1] - k[:, 1, 2]) / k[:, 1, 1]), axis=1)


def triangulate(tracks: Tracks, K: Array, camera_from_world: Array, use: Mask) -> Array:
    """Points [count, 3] in the world, NaN where fewer than two used observations see a track.

    Linear (DLT; Hartley and Zisserman, Multiple View Geometry, 12.2) on normalised image points, so
    that it is exact for exact observations; `use` [n] chooses observations.
    """
    xy, view, track = normalise(tracks, K)[use], tracks.view[use], tracks.track[use]
    pose = camera_from_world[view, :3]
    rows = xy[:, :, None] * pose[:, 2:3] - pose[:, :2]  # [n, 2, 4]
    normal = np.zeros((tracks.count, 4, 4))
    np.add.at(normal, track, np.einsum("nij,nik->njk", rows, rows))
    points = np.full((tracks.count, 3), np.nan)
    solvable = np.bincount(track, minlength=tracks.count) >= 2
    _, vectors = np.linalg.eigh(normal[solvable])
    smallest = vectors[:, :, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        points[solvable] = smallest[:, :3] / smallest[:, 3:]
    points[~np.isfinite(points).all(1)] = np.nan
    return points


def reproject(tracks: Tracks, K: Array, camera_from_world: Array, points: Array) -> tuple[Array, Array]:
    """Per observation: distance in pixels to its projected point (inf behind the camera or unknown), and depth."""
    pose = camera_from_world[tracks.view, :3]
    local = np.einsum("nij,nj->ni", pose[:, :, :3], points[tracks.track]) + pose[:, :, 3]
    k = K[tracks.view]
    depth = local[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        u = k[:, 0, 0] * local[:, 0] / depth + k[:, 0, 2] - tracks.xy[:, 0]
        v = k[:, 1, 1] * local[:, 1] / depth + k[:, 1, 2] - tracks.xy[:, 1]
        error = np.hypot(u, v)
    error[~(depth > 0) | ~np.isfinite(error)] = np.inf
    return error, depth


def parallax_angles(tracks: Tracks, camera_from_world: Array, points: Array, use: Mask) -> Array:
    """Per track, degrees: twice the largest angle between a ray and the mean ray (the spread of its views)."""
    view, track = tracks.view[use], tracks.track[use]
    centre = -np.einsum("nji,nj->ni", camera_from_world[:, :3, :3], camera_from_world[:, :3, 3])
    ray = points[track] - centre[view]
    ray /= np.maximum(np.linalg.norm(ray, axis=1, keepdims=True), 1e-12)
    mean = np.zeros((tracks.count, 3))
    np.add.at(mean, track, ray)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    sine = np.linalg.norm(np.cross(ray, mean[track]), axis=1)
    largest = np.zeros(tracks.count)
    np.maximum.at(largest, track, np.nan_to_num(sine))
    angles: Array = np.degrees(2.0 * np.arcsin(largest.clip(0.0, 1.0)))
    return angles
