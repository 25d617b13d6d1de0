"""The frames whose poses are published: the robot's base where TF ties it to the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.bridge.decode_motion import clean_frame
from spatial_fm_ros.bridge.frames import TransformTree
from spatial_fm_ros.bridge.pose_feed import PoseFeed
from spatial_fm_ros.core.config import RosConfig
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.types import Array

#: The value of `ros.pose_frame` that means the camera's own frame, whatever its name.
CAMERA = "camera"


@dataclass(frozen=True, eq=False)
class Mounted:
    """A frame on the robot and where it is, seen from the camera: camera_from_frame [4, 4], metres."""

    frame: str
    camera_from_frame: Array


class PoseFrames:
    """Finds base and `ros.pose_frame` seen from a camera, mounted as `calibration.refine` has found it to be."""

    def __init__(self, config: RosConfig, tree: TransformTree, poses: PoseFeed, sensors: Sensors) -> None:
        self._wanted = clean_frame(config.pose_frame)
        self._base = clean_frame(config.base_frame)
        self._tree = tree
        self._poses = poses
        self._sensors = sensors
        self.problem = ""  # why ~/odometry and ~/path are not sent
        self.base: str | None = None  # as it was found last

    def of_base(self, camera: str, stamp_ns: int) -> Mounted | None:
        """`ros.base_frame`, or else the body that odometry is of; None where TF ties neither to the camera."""
        body = self._poses.body_frame if self._poses.has_odometry_frame else ""
        for name in (self._base, body):
            found = self._mounted(camera, name, stamp_ns) if name else None
            if found is not None:
                self.base = found.frame
                return found
        self.base = None
        return None

    def of_odometry(self, camera: str, base: Mounted | None, stamp_ns: int) -> Mounted | None:
        """What `ros.pose_frame` asks for; `base`: as `of_base` found it. None: a frame that TF does not know (yet)."""
        self.problem = ""
        if not self._wanted:
            return base or Mounted(camera, np.eye(4))
        if self._wanted == CAMERA:
            return Mounted(camera, np.eye(4))
        found = self._mounted(camera, self._wanted, stamp_ns)
        if found is None:
            self.problem = (
                f"TF has no transform from '{self._wanted}' (ros.pose_frame) to the camera frame '{camera}'; "
                "~/odometry and ~/path wait for it."
            )
        return found

    def _mounted(self, camera: str, frame: str, stamp_ns: int) -> Mounted | None:
        if frame == camera:
            return Mounted(frame, np.eye(4))
        told = self._tree.lookup(camera, frame, stamp_ns)
        if told is None:  # a joint of which nothing is heard yet, or no more
            told = self._tree.lookup(camera, frame)
        if told is None:
            return None
        before, now = self._sensors.told_rig.body_from_camera, self._sensors.rig.body_from_camera
        if before is None or now is None:
            return Mounted(frame, told)
        return Mounted(frame, invert_pose(now) @ before @ told)
