"""Simulated time: cheap to hear, and told of when it jumps back (a bag or a simulation that starts over)."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.clock import Clock, ClockType, JumpHandle, JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock as ClockMessage

from spatial_fm_ros.bridge.helper_node import HelperNode
from spatial_fm_ros.core.errors import InputError

#: A stamp this much older than the newest one may mean that time jumped back.
JUMP_NS = 1_000_000_000

#: A stamp this much newer than the newest one is believed only together with the next.
AHEAD_NS = 60_000_000_000

#: Steady timers run whether or not anybody publishes /clock.
STEADY = Clock(clock_type=ClockType.STEADY_TIME)


class StampWatch:
    """Tells wrong stamps from time that went elsewhere: it takes more than one stamp to move time.

    Several old stamps in rising order are a jump back. A stamp far ahead of the newest is left out, unless
    the next one goes on from there (a long silence).
    """

    def __init__(self, confirm: int = 3) -> None:
        self._confirm = confirm
        self.reset()

    def reset(self) -> None:
        self._newest: int | None = None
        self._ahead: int | None = None
        self._old: list[int] = []

    def jumped_back(self, stamp_ns: int) -> bool:
        """True once, at the stamp that confirms a jump back; the watch then starts anew there.

        Raises InputError for a stamp too far ahead to be believed alone.
        """
        if self._newest is not None and stamp_ns > self._newest + AHEAD_NS:
            before, self._ahead = self._ahead, stamp_ns
            if before is None or not 0 < stamp_ns - before <= AHEAD_NS:
                ahead_s = (stamp_ns - self._newest) / 1e9
                raise InputError(
                    f"An image is stamped {ahead_s:.0f} s after the one before; it is left out unless the next goes on "
                    "from there. Check the driver's clock."
                )
        self._ahead = None
        if self._newest is None or stamp_ns > self._newest - JUMP_NS:
            self._newest = max(stamp_ns, self._newest or stamp_ns)
            self._old.clear()
            return False
        if self._old and stamp_ns <= self._old[-1]:
            self._old.clear()
        self._old.append(stamp_ns)
        if len(self._old) < self._confirm:
            return False
        self.reset()
        self._newest = stamp_ns
        return True


def on_clock_jump_back(node: Node, callback: Callable[[], None]) -> JumpHandle:
    """Call `callback` when the node's (simulated) clock jumps back. Keep the handle."""
    threshold = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-JUMP_NS), on_clock_change=False)
    return node.get_clock().create_jump_callback(threshold, post_callback=lambda _jump: callback())


def hear_clock_apart(node: Node) -> HelperNode | None:
    """With use_sim_time, move the node's /clock subscription into a helper node; close what is returned.

    A node with dozens of entities in an rclpy executor takes some milliseconds for each message, all under
    the interpreter's lock: at 200 clock messages a second it held the lock 60 % of the time.
    """
    source = getattr(node, "_time_source", None)
    own = getattr(source, "_clock_sub", None)
    if source is None or own is None:
        return None
    helper = HelperNode(node, "clock", ["/clock"])
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    source._clock_sub = helper.node.create_subscription(ClockMessage, "/clock", source.clock_callback, qos)
    node.destroy_subscription(own)
    helper.start()
    return helper
