"""Publishes a rosbag2 with /clock, for where `ros2 bag play` is not installed.

Messages go out as they were recorded (their bytes are not decoded), paced by the time at which they were
received. /clock is made here; a recorded one is left out.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import rclpy
from rclpy.exceptions import InvalidTopicNameException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from rosidl_runtime_py.utilities import get_message

from spatial_fm_ros.bridge.encode import time_message
from spatial_fm_ros.bridge.overrides import warn_unused
from spatial_fm_ros.core.errors import InputError, SpatialFMError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.nodes.starting import init_ros, own_arguments
from spatial_fm_ros.sources.bag_files import BagFile, TopicInfo
from spatial_fm_ros.sources.inflate import plain

WAIT_S = 60.0
MESSAGE_TYPE = re.compile(r"[A-Za-z]\w*/msg/[A-Za-z]\w*", re.ASCII)


class BagPlayer(Node):
    """Publishers for every topic of an opened bag whose message type is installed."""

    def __init__(self, bag: BagFile, clock_hz: float) -> None:
        super().__init__("play_bag")
        warn_unused(self)
        self._clock = self.create_publisher(Clock, "/clock", 10)
        self._clock_step_ns = round(1e9 / clock_hz)
        self._now_ns = 0
        self.publishers_of: dict[str, Publisher] = {}
        for note in bag.notes:
            self.get_logger().warning(note)
        for topic in bag.topics.values():
            publisher = None if topic.name == "/clock" else self._publisher(topic)
            if publisher is not None:
                self.publishers_of[topic.name] = publisher

    def _publisher(self, topic: TopicInfo) -> Publisher | None:
        name = shown(topic.name)
        try:
            # The bag's names become names of Python modules: only those that can be message types do.
            kind = get_message(topic.type) if MESSAGE_TYPE.fullmatch(topic.type) else None
        except (ImportError, AttributeError, ValueError):
            kind = None
        if not hasattr(kind, "get_fields_and_field_types"):
            self.get_logger().warning(f"Left out: {name}, type {shown(topic.type)} is not installed.")
            return None
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        if topic.name.endswith("tf_static"):
            qos = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        try:
            return self.create_publisher(kind, topic.name, qos)
        except InvalidTopicNameException:
            self.get_logger().warning(f"Left out: {name} is no name that ROS 2 allows for a topic.")
            return None

    def wait_for(self, topics: Sequence[str]) -> None:
        """Until somebody subscribes to each of them, at most a minute."""
        deadline = time.monotonic() + WAIT_S
        while missing := [t for t in topics if self.count_subscribers(self.resolve_topic_name(t)) == 0]:
            if time.monotonic() > deadline:
                self.get_logger().warning(f"Starting although nobody subscribes to {', '.join(missing)}.")
                return
            time.sleep(0.1)
        time.sleep(0.5)  # a subscriber that has just been found may not have found us yet

    def wait_for_inputs(self, name: str) -> None:
        """Until every topic here that the reconstruction of this name listens to is connected, at most a minute."""
        namespace, _, base = name.rpartition("/")
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            heard: list[tuple[str, list[str]]] = []
            with suppress(RuntimeError):  # not discovered yet
                for helper in ("inputs", "tf"):
                    heard += self.get_subscriber_names_and_types_by_node(f"{base}_{helper}", namespace or "/")
            topics = [topic for topic, _ in heard if topic in self.publishers_of]
            if topics and all(self.publishers_of[topic].get_subscription_count() for topic in topics):
                time.sleep(0.5)  # a subscriber that has just been found may not have found us yet
                return
            time.sleep(0.1)
        self.get_logger().warning(
            f"Starting although {name} listens to none of the bag's topics, or not to all it wants."
        )

    def play(self, bag: BagFile, rate: float) -> int:
        """Returns the number of messages sent."""
        began, sent = time.monotonic(), 0
        for channel, stamp_ns, data in bag.raw(self.publishers_of):
            due = began + (stamp_ns - bag.start_ns) / 1e9 / rate
            while (left := due - time.monotonic()) > 0:
                time.sleep(min(left, self._clock_step_ns / 1e9 / rate))
                self._tell_time(stamp_ns - round(max(0.0, due - time.monotonic()) * rate * 1e9))
            self._tell_time(stamp_ns)
            try:
                self.publishers_of[channel.topic].publish(bytes(plain(data)))
                sent += 1
            except ValueError as error:
                self.get_logger().warning(f"Left out: a message of {shown(channel.topic)} is damaged ({error}).")
        return sent

    def _tell_time(self, now_ns: int) -> None:
        if now_ns - self._now_ns >= self._clock_step_ns:
            self._now_ns = now_ns
            self._clock.publish(Clock(clock=time_message(now_ns)))


def main(args: Sequence[str] | None = None) -> int:
    """The executable. Exit status 0 at the bag's end or after Ctrl-C, 1 after an error."""
    argv = list(sys.argv if args is None else args)
    try:
        options = _parser().parse_args(own_arguments(argv))
        init_ros(argv)
        with closing(_opened(options.bag)) as bag:
            player = BagPlayer(bag, options.clock)
            player.wait_for(options.wait_for)
            messages = sum(bag.topics[topic].count or 0 for topic in player.publishers_of)
            if options.for_node:
                player.wait_for_inputs(options.for_node)
            player.get_logger().info(
                f"Playing {shown(options.bag)}: {messages} messages, {(bag.end_ns - bag.start_ns) / 1e9:.1f} s at rate "
                f"{options.rate:g}."
            )
            player.get_logger().info(f"Finished: {player.play(bag, options.rate)} messages.")
        return 0
    except SpatialFMError as error:
        print(f"play_bag: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        rclpy.try_shutdown()


def _opened(path: Path) -> BagFile:
    if not path.exists():
        raise InputError(f"There is no bag at {shown(path)}; expected a rosbag2 folder, an .mcap or a .db3 file.")
    try:
        bag = BagFile(path)
    except OSError as error:
        raise InputError(f"The bag {shown(path)} cannot be read: {error.strerror or error}.") from error
    if bag.is_ros1:
        bag.close()
        raise InputError(f"{shown(path)} is a ROS 1 bag: ROS 2 has no use for its messages as they are; convert it.")
    return bag


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"needs a number above 0, got {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="play_bag", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("bag", type=Path, help="folder of a rosbag2, or one .mcap or .db3 file")
    parser.add_argument("--rate", type=_positive, default=1.0, help="speed, 1 = as recorded")
    parser.add_argument("--clock", type=_positive, default=100.0, help="/clock messages per recorded second")
    parser.add_argument("--wait-for", nargs="*", default=[], metavar="TOPIC", help="start when these are subscribed to")
    parser.add_argument(
        "--for-node",
        default="",
        metavar="NAME",
        help="start when all inputs of this active `reconstruct` are connected",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
