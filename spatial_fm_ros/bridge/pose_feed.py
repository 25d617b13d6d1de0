"""Extrinsics and metric poses for the pipeline: from odometry messages, TF or LiDAR odometry."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from spatial_fm_ros.bridge.companion_mounts import CompanionMounts
from spatial_fm_ros.bridge.decode_motion import clean_frame
from spatial_fm_ros.bridge.frames import TransformTree
from spatial_fm_ros.bridge.lidar_poses import LidarPoses
from spatial_fm_ros.core.config import RosConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.optical import frame_doubt, optical_frame
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Array, LidarScan, PoseSample, Rig


class PoseFeed:
    """Poses are withheld until TF has told where the camera sits on the body: without that they would be
    taken for the camera's own. Thread-safe.

    LiDAR odometry's body is the base frame where TF ties camera and LiDAR to it, else the camera.
    """

    def __init__(
        self,
        config: RosConfig,
        pipeline: Pipeline,
        tree: TransformTree,
        on_bad: Callable[[str, Exception], None],
    ) -> None:
        """`on_bad` gets the input's role and why a message that did not come through `add_odometry` was not used."""
        self._config = config
        self._pipeline = pipeline
        self._tree = tree
        self._on_bad = on_bad
        self._lock = threading.RLock()
        self._uses_tf = config.pose_source == "tf"
        self._uses_odometry = config.pose_source == "odometry" and bool(config.odometry_topic)
        self._uses_lidar = config.pose_source == "lidar"
        self.lidar: LidarPoses | None = None
        if self._uses_lidar and config.points_topic:
            self.lidar = LidarPoses(pipeline, self._add_lidar_pose, lambda error: on_bad("points", error))
        self._base = clean_frame(config.base_frame)
        self._body = self._base if self._uses_tf else ""  # odometry names its own
        self._optical: dict[str, str] = {}  # frames of images -> optical frames made for them
        self._frames: dict[str, str] = {}  # sensor -> frame
        self._known: dict[str, Array] = {}  # sensor -> body_from_sensor
        self._companions = CompanionMounts(tree)
        self._last_tf_ns = -1
        pipeline.sensors.poses.withheld = self.has_odometry_frame
        self.odom_frame = clean_frame(config.odom_frame)

    @property
    def gives_poses(self) -> bool:
        """Poses are configured (whether or not they come)."""
        return self.has_odometry_frame or self.lidar is not None

    @property
    def has_odometry_frame(self) -> bool:
        """The poses are of a frame that others know: LiDAR odometry's own is nobody else's."""
        return self._uses_tf or self._uses_odometry

    @property
    def newest_ns(self) -> int:
        """Stamp of the newest pose on the camera's clock; -1 before the first, and where they are of another clock."""
        poses = self._pipeline.sensors.poses
        latest = None if poses.other_clock else poses.latest_ns
        return -1 if latest is None else latest

    @property
    def body_frame(self) -> str:
        return self._body

    @property
    def problem(self) -> str:
        """Why poses cannot be used yet, empty when they can."""
        if self._uses_lidar:
            return self._lidar_problem()
        with self._lock:
            camera = self._frames.get("camera")
            if not self.gives_poses or not self._body or camera is None or "camera" in self._known:
                return ""
            return (
                f"TF has no transform from '{self._body}' to the camera frame '{camera}'; poses wait for it. "
                "Publish the robot's description or a static transform."
            )

    @property
    def companion_problem(self) -> str:
        """Why the place of one of the rig's other cameras gives no metres, empty when all do."""
        with self._lock:
            return self._companions.problem

    @property
    def companion_places(self) -> list[tuple[str, str]]:
        """(role, place beside the camera in words) of the rig's other cameras that TF knows."""
        with self._lock:
            return self._companions.in_words()

    @property
    def optical_frames(self) -> list[tuple[str, str]]:
        """(frame of images, optical frame made for it) where `ros.image_frame_is_body`."""
        return list(self._optical.items())

    def image_frame(self, frame: str) -> str:
        """The optical frame of images that come in `frame`: itself, or the one that `ros.image_frame_is_body` makes."""
        if not self._config.image_frame_is_body:
            return frame
        if frame not in self._optical:
            self._tree.add_optical(frame, optical_frame(frame))
            self._optical[frame] = optical_frame(frame)
        return self._optical[frame]

    def saw(self, sensor: str, frame: str) -> None:
        """A sensor ('camera', 'lidar', 'imu') sends in this frame; its extrinsic is looked up until known."""
        with self._lock:
            if self._frames.get(sensor) != frame:
                self._frames[sensor] = frame
                self._known.pop(sensor, None)
                if sensor == "camera":
                    self._companions.camera_is(frame)
                if self._uses_lidar and sensor != "imu":
                    self._body = ""  # chosen anew
                    self._known.clear()
                if sensor == "camera" and not self.gives_poses:
                    self._body = frame  # nothing tells of a body: the camera is it
                    self._known.clear()
            if sensor not in self._known:
                self._resolve()

    def saw_companion(self, role: str, frame: str) -> None:
        """Another camera of the rig sends in this frame; its place beside the first is looked up until known."""
        with self._lock:
            self._companions.companion_is(role, frame)
            if not self._companions.complete:
                self._resolve()

    def add_odometry(self, sample: PoseSample) -> None:
        """A pose from the odometry topic. Raises InputError as Pipeline.add_pose."""
        if not self._uses_odometry:
            return
        with self._lock:
            self._pipeline.add_pose(sample)
            if sample.child_frame_id != self._body:
                self._body = sample.child_frame_id
                self._known.clear()
            self.odom_frame = sample.frame_id
            self._find_camera()

    def add_scan(self, scan: LidarScan, went_back: bool = False) -> None:
        """A scan for LiDAR odometry, if that is where poses come from. Returns at once. went_back: its time is another
        than that of the scans before."""
        if self.lidar is not None:
            if went_back:
                self.lidar.reset()
            self.lidar.offer(scan)

    def start(self) -> None:
        """Poses may come."""
        if self.lidar is not None:
            self.lidar.start()

    def stop(self) -> None:
        if self.lidar is not None:
            self.lidar.stop()

    def on_tf(self) -> None:
        """/tf changed: take the body's newest pose in the odometry frame, if TF is where poses come from."""
        if not self._uses_tf:
            return
        found = self._tree.latest(self.odom_frame, self._base)
        if found is None:
            return
        stamp, matrix = found
        with self._lock:
            if stamp == self._last_tf_ns:
                return
            self._last_tf_ns = stamp
            sample = PoseSample(stamp, matrix, None, self.odom_frame, self._base, time.monotonic_ns())
            try:
                self._pipeline.add_pose(sample)
            except InputError as error:
                self._on_bad("tf", error)
            self._find_camera()

    def reset(self) -> None:
        with self._lock:
            self._last_tf_ns = -1
        if self.lidar is not None:
            self.lidar.reset()

    def _lidar_problem(self) -> str:
        if self.lidar is None:
            return "ros.pose_source is lidar, but ros.points_topic is empty; name the LiDAR's topic."
        with self._lock:
            camera, lidar = self._frames.get("camera"), self._frames.get("lidar")
            if camera is not None and lidar is not None and not self._body:
                return (
                    f"TF has no transform between the camera frame '{camera}' and the LiDAR frame '{lidar}'; LiDAR "
                    "odometry gives no poses without. Publish the robot's description or a static transform."
                )
        return self.lidar.problem

    def _add_lidar_pose(self, sample: PoseSample) -> None:
        self._pipeline.sensors.add_lidar_pose(sample)

    def _find_camera(self) -> None:
        if "camera" not in self._known:
            self._withhold()
            self._resolve()

    def _withhold(self) -> None:
        """Poses are of no use before it is known where the camera sits on their body."""
        self._pipeline.sensors.poses.withheld = self.has_odometry_frame and "camera" not in self._known

    def _resolve(self) -> None:
        """Look up what is still unknown; tell the pipeline when something new is."""
        mounted, beside = self._resolve_body(), self._companions.resolve()
        if not (mounted or beside):
            return
        known = self._known
        doubt = self._frame_doubt()
        rig = Rig(known.get("camera"), known.get("lidar"), known.get("imu"), self._companions.known, doubt)
        self._pipeline.set_rig(rig)
        self._withhold()

    def _frame_doubt(self) -> str:
        """Where somebody tells of a body; a camera that is it for want of another says nothing of its axes."""
        camera, mount = self._frames.get("camera"), self._known.get("camera")
        if camera is None or mount is None or not (self.has_odometry_frame or self._body != camera):
            return ""
        return frame_doubt(mount, camera, self._body)

    def _resolve_body(self) -> bool:
        """Look up sensors on the body; True when one more is known."""
        if self._uses_lidar and not self._body:
            self._body = self._common_body()
        body = self._body
        if not body:
            return False
        before = len(self._known)
        for sensor, frame in self._frames.items():
            if sensor in self._known:
                continue
            matrix = np.eye(4) if frame == body else self._tree.lookup(body, frame)
            if matrix is not None:
                self._known[sensor] = matrix
        return len(self._known) > before

    def _common_body(self) -> str:
        """The frame to which TF ties camera and LiDAR: the base frame, else the camera; empty for neither."""
        camera, lidar = self._frames.get("camera"), self._frames.get("lidar")
        if camera is None or lidar is None:
            return ""
        for body in (self._base, camera):
            if all(frame == body or self._tree.lookup(body, frame) is not None for frame in (camera, lidar)):
                return body
        return ""
