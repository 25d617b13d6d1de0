"""The inputs a configuration asks for: topics, types, QoS, and how they are subscribed to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, PointCloud2

from spatial_fm_ros.bridge import qos
from spatial_fm_ros.core.config import RosConfig
from spatial_fm_ros.core.errors import ConfigError

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError


@dataclass(frozen=True)
class InputTopic:
    """One expected input: its role in this package, resolved topic name, message class and QoS."""

    role: str
    topic: str
    message: type
    qos: QoSProfile

    @property
    def type_name(self) -> str:
        return f"{self.message.__module__.split('.')[0]}/msg/{self.message.__name__}"


def is_compressed(config: RosConfig) -> bool:
    return config.image_compressed or config.image_topic.endswith("/compressed")


def expected_inputs(node: Node, config: RosConfig) -> list[InputTopic]:
    """The inputs a configuration asks for; one with an empty topic is not wanted.

    Raises ConfigError for a name that can be no topic.
    """
    odometry = config.odometry_topic if config.pose_source == "odometry" else ""
    wanted = [
        ("image", config.image_topic, CompressedImage if is_compressed(config) else Image),
        ("camera_info", config.camera_info_topic, CameraInfo),
        ("points", config.points_topic, PointCloud2),
        ("odometry", odometry, Odometry),
        ("imu", config.imu_topic, Imu),
    ]
    return [
        InputTopic(role, _resolved(node, role, topic), message, _input_qos(role, config))
        for role, topic, message in wanted
        if topic
    ]


def _resolved(node: Node, role: str, topic: str) -> str:
    try:
        return str(node.resolve_topic_name(topic))
    except Exception as error:  # rclpy raises its unspecific C error
        raise ConfigError(f"'{topic}' (input '{role}') is no name of a ROS topic: {error}") from error


def _input_qos(role: str, config: RosConfig) -> QoSProfile:
    if role == "image":
        return qos.image_input(config.image_reliability, config.queue_depth)
    # Fast, small messages must outlast the time the pipeline takes for one image.
    return qos.sensor_input(config.queue_depth * (10 if role in ("odometry", "imu") else 1))


def subscribe(node: Node, wanted: InputTopic, callback: Callable[[Any], None], on_lost: Callable[[int], None]) -> Any:
    """A subscription without middleware events, for each costs time in every wait; incompatible QoS is
    seen in the graph. Only the large messages tell of losses: `on_lost` gets how many.
    """

    def create(**events: Any) -> Any:
        return node.create_subscription(
            wanted.message,
            wanted.topic,
            callback,
            wanted.qos,
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False, **events),
        )

    def lost(event: Any) -> None:
        on_lost(int(event.total_count_change))

    if wanted.role not in ("image", "points"):
        return create()
    try:
        return create(message_lost=lost)
    except (TypeError, UnsupportedEventTypeError):  # Humble, or a middleware without that event
        return create()
