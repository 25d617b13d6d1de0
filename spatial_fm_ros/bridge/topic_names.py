"""Names of topics that belong together. Needs no ROS."""

from __future__ import annotations

import re

from spatial_fm_ros.core.errors import ConfigError

#: What a topic parameter says where the input shall not be there.
NONE = "none"
COMPRESSED = "/compressed"


def camera_info_beside(image_topic: str) -> str:
    """camera_info in the namespace of an image topic, as image drivers publish it."""
    folder, slash, _ = image_topic.removesuffix(COMPRESSED).rpartition("/")
    return f"{folder}{slash}camera_info"


def is_rectified_name(image_topic: str) -> bool:
    """Whether a topic's images are rectified by image_proc's custom: 'rect' is a word of its last name.

    image_rect, image_rect_color, left_rect/compressed, color/rect/image; not direct/image or rectangle_image.
    """
    names = image_topic.removesuffix("/compressed").split("/")
    words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", names[-1]).lower())
    return "rect" in words or "rectified" in words or names[-2:-1] in (["rect"], ["rectified"])


def transported(image_topic: str, transport: str) -> str:
    """The topic on which an image travels, as image_transport names it."""
    if transport == "compressed" and not image_topic.endswith(COMPRESSED):
        return image_topic.rstrip("/") + COMPRESSED
    return image_topic


def paired(images: list[str], infos: list[str]) -> list[tuple[str, str]]:
    """(images, camera info) of the rig's other cameras, in the order given; empty: beside the images.

    Raises ConfigError where the two lists do not belong together.
    """
    if infos and len(infos) != len(images):
        raise ConfigError(
            f"ros.companion_camera_info_topics names {len(infos)} topics, ros.companion_image_topics {len(images)}; "
            "give one for each camera in the same order, or none, and camera_info beside each image topic is taken."
        )
    return list(zip(images, infos or [""] * len(images), strict=True))


def listed(text: str) -> list[str]:
    """The names of a list separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
