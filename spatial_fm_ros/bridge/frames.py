"""TF in and out: a listener with its own node and thread, static extrinsics, and the map's edge of the tree.

The rclpy listener starves when its node's executor is busy, so it never shares one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

import yaml
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from tf2_ros import Buffer, TransformBroadcaster, TransformException, TransformListener

from spatial_fm_ros.bridge import qos
from spatial_fm_ros.bridge.decode import decode_transform, stamp_ns
from spatial_fm_ros.bridge.encode import encode_transform
from spatial_fm_ros.bridge.helper_node import HelperNode
from spatial_fm_ros.bridge.transform_times import TransformTimes
from spatial_fm_ros.bridge.unstamped import Unstamped
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Array


class TransformTree:
    """What /tf and /tf_static say, from a thread of its own. Frames without a leading slash."""

    def __init__(
        self,
        node: Node,
        on_change: Callable[[], None] | None = None,
        on_bad: Callable[[str, Exception], None] = lambda _role, _error: None,
    ) -> None:
        """As `node` hears it. `on_change` is called in the listener's thread after every /tf message, `on_bad` with
        'tf' and the reason for a transform that is left out.

        Raises ConfigError for QoS overrides that cannot be.
        """
        self._helper = HelperNode(node, "tf", ["/tf", "/tf_static"])
        self._buffer = Buffer(cache_time=Duration(seconds=60))
        self.unstamped = Unstamped(node)
        self._times = TransformTimes(self.unstamped, on_bad)
        self._listener = _Listener(self._buffer, node, self._helper.node, self._times, self.clear, on_change)
        self._helper.start()

    def lookup(self, parent: str, child: str, stamp: int | None = None) -> Array | None:
        """parent_from_child [4, 4] at a stamp (None: the latest), or None where TF does not reach."""
        found = self._lookup(parent, child, stamp)
        return None if found is None else found[1]

    def latest(self, parent: str, child: str) -> tuple[int, Array] | None:
        """Newest stamp at which the whole chain is known, and parent_from_child there."""
        return self._lookup(parent, child, None)

    def trust(self, parent: str) -> None:
        """What hangs on this frame is sent by this node itself: its stamps are not watched."""
        self._times.trusted_parent = parent

    def parent(self, frame: str) -> str | None:
        """The direct parent of a frame, None for a root or an unknown frame."""
        entry = self._tree().get(frame)
        return None if entry is None else str(entry["parent"])

    def root(self, frame: str, stop: Collection[str] = ()) -> str:
        """The topmost ancestor of a frame, or the first of `stop` on the way; itself without a parent."""
        tree = self._tree()
        seen = {frame}
        while frame in tree and frame not in stop:
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
        self._helper.close()

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


class _Listener(TransformListener):
    """Adds a hook, memory of static frames (for clear), and does not let bad numbers out of the callback."""

    def __init__(
        self,
        buffer: Buffer,
        main: Node,
        helper: Node,
        times: TransformTimes,
        forget: Callable[[], None],
        on_change: Callable[[], None] | None,
    ) -> None:
        self._times = times
        self._forget = forget
        self._on_change = on_change
        self._static: dict[str, Any] = {}
        moving = qos.overridden(main, qos.SUBSCRIPTION, "/tf", qos.moving_frames())
        static = qos.overridden(main, qos.SUBSCRIPTION, "/tf_static", qos.static_frames())
        super().__init__(buffer, helper, qos=moving, static_qos=static)

    @property
    def static(self) -> list[Any]:
        return list(self._static.values())

    def callback(self, data: Any) -> None:
        data.transforms, went_back = self._times.believed(data.transforms)
        if went_back:
            self._forget()
        super().callback(data)
        if self._on_change is not None:
            self._on_change()

    def static_callback(self, data: Any) -> None:
        for transform in data.transforms:
            self._static[transform.child_frame_id] = transform
        super().static_callback(data)


#: A transform this much older than the newest one sent is not sent with its own stamp: listeners keep 10 s
#: by default and complain about anything older.
_MAX_BACK_NS = 5_000_000_000


class MapTransform:
    """Publishes the one TF edge that ties the map to the robot.

    With poses the edge is map -> odom frame: the correction that takes drifting odometry to the map. It
    holds until the next one, so it is repeated with the stamps of newer poses. Without an odometry frame it is
    map -> root of the camera's tree (the camera itself when it has no parent, for a frame has one parent
    only), at the stamps of the keyframes; between them nothing is known but by LiDAR odometry.
    """

    def __init__(self, node: Node, tree: TransformTree, map_frame: str) -> None:
        self._broadcaster = TransformBroadcaster(node, qos.overridden(node, qos.PUBLISHER, "/tf", qos.moving_frames()))
        self._tree = tree
        self._map_frame = map_frame
        tree.trust(map_frame)
        self._lock = threading.Lock()
        self._owned: set[str] = set()  # frames whose parent this node has made the map
        self._correction: tuple[str, Array] | None = None
        self._newest_sent = -1
        self.problem = ""

    def correct_odometry(self, map_from_odom: Array, odom_frame: str, stamp: int) -> None:
        """The newest correction, from the keyframe of this stamp."""
        foreign = self._tree.parent(odom_frame)
        if foreign is not None and not (foreign == self._map_frame and odom_frame in self._owned):
            self._refuse(f"'{odom_frame}' already has the parent '{foreign}'")
            return
        with self._lock:
            self._correction = (odom_frame, map_from_odom)
            self._send(odom_frame, map_from_odom, stamp)

    def place_camera(self, map_from_camera: Array, camera_frame: str, stamp: int) -> None:
        """A camera pose, for robots without an odometry frame."""
        root = self._tree.root(camera_frame, self._owned)
        if root == self._map_frame:
            self._refuse(f"'{camera_frame}' already has a way to '{self._map_frame}'")
            return
        matrix = map_from_camera
        if root != camera_frame:
            camera_from_root = self._tree.lookup(camera_frame, root, stamp)
            if camera_from_root is None:
                self._refuse(f"TF has no transform from '{root}' to '{camera_frame}' at the image's stamp")
                return
            matrix = map_from_camera @ camera_from_root
        with self._lock:
            self._send(root, matrix, stamp)

    def follow_camera(self, map_from_camera: Array, camera_frame: str, stamp: int) -> None:
        """A camera pose newer than all sent ones; an older one says nothing new."""
        if stamp > self._newest_sent:
            self.place_camera(map_from_camera, camera_frame, stamp)

    def repeat(self, stamp: int) -> None:
        """Send the correction of odometry again, with the stamp of a newer pose."""
        with self._lock:
            if self._correction is not None and stamp > self._newest_sent:
                self._send(*self._correction, stamp)

    def forget(self) -> None:
        """The world starts anew."""
        with self._lock:
            self._correction = None
            self._newest_sent = -1
            self.problem = ""

    def _send(self, child: str, matrix: Array, stamp: int) -> None:
        self._owned.add(child)
        self.problem = ""
        if stamp == self._newest_sent or stamp < self._newest_sent - _MAX_BACK_NS:
            stamp = self._newest_sent + 1  # listeners ignore what is equal or too old
        self._newest_sent = max(stamp, self._newest_sent)
        self._broadcaster.sendTransform(encode_transform(matrix, stamp, self._map_frame, child))

    def _refuse(self, why: str) -> None:
        self.forget()
        self.problem = (
            f"No TF is published from '{self._map_frame}': {why}; set ros.publish_tf to false or free that frame."
        )
