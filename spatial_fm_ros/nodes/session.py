"""Everything that lives from configure to cleanup: pipeline, inputs, worker, outputs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode

from spatial_fm_ros.bridge.autosave import Autosave
from spatial_fm_ros.bridge.clock import STEADY
from spatial_fm_ros.bridge.encode_status import NodeFacts, encode_status
from spatial_fm_ros.bridge.frames import MapTransform, TransformTree
from spatial_fm_ros.bridge.health import InputHealth
from spatial_fm_ros.bridge.inputs import asked_topic
from spatial_fm_ros.bridge.intake import Intake
from spatial_fm_ros.bridge.outputs import Outputs
from spatial_fm_ros.bridge.pose_feed import PoseFeed
from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.mapping.loaded_map import LoadedMap
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Update
from spatial_fm_ros.msg import ReconstructionStatus
from spatial_fm_ros.nodes.worker import PATIENCE_S, Worker

#: Poses come after the image they bracket; a window waits this long for those of its newest keyframe, seconds.
#: A LiDAR's pose stands in the middle of its sweep and comes after its end.
POSE_PATIENCE_S = 0.3
LIDAR_PATIENCE_S = 1.0


class Session:
    """A configured reconstruction. `start` and `stop` may alternate; `close` ends it."""

    def __init__(
        self,
        node: LifecycleNode,
        config: Config,
        pipeline: Pipeline,
        tree: TransformTree,
        health: InputHealth,
        on_status: Callable[[], None],
    ) -> None:
        """`on_status` is called in the worker's thread after each window."""
        self.config = config
        self.pipeline = pipeline
        self.last: Update | None = None
        self.reset_reason = ""
        self._newest_ns = 0
        self._told_frame = ""  # what was logged about the frame of the images
        self._node = node
        self._tree = tree
        self._health = health
        self._on_status = on_status
        self._reset_lock = threading.Lock()
        ros = config.ros
        feeds = replace(ros, points_topic=asked_topic(node, "points", ros.points_topic))
        self.poses = PoseFeed(feeds, pipeline, tree, lambda role, error: self.intake.bad(role, error))
        self.transform = MapTransform(node, tree, ros.map_frame)
        self.outputs = Outputs(node, ros, pipeline, tree, self.poses, self.transform)
        self.worker = Worker(pipeline, self._on_update, self._on_error, self._is_ready, self._is_silent)
        self.intake = Intake(node, ros, pipeline, self.poses, health)
        pipeline.on_new_time = self._on_new_time
        self.autosave = Autosave(node, pipeline, config.map)
        self._timers = [
            self._every(1.0 / rate, callback)
            for rate, callback in ((ros.map_rate_hz, self._publish_map), (ros.tf_rate_hz, self._repeat_tf))
            if rate > 0
        ]

    def start(self) -> None:
        """Listen and work."""
        self.worker.start()
        self.intake.open()

    def stop(self, patience_s: float = PATIENCE_S) -> None:
        """Stop listening and finish the window in work, or leave it after so long; the map stays."""
        self.intake.close()
        if not self.worker.stop(patience_s):
            self._node.get_logger().warning(f"The window in work is not done after {patience_s:g} s and was left.")

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """As `stop`, the map is saved, and nothing is published any more."""
        self.stop(patience_s)
        self.autosave.close()
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self.outputs.close()

    def reset(self, why: str, loaded: LoadedMap | None = None) -> None:
        """Forget the world: map, poses, windows. The model stays loaded. `loaded`: a map that the new world has."""
        with self._reset_lock:
            self._node.get_logger().info(f"Reset: {why}.")
            self.reset_reason = why
            self.pipeline.reset(loaded)
            self.intake.forget_senders()
            self._begin_anew()

    def set_aside(self, why: str, line: int = 0, now: int | None = None) -> None:
        """Time went elsewhere: as `reset`, but the map is kept aside, or joined again; see Pipeline.set_aside."""
        with self._reset_lock:
            self.reset_reason = why
            points = self.pipeline.map_size
            joined = self.pipeline.set_aside(why, line, now)
            kept = f"a map of {points} points is set aside" if points else "there was no map yet"
            back = f"; the map of before goes on with {self.pipeline.map_size} points" if joined else ""
            self._node.get_logger().warning(f"Reset: {why}; {kept}{back}.")
            self._begin_anew()

    def _begin_anew(self) -> None:
        self.intake.reset()
        self.outputs.forget()
        self.last = None

    def set_running(self, running: bool) -> None:
        """False: images and poses are ignored until true again."""
        self.intake.running = running
        self._node.get_logger().info("Running." if running else "Paused: inputs are ignored.")

    def status(self) -> ReconstructionStatus:
        facts = NodeFacts(
            frames=self.intake.frames,
            skipped=self.intake.skipped,
            bad=sum(self._health.bad.values()),
            latency_p95_s=self.outputs.latency_p95_s,
            newest_ns=self._newest_ns,
            paused=not self.intake.running,
            tf_problem=self.transform.problem,
            reset_reason=self.reset_reason,
        )
        return encode_status(self.pipeline, self.last, facts, self.config.ros)

    def on_tf(self) -> None:
        """/tf changed (listener's thread)."""
        if self.intake.inputs and self.intake.running:
            self.poses.on_tf()

    def _on_update(self, update: Update) -> None:
        self.last = update
        if update.keyframes:
            self._newest_ns = update.keyframes[-1].stamp_ns
        self.outputs.publish(update, self.config.ros)
        problem = self.pipeline.image_frame_problem
        if problem and problem != self._told_frame:
            self._node.get_logger().warning(shown(problem, 1000))
        self._told_frame = problem
        self._on_status()

    def _on_error(self, error: Exception) -> None:
        self.intake.bad("window", error)

    def _on_new_time(self, before: int, now: int) -> None:
        self._tree.clear()
        self.set_aside("the images' stamps went elsewhere and stayed there (a bag that starts over?)", before, now)

    def _is_ready(self) -> bool:
        """A window waits, and the pose of its newest keyframe has come or is given up."""
        if not self.pipeline.ready():
            return False
        newest = self.intake.newest_keyframe
        others = self.poses.has_odometry_frame
        if newest is None or not self.poses.gives_poses or self.poses.newest_ns >= newest.stamp_ns:
            return True
        patience = POSE_PATIENCE_S if others else LIDAR_PATIENCE_S
        return time.monotonic() - newest.arrived_s > patience

    def _is_silent(self) -> bool:
        """No images for long: what is left is mapped now."""
        last = self.intake.last_image_s
        return last is not None and time.monotonic() - last > self.config.ros.missing_after_s

    def _every(self, period_s: float, callback: Callable[[], None]) -> Any:
        group = MutuallyExclusiveCallbackGroup()
        return self._node.create_timer(period_s, callback, callback_group=group, clock=STEADY)

    def _publish_map(self) -> None:
        self.outputs.publish_map(self.config.ros)

    def _repeat_tf(self) -> None:
        if self.config.ros.publish_tf:
            self.outputs.repeat_tf()
