"""How the camera turned from image to image, from the images alone: no map, no scale, no model."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.calibration.small_motion import small_turn
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rectify import Rectifier
from spatial_fm_ros.core.types import Array, Camera, Frame, Image

#: Long side of the images that are tracked.
TRACK_SIDE = 400
#: Images closer in time are left out: the turn between them is no larger than its error. Images further apart than
#: MAX_STEP_S do not show what happened between them.
MIN_STEP_S, MAX_STEP_S = 0.045, 0.7
MAX_CORNERS, MIN_TRACKS = 250, 25
FLOW_WINDOW_PX, FLOW_LEVELS, MAX_ROUND_TRIP_PX = 15, 4, 0.5
#: Tracks are not better than this.
LEAST_NOISE_PX = 0.05
#: Where fewer of the tracks agree with one motion, it is not the camera's.
MIN_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Turns:
    """N turns of the camera: stamps_ns int64 [N, 2] of their images, and rotation vectors [N, 3] rad of
    first_from_second, in the axes of the first, with covariances [N, 3, 3]."""

    stamps_ns: NDArray[np.int64]
    vectors: Array
    covariances: Array

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def seconds(self) -> Array:
        """Duration of each turn [N]."""
        return np.asarray((self.stamps_ns[:, 1] - self.stamps_ns[:, 0]) * 1e-9, dtype=np.float64)

    @property
    def total_rad(self) -> float:
        """All angles added up."""
        return float(np.linalg.norm(self.vectors, axis=1).sum())

    def joined(self, least_s: float) -> Turns:
        """The turn from each image to the first one at least `least_s` later, where no turn between them is missing:
        for sensors whose orientations err from moment to moment."""
        stamps, vectors, covariances = [], [], []
        rotations = Rotation.from_rotvec(self.vectors)
        follows = np.append(self.stamps_ns[1:, 0] == self.stamps_ns[:-1, 1], False)
        for i in range(len(self)):
            j, turn = i, rotations[i]
            while self.stamps_ns[j, 1] - self.stamps_ns[i, 0] < least_s * 1e9 and follows[j]:
                j += 1
                turn = turn * rotations[j]
            if self.stamps_ns[j, 1] - self.stamps_ns[i, 0] >= least_s * 1e9:
                stamps.append((self.stamps_ns[i, 0], self.stamps_ns[j, 1]))
                vectors.append(turn.as_rotvec())
                covariances.append(self.covariances[i : j + 1].sum(axis=0))
        return _turns(stamps, vectors, covariances)


class VisualTurns:
    """Give it calibrated frames in order of time: corners are tracked from each to the next (Lucas-Kanade), and
    `small_turn` has the rotation that explains them."""

    def __init__(self) -> None:
        self._rectifier = Rectifier(TRACK_SIDE)
        self._last: tuple[int, Image] | None = None
        self._stamps: list[tuple[int, int]] = []
        self._vectors: list[Array] = []
        self._covariances: list[Array] = []

    def add(self, frame: Frame) -> None:
        """Raises InputError for a frame that cannot be used or has no calibration; it changes nothing."""
        if frame.camera is None:
            raise InputError("Turns of a camera need its focal length; publish CameraInfo or give intrinsics.")
        if self._last is not None and frame.stamp_ns - self._last[0] < MIN_STEP_S * 1e9:
            return
        image, camera = self._rectifier.rectify(frame)
        assert camera is not None  # the frame has one
        grey: Image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        if self._last is not None and self._last[1].shape == grey.shape:
            stamp, before = self._last
            if frame.stamp_ns - stamp <= MAX_STEP_S * 1e9:
                turn = _turn(before, grey, camera)
                if turn is not None:
                    self._stamps.append((stamp, frame.stamp_ns))
                    self._vectors.append(turn[0])
                    self._covariances.append(turn[1])
        self._last = frame.stamp_ns, grey

    def turns(self) -> Turns:
        """All turns so far."""
        return _turns(self._stamps, self._vectors, self._covariances)


def _turns(stamps: list[tuple[int, int]], vectors: list[Array], covariances: list[Array]) -> Turns:
    return Turns(
        np.array(stamps, dtype=np.int64).reshape(-1, 2),
        np.array(vectors, dtype=np.float64).reshape(-1, 3),
        np.array(covariances, dtype=np.float64).reshape(-1, 3, 3),
    )


def _turn(before: Image, after: Image, camera: Camera) -> tuple[Array, Array] | None:
    """Rotation vector [3] of before_from_after with its covariance [3, 3], None where too little is tracked."""
    corners = cv2.goodFeaturesToTrack(before, MAX_CORNERS, 0.01, 8, blockSize=5)
    if corners is None or len(corners) < MIN_TRACKS:
        return None
    window = FLOW_WINDOW_PX, FLOW_WINDOW_PX
    found, forward, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=window, maxLevel=FLOW_LEVELS)
    back, backward, _ = cv2.calcOpticalFlowPyrLK(after, before, found, None, winSize=window, maxLevel=FLOW_LEVELS)
    good = (forward[:, 0] == 1) & (backward[:, 0] == 1)
    good &= np.linalg.norm((back - corners)[:, 0], axis=1) < MAX_ROUND_TRIP_PX
    if good.sum() < MIN_TRACKS:
        return None
    rays = [np.column_stack([xy[good, 0], np.ones(good.sum())]) @ np.linalg.inv(camera.K).T for xy in (corners, found)]
    vector, covariance, share = small_turn(rays[0], rays[1], 1.0 / camera.K[0, 0], LEAST_NOISE_PX)
    return (vector, covariance) if share >= MIN_SHARE else None
