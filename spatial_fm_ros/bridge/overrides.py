"""Parameter values given at start (command line, YAML, launch), and those among them that nothing takes.

ROS drops a value whose name nobody declares, or whose parameter file is for another node, without a word.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rclpy.node import Node

from spatial_fm_ros.core.config_schema import nearest
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.structured import read_yaml

QOS = "qos_overrides."
#: A file with many foreign names is told about once.
_MOST = 20


def given_values(node: Node) -> dict[str, Any]:
    """The values given at start for this node by name; rclpy has no public way to them."""
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()}


def unused_values(node: Node, known: Sequence[str] = (), qos: bool = False) -> list[str]:
    """A sentence for each given value that no parameter has taken, with the nearest name.

    `known`: names beside the declared ones that are right. `qos`: only those of QoS, whose parameters come with
    their topics; else all others.
    """
    taken = {*known, *node._parameters}
    names = [name for name in given_values(node) if name.startswith(QOS) == qos and name not in taken]
    near = [name for name in taken if name.startswith(QOS) == qos]
    kind, hint = ("Nothing here has the QoS parameter", _alike) if qos else ("Unknown parameter", nearest)
    said = [f"{kind} '{shown(name)}', its value is not used; {hint(name, near) or _listing(node)}" for name in names]
    rest = [f"{len(said) - _MOST} other parameters are not used either."] if len(said) > _MOST else []
    return said[:_MOST] + rest


def warn_unused(node: Node, known: Sequence[str] = (), qos: bool = False) -> None:
    """Log `unused_values`."""
    for sentence in unused_values(node, known, qos):
        node.get_logger().warning(sentence)


def _alike(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name[:300], known, 1)
    return f"did you mean '{found[0]}'?" if found else ""


def _listing(node: Node) -> str:
    return f"`ros2 param list {node.get_fully_qualified_name()}` shows all there are."


def foreign_files(arguments: Sequence[str], node_name: str) -> list[str]:
    """A sentence for each parameter file among a process's arguments that holds nothing for the node of this
    fully qualified name. Files that ROS cannot read have been refused by it before."""
    found = []
    for path in _parameter_files(arguments):
        try:
            content = read_yaml(path, "parameter file")
        except InputError:  # whatever is wrong with it is ROS's to say
            continue
        keys = list(_node_names(content, "")) if isinstance(content, dict) else []
        if keys and not any(_is_for(key, node_name) for key in keys):
            found.append(
                f"The parameter file {shown(path)} has values for '{shown(keys[0])}', and none for this node, "
                f"'{node_name}'; put them under '/**' or '{node_name}'."
            )
    return found


def _parameter_files(arguments: Sequence[str]) -> Iterator[str]:
    inside = False
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word in ("--ros-args", "--"):
            inside = word == "--ros-args"
        elif inside and word == "--params-file":
            yield following


def _node_names(content: Mapping[Any, Any], prefix: str) -> Iterator[str]:
    for key, value in content.items():
        if key == "ros__parameters":
            yield prefix
        elif isinstance(value, dict):
            yield from _node_names(value, f"{prefix}/{str(key).strip('/')}")


def _is_for(key: str, node_name: str) -> bool:
    """As rcl matches: `*` is one part of a name, `**` any number of them."""
    any_number, one = r"(/[^/]+)*", "[^/]*"
    parts = [any_number if part == "**" else "/" + re.escape(part).replace(r"\*", one) for part in key.split("/")[1:]]
    return re.fullmatch("".join(parts), node_name) is not None
