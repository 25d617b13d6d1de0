"""Publishes a rosbag2 with /clock, for where `ros2 bag play` is not installed.

Messages go out as they were recorded (their bytes are not decoded), paced by the time at which they were
received. /clock is made here; a recorded one is left out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, ReaderError
from rosgraph_msgs.msg import Clock
from rosidl_runtime_py.utilities import get_message

from spatial_fm_ros.bridge.encode import time_message
from spatial_fm_ros.bridge.overrides import warn_unused
from spatial_fm_ros.core.errors import InputError, SpatialFMError
from spatial_fm_ros.nodes.starting import init_ros, own_arguments

WAIT_S = 60.0


class BagPlayer(Node):
    """Publishers for every topic of an opened bag whose message type is installed."""

    def __init__(self, reader: Reader, clock_hz: float) -> None:
        super().__init__("play_bag")
        warn_unused(self)
        self._clock = self.create_publisher(Clock, "/clock", 10)
        self._clock_step_ns = round(1e9 / clock_hz)
        self._now_ns = 0
        self.publishers_of: dict[int, Publisher] = {}
        by_topic: dict[str, Publisher] = {}
        for connection in reader.connections:
            if connection.topic == "/clock":
                continue
            publisher = by_topic.get(connection.topic) or self._publisher(connection)
            if publisher is not None:
                by_topic[connection.topic] = self.publishers_of[connection.id] = publisher

    def _publisher(self, connection: Connection) -> Publisher | None:
        try:
            kind = get_message(connection.msgtype)
        except (ModuleNotFoundError, AttributeError, ValueError):
            self.get_logger().warning(f"Left out: {connection.topic}, type {connection.msgtype} is not installed.")
            return None
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        if connection.topic.endswith("tf_static"):
            qos = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        return self.create_publisher(kind, connection.topic, qos)

    def wait_for(self, topics: Sequence[str]) -> None:
        """Until somebody subscribes to each of them, at most a minute."""
        deadline = time.monotonic() + WAIT_S
        while missing := [t for t in topics if self.count_subscribers(self.resolve_topic_name(t)) == 0]:
            if time.monotonic() > deadline:
                self.get_logger().warning(f"Starting although nobody subscribes to {', '.join(missing)}.")
                return
            time.sleep(0.1)
        time.sleep(0.5)  # a subscriber that has just been found may not have found us yet

    def play(self, reader: Reader, rate: float) -> int:
        """Returns the number of messages sent."""
        began, sent = time.monotonic(), 0
        wanted = [c for c in reader.connections if c.id in self.publishers_of]
        for connection, stamp_ns, data in reader.messages(wanted):
            due = began + (stamp_ns - reader.start_time) / 1e9 / rate
            while (left := due - time.monotonic()) > 0:
                time.sleep(min(left, self._clock_step_ns / 1e9 / rate))
                self._tell_time(stamp_ns - round(max(0.0, due - time.monotonic()) * rate * 1e9))
            self._tell_time(stamp_ns)
            self.publishers_of[connection.id].publish(bytes(data))
            sent += 1
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
        with _opened(options.bag) as reader:
            player = BagPlayer(reader, options.clock)
            player.wait_for(options.wait_for)
            player.get_logger().info(
                f"Playing {options.bag}: {reader.message_count} messages, {reader.duration / 1e9:.1f} s at rate "
                f"{options.rate:g}."
            )
            player.get_logger().info(f"Finished: {player.play(reader, options.rate)} messages.")
        return 0
    except SpatialFMError as error:
        print(f"play_bag: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        rclpy.try_shutdown()


def _opened(bag: Path) -> Reader:
    try:
        return Reader(bag)
    except (ReaderError, OSError) as error:
        raise InputError(f"{bag} cannot be opened as a rosbag2: {error}") from error


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"needs a number above 0, got {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="play_bag", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("bag", type=Path, help="folder of a rosbag2, sqlite3 or mcap")
    parser.add_argument("--rate", type=_positive, default=1.0, help="speed, 1 = as recorded")
    parser.add_argument("--clock", type=_positive, default=100.0, help="/clock messages per recorded second")
    parser.add_argument("--wait-for", nargs="*", default=[], metavar="TOPIC", help="start when these are subscribed to")
    return parser


if __name__ == "__main__":
    sys.exit(main())
