"""Nodes beside the main one, each with an executor and a thread of its own.

An rclpy executor looks at every entity of its nodes for every callback. The main node has dozens
(services, timers, publishers' events); sharing it, fast inputs and TF lose messages.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


class HelperNode:
    """A bare node beside `main`, called after it, that spins in its own thread between `start` and `close`."""

    def __init__(self, main: Node, suffix: str, topics: Sequence[str] = ()) -> None:
        """`topics`: absolute names that mean to the helper what they mean to `main`, remapped there or not.

        The process's own arguments do not reach the helper: its name, remappings and parameters are main's.
        """
        name = f"{main.get_name()}_{suffix}"
        words = ["--ros-args", "-r", f"__node:={name}"]
        for topic in topics:
            words += ["-r", f"{topic}:={main.resolve_topic_name(topic)}"]
        self.node = Node(
            name,
            namespace=main.get_namespace(),
            context=main.context,
            cli_args=words,
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=main.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Returns when the callback in work is done; not to be called from one of its callbacks."""
        self._executor.shutdown()
        if self._thread.is_alive():
            self._thread.join()
        self.node.destroy_node()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return
