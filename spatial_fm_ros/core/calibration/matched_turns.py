"""Turns of the camera between keyframes beside those of another sensor, collected while mapping."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.calibration.orientations import from_gyro
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.types import Array

#: The sensor's turns are looked up at offsets this far apart; in between they are interpolated.
NODE_S = 0.02
#: Offsets are looked at up to this many times the largest that may be applied, so that one beyond it is recognised.
REACH = 2.0
#: Turns remembered: some ten minutes. What is older is forgotten, for mountings move when they are bumped.
MOST_TURNS = 1500
#: Windows whose turns wait for the sensor's samples.
MOST_WAITING = 20
#: Samples of the IMU around a turn that its integration needs.
IMU_MARGIN_NS = 50_000_000

#: Of pairs of stamps [n, 2] and shifts [K] in ns: a sensor's turns [n, K, 3] (rotation vectors, rad, of
#: first_from_second) between the pairs moved by each shift; NaN where unknown.
TurnsBetween = Callable[[NDArray[np.int64], NDArray[np.int64]], Array]


def offset_nodes(max_offset_s: float) -> Array:
    """Offsets in seconds, evenly spaced about zero, at which a sensor's turns are looked up."""
    count = max(2, int(np.ceil(REACH * max_offset_s / NODE_S)))
    return np.arange(-count, count + 1, dtype=np.float64) * NODE_S


@dataclass(frozen=True, eq=False)
class WindowTurns:
    """n turns of one window's camera: stamps_ns int64 [n, 2] and rotation vectors [n, 3] rad of first_from_second."""

    stamps_ns: NDArray[np.int64]
    vectors: Array


@dataclass(frozen=True, eq=False)
class TurnSet:
    """N turns. seen [N, 3] by the camera, felt [N, K, 3] by the sensor at K offsets of its clock, both rad; seconds
    [N]; window [N] int tells which were seen together."""

    seen: Array
    felt: Array
    seconds: Array
    window: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.seen)


class MatchedTurns:
    """Collects the turns of one sensor. `nodes_s` [K]: offsets of its clock, as configured, that are looked at."""

    def __init__(self, nodes_s: Array) -> None:
        self.nodes_s = nodes_s
        self._waiting: deque[WindowTurns] = deque(maxlen=MOST_WAITING)
        self._parts: deque[TurnSet] = deque()
        self._count = 0
        self.windows = 0  # matched so far

    def expect(self, turns: WindowTurns) -> None:
        """Turns of a new window; they are matched when the sensor has got beyond them."""
        if len(turns.vectors):
            self._waiting.append(turns)

    def match(self, turns_between: TurnsBetween, latest_ns: int, corrected_s: float) -> bool:
        """Match what waits with a sensor whose newest stamp is `latest_ns`, and whose stamps have been moved
        `corrected_s` earlier already. Whether anything new was matched."""
        reach_s = float(self.nodes_s[-1]) + abs(corrected_s)
        before = self.windows
        while self._waiting:
            turns = self._waiting[0]
            if turns.stamps_ns.max() + reach_s * 1e9 > latest_ns:
                break
            self._waiting.popleft()
            shifts = np.round((self.nodes_s - corrected_s) * 1e9).astype(np.int64)
            self._keep(turns, turns_between(turns.stamps_ns, shifts))
        return self.windows > before

    def all(self) -> TurnSet:
        """What is remembered; at least one turn must have been matched."""
        parts = self._parts
        return TurnSet(
            np.concatenate([part.seen for part in parts]),
            np.concatenate([part.felt for part in parts]),
            np.concatenate([part.seconds for part in parts]),
            np.concatenate([part.window for part in parts]),
        )

    def __len__(self) -> int:
        return self._count

    def _keep(self, turns: WindowTurns, felt: Array) -> None:
        known = np.isfinite(felt).all(axis=(1, 2))
        if not known.any():
            return
        seconds = np.diff(turns.stamps_ns[known], axis=1)[:, 0] * 1e-9
        window = np.full(int(known.sum()), self.windows)
        self._parts.append(TurnSet(turns.vectors[known], felt[known], seconds, window))
        self.windows += 1
        self._count += len(seconds)
        while self._count - len(self._parts[0]) >= MOST_TURNS:
            self._count -= len(self._parts.popleft())


def turns_of_poses(sensors: Sensors) -> TurnsBetween:
    """How the body turned by odometry, TF or LiDAR odometry; unknown across jumps and long gaps."""

    def between(stamps_ns: NDArray[np.int64], shifts_ns: NDArray[np.int64]) -> Array:
        asked = stamps_ns[:, None] + shifts_ns[None, :, None]  # [n, K, 2]
        stamps, index = np.unique(asked, return_inverse=True)
        found = [sensors.poses.at(int(stamp)) for stamp in stamps]
        rotations = np.array([np.full((3, 3), np.nan) if pose is None else pose[:3, :3] for pose in found])
        first, second = np.moveaxis(rotations[index.reshape(asked.shape)], 2, 0)
        steps = np.swapaxes(first, -1, -2) @ second
        known = np.isfinite(steps).all(axis=(1, 2, 3))
        known &= [not sensors.poses.jumped_between(int(each.min()), int(each.max())) for each in asked]
        turns = np.full((*asked.shape[:2], 3), np.nan)
        if known.any():
            vectors = Rotation.from_matrix(steps[known].reshape(-1, 3, 3)).as_rotvec()
            turns[known] = vectors.reshape(-1, len(shifts_ns), 3)
        return turns

    return between


def turns_of_imu(sensors: Sensors) -> TurnsBetween:
    """How the IMU turned by its gyro, bias included; unknown across holes."""

    def between(stamps_ns: NDArray[np.int64], shifts_ns: NDArray[np.int64]) -> Array:
        first = int(stamps_ns.min() + shifts_ns.min()) - IMU_MARGIN_NS
        last = int(stamps_ns.max() + shifts_ns.max()) + IMU_MARGIN_NS
        turns = np.full((len(stamps_ns), len(shifts_ns), 3), np.nan)
        try:
            track = from_gyro(sensors.imu.between(first, last))
        except InputError:  # no samples there
            return turns
        for k, shift in enumerate(shifts_ns):
            vectors, covered = track.turns(stamps_ns, float(shift) * 1e-9)
            turns[covered, k] = vectors[covered]
        return turns

    return between
