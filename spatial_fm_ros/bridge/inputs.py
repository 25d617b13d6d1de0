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
from spatial_fm_ros.bridge.topic_names import COMPRESSED, NONE, camera_info_beside, listed, paired, transported
from spatial_fm_ros.core.config import RosConfig
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.core.io.names import shown

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError


#: Cameras beside the first one.
MOST_COMPANIONS = 16


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


def asked_topic(node: Node, role: str, topic: str) -> str:
    """The name that the parameter of an input asks for; empty where the input shall not be there.

    An empty parameter stands for the role's own name when a remapping rule is for that (`-r points:=/velodyne_points`).
    """
    if topic == NONE:
        return ""
    return topic or (role if _is_remapped(node, role) else "")


def expected_inputs(node: Node, config: RosConfig) -> list[InputTopic]:
    """The inputs a configuration asks for, with names and QoS as `node`'s parameters and remappings have them.

    Raises ConfigError for a name that can be no topic, for cameras that would share one, and for QoS that cannot be.
    """
    odometry = config.odometry_topic if config.pose_source == "odometry" else NONE
    others = [
        ("points", config.points_topic, PointCloud2),
        ("odometry", odometry, Odometry),
        ("imu", config.imu_topic, Imu),
    ]
    if config.image_topic in ("", NONE):
        raise ConfigError("ros.image_topic names no topic, and nothing is mapped without images; name the camera's.")
    wanted = _camera(node, config, "image", config.image_topic, config.camera_info_topic)
    for role, topic, message in others:
        _tell_idle_remapping(node, role, topic)
        if name := asked_topic(node, role, topic):
            wanted.append((role, _resolved(node, role, name), message))
    for role, image, info in _companions(node, config):
        wanted += _camera(node, config, role, image, info)
    _refuse_shared(wanted)
    return [InputTopic(*each, _input_qos(node, *each, config)) for each in wanted]


_Wanted = tuple[str, str, type]  # role, resolved topic, message


def _camera(node: Node, config: RosConfig, role: str, image: str, info: str) -> list[_Wanted]:
    """Images and camera info of one camera."""
    _tell_idle_remapping(node, role, image)
    _tell_idle_remapping(node, info_role(role), info)
    topic = transported(_resolved(node, role, image), config.image_transport)
    compressed = topic.endswith(COMPRESSED) or (role == "image" and config.image_compressed)
    wanted: list[_Wanted] = [(role, topic, CompressedImage if compressed else Image)]
    if info != NONE:
        name = asked_topic(node, info_role(role), info) or camera_info_beside(topic)
        wanted.append((info_role(role), _resolved(node, info_role(role), name), CameraInfo))
    return wanted


def _companions(node: Node, config: RosConfig) -> list[tuple[str, str, str]]:
    """(role, images, camera info) of the rig's other cameras; names without a parameter come from remappings."""
    if config.companion_image_topics == NONE:
        return []
    roles = [companion_role(number) for number in range(1, 1 + MOST_COMPANIONS)]
    images = listed(config.companion_image_topics)
    if not images:
        images = roles = [role for role in roles if _is_remapped(node, role)]
    no_infos = config.companion_camera_info_topics == NONE
    infos = [NONE] * len(images) if no_infos else listed(config.companion_camera_info_topics)
    if len(images) > len(roles):
        raise ConfigError(f"ros.companion_image_topics names {len(images)} topics; {MOST_COMPANIONS} are the most.")
    return [(role, image, info) for role, (image, info) in zip(roles, paired(images, infos))]


def _is_remapped(node: Node, name: str) -> bool:
    """A rule of the command line or of a launch file is for this name."""
    return bool(node.resolve_topic_name(name) != node.resolve_topic_name(name, only_expand=True))


def _tell_idle_remapping(node: Node, role: str, topic: str) -> None:
    """A rule for the role's name says nothing where the parameter has another name."""
    if topic not in ("", role) and _is_remapped(node, role):
        node.get_logger().warning(
            f"The remapping of '{role}' has no effect: the parameter of this input names '{shown(topic)}'. Remap that "
            "name, or leave the parameter out."
        )


def _refuse_shared(wanted: list[_Wanted]) -> None:
    """Every camera has images and calibration of its own."""
    used: dict[str, str] = {}
    for role, topic, message in wanted:
        if message in (Image, CompressedImage, CameraInfo):
            if topic in used:
                raise ConfigError(
                    f"The topic {topic} is named twice, for the inputs '{used[topic]}' and '{role}'; "
                    "every camera needs its own (ros.image_topic, ros.camera_info_topic, "
                    "ros.companion_image_topics, ros.companion_camera_info_topics)."
                )
            used[topic] = role


def _resolved(node: Node, role: str, topic: str) -> str:
    try:
        return str(node.resolve_topic_name(topic))
    except Exception as error:  # rclpy raises its unspecific C error
        raise ConfigError(f"'{shown(topic)}' (input '{role}') is no name of a ROS topic: {error}") from error


def _input_qos(node: Node, role: str, topic: str, message: type, config: RosConfig) -> QoSProfile:
    if message in (Image, CompressedImage):
        profile = qos.image_input(config.image_reliability, config.queue_depth)
    else:
        # Fast, small messages must outlast the time the pipeline takes for one image.
        profile = qos.sensor_input(config.queue_depth * (10 if role in ("odometry", "imu") else 1))
    return qos.overridden(node, qos.SUBSCRIPTION, topic, profile)


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
