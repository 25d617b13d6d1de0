"""Messages of one of the rig's other cameras on their way to the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from spatial_fm_ros.bridge.calibration import Calibration, CalibrationPending
from spatial_fm_ros.bridge.decode import PackedImage, frame_name, stamp_ns
from spatial_fm_ros.bridge.one_sender import OneSender
from spatial_fm_ros.bridge.pose_feed import PoseFeed
from spatial_fm_ros.core.config import RosConfig
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import CompanionFrame, Frame


class CompanionInput:
    """Gives images their calibration and tells `poses` in which frame they come."""

    def __init__(
        self, role: str, unpack: Callable[[Any], PackedImage], config: RosConfig, pipeline: Pipeline, poses: PoseFeed
    ) -> None:
        """`role`: the camera's name among the inputs; `unpack`: takes its kind of image message."""
        self.role = role
        self.calibration = Calibration(
            True, config.missing_after_s, config.image_rectified, without="these images cannot be used"
        )
        self._unpack = unpack
        self._pipeline = pipeline
        self._poses = poses

    def image(self, msg: Any, sender: OneSender) -> None:
        """Raises InputError for an image that cannot be used; without calibration it is one."""
        stamp, named, arrived = stamp_ns(msg.header), frame_name(msg.header, self.role), time.monotonic_ns()
        sender.check_frame(named)
        image = self._unpack(msg)
        sender.check_size(image.size)
        frame = self._poses.image_frame(named)
        self._poses.saw_companion(self.role, frame)
        try:
            camera = self.calibration.camera_for(stamp, image.size, named)
        except CalibrationPending:
            return
        self._pipeline.add_companion(CompanionFrame(Frame(stamp, image.pixels(), camera, frame, arrived)))
