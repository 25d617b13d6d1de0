"""Publishers of the reconstruction. What nobody subscribes to is not computed."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from spatial_fm_ros.bridge import qos
from spatial_fm_ros.bridge.decode_motion import clean_frame
from spatial_fm_ros.bridge.encode import (
    encode_camera_info,
    encode_cloud,
    encode_float_image,
    encode_odometry,
    encode_path,
    encode_pose_with_covariance,
)
from spatial_fm_ros.bridge.frames import MapTransform, TransformTree
from spatial_fm_ros.bridge.pose_feed import PoseFeed
from spatial_fm_ros.bridge.pose_frame import PoseFrames
from spatial_fm_ros.core.config import RosConfig
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.metric.pose_covariance import UNKNOWN_VARIANCE, covariance, pose_variances
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Array, PosedKeyframe, ScaleState, Update

#: Stamps further from the node's clock than this belong to another clock (a bag played without /clock).
MAX_LATENCY_S = 3600.0


class Outputs:
    """Everything the node sends about the world, in the map frame, stamped with the source images' stamps.

    An output that fails costs itself alone: it is logged, and counted in `failures`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        config: RosConfig,
        pipeline: Pipeline,
        tree: TransformTree,
        poses: PoseFeed,
        transform: MapTransform,
    ) -> None:
        self._node = node
        self._pipeline = pipeline
        self._poses = poses
        self._transform = transform
        self._map_frame = clean_frame(config.map_frame)
        self.pose_frames = PoseFrames(config, tree, poses, pipeline.sensors)
        self._mounts = Mounts(config.path_length)
        self._map_lock = threading.Lock()
        self._map_sent: tuple[Any, ...] = ()
        self._newest_ns = 0
        self._submap = -1
        self._adrift = False  # the submap was put where the one before ended, for nothing told where it is
        self._correction: tuple[PosedKeyframe, Array] | None = None  # the keyframe it was seen at, world_from_odom
        self._closed = False
        #: How often an output failed, and why it did last, by its name.
        self.failures: dict[str, tuple[int, str]] = {}
        #: Image stamp to published depth, seconds of node time, of recent keyframes.
        self.latencies_s: deque[float] = deque(maxlen=200)

        def create(kind: type, topic: str, profile: QoSProfile) -> Any:
            return node.create_lifecycle_publisher(kind, topic, qos.overridden(node, qos.PUBLISHER, topic, profile))

        self.depth = create(Image, "~/depth/image", qos.result_output(32))
        self.depth_info = create(CameraInfo, "~/depth/camera_info", qos.result_output(32))
        self.confidence = create(Image, "~/confidence/image", qos.result_output(32))
        self.points = create(PointCloud2, "~/points", qos.result_output())
        self.map = create(PointCloud2, "~/map", qos.latched_output())
        self.pose = create(PoseWithCovarianceStamped, "~/pose", qos.result_output(32))
        self.odometry = create(Odometry, "~/odometry", qos.result_output(32))
        self.path = create(Path, "~/path", qos.result_output())
        self._publishers = (
            self.depth,
            self.depth_info,
            self.confidence,
            self.points,
            self.map,
            self.pose,
            self.odometry,
            self.path,
        )

    def close(self) -> None:
        self._closed = True
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    @property
    def latency_p95_s(self) -> float:
        """NaN where nothing was published yet or stamps are of another clock than the node's."""
        return float(np.percentile(list(self.latencies_s), 95)) if self.latencies_s else float("nan")

    def publish(self, update: Update, config: RosConfig) -> None:
        """Send what a window brought; with `require_metric`, no length before it is metric. Does not raise."""
        if update.keyframes:
            self._note_submap(update)
        held = config.require_metric and update.scale.state is not ScaleState.METRIC
        if not update.keyframes or held:
            return
        newest = update.keyframes[-1]
        self._newest_ns = newest.stamp_ns
        if config.publish_tf:
            with self._alone("tf"):
                self._publish_tf(update, newest)
        for keyframe in update.keyframes:
            self._publish_images(keyframe)
            with self._alone("poses"):
                self._publish_poses(keyframe, update)
            latency = (self._node.get_clock().now().nanoseconds - keyframe.stamp_ns) * 1e-9
            if abs(latency) < MAX_LATENCY_S:
                self.latencies_s.append(latency)
        with self._alone("points"):
            if len(update.points) and self.points.get_subscription_count():
                self.points.publish(encode_cloud(update.points, newest.stamp_ns, self._map_frame))
        with self._alone("path"):
            if self.path.get_subscription_count():
                self._publish_path(config)

    def publish_map(self, config: RosConfig) -> None:
        """The whole map, when it changed or somebody new listens. Called at a low rate, beside the worker. Does not
        raise."""
        with self._map_lock, self._alone("map"):
            listeners = self.map.get_subscription_count()
            if not listeners:
                return
            stats = self._pipeline.stats
            version = (listeners, stats.resets, stats.windows, self._pipeline.map_size)
            if version == self._map_sent:
                return
            cloud = self._pipeline.map_cloud(metric_only=config.require_metric)
            if config.require_metric and not len(cloud):
                return
            self._map_sent = version  # a map that cannot be sent is tried again when it has changed
            self.map.publish(encode_cloud(cloud, self._newest_ns, self._map_frame, True))

    def forget(self) -> None:
        """The world starts anew."""
        self._transform.forget()
        self._correction = None
        self._submap, self._adrift = -1, False
        self._mounts.clear()
        self.latencies_s.clear()

    def repeat_tf(self) -> None:
        """The robot's newest pose in the map, between the windows. Called at a steady rate. Does not raise."""
        with self._alone("tf"):
            self._repeat_tf()

    @contextmanager
    def _alone(self, output: str) -> Iterator[None]:
        """What goes wrong inside is told, and goes no further."""
        try:
            yield
        except Exception as error:
            if self._closed:  # a timer was about to send while the publishers went
                return
            count = self.failures.get(output, (0, ""))[0] + 1
            self.failures[output] = (count, f"{type(error).__name__}: {error}")
            if str(count).strip("0") == "1":  # the 1st, 10th, 100th …
                times = "" if count == 1 else f" ({count} times by now)"
                self._node.get_logger().error(f"Output '{output}' failed{times}:\n{traceback.format_exc()}")

    def _note_submap(self, update: Update) -> None:
        """A new submap without odometry lies where the last one ended: of where it really is nothing is known."""
        if update.submap != self._submap:
            self._adrift = update.submap > 0 and update.keyframes[0].odom_from_camera is None
            self._submap = update.submap

    def _repeat_tf(self) -> None:
        newest = self._poses.newest_ns
        if self._poses.has_odometry_frame:
            self._transform.repeat(newest)
            return
        if self._correction is None:
            return
        keyframe, world_from_odom = self._correction
        if newest <= keyframe.stamp_ns or self._pipeline.sensors.poses.jumped_between(keyframe.stamp_ns, newest):
            return
        pose = self._pipeline.pose_at(newest)
        if pose is not None:
            self._transform.follow_camera(world_from_odom @ pose, keyframe.frame_id, newest)

    def _publish_images(self, keyframe: PosedKeyframe) -> None:
        stamp, frame = keyframe.stamp_ns, keyframe.frame_id
        with self._alone("depth/image"):
            if self.depth.get_subscription_count():
                self.depth.publish(encode_float_image(keyframe.depth, stamp, frame))
        with self._alone("depth/camera_info"):
            if self.depth_info.get_subscription_count():
                self.depth_info.publish(encode_camera_info(keyframe.camera, stamp, frame))
        with self._alone("confidence/image"):
            if self.confidence.get_subscription_count():
                self.confidence.publish(encode_float_image(keyframe.confidence, stamp, frame))

    def _publish_poses(self, keyframe: PosedKeyframe, update: Update) -> None:
        """~/pose and ~/odometry; where the frame of ~/path is, is noted for later."""
        camera, stamp = keyframe.world_from_camera, keyframe.stamp_ns
        base = self.pose_frames.of_base(keyframe.frame_id, stamp)
        mounted = self.pose_frames.of_odometry(keyframe.frame_id, base, stamp)
        variances = self._variances(keyframe, update)
        if base is not None and self.pose.get_subscription_count():
            with self._alone("pose"):
                pose = camera @ base.camera_from_frame
                spread = covariance(variances, pose[:3, 3] - camera[:3, 3])
                self.pose.publish(encode_pose_with_covariance(pose, spread, stamp, self._map_frame))
        if mounted is None:
            self._mounts.clear()
            return
        self._mounts.add(mounted.frame, stamp, mounted.camera_from_frame)
        if self.odometry.get_subscription_count():
            with self._alone("odometry"):
                pose = camera @ mounted.camera_from_frame
                spread = covariance(variances, pose[:3, 3] - camera[:3, 3])
                self.odometry.publish(encode_odometry(pose, spread, stamp, self._map_frame, mounted.frame))

    def _publish_tf(self, update: Update, newest: PosedKeyframe) -> None:
        for frame, optical in self._poses.optical_frames:
            self._transform.publish_optical(frame, optical)
        if self._poses.has_odometry_frame:
            if update.world_from_odom is not None:
                self._transform.correct_odometry(update.world_from_odom, self._poses.odom_frame, newest.stamp_ns)
            return
        for keyframe in update.keyframes:
            self._transform.place_camera(keyframe.world_from_camera, keyframe.frame_id, keyframe.stamp_ns)
            if keyframe.odom_from_camera is not None:
                self._correction = (keyframe, keyframe.world_from_camera @ invert_pose(keyframe.odom_from_camera))

    def _publish_path(self, config: RosConfig) -> None:
        trajectories = self._pipeline.trajectories()
        if not trajectories or not self._mounts:
            return
        stamps = np.concatenate([t.stamps_ns for t in trajectories])
        poses = np.concatenate([t.world_from_camera for t in trajectories])
        keep = np.argsort(stamps, kind="stable")[-config.path_length :]
        chosen = stamps[keep].tolist()
        moved = poses[keep] @ self._mounts.at(chosen)
        self.path.publish(encode_path(chosen, moved, self._newest_ns, self._map_frame))

    def _variances(self, keyframe: PosedKeyframe, update: Update) -> tuple[float, float]:
        if self._adrift:
            return UNKNOWN_VARIANCE, UNKNOWN_VARIANCE
        known = np.isfinite(keyframe.depth)
        depth = float(np.median(keyframe.depth[known])) if known.any() else float("inf")
        distance = float(np.linalg.norm(keyframe.world_from_camera[:3, 3]))
        refused = self._pipeline.config.seam.max_residual
        return pose_variances(update.seam, refused, depth, update.scale, distance)


class Mounts:
    """Where the frame of ~/path was, seen from the camera, at the keyframes: a head may turn on the body."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.clear()

    def clear(self) -> None:
        self._frame = ""
        self._newest: Array | None = None
        self._by_stamp: dict[int, Array] = {}  # oldest first

    def add(self, frame: str, stamp_ns: int, camera_from_frame: Array) -> None:
        if frame != self._frame:
            self.clear()
            self._frame = frame
        self._newest = camera_from_frame
        self._by_stamp[stamp_ns] = camera_from_frame
        if len(self._by_stamp) > self._most:
            del self._by_stamp[next(iter(self._by_stamp))]

    def __bool__(self) -> bool:
        return self._newest is not None

    def at(self, stamps_ns: list[int]) -> Array:
        """camera_from_frame [n, 4, 4]; the newest one where none is known. Precondition: one was added."""
        assert self._newest is not None
        return np.stack([self._by_stamp.get(stamp, self._newest) for stamp in stamps_ns])
