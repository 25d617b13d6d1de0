"""Nodes beside the main one, each with an executor and a thread of its own.

An rclpy executor looks at every entity of its nodes for every callback. The main node has dozens
(services, timers, publishers' events); sharing it, fast inputs and TF lose messages.
"""

from __future__ import annotations

import threading

from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


class HelperNode:
    """A bare node that spins in its own thread between `start` and `close`."""

    def __init__(self, name: str, namespace: str, context: Context) -> None:
        # __node on the command line would rename this node too; a node's own arguments win.
        self.node = Node(
            name,
            namespace=namespace,
            context=context,
            cli_args=["--ros-args", "-r", f"__node:={name}"],
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=context)
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
