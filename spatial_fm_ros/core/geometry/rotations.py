"""Rotations and rigid poses: quaternions (xyzw), angles, means, interpolation.

Rotations are float64 [..., 3, 3], poses float64 [..., 4, 4] named `a_from_b`, quaternions xyzw [..., 4].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Array


def matrix_from_quaternion(quaternion: ArrayLike) -> Array:
    """Rotation [..., 3, 3] of quaternions xyzw [..., 4] of any positive length.

    Raises InputError for another shape, NaN or zero length.
    """
    q = np.asarray(quaternion, dtype=np.float64)
    if q.ndim == 0 or q.shape[-1] != 4:
        raise InputError(f"A quaternion needs 4 numbers x, y, z, w, got an array of shape {q.shape}.")
    norm = np.linalg.norm(q, axis=-1)
    if not np.isfinite(norm).all() or (norm < 1e-9).any():
        raise InputError(
            "A quaternion needs finite numbers and a length above zero; an all-zero orientation means "
            "that its sender never filled it in."
        )
    matrices = Rotation.from_quat((q / norm[..., None]).reshape(-1, 4)).as_matrix()
    return np.asarray(matrices, dtype=np.float64).reshape(*q.shape[:-1], 3, 3)


def quaternion_from_matrix(rotation: ArrayLike) -> Array:
    """Unit quaternions xyzw [..., 4], w >= 0, of rotations [..., 3, 3]."""
    R = np.asarray(rotation, dtype=np.float64)
    q = np.asarray(Rotation.from_matrix(R.reshape(-1, 3, 3)).as_quat(), dtype=np.float64)
    q = np.where(q[:, 3:] < 0, -q, q)
    return q.reshape(*R.shape[:-2], 4)


def rotation_angle(rotation: ArrayLike) -> Array:
    """Angle in radians, [...], in [0, pi], of rotations [..., 3, 3]. Exact for tiny and for half turns."""
    R = np.asarray(rotation, dtype=np.float64)
    axis = np.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], axis=-1)
    trace = np.trace(R, axis1=-2, axis2=-1)
    return np.asarray(np.arctan2(np.linalg.norm(axis, axis=-1), trace - 1.0), dtype=np.float64)


def nearest_rotation(matrix: ArrayLike) -> Array:
    """The rotations [..., 3, 3] closest in the Frobenius norm to 3x3 matrices."""
    U, _, Vt = np.linalg.svd(np.asarray(matrix, dtype=np.float64))
    U = U.copy()
    U[..., :, 2] *= np.sign(np.linalg.det(U @ Vt))[..., None]
    return np.asarray(U @ Vt, dtype=np.float64)


def chordal_mean(rotations: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Weighted mean [3, 3] of rotations [N, 3, 3]: the rotation closest to their average matrix.

    Hartley, Trumpf, Dai and Li, 'Rotation Averaging', IJCV 2013, section 5. Raises InputError without
    a rotation of positive weight, or when they spread so widely that no mean exists.
    """
    R = np.asarray(rotations, dtype=np.float64).reshape(-1, 3, 3)
    w = np.ones(len(R)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (len(R),) or not np.isfinite(w).all() or (w < 0).any() or not w.sum() > 0:
        raise InputError(f"A mean of {len(R)} rotations needs as many weights, finite, not negative and not all zero.")
    average = np.tensordot(w / w.sum(), R, axes=1)
    singular = np.linalg.svd(average, compute_uv=False)
    if singular[1] < 1e-6:
        raise InputError("These rotations spread so widely that they have no mean; leave out the outliers.")
    return nearest_rotation(average)


def pose_from(rotation: ArrayLike, translation: ArrayLike) -> Array:
    """Poses [..., 4, 4] of rotations [..., 3, 3] and translations [..., 3]."""
    R, t = np.asarray(rotation, dtype=np.float64), np.asarray(translation, dtype=np.float64)
    pose = np.zeros((*np.broadcast_shapes(R.shape[:-2], t.shape[:-1]), 4, 4))
    pose[..., :3, :3], pose[..., :3, 3], pose[..., 3, 3] = R, t, 1.0
    return pose


def invert_pose(a_from_b: ArrayLike) -> Array:
    """b_from_a [..., 4, 4] of rigid poses, exactly as accurate as its input."""
    pose = np.asarray(a_from_b, dtype=np.float64)
    Rt = np.swapaxes(pose[..., :3, :3], -1, -2)
    return pose_from(Rt, -(Rt @ pose[..., :3, 3:])[..., 0])


def move_points(a_from_b: Array, points: Array) -> Array:
    """Points [N, 3] of frame b in frame a, by a pose [4, 4]; the dtype is that of their product."""
    moved: Array = points @ a_from_b[:3, :3].T + a_from_b[:3, 3]
    return moved


def is_pose(matrix: ArrayLike, tolerance: float = 1e-3) -> bool:
    """Whether `matrix` is 4x4, finite, with a proper rotation and the last row 0 0 0 1."""
    M = np.asarray(matrix, dtype=np.float64)
    if M.shape != (4, 4) or not np.isfinite(M).all():
        return False
    R = M[:3, :3]
    return bool(
        np.abs(R @ R.T - np.eye(3)).max() <= tolerance
        and np.linalg.det(R) > 0
        and np.abs(M[3] - (0.0, 0.0, 0.0, 1.0)).max() <= tolerance
    )


def interpolate_pose(a_from_b0: ArrayLike, a_from_b1: ArrayLike, fraction: float) -> Array:
    """The pose at `fraction` of the way from b0 to b1: SLERP of rotation, straight line of position.

    Fractions outside [0, 1] extrapolate with the same velocity.
    """
    pose0, pose1 = np.asarray(a_from_b0, dtype=np.float64), np.asarray(a_from_b1, dtype=np.float64)
    step = Rotation.from_matrix(pose0[:3, :3].T @ pose1[:3, :3]).as_rotvec()
    R = pose0[:3, :3] @ Rotation.from_rotvec(fraction * step).as_matrix()
    return pose_from(R, (1.0 - fraction) * pose0[:3, 3] + fraction * pose1[:3, 3])
