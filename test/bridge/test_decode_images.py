"""Image decoding: exact values, cv_bridge as oracle, refusals as sentences, fuzzing."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.bridge.decode import ENCODINGS, decode_compressed_image, decode_image, open_compressed_image
from spatial_fm_ros.core.errors import InputError
from test.pictures.making import encoded, exif, with_frame_size

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def smooth(height=48, width=64):
    """A picture that survives chroma subsampling and mosaics."""
    v, u = np.mgrid[0:height, 0:width]
    return np.dstack((u * 3 + 20, v * 4 + 10, 200 - u - v)).clip(0, 255).astype(np.uint8)


def image(maker, pixels, encoding, step=None, **more):
    """A message of `pixels` [H, W(, C)], rows padded with 0xAB to `step`."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    step = step or rows.shape[1]
    padded = np.full((height, step), 0xAB, np.uint8)
    padded[:, : rows.shape[1]] = rows
    return maker("sensor_msgs/Image", width=width, height=height, encoding=encoding, step=step, data=padded, **more)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("8UC3", RGB[..., ::-1]),
        ("rgba8", np.dstack((RGB, RGB[..., 0]))),
        ("bgra8", np.dstack((RGB[..., ::-1], RGB[..., 0]))),
        ("8UC4", np.dstack((RGB[..., ::-1], RGB[..., 0]))),
    ],
)
def test_colour_is_exact(maker, encoding, pixels, padding):
    step = pixels.shape[1] * pixels.shape[2] + padding
    got = decode_image(image(maker, pixels, encoding, step))
    assert got.dtype == np.uint8 and got.flags.c_contiguous and got.flags.writeable
    np.testing.assert_array_equal(got, RGB)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_repeated(maker, encoding):
    grey = RGB[..., 0]
    np.testing.assert_array_equal(decode_image(image(maker, grey, encoding)), np.dstack([grey] * 3))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [("rgb16", (0, 1, 2)), ("bgr16", (2, 1, 0)), ("16UC3", (2, 1, 0)), ("mono16", None), ("16UC1", None)],
)
def test_sixteen_bits_are_scaled(maker, encoding, order, big):
    wide = RNG.integers(0, 65536, (4, 6, 3), dtype=np.uint16)
    want = np.rint(wide * (255 / 65535)).astype(np.uint8)
    pixels = wide[..., 0] if order is None else wide[..., list(order)]
    want = np.dstack([want[..., 0]] * 3) if order is None else want
    got = decode_image(image(maker, pixels.astype(">u2" if big else "<u2"), encoding, is_bigendian=int(big)))
    assert np.abs(got.astype(int) - want.astype(int)).max() <= 1  # colour conversion rounds before scaling
    assert (got == want).mean() > 0.95


def mosaic(truth, pattern):
    """What a sensor behind colour filters sees of RGB [H, W, 3]; the pattern is of its top-left 2x2 pixels."""
    seen = np.empty(truth.shape[:2], np.uint8)
    for index, colour in enumerate(pattern):
        row, column = divmod(index, 2)
        seen[row::2, column::2] = truth[row::2, column::2, "rgb".index(colour)]
    return seen


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_recovers_the_picture(maker, pattern, bits):
    truth = smooth()
    raw = mosaic(truth, pattern)
    raw = raw if bits == 8 else raw.astype(np.uint16) * 257
    got = decode_image(image(maker, raw, f"bayer_{pattern}{bits}"))
    assert np.abs(got[2:-2, 2:-2].astype(int) - truth[2:-2, 2:-2]).max() <= 8


def yuv_planes(rgb):
    """BT.601 limited-range Y, U, V by the textbook formula, float [H, W]."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return tuple(np.rint(plane).astype(np.uint8) for plane in (y, u, v))


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_packed_yuv(maker, encoding):
    truth = smooth()
    y, u, v = yuv_planes(truth)
    chroma = np.where(np.arange(truth.shape[1])[None] % 2 == 0, u, np.roll(v, 1, axis=1))
    luma_first = encoding in ("yuv422_yuy2", "yuyv")
    packed = np.dstack((y, chroma) if luma_first else (chroma, y))
    got = decode_image(image(maker, packed, encoding))
    assert np.abs(got.astype(int) - truth).max() <= 8


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
@pytest.mark.parametrize("padding", [0, 16])
def test_planar_yuv(maker, encoding, padding):
    truth = smooth()
    height, width = truth.shape[:2]
    y, u, v = (plane if i == 0 else plane[::2, ::2] for i, plane in enumerate(yuv_planes(truth)))
    chroma = np.dstack((u, v) if encoding == "nv12" else (v, u)).reshape(height // 2, width)
    rows = np.pad(np.vstack((y, chroma)), ((0, 0), (0, padding)))
    msg = maker("sensor_msgs/Image", width=width, height=height, encoding=encoding, step=width + padding, data=rows)
    assert np.abs(decode_image(msg).astype(int) - truth).max() <= 10


@pytest.mark.parametrize(
    "encoding",
    ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8"],
)
def test_equals_cv_bridge(ros_maker, encoding):
    cv_bridge = pytest.importorskip("cv_bridge")
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}.get(encoding, 1)
    msg = image(ros_maker, RNG.integers(0, 256, (24, 32, channels), dtype=np.uint8), encoding)
    want = cv_bridge.CvBridge().imgmsg_to_cv2(msg, "rgb8")
    np.testing.assert_array_equal(decode_image(msg), want)


def test_last_row_may_lack_its_padding(maker):
    msg = image(maker, RGB, "rgb8", 30)
    msg.data = msg.data[: 5 * 30 + 24]
    np.testing.assert_array_equal(decode_image(msg), RGB)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": b"\0" * 143}, "Truncated image"),
        ({"data": b"\0" * 145}, "Over-long image"),
        ({"data": b""}, "Truncated image"),
        ({"step": 23}, "Step 23 is shorter"),
        ({"width": 0}, "positive size"),
        ({"height": 0}, "positive size"),
        ({"encoding": "rgb9"}, "Unknown image encoding 'rgb9'"),
        ({"encoding": ""}, "Unknown image encoding"),
        ({"encoding": "32FC1"}, "depth or raw numeric image"),
        ({"encoding": "16SC1"}, "depth or raw numeric image"),
        ({"encoding": "nv12", "width": 7}, "even width"),
        ({"encoding": "yuv422", "width": 7}, "even width"),
        ({"height": 2**31, "width": 2**31, "step": 2**32 - 1}, "shorter"),
    ],
)
def test_bad_images_are_refused(maker, change, words):
    fields = {"width": 8, "height": 6, "step": 24, "encoding": "rgb8", "data": RGB} | change
    with pytest.raises(InputError, match=words):
        decode_image(maker("sensor_msgs/Image", **fields))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_compressed(maker, suffix):
    truth = smooth()
    data = cv2.imencode(suffix, truth[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1]
    for text in (suffix[1:], f"rgb8; {suffix[1:]} compressed bgr8"):
        got = decode_compressed_image(maker("sensor_msgs/CompressedImage", format=text, data=data))
        assert np.abs(got.astype(int) - truth).max() <= (0 if suffix == ".png" else 12)


def test_compressed_with_swapped_channels(maker):
    data = cv2.imencode(".png", RGB)[1]  # stored as image_transport's 'compressed rgb8' does
    got = decode_compressed_image(maker("sensor_msgs/CompressedImage", format="bgr8; png compressed rgb8", data=data))
    np.testing.assert_array_equal(got, RGB)


@pytest.mark.parametrize("name", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize(
    ("suffix", "bits", "text"),
    [
        (".png", 8, "bayer_{}8; png compressed "),
        (".jpg", 8, "bayer_{}8; jpeg compressed "),
        (".png", 16, "bayer_{}16; png compressed "),
        (".tiff", 16, "bayer_{}16; tiff compressed "),
        (".png", 8, "BAYER_{}8;png compressed bayer_{}8"),
    ],
)
def test_a_compressed_mosaic_gets_its_colours(maker, name, suffix, bits, text):
    """image_transport compresses mosaics as they come and says so before the semicolon."""
    truth = smooth(96, 128)
    raw = mosaic(truth, name)
    raw = raw if bits == 8 else raw.astype(np.uint16) * 257
    data = cv2.imencode(suffix, raw, [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
    text = text.format(name, name) if name.islower() and "BAYER" not in text else text.format(name.upper(), name)
    got = decode_compressed_image(maker("sensor_msgs/CompressedImage", format=text, data=data))
    assert np.abs(got[2:-2, 2:-2].astype(int) - truth[2:-2, 2:-2]).mean() <= 3


def test_mosaics_that_the_sender_made_colours_or_grey_of(maker):
    truth = smooth()
    colours = cv2.imencode(".png", truth[..., ::-1])[1]
    for text in ("bayer_rggb8; png compressed bgr8", "bayer_rggb8; png compressed "):
        got = decode_compressed_image(maker("sensor_msgs/CompressedImage", format=text, data=colours))
        np.testing.assert_array_equal(got, truth)
    grey = cv2.imencode(".png", truth[..., 0])[1]
    got = decode_compressed_image(
        maker("sensor_msgs/CompressedImage", format="bayer_rggb8; jpeg compressed mono8", data=grey)
    )
    np.testing.assert_array_equal(got, np.dstack([truth[..., 0]] * 3))


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("", False),
        ("png", False),
        ("PNG", False),
        ("jpeg", False),  # the content decides which it is
        ("rgb8; png compressed bgr8", False),
        ("rgb8;png compressed bgr8", False),
        ("rgba8; png compressed bgra8", False),
        ("bgr8; png compressed ", False),
        ("RGB8; PNG COMPRESSED BGR8", False),
        ("rgb16; png compressed bgr16", False),
        ("yuv422_yuy2; png compressed bgr8", False),
        ("bgr8; png compressed rgb8", True),
        ("rgb8; png compressed rgb8", True),
        ("\x1b[31m; png compressed bgr8", False),
    ],
)
def test_every_legal_format_says_the_colours(maker, text, swapped):
    """What is 'compressed rgb8' was put away with red and blue in each other's place."""
    data = cv2.imencode(".png", RGB if swapped else RGB[..., ::-1])[1]
    got = decode_compressed_image(maker("sensor_msgs/CompressedImage", format=text, data=data))
    np.testing.assert_array_equal(got, RGB)


@pytest.mark.parametrize(("encoding", "stored"), [("rgb8", RGB), ("bgr8", RGB[..., ::-1])])
def test_tiffs_are_made_of_the_image_as_it_came(maker, encoding, stored):
    data = cv2.imencode(".tiff", stored)[1]
    got = decode_compressed_image(
        maker("sensor_msgs/CompressedImage", format=f"{encoding}; tiff compressed ", data=data)
    )
    np.testing.assert_array_equal(got, RGB)


@pytest.mark.parametrize("text", ["mono16; png compressed ", "mono16; png compressed mono16", "16UC1; png compressed "])
def test_sixteen_bit_grey_pictures_are_scaled(maker, text):
    wide = RNG.integers(0, 65536, (8, 8), dtype=np.uint16)
    got = decode_compressed_image(maker("sensor_msgs/CompressedImage", format=text, data=cv2.imencode(".png", wide)[1]))
    np.testing.assert_array_equal(got, np.dstack([np.rint(wide / 257).astype(np.uint8)] * 3))


def test_pixels_of_a_turned_picture_stay_as_stored(maker):
    data = encoded(smooth(), "JPEG", exif=exif(6), quality=98)
    got = decode_compressed_image(maker("sensor_msgs/CompressedImage", format="jpeg", data=data))
    assert np.abs(got.astype(int) - smooth()).max() <= 12


def test_sizes_are_known_before_pixels_are_decoded(maker):
    """A camera of another size is refused, and memory is never asked for, however few bytes came."""
    small = encoded(smooth(), "JPEG")
    msg = maker("sensor_msgs/CompressedImage", format="jpeg", data=small[:-30] + b"\xff\xd9")
    assert open_compressed_image(msg).size == (64, 48)
    huge = maker("sensor_msgs/CompressedImage", format="jpeg", data=with_frame_size(small, 20000, 20000))
    with pytest.raises(InputError, match="20000x20000 pixels"):
        open_compressed_image(huge, max_pixels=2**31)
    with pytest.raises(InputError, match="more than intake.max_pixels = 3000"):
        open_compressed_image(maker("sensor_msgs/CompressedImage", format="jpeg", data=small), max_pixels=3000)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_truncated_pictures_are_refused(maker, suffix):
    data = cv2.imencode(suffix, smooth())[1].tobytes()
    for share in (0.1, 0.5, 0.9):
        msg = maker("sensor_msgs/CompressedImage", format=suffix[1:], data=data[: int(len(data) * share)])
        with pytest.raises(InputError, match="Truncated"):
            decode_compressed_image(msg)


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("jpeg", b"", "without data"),
        ("jpeg", b"not a picture at all", "no readable"),
        ("h264", b"\0\0\0\1\x67" + b"\0" * 50, "decoder node"),
        ("16UC1; compressedDepth png", b"\0" * 100, "compressed depth"),
        ("32FC1; tiff compressed ", b"\0" * 100, "depth or raw numeric"),
        ("rgb8; qoi compressed rgb8", b"qoif" + b"\0" * 100, "QOI is not read; expected JPEG, PNG"),
        ("\x1b]0;boo\x07", b"\0" * 100, r"format '\\x1b\]0;boo\\x07'"),
    ],
)
def test_bad_pictures_are_refused(maker, kind, data, words):
    with pytest.raises(InputError, match=words):
        decode_compressed_image(maker("sensor_msgs/CompressedImage", format=kind, data=data))


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(0, 40) | st.integers(0, 2**32 - 1),
    height=st.integers(0, 40) | st.integers(0, 2**32 - 1),
    step=st.integers(0, 200) | st.integers(0, 2**32 - 1),
    encoding=st.sampled_from(ENCODINGS) | st.text(max_size=12),
    big=st.integers(0, 255),
    data=st.binary(max_size=3000),
)
def test_fuzzed_images_give_pixels_or_a_sentence(maker, width, height, step, encoding, big, data):
    msg = maker(
        "sensor_msgs/Image",
        width=width,
        height=height,
        step=step,
        encoding=encoding,
        is_bigendian=big,
        data=data,
    )
    try:
        got = decode_image(msg)
    except InputError:
        return
    assert got.shape == (height, width, 3) and got.dtype == np.uint8


@settings(max_examples=100, deadline=None)
@given(
    encoding=st.sampled_from(ENCODINGS),
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    padding=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_every_encoding_decodes_at_any_size(maker, encoding, width, height, padding, seed):
    """Well-formed messages of odd and tiny sizes: pixels, or the one refusal of an odd size."""
    per_pixel = {"rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4, "8UC3": 3, "8UC4": 4, "16UC3": 6, "16UC4": 8}
    size = per_pixel.get(encoding) or per_pixel.get(encoding.rstrip("0123456789"), 1) * (
        2 if encoding.endswith("16") else 1
    )
    if encoding == "16UC1" or encoding in ("yuv422", "uyvy", "yuyv", "yuv422_yuy2"):
        size = 2
    rows = height * 3 // 2 if encoding.startswith("nv") else height
    step = width * size + padding
    data = np.random.default_rng(seed).integers(0, 256, rows * step, dtype=np.uint8)
    msg = maker("sensor_msgs/Image", width=width, height=height, step=step, encoding=encoding, data=data)
    try:
        assert decode_image(msg).shape == (height, width, 3)
    except InputError as error:
        assert "even" in str(error) and (width % 2 or height % 2)


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=400),
    cut=st.integers(0, 3000),
    where=st.integers(0, 3000),
    value=st.integers(0, 255),
)
def test_fuzzed_pictures_give_pixels_or_a_sentence(maker, data, cut, where, value):
    picture = bytearray(cv2.imencode(".jpg", smooth())[1].tobytes())
    picture[where % len(picture)] = value
    for payload in (
        data,
        bytes(picture[: cut % (len(picture) + 1)]),
        bytes(picture),
        b"\xff\xd8" + data + b"\xff\xd9",
    ):
        try:
            got = decode_compressed_image(maker("sensor_msgs/CompressedImage", format="jpeg", data=payload))
        except InputError:
            continue
        assert got.ndim == 3 and got.shape[2] == 3 and got.dtype == np.uint8
