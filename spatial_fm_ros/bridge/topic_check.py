"""Listens to the configured inputs for a while and says what is wrong with them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rclpy.node import Node

from spatial_fm_ros.bridge import companion_check
from spatial_fm_ros.bridge.decode import (
    decode_camera_info,
    decode_compressed_image,
    decode_image,
    decode_imu,
    decode_odometry,
    decode_points,
    frame_name,
    stamp_ns,
)
from spatial_fm_ros.bridge.decode_motion import clean_frame
from spatial_fm_ros.bridge.frames import TransformTree
from spatial_fm_ros.bridge.inputs import InputTopic, expected_inputs, info_role, subscribe
from spatial_fm_ros.bridge.motion_record import MotionRecord
from spatial_fm_ros.bridge.topic_names import is_rectified_name
from spatial_fm_ros.bridge.topics import inspect_topic
from spatial_fm_ros.core.calibration.report import Finding
from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.optical import frame_doubt, optical_frame
from spatial_fm_ros.core.intake.clocks import OTHER_CLOCK_S, TOLD_S, SensorClocks, heard_apart
from spatial_fm_ros.core.intake.one_kind import two_sizes
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.types import Array, Camera

#: Sensors that are compared with the camera, by their inputs.
SENSORS = {"odometry": "odometry", "points": "lidar", "imu": "imu"}
#: Stamps further from the clock than this are worth a word, seconds.
CLOCK_OFFSET_S = 2.0


@dataclass(frozen=True)
class Problem:
    """A sentence; `fatal` where the reconstruction cannot use an input because of it."""

    sentence: str
    fatal: bool = True


@dataclass
class Heard:
    """What one topic brought."""

    wanted: InputTopic
    arrivals_ns: list[int] = field(default_factory=list)
    stamps_ns: list[int] = field(default_factory=list)  # 0 is none
    delays_ns: list[int] = field(default_factory=list)
    unstamped: int = 0
    frames: Counter[str] = field(default_factory=Counter)
    children: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    facts: str = ""
    size: tuple[int, int] | None = None
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # of images
    camera: Camera | None = None

    @property
    def count(self) -> int:
        return len(self.arrivals_ns)

    @property
    def rate_hz(self) -> float:
        if self.count < 2:
            return 0.0
        return (self.count - 1) / max(1e-9, (self.arrivals_ns[-1] - self.arrivals_ns[0]) * 1e-9)

    @property
    def frame(self) -> str:
        return self.frames.most_common(1)[0][0] if self.frames else ""

    @property
    def clock_offset_s(self) -> float | None:
        """Median of arrival minus stamp, of messages that have one."""
        if not self.delays_ns:
            return None
        return float(np.median(self.delays_ns)) * 1e-9


class TopicCheck:
    """Subscribe on construction, spin the node for a while, then read `heard`, `problems()`, `rig()` and `motion()`."""

    def __init__(self, node: Node, config: Config, tree: TransformTree) -> None:
        self._node = node
        self._config = config.ros
        self._max_gap_s = config.intake.companion_max_gap_s
        self._tree = tree
        self._motion = MotionRecord(config)
        self._clocks = SensorClocks()
        intake = config.intake
        self._offsets_s = {
            "odometry": intake.pose_time_offset_s,
            "points": intake.lidar_time_offset_s,
            "imu": intake.imu_time_offset_s,
        }
        self.heard = [Heard(wanted) for wanted in expected_inputs(node, config.ros)]
        for each in self.heard:
            subscribe(node, each.wanted, self._listener(each), on_lost=lambda _count: None)

    def discovered(self) -> bool:
        """Somebody publishes one of the inputs."""
        return any(self._node.count_publishers(each.wanted.topic) for each in self.heard)

    def problems(self) -> list[Problem]:
        """Everything that is wrong, worst first."""
        found: list[Problem] = []
        for each in self.heard:
            found += self._of_topic(each)
        found += self._of_calibration() + self._of_clocks() + self._of_frames()
        return sorted(found, key=lambda problem: not problem.fatal)

    def rig(self) -> list[Finding]:
        """Whether the rig's other cameras are triggered with the first, and where TF has them."""
        roles = {each.wanted.role: each for each in self.heard if each.count}
        image = roles.get("image")
        found: list[Finding | None] = []
        for role, heard in roles.items():
            if image is not None and heard.wanted.is_image and heard is not image:
                found.append(companion_check.of_clocks(role, image.clock_offset_s, heard.clock_offset_s))
                found.append(companion_check.of_stamps(role, image.stamps_ns, heard.stamps_ns, self._max_gap_s))
                found.append(companion_check.of_frames(role, image.frame, heard.frame, self._tree))
        return [each for each in found if each is not None]

    def motion(self) -> list[Finding]:
        """What the robot's turning says of clocks and mountings. Takes some seconds when it turned."""
        roles = {each.wanted.role: each for each in self.heard if each.count}
        image, info = roles.get("image"), roles.get("camera_info")
        if image is None:
            return []
        bodies = {"imu": "imu", "odometry": "odometry", "lidar": "points"}
        frames = {sensor: roles[role] for sensor, role in bodies.items() if role in roles}
        mountings: dict[str, Array | None] = {}
        for sensor, heard in frames.items():
            frame = heard.children.most_common(1)[0][0] if sensor == "odometry" and heard.children else heard.frame
            found = self._tree.lookup(frame, image.frame) if frame and image.frame else None
            mountings[sensor] = None if found is None else found[:3, :3]
        return self._motion.compare(info.camera if info is not None else None, mountings, self._frame_doubt(roles))

    def _frame_doubt(self, roles: dict[str, Heard]) -> str:
        """What TF lets suspect of the frame of the images, on the body that poses are of."""
        body, told = self._body(roles), self._config.pose_source == "tf" or "odometry" in roles
        frame = roles["image"].frame
        found = self._tree.lookup(body, frame) if frame and (told or frame != body) else None
        return "" if found is None else frame_doubt(found, frame, body)

    def _body(self, roles: dict[str, Heard]) -> str:
        odometry = roles.get("odometry")
        if odometry is not None and odometry.children:
            return odometry.children.most_common(1)[0][0]
        return clean_frame(self._config.base_frame)

    def _listener(self, heard: Heard) -> Callable[[Any], None]:
        read: dict[str, Callable[[Heard, Any], None]] = {
            "points": self._read_points,
            "odometry": self._read_odometry,
            "imu": lambda _heard, msg: self._motion.add_imu(decode_imu(msg)),
        }
        other = self._read_image if heard.wanted.is_image else self._read_camera_info  # of any camera
        take = read.get(heard.wanted.role, other)

        def callback(msg: Any) -> None:
            now = self._node.get_clock().now().nanoseconds
            heard.arrivals_ns.append(now)
            try:
                stamp = stamp_ns(msg.header)
                if stamp:
                    heard.stamps_ns.append(stamp)
                    heard.delays_ns.append(now - stamp)
                    self._compare_clock(heard.wanted.role, stamp)
                heard.unstamped += not stamp
                heard.frames[self._frame(heard, msg)] += 1
                take(heard, msg)
            except InputError as error:
                heard.bad[str(error)] += 1

        return callback

    def _compare_clock(self, role: str, stamp: int) -> None:
        arrived = time.monotonic_ns()
        if role == "image":
            self._clocks.image(stamp, arrived)
        elif role in SENSORS:
            self._clocks.sample(SENSORS[role], stamp + round(self._offsets_s[role] * 1e9), arrived)

    def _of_clocks(self) -> list[Problem]:
        """Sensors whose stamps are not of the images' clock, with the offset that would mend it."""
        found = []
        for role, sensor in SENSORS.items():
            later = self._clocks.later_s(sensor)
            if role == "odometry" and self._config.pose_source == "tf":
                later = self._tf_later_s()
            if later is not None and abs(later) >= TOLD_S:
                told = heard_apart(sensor, later, self._offsets_s[role])
                found.append(Problem(f"{role}: {told}.", fatal=abs(later) >= OTHER_CLOCK_S))
        return found

    def _tf_later_s(self) -> float | None:
        """How much later the newest pose in TF is than the newest image."""
        images = next((each.stamps_ns for each in self.heard if each.wanted.role == "image"), [])
        newest = self._tree.latest(self._config.odom_frame, self._config.base_frame)
        if newest is None or not images:
            return None
        return (newest[0] - images[-1]) / 1e9 + self._offsets_s["odometry"]

    def _frame(self, heard: Heard, msg: Any) -> str:
        """The frame of a message; of images and their CameraInfo the one that is used in its place."""
        frame = frame_name(msg.header, "")
        of_camera = heard.wanted.is_image or heard.wanted.type_name.endswith("CameraInfo")
        if not (frame and of_camera and self._config.image_frame_is_body):
            return frame
        optical = optical_frame(frame)
        if optical not in heard.frames:
            self._tree.add_optical(frame, optical)
        return optical

    def _read_image(self, heard: Heard, msg: Any) -> None:
        compressed = heard.wanted.is_compressed
        image = decode_compressed_image(msg) if compressed else decode_image(msg)
        heard.size = (image.shape[1], image.shape[0])
        heard.sizes[heard.size] += 1
        encoding = msg.format if compressed else msg.encoding
        heard.facts = f"{heard.size[0]}x{heard.size[1]} {shown(encoding, 60)}"
        if heard.wanted.role == "image":
            self._motion.add_image(stamp_ns(msg.header), image)

    def _read_camera_info(self, heard: Heard, msg: Any) -> None:
        heard.camera = decode_camera_info(msg, rectified=self._is_rectified(heard.wanted.role))
        heard.size = (int(msg.width), int(msg.height))
        if heard.camera is None:
            heard.facts = "not calibrated"
        else:
            focal = heard.camera.K[0, 0]
            heard.facts = f"{heard.camera.width}x{heard.camera.height} {heard.camera.distortion_model} f={focal:.0f}"

    def _is_rectified(self, info: str) -> bool:
        """Whether the images of a camera info's role are rectified already."""
        images = (each.wanted for each in self.heard if each.wanted.is_image and info_role(each.wanted.role) == info)
        return self._config.image_rectified or any(is_rectified_name(image.topic) for image in images)

    def _read_points(self, heard: Heard, msg: Any) -> None:
        scan = decode_points(msg)
        columns = (("intensity", scan.intensity), ("ring", scan.ring), ("time", scan.point_times_ns))
        extra = [name for name, column in columns if column is not None]
        heard.facts = f"{len(scan.points)} points" + (f" with {', '.join(extra)}" if extra else "")
        heard.remarks[scan.remark] += bool(scan.remark)
        self._motion.add_scan(scan)

    def _read_odometry(self, heard: Heard, msg: Any) -> None:
        sample = decode_odometry(msg)
        heard.children[sample.child_frame_id] += 1
        heard.facts = f"of '{sample.child_frame_id}'"
        self._motion.add_pose(sample)

    def _of_topic(self, heard: Heard) -> list[Problem]:
        role, topic = heard.wanted.role, heard.wanted.topic
        troubles = inspect_topic(self._node, heard.wanted)
        found = [Problem(trouble.sentence) for trouble in troubles]
        if not heard.count:
            if not troubles:
                found.append(Problem(f"{role}: {topic} has a publisher but brings no messages."))
            return found
        for remark, count in heard.remarks.most_common(3):
            if count:
                found.append(Problem(f"{role}: {remark} ({count} of {heard.count}).", fatal=False))
        for reason, count in heard.bad.most_common(3):
            found.append(Problem(f"{role}: {count} of {heard.count} messages cannot be used: {reason}"))
        if "" in heard.frames:
            found.append(Problem(f"{role}: frame_id is empty; set it in the driver.", fatal=False))
        if len(heard.frames) > 1:
            names = ", ".join(f"'{name}'" for name in heard.frames)
            sentence = f"{role}: messages of several frames on one topic: {names}; the first one's are used"
            found.append(Problem(f"{sentence}. Give each sensor its own topic.", fatal=False))
        if len(heard.sizes) > 1:
            first, second = list(heard.sizes)[:2]
            found.append(Problem(f"{role}: {two_sizes(topic, first, second)}", fatal=False))
        if len(heard.children) > 1:
            names = ", ".join(f"'{name}'" for name in heard.children)
            found.append(Problem(f"{role}: poses of several frames on one topic: {names}; the first one's are used."))
        if (np.diff(heard.stamps_ns) < 0).any():
            found.append(Problem(f"{role}: stamps go backwards on {topic}.", fatal=False))
        if heard.unstamped:
            found.append(
                Problem(
                    f"{role}: {heard.unstamped} of {heard.count} messages have stamp 0; the node takes the time of "
                    "their arrival, which is late and uneven: set header.stamp in the driver.",
                    fatal=False,
                )
            )
        offset = heard.clock_offset_s
        if offset is not None and abs(offset) > CLOCK_OFFSET_S:
            found.append(
                Problem(
                    f"{role}: stamps are {abs(offset):.1f} s {'behind' if offset > 0 else 'ahead of'} this node's "
                    "clock; with a bag or a simulator that publishes /clock set use_sim_time, otherwise synchronise "
                    "the machines' clocks.",
                    fatal=False,
                )
            )
        return found

    def _of_calibration(self) -> list[Problem]:
        roles = {each.wanted.role: each for each in self.heard if each.count}
        pairs = [(image, roles.get(info_role(role))) for role, image in roles.items() if image.wanted.is_image]
        found = (_of_camera_info(info, image) for image, info in pairs if info is not None and not info.bad)
        return [problem for problem in found if problem is not None]

    def _of_frames(self) -> list[Problem]:
        """The TF chain from the body to each sensor, and from odometry to the body."""
        roles = {each.wanted.role: each for each in self.heard if each.count}
        odometry, found = roles.get("odometry"), []
        body = self._body(roles)
        uses_tf = self._config.pose_source == "tf"
        if uses_tf and self._tree.lookup(self._config.odom_frame, body) is None:
            found.append(
                Problem(f"TF: no transform from '{self._config.odom_frame}' to '{body}', where poses shall come from.")
            )
        if self._config.pose_source == "lidar":
            return self._of_lidar(roles)
        if not uses_tf and odometry is None:
            return found
        for role in ("image", "points", "imu"):
            frame = roles[role].frame if role in roles else ""
            if frame and frame != body and self._tree.lookup(body, frame) is None:
                found.append(
                    Problem(
                        f"TF: no transform from '{body}' to '{frame}' ({role}); publish the robot's description "
                        "or a static transform.",
                        fatal=role == "image",
                    )
                )
        return found

    def _of_lidar(self, roles: dict[str, Heard]) -> list[Problem]:
        """LiDAR odometry needs TF between camera and LiDAR, by whatever frames."""
        if not {"image", "points"} <= set(roles):
            return []
        camera, lidar = roles["image"].frame, roles["points"].frame
        if camera == lidar or self._tree.lookup(camera, lidar) is not None:
            return []
        return [
            Problem(
                f"TF: no transform between '{camera}' (image) and '{lidar}' (points), which LiDAR odometry needs; "
                "publish the robot's description or a static transform."
            )
        ]


def _of_camera_info(info: Heard, image: Heard) -> Problem | None:
    """Whether calibration and images are of one camera."""
    role = info.wanted.role
    if info.camera is None:
        first = image.wanted.role == "image"
        then = "so the focal length must be estimated" if first else "so its images cannot be used"
        return Problem(f"{role}: K is all zero, {then}; calibrate the camera.", fatal=not first)
    size = (info.camera.width, info.camera.height)
    if image.size is not None and size != image.size:
        return Problem(
            f"{role}: describes images of {size[0]}x{size[1]}, {image.wanted.topic} sends "
            f"{image.size[0]}x{image.size[1]}; use the CameraInfo topic of that image topic."
        )
    if info.frame != image.frame:
        return Problem(f"{role}: frame '{info.frame}', but the images are in '{image.frame}'.", fatal=False)
    return None
