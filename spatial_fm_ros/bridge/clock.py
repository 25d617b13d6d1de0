"""Simulated time: cheap to hear, believed when it lasts, told of when it jumps back (a simulation that starts over)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType, JumpHandle, JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock as ClockMessage

from spatial_fm_ros.bridge.helper_node import HelperNode
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.intake.stamps import Admitted, TimeLine

#: A clock that goes back by less is only unsteady.
JUMP_NS = 1_000_000_000
#: How often it is looked whether a new time that was said once has lasted, seconds.
SETTLE_S = 0.5

#: Steady timers run whether or not anybody publishes /clock.
STEADY = Clock(clock_type=ClockType.STEADY_TIME)


def on_clock_jump_back(node: Node, callback: Callable[[], None]) -> JumpHandle:
    """Call `callback` when the node's (simulated) clock jumps back. Keep the handle."""
    threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-JUMP_NS), on_clock_change=False)
    return node.get_clock().create_jump_callback(threshold, post_callback=lambda _jump: callback())


def hear_clock_apart(node: Node, on_bad: Callable[[str, Exception], None]) -> HelperNode | None:
    """With use_sim_time, move the node's /clock subscription into a helper node; close what is returned.

    A node with dozens of entities in an rclpy executor takes some milliseconds for each message, all under
    the interpreter's lock: at 200 clock messages a second it held the lock 60 % of the time.
    `on_bad` gets 'clock' and why a message is not believed.
    """
    source = getattr(node, "_time_source", None)
    own = getattr(source, "_clock_sub", None)
    if source is None or own is None:
        return None
    helper = HelperNode(node, "clock", ["/clock"])
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    watched = _WatchedClock(source.clock_callback, on_bad)
    source._clock_sub = helper.node.create_subscription(ClockMessage, "/clock", watched.hear, qos)
    helper.node.create_timer(SETTLE_S, watched.settle, clock=STEADY)
    node.destroy_subscription(own)
    helper.start()
    return helper


class _WatchedClock:
    """Hands messages of /clock on as far as they are of one line of time. A paused simulation that was set back says
    so once: that is believed when nothing else comes."""

    def __init__(self, hand_on: Callable[[Any], None], on_bad: Callable[[str, Exception], None]) -> None:
        self._hand_on = hand_on
        self._on_bad = on_bad
        self._lock = threading.Lock()
        self._line: TimeLine[Any] = TimeLine("The time of /clock")

    def hear(self, msg: Any) -> None:
        stamp = msg.clock.sec * 1_000_000_000 + msg.clock.nanosec
        with self._lock:
            newest = self._line.newest_ns
            admitted = self._line.admit(stamp, time.monotonic_ns(), msg)
        if admitted.refused:
            self._on_bad("clock", InputError(admitted.refused))
        elif admitted.moved or newest is None or stamp >= newest:  # never back by a little
            self._take(admitted)

    def settle(self) -> None:
        with self._lock:
            admitted = self._line.settle(time.monotonic_ns())
        if admitted is not None:
            self._take(admitted)

    def _take(self, admitted: Admitted[Any]) -> None:
        for msg in admitted.items:
            self._hand_on(msg)
