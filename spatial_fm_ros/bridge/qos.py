"""Quality of service of every topic, in one place, and what parameters `qos_overrides.TOPIC.…` change of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

from spatial_fm_ros.bridge.overrides import QOS, given_values
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.core.io.names import shown

PUBLISHER, SUBSCRIPTION = "publisher", "subscription"
_CHOICES: dict[str, Any] = {
    "history": HistoryPolicy,
    "reliability": ReliabilityPolicy,
    "durability": DurabilityPolicy,
    "liveliness": LivelinessPolicy,
}
_TIMES = ("deadline", "lifespan", "liveliness_lease_duration")
#: Parameters every topic has; the other policies have one where a value was given.
_ALWAYS = ("history", "depth", "reliability", "durability")
_DEEPEST = 100_000


def _profile(depth: int, reliable: bool, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def image_input(reliability: str, depth: int) -> QoSProfile:
    """Best effort hears every camera driver; reliable is for lossy links whose driver offers it."""
    return _profile(depth, reliable=reliability == "reliable")


def sensor_input(depth: int) -> QoSProfile:
    """LiDAR, odometry, IMU, CameraInfo: best effort matches both kinds of publisher."""
    return _profile(depth, reliable=False)


def result_output(depth: int = 10) -> QoSProfile:
    """Depth, clouds, poses: reliable, because best effort loses large messages even on one machine."""
    return _profile(depth, reliable=True)


def latched_output() -> QoSProfile:
    """Map and status: a late subscriber gets the last one."""
    return _profile(1, reliable=True, latched=True)


def moving_frames() -> QoSProfile:
    """/tf as tf2 sends and hears it."""
    return _profile(100, reliable=True)


def static_frames() -> QoSProfile:
    """/tf_static as tf2 hears it."""
    return _profile(100, reliable=True, latched=True)


def overridden(node: Node, kind: str, topic: str, profile: QoSProfile) -> QoSProfile:
    """The profile with the policies that the node's parameters `qos_overrides.TOPIC.KIND.POLICY` give.

    The parameters are declared on `node`, the one that users know, also for what its helper nodes subscribe to
    (rclpy's QoSOverridingOptions declare them on whoever subscribes). `kind`: PUBLISHER or SUBSCRIPTION; `topic`
    is resolved as the node's. Raises ConfigError for a value that a policy cannot take.
    """
    result = copy.copy(profile)
    prefix = f"{QOS}{node.resolve_topic_name(topic)}.{kind}."
    values = given_values(node)
    policies = [*_ALWAYS, *(p for p in ("liveliness", *_TIMES) if p != "lifespan" or kind == PUBLISHER)]
    for policy in policies:
        name = prefix + policy
        if name in values:
            setattr(result, policy, _value(name, values[name]))
        elif policy not in _ALWAYS:
            continue
        if node.has_parameter(name):  # subscribed to before, with another default perhaps
            node.undeclare_parameter(name)
        descriptor = ParameterDescriptor(description="quality of service of the topic, fixed at start")
        node.declare_parameter(name, _shown(result, policy), descriptor, ignore_override=True)
    return result


def check_overrides(values: Mapping[str, Any]) -> None:
    """Raises ConfigError for a value of a policy that no topic could have. Names are looked at when the topics are
    known."""
    for name, value in values.items():
        if name.startswith(QOS) and name.rpartition(".")[2] in (*_CHOICES, *_TIMES, "depth"):
            _value(name, value)


def _value(name: str, value: Any) -> Any:
    """What the policy that `name` ends in becomes."""
    policy = name.rpartition(".")[2]
    if policy in _CHOICES:
        choices = {each.name.lower(): each for each in _CHOICES[policy] if each.name != "UNKNOWN"}
        if not isinstance(value, str) or value.lower() not in choices:
            raise ConfigError(f"Parameter '{shown(name)}' takes one of {', '.join(choices)}, got {shown(repr(value))}.")
        return choices[value.lower()]
    if isinstance(value, bool) or not isinstance(value, int):
        unit = "a number of messages" if policy == "depth" else "a whole number of nanoseconds"
        raise ConfigError(f"Parameter '{shown(name)}' takes {unit}, got {shown(repr(value))}.")
    low, high = (1, _DEEPEST) if policy == "depth" else (0, 2**63 - 1)
    if not low <= value <= high:
        raise ConfigError(f"Parameter '{shown(name)}' takes {low} to {high}, got {value}.")
    return value if policy == "depth" else Duration(nanoseconds=value)


def _shown(profile: QoSProfile, policy: str) -> str | int:
    """A policy as its parameter has it."""
    value = getattr(profile, policy)
    if policy in _CHOICES:
        return str(value.name).lower()
    return int(value.nanoseconds if isinstance(value, Duration) else value)
