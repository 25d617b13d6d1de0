"""Messages without a stamp (0): they get the time of their arrival, and somebody is told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from spatial_fm_ros.core.errors import InputError

#: An input is remarked upon for so long after its last such message, seconds: simulators begin with a few.
REMARKED_S = 30.0


class Unstamped:
    """Stamps what has no stamp by the node's clock. Thread-safe."""

    def __init__(self, node: Node, now: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._now = now
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()  # by input
        self._last_s: dict[str, float] = {}

    def stamp(self, role: str, header: Any) -> None:
        """Give the header the node's time where its stamp is 0.

        Raises InputError where the node has no time either: it waits for /clock.
        """
        if header.stamp.sec or header.stamp.nanosec:
            return
        now = self._node.get_clock().now()
        if not now.nanoseconds:
            raise InputError(
                "The stamp is 0, and so is this node's clock, for use_sim_time is true and nobody publishes /clock; "
                "set header.stamp in the driver, or publish /clock."
            )
        header.stamp = now.to_msg()
        with self._lock:
            self._counts[role] += 1
            self._last_s[role] = self._now()
            count = self._counts[role]
        if str(count).strip("0") == "1":
            self._node.get_logger().warning(f"Input '{role}': {_sentence(count)}")

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """(input, what is said of it), for each that sends messages without stamps, or did until lately."""
        since = self._now() - REMARKED_S
        with self._lock:
            return [
                (role, _sentence(count)) for role, count in sorted(self._counts.items()) if self._last_s[role] > since
            ]


def _sentence(count: int) -> str:
    return (
        f"{count} messages came with stamp 0; the time of their arrival is used, which is late and uneven. Set "
        "header.stamp in the driver."
    )
