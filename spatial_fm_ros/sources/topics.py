"""Which topics of a bag are the camera, its calibration, LiDAR, odometry and IMU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.sources.bag_files import TopicInfo
from spatial_fm_ros.sources.base import SourceOptions

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POINTS, ODOMETRY, IMU = "sensor_msgs/msg/PointCloud2", "nav_msgs/msg/Odometry", "sensor_msgs/msg/Imu"
TF = "tf2_msgs/msg/TFMessage"


@dataclass(frozen=True)
class Topics:
    """The chosen topics; empty = none. `compressed`: the image topic is a CompressedImage."""

    image: str
    compressed: bool
    camera_info: str = ""
    points: str = ""
    odometry: str = ""
    imu: str = ""

    @property
    def rectified(self) -> bool:
        """By the naming convention of image_proc the images are already rectified."""
        return any("rect" in part for part in base_image_topic(self.image).rsplit("/", 1)[-1:])


def base_image_topic(topic: str) -> str:
    """The raw image topic a transport (…/compressed) belongs to."""
    return topic.removesuffix("/compressed")


def choose_topics(
    topics: Mapping[str, TopicInfo],
    options: SourceOptions,
    encoding_of: Callable[[str], str],
    path: object,
) -> Topics:
    """Topics named in the options, the others by type. `encoding_of(topic)` is of its first image.

    Raises InputError when a named topic is absent or of another type, when there is no image topic,
    or when several topics qualify; the sentence names the candidates and the option.
    """
    image = _named(topics, options.image_topic, (IMAGE, COMPRESSED), "image", path)
    if not image:
        image = _single(_colour_topics(topics, encoding_of), "image", path)
    if not image:
        raise InputError(
            f"The bag {path} holds no camera images ({IMAGE} or CompressedImage); its topics are {_listing(topics)}."
        )
    found = Topics(image, topics[image].type == COMPRESSED)
    chosen = {}
    for field, kind in (("points", POINTS), ("odometry", ODOMETRY), ("imu", IMU)):
        name = _named(topics, getattr(options, f"{field}_topic"), (kind,), field, path)
        if not name and getattr(options, f"{field}_topic") != "none":
            name = _single(_of_type(topics, (kind,)), field, path)
        chosen[field] = name
    if options.pose_source != "odometry":
        chosen["odometry"] = ""
    return Topics(found.image, found.compressed, _camera_info(topics, options, image, path), **chosen)


def _camera_info(topics: Mapping[str, TopicInfo], options: SourceOptions, image: str, path: object) -> str:
    name = _named(topics, options.camera_info_topic, (CAMERA_INFO,), "camera_info", path)
    if name or options.camera_info_topic == "none":
        return name
    namespace = base_image_topic(image).rsplit("/", 1)[0]
    beside = f"{namespace}/camera_info"
    if beside in topics and topics[beside].type == CAMERA_INFO:
        return beside
    infos = _of_type(topics, (CAMERA_INFO,))
    inside = [info for info in infos if namespace and info.startswith(f"{namespace}/")]
    return _single(inside or infos, "camera_info", path)


def _colour_topics(topics: Mapping[str, TopicInfo], encoding_of: Callable[[str], str]) -> list[str]:
    """Image topics without depth images, and without the compressed twin of a raw topic."""
    names = [
        name
        for name in _of_type(topics, (IMAGE, COMPRESSED))
        if not name.endswith(("/compressedDepth", "/theora", "/zstd"))
    ]
    names = [name for name in names if not (name != base_image_topic(name) and base_image_topic(name) in names)]
    if len(names) > 1:
        names = [name for name in names if not is_depth_encoding(encoding_of(name))]
    if len(names) > 1:  # 16-bit grey may be depth as well as a thermal camera: a colour or 8-bit topic goes first
        names = [name for name in names if encoding_of(name) != "mono16"] or names
    return names


def is_depth_encoding(encoding: str) -> bool:
    """Whether an Image.encoding or CompressedImage.format holds depth rather than colour."""
    return encoding.startswith(("16UC1", "32FC1", "64FC1")) or "compressedDepth" in encoding


def _of_type(topics: Mapping[str, TopicInfo], kinds: Iterable[str]) -> list[str]:
    wanted = set(kinds)
    return [name for name, info in topics.items() if info.type in wanted]


def _named(topics: Mapping[str, TopicInfo], name: str, kinds: tuple[str, ...], field: str, path: object) -> str:
    """The topic an option asks for ('' when it asks for none), checked for presence and type."""
    if not name or (name == "none" and field != "image"):
        return ""
    full = name if name in topics else f"/{name.lstrip('/')}"
    if full not in topics:
        fitting = _of_type(topics, kinds)
        there = f"topics of that type are {', '.join(fitting)}" if fitting else f"its topics are {_listing(topics)}"
        raise InputError(f"The bag {path} has no topic '{name}' for {option(field)}; {there}.")
    if topics[full].type not in kinds:
        fitting = _of_type(topics, kinds)
        hint = f"of that type are {', '.join(fitting)}" if fitting else "there is none of that type"
        raise InputError(
            f"The topic '{full}' given for {option(field)} is a {topics[full].type}, "
            f"expected {' or '.join(kinds)}; {hint}."
        )
    return full


def _single(names: list[str], field: str, path: object) -> str:
    if len(names) > 1:
        none = "" if field == "image" else " ('none' for none)"
        raise InputError(
            f"The bag {path} has several topics that could be the {field} input: {', '.join(names)}; "
            f"choose one with {option(field)}{none}."
        )
    return names[0] if names else ""


def option(field: str) -> str:
    """The command-line option and parameter of an input."""
    return f"--{field.replace('_', '-')}-topic (ros.{field}_topic)"


def _listing(topics: Mapping[str, TopicInfo]) -> str:
    return ", ".join(f"{info.name} ({info.type})" for info in topics.values()) or "none at all"
