"""What the launch files share: how arguments are read, the DDS profile, logger names. Mistakes are RuntimeErrors
with a sentence, which launch shows without a traceback of ours."""

from __future__ import annotations

import difflib
import math
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from launch import LaunchContext
from launch.actions import LogInfo
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from spatial_fm_ros.core.config_files import describe

#: Distributions whose Fast DDS (2.x) reads the older variable; from Kilted on it is 3.x.
_FAST_DDS_2 = ("foxy", "galactic", "humble", "iron", "jazzy")
LEVELS = ("debug", "info", "warn", "error", "fatal")
#: Arguments of every launch file here that starts nodes which exchange images: name -> (default, description).
COMMON = {
    "dds_profile": (
        "auto",
        "Fast DDS profile of the nodes started here: auto (large shared memory, unless you set one), none, or a file",
    ),
    "log_level": ("", "debug, info, warn, error or fatal; empty: as ROS has it"),
}


def flag(name: str, text: str) -> bool | None:
    """True or false as people write them; None where nothing was given."""
    word = text.strip().lower()
    if not word:
        return None
    if word not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
        raise RuntimeError(f"{name}:={text} is neither true nor false.")
    return word in ("true", "1", "yes", "on")


def number(name: str, text: str, kind: type = float, least: float | None = None) -> float:
    """A number; `least` is the smallest that makes sense."""
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not math.isfinite(value) or (least is not None and value < least):
        more = "" if least is None else f" of {least:g} or more"
        raise RuntimeError(f"{name}:={text} is no {'whole ' if kind is int else ''}number{more}.")
    return value


def full_name(context: LaunchContext, namespace: str, node: str) -> str:
    """The node's fully qualified name, with the namespaces that files around this one have pushed."""
    around = context.launch_configurations.get("ros_namespace")
    return f"{(make_namespace_absolute(prefix_namespace(around, namespace)) or '').rstrip('/')}/{node}"


def log_arguments(node: str, level: str) -> list[str]:
    """ROS arguments for the level of one node (its full name): its logger alone, for rcl's own is loud."""
    if not level:
        return []
    if level.lower() not in LEVELS:
        raise RuntimeError(f"log_level:={level} is none of {', '.join(LEVELS)}.")
    return ["--ros-args", "--log-level", f"{node.strip('/').replace('/', '.')}:={level.lower()}"]


def profile_variable() -> str:
    """The environment variable that this distribution's Fast DDS reads its profile from."""
    older = os.environ.get("ROS_DISTRO", "jazzy") in _FAST_DDS_2
    return "FASTRTPS_DEFAULT_PROFILES_FILE" if older else "FASTDDS_DEFAULT_PROFILES_FILE"


def dds_environment(choice: str, share: Path) -> dict[str, str]:
    """Environment for `dds_profile:=choice`. Its default shared memory makes Fast DDS lose images and clouds.

    auto keeps a profile or transports of the user's own, and does nothing for another middleware.
    """
    if choice in ("", "none"):
        return {}
    rmw = os.environ.get("RMW_IMPLEMENTATION", "")
    variable = profile_variable()
    if choice != "auto":
        for path in (Path(choice).expanduser(), share / "config" / f"{choice}.xml"):
            if path.is_file():
                return {variable: str(path.resolve())}
        raise RuntimeError(f"dds_profile:={choice} is neither auto nor none nor a file.")
    if (rmw and "fastrtps" not in rmw) or any(os.environ.get(v) for v in (variable, "FASTDDS_BUILTIN_TRANSPORTS")):
        return {}
    try:
        small = shutil.disk_usage("/dev/shm").total < 1 << 29
    except OSError:
        small = True
    return {variable: str(share / "config" / ("fastdds_small.xml" if small else "fastdds.xml"))}


def misspelt(context: LaunchContext, file: str, known: Collection[str]) -> list[LogInfo]:
    """A line for each argument on the command line that looks like one of this file's, or is a parameter: launch
    itself drops names that no file declares. Others may be those of a file around this one."""
    said = []
    parameters = {parameter.name for parameter in describe()}
    for word in context.argv:
        name, assigned, _ = word.partition(":=")
        if not assigned or name in known:
            continue
        near = difflib.get_close_matches(re.sub(r"^ros\.", "", name.lower().replace("-", "_")), known, 1, 0.8)
        if near:
            said.append(f"{file} has no argument '{name}', it is not used; did you mean '{near[0]}'?")
        elif name in parameters:
            said.append(f"'{name}' is a parameter and no argument of {file}; give it in a file: config:=FILE.")
    return [LogInfo(msg=sentence) for sentence in said]
