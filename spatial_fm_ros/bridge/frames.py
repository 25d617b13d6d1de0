"""TF in and out: a listener with its own node and thread, static extrinsics, and the map's edge of the tree.

The rclpy listener starves when its node's executor is busy, so it never shares one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import yaml
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.time import Time
from tf2_ros import Buffer, TransformBroadcaster, TransformException, TransformListener

from spatial_fm_ros.bridge.decode import decode_transform, stamp_ns
from spatial_fm_ros.bridge.encode import encode_transform
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Array


class TransformTree:
    """What /tf and /tf_static say, from a thread of its own. Frames without a leading slash."""

    def __init__(self, name: str, context: Context, on_change: Callable[[], None] | None = None) -> None:
        """`on_change` is called in the listener's thread after every /tf message."""
        # __node on the command line would rename this helper node too; a node's own arguments win.
        self.node = Node(
            name,
            context=context,
            cli_args=["--ros-args", "-r", f"__node:={name}"],
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._buffer = Buffer(cache_time=Duration(seconds=60))
        self._listener = _Listener(self._buffer, self.node, on_change)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)
        self._thread.start()

    def lookup(self, parent: str, child: str, stamp: int | None = None) -> Array | None:
        """parent_from_child [4, 4] at a stamp (None: the latest), or None where TF does not reach."""
        found = self._lookup(parent, child, stamp)
        return None if found is None else found[1]

    def latest(self, parent: str, child: str) -> tuple[int, Array] | None:
        """Newest stamp at which the whole chain is known, and parent_from_child there."""
        return self._lookup(parent, child, None)

    def parent(self, frame: str) -> str | None:
        """The direct parent of a frame, None for a root or an unknown frame."""
        entry = self._tree().get(frame)
        return None if entry is None else str(entry["parent"])

    def root(self, frame: str) -> str:
        """The topmost ancestor of a frame; the frame itself when it has no parent."""
        tree = self._tree()
        seen = {frame}
        while frame in tree:
            frame = str(tree[frame]["parent"])
            if frame in seen:
                break
            seen.add(frame)
        return frame

    def clear(self) -> None:
        """Forget moving frames, and static ones until their publishers' latched messages come again."""
        static = self._listener.static
        self._buffer.clear()
        for transform in static:
            self._buffer.set_transform_static(transform, "kept")

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(timeout=2.0)
        self.node.destroy_node()

    def _lookup(self, parent: str, child: str, stamp: int | None) -> tuple[int, Array] | None:
        when = Time() if stamp is None else Time(nanoseconds=stamp)
        try:
            msg = self._buffer.lookup_transform(parent, child, when)
            return stamp_ns(msg.header), decode_transform(msg)
        except (TransformException, InputError):
            return None

    def _tree(self) -> dict[str, dict[str, Any]]:
        tree = yaml.safe_load(self._buffer.all_frames_as_yaml())
        return tree if isinstance(tree, dict) else {}

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return


class _Listener(TransformListener):
    """Adds a hook, memory of static frames (for clear), and does not let bad numbers out of the callback."""

    def __init__(self, buffer: Buffer, node: Node, on_change: Callable[[], None] | None) -> None:
        self._on_change = on_change
        self._static: dict[str, Any] = {}
        super().__init__(buffer, node)

    @property
    def static(self) -> list[Any]:
        return list(self._static.values())

    def callback(self, data: Any) -> None:
        super().callback(data)
        if self._on_change is not None:
            self._on_change()

    def static_callback(self, data: Any) -> None:
        for transform in data.transforms:
            self._static[transform.child_frame_id] = transform
        super().static_callback(data)


class MapTransform:
    """Publishes the one TF edge that ties the map to the robot.

    With poses the edge is map -> odom frame: the correction that takes drifting odometry to the map.
    Without, it is map -> root of the camera's tree (the camera itself when it has no parent): a frame
    keeps the only parent it may have.
    """

    def __init__(self, node: Node, tree: TransformTree, map_frame: str) -> None:
        self._broadcaster = TransformBroadcaster(node)
        self._tree = tree
        self._map_frame = map_frame
        self._edge: tuple[str, Array] | None = None
        self.problem = ""

    def correct_odometry(self, map_from_odom: Array, odom_frame: str, stamp: int) -> None:
        """The newest correction, valid at the stamp of the keyframe it came from."""
        foreign = self._tree.parent(odom_frame)
        if foreign not in (None, self._map_frame) or (
            foreign == self._map_frame and not self._is_mine(odom_frame)
        ):
            self._refuse(f"'{odom_frame}' already has the parent '{foreign}'")
            return
        self._send(odom_frame, map_from_odom, stamp)

    def place_camera(self, map_from_camera: Array, camera_frame: str, stamp: int) -> None:
        """The newest camera pose, for robots without odometry."""
        root = self._tree.root(camera_frame)
        if root == self._map_frame:
            root = self._edge[0] if self._edge is not None else camera_frame
            if not self._is_mine(root):
                self._refuse(f"'{camera_frame}' already has a way to '{self._map_frame}'")
                return
        camera_from_root = self._tree.lookup(camera_frame, root, stamp) if root != camera_frame else None
        if root != camera_frame and camera_from_root is None:
            camera_from_root = self._tree.lookup(camera_frame, root)
            if camera_from_root is None:
                self._refuse(f"TF knows no way from '{root}' to '{camera_frame}'")
                return
        self._send(
            root, map_from_camera if camera_from_root is None else map_from_camera @ camera_from_root, stamp
        )

    def repeat(self, stamp: int) -> None:
        """Send the last edge again with a current stamp, so that look-ups at the present time succeed."""
        if self._edge is not None:
            child, matrix = self._edge
            self._broadcaster.sendTransform(encode_transform(matrix, stamp, self._map_frame, child))

    def forget(self) -> None:
        self._edge = None
        self.problem = ""

    def _is_mine(self, child: str) -> bool:
        return self._edge is not None and self._edge[0] == child

    def _send(self, child: str, matrix: Array, stamp: int) -> None:
        self._edge = (child, matrix)
        self.problem = ""
        self._broadcaster.sendTransform(encode_transform(matrix, stamp, self._map_frame, child))

    def _refuse(self, why: str) -> None:
        self._edge = None
        self.problem = (
            f"No TF is published from '{self._map_frame}': {why}; "
            "set ros.publish_tf to false or free that frame."
        )
