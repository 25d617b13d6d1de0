"""Messages without a stamp (0): they get the time of their arrival, and somebody is told."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from rclpy.node import Node

from spatial_fm_ros.core.errors import InputError


class Unstamped:
    """Stamps what has no stamp by the node's clock. Thread-safe."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()  # by input

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
            count = self._counts[role]
        if str(count).strip("0") == "1":
            self._node.get_logger().warning(f"Input '{role}': {_sentence(count)}")

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """(input, what is said of it), for each that sends messages without stamps."""
        with self._lock:
            return [(role, _sentence(count)) for role, count in sorted(self._counts.items())]


def _sentence(count: int) -> str:
    return (
        f"{count} messages came with stamp 0; the time of their arrival is used, which is late and uneven. Set "
        "header.stamp in the driver."
    )
