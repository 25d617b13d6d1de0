"""Rotation between LiDAR and camera from what scans and depth images of many windows disagree about.

A window's depth ratios foretell six errors of the extrinsic (`metric/extrinsic_slack.py`). Slopes of noisy depth are
too flat, so a window sees some six tenths of an error; once that is corrected, the next ones see what is left.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from spatial_fm_ros.core.calibration.estimate import Estimate
from spatial_fm_ros.core.calibration.hand_eye import LEAST_ANGLE, ROTATION_PRIOR
from spatial_fm_ros.core.calibration.turn_fit import MIN_WINDOWS, MODEL_WINDOWS
from spatial_fm_ros.core.metric.extrinsic_slack import ExtrinsicEvidence
from spatial_fm_ros.core.types import Array

#: Windows remembered: enough to average, few enough that those from before a correction leave.
MOST_WINDOWS = 20
#: The shift between LiDAR and camera is not corrected; it may be so wrong, metres.
SHIFT_PRIOR_M = 0.03
#: A network may bend depth alike in all windows: each region wrong by this share of depth, standard deviation.
COMMON = 0.015


class DepthFit:
    """Collects evidence of windows and the turn under which each was taken."""

    def __init__(self) -> None:
        self.windows = 0
        self._taken: deque[tuple[Array, Array, float]] = deque(maxlen=MOST_WINDOWS)

    def add(self, evidence: ExtrinsicEvidence, applied: Array) -> None:
        """`applied` [3]: the correction that was in use, with the sign of Estimate.rotation."""
        self.windows += 1
        before = np.concatenate([np.zeros(3), applied])
        self._taken.append((evidence.information, evidence.pull + evidence.information @ before, evidence.error))

    def estimate(self) -> Estimate | None:
        """Rotation of the camera by the LiDAR as told; None before there are enough windows."""
        if len(self._taken) < MIN_WINDOWS:
            return None
        informations, pulls, errors = (np.stack(parts) for parts in zip(*self._taken, strict=True))
        count, total = len(pulls), informations.sum(axis=0)
        prior = np.diag([SHIFT_PRIOR_M**-2] * 3 + [ROTATION_PRIOR**-2] * 3)
        inverse = np.linalg.inv(total + prior)
        found = inverse @ pulls.sum(axis=0)
        left = pulls - informations @ found
        scatter = count / (count - 4.0) * left.T @ left
        scatter = (count * scatter + MODEL_WINDOWS * total) / (count + MODEL_WINDOWS)
        alike = np.einsum("wij,w->ij", informations, np.square(errors / COMMON)) / count
        covariance = inverse @ (scatter + prior) @ inverse + np.linalg.inv(alike + prior)
        return Estimate(0.0, float("inf"), found[3:], covariance[3:, 3:] + LEAST_ANGLE**2 * np.eye(3))
