"""How well images hold the cameras of a solved window: the information that bundle adjustment leaves to each.

Second derivatives of the squared reprojection error (Gauss-Newton), with the points eliminated by the
Schur complement (Triggs, McLauchlan, Hartley and Fitzgibbon, Bundle Adjustment - A Modern Synthesis,
2000, section 6).
"""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.models.geometric.structure import Structure
from spatial_fm_ros.core.types import Array

#: Localisation of a feature, pixels: the least that is believed, and the scale of the Cauchy weights of adjustment.
LEAST_PX, LOSS_PX = 0.3, 1.0


def skew(vectors: Array) -> Array:
    """Cross product matrices [..., 3, 3] of vectors [..., 3]: skew(a) @ b = a x b."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    rows = [np.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return np.stack(rows, -2)


def camera_information(structure: Structure) -> Array:
    """Information [6 N, 6 N] on small motions (rotation, shift) of each of N cameras in its own frame.

    A motion (a, b) takes points x of the camera frame to x + a x x + b: radians and gauge units. Rows of views
    without observations are zero; so are motions of the whole gauge. Observations count by their Cauchy weights and
    the spread of their errors.
    """
    tracks, count = structure.tracks, len(structure.posed)
    pose = structure.camera_from_world[tracks.view, :3]
    local = np.einsum("nij,nj->ni", pose[:, :, :3], structure.points[tracks.track]) + pose[:, :, 3]
    f = np.stack([structure.K[tracks.view, 0, 0], structure.K[tracks.view, 1, 1]], axis=1)
    error = structure.error_px
    noise = max(LEAST_PX, float(np.sqrt(np.median(error**2) / 1.3863))) if len(error) else LEAST_PX
    weight = np.sqrt(1.0 / (1.0 + (error / LOSS_PX) ** 2)) / noise
    projection = np.zeros((len(local), 2, 3))
    projection[:, 0, 0] = projection[:, 1, 1] = 1.0 / local[:, 2]
    projection[:, :, 2] = -local[:, :2] / local[:, 2:] ** 2
    projection *= (f * weight[:, None])[:, :, None]
    by_camera = np.concatenate((-projection @ skew(local), projection), axis=2)  # [n, 2, 6]
    by_point = projection @ pose[:, :, :3]  # [n, 2, 3]

    own = np.zeros((count, 6, 6))
    np.add.at(own, tracks.view, np.swapaxes(by_camera, 1, 2) @ by_camera)
    points = np.zeros((tracks.count, 3, 3))
    np.add.at(points, tracks.track, np.swapaxes(by_point, 1, 2) @ by_point)
    # A point far away is nearly free along its ray: the little that is added keeps its inverse finite.
    points += 1e-9 * np.trace(points, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    cross = np.zeros((tracks.count, count, 6, 3))
    cross[tracks.track, tracks.view] = np.swapaxes(by_camera, 1, 2) @ by_point
    # Points = L L^T, so that cross points^-1 cross^T is a product of one matrix with itself. As a sum and not a
    # product of BLAS: that one wakes threads for a few thousand columns, which takes fifty times as long.
    root = np.swapaxes(np.linalg.inv(np.linalg.cholesky(points)), 1, 2)
    eliminated = cross.reshape(tracks.count, 6 * count, 3) @ root
    information = -np.einsum("mik,mjk->ij", eliminated, eliminated)
    for view in range(count):
        block = slice(6 * view, 6 * view + 6)
        information[block, block] += own[view]
    symmetric: Array = 0.5 * (information + information.T)
    return symmetric
