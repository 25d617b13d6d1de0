"""One topic is one sensor in one frame: messages of a second one are left out and counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

from spatial_fm_ros.bridge.decode import frame_name, odometry_frames
from spatial_fm_ros.core.intake.one_kind import two_frames
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.sources.reasons import Reasons

#: Frames of a topic that are named.
_NAMED = 5


class SensorFrames:
    """The frames of LiDARs, IMUs and odometry (its body and its own), each that of the first message of its topic."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._others: dict[str, Counter[str]] = {}

    def takes(self, topic: str, message: Any) -> bool:
        """Whether a message comes in the frame of its topic's first one; one that names none does."""
        is_odometry = hasattr(message, "child_frame_id")
        frame = odometry_frames(message) if is_odometry else frame_name(message.header, "")
        if not frame or frame == self._first.setdefault(topic, frame):
            return True
        self._others.setdefault(topic, Reasons())[frame] += 1
        return False

    def notes(self) -> list[str]:
        """A sentence for each frame that was left out."""
        return [
            two_frames(shown(topic), shown(self._first[topic]), shown(frame), "Messages", "sensor", count)
            for topic, others in self._others.items()
            for frame, count in others.most_common(_NAMED)
        ]
