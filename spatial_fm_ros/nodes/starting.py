"""What every executable does first: arguments that ROS understands, or one sentence."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from spatial_fm_ros.bridge.overrides import foreign_files
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.core.io.names import shown

#: What rcl says of a file, and what is to be done.
_REMEDIES = {
    "before ros__parameters": "a ROS parameter file begins with '/**:' and 'ros__parameters:'",
    "opening YAML": "there is no such file, or it cannot be read",
    "parameter override": "-p takes name:=value, for example -p map.voxel_size:=0.05",
    "remap rule": "-r takes from:=to, for example -r image:=/camera/image_raw",
    "log level": "debug, info, warn, error or fatal, alone or as LOGGER:=LEVEL",
}


def init_ros(argv: Sequence[str] | None, **options: Any) -> None:
    """rclpy.init. Raises ConfigError for arguments behind --ros-args, or parameter files, that ROS refuses.

    Where ROS's folder for logs cannot be written, which would end rclpy, they go to a temporary one.
    """
    _use_writable_logs()
    with _in_a_sentence():
        rclpy.init(args=None if argv is None else list(argv), **options)


def own_arguments(argv: Sequence[str]) -> list[str]:
    """Those that are not ROS's, without the program's name. Raises ConfigError as `init_ros`."""
    with _in_a_sentence():
        return list(remove_ros_args(list(argv)))[1:]


def tell_foreign_files(node: Node, argv: Sequence[str] | None) -> None:
    """Log each parameter file that holds nothing for this node."""
    for sentence in foreign_files(sys.argv if argv is None else argv, node.get_fully_qualified_name()):
        node.get_logger().warning(sentence)


def _use_writable_logs() -> None:
    """ROS_LOG_DIR as rcl would choose it, or a new folder beside the temporary files."""
    home = os.environ.get("ROS_HOME") or os.path.join(os.path.expanduser("~"), ".ros")
    folder = os.environ.get("ROS_LOG_DIR") or os.path.join(home, "log")
    try:
        os.makedirs(folder, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return
        reason = "Permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    chosen = tempfile.mkdtemp(prefix="spatial_fm_ros_log_")
    print(f"ROS logs go to {chosen}: {shown(folder)} cannot be written ({reason}).", file=sys.stderr)
    os.environ["ROS_LOG_DIR"] = chosen


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # rclpy's own errors come from it
        raise ConfigError(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    """rcl's words without its prefixes and the places in its source."""
    words = re.sub(r",? at \S+\.c:\d+", "", re.sub("^[Ff]ailed to [a-z ]+: ", "", str(error)))
    if type(error).__name__ == "UnknownROSArgsError":
        words = f"unknown are {words}"
    words = " ".join(words.split()).rstrip(".")
    remedy = next((remedy for mark, remedy in _REMEDIES.items() if mark in words), "see --help")
    return f"ROS does not understand the arguments: {shown(words, 600)}; {remedy}."
