"""Clock and mounting of a sensor from turns collected while mapping, with deviations that hold.

The model is that of `hand_eye`: seen = ratio X^T (felt - bias t), X = sensor_from_camera, the sensor's turns taken
`offset` later. Here there are few turns, far apart in time, from cameras that a model placed window by window; errors
within a window belong together in ways that are not known, so the deviations come from how much the windows disagree
(the sandwich of White, 'Maximum likelihood estimation of misspecified models', Econometrica 1982, by windows).
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.calibration.estimate import Estimate
from spatial_fm_ros.core.calibration.hand_eye import (
    BIAS_PRIOR,
    LEAST_ANGLE,
    LEAST_OFFSET_S,
    LEAST_TURN_SIGMA,
    MIN_TURNED_RAD,
    MIN_TURNS,
    RATIO_PRIOR,
    ROTATION_PRIOR,
    SLOW_RATE,
    STEADY_RATE,
)
from spatial_fm_ros.core.calibration.matched_turns import TurnSet
from spatial_fm_ros.core.geometry.robust import HUBER, MAD_TO_SIGMA, TUKEY
from spatial_fm_ros.core.types import Array

#: Clocks may be off by so much, standard deviation, before anything is known.
OFFSET_PRIOR_S = 0.1
#: Windows without which their disagreement says nothing, and how many windows the belief is worth that turns of
#: one window err independently.
MIN_WINDOWS, MODEL_WINDOWS = 5, 5.0
#: Less than this share of the turns fits one rotation: the sensor does not turn with the camera.
MIN_SHARE = 0.5
ITERATIONS = 8
UNKNOWNS = 8  # offset, rotation, ratio, bias


def fit_turns(turns: TurnSet, nodes_s: Array, mounting: Array, has_bias: bool) -> Estimate | None:
    """Compare turns with those of a sensor mounted at `mounting` [3, 3] (sensor_from_camera as told). `has_bias`: it is
    a gyro. None while too little was turned, or where the two do not turn together."""
    if np.linalg.norm(turns.seen, axis=1).sum() < MIN_TURNED_RAD or len(turns) < MIN_TURNS:
        return None
    windows, index = np.unique(turns.window, return_inverse=True)
    if len(windows) < MIN_WINDOWS:
        return None
    spline = CubicSpline(nodes_s, np.eye(len(nodes_s)))
    bias = BIAS_PRIOR if has_bias else 1e-7
    prior = np.diag(np.array([OFFSET_PRIOR_S, *[ROTATION_PRIOR] * 3, RATIO_PRIOR, *[bias] * 3]) ** -2.0)
    state: Array = np.zeros(UNKNOWNS)  # offset, rotation vector, ratio - 1, bias
    weight: Array = np.ones((len(turns), 3))
    for iteration in range(ITERATIONS):
        residual, jacobian = _linearised(turns, spline, mounting, state)
        sigma = np.maximum(MAD_TO_SIGMA * np.median(np.abs(residual), axis=0), LEAST_TURN_SIGMA)
        weight = _weights(residual / sigma, iteration)
        information = weight / sigma**2
        gradients = np.einsum("na,nai,na->ni", information, jacobian, residual)
        normal = np.einsum("na,nai,naj->ij", information, jacobian, jacobian)
        step = -np.linalg.solve(normal + prior, gradients.sum(axis=0) + prior @ state)
        state = _stepped(state, step, float(nodes_s[-1]))
    if (weight > 0.1).all(axis=1).mean() < MIN_SHARE:
        return None
    summed = np.zeros((len(windows), UNKNOWNS))
    np.add.at(summed, index, gradients)
    covariance = _covariance(summed, normal, prior)
    covariance[:4, :4] += _systematic(jacobian[:, :, :4] / turns.seconds[:, None, None])
    return Estimate(
        offset_s=float(state[0]),
        offset_sigma_s=float(np.hypot(np.sqrt(covariance[0, 0]), LEAST_OFFSET_S)),
        rotation=state[1:4].copy(),
        covariance=covariance[1:4, 1:4] + LEAST_ANGLE**2 * np.eye(3),
    )


def _linearised(turns: TurnSet, spline: CubicSpline, mounting: Array, state: Array) -> tuple[Array, Array]:
    """Residuals [N, 3] of the turns, and derivatives [N, 3, 8] by offset, a further turn on the right, ratio, bias."""
    ratio, to_camera = 1.0 + state[4], Rotation.from_rotvec(state[1:4]).as_matrix().T @ mounting.T
    felt = np.einsum("k,nkj->nj", spline(state[0]), turns.felt) - state[5:] * turns.seconds[:, None]
    by_offset = np.einsum("k,nkj->nj", spline(state[0], 1), turns.felt)
    turned = felt @ to_camera.T
    x, y, z = ratio * turned.T
    zero = np.zeros_like(x)
    jacobian = np.empty((len(turned), 3, UNKNOWNS))
    jacobian[:, :, 0] = -ratio * by_offset @ to_camera.T
    jacobian[:, :, 1:4] = -np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    jacobian[:, :, 4] = -turned
    jacobian[:, :, 5:] = ratio * to_camera * turns.seconds[:, None, None]
    return turns.seen - ratio * turned, jacobian


def _weights(far: Array, iteration: int) -> Array:
    """Huber's to come close, then Tukey's, under which gross mistakes count nothing; [N, 3], one for all axes."""
    size = np.abs(far).max(axis=1)
    if iteration < ITERATIONS // 2:
        weight = np.minimum(1.0, HUBER / np.maximum(size, 1e-9))
    else:
        weight = np.square(np.maximum(0.0, 1.0 - np.square(size / TUKEY)))
    return np.repeat(weight[:, None], 3, axis=1)


def _stepped(state: Array, step: Array, reach_s: float) -> Array:
    after = state + step
    after[0] = np.clip(after[0], -reach_s, reach_s)
    after[1:4] = (Rotation.from_rotvec(state[1:4]) * Rotation.from_rotvec(step[1:4])).as_rotvec()
    return after


def _covariance(gradients: Array, normal: Array, prior: Array) -> Array:
    """Of the state [8, 8], by the gradients that windows [W, 8] leave."""
    count = len(gradients)
    freedom = count / max(count - 4.0, 1.0)
    scatter = freedom * gradients.T @ gradients
    scatter = (count * scatter + MODEL_WINDOWS * normal) / (count + MODEL_WINDOWS)
    inverse = np.linalg.inv(normal + prior)
    return np.asarray(inverse @ (scatter + prior) @ inverse)


def _systematic(rates: Array) -> Array:
    """What a slow error of the images' rates does to offset and rotation, [4, 4]: rates [N, 3, 4] are the derivatives
    over the turns' seconds. It is at most that of `ROTATION_PRIOR` and `OFFSET_PRIOR_S`."""
    square = np.einsum("nai,naj->ij", rates, rates) / len(rates)
    part = np.zeros((4, 4))
    part[0, 0] = 1.0 / (square[0, 0] / SLOW_RATE**2 + OFFSET_PRIOR_S**-2)
    part[1:, 1:] = np.linalg.inv(square[1:, 1:] / STEADY_RATE**2 + ROTATION_PRIOR**-2 * np.eye(3))
    return part
