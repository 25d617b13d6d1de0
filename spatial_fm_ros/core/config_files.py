"""Parameters in files: reading and writing `Config` as YAML, and its documentation.

A file is YAML nested by section, or a ROS 2 parameter file (`/**: ros__parameters: ...`); names may be
nested or dotted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.config_schema import (
    Parameter,
    Value,
    checked,
    describe,
    flatten,
    from_flat,
    section_doc,
)
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.core.io.names import shown, user_path
from spatial_fm_ros.core.io.structured import read_yaml

__all__ = [
    "Parameter",
    "Value",
    "describe",
    "flatten",
    "from_flat",
    "load_config",
    "parameter_table",
    "read_values",
    "to_yaml",
]

#: Most bytes of a parameter file; all parameters with their docs take 14 kB.
FILE_BYTES = 2**20
#: Nodes whose section of a ROS 2 parameter file belongs to this configuration.
NODES = ("reconstruct", "map_bag")
#: Parameters every ROS 2 node has; they are not ours to check.
ROS_OWN = ("use_sim_time", "qos_overrides", "start_type_description_service", "diagnostic_updater")


def load_config(paths: Sequence[Path] = (), overrides: Mapping[str, object] | None = None) -> Config:
    """Defaults, then each file over those before it, then dotted overrides.

    Override values may be text, as from a command line. Raises ConfigError for a file that cannot be
    read, unknown names, wrong types, values out of bounds and combinations that cannot work.
    """
    values: dict[str, object] = {}
    for path in paths:
        path = user_path(path, ConfigError)
        from_file = read_values(path)
        try:
            values.update(checked(from_file))
        except ConfigError as error:
            raise ConfigError(f"{shown(path)}: {error}") from error
    for name, value in (overrides or {}).items():
        values[name] = _from_text(name, value) if isinstance(value, str) else value
    return from_flat(values)


def read_values(path: Path) -> dict[str, object]:
    """The values of one file by dotted name, not checked yet. Raises ConfigError, which names the file."""
    content = read_yaml(path, "parameter file", ConfigError, FILE_BYTES)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"The parameter file '{shown(path)}' must hold names and values, got {_kind(content)} "
            f"({shown(content, 60)})."
        )
    values: dict[str, object] = {}
    try:
        for section in _own_sections(content):
            values.update(_dotted(section, ""))
    except ConfigError as error:
        raise ConfigError(f"The parameter file '{shown(path)}': {error}") from error
    return values


def to_yaml(config: Config, ros: bool = False) -> str:
    """All parameters as YAML with their docs as comments; `ros`: as a ROS 2 parameter file."""
    lines = ["/**:", "  ros__parameters:"] if ros else []
    indent = "    " if ros else ""
    values = flatten(config)
    open_sections: list[str] = []
    for p in describe():
        *sections, leaf = p.name.split(".")
        for depth, section in enumerate(sections):
            if open_sections[: depth + 1] != sections[: depth + 1]:
                space = indent + "  " * depth
                lines += [f"{space}# {section_doc('.'.join(sections[: depth + 1]))}", f"{space}{section}:"]
        open_sections = sections
        space = indent + "  " * len(sections)
        doc = p.doc + (f" [{p.limits}]" if p.limits else "")
        lines += [f"{space}# {doc}", f"{space}{leaf}: {_scalar(values[p.name])}"]
    return "\n".join(lines) + "\n"


def parameter_table() -> str:
    """The parameters as a Markdown document, one table a section."""
    lines: list[str] = []
    section = None
    for p in describe():
        here = p.name.rpartition(".")[0]
        if here != section:
            section = here
            lines += ["", f"## `{section}`: {section_doc(section)}", ""]
            lines += ["| parameter | type | default | range | meaning |", "|---|---|---|---|---|"]
        default = f"`{_scalar(p.default)}`"
        lines.append(f"| `{p.name}` | {p.type.__name__} | {default} | {p.limits} | {p.doc} |")
    return "\n".join(lines[1:]) + "\n"


# -- files ------------------------------------------------------------------------------------


def _own_sections(content: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    """The parts of a file that are for this package: wildcards first, then its nodes, then plain YAML.

    Raises ConfigError for a file that has parameters for other nodes only.
    """
    wildcard: list[Mapping[Any, Any]] = []
    named: list[Mapping[Any, Any]] = []
    others: list[str] = []
    for node, section in _of_nodes(content, ""):
        if not isinstance(section, dict):
            raise ConfigError(
                f"'ros__parameters' of '{shown(node, 80)}' must hold names and values, got {shown(section, 60)}."
            )
        name = node.rpartition("/")[2]
        if name in ("*", "**", ""):
            wildcard.append(section)
        elif name in NODES:
            named.append(section)
        else:
            others.append(node)
    plain = {key: value for key, value in content.items() if not _is_for_nodes(key, value)}
    if others and not (wildcard or named or plain):
        raise ConfigError(
            f"It has parameters for '{shown(others[0])}' only, none for '{NODES[0]}'; put them under '/**' or under "
            f"'/**/{NODES[0]}'."
        )
    return [*wildcard, *named, plain]


def _of_nodes(content: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """(name of a node with its namespaces, its parameters), as ROS 2 parameter files hold them."""
    for key, value in content.items():
        if key == "ros__parameters":
            yield prefix, value or {}
        elif isinstance(value, dict) and _is_for_nodes(key, value):
            yield from _of_nodes(value, f"{prefix}/{str(key).strip('/')}")


def _is_for_nodes(key: Any, value: Any) -> bool:
    """There is a 'ros__parameters' in it."""
    return key == "ros__parameters" or (isinstance(value, dict) and any(_is_for_nodes(k, v) for k, v in value.items()))


def _dotted(node: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in node.items():
        if not isinstance(key, str):
            raise ConfigError(f"The name '{prefix}{shown(key, 80)}' is {_kind(key)}; names of parameters are text.")
        name = f"{prefix}{key}"
        if name.partition(".")[0] in ROS_OWN:
            continue
        if isinstance(value, dict):
            yield from _dotted(value, f"{name}.")
        else:
            yield name, value


def _from_text(name: str, text: str) -> object:
    """The value a text stands for, by the type of the parameter it is for."""
    types = {p.name: p.type for p in describe()}
    kind = types.get(name, str)
    if kind is str:
        return text
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.strip().lower()]
        return kind(text)
    except (KeyError, ValueError):
        return text


def _kind(value: object) -> str:
    """What a value of YAML is, in words."""
    if isinstance(value, bool):
        return "true or false"
    kinds = {dict: "names and values", list: "a list", str: "text", int: "a number", float: "a number"}
    return "nothing" if value is None else kinds.get(type(value), f"a {type(value).__name__}")


def _scalar(value: Value) -> str:
    """One value as every YAML reader, ROS included, reads it back with the same type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        mantissa, e, exponent = text.partition("e")
        return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else text
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
