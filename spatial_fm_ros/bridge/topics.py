"""What the ROS graph says of a topic: who publishes it, with which type and QoS."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible

from spatial_fm_ros.bridge.inputs import InputTopic


@dataclass(frozen=True)
class TopicTrouble:
    """Something wrong with a topic as the graph shows it. kind: 'absent', 'type' or 'qos'."""

    kind: str
    sentence: str


def inspect_topic(node: Node, wanted: InputTopic) -> list[TopicTrouble]:
    """Compare the publishers of a topic with what the subscription needs; empty when all is well."""
    publishers = node.get_publishers_info_by_topic(wanted.topic)
    if not publishers:
        return [TopicTrouble("absent", f"{wanted.role}: nobody publishes {wanted.topic}.{_hint(node, wanted)}")]
    troubles = []
    for publisher in publishers:
        who = f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
        if publisher.topic_type != wanted.type_name:
            troubles.append(
                TopicTrouble(
                    "type",
                    f"{wanted.role}: {wanted.topic} of {who} is {publisher.topic_type}; "
                    f"expected {wanted.type_name}. Choose another topic.",
                )
            )
            continue
        verdict, reason = qos_check_compatible(publisher.qos_profile, wanted.qos)
        if verdict == QoSCompatibility.ERROR:
            troubles.append(
                TopicTrouble(
                    "qos",
                    f"{wanted.role}: {wanted.topic} of {who} has incompatible QoS "
                    f"({reason.strip().rstrip(';')}); set image_reliability to "
                    "best_effort, or the publisher to reliable.",
                )
            )
    return troubles


def _hint(node: Node, wanted: InputTopic) -> str:
    """Topics of the right type that are there instead."""
    others = sorted(name for name, types in node.get_topic_names_and_types() if wanted.type_name in types)
    others = [name for name in others if name != wanted.topic and _is_from_elsewhere(node, name)]
    if not others:
        return f" No other topic of type {wanted.type_name} is there either."
    return f" Of type {wanted.type_name} there are: {', '.join(others[:6])}."


def _is_from_elsewhere(node: Node, topic: str) -> bool:
    """Somebody publishes it who is not this node: its own depth is no image to map from."""
    own = (node.get_name(), node.get_namespace())
    publishers = node.get_publishers_info_by_topic(topic)
    return any((each.node_name, each.node_namespace) != own for each in publishers)
