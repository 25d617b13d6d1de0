"""One topic, one sensor: messages of a second one on the same topic are refused."""

from __future__ import annotations

import time
from collections.abc import Callable

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.intake.one_kind import OneKind, two_frames, two_sizes

#: What messages of a role are called, and the sensor that should have a topic of its own.
_WORDS = {"points": ("Scans", "LiDAR"), "imu": ("Samples", "IMU"), "odometry": ("Poses", "odometry")}


class OneSender:
    """Keeps to the frame, and for images to the size, in which a topic's messages came first (see OneKind)."""

    def __init__(self, role: str, topic: str, now: Callable[[], float] = time.monotonic) -> None:
        self._topic = topic
        self._what, self._sensor = _WORDS.get(role, ("Images", "camera"))
        self._now = now
        self._frames = OneKind[str]()
        self._sizes = OneKind[tuple[int, int]]()

    def check_frame(self, frame: str) -> None:
        """Raises InputError for a message of another sensor."""
        before = self._frames.kept
        if not self._frames.admits(frame, self._now()):
            raise InputError(two_frames(self._topic, str(before), frame, self._what, self._sensor))
        if before is not None and frame != before:
            self._sizes = OneKind()  # another camera

    def check_size(self, size: tuple[int, int]) -> None:
        """Raises InputError for an image (width, height) of another camera in the same frame."""
        before = self._sizes.kept
        if not self._sizes.admits(size, self._now()):
            raise InputError(two_sizes(self._topic, before or size, size))
