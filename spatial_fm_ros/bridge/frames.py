"""TF in and out: a listener with its own node and thread, static extrinsics, and the map's edge of the tree.

The rclpy listener starves when its node's executor is busy, so it never shares one.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from tf2_ros import Buffer, StaticTransformBroadcaster, TransformBroadcaster, TransformException, TransformListener

from spatial_fm_ros.bridge import qos
from spatial_fm_ros.bridge.decode import decode_transform, stamp_ns
from spatial_fm_ros.bridge.decode_motion import NORM_TOLERANCE, clean_frame
from spatial_fm_ros.bridge.encode import encode_transform
from spatial_fm_ros.bridge.helper_node import HelperNode
from spatial_fm_ros.bridge.transform_times import TransformTimes
from spatial_fm_ros.bridge.unstamped import Unstamped
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.optical import BODY_FROM_OPTICAL
from spatial_fm_ros.core.types import Array

#: Transforms are kept for so long, seconds of their stamps.
KEPT_S = 60
#: More frames than this are not listened to: no robot has them.
MOST_FRAMES = 20_000
#: A moving frame whose transform has not come for so long has no parent that counts any more, steady seconds.
SILENT_S = 10.0
#: Transforms of this node's own that are recognised when they come back.
OWN_KEPT = 500
#: Ancestors looked through at most; tf2 itself gives up there.
DEEPEST = 1000


@dataclass
class _Edge:
    """What was heard last of a frame."""

    parent: str
    static: bool
    heard_s: float  # steady time


class TransformTree:
    """What /tf and /tf_static say, from a thread of its own. Frames without a leading slash.

    tf2's buffer looks transforms up; who is whose parent is noted here as it comes, for tf2 tells that of all frames
    at once only.
    """

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
        self._buffer = Buffer(cache_time=Duration(seconds=KEPT_S))
        self.unstamped = Unstamped(node)
        self._times = TransformTimes(self.unstamped, on_bad)
        self._listener = _Listener(self._buffer, node, self._helper.node, self._times, on_change, on_bad)
        self._helper.start()

    def lookup(self, parent: str, child: str, stamp: int | None = None) -> Array | None:
        """parent_from_child [4, 4] at a stamp (None: the latest), or None where TF does not reach."""
        found = self._lookup(parent, child, stamp)
        return None if found is None else found[1]

    def latest(self, parent: str, child: str) -> tuple[int, Array] | None:
        """Newest stamp at which the whole chain is known, and parent_from_child there."""
        return self._lookup(parent, child, None)

    def parent(self, frame: str) -> str | None:
        """The direct parent of a frame; None for a root, an unknown frame, and one whose publisher is silent by now."""
        edge = self._listener.edges.get(clean_frame(frame))
        if edge is None or not (edge.static or time.monotonic() - edge.heard_s < SILENT_S):
            return None
        return edge.parent

    def root(self, frame: str) -> str:
        """The topmost ancestor of a frame, itself without a parent. Of frames that go round in a circle, any."""
        frame = clean_frame(frame)
        edges, seen = self._listener.edges, {frame}
        while (edge := edges.get(frame)) is not None and edge.parent not in seen:
            frame = edge.parent
            seen.add(frame)
        return frame

    def leave_out(self, parent: str, child: str, stamp: int) -> None:
        """This transform, which is about to be published here, is not for this tree: it holds what others say, so that
        another publisher of the same edge, or a new parent of that child, is noticed."""
        self._listener.leave_out((parent, child), stamp)

    def add_optical(self, frame: str, optical: str) -> None:
        """Know `optical` as the optical frame of the body-like frame `frame` of a camera."""
        self._listener.take([optical_transform(frame, optical)], static=True)

    def clear(self) -> None:
        """Forget moving frames, and static ones until their publishers' latched messages come again."""
        self._listener.clear()

    def close(self) -> None:
        self._helper.close()

    def _lookup(self, parent: str, child: str, stamp: int | None) -> tuple[int, Array] | None:
        parent, child = clean_frame(parent), clean_frame(child)
        if self._is_circle(parent) or self._is_circle(child):
            return None  # tf2 finds out as well, and then lists all frames there are
        when = Time() if stamp is None else Time(nanoseconds=stamp)
        try:
            msg = self._buffer.lookup_transform(parent, child, when)
            return stamp_ns(msg.header), decode_transform(msg)
        except (TransformException, InputError):
            return None

    def _is_circle(self, frame: str) -> bool:
        """A frame's ancestors go on for ever."""
        edges = self._listener.edges
        for _ in range(DEEPEST):
            edge = edges.get(frame)
            if edge is None:
                return False
            frame = edge.parent
        return True


def optical_transform(frame: str, optical: str) -> Any:
    """The static transform from the body-like frame of a camera to its optical one."""
    return encode_transform(BODY_FROM_OPTICAL, 0, frame, optical)


class _Listener(TransformListener):
    """Looks at every transform before tf2's buffer gets it: tf2 logs what is wrong at every message, and takes a stamp
    far ahead for the newest of its frame (`times`). Nothing gets out of a callback."""

    def __init__(
        self,
        buffer: Buffer,
        main: Node,
        helper: Node,
        times: TransformTimes,
        on_change: Callable[[], None] | None,
        on_bad: Callable[[str, Exception], None],
    ) -> None:
        self.edges: dict[str, _Edge] = {}  # by child; an entry is replaced, never changed: readers need no lock
        self._times = times
        self._on_change = on_change
        self._on_bad = on_bad
        self._lock = threading.Lock()
        self._static: dict[str, Any] = {}
        self._own: dict[tuple[str, str], deque[int]] = {}  # stamps of what this node publishes, by parent and child
        moving = qos.overridden(main, qos.SUBSCRIPTION, "/tf", qos.moving_frames())
        static = qos.overridden(main, qos.SUBSCRIPTION, "/tf_static", qos.static_frames())
        super().__init__(buffer, helper, qos=moving, static_qos=static)

    def callback(self, data: Any) -> None:
        heard = [transform for transform in data.transforms if not self._is_own(transform)]
        believed, went_back = self._times.believed(heard)
        if went_back:
            self.clear()
        self.take(believed, static=False)
        if self._on_change is not None:
            try:
                self._on_change()
            except Exception as error:  # an exception here would end the listener's thread
                self._bad(error)

    def static_callback(self, data: Any) -> None:
        self.take(data.transforms, static=True)

    def take(self, transforms: Any, static: bool) -> None:
        """Into buffer and edges; what cannot be used is told by reason, the rest is taken."""
        now = time.monotonic()
        for transform in transforms:
            try:
                with self._lock:
                    self._take(transform, static, now)
            except Exception as error:  # an InputError, or what tf2 has against a name
                self._bad(error)

    def clear(self) -> None:
        with self._lock:
            self.buffer.clear()
            self.edges = {child: edge for child, edge in self.edges.items() if edge.static}
            for transform in self._static.values():
                self.buffer.set_transform_static(transform, "kept")

    def leave_out(self, edge: tuple[str, str], stamp: int) -> None:
        with self._lock:
            self._own.setdefault(edge, deque(maxlen=OWN_KEPT)).append(stamp)

    def _is_own(self, transform: Any) -> bool:
        edge = clean_frame(transform.header.frame_id), clean_frame(transform.child_frame_id)
        stamp = transform.header.stamp
        with self._lock:
            return stamp.sec * 1_000_000_000 + stamp.nanosec in self._own.get(edge, ())

    def _bad(self, error: Exception) -> None:
        self._on_bad("tf", error)

    def _take(self, transform: Any, static: bool, now: float) -> None:
        parent, child = clean_frame(transform.header.frame_id), clean_frame(transform.child_frame_id)
        _check(transform, parent, child)
        if child not in self.edges and len(self.edges) >= MOST_FRAMES:
            raise InputError(f"/tf has more than {MOST_FRAMES} frames; those that came last are left out.")
        transform.header.frame_id, transform.child_frame_id = parent, child
        if static:
            self._static[child] = transform
            self.buffer.set_transform_static(transform, "tf")
        else:
            self._static.pop(child, None)
            self.buffer.set_transform(transform, "tf")
        self.edges[child] = _Edge(parent, static, now)


def _check(transform: Any, parent: str, child: str) -> None:
    """Raises InputError for a transform that is none. In plain Python, for there may be thousands a message."""
    if not parent or not child:
        raise InputError(f"A transform in /tf needs two frames, got '{parent}' and '{child}'; name them.")
    if parent == child:
        raise InputError(f"In /tf the frame '{child}' is its own parent; check its publisher.")
    t, q = transform.transform.translation, transform.transform.rotation
    norm = math.sqrt(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w)
    # Not a number compares false, infinity makes it so.
    if not (abs(norm - 1.0) <= NORM_TOLERANCE and abs(t.x) + abs(t.y) + abs(t.z) < math.inf):
        raise InputError(
            f"The transform from '{parent}' to '{child}' needs finite numbers and a unit quaternion, got translation "
            f"{t.x:g} {t.y:g} {t.z:g} and quaternion {q.x:g} {q.y:g} {q.z:g} {q.w:g}; check its publisher."
        )


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
        self._node = node
        self._broadcaster = TransformBroadcaster(node, qos.overridden(node, qos.PUBLISHER, "/tf", qos.moving_frames()))
        self._static: StaticTransformBroadcaster | None = None
        self._optical: set[str] = set()
        self._tree = tree
        self._map_frame = clean_frame(map_frame)
        self._lock = threading.Lock()
        self._correction: tuple[str, Array] | None = None
        self._newest_sent = -1
        self.problem = ""

    def correct_odometry(self, map_from_odom: Array, odom_frame: str, stamp: int) -> None:
        """The newest correction, from the keyframe of this stamp."""
        foreign = self._tree.parent(odom_frame)
        if foreign is not None:
            self._refuse(f"'{odom_frame}' already has the parent '{foreign}'")
            return
        if self._is_loop(odom_frame):
            return
        with self._lock:
            self._correction = (odom_frame, map_from_odom)
            self._send(odom_frame, map_from_odom, stamp)

    def place_camera(self, map_from_camera: Array, camera_frame: str, stamp: int) -> None:
        """A camera pose, for robots without an odometry frame."""
        root = self._tree.root(camera_frame)
        if root == self._map_frame != camera_frame:
            self._refuse(f"'{camera_frame}' already has a way to '{self._map_frame}'")
            return
        if self._is_loop(root):
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

    def _is_loop(self, child: str) -> bool:
        """The edge to `child`, a root, would lead back to it; then it is refused."""
        if child == self._map_frame:
            self._refuse(f"a frame of the robot is called '{child}' too", "give ros.map_frame a name of its own")
        elif self._tree.root(self._map_frame) == child:
            self._refuse(f"'{self._map_frame}' lies beneath '{child}' in TF", "give ros.map_frame a name of its own")
        else:
            return False
        return True

    def publish_optical(self, frame: str, optical: str) -> None:
        """Tell others, once, of the optical frame that `ros.image_frame_is_body` made."""
        if optical not in self._optical:
            self._static = self._static or StaticTransformBroadcaster(self._node)
            self._static.sendTransform(optical_transform(frame, optical))
            self._optical.add(optical)

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
        self.problem = ""
        if stamp == self._newest_sent or stamp < self._newest_sent - _MAX_BACK_NS:
            stamp = self._newest_sent + 1  # listeners ignore what is equal or too old
        self._newest_sent = max(stamp, self._newest_sent)
        self._tree.leave_out(self._map_frame, child, stamp)
        self._broadcaster.sendTransform(encode_transform(matrix, stamp, self._map_frame, child))

    def _refuse(self, why: str, remedy: str = "set ros.publish_tf to false or free that frame") -> None:
        self.forget()
        self.problem = f"No TF is published from '{self._map_frame}': {why}; {remedy}."
