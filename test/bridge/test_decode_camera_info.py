"""CameraInfo decoding: models, unknown calibration, binning and region of interest, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.bridge.decode import decode_camera_info
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Camera

K = [500.0, 0, 320.0, 0, 510.0, 240.0, 0, 0, 1]
P = [480.0, 0, 310.0, 0, 0, 480.0, 230.0, 0, 0, 0, 1, 0]


def info(maker, **change):
    fields = {"width": 640, "height": 480, "k": K, "p": P, "distortion_model": "plumb_bob", "d": [0.0] * 5}
    return maker("sensor_msgs/CameraInfo", **(fields | change))


def test_pinhole(maker):
    camera = decode_camera_info(info(maker), (640, 480))
    assert camera is not None and camera.is_pinhole and (camera.width, camera.height) == (640, 480)
    np.testing.assert_array_equal(camera.K, np.reshape(K, (3, 3)))


def test_all_zero_k_means_unknown(maker):
    assert decode_camera_info(info(maker, k=[0.0] * 9, d=[])) is None
    assert decode_camera_info(info(maker, k=[0.0] * 9, p=[0.0] * 12), rectified=True) is None


def test_rectified_images_use_p(maker):
    camera = decode_camera_info(info(maker, d=[0.1, 0, 0, 0, 0]), rectified=True)
    assert camera is not None and camera.is_pinhole and camera.K[0, 0] == 480.0 and camera.K[1, 2] == 230.0
    camera = decode_camera_info(info(maker, d=[0.1, 0, 0, 0, 0], p=[0.0] * 12), rectified=True)
    assert camera is not None and camera.is_pinhole and camera.K[0, 0] == 500.0, "K where P is empty"


@pytest.mark.parametrize(
    ("model", "d", "want"),
    [
        ("plumb_bob", [0.1, -0.2, 0.001, 0.002, 0.03], ("plumb_bob", 5)),
        ("plumb_bob", [0.1, -0.2, 0.001, 0.002], ("plumb_bob", 4)),
        ("plumb_bob", [0.1, -0.2, 0.001, 0.002, 0.03, 0, 0, 0], ("plumb_bob", 5)),
        ("plumb_bob", [], ("none", 0)),
        ("rational_polynomial", [0.1] * 8, ("rational_polynomial", 8)),
        ("rational_polynomial", [0.1] * 8 + [0.0] * 6, ("rational_polynomial", 8)),
        ("equidistant", [0.1, 0.01, 0, 0], ("equidistant", 4)),
        ("fisheye", [0.1, 0.01, 0, 0], ("equidistant", 4)),
        ("", [], ("none", 0)),
        ("Plumb_Bob", [0.1, 0, 0, 0, 0], ("plumb_bob", 5)),
        ("Plumb Bob", [0.1, 0, 0, 0, 0], ("plumb_bob", 5)),
        ("brown-conrady", [0.1, 0, 0, 0, 0], ("plumb_bob", 5)),
        ("pinhole", [], ("none", 0)),
        ("pinhole", [0.0] * 5, ("none", 0)),
        ("pinhole", [0.1, 0.0, 0.0, 0.0, 0.1], ("plumb_bob", 5)),
        ("pinhole", [0.1] * 8, ("rational_polynomial", 8)),
        ("some lens of ours", [0.0] * 3, ("none", 0)),
        ("rational_polynomial", [0.1] * 5, ("plumb_bob", 5)),
        ("rational_polynomial", [0.1, 0.01, 0, 0, 0, 0.1, 0.01, 0, 1e-3, 0, 0, 0], ("rational_polynomial", 12)),
        ("rational_polynomial", [0.1] * 12 + [1e-3, 2e-3], ("rational_polynomial", 14)),
        ("rational_polynomial", [0.1] * 8 + [0.01, 0, 0, 0, 0, 0], ("rational_polynomial", 12)),
        ("OPENCV_FISHEYE", [0.1, 0.01, 0, 0], ("equidistant", 4)),
    ],
)
def test_distortion_models(maker, model, d, want):
    camera = decode_camera_info(info(maker, distortion_model=model, d=d))
    assert camera is not None and (camera.distortion_model, len(camera.distortion)) == want


def test_ideal_fisheye_is_no_pinhole(maker):
    camera = decode_camera_info(info(maker, distortion_model="equidistant", d=[0.0] * 4))
    assert camera is not None and camera.distortion_model == "equidistant"


def test_region_of_interest_shifts_the_centre(maker):
    msg = info(maker, roi={"x_offset": 100, "y_offset": 40, "width": 320, "height": 240})
    camera = decode_camera_info(msg, (320, 240))
    assert camera is not None
    np.testing.assert_allclose(camera.K[:2, 2], (220.0, 200.0))


def test_binning_halves(maker):
    camera = decode_camera_info(info(maker, binning_x=2, binning_y=2), (320, 240))
    assert camera is not None
    np.testing.assert_allclose(camera.K[:2, 2], (159.75, 119.75))  # centres of 2x2 blocks
    np.testing.assert_allclose(np.diag(camera.K), (250, 255, 1))


def test_binned_region_sees_the_same_ray(maker):
    """A full-resolution ray lands on the block that holds its pixel."""
    msg = info(maker, binning_x=4, binning_y=2, roi={"x_offset": 80, "y_offset": 60, "width": 400, "height": 200})
    camera = decode_camera_info(msg, (100, 100))
    assert camera is not None
    ray = np.array([0.2, -0.1, 1.0])
    full, part = np.reshape(K, (3, 3)) @ ray, camera.K @ ray
    np.testing.assert_allclose((full[:2] - (80, 60) + 0.5) / (4, 2) - 0.5, part[:2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": [np.nan, *K[1:]]}, "finite values"),
        ({"k": [0.0, *K[1:]]}, "fx, fy > 0"),
        ({"k": [-500.0, *K[1:]]}, "fx, fy > 0"),
        ({"k": [*K[:8], 0.0]}, "0 0 1"),
        ({"distortion_model": "thin_prism", "d": [0.1] * 4}, "Unknown distortion model 'thin_prism'"),
        ({"distortion_model": "", "d": [0.1] * 5}, "names no distortion model"),
        ({"d": [0.1, np.nan, 0, 0, 0]}, "finite"),
        ({"d": [0.1, 0.2]}, "takes 4 or 5"),
        ({"d": [0.1] * 8}, "takes 4 or 5"),
        ({"width": 0}, "positive size"),
        ({"width": 1280, "height": 960}, "describes images of 1280x960"),
        ({"roi": {"x_offset": 600, "width": 100, "height": 100}}, "region of interest"),
        ({"binning_x": 1000}, "binning"),
    ],
)
def test_bad_camera_info_is_refused(maker, change, words):
    with pytest.raises(InputError, match=words):
        decode_camera_info(info(maker, **change), (640, 480))


number = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.just(0.0)


@settings(max_examples=200, deadline=None)
@given(
    k=st.lists(number, min_size=9, max_size=9) | st.just(K),
    d=st.lists(number, max_size=15),
    model=st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", "", "x"]),
    sizes=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 700), min_size=8, max_size=8),
)
def test_fuzzed_camera_info_gives_a_camera_or_a_sentence(maker, k, d, model, sizes):
    width, height, x, y, w, h, bx, by = sizes
    msg = info(
        maker,
        k=k,
        d=d,
        distortion_model=model,
        width=width,
        height=height,
        binning_x=bx,
        binning_y=by,
        roi={"x_offset": x, "y_offset": y, "width": w, "height": h},
    )
    try:
        camera = decode_camera_info(msg)
    except InputError:
        return
    assert camera is None or isinstance(camera, Camera)
