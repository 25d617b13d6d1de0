"""Relative rotation of two images that are close in time, from tracked rays, and how certain it is.

Between two images of a video the parallax is a few pixels, often less than one. Rotation and translation then stand
in for each other, and five-point solvers with RANSAC return any of the solutions that fit (on a car's straight
drive: 4 degrees of turn with sideways motion instead of none). Here the rotation that explains the tracks alone is
the expectation, and the epipolar fit may leave it by as much as parallax can have deceived it, and no more.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.geometry.robust import MAD_TO_SIGMA
from spatial_fm_ros.core.types import Array

ITERATIONS, ROUNDS = 15, 6
#: Translation that looks like a turn may be so much larger than the parallax it leaves (mean over spread of 1 / depth).
DECEPTION = 10.0
DERIVATIVE_STEP = 1e-5
#: A track further from the relative pose than this many times the noise is wrong.
INLIER = 4.0


def small_turn(a: Array, b: Array, pixel: float, least: float) -> tuple[Array, Array, float]:
    """Rotation vector [3] of a_from_b, its covariance [3, 3] and the share of tracks that agree.

    a, b: rays [n, 3] with z = 1 of the same points in two images; `pixel`: the angle of one; `least`: tracks are
    not better than this, in pixels.
    """
    alone, parallax = _rotation_alone(a, b, pixel)
    expected = DECEPTION * max(parallax, 0.1 * pixel)
    best = None
    # Directions of travel, whose signs do not matter: what fits the expected rotation best, and the axes.
    for start in np.concatenate([_travel(a, b, alone, pixel)[None], np.eye(3)]):
        found = _refined(a, b, alone, start, expected, 2 * max(least, 0.1) * pixel)
        if best is None or found[2] < best[2]:
            best = found
    assert best is not None  # there are four starts
    R, t, _ = best
    distance = np.abs(_distances(a, b, R, t))
    noise = max(MAD_TO_SIGMA * float(np.median(distance)), least * pixel)
    good = distance < INLIER * noise
    J = _derivatives(a[good], b[good], R, t)
    information = J.T @ J / noise**2 + np.diag([*[expected**-2] * 3, 1.0, 1.0])
    # R is b_from_a turned on its right, in a's axes: the covariance of its inverse's vector.
    covariance = np.linalg.inv(information)[:3, :3]
    return np.asarray(Rotation.from_matrix(R.T).as_rotvec()), np.asarray(covariance), float(good.mean())


def _rotation_alone(a: Array, b: Array, pixel: float) -> tuple[Array, float]:
    """The rotation b_from_a that explains the rays best, far ones counting little, and the median angle it leaves."""
    unit_a, unit_b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    weight = np.ones(len(a))
    R, left = np.eye(3), 0.0
    for _ in range(ROUNDS):
        R = Rotation.align_vectors(unit_b, unit_a, weights=weight)[0].as_matrix()
        angle = np.linalg.norm(np.cross(unit_a @ R.T, unit_b), axis=1)
        left = float(np.median(angle))
        weight = 1.0 / (1.0 + (angle / max(left, 0.2 * pixel)) ** 2)
    return R, left


def _travel(a: Array, b: Array, R: Array, pixel: float) -> Array:
    """Direction of travel [3] that fits a known rotation: across all normals of the epipolar planes."""
    normals = np.cross(a @ R.T, b)
    weight = np.ones(len(a))
    t = np.eye(3)[2]
    for _ in range(ROUNDS):
        t = np.linalg.eigh((normals * weight[:, None]).T @ normals)[1][:, 0]
        weight = 1.0 / (1.0 + (normals @ t / pixel) ** 2)
    return np.asarray(t)


def _refined(
    a: Array, b: Array, alone: Array, start: Array, expected: float, scale: float
) -> tuple[Array, Array, float]:
    """b_from_a (R, t) near the rotation `alone`, from a direction of travel on, and its cost: that of Geman and McClure
    (1987) of the epipolar distances over `scale`, for which a fit gains little by bending to wrong tracks, and the
    square of the turn away from `alone` over `expected`."""
    R, t = alone, start
    cost = _cost(a, b, R, t, alone, expected, scale)
    damping = 1e-3
    for _ in range(ITERATIONS):
        r = _distances(a, b, R, t) / scale
        J = _derivatives(a, b, R, t) / scale
        weight = 1.0 / (1.0 + r**2) ** 2
        away = Rotation.from_matrix(alone.T @ R).as_rotvec()
        normal = (J * weight[:, None]).T @ J + np.diag([*[expected**-2] * 3, 1e-6, 1e-6])
        gradient = J.T @ (weight * r) + np.concatenate([away / expected**2, [0.0, 0.0]])
        step = -np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
        R_next = R @ Rotation.from_rotvec(step[:3]).as_matrix()
        t_next = t + step[3:] @ _across(t)
        t_next /= np.linalg.norm(t_next)
        cost_next = _cost(a, b, R_next, t_next, alone, expected, scale)
        if cost_next > cost:
            damping *= 10.0
            continue
        R, t, damping = R_next, t_next, damping * 0.3
        if cost - cost_next < 1e-6 * cost:
            break
        cost = cost_next
    return R, t, cost


def _cost(a: Array, b: Array, R: Array, t: Array, alone: Array, expected: float, scale: float) -> float:
    away = Rotation.from_matrix(alone.T @ R).magnitude() / expected
    square = (_distances(a, b, R, t) / scale) ** 2
    return float((square / (1.0 + square)).sum() + away**2)


def _across(t: Array) -> Array:
    """Two unit vectors [2, 3] across a direction."""
    return np.asarray(np.linalg.svd(t[None])[2][1:])


def _derivatives(a: Array, b: Array, R: Array, t: Array) -> Array:
    """Of the distances by rotation (on R's right) and direction of travel: [n, 5], numerical."""
    here = _distances(a, b, R, t)
    moved = [_distances(a, b, R @ Rotation.from_rotvec(DERIVATIVE_STEP * axis).as_matrix(), t) for axis in np.eye(3)]
    moved += [_distances(a, b, R, t + DERIVATIVE_STEP * axis) for axis in _across(t)]
    return np.asarray((np.stack(moved, axis=1) - here[:, None]) / DERIVATIVE_STEP)


def _distances(a: Array, b: Array, R: Array, t: Array) -> Array:
    """Signed Sampson distances [n] of rays a, b [n, 3] to the relative pose b_from_a."""
    skew = np.array([[0.0, -t[2], t[1]], [t[2], 0.0, -t[0]], [-t[1], t[0], 0.0]])
    E = skew @ R
    line_b, line_a = a @ E.T, b @ E
    size = np.sqrt((line_b[:, :2] ** 2).sum(axis=1) + (line_a[:, :2] ** 2).sum(axis=1))
    return np.asarray((b * line_b).sum(axis=1) / np.maximum(size, 1e-12))
