"""sensor_msgs/Image and CompressedImage to RGB arrays, without importing ROS.

Messages are duck-typed: rclpy gives `data` as array.array, rosbags as a numpy array; both work.
Encodings are those of sensor_msgs/image_encodings.hpp. Generic OpenCV types carry no channel
meaning; they are read as OpenCV orders them (8UC1 grey, 8UC3 BGR, 8UC4 BGRA, 16-bit alike).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Image

Pixels = NDArray[Any]


@dataclass(frozen=True)
class _Encoding:
    """Row layout of a packed encoding. `code` None = RGB already; bytes per channel 1 or 2."""

    channels: int
    bytes_per_channel: int
    code: int | None


_FAMILIES: dict[str, tuple[int, int | None]] = {
    "rgb": (3, None),
    "bgr": (3, cv2.COLOR_BGR2RGB),
    "rgba": (4, cv2.COLOR_RGBA2RGB),
    "bgra": (4, cv2.COLOR_BGRA2RGB),
    "mono": (1, cv2.COLOR_GRAY2RGB),
    # ROS names the pattern of the top-left 2x2 block, OpenCV's short names the one diagonal to it.
    "bayer_rggb": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg": (1, cv2.COLOR_BayerGB2RGB),
}
PACKED: dict[str, _Encoding] = {
    f"{family}{8 * size}": _Encoding(channels, size, code)
    for family, (channels, code) in _FAMILIES.items()
    for size in (1, 2)
}
PACKED |= {
    f"{8 * size}UC{channels}": PACKED[f"{family}{8 * size}"]
    for channels, family in ((1, "mono"), (3, "bgr"), (4, "bgra"))
    for size in (1, 2)
}
PACKED["8UC"] = PACKED["8UC1"]
PACKED |= dict.fromkeys(("yuv422", "uyvy"), _Encoding(2, 1, cv2.COLOR_YUV2RGB_UYVY))
PACKED |= dict.fromkeys(("yuv422_yuy2", "yuyv"), _Encoding(2, 1, cv2.COLOR_YUV2RGB_YUYV))

#: Semi-planar: a Y plane, then interleaved chroma at half size (U first in nv12, V first in nv21).
PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}

ENCODINGS = tuple(sorted((*PACKED, *PLANAR)))


def as_bytes(data: Any) -> NDArray[np.uint8]:
    """A message's data field as uint8 [n], without a copy where it is a buffer."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    if len(data) == 0:
        return np.zeros(0, np.uint8)
    return np.frombuffer(data, np.uint8)


def decode_image(msg: Any) -> Image:
    """RGB uint8 [H, W, 3] of a sensor_msgs/Image; may share the message's memory.

    16-bit values are scaled to 8 bits (65535 -> 255) as cv_bridge does. Raises InputError on a zero
    size, an unknown or non-colour encoding, a step that cannot hold a row, truncated or over-long data.
    """
    width, height, step = int(msg.width), int(msg.height), int(msg.step)
    encoding = str(msg.encoding)
    data = as_bytes(msg.data)
    if width == 0 or height == 0:
        raise InputError(f"An image needs a positive size, got {width}x{height}; check the camera driver.")
    if encoding in PLANAR:
        return _decode_planar(encoding, width, height, step, data)
    layout = PACKED.get(encoding)
    if layout is None:
        hint = (
            "this is a depth or raw numeric image, not a colour one; choose the camera's colour topic"
            if encoding[:2] in ("32", "64") or "S" in encoding
            else f"convert it to rgb8; known are {', '.join(ENCODINGS)}"
        )
        raise InputError(f"Unknown image encoding '{encoding[:40]}': {hint}.")
    if layout.code in (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2RGB_YUYV) and width % 2:
        raise InputError(f"Encoding '{encoding}' stores pixels in pairs and needs an even width, got {width}.")
    pixels = _rows(data, height, step, width * layout.channels * layout.bytes_per_channel, encoding)
    if layout.bytes_per_channel == 2:
        order = ">u2" if msg.is_bigendian else "<u2"
        pixels = np.ascontiguousarray(pixels).view(order).astype(np.uint16, copy=False)
    pixels = pixels.reshape(height, width, layout.channels)
    if layout.code is not None:
        pixels = cv2.cvtColor(np.ascontiguousarray(pixels), layout.code)
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(np.ascontiguousarray(pixels), alpha=255.0 / 65535.0)
    return np.require(pixels, np.uint8, ("C", "W"))


def decode_compressed_image(msg: Any) -> Image:
    """RGB uint8 [H, W, 3] of a sensor_msgs/CompressedImage holding a JPEG or PNG (or what OpenCV reads).

    EXIF orientation is ignored: CameraInfo describes the pixels as stored. Raises InputError on an
    empty, truncated or unreadable picture and on compressed depth.
    """
    kind = str(msg.format).lower()
    if "compresseddepth" in kind:
        raise InputError(
            f"Format '{str(msg.format)[:60]}' is compressed depth; choose the camera's colour topic "
            "(…/image_raw/compressed)."
        )
    data = as_bytes(msg.data)
    if data.size == 0:
        raise InputError("A compressed image came without data; check the camera driver.")
    _check_complete(data)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise InputError(f"A compressed image of {data.size} bytes cannot be decoded: {error.err}.") from error
    if pixels is None:
        raise InputError(
            f"A compressed image of {data.size} bytes (format '{str(msg.format)[:60]}') is no readable "
            "JPEG or PNG; expected one of these. Video streams need a decoder node first."
        )
    # image_transport says 'compressed rgb8' where it stored the channels swapped.
    return pixels if "compressed rgb" in kind else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def _rows(data: NDArray[np.uint8], height: int, step: int, row: int, encoding: str) -> Pixels:
    """The `row` used bytes of each of `height` rows, uint8 [height, row]; a view."""
    if step < row:
        raise InputError(f"Step {step} is shorter than a row of {row} bytes in encoding '{encoding}'.")
    _check_length(data.size, height, step, row, encoding)
    if step == row:
        return data[: height * row].reshape(height, row)
    return np.lib.stride_tricks.as_strided(data, (height, row), (step, 1))


def _check_length(size: int, rows: int, step: int, row: int, encoding: str) -> None:
    """Data must be `rows` times `step`; some drivers leave the padding of the last row away."""
    full, least = rows * step, (rows - 1) * step + row
    if least <= size <= full:
        return
    what = "Truncated" if size < least else "Over-long"
    raise InputError(f"{what} image: {rows} rows of step {step} in encoding '{encoding}' are {full} bytes, got {size}.")


def _decode_planar(encoding: str, width: int, height: int, step: int, data: NDArray[np.uint8]) -> Image:
    """The chroma rows follow the luma rows, so the data has half as many rows again as the image."""
    if width % 2 or height % 2:
        raise InputError(f"Encoding '{encoding}' needs an even width and height, got {width}x{height}.")
    pixels = _rows(data, height * 3 // 2, step, width, encoding)
    return cv2.cvtColor(np.ascontiguousarray(pixels), PLANAR[encoding])  # type: ignore[return-value]


def _check_complete(data: NDArray[np.uint8]) -> None:
    """Decoders fill the missing part of a cut picture with grey and say nothing, so its end is looked at."""
    head, tail = data[:8].tobytes(), data[-4096:].tobytes().rstrip(b"\0")
    if head.startswith(b"\xff\xd8") and b"\xff\xd9" not in tail[-64:]:
        raise InputError(f"Truncated JPEG: {data.size} bytes without an end marker; check the link and the driver.")
    if head == b"\x89PNG\r\n\x1a\n" and b"IEND" not in tail[-64:]:
        raise InputError(f"Truncated PNG: {data.size} bytes without an end chunk; check the link and the driver.")
