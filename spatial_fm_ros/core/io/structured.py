"""JSON and YAML files from anywhere: either plain values of bounded size, or one sentence.

What is read is dictionaries with text as keys (YAML: any scalars), lists, text, numbers, true, false and null; nested
no deeper than `MOST_LEVELS`, so that whoever walks them may recurse. A sentence names the file and the key.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from spatial_fm_ros.core.errors import InputError, SpatialFMError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import read_text

#: Most bytes of a file, unless said otherwise; values take up to a hundred times as many in memory.
JSON_BYTES = 4 * 2**20
YAML_BYTES = 4 * 2**20
#: Most values of a YAML file (an alias counts as all it stands for), and letters of a bare value.
YAML_VALUES = 200_000
_BARE_LETTERS = 4096
MOST_LEVELS = 64
#: Whole numbers beyond these are no count, stamp or size of anything here.
_LEAST, _MOST = -(2**63), 2**64 - 1
_NO_WHOLE_NUMBER = 2**80

# The parser of libyaml is quick and keeps no stack of its own; its composer overflows the machine's.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_json(
    path: str | Path, what: str, error: type[SpatialFMError] = InputError, most_bytes: int = JSON_BYTES
) -> Any:
    """The values of a JSON file (UTF-8); `what` names its kind in errors ("depth index").

    Raises `error` for a file that cannot be read or is too large, for what is no JSON, for NaN and infinite numbers,
    whole numbers beyond 64 bits, a key that stands twice and deep nesting.
    """
    return parse_json(read_text(path, what, most_bytes, error), f"{what} '{shown(path)}'", error)


def parse_json(text: str, name: str, error: type[SpatialFMError] = InputError) -> Any:
    """As `read_json`, from text that is here already; `name` says in errors what it is."""
    try:
        content = json.loads(text, parse_int=_whole_number, object_pairs_hook=_once)
    except RecursionError as reason:
        raise error(f"The {name} is nested deeper than {MOST_LEVELS} levels.") from reason
    except _Twice as reason:
        raise error(f"The {name} has the key '{shown(reason, 80)}' twice; keep one.") from reason
    except json.JSONDecodeError as reason:
        raise error(f"The {name} is no JSON: {reason.msg} in line {reason.lineno}, column {reason.colno}.") from reason
    except (ValueError, MemoryError) as reason:
        raise error(f"The {name} is no JSON: {shown(reason)}.") from reason
    _check_values(content, name, error, finite=True)
    return content


def read_yaml(
    path: str | Path, what: str, error: type[SpatialFMError] = InputError, most_bytes: int = YAML_BYTES
) -> Any:
    """The values of a YAML file (UTF-8, one document); None for an empty one.

    Raises `error` as `read_json` does, also for tags of programs, for aliases that grow beyond `YAML_VALUES` or hold
    themselves. `.nan` and `.inf` are left to whoever knows the key.
    """
    text = read_text(path, what, most_bytes, error)
    name = f"{what} '{shown(path)}'"
    try:
        _check_structure(text, name, error)
        content = yaml.load(text, Loader=_Parser)
    except yaml.YAMLError as reason:
        raise error(f"The {name} is no YAML: {_yaml_problem(reason)}.") from reason
    except (ValueError, OverflowError, RecursionError, MemoryError, TypeError, AttributeError) as reason:
        # Values that look like dates or numbers and are none.
        raise error(f"The {name} holds a value that cannot be read: {shown(reason)}.") from reason
    _check_values(content, name, error, finite=False)
    return content


def mapping(content: Any, name: str, error: type[SpatialFMError] = InputError) -> dict[str, Any]:
    """The content as names and values. Raises `error`, saying what came, where it is something else."""
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise error(f"The {name} must hold names and values, got {type(content).__name__} ({shown(content, 60)}).")
    return content


# -- JSON -------------------------------------------------------------------------------------


class _Twice(ValueError):
    """A key stands twice in one object."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        raise _Twice(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return made


def _whole_number(digits: str) -> int:
    """Python takes quadratic time for long ones, and refuses the longest."""
    return int(digits) if len(digits) <= 20 else _NO_WHOLE_NUMBER


# -- YAML -------------------------------------------------------------------------------------


@dataclass
class _Level:
    """A mapping or sequence that is being read. key: the one whose value comes next; None: a key comes next."""

    is_mapping: bool
    anchor: str | None
    keys: set[tuple[str, str]] = field(default_factory=set)
    key: str | None = None
    values: int = 1


def _check_structure(text: str, name: str, error: type[SpatialFMError]) -> None:
    """Depth, size with aliases written out, and keys that stand twice, before anything is built."""
    levels: list[_Level] = []
    sizes: dict[str, int] = {}
    total = 0
    for event in yaml.parse(text, Loader=_Parser):
        if isinstance(event, yaml.CollectionEndEvent):
            closed = levels.pop()
            if closed.anchor is not None:
                sizes[closed.anchor] = closed.values
            if levels:
                levels[-1].values += closed.values
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        added = 1
        if isinstance(event, yaml.AliasEvent):
            if any(level.anchor == event.anchor for level in levels):
                raise error(f"The {name} holds itself: alias '*{shown(event.anchor, 80)}'{_line(event)}.")
            added = sizes.get(event.anchor or "", 1)
        _enter_key(levels, event, name, error)
        if isinstance(event, yaml.CollectionStartEvent):
            levels.append(_Level(isinstance(event, yaml.MappingStartEvent), event.anchor))
            if len(levels) > MOST_LEVELS:
                raise error(f"The {name} is nested deeper than {MOST_LEVELS} levels{_line(event)}.")
        else:
            if levels:
                levels[-1].values += added
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and len(event.value) > _BARE_LETTERS:
                raise error(
                    f"The {name} has a bare value of {len(event.value)} letters{_line(event)}; put it in quotes."
                )
            if isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
                sizes[event.anchor] = 1
        total += added
        if total > YAML_VALUES:
            raise error(f"The {name} holds more than {YAML_VALUES} values{_line(event)}; is it the right file?")


def _enter_key(levels: list[_Level], event: Any, name: str, error: type[SpatialFMError]) -> None:
    """Keep track of which key of a mapping is read, and that it comes once."""
    if not levels or not levels[-1].is_mapping:
        return
    level = levels[-1]
    if level.key is not None:
        level.key = None  # this is its value
        return
    level.key = getattr(event, "value", "")
    if isinstance(event, yaml.ScalarEvent) and level.key != "<<":
        marked = (event.tag or "", event.value)
        if marked in level.keys:
            raise error(f"The {name} has the key '{shown(event.value, 80)}' twice{_line(event)}; keep one.")
        level.keys.add(marked)


def _line(event: Any) -> str:
    return f" in line {event.start_mark.line + 1}"


def _yaml_problem(reason: yaml.YAMLError) -> str:
    mark = getattr(reason, "problem_mark", None)
    problem = getattr(reason, "problem", None) or getattr(reason, "reason", None) or str(reason)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return f"{shown(' '.join(str(problem).split()))}{where}"


# -- both -------------------------------------------------------------------------------------


def _check_values(content: Any, name: str, error: type[SpatialFMError], finite: bool) -> None:
    """Numbers that nothing can hold, by the key they stand at; and depth."""
    waiting: list[tuple[Any, _Place | None, int]] = [([content], None, -1)]
    while waiting:
        holder, place, level = waiting.pop()
        if level >= MOST_LEVELS:
            raise error(f"The {name} is nested deeper than {MOST_LEVELS} levels{_at(place)}.")
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            here = (place, key, isinstance(holder, dict)) if level >= 0 else None
            if isinstance(value, (dict, list)):
                waiting.append((value, here, level + 1))
            elif isinstance(value, int) and not _LEAST <= value <= _MOST:
                raise error(f"The {name} has a whole number of more than 64 bits{_at(here)}.")
            elif finite and isinstance(value, float) and not math.isfinite(value):
                raise error(f"The {name} has a number that is not finite{_at(here)}.")


#: (the place of what holds it, key or index, whether it is a key)
_Place = tuple[Any, Any, bool]


def _at(place: _Place | None) -> str:
    words = ""
    while place is not None:
        place, key, is_key = place
        words = f".{key}{words}" if is_key else f"[{key}]{words}"
    return f" at '{shown(words.removeprefix('.'), 120)}'" if words else ""
