"""What every recorded input offers: time-ordered samples, the rig, an estimate of its length.

A source never raises for one bad message or image in its middle: it counts it in `bad`, goes on and
names it at the end. It raises InputError when the input as a whole cannot be used.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spatial_fm_ros.bridge.topic_names import listed
from spatial_fm_ros.core.config import IntakeConfig, RosConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.types import Camera, Rig, Sample

NS = 1_000_000_000
DEFAULT_RATE_HZ = 30.0
_MOST_REASONS = 50
#: Parameters of the ROS section that name topics of a recording.
TOPIC_PARAMETERS = (
    "image_topic", "camera_info_topic", "companion_image_topics", "companion_camera_info_topics", "points_topic",
    "odometry_topic", "imu_topic",
)  # fmt: skip


@dataclass(frozen=True)
class SourceOptions:
    """How to read a recording. Empty topics are found by their type; 'none' switches an input off."""

    image_topic: str = ""
    camera_info_topic: str = ""
    companion_image_topics: str = ""  # of the rig's other cameras, separated by commas; none are looked for
    companion_camera_info_topics: str = ""  # in the same order; empty = beside each image topic
    points_topic: str = ""
    odometry_topic: str = ""
    imu_topic: str = ""
    pose_source: str = "odometry"  # odometry, tf, lidar, none
    odom_frame: str = "odom"
    base_frame: str = "base_link"
    image_rectified: bool = False  # images of all topics are rectified, whatever their names say
    image_frame_is_body: bool = False  # images come in frames with x forward
    rate_hz: float = 0.0  # image folders and videos without stamps; 0 = the input's own, or 30
    every: int = 1  # every n-th image
    start_s: float = 0.0  # seconds from the beginning of the recording
    stop_s: float = float("inf")
    max_pixels: int = IntakeConfig().max_pixels  # pictures that say they have more are not decoded
    intrinsics: str = ""  # fx,fy,cx,cy[,distortion...] of one size; 'none' ignores what the input says

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"Every n-th image needs n >= 1, got {self.every}.")
        if self.rate_hz != 0 and not 1e-4 <= self.rate_hz <= 1e5:
            raise InputError(f"The image rate must be positive, 0.0001 to 100000 Hz, got {self.rate_hz} Hz.")
        if not 0 <= self.start_s < self.stop_s:
            raise InputError(
                f"The part to read needs 0 <= start < stop in seconds, got {self.start_s:g} to {self.stop_s:g}."
            )
        if self.intrinsics and self.intrinsics.strip().lower() != "none":
            parse_intrinsics(self.intrinsics, 1, 1)  # complain before anything is opened

    @staticmethod
    def from_ros(ros: RosConfig, **others: object) -> SourceOptions:
        """Options from the ROS section: a topic left at its default is found by type instead."""
        default = RosConfig()
        topics = {
            name: getattr(ros, name) if getattr(ros, name) != getattr(default, name) else ""
            for name in TOPIC_PARAMETERS
        }
        merged: dict[str, object] = {
            **topics,
            "pose_source": ros.pose_source,
            "odom_frame": ros.odom_frame,
            "base_frame": ros.base_frame,
            "image_rectified": ros.image_rectified,
            "image_frame_is_body": ros.image_frame_is_body,
        }
        merged.update({key: value for key, value in others.items() if value is not None})
        return SourceOptions(**merged)  # type: ignore[arg-type]

    def camera_for(self, width: int, height: int, found: Camera | None) -> Camera | None:
        """The camera to use for images of this size: the option's, else what the input says."""
        if not self.intrinsics:
            return found
        if self.intrinsics.strip().lower() == "none":
            return None
        return parse_intrinsics(self.intrinsics, width, height)


def topic_list(names: str) -> list[str]:
    """The topics of a list separated by commas; 'none' is an empty one."""
    found = listed(names)
    return [] if found == ["none"] else found


def parse_intrinsics(text: str, width: int, height: int) -> Camera:
    """A camera from 'fx,fy,cx,cy' pixels and 0, 4, 5 (plumb_bob), 8, 12 or 14 (rational_polynomial) coefficients.

    Raises InputError when the text is something else.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    models = {0: "none", 4: "plumb_bob", 5: "plumb_bob", **dict.fromkeys((8, 12, 14), "rational_polynomial")}
    if len(numbers) - 4 not in models or not all(map(math.isfinite, numbers)) or min(numbers[:2]) <= 0:
        raise InputError(
            f"Intrinsics are 'fx,fy,cx,cy' in pixels, fx and fy above 0, with 0, 4, 5, 8, 12 or 14 distortion "
            f"coefficients after them, or 'none'; got '{shown(text)}'."
        )
    fx, fy, cx, cy = numbers[:4]
    K = [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]
    return Camera(width, height, K, models[len(numbers) - 4], tuple(numbers[4:]))  # type: ignore[arg-type]


class Source(ABC):
    """A recording. Iterate it once for its samples in time order; `close` it at the end.

    kind: what it is, in words. rig: static extrinsics where the recording holds them. notes:
    sentences the user should see. bad: messages or files that were skipped, by reason. length:
    estimated number of frames that will come, None where unknown.
    """

    kind: str = "recording"
    one_camera: bool = True  # nothing of this kind holds images of a rig's other cameras

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self.path = path
        self.options = options
        self.rig = Rig()
        self.notes: list[str] = []
        self.bad: Counter[str] = Counter()
        self.length: int | None = None
        if self.one_camera and (unread := topic_list(options.companion_image_topics)):
            self.notes.append(
                f"A {self.kind} holds images of one camera; {', '.join(unread)} can only come from a bag."
            )

    @abstractmethod
    def __iter__(self) -> Iterator[Sample]:
        """The samples in time order (frames up to a bounded delay behind the poses around them)."""

    def close(self) -> None:
        """Give files back. Safe to call twice."""
        return None

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def summary(self) -> list[str]:
        """Notes, then one sentence per reason for which something was skipped; of very many reasons the commonest."""
        counted = self.bad.most_common()
        skipped = [f"Skipped {count} times: {reason}" for reason, count in counted[:_MOST_REASONS]]
        if others := counted[_MOST_REASONS:]:
            more = sum(count for _, count in others)
            skipped.append(f"Skipped {more} times more for {len(others)} other reasons of the kind.")
        return [*self.notes, *skipped]
