"""ROS parameters from core/config.py: one per field, described, checked and mostly fixed at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from spatial_fm_ros.bridge.overrides import QOS, given_values
from spatial_fm_ros.bridge.qos import check_overrides
from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.config_files import describe, from_flat
from spatial_fm_ros.core.config_schema import nearest
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.core.io.names import shown

#: Parameters that may change while the node is configured; all others need a clean-up first.
RUNTIME = ("ros.require_metric", "ros.publish_tf", "ros.missing_after_s")

_TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
}


class Parameters:
    """Declares every parameter of the package on a node and reads them back as a Config."""

    def __init__(self, node: Node, is_fixed: Callable[[], bool], on_change: Callable[[Config], None]) -> None:
        """`is_fixed` says whether only RUNTIME parameters may change now; `on_change` gets the new Config.

        Raises ConfigError for a value given at start (command line, launch, YAML) that cannot be used.
        """
        self._node = node
        self._is_fixed = is_fixed
        self._on_change = on_change
        self._names = [entry.name for entry in describe()]
        for entry in describe():
            node.declare_parameter(entry.name, entry.default, _descriptor(entry), ignore_override=True)
        node.add_on_set_parameters_callback(self._check)
        self._apply_overrides()

    def config(self, changes: dict[str, Any] | None = None) -> Config:
        """The configuration the parameters hold. Raises ConfigError."""
        values = {name: self._node.get_parameter(name).value for name in self._names}
        return from_flat(values | (changes or {}))

    def _apply_overrides(self) -> None:
        """Values given at start, all together: one by one, `window.size` could clash with a default."""
        # Declaring with overrides answers a wrong value with a traceback.
        values = given_values(self._node)
        check_overrides(values)
        known = {name: values[name] for name in self._names if name in values}
        from_flat(known)  # rclpy would not name a parameter of a wrong type
        if known:
            overrides = self._node._parameter_overrides
            self._node.set_parameters_atomically([overrides[name] for name in known])

    def refusal(self, parameters: list[Parameter]) -> SetParametersResult | None:
        """The answer to setting what is no parameter, None for what is one; rclpy's own answer names no remedy."""
        unknown = [each.name for each in parameters if not self._node.has_parameter(each.name)]
        if not unknown:
            return None
        near = nearest(unknown[0], [*self._names, "use_sim_time"]) or "`ros2 param list` shows all there are."
        return SetParametersResult(successful=False, reason=f"Unknown parameter '{shown(unknown[0])}'; {near}")

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        fixed = [each.name for each in parameters if each.name.startswith(QOS) and self._node.has_parameter(each.name)]
        if fixed:
            return SetParametersResult(
                successful=False, reason=f"'{fixed[0]}' is fixed; give it at start (command line, YAML or launch)."
            )
        changes = {each.name: each.value for each in parameters if each.name in self._names}
        if not changes:
            return SetParametersResult(successful=True)
        frozen = [name for name in changes if name not in RUNTIME]
        if frozen and self._is_fixed():
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(frozen)} cannot change while the node is configured; bring it to "
                f"'unconfigured' first (ros2 lifecycle set … cleanup). At run time: {', '.join(RUNTIME)}.",
            )
        try:
            config = self.config(changes)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._on_change(config)
        return SetParametersResult(successful=True)


def _descriptor(entry: Any) -> ParameterDescriptor:
    """Type, bounds and doc line of one config field as ROS shows them."""
    descriptor = ParameterDescriptor(
        name=entry.name,
        type=_TYPES[type(entry.default)],
        description=entry.doc,
        # A whole number for a float parameter ("rate: 1") is no mistake; from_flat checks the type.
        dynamic_typing=isinstance(entry.default, float),
    )
    if entry.choices:
        descriptor.additional_constraints = f"one of: {', '.join(entry.choices)}"
    if isinstance(entry.default, float):
        low, high = _bounds(entry, 1.7e308)
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    elif isinstance(entry.default, int) and not isinstance(entry.default, bool):
        low, high = _bounds(entry, 2**62)
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor


def _bounds(entry: Any, most: float) -> tuple[float, float]:
    return (-most if entry.low is None else entry.low), (most if entry.high is None else entry.high)
