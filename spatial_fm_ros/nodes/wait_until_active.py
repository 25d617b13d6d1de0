"""`ros2 run spatial_fm_ros wait_until_active NODE`: ends as soon as a lifecycle node is active.

For scripts and launch files that start something only then. Exit code 0: it is active; 1: it never will be;
2: wrong arguments; 130: interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from spatial_fm_ros.core.errors import SpatialFMError
from spatial_fm_ros.nodes.starting import init_ros, own_arguments

#: How often its state is asked for, and how often the log says that it is still waited for.
ASK_S, TELL_S = 0.2, 10.0


def main(args: Sequence[str] | None = None) -> int:
    """The executable."""
    argv = list(sys.argv if args is None else args)
    parser = argparse.ArgumentParser(prog="wait_until_active", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("node", help="name of the lifecycle node, with its namespace")
    try:
        options = parser.parse_args(own_arguments(argv))
        init_ros(argv)
    except SpatialFMError as error:
        print(f"wait_until_active: {error}", file=sys.stderr)
        return 2
    try:
        return 0 if _is_active_at_last(Node("wait_until_active", start_parameter_services=False), options.node) else 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        rclpy.try_shutdown()


def _is_active_at_last(node: Node, name: str) -> bool:
    client = node.create_client(GetState, f"{name}/get_state")
    told = time.monotonic()
    while True:
        if client.wait_for_service(timeout_sec=1.0):
            future = client.call_async(GetState.Request())
            rclpy.spin_until_future_complete(node, future, timeout_sec=2.0)
            state = future.result().current_state if future.done() else State()
            if state.id in (State.PRIMARY_STATE_ACTIVE, State.PRIMARY_STATE_FINALIZED):
                return bool(state.id == State.PRIMARY_STATE_ACTIVE)
        if time.monotonic() - told > TELL_S:
            told = time.monotonic()
            node.get_logger().info(f"Waiting for {name} to become active (ros2 lifecycle set {name} …).")
        time.sleep(ASK_S)


if __name__ == "__main__":
    sys.exit(main())
