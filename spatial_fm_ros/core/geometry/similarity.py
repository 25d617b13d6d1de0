"""Similarity transforms of space, Sim(3), and their closed-form least-squares fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import nearest_rotation
from spatial_fm_ros.core.types import Array


@dataclass(frozen=True, eq=False)
class Sim3:
    """x -> scale * R @ x + t. scale > 0, R float64 [3, 3] rotation, t float64 [3].

    Raises InputError when the scale is not positive or a number is not finite.
    """

    scale: float
    R: Array
    t: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "R", np.asarray(self.R, dtype=np.float64))
        object.__setattr__(self, "t", np.asarray(self.t, dtype=np.float64))
        if self.R.shape != (3, 3) or self.t.shape != (3,):
            raise InputError(f"A similarity needs R 3x3 and t 3, got {self.R.shape} and {self.t.shape}.")
        finite = np.isfinite(self.scale) and np.isfinite(self.R).all() and np.isfinite(self.t).all()
        if not finite or self.scale <= 0:
            raise InputError(f"A similarity needs finite numbers and a scale above 0, got scale {self.scale}.")

    @classmethod
    def identity(cls) -> Sim3:
        return cls(1.0, np.eye(3), np.zeros(3))

    @classmethod
    def from_matrix(cls, matrix: ArrayLike, tolerance: float = 1e-6) -> Sim3:
        """From a 4x4 matrix [[s R, t], [0, 1]]. Raises InputError when its 3x3 part is not a scaled rotation."""
        M = np.asarray(matrix, dtype=np.float64)
        if M.shape != (4, 4) or not np.isfinite(M).all() or np.abs(M[3] - (0.0, 0.0, 0.0, 1.0)).max() > tolerance:
            raise InputError(f"A similarity needs a finite 4x4 matrix with last row 0 0 0 1, got {M.shape}.")
        determinant = np.linalg.det(M[:3, :3])
        if determinant <= 0:
            raise InputError("A similarity matrix needs a positive determinant; this one mirrors or flattens.")
        scale = float(np.cbrt(determinant))
        R = M[:3, :3] / scale
        if np.abs(R @ R.T - np.eye(3)).max() > max(tolerance, 1e-6):
            raise InputError("A similarity matrix needs a rotation times one scale; this one shears or stretches.")
        return cls(scale, nearest_rotation(R), M[:3, 3].copy())

    @property
    def matrix(self) -> Array:
        """The same as 4x4 [[s R, t], [0, 1]]."""
        M = np.eye(4)
        M[:3, :3], M[:3, 3] = self.scale * self.R, self.t
        return M

    @property
    def log_scale(self) -> float:
        return float(np.log(self.scale))

    def inverse(self) -> Sim3:
        return Sim3(1.0 / self.scale, self.R.T, -(self.R.T @ self.t) / self.scale)

    def __matmul__(self, other: Sim3) -> Sim3:
        """a_from_b @ b_from_c = a_from_c."""
        return Sim3(self.scale * other.scale, self.R @ other.R, self.scale * (self.R @ other.t) + self.t)

    def apply(self, points: ArrayLike) -> Array:
        """Points [..., 3] taken through the similarity."""
        return np.asarray(points, dtype=np.float64) @ (self.scale * self.R.T) + self.t

    def apply_pose(self, world_from_camera: ArrayLike) -> Array:
        """Camera poses [..., 4, 4] taken through the similarity: orientation turned, position moved.

        The result stays rigid; depths of the cameras must be multiplied by `scale` separately.
        """
        poses = np.array(world_from_camera, dtype=np.float64)
        poses[..., :3, 3] = self.apply(poses[..., :3, 3])
        poses[..., :3, :3] = self.R @ poses[..., :3, :3]
        return poses


def umeyama(a: ArrayLike, b: ArrayLike, weights: ArrayLike | None = None, with_scale: bool = True) -> Sim3:
    """Weighted least-squares similarity a_from_b of matched points a, b [N, 3]; weights [N] >= 0.

    Umeyama, 'Least-squares estimation of transformation parameters between two point patterns', PAMI
    1991, with weights in mean and covariance. Points on a plane are enough. Raises InputError for
    fewer than three points of positive weight and for points on a line or in one place (the rotation,
    or the scale, is then free), and for shapes that differ or values that are not finite.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 2 or a.shape[1] != 3 or a.shape != b.shape:
        raise InputError(f"Two point sets of the same shape [N, 3] are needed, got {a.shape} and {b.shape}.")
    w = np.ones(len(a)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (len(a),) or not np.isfinite(w).all() or (w < 0).any():
        raise InputError(f"{len(a)} points need as many finite weights that are not negative.")
    used = w > 0
    a, b, w = a[used], b[used], w[used]
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("Points of positive weight must be finite; give unknown points weight 0.")
    if len(a) < 3:
        raise InputError(f"A similarity needs at least 3 matched points of positive weight, got {len(a)}.")
    w = w / w.sum()
    mean_a, mean_b = w @ a, w @ b
    da, db = a - mean_a, b - mean_b
    # How thick each set is in its second direction, against its length, and its length against rounding.
    for spread, mean in ((da, mean_a), (db, mean_b)):
        extent = np.linalg.svd(spread * np.sqrt(w)[:, None], compute_uv=False)
        if extent[0] <= 1e-12 * (1.0 + np.abs(mean).max()) or extent[1] < 1e-6 * extent[0]:
            raise InputError("These points lie in one place or on one line, which leaves their rotation free.")
    covariance = (da * w[:, None]).T @ db
    U, singular, Vt = np.linalg.svd(covariance)
    sign = np.ones(3)
    if np.linalg.det(U) * np.linalg.det(Vt) < 0:
        sign[2] = -1.0
    if singular[1] < 1e-12 * singular[0]:
        raise InputError("These point sets do not match: their covariance leaves the rotation free.")
    R = (U * sign) @ Vt
    scale = float(singular @ sign) / float(w @ (db**2).sum(axis=1)) if with_scale else 1.0
    if not scale > 0:
        raise InputError("These point sets do not match: the best scale is not positive.")
    return Sim3(scale, R, mean_a - scale * (R @ mean_b))
