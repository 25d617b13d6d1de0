"""Time offset and extrinsic rotation between a camera and another sensor, from how both turned.

Both are rigidly mounted: turns of the camera v and of the sensor a at the same moments obey v = X^T a with the
constant rotation X = sensor_from_camera (the rotational part of hand-eye calibration, Park and Martin, T-RA 1994).
The moments are the same once the sensor's stamps are moved by its time offset. Correlation finds the offset among
many, then offset, rotation, the gyro's bias and the ratio of both turns (a wrong focal length) are refined together
by robust least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.calibration.orientations import Orientations
from spatial_fm_ros.core.calibration.visual_turns import Turns
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.robust import HUBER, MAD_TO_SIGMA, TUKEY
from spatial_fm_ros.core.types import Array

#: Offsets searched, seconds either way, and the step of the search.
SEARCH_S, SEARCH_STEP_S = 0.5, 0.01
#: Least angle turned altogether, and least number of turns, for a word at all.
MIN_TURNED_RAD, MIN_TURNS = np.radians(20.0), 20
#: Correlation of turns below which the two sensors do not turn together.
MIN_CORRELATION = 0.5
#: How wrong the extrinsic may be before it is looked at, and the gyro's bias, standard deviations.
ROTATION_PRIOR, BIAS_PRIOR = np.radians(5.0), 0.05
#: An axis whose angle is not known better than this was not seen: all turns were about it, or there were too few.
SEEN_SIGMA = np.radians(1.0)
#: No sigma is stated below these: neither shutter nor how tracks err alike is modelled.
LEAST_OFFSET_S, LEAST_ANGLE = 0.001, np.radians(0.15)
#: How far the ratio of the turns may be from one (a wrong focal length, a gyro's scale).
RATIO_PRIOR = 0.05
#: Every turn errs by this beside what its tracks say, rad.
LEAST_TURN_SIGMA = np.radians(0.005)
#: Visual rates err by the scene, and by what a bump moves the camera, so alike for seconds that no statistics of the
#: residuals shows it: rad/s, where rates change and where they are steady; found on simulated drives.
SLOW_RATE, STEADY_RATE = np.radians(0.05), np.radians(0.015)
#: One part of the turns over which their errors may resemble each other otherwise.
LAGS = 8
ITERATIONS, STEP_S = 10, 0.002


@dataclass(frozen=True, eq=False)
class HandEye:
    """The sensor's stamps are `offset_s` later than the camera's (+- offset_sigma_s). The true camera is the one of TF
    turned by `rotation` [3] (rotation vector, rad, in the camera's axes: x right, y down, z forward) with standard
    deviations rotation_sigma [3]; seen [3] says which of them the motion shows. The images turn by `ratio` of what the
    sensor does (+- ratio_sigma). correlation of both turns in [0, 1]."""

    offset_s: float
    offset_sigma_s: float
    rotation: Array
    rotation_sigma: Array
    seen: NDArray[np.bool_]
    ratio: float
    ratio_sigma: float
    correlation: float
    turned_rad: float


def calibrate(
    turns: Turns,
    sensor: Orientations,
    sensor_from_camera: Array | None,
    has_bias: bool,
    least: tuple[float, float] = (LEAST_OFFSET_S, LEAST_ANGLE),
) -> HandEye:
    """Compare turns of the camera with those of a sensor mounted at sensor_from_camera [3, 3] (None: unknown, the
    rotation found is then the whole mounting). `has_bias`: the sensor is a gyro. No sigma of offset (s) and
    angle (rad) is stated below `least`.

    Raises InputError with the reason where nothing can be said: too little turning, or turns that do not match.
    """
    if len(turns) < MIN_TURNS or turns.total_rad < MIN_TURNED_RAD:
        raise InputError(
            f"the camera turned by {np.degrees(turns.total_rad):.0f} deg over {len(turns)} pairs of images, "
            f"{np.degrees(MIN_TURNED_RAD):.0f} deg over {MIN_TURNS} are needed"
        )
    mounting = np.eye(3) if sensor_from_camera is None else sensor_from_camera
    offset, turn, correlation = _search(turns, sensor, mounting, known=sensor_from_camera is not None)
    if correlation < MIN_CORRELATION:
        raise InputError(
            f"camera and sensor do not turn together (correlation {correlation:.2f}): the topics are of two robots, "
            f"the clocks differ by more than {SEARCH_S} s, or too little is seen in the images"
        )
    rotation = Rotation.from_matrix(turn)
    start = rotation.as_rotvec() if sensor_from_camera is not None else np.zeros(3)
    state = np.concatenate([[offset], np.zeros(3), [0.0], np.zeros(3)])  # offset, turn since the start, ratio, bias
    prior = _prior(has_bias)
    weight, inflation = np.ones((len(turns), 3)), np.ones(3)
    stated = np.sqrt(np.diagonal(turns.covariances, axis1=1, axis2=2) + LEAST_TURN_SIGMA**2)  # [N, 3]
    for iteration in range(ITERATIONS):
        residual, jacobian, covered = _linearised(turns, sensor, mounting, rotation, state)
        information = weight * covered[:, None] / (inflation * stated) ** 2
        normal = np.einsum("na,nai,naj->ij", information, jacobian, jacobian) + prior
        gradients = np.einsum("na,nai,na->ni", information, jacobian, residual)
        step = -np.linalg.solve(normal, gradients.sum(axis=0) + prior @ np.concatenate([[0.0], start, state[4:]]))
        step[0] = np.clip(step[0], -0.05, 0.05)
        rotation = rotation * Rotation.from_rotvec(step[1:4])
        start = start + step[1:4]
        state = state + step
        far = np.abs(residual) / stated
        inflation = np.maximum(1.0, MAD_TO_SIGMA * np.median(far[covered], axis=0))
        far = far / inflation
        weight = np.minimum(1.0, HUBER / np.maximum(far, 1e-9))
        if iteration >= ITERATIONS // 2:  # gross mistakes count nothing in the end
            weight = np.square(np.maximum(0.0, 1.0 - np.square(far / TUKEY)))
    inverse = np.linalg.inv(normal)
    sigma = np.sqrt(np.diag(inverse @ (_scatter(gradients[covered]) + prior) @ inverse))
    # A slow error of the images' rates shifts what changes slowly, and turns what turns slowly.
    rates = jacobian[covered, :, :4] / turns.seconds[covered, None, None]
    size = np.maximum(np.sqrt(np.square(rates).sum(axis=1).mean(axis=0)), 1e-9)
    sigma[:4] = np.hypot(sigma[:4], np.array([SLOW_RATE, *[STEADY_RATE] * 3]) / size)
    offset = float(state[0])
    angles = np.maximum(sigma[1:4], least[1])
    return HandEye(
        offset_s=offset,
        offset_sigma_s=max(float(sigma[0]), least[0]),
        rotation=rotation.as_rotvec(),
        rotation_sigma=angles,
        seen=angles < SEEN_SIGMA,
        ratio=1.0 + float(state[4]),
        ratio_sigma=float(sigma[4]),
        correlation=correlation,
        turned_rad=turns.total_rad,
    )


def _search(turns: Turns, sensor: Orientations, mounting: Array, known: bool) -> tuple[float, Array, float]:
    """Offset with the best correlation, the camera's turn against its mounting there, and that correlation."""
    best = (0.0, np.eye(3), -1.0)
    for offset in np.arange(-SEARCH_S, SEARCH_S + 1e-9, SEARCH_STEP_S):
        moved, covered = sensor.turns(turns.stamps_ns, float(offset))
        if covered.sum() < MIN_TURNS:
            continue
        seen = turns.vectors[covered] / turns.seconds[covered, None]
        felt = (moved[covered] @ mounting) / turns.seconds[covered, None]
        # The gyro's bias goes with the mean; a single mistracked image must not decide.
        seen, felt = seen - np.median(seen, axis=0), felt - np.median(felt, axis=0)
        limit = 6 * MAD_TO_SIGMA * np.median(np.abs(felt)) + 3 * np.median(np.abs(seen)) + 0.2
        fine = np.linalg.norm(seen, axis=1) < max(limit, float(np.linalg.norm(felt, axis=1).max()) * 1.5)
        seen, felt = seen[fine], felt[fine]
        power = float(np.sqrt((seen**2).sum() * (felt**2).sum()))
        if power <= 0:
            continue
        # felt = Exp(theta) seen; with a known mounting a turn that gains little is not made.
        U, _, Vt = np.linalg.svd(felt.T @ seen + (0.1 if known else 1e-6) * power * np.eye(3))
        turn = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
        correlation = float((felt * (seen @ turn.T)).sum()) / power
        if correlation > best[2]:
            best = (float(offset), turn, correlation)
    return best


def _linearised(
    turns: Turns, sensor: Orientations, mounting: Array, rotation: Rotation, state: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Residual [N, 3] of the turns, derivatives [N, 3, 8] by offset, rotation, ratio and bias, and which count [N]."""
    offset, ratio, bias = float(state[0]), 1.0 + float(state[4]), state[5:]
    felt, good = sensor.turns(turns.stamps_ns, offset)
    early, good_early = sensor.turns(turns.stamps_ns, offset - STEP_S)
    late, good_late = sensor.turns(turns.stamps_ns, offset + STEP_S)
    to_camera = rotation.as_matrix().T @ mounting.T
    turned = (felt - bias * turns.seconds[:, None]) @ to_camera.T
    x, y, z = ratio * turned.T
    zero = np.zeros_like(x)
    jacobian = np.empty((len(felt), 3, 8))
    jacobian[:, :, 0] = -ratio * ((late - early) / (2 * STEP_S)) @ to_camera.T
    jacobian[:, :, 1:4] = -np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    jacobian[:, :, 4] = -turned
    jacobian[:, :, 5:] = ratio * to_camera * turns.seconds[:, None, None]
    return turns.vectors - ratio * turned, jacobian, good & good_early & good_late


def _prior(has_bias: bool) -> Array:
    bias = BIAS_PRIOR if has_bias else 1e-7
    sigmas = np.array([2 * SEARCH_S, *[ROTATION_PRIOR] * 3, RATIO_PRIOR, *[bias] * 3])
    return np.diag(sigmas**-2)


def _scatter(gradients: Array) -> Array:
    """Covariance [k, k] of the sum of gradients [N, k] that resemble their neighbours in time: products over lags up to
    an eighth of all, fading out (Newey and West, Econometrica 1987)."""
    total = gradients.T @ gradients
    longest = max(1, len(gradients) // LAGS)
    for lag in range(1, longest + 1):
        product = gradients[lag:].T @ gradients[:-lag]
        total += (1.0 - lag / (longest + 1)) * (product + product.T)
    return np.asarray(total * len(gradients) / (len(gradients) - longest))
