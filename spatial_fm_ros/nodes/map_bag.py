"""`ros2 run spatial_fm_ros map_bag INPUT --output DIR`: `spatial-fm map` with ROS arguments understood.

`--ros-args -p section.key:=value` and `--params-file FILE` set the same parameters as in the live
node; the options of `spatial-fm map` may be parameters too, with underscores: `-p output:=DIR`,
`-p input:=BAG`, `-p every:=2`. Needs no running ROS: it reads the recording itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from spatial_fm_ros.core import interrupts
from spatial_fm_ros.core.config_files import NODES, ROS_OWN, describe
from spatial_fm_ros.core.config_schema import nearest
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.core.io.names import shown

#: Options of `spatial-fm map` that may come as ROS parameters.
VALUE_OPTIONS = (
    "output", "config", "model", "checkpoint", "device", "every", "start", "stop", "rate", "intrinsics",
    "image_topic", "camera_info_topic", "companion_image_topics", "companion_camera_info_topics", "points_topic",
    "odometry_topic", "imu_topic",
)  # fmt: skip
FLAGS = ("overwrite",)
#: ROS arguments that mean nothing to an offline run, with the number of words after them.
IGNORED = {"--log-level": 1, "--log-config-file": 1, "--remap": 1, "-r": 1, "--enclave": 1, "-e": 1}


def translate(arguments: Sequence[str]) -> list[str]:
    """Arguments of `spatial-fm` for arguments of a ROS node. Raises ConfigError for a broken parameter."""
    given, ros = split_ros_arguments(arguments)
    position = ""
    made: list[str] = []
    words = iter(ros)
    for word in words:
        if word in ("-p", "--param"):
            name, assigned, value = next(words, "").partition(":=")
            node, _, name = name.rpartition(":")  # 'node:name:=value' names a node
            if not assigned or not name:
                raise ConfigError("-p takes name:=value, for example -p map.voxel_size:=0.05.")
            if node and node.rpartition("/")[2] not in NODES:
                raise ConfigError(f"-p {shown(node)}:{shown(name)} is for another node than {' and '.join(NODES)}.")
            value = _unquoted(value)
            if name.partition(".")[0] in ROS_OWN:
                continue
            _refuse_unknown(name)
            if name == "input":
                position = value
            elif name in VALUE_OPTIONS:
                made += [f"--{name.replace('_', '-')}", value]
            elif name in FLAGS:
                made += [f"--{name}"] if _is_true(name, value) else []
            else:
                made += ["--set", f"{name}={value}"]
        elif word == "--params-file":
            made += ["--config", next(words, "")]
        elif word in IGNORED:
            for _ in range(IGNORED[word]):
                next(words, "")
        elif not word.startswith("--"):
            raise ConfigError(f"'{word}' is no ROS argument that map_bag understands; see --help.")
    return ["map", *([position] if position else []), *given, *made]


def _refuse_unknown(name: str) -> None:
    options = ("input", *VALUE_OPTIONS, *FLAGS)
    known = [*options, *(parameter.name for parameter in describe())]
    if name not in known:
        hint = nearest(name, known) or f"there are {', '.join(options)} and those of docs/parameters.md."
        raise ConfigError(f"Unknown parameter '{shown(name)}'; {hint}")


def _is_true(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ConfigError(f"Parameter '{name}' takes true or false, got '{shown(value)}'.")
    return value.lower() == "true"


def split_ros_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """(own, ROS) arguments: those between --ros-args and -- (or the end) are ROS's."""
    own: list[str] = []
    ros: list[str] = []
    inside = False
    for word in arguments:
        if word == "--ros-args":
            inside = True
        elif inside and word == "--":
            inside = False
        else:
            (ros if inside else own).append(word)
    return own, ros


def _unquoted(value: str) -> str:
    """Launch files quote strings."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def main(arguments: Sequence[str] | None = None) -> None:
    """The executable `map_bag`: ends with SystemExit, whatever happens."""
    with interrupts.raising():
        from spatial_fm_ros import cli
        from spatial_fm_ros.commands.console import ended_by

        try:
            translated = translate(sys.argv[1:] if arguments is None else arguments)
        except ConfigError as error:
            sys.exit(ended_by(error))
        cli.main(translated)


if __name__ == "__main__":
    main()
