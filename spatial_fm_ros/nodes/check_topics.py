"""What arrives, before a reconstruction is blamed: types, rates, QoS, stamps, frames, TF, calibration.

When the robot turns while it listens (--duration 20), how it turned by the images is compared with IMU, odometry and
LiDAR: that shows time offsets of some milliseconds and extrinsic rotations wrong by tenths of a degree.

Exit code 0: the configured inputs can be used; 1: something cannot; 2: wrong options.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from rich.table import Table

from spatial_fm_ros.bridge.frames import TransformTree
from spatial_fm_ros.bridge.overrides import given_values, warn_unused
from spatial_fm_ros.bridge.qos import check_overrides
from spatial_fm_ros.bridge.topic_check import Heard, Problem, TopicCheck
from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.config_files import describe, load_config
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.nodes.starting import init_ros, own_arguments, tell_foreign_files

#: Longest time that discovery of the first topic may take.
DISCOVERY_S = 5.0
#: Options and the parameters of section `ros` they set.
OPTIONS = {
    "image": "image_topic",
    "camera-info": "camera_info_topic",
    "companion-images": "companion_image_topics",
    "companion-camera-infos": "companion_camera_info_topics",
    "points": "points_topic",
    "odometry": "odometry_topic",
    "imu": "imu_topic",
    "pose-source": "pose_source",
    "odom-frame": "odom_frame",
    "base-frame": "base_frame",
    "image-reliability": "image_reliability",
}
#: Switches, of parameters ros.image_*.
FLAGS = ("compressed", "rectified", "frame_is_body")


def main(argv: list[str] | None = None) -> int:
    """Listen, print a table and what is wrong. Returns the exit code."""
    argv = list(sys.argv if argv is None else argv)
    try:
        options = _parser().parse_args(own_arguments(argv))
        init_ros(argv)
    except ConfigError as error:
        print(f"check_topics: {error}", file=sys.stderr)
        return 2
    node, tree = Node("check_topics"), None
    bad: Counter[str] = Counter()  # transforms that cannot be used
    try:
        config = _config(options, node)
        tell_foreign_files(node, argv)
        tree = TransformTree(node, on_bad=lambda _role, error: bad.update([str(error)]))
        check = TopicCheck(node, config, tree)
        _listen(node, check, options.duration)
        problems = check.problems()
        found = {"rig": check.rig(), "motion": check.motion()}
        wrong = [finding for each in found.values() for finding in each if finding.wrong]
        problems += [Problem(finding.sentence, fatal=False) for finding in wrong]
        problems += [Problem(f"tf ({count} times): {reason}", fatal=False) for reason, count in bad.most_common(3)]
        notes = [
            f"{name:8} {finding.sentence}" for name, each in found.items() for finding in each if not finding.wrong
        ]
        _print(check.heard, problems, notes, options.duration)
    except ConfigError as error:
        print(f"check_topics: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        return 130
    finally:
        if tree is not None:
            tree.close()
        node.destroy_node()
        rclpy.try_shutdown()
    return 1 if any(problem.fatal for problem in problems) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="check_topics",
        description="Listen to the inputs of the reconstruction for some seconds and say what is wrong with them.",
        epilog="Remappings, use_sim_time, and any parameter of the reconstruction (-p, --params-file) go behind "
        "--ros-args, as for every node.",
    )
    parser.add_argument(
        "--duration",
        type=float,
        default=5.0,
        help="seconds to listen (default 5); with 20 s of turning, clocks and mountings are compared",
    )
    parser.add_argument("--config", type=Path, action="append", default=[], help="parameter file, may be repeated")
    for option, name in OPTIONS.items():
        parser.add_argument(f"--{option}", help=f"parameter ros.{name}")
    for flag in FLAGS:
        parser.add_argument(f"--{flag.replace('_', '-')}", action="store_true", help=f"parameter ros.image_{flag}")
    return parser


def _config(options: argparse.Namespace, node: Node) -> Config:
    """From files, then the node's parameters, then options. Raises ConfigError."""
    given = {name: getattr(options, option.replace("-", "_")) for option, name in OPTIONS.items()}
    overrides: dict[str, object] = {f"ros.{name}": value for name, value in given.items() if value is not None}
    overrides |= {f"ros.image_{flag}": True for flag in FLAGS if getattr(options, flag)}
    known = [parameter.name for parameter in describe()]
    check_overrides(given_values(node))
    warn_unused(node, known)
    parameters = {name: value for name, value in given_values(node).items() if name in known}
    return load_config(options.config, parameters | overrides)


def _listen(node: Node, check: TopicCheck, duration_s: float) -> None:
    """Until the time is over; the time until the first topic is discovered does not count."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    started = time.monotonic()
    end = started + duration_s
    while time.monotonic() < end:
        if time.monotonic() - started < DISCOVERY_S and not check.discovered():
            end = time.monotonic() + duration_s
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()


def _print(heard: list[Heard], problems: list[Problem], notes: list[str], duration_s: float) -> None:
    # A pipe has no width to fit into: one line a topic there.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    table = Table(title=f"Inputs, heard for {duration_s:g} s")
    for column in ("input", "topic", "messages", "Hz", "frame", "clock - stamp", "content"):
        table.add_column(column)
    for each in heard:
        offset = each.clock_offset_s
        table.add_row(
            each.wanted.role,
            each.wanted.topic,
            str(each.count),
            f"{each.rate_hz:.1f}",
            each.frame,
            "" if offset is None else f"{offset:.3f} s",
            each.facts,
        )
    console.print(table)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    for problem in problems:
        console.print(f"{'ERROR  ' if problem.fatal else 'warning'}  {problem.sentence}", markup=False, soft_wrap=True)
    if not problems:
        console.print("All inputs can be used.")


if __name__ == "__main__":
    sys.exit(main())
