"""Time-stamped poses: late ones are sorted in, between two of them is interpolated."""

from __future__ import annotations

from bisect import bisect_left
from threading import Lock

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import (
    interpolate_pose,
    is_pose,
    nearest_rotation,
    pose_from,
    rotation_angle,
)
from spatial_fm_ros.core.intake.stamps import Admitted, TimeLine
from spatial_fm_ros.core.types import Array, PoseSample

#: A step is a jump when it departs from constant velocity by more than a vehicle can accelerate.
JUMP_DISTANCE_M = 0.15
JUMP_ACCELERATION = 20.0  # m/s^2
JUMP_ANGLE_RAD = 0.35
JUMP_ANGULAR_SPEED = 12.0  # rad/s
#: Poses of a new line of time that wait for it to last.
WAITING = 1000
#: More poses are never kept (a minute at 1 kHz): beyond, a sender that is too fast shortens the time that is known.
MOST_POSES = 60_000


class PoseBuffer:
    """Poses of one body in one frame, the last `keep_s` seconds. Thread-safe.

    `jumps` counts steps no vehicle can make (a restarted odometry, a relocalisation) and changes of the
    odometry frame; nothing is interpolated across one. `dropped` counts poses left out for their stamps. `withheld`:
    nothing is given out for now, for it is not known yet what the poses are of. `other_clock`: nor where their stamps
    are of another clock than the camera's.
    """

    def __init__(self, max_gap_s: float, keep_s: float) -> None:
        """`max_gap_s`: neighbours further apart are not interpolated."""
        self._max_gap_ns = round(max_gap_s * 1e9)
        self._keep_ns = round(keep_s * 1e9)
        self._lock = Lock()
        self.withheld = False
        self.clear()

    def clear(self) -> None:
        """Forget all poses and the counts."""
        with self._lock:
            self._stamps: list[int] = []
            self._poses: list[Array] = []
            self._frames: list[str] = []
            self._jumped: list[bool] = []  # between the sample before and this one
            self.jumps = 0
            self.dropped = 0
            self.other_clock = False
            self._line: TimeLine[PoseSample] = TimeLine("A pose", WAITING, self._keep_ns)

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def latest_ns(self) -> int | None:
        """Stamp of the newest pose, None while empty."""
        with self._lock:
            return self._stamps[-1] if self._stamps else None

    def add(self, sample: PoseSample) -> Admitted[PoseSample]:
        """Keep a pose; it replaces one of the same stamp. One whose stamp is not of this time is dropped for now: it
        waits, and is used if that time lasts (see TimeLine).

        Raises InputError when `odom_from_body` is not a rigid pose.
        """
        pose = np.asarray(sample.odom_from_body, dtype=np.float64)
        if not is_pose(pose, tolerance=1e-2):
            raise InputError(
                f"The pose of '{sample.child_frame_id}' in '{sample.frame_id}' at {sample.stamp_ns} ns is "
                "not a rigid transform (NaN, or an orientation that is no rotation); check its sender."
            )
        with self._lock:
            admitted = self._line.admit(sample.stamp_ns, sample.arrived_ns, sample)
            self.dropped += bool(admitted.refused)
            if admitted.moved and self._stamps and min(each.stamp_ns for each in admitted.items) <= self._stamps[-1]:
                self._stamps, self._poses, self._frames, self._jumped = [], [], [], []
            for each in admitted.items:
                self._insert(each)
            return admitted

    def _insert(self, sample: PoseSample) -> None:
        pose = np.asarray(sample.odom_from_body, dtype=np.float64)
        pose = pose_from(nearest_rotation(pose[:3, :3]), pose[:3, 3])
        i = len(self._stamps)
        if self._stamps and sample.stamp_ns <= self._stamps[-1]:
            i = bisect_left(self._stamps, sample.stamp_ns)
        if i < len(self._stamps) and self._stamps[i] == sample.stamp_ns:
            self._poses[i], self._frames[i] = pose, sample.frame_id
        else:
            self._stamps.insert(i, sample.stamp_ns)
            self._poses.insert(i, pose)
            self._frames.insert(i, sample.frame_id)
            self._jumped.insert(i, False)
        for j in range(i, min(i + 3, len(self._stamps))):  # steps whose end, start or velocity it is
            jumped = self._is_jump(j)
            self.jumps += int(jumped) - int(self._jumped[j])
            self._jumped[j] = jumped
        self._drop_old()

    def at(self, stamp_ns: int) -> Array | None:
        """odom_from_body [4, 4] at a stamp; None outside the buffer, in a long gap and across a jump."""
        with self._lock:
            i = bisect_left(self._stamps, stamp_ns)
            if self.withheld or self.other_clock or i == len(self._stamps):
                return None
            if self._stamps[i] == stamp_ns:
                return self._poses[i].copy()
            if i == 0 or self._jumped[i]:
                return None
            before, after = self._stamps[i - 1], self._stamps[i]
            if after - before > self._max_gap_ns:
                return None
            return interpolate_pose(self._poses[i - 1], self._poses[i], (stamp_ns - before) / (after - before))

    def shift(self, later_ns: int) -> None:
        """Move all stamps: the sensor's clock has turned out to be another."""
        if later_ns:
            with self._lock:
                self._stamps = [stamp + later_ns for stamp in self._stamps]

    def jumped_between(self, a_ns: int, b_ns: int) -> bool:
        """Whether a jump lies between two stamps: their poses then belong to different odometry frames."""
        with self._lock:
            first, last = (
                bisect_left(self._stamps, min(a_ns, b_ns)),
                bisect_left(self._stamps, max(a_ns, b_ns)),
            )
            return any(self._jumped[first + 1 : last + 1])

    def _is_jump(self, i: int) -> bool:
        if i == 0:
            return False
        if self._frames[i] != self._frames[i - 1]:
            return True
        dt = (self._stamps[i] - self._stamps[i - 1]) * 1e-9
        angle = float(rotation_angle(self._poses[i - 1][:3, :3].T @ self._poses[i][:3, :3]))
        if angle > JUMP_ANGLE_RAD + JUMP_ANGULAR_SPEED * dt:
            return True
        velocity: Array = np.zeros(3)
        if i >= 2 and not self._jumped[i - 1]:
            dt_before = (self._stamps[i - 1] - self._stamps[i - 2]) * 1e-9
            velocity = (self._poses[i - 1][:3, 3] - self._poses[i - 2][:3, 3]) / dt_before
            # A velocity from a much shorter step is mostly noise.
            allowance = JUMP_DISTANCE_M * (1.0 + dt / dt_before)
        else:
            allowance = JUMP_DISTANCE_M + 60.0 * dt  # speed unknown: anything a vehicle can drive
        step = self._poses[i][:3, 3] - self._poses[i - 1][:3, 3]
        return bool(np.linalg.norm(step - velocity * dt) > allowance + 0.5 * JUMP_ACCELERATION * dt**2)

    def _drop_old(self) -> None:
        # In batches of a tenth, for a list shifts all of its items.
        k = 0
        if self._stamps[-1] - self._stamps[0] > self._keep_ns * 1.1:
            k = bisect_left(self._stamps, self._stamps[-1] - self._keep_ns)
        if len(self._stamps) > MOST_POSES:
            k = max(k, MOST_POSES // 10)
        if k:
            del self._stamps[:k], self._poses[:k], self._frames[:k], self._jumped[:k]
            self._jumped[0] = False
