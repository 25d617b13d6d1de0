"""The parameters of `Config` by dotted name: their description, their values, and every check of them.

All of it is made from the fields of `core/config.py`. Every refusal names the parameter, what was
expected, what came and, for an unknown name, the nearest valid one.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, get_type_hints

from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.core.io.names import shown

Value = bool | int | float | str
#: What ROS parameters hold.
_LEAST_INT, _MOST_INT = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Parameter:
    """One parameter: dotted name, type (bool, int, float or str), default, doc and limits (None: none)."""

    name: str
    type: type
    default: Value
    doc: str
    low: float | None
    high: float | None
    choices: tuple[str, ...] | None

    @property
    def limits(self) -> str:
        """The choices or bounds in words; empty where there are none."""
        if self.choices is not None:
            return ", ".join(self.choices)
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        if self.low is not None:
            return f">= {self.low:g}"
        return f"<= {self.high:g}" if self.high is not None else ""


def describe() -> list[Parameter]:
    """All parameters in the order of `core/config.py`."""
    return list(_parameters(Config(), ""))


def flatten(config: Config) -> dict[str, Value]:
    """Every value by its dotted name, in the order of `core/config.py`."""
    return {name: value for name, value, _ in _leaves(config, "")}


def from_flat(values: Mapping[str, object], base: Config | None = None) -> Config:
    """`base` (default: all defaults) with some values replaced. Raises ConfigError; see `load_config`."""
    config: Config = _replaced(base if base is not None else Config(), checked(values), "")
    _check_together(config)
    return config


def checked(values: Mapping[str, object]) -> dict[str, Value]:
    """The values, each of the type and within the bounds of its parameter. Raises ConfigError."""
    known = {p.name: p for p in describe()}
    for name in values:
        if name not in known:
            raise ConfigError(_unknown(name, list(known)))
    return {name: _checked(known[name], value) for name, value in values.items()}


def section_doc(name: str) -> str:
    """The one-line doc of a section, by its dotted name."""
    node: Any = Config
    doc = ""
    for part in name.split("."):
        doc = next(f for f in fields(node) if f.name == part).metadata["doc"]
        node = get_type_hints(node)[part]
    return doc


# -- the dataclasses --------------------------------------------------------------------------


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Value, Mapping[str, Any]]]:
    for f in fields(node):
        value = getattr(node, f.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", value, f.metadata


def _parameters(node: Any, prefix: str) -> Iterator[Parameter]:
    for name, value, meta in _leaves(node, prefix):
        yield Parameter(name, type(value), value, meta["doc"], meta["low"], meta["high"], meta["choices"])


def _replaced(node: Any, values: Mapping[str, Value], prefix: str) -> Any:
    changes: dict[str, Any] = {}
    for f in fields(node):
        value = getattr(node, f.name)
        if is_dataclass(value):
            changes[f.name] = _replaced(value, values, f"{prefix}{f.name}.")
        elif f"{prefix}{f.name}" in values:
            changes[f.name] = values[f"{prefix}{f.name}"]
    return replace(node, **changes)


# -- checks -----------------------------------------------------------------------------------


def _checked(p: Parameter, value: object) -> Value:
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[p.type]
    fits = isinstance(value, p.type) and isinstance(value, bool) == (p.type is bool)
    if isinstance(value, int) and not _LEAST_INT <= value <= _MOST_INT:
        fits = False
    elif p.type is float and isinstance(value, int) and not isinstance(value, bool):
        value, fits = float(value), True
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"Parameter '{p.name}' takes {wanted}, got {_said(value)}.")
    if p.choices is not None and value not in p.choices:
        raise ConfigError(f"Parameter '{p.name}' takes one of {', '.join(p.choices)}, got {_said(value)}.")
    if isinstance(value, (int, float)):
        if p.low is not None and value < p.low:
            raise ConfigError(f"Parameter '{p.name}' must be at least {p.low:g}, got {value:g}.")
        if p.high is not None and value > p.high:
            raise ConfigError(f"Parameter '{p.name}' must be at most {p.high:g}, got {value:g}.")
    assert isinstance(value, (bool, int, float, str))
    return value


def _said(value: object) -> str:
    """A value as it is named in a refusal."""
    return f"'{shown(value, 80)}'" if isinstance(value, str) else shown(value, 80)


def _check_together(config: Config) -> None:
    """What no single bound can say."""
    for name in ("map_frame", "odom_frame", "base_frame"):
        _check_frame(f"ros.{name}", getattr(config.ros, name))
    window, intake, scale = config.window, config.intake, config.scale
    if window.overlap >= window.size:
        raise ConfigError(
            f"Parameter 'window.overlap' must be below 'window.size', got {window.overlap} and {window.size}."
        )
    if intake.dark_level >= intake.bright_level:
        raise ConfigError(
            "Parameter 'intake.dark_level' must be below 'intake.bright_level', "
            f"got {intake.dark_level:g} and {intake.bright_level:g}."
        )
    if intake.min_interval_s > intake.max_interval_s:
        raise ConfigError(
            "Parameter 'intake.min_interval_s' must not exceed 'intake.max_interval_s', "
            f"got {intake.min_interval_s:g} and {intake.max_interval_s:g}."
        )
    if scale.metric_sigma > scale.lost_sigma:
        raise ConfigError(
            "Parameter 'scale.metric_sigma' must not exceed 'scale.lost_sigma', "
            f"got {scale.metric_sigma:g} and {scale.lost_sigma:g}."
        )


def _check_frame(name: str, frame: str) -> None:
    """A name that tf2 takes."""
    if not frame.strip(" /"):
        raise ConfigError(f"Parameter '{name}' takes the name of a frame, got {frame!r}.")
    if frame.startswith("/"):
        raise ConfigError(
            f"Parameter '{name}' takes a frame without leading slash, as tf2 does, got '{shown(frame)}'; "
            f"write '{shown(frame.lstrip('/'))}'."
        )


def nearest(name: str, known: Sequence[str]) -> str:
    """The names that `name` was likely meant to be, in a question; empty where none is like it.

    Looks past a missing or wrong section, case, leading slashes and other separators than the dot.
    """
    bare = _plain(name)
    plain = {k: _plain(k) for k in known}
    last = bare.rpartition(".")[2]
    found = [k for k in known if plain[k] == bare] or [k for k in known if plain[k].rpartition(".")[2] == last]
    if not found:
        inside = [k for k in known if plain[k].startswith(f"{bare}.")]
        if inside:  # the name of a section
            shown_first = ", ".join(f"'{k}'" for k in inside[:3])
            return f"it is a section of parameters: {shown_first}{', …' if len(inside) > 3 else ''}."
        found = _alike(bare, plain) or _alike(last, {k: p.rpartition(".")[2] for k, p in plain.items()})
    return f"did you mean {' or '.join(repr(k) for k in found[:3])}?" if found else ""


def _plain(name: str) -> str:
    return re.sub(r"[./]+", ".", name.strip(" ~/.").lower().replace("-", "_"))


def _alike(name: str, plain: Mapping[str, str]) -> list[str]:
    near = difflib.get_close_matches(name[:200], list(plain.values()), 1, 0.7)
    return [k for k, p in plain.items() if near and p == near[0]]


def _unknown(name: str, known: Sequence[str]) -> str:
    hint = nearest(name, known) or "docs/parameters.md lists all of them."
    return f"Unknown parameter '{shown(name)}'; {hint}"
