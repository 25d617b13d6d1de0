"""Publishers of the reconstruction. What nobody subscribes to is not computed."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry, Path
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from spatial_fm_ros.bridge import qos
from spatial_fm_ros.bridge.encode import (
    encode_camera_info,
    encode_cloud,
    encode_float_image,
    encode_odometry,
    encode_path,
    pose_variances,
)
from spatial_fm_ros.bridge.frames import MapTransform
from spatial_fm_ros.bridge.pose_feed import PoseFeed
from spatial_fm_ros.core.config import RosConfig
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Array, PosedKeyframe, ScaleState, Update

#: Stamps further from the node's clock than this belong to another clock (a bag played without /clock).
MAX_LATENCY_S = 3600.0


class Outputs:
    """Everything the node sends about the world, in the map frame, stamped with the source images' stamps."""

    def __init__(self, node: LifecycleNode, pipeline: Pipeline, poses: PoseFeed, transform: MapTransform) -> None:
        self._node = node
        self._pipeline = pipeline
        self._poses = poses
        self._transform = transform
        self._map_lock = threading.Lock()
        self._map_sent: tuple[Any, ...] = ()
        self._newest_ns = 0
        self._correction: tuple[PosedKeyframe, Array] | None = None  # the keyframe it was seen at, world_from_odom
        #: Image stamp to published depth, seconds of node time, of recent keyframes.
        self.latencies_s: deque[float] = deque(maxlen=200)

        def create(kind: type, topic: str, profile: QoSProfile) -> Any:
            return node.create_lifecycle_publisher(kind, topic, qos.overridden(node, qos.PUBLISHER, topic, profile))

        self.depth = create(Image, "~/depth/image", qos.result_output(32))
        self.depth_info = create(CameraInfo, "~/depth/camera_info", qos.result_output(32))
        self.confidence = create(Image, "~/confidence/image", qos.result_output(32))
        self.points = create(PointCloud2, "~/points", qos.result_output())
        self.map = create(PointCloud2, "~/map", qos.latched_output())
        self.odometry = create(Odometry, "~/odometry", qos.result_output(32))
        self.path = create(Path, "~/path", qos.result_output())
        self._publishers = (
            self.depth,
            self.depth_info,
            self.confidence,
            self.points,
            self.map,
            self.odometry,
            self.path,
        )

    def close(self) -> None:
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    @property
    def latency_p95_s(self) -> float:
        """NaN where nothing was published yet or stamps are of another clock than the node's."""
        return float(np.percentile(list(self.latencies_s), 95)) if self.latencies_s else float("nan")

    def publish(self, update: Update, config: RosConfig) -> None:
        """Send what a window brought; with `require_metric`, no length before it is metric."""
        held = config.require_metric and update.scale.state is not ScaleState.METRIC
        if not update.keyframes or held:
            return
        newest = update.keyframes[-1]
        self._newest_ns = newest.stamp_ns
        if config.publish_tf:
            self._publish_tf(update, newest)
        for keyframe in update.keyframes:
            self._publish_keyframe(keyframe, update, config.map_frame)
        if len(update.points) and self.points.get_subscription_count():
            self.points.publish(encode_cloud(update.points, newest.stamp_ns, config.map_frame))
        if self.path.get_subscription_count():
            self._publish_path(config)

    def publish_map(self, config: RosConfig) -> None:
        """The whole map, when it changed or somebody new listens. Called at a low rate, beside the worker."""
        listeners = self.map.get_subscription_count()
        if not listeners:
            return
        with self._map_lock:
            stats = self._pipeline.stats
            version = (listeners, stats.resets, stats.windows, self._pipeline.map_size)
            if version == self._map_sent:
                return
            cloud = self._pipeline.map_cloud(metric_only=config.require_metric)
            if config.require_metric and not len(cloud):
                return
            self._map_sent = version
            self.map.publish(encode_cloud(cloud, self._newest_ns, config.map_frame, True))

    def forget(self) -> None:
        """The world starts anew."""
        self._transform.forget()
        self._correction = None
        self.latencies_s.clear()

    def repeat_tf(self) -> None:
        """The robot's newest pose in the map, between the windows. Called at a steady rate."""
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

    def _publish_keyframe(self, keyframe: PosedKeyframe, update: Update, map_frame: str) -> None:
        stamp, frame = keyframe.stamp_ns, keyframe.frame_id
        if self.depth.get_subscription_count():
            self.depth.publish(encode_float_image(keyframe.depth, stamp, frame))
        if self.depth_info.get_subscription_count():
            self.depth_info.publish(encode_camera_info(keyframe.camera, stamp, frame))
        if self.confidence.get_subscription_count():
            self.confidence.publish(encode_float_image(keyframe.confidence, stamp, frame))
        if self.odometry.get_subscription_count():
            variances = _variances(keyframe, update)
            self.odometry.publish(encode_odometry(keyframe.world_from_camera, variances, stamp, map_frame, frame))
        latency = (self._node.get_clock().now().nanoseconds - stamp) * 1e-9
        if abs(latency) < MAX_LATENCY_S:
            self.latencies_s.append(latency)

    def _publish_tf(self, update: Update, newest: PosedKeyframe) -> None:
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
        if not trajectories:
            return
        stamps = np.concatenate([t.stamps_ns for t in trajectories])
        poses = np.concatenate([t.world_from_camera for t in trajectories])
        keep = np.argsort(stamps, kind="stable")[-config.path_length :]
        self.path.publish(encode_path(stamps[keep].tolist(), poses[keep], self._newest_ns, config.map_frame))


def _variances(keyframe: PosedKeyframe, update: Update) -> tuple[float, float]:
    known = np.isfinite(keyframe.depth)
    depth = float(np.median(keyframe.depth[known])) if known.any() else float("nan")
    residual = update.seam.residual if update.seam is not None else 0.0
    sigma = update.scale.sigma if update.scale.state is ScaleState.METRIC else float("inf")
    return pose_variances(residual, depth, sigma, float(np.linalg.norm(keyframe.world_from_camera[:3, 3])))
