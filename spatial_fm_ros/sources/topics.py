"""Which topics of a bag are the cameras, their calibration, LiDAR, odometry and IMU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from spatial_fm_ros.bridge.topic_names import camera_info_beside, is_rectified_name
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.sources.bag_files import TopicInfo
from spatial_fm_ros.sources.base import SourceOptions, topic_list

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POINTS, ODOMETRY, IMU = "sensor_msgs/msg/PointCloud2", "nav_msgs/msg/Odometry", "sensor_msgs/msg/Imu"
TF = "tf2_msgs/msg/TFMessage"


#: With more image topics than this none is looked at to find the one that is meant.
LOOKED_AT = 64
#: Inputs whose option takes several topics.
LISTS = ("companion_image", "companion_camera_info")


@dataclass(frozen=True)
class CameraTopics:
    """One camera's topics; no CameraInfo = empty. `compressed`: the image topic is a CompressedImage."""

    image: str
    compressed: bool
    camera_info: str = ""

    @property
    def rectified(self) -> bool:
        """By the naming convention of image_proc the images are already rectified."""
        return is_rectified_name(self.image)


@dataclass(frozen=True)
class Topics:
    """The chosen topics; empty = none. companions: the rig's other cameras."""

    camera: CameraTopics
    companions: tuple[CameraTopics, ...] = ()
    points: str = ""
    odometry: str = ""
    imu: str = ""

    @property
    def cameras(self) -> tuple[CameraTopics, ...]:
        return (self.camera, *self.companions)


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
    every, topics = topics, carries_messages(topics)
    _refuse_empty(every, options, path)
    companions = _companions(topics, options, path)
    others = [camera.image for camera in companions]
    image = _named(topics, options.image_topic, (IMAGE, COMPRESSED), "image", path)
    if not image:
        names = [name for name in colour_topics(topics, encoding_of) if name not in others]
        more = f"; others of the same rig may come along with {option('companion_image')}"
        image = _single(names, "image", path, "" if options.companion_image_topics == "none" else more)
    if image in others:
        raise InputError(
            f"The topic '{shown(image)}' is given for {option('image')} and for {option('companion_image')} too."
        )
    if not image:
        raise InputError(
            f"The bag {shown(path)} holds no camera images ({IMAGE} or CompressedImage); its topics are "
            f"{_listing(topics)}{_empty(every)}."
        )
    chosen = {}
    for field, kind in (("points", POINTS), ("odometry", ODOMETRY), ("imu", IMU)):
        name = _named(topics, getattr(options, f"{field}_topic"), (kind,), field, path)
        if not name and getattr(options, f"{field}_topic") != "none":
            name = _single(_of_type(topics, (kind,)), field, path)
        chosen[field] = name
    if options.pose_source != "odometry":
        chosen["odometry"] = ""
    info = _camera_info(topics, options, image, [camera.camera_info for camera in companions], path)
    return Topics(CameraTopics(image, topics[image].type == COMPRESSED, info), companions, **chosen)


def carries_messages(topics: Mapping[str, TopicInfo]) -> dict[str, TopicInfo]:
    """Without the topics that are known to hold no message: recorders list what never came, too."""
    return {name: info for name, info in topics.items() if info.count != 0}


def _refuse_empty(topics: Mapping[str, TopicInfo], options: SourceOptions, path: object) -> None:
    """Raises InputError where an option names a topic without messages."""
    fields = [(field, getattr(options, f"{field}_topic")) for field in ("image", "camera_info", "points", "imu")]
    fields += [("odometry", options.odometry_topic)] if options.pose_source == "odometry" else []
    for field in LISTS:
        fields += [(field, name) for name in topic_list(getattr(options, f"{field}_topics"))]
    for field, name in fields:
        info = topics.get(name) or topics.get(f"/{name.lstrip('/')}")
        if not name or info is None or info.count != 0:
            continue
        fitting = [other.name for other in topics.values() if other.type == info.type and other.count != 0]
        there = _names(fitting) if fitting else "there is none"
        raise InputError(
            f"The topic '{shown(info.name)}' given for {option(field)} holds no message in the bag {shown(path)}; "
            f"of that type and with messages: {there}."
        )


def _camera_info(
    topics: Mapping[str, TopicInfo], options: SourceOptions, image: str, of_others: list[str], path: object
) -> str:
    name = _named(topics, options.camera_info_topic, (CAMERA_INFO,), "camera_info", path)
    if name or options.camera_info_topic == "none":
        return name
    if beside := info_beside(topics, image):
        return beside
    namespace = base_image_topic(image).rsplit("/", 1)[0]
    infos = [info for info in _of_type(topics, (CAMERA_INFO,)) if info not in of_others]
    inside = [info for info in infos if namespace and info.startswith(f"{namespace}/")]
    return _single(inside or infos, "camera_info", path)


def info_beside(topics: Mapping[str, TopicInfo], image: str) -> str:
    """The CameraInfo topic in the namespace of an image topic, empty where there is none."""
    beside = camera_info_beside(image)
    return beside if beside in topics and topics[beside].type == CAMERA_INFO else ""


def _companions(topics: Mapping[str, TopicInfo], options: SourceOptions, path: object) -> tuple[CameraTopics, ...]:
    """The rig's other cameras as the options name them. Raises InputError, also for one without CameraInfo."""
    images, infos = topic_list(options.companion_image_topics), topic_list(options.companion_camera_info_topics)
    if infos and len(infos) != len(images) and options.companion_image_topics != "none":
        raise InputError(
            f"{option('companion_image')} names {len(images)} topics and {option('companion_camera_info')} names "
            f"{len(infos)}; give as many, in the same order, or no camera info for that beside each image topic."
        )
    cameras: list[CameraTopics] = []
    for i, name in enumerate(images):
        image = _named(topics, name, (IMAGE, COMPRESSED), "companion_image", path)
        if image in [camera.image for camera in cameras]:
            raise InputError(f"The topic '{shown(image)}' is given twice for {option('companion_image')}.")
        info = _named(topics, infos[i], (CAMERA_INFO,), "companion_camera_info", path) if infos else ""
        info = info or info_beside(topics, image)
        if not info:
            fitting = _names(_of_type(topics, (CAMERA_INFO,))) or "none"
            raise InputError(
                f"The bag {shown(path)} has no '{shown(camera_info_beside(image))}' with messages, and "
                f"'{shown(image)}' needs a calibration: name it with {option('companion_camera_info')}; topics of that "
                f"type are {fitting}."
            )
        cameras.append(CameraTopics(image, topics[image].type == COMPRESSED, info))
    return tuple(cameras)


def colour_topics(topics: Mapping[str, TopicInfo], encoding_of: Callable[[str], str]) -> list[str]:
    """Image topics without depth images, and without the compressed twin of a raw topic."""
    names = [
        name
        for name in _of_type(topics, (IMAGE, COMPRESSED))
        if not name.endswith(("/compressedDepth", "/theora", "/zstd"))
    ]
    names = [name for name in names if not (name != base_image_topic(name) and base_image_topic(name) in names)]
    if len(names) > LOOKED_AT:
        return names
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
        there = f"topics of that type are {_names(fitting)}" if fitting else f"its topics are {_listing(topics)}"
        raise InputError(f"The bag {shown(path)} has no topic '{shown(name)}' for {option(field)}; {there}.")
    if topics[full].type not in kinds:
        fitting = _of_type(topics, kinds)
        hint = f"of that type are {_names(fitting)}" if fitting else "there is none of that type"
        raise InputError(
            f"The topic '{shown(full)}' given for {option(field)} is a {shown(topics[full].type)}, "
            f"expected {' or '.join(kinds)}; {hint}."
        )
    return full


def _single(names: Sequence[str], field: str, path: object, more: str = "") -> str:
    if len(names) > 1:
        none = "" if field == "image" else " ('none' for none)"
        raise InputError(
            f"The bag {shown(path)} has several topics that could be the {field} input: {_names(names)}; "
            f"choose one with {option(field)}{none}{more}."
        )
    return names[0] if names else ""


def option(field: str) -> str:
    """The command-line option and parameter of an input."""
    name = f"{field}_topics" if field in LISTS else f"{field}_topic"
    return f"--{name.replace('_', '-')} (ros.{name})"


def _listing(topics: Mapping[str, TopicInfo]) -> str:
    """Topics with their types, for a sentence."""
    return _names([f"{info.name} ({info.type})" for info in topics.values()]) or "none at all"


def _empty(topics: Mapping[str, TopicInfo]) -> str:
    """The image topics that hold no message, for a sentence that says that there are no images."""
    empty = [info.name for info in topics.values() if info.type in (IMAGE, COMPRESSED) and info.count == 0]
    return f"; {_names(empty)} would be, but hold no message" if empty else ""


def _names(names: Sequence[str], most: int = 30) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name, 100) for name in names[:most]) + more
