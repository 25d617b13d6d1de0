"""Definitions of message types in bags: only looked at, never used. What is read has types this program knows."""

from __future__ import annotations

import re

from spatial_fm_ros.core.io.names import shown

#: Longer ones are not looked at.
_MOST_BYTES = 2**18
_MSG = ("ros1msg", "ros2msg")
_IDL = ("ros2idl", "omgidl")
_NAME = r"[A-Za-z]\w*"
#: `type name`, with array brackets, bounds, a default or a constant's value.
_FIELD = re.compile(rf"({_NAME}(?:/{_NAME}){{0,2}})(?:<=\d+)?(?:\[(?:<=)?\d*\])?\s+{_NAME}\s*(?:=.*|\s\S.*)?")
_SIMPLE = {
    *("bool", "byte", "char", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float32", "float64", "string", "wstring", "time", "duration", "Header"),
}
#: Types that every recorder may take as known.
_KNOWN = ("std_msgs/", "builtin_interfaces/", "geometry_msgs/", "sensor_msgs/", "nav_msgs/")


def definition_problem(encoding: str, type_name: str, definition: bytes) -> str:
    """What is wrong with a type's definition, as half a sentence; empty where nothing is or there is none."""
    if not definition or len(definition) > _MOST_BYTES:
        return ""
    text = definition.decode("utf-8", "replace")
    if encoding in _IDL:
        return "" if "struct" in text else "its definition is no IDL"
    if encoding not in _MSG:
        return ""
    known, used = {type_name}, set()
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line or set(line) == {"="}:
            continue
        if line.startswith("MSG:"):
            known.add(line[4:].strip())
            continue
        field = _FIELD.fullmatch(line)
        if field is None:
            return f"line {number} of its definition is no field: '{shown(line, 60)}'"
        used.add(field[1])
    last = {name.rsplit("/", 1)[-1] for name in known}
    for name in sorted(used - _SIMPLE - known):
        if not name.startswith(_KNOWN) and name.rsplit("/", 1)[-1] not in last:
            return f"its definition does not say what '{shown(name, 60)}' is"
    return ""
