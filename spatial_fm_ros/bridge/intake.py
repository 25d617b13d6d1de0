"""Subscriptions of the reconstruction: decode, count, hand to the pipeline. Nothing here is slow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rclpy.node import Node

from spatial_fm_ros.bridge.calibration import Calibration, CalibrationPending
from spatial_fm_ros.bridge.companion_input import CompanionInput
from spatial_fm_ros.bridge.decode import (
    PackedImage,
    decode_imu,
    decode_odometry,
    decode_points,
    frame_name,
    odometry_frames,
    open_compressed_image,
    open_image,
    stamp_ns,
)
from spatial_fm_ros.bridge.health import InputHealth
from spatial_fm_ros.bridge.helper_node import HelperNode
from spatial_fm_ros.bridge.inputs import NONE, InputTopic, expected_inputs, info_role, subscribe
from spatial_fm_ros.bridge.one_sender import OneSender
from spatial_fm_ros.bridge.pose_feed import PoseFeed
from spatial_fm_ros.bridge.topic_names import is_rectified_name
from spatial_fm_ros.bridge.unstamped import Unstamped
from spatial_fm_ros.core.config import RosConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Frame

#: So many images in a row that are not newer than the ones before are worth a word.
STALE = 20


@dataclass(frozen=True)
class Arrival:
    """Stamp of a message and the steady time at which it came."""

    stamp_ns: int
    arrived_s: float


class Intake:
    """Feeds a pipeline from topics between `open` and `close`, in one thread of its own."""

    def __init__(
        self,
        node: Node,
        config: RosConfig,
        pipeline: Pipeline,
        poses: PoseFeed,
        health: InputHealth,
    ) -> None:
        self.running = True
        self.frames = 0
        self.skipped = 0  # of these: while paused, or before CameraInfo came
        self.last_image_s: float | None = None
        self.newest_stamp_ns: int | None = None  # of the last image
        self.newest_keyframe: Arrival | None = None
        self._node = node
        self._config = config
        self._pipeline = pipeline
        self._poses = poses
        self._health = health
        self._unstamped = Unstamped(node)
        self._scan_remark = ""
        self._stale = 0  # images in a row
        self.calibration = Calibration(config.camera_info_topic != NONE, config.missing_after_s, config.image_rectified)
        self._companions: dict[str, CompanionInput] = {}  # by role, from the first `open` on
        self._senders: dict[str, OneSender] = {}  # by role
        self._helper: HelperNode | None = None
        self.inputs: list[InputTopic] = []

    def open(self) -> None:
        """Subscribe to everything the configuration asks for. Raises ConfigError for topics that cannot be."""
        self._helper = HelperNode(self._node, "inputs")
        self.inputs = expected_inputs(self._node, self._config)
        self.forget_senders()
        handlers = self._handlers()
        for wanted in self.inputs:
            self._health.expect(wanted.role, wanted.topic)
            subscribe(
                self._helper.node,
                wanted,
                self._guarded(wanted.role, handlers[wanted.role]),
                on_lost=partial(self._health.lost, wanted.role),
            )
        self._poses.start()
        self._helper.start()

    def close(self) -> None:
        if self._helper is not None:
            self._helper.close()
            self._helper = None
        self._poses.stop()
        self.inputs = []
        self._health.forget()

    def forget_senders(self) -> None:
        """Whoever sends on a topic next is the one that is listened to."""
        self._senders = {each.role: OneSender(each.role, each.topic) for each in self.inputs}

    def reset(self) -> None:
        """Stamps start anew."""
        self.newest_keyframe = None
        self.calibration.reset()
        for camera in self._companions.values():
            camera.calibration.reset()
        self._poses.reset()

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """(role, what is odd about that input): camera infos that do not fit, scans without usable point times, stamps
        of 0 or that stand still."""
        cameras = [("image", self.calibration), *((role, c.calibration) for role, c in self._companions.items())]
        found = [(info_role(role), calibration.remark) for role, calibration in cameras if calibration.remark]
        found += [("points", self._scan_remark)] if self._scan_remark else []
        if self._stale >= STALE:
            words = f"the last {self._stale} images are not newer than one before"
            found.append(("image", f"{words}; is the clock of their sender standing?"))
        return [*found, *self._unstamped.remarks]

    # -- messages ----------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Callable[[Any], None]]:
        """By role, for all inputs."""
        handlers: dict[str, Callable[[Any], None]] = {
            "camera_info": self.calibration.add,
            "points": self._points,
            "odometry": self._odometry,
            "imu": self._imu,
        }
        for wanted in self.inputs:
            most = self._pipeline.config.intake.max_pixels
            unpack = partial(open_compressed_image, max_pixels=most) if wanted.is_compressed else open_image
            rectified = self._config.image_rectified or is_rectified_name(wanted.topic)
            if wanted.role == "image":
                self.calibration.rectified = rectified
                handlers["image"] = partial(self._image, unpack)
            elif wanted.is_image:
                camera = self._companions.get(wanted.role)
                if camera is None:
                    camera = CompanionInput(wanted.role, unpack, self._config, self._pipeline, self._poses)
                    self._companions[wanted.role] = camera
                camera.calibration.rectified = rectified
                handlers[wanted.role] = partial(self._companion, camera)
                handlers[info_role(wanted.role)] = camera.calibration.add
        return handlers

    def _image(self, unpack: Callable[[Any], PackedImage], msg: Any) -> None:
        self.last_image_s = time.monotonic()
        self.frames += 1
        named, sender = frame_name(msg.header, "camera"), self._senders["image"]
        sender.check_frame(named)
        stamp, arrived = stamp_ns(msg.header), time.monotonic_ns()
        self.newest_stamp_ns = stamp
        if not self.running:
            self.skipped += 1
            return
        image = unpack(msg)
        sender.check_size(image.size)
        frame = self._poses.image_frame(named)
        self._poses.saw("camera", frame)
        try:
            camera = self.calibration.camera_for(stamp, image.size, named)  # a wrong size is never decoded
        except CalibrationPending:
            self.skipped += 1
            return
        decision = self._pipeline.offer(Frame(stamp, image.pixels(), camera, frame, arrived))
        self._stale = self._stale + 1 if decision.reason == "stale" else 0
        if decision.kept:
            self.newest_keyframe = Arrival(stamp, time.monotonic())

    def _companion(self, camera: CompanionInput, msg: Any) -> None:
        if self.running:
            camera.image(msg, self._senders[camera.role])

    def _points(self, msg: Any) -> None:
        if self.running:
            arrived = time.monotonic_ns()
            scan = replace(decode_points(msg), arrived_ns=arrived)
            self._senders["points"].check_frame(scan.frame_id)
            self._scan_remark = scan.remark
            self._poses.saw("lidar", scan.frame_id)
            went_back = self._pipeline.add_scan(scan)
            self._poses.add_scan(scan, went_back)

    def _odometry(self, msg: Any) -> None:
        if self.running:
            sample = replace(decode_odometry(msg), arrived_ns=time.monotonic_ns())
            self._senders["odometry"].check_frame(odometry_frames(msg))
            self._poses.add_odometry(sample)

    def _imu(self, msg: Any) -> None:
        if self.running:
            sample = replace(decode_imu(msg), arrived_ns=time.monotonic_ns())
            self._senders["imu"].check_frame(sample.frame_id)
            self._poses.saw("imu", sample.frame_id)
            self._pipeline.add_imu(sample)

    # -- robustness --------------------------------------------------------------------------

    def bad(self, role: str, error: Exception) -> None:
        """Count a message that could not be used; log the 1st, 10th, 100th … of a kind."""
        self._health.tell_bad(self._node, role, error)

    def _guarded(self, role: str, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        """Whatever a message holds, its callback returns: an exception here would end the node."""

        def callback(msg: Any) -> None:
            self._health.arrived(role)
            with self._catching(role):
                self._unstamped.stamp(role, msg.header)
                handler(msg)

        return callback

    @contextmanager
    def _catching(self, role: str) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            self.bad(role, error)
        except Exception as error:  # the node outlives a defect in the handling of one message
            self.bad(role, error)
