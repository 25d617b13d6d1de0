"""One window of camera poses against the IMU: scale, gravity, velocities and biases at once, by least squares.

The most probable states of the window (Campos, Montiel and Tardos, 'Inertial-Only Optimization for
Visual-Inertial Initialization', ICRA 2020), but with the camera's poses as measurements that have noise of their
own rather than as the truth. Its unknown is world units per metre, which multiplies the IMU's exact motion: to
multiply the images' noisy motion by metres per unit instead would make the scale too small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.metric.inertial_start import GRAVITY, State, Views, linear_start
from spatial_fm_ros.core.metric.preintegration import Steps
from spatial_fm_ros.core.types import Array

#: Gravity on Earth differs by place: 9.78 to 9.83.
GRAVITY_SIGMA = 0.02
#: Noise of positions is stated in shares of the window's extent, or of this share of the scene's depth for a camera
#: that hardly moves.
STILL_SHARE = 0.25
#: A scene is taken to lie this far away, in metres, within a factor of about five; it matters where motion shows
#: nothing.
SCENE_DEPTH_M, SCENE_DEPTH_SPREAD = 4.0, 1.5
ITERATIONS = 6
NOISE_ROUNDS = 3


@dataclass(frozen=True)
class PoseNoise:
    """White noise of the images' poses: orientation in radians, position as a share of the window's extent; and how
    many residuals this knowledge is worth. Never below the least: errors of poses are smooth in time and hide."""

    rotation: float = 0.003
    position: float = 0.004
    weight: float = 2.0

    LEAST_ROTATION = 0.0005
    LEAST_POSITION = 0.001


@dataclass(frozen=True, eq=False)
class InertialSolution:
    """World units_per_metre with standard deviation units_sigma, of which bias_share (0..1, of the variance) comes from
    the biases, which the next window shares; down [3]: unit direction of
    gravity in the world with `down_sigma` rad; bias [6] (force, gyro) with covariance [6, 6]; noise of the images
    as the residuals show it."""

    units_per_metre: float
    units_sigma: float
    bias_share: float
    down: Array
    down_sigma: float
    bias: Array
    bias_covariance: Array
    noise: PoseNoise


def solve_window(views: Views, steps: Steps, bias: Array, bias_covariance: Array, noise: PoseNoise) -> InertialSolution:
    """Scale, gravity and biases of N >= 2 views with N - 1 steps between them; bias [6] with covariance [6, 6] and
    noise are what is known before."""
    views = replace(views, centres=views.centres - views.centres.mean(axis=0))
    extent = float(np.linalg.norm(np.ptp(views.centres, axis=0)))
    depth = views.depth if np.isfinite(views.depth) else SCENE_DEPTH_M * max(extent, 1e-6)
    likely_units = depth / SCENE_DEPTH_M
    reach = max(extent, STILL_SHARE * depth)
    state = linear_start(views, steps, bias, likely_units)
    imu_root = _inverse_roots(steps.covariance)
    bias_root = _inverse_roots(bias_covariance[None])[0]
    found = noise
    for _ in range(NOISE_ROUNDS):
        for _ in range(ITERATIONS):
            residual, jacobian = _linearised(state, views, steps)
            residual[-7] = np.log(state.units / likely_units) / SCENE_DEPTH_SPREAD
            jacobian[-7, -10] = 1.0 / (state.units * SCENE_DEPTH_SPREAD)
            residual[-6:] = bias_root @ (state.bias - bias)
            jacobian[-6:, -6:] = bias_root
            weighted_r, weighted_j = _whitened(residual, jacobian, imu_root, found, reach)
            step, covariance = _solved(weighted_j, weighted_r)
            _move(state, step)
            if np.abs(step).max() < 1e-7:
                break
        residual, jacobian = _linearised(state, views, steps)
        found = _noise(residual, jacobian, covariance, noise, found, reach)
    at = 9 * len(views.centres)
    by_bias = covariance[at, -6:] @ np.linalg.solve(covariance[-6:, -6:], covariance[-6:, at])
    gravity_covariance = covariance[at + 1 : at + 4, at + 1 : at + 4]
    down = state.gravity / np.linalg.norm(state.gravity)
    across = np.eye(3) - np.outer(down, down)
    tilt = float(np.sqrt(np.linalg.eigvalsh(across @ gravity_covariance @ across)[-1])) / GRAVITY
    return InertialSolution(
        units_per_metre=state.units,
        units_sigma=float(np.sqrt(covariance[at, at])),
        bias_share=float(np.clip(by_bias / covariance[at, at], 0.0, 1.0)),
        down=down,
        down_sigma=tilt,
        bias=state.bias,
        bias_covariance=covariance[at + 4 :, at + 4 :],
        noise=found,
    )


def _linearised(state: State, views: Views, steps: Steps) -> tuple[Array, Array]:
    """Residuals [9 (N-1) + 6 N + 8] (steps, views, gravity's length, priors of units and bias) and their derivatives by
    the unknowns (N times rotation, N times position, N times velocity, units, gravity, bias). The rows of the priors
    are left zero."""
    count = len(views.centres)
    R, p, v, g = state.rotation, state.position, state.velocity, state.gravity
    T = steps.seconds[:, None]
    shift = np.einsum("nij,j->ni", steps.by_bias, state.bias - steps.bias)
    measured = Rotation.from_matrix(steps.rotation) * Rotation.from_rotvec(shift[:, :3])
    Rt = np.swapaxes(R[:-1], 1, 2)
    relative = Rt @ R[1:]
    turned = (measured.inv() * Rotation.from_matrix(relative)).as_rotvec()
    way = np.einsum("nij,nj->ni", Rt, p[1:] - p[:-1] - v[:-1] * T - 0.5 * g * T**2)
    gain = np.einsum("nij,nj->ni", Rt, v[1:] - v[:-1] - g * T)
    arm = np.einsum("nij,j->ni", R, views.camera_in_imu)
    unturned = Rotation.from_matrix(np.swapaxes(views.world_from_imu, 1, 2) @ R).as_rotvec()
    imu = np.concatenate([turned, way - steps.position - shift[:, 3:6], gain - steps.velocity - shift[:, 6:]], axis=1)
    size = float(np.linalg.norm(g))
    residual = np.concatenate(
        [
            imu.reshape(-1),
            np.concatenate([unturned, state.units * (p + arm) - views.centres], axis=1).reshape(-1),
            [(size - GRAVITY) / GRAVITY_SIGMA],
            np.zeros(7),
        ]
    )
    J = np.zeros((len(residual), 9 * count + 10))
    k = np.arange(count - 1)
    blocks = J[: 9 * (count - 1)].reshape(count - 1, 9, -1)
    seen = J[9 * (count - 1) : 9 * (count - 1) + 6 * count].reshape(count, 6, -1)
    at_r, at_p, at_v, at_u = 0, 3 * count, 6 * count, 9 * count
    by_turn = np.eye(3) + 0.5 * _skew(turned)
    _put(blocks, slice(0, 3), at_r + 3 * (k + 1), by_turn)
    _put(blocks, slice(0, 3), at_r + 3 * k, -by_turn @ np.swapaxes(relative, 1, 2))
    _put(blocks, slice(3, 6), at_r + 3 * k, _skew(way))
    _put(blocks, slice(3, 6), at_p + 3 * (k + 1), Rt)
    _put(blocks, slice(3, 6), at_p + 3 * k, -Rt)
    _put(blocks, slice(3, 6), at_v + 3 * k, -Rt * T[:, :, None])
    _put(blocks, slice(6, 9), at_r + 3 * k, _skew(gain))
    _put(blocks, slice(6, 9), at_v + 3 * (k + 1), Rt)
    _put(blocks, slice(6, 9), at_v + 3 * k, -Rt)
    blocks[:, 3:6, at_u + 1 : at_u + 4] = -0.5 * Rt * T[:, :, None] ** 2
    blocks[:, 6:9, at_u + 1 : at_u + 4] = -Rt * T[:, :, None]
    blocks[:, :, at_u + 4 :] = -steps.by_bias
    n = np.arange(count)
    _put(seen, slice(0, 3), at_r + 3 * n, np.eye(3) + 0.5 * _skew(unturned))
    _put(seen, slice(3, 6), at_r + 3 * n, -state.units * R @ _skew(views.camera_in_imu[None]))
    _put(seen, slice(3, 6), at_p + 3 * n, np.broadcast_to(state.units * np.eye(3), (count, 3, 3)))
    seen[:, 3:6, at_u] = p + arm
    J[-8, at_u + 1 : at_u + 4] = g / size / GRAVITY_SIGMA
    return residual, J


def _put(rows: Array, inside: slice, columns: NDArray[np.intp], values: Array) -> None:
    """values [n, 3, 3] into rows [n, h, w], each at its own first column."""
    n = np.arange(len(rows))[:, None, None]
    row = np.arange(inside.start, inside.stop)[None, :, None]
    rows[n, row, columns[:, None, None] + np.arange(3)[None, None, :]] = values


def _whitened(residual: Array, jacobian: Array, imu_root: Array, noise: PoseNoise, reach: float) -> tuple[Array, Array]:
    r, J = residual.copy(), jacobian.copy()
    steps = len(imu_root)
    r[: 9 * steps] = np.einsum("nij,nj->ni", imu_root, r[: 9 * steps].reshape(steps, 9)).reshape(-1)
    J[: 9 * steps] = (imu_root @ J[: 9 * steps].reshape(steps, 9, -1)).reshape(9 * steps, -1)
    weight = np.tile(np.repeat([1.0 / noise.rotation, 1.0 / (noise.position * reach)], 3), steps + 1)
    seen = slice(9 * steps, 9 * steps + 6 * (steps + 1))
    r[seen] *= weight
    J[seen] *= weight[:, None]
    return r, J


def _solved(J: Array, r: Array) -> tuple[Array, Array]:
    """Gauss-Newton step and covariance, with columns scaled to one length."""
    size = np.maximum(np.linalg.norm(J, axis=0), 1e-12)
    scaled = J / size
    covariance = np.linalg.inv(scaled.T @ scaled + 1e-13 * np.eye(len(size))) / np.outer(size, size)
    return -covariance @ (J.T @ r), covariance


def _move(state: State, step: Array) -> None:
    count = len(state.position)
    turn, moved, faster = step[: 9 * count].reshape(3, count, 3)
    state.rotation = (Rotation.from_matrix(state.rotation) * Rotation.from_rotvec(turn)).as_matrix()
    state.position = state.position + moved
    state.velocity = state.velocity + faster
    units = state.units + float(step[9 * count])
    state.units = units if units > 0.2 * state.units else 0.2 * state.units  # stays positive, may shrink again
    state.gravity = state.gravity + step[9 * count + 1 : 9 * count + 4]
    state.bias = state.bias + step[9 * count + 4 :]


def _noise(
    residual: Array, jacobian: Array, covariance: Array, prior: PoseNoise, now: PoseNoise, reach: float
) -> PoseNoise:
    """Noise of the images' orientations and positions from their residuals, by their redundancy (Helmert's variance
    components), held by the prior. `now` is the noise that made the covariance."""
    count = (len(residual) - 8 + 9) // 15
    rows = slice(9 * (count - 1), 9 * (count - 1) + 6 * count)
    r, J = residual[rows].reshape(count, 2, 3), jacobian[rows]
    explained = np.einsum("ij,jk,ik->i", J, covariance, J).reshape(count, 2, 3).sum(axis=(0, 2))
    unit = np.array([1.0, reach])
    used = np.square([now.rotation, now.position] * unit)
    redundancy = np.maximum(0.0, 3.0 * count - explained / used)
    square = (r**2).sum(axis=(0, 2)) / unit**2
    variance = (prior.weight * np.square([prior.rotation, prior.position]) + square) / (prior.weight + redundancy)
    rotation, position = np.maximum(np.sqrt(variance), [PoseNoise.LEAST_ROTATION, PoseNoise.LEAST_POSITION])
    return PoseNoise(float(rotation), float(position), prior.weight)


def _inverse_roots(covariance: Array) -> Array:
    """W [n, k, k] with W^T W the inverse of covariance [n, k, k]."""
    return np.linalg.inv(np.linalg.cholesky(covariance))


def _skew(v: Array) -> Array:
    """[n, 3, 3] with skew(a) b = a x b."""
    zero = np.zeros(len(v))
    x, y, z = v.T
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
