"""`ros2 lifecycle`: states of lifecycle nodes through their services."""

from __future__ import annotations

import argparse

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState
from rclpy.node import Node
from ros2cli.command import CommandExtension

TIMEOUT_S = 5.0


class LifecycleCommand(CommandExtension):
    """Show and change the state of lifecycle nodes."""

    def add_arguments(self, parser: argparse.ArgumentParser, cli_name: str) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        verbs.add_parser("nodes", help="list lifecycle nodes")
        get = verbs.add_parser("get", help="show the state of a node")
        get.add_argument("node_name")
        listing = verbs.add_parser("list", help="list the transitions a node can make now")
        listing.add_argument("node_name")
        change = verbs.add_parser("set", help="make a transition")
        change.add_argument("node_name")
        change.add_argument("transition", help="configure, activate, deactivate, cleanup, shutdown or a number")

    def main(self, *, parser: argparse.ArgumentParser, args: argparse.Namespace) -> int | str:
        rclpy.init(args=[])
        node = rclpy.create_node("ros2_lifecycle", start_parameter_services=False, enable_rosout=False)
        try:
            if args.verb == "nodes":
                print("\n".join(lifecycle_nodes(node)))
                return 0
            name = "/" + args.node_name.lstrip("/")
            if args.verb == "get":
                state = call(node, GetState, f"{name}/get_state", GetState.Request(), TIMEOUT_S).current_state
                print(f"{state.label} [{state.id}]")
            elif args.verb == "list":
                for item in transitions(node, name):
                    print(f"- {item.transition.label} [{item.transition.id}]")
                    print(f"\tStart: {item.start_state.label}\n\tGoal: {item.goal_state.label}")
            else:
                return change_state(node, name, args.transition)
        except LookupError as error:
            return str(error)
        finally:
            node.destroy_node()
            rclpy.try_shutdown()
        return 0


def call(node: Node, kind, service: str, request, timeout_s: float | None):  # type: ignore[no-untyped-def]
    """Call a service and wait. Raises LookupError when nobody serves it or it does not answer in time."""
    client = node.create_client(kind, service)
    if not client.wait_for_service(timeout_sec=TIMEOUT_S):
        raise LookupError(f"No lifecycle node serves {service}; `ros2 lifecycle nodes` lists those that run")
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=timeout_s)
    if not future.done():
        raise LookupError(f"{service} did not answer within {timeout_s:g} s")
    return future.result()


def lifecycle_nodes(node: Node) -> list[str]:
    """Names of all nodes with a get_state service, after discovery had a second."""
    rclpy.spin_once(node, timeout_sec=1.0)
    end = "/get_state"
    services = node.get_service_names_and_types()
    return sorted(name[: -len(end)] for name, types in services if "lifecycle_msgs/srv/GetState" in types)


def transitions(node: Node, name: str):  # type: ignore[no-untyped-def]
    request = GetAvailableTransitions.Request()
    service = f"{name}/get_available_transitions"
    return call(node, GetAvailableTransitions, service, request, TIMEOUT_S).available_transitions


def change_state(node: Node, name: str, wanted: str) -> int | str:
    """Make the transition called `wanted` (label or id); a transition may take as long as it needs."""
    possible = [item.transition for item in transitions(node, name)]
    chosen = [item for item in possible if wanted in (item.label, str(item.id))]
    if not chosen:
        return f"{name} cannot make '{wanted}' now; it can: {', '.join(item.label for item in possible) or 'nothing'}"
    request = ChangeState.Request(transition=Transition(id=chosen[0].id, label=chosen[0].label))
    if not call(node, ChangeState, f"{name}/change_state", request, None).success:
        return f"Transition '{chosen[0].label}' of {name} failed; see the node's log and `ros2 lifecycle get {name}`"
    print("Transitioning successful")
    return 0
