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
from spatial_fm_ros.bridge.topic_names import companion_topics
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

    @property
    def is_image(self) -> bool:
        return self.message in (Image, CompressedImage)

    @property
    def is_compressed(self) -> bool:
        return self.message is CompressedImage


def companion_role(number: int) -> str:
    """Role of the images of the rig's other cameras, counted from 1."""
    return f"companion_{number}"


def info_role(image_role: str) -> str:
    """Role of the camera info that belongs to an image's role."""
    return "camera_info" if image_role == "image" else f"{image_role}_info"


def expected_inputs(node: Node, config: RosConfig) -> list[InputTopic]:
    """The inputs a configuration asks for; one with an empty topic is not wanted.

    Raises ConfigError for a name that can be no topic, and for cameras that would share one.
    """
    odometry = config.odometry_topic if config.pose_source == "odometry" else ""
    wanted = [
        ("image", config.image_topic, _image_type(config.image_topic, config.image_compressed)),
        ("camera_info", config.camera_info_topic, CameraInfo),
        ("points", config.points_topic, PointCloud2),
        ("odometry", odometry, Odometry),
        ("imu", config.imu_topic, Imu),
    ]
    for number, (image, info) in enumerate(companion_topics(config), 1):
        role = companion_role(number)
        wanted += [(role, image, _image_type(image)), (info_role(role), info, CameraInfo)]
    inputs = [
        InputTopic(role, _resolved(node, role, topic), message, _input_qos(role, message, config))
        for role, topic, message in wanted
        if topic
    ]
    _refuse_shared(inputs)
    return inputs


def _image_type(topic: str, compressed: bool = False) -> type:
    return CompressedImage if compressed or topic.endswith("/compressed") else Image


def _refuse_shared(inputs: list[InputTopic]) -> None:
    """Every camera has images and calibration of its own."""
    used: dict[str, str] = {}
    for each in inputs:
        if each.is_image or each.message is CameraInfo:
            if each.topic in used:
                raise ConfigError(
                    f"The topic {each.topic} is named twice, for the inputs '{used[each.topic]}' and '{each.role}'; "
                    "every camera needs its own (ros.image_topic, ros.camera_info_topic, "
                    "ros.companion_image_topics, ros.companion_camera_info_topics)."
                )
            used[each.topic] = each.role


def _resolved(node: Node, role: str, topic: str) -> str:
    try:
        return str(node.resolve_topic_name(topic))
    except Exception as error:  # rclpy raises its unspecific C error
        raise ConfigError(f"'{topic}' (input '{role}') is no name of a ROS topic: {error}") from error


def _input_qos(role: str, message: type, config: RosConfig) -> QoSProfile:
    if message in (Image, CompressedImage):
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

    if not (wanted.is_image or wanted.role == "points"):
        return create()
    try:
        return create(message_lost=lost)
    except (TypeError, UnsupportedEventTypeError):  # Humble, or a middleware without that event
        return create()
