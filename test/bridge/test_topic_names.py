"""Which topics belong together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatial_fm_ros.bridge.topic_names import camera_info_beside, is_rectified_name, listed, paired, transported
from spatial_fm_ros.core.errors import ConfigError

NAMES = st.lists(st.from_regex(r"/?[a-z]+(/[a-z0-9_]+){0,3}", fullmatch=True), max_size=4)


@pytest.mark.parametrize(
    ("image", "info"),
    [
        ("/cam/image_raw", "/cam/camera_info"),
        ("/cam/image_raw/compressed", "/cam/camera_info"),
        ("image", "camera_info"),
        ("/image", "/camera_info"),
        ("left/image/compressed", "left/camera_info"),
    ],
)
def test_camera_info_lies_beside_the_image(image, info):
    assert camera_info_beside(image) == info


@pytest.mark.parametrize(
    ("image", "rectified"),
    [
        ("/cam/image_rect", True),
        ("/cam/image_rect_color/compressed", True),
        ("left/imageRect", True),
        ("/zed/rgb/color/rect/image", True),
        ("/infra1/image_rect_raw", True),
        ("/cam/image_rectified", True),
        ("/cam/image_raw", False),
        ("/cam/direct", False),
        ("/cam/rectangle_image", False),
        ("/rect_robot/image_raw", False),
        ("/cam/image_unrectified", False),
    ],
)
def test_rect_is_a_word_of_the_name(image, rectified):
    assert is_rectified_name(image) is rectified


@pytest.mark.parametrize(
    ("image", "transport", "topic"),
    [
        ("/cam/image", "raw", "/cam/image"),
        ("/cam/image", "compressed", "/cam/image/compressed"),
        ("/cam/image/compressed", "compressed", "/cam/image/compressed"),
        ("/cam/image/compressed", "raw", "/cam/image/compressed"),
    ],
)
def test_images_travel_where_image_transport_sends_them(image, transport, topic):
    assert transported(image, transport) == topic


@given(NAMES, st.booleans(), st.sampled_from([",", ", ", " , "]))
def test_lists_keep_their_order_and_infos_may_be_left_out(images, named, comma):
    infos = [f"{image}/info" for image in images] if named else []
    assert listed(comma.join(images)) == images
    assert paired(images, infos) == list(zip(images, infos or [""] * len(images), strict=True))


@given(NAMES, NAMES.filter(len))
def test_lists_of_different_length_are_refused(images, infos):
    if len(images) == len(infos):
        assert len(paired(images, infos)) == len(images)
        return
    with pytest.raises(ConfigError, match=f"names {len(infos)} topics.* {len(images)}; give one for each camera"):
        paired(images, infos)
