"""sensor_msgs/Image and CompressedImage to RGB arrays, without importing ROS.

Messages are duck-typed: rclpy gives `data` as array.array, rosbags as a numpy array; both work.
Encodings are those of sensor_msgs/image_encodings.hpp. Generic OpenCV types carry no channel
meaning; they are read as OpenCV orders them (8UC1 grey, 8UC3 BGR, 8UC4 BGRA, 16-bit alike).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.pictures.decode import MAX_PIXELS, rgb8, stored_pixels
from spatial_fm_ros.core.pictures.header import read_header
from spatial_fm_ros.core.types import Image

Pixels = NDArray[Any]


@dataclass(frozen=True)
class PackedImage:
    """An image message whose size is known and whose pixels are not decoded yet.

    size: (width, height). pixels: decodes, RGB uint8 [height, width, 3]; raises InputError for damaged data.
    """

    size: tuple[int, int]
    pixels: Callable[[], Image]


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


def open_image(msg: Any) -> PackedImage:
    """A sensor_msgs/Image. Raises InputError on a zero size."""
    width, height = int(msg.width), int(msg.height)
    if width == 0 or height == 0:
        raise InputError(f"An image needs a positive size, got {width}x{height}; check the camera driver.")
    return PackedImage((width, height), lambda: _decode_raw(msg, width, height))


def decode_image(msg: Any) -> Image:
    """RGB uint8 [H, W, 3] of a sensor_msgs/Image; may share the message's memory.

    16-bit values are scaled to 8 bits (65535 -> 255) as cv_bridge does. Raises InputError on a zero
    size, an unknown or non-colour encoding, a step that cannot hold a row, truncated or over-long data.
    """
    return open_image(msg).pixels()


def open_compressed_image(msg: Any, max_pixels: int = MAX_PIXELS) -> PackedImage:
    """A sensor_msgs/CompressedImage holding a JPEG, PNG or another format of `core.pictures`.

    Raises InputError for compressed depth, for an empty, cut-off or unreadable picture, and for one of more than
    `max_pixels`.
    """
    stated = _Format.parse(str(msg.format))
    try:
        header = read_header(as_bytes(msg.data).tobytes()).bounded(max_pixels)
    except InputError as error:
        hint = " Video streams need a decoder node first." if "no readable" in str(error) else ""
        raise InputError(f"{error}{hint} It came with format '{stated.shown}'.") from error
    return PackedImage(header.size, lambda: stated.colours(stored_pixels(header), header.format))


def decode_compressed_image(msg: Any, max_pixels: int = MAX_PIXELS) -> Image:
    """RGB uint8 [H, W, 3] of a sensor_msgs/CompressedImage, with the colours that its `format` says.

    EXIF orientation is ignored: CameraInfo describes the pixels as stored. Raises InputError as `open_compressed_image`
    and for damaged data.
    """
    return open_compressed_image(msg, max_pixels).pixels()


@dataclass(frozen=True)
class _Format:
    """'<encoding>; <codec> compressed <stored encoding>' as image_transport writes it; any part may be missing.

    encoding: of the image before it was compressed. stored: what the pixels were turned into first; empty where the
    image was compressed as it came.
    """

    encoding: str
    stored: str
    shown: str

    @staticmethod
    def parse(text: str) -> _Format:
        """Raises InputError for what is no colour image."""
        lower, name = text.lower(), shown(text, 60)
        if "compresseddepth" in lower:
            raise InputError(
                f"Format '{name}' is compressed depth; choose the camera's colour topic (…/image_raw/compressed)."
            )
        before, separator, after = lower.partition(";")
        encoding = before.strip() if separator else ""
        if encoding[:2] in ("32", "64") or encoding[:4] in ("8sc1", "16sc"):
            raise InputError(
                f"Format '{name}' is a depth or raw numeric image, not a colour one; choose the camera's colour topic."
            )
        return _Format(encoding, after.partition("compressed")[2].strip(), name)

    def colours(self, pixels: Pixels, codec: str) -> Image:
        """RGB uint8 [H, W, 3] of the pixels stored, [H, W] or [H, W, 3] in the order the file claims."""
        if self.encoding.startswith("bayer_") and self.stored in ("", self.encoding):
            return self._from_mosaic(pixels)
        if pixels.ndim == 3 and self._is_swapped(codec):
            pixels = pixels[..., ::-1]
        return rgb8(pixels)

    def _from_mosaic(self, pixels: Pixels) -> Image:
        if pixels.ndim == 3:
            if (pixels[..., :1] != pixels).any():
                return rgb8(pixels)  # the sender made colours of it
            pixels = np.ascontiguousarray(pixels[..., 0])
        layout = PACKED.get(f"{self.encoding.rstrip('0123456789')}8")
        if layout is None or layout.code is None:
            raise InputError(f"Format '{self.shown}' is a mosaic of a pattern that is not known; send colours instead.")
        return rgb8(cv2.cvtColor(pixels, layout.code))

    def _is_swapped(self, codec: str) -> bool:
        """Whether red and blue changed places: image_transport compresses whatever it holds as if it were BGR."""
        stored = self.stored or (self.encoding if codec == "TIFF" else "")  # TIFFs are made without turning into BGR
        return stored.startswith("rgb")


def _decode_raw(msg: Any, width: int, height: int) -> Image:
    step, encoding = int(msg.step), str(msg.encoding)
    data = as_bytes(msg.data)
    if encoding in PLANAR:
        return _decode_planar(encoding, width, height, step, data)
    layout = PACKED.get(encoding)
    if layout is None:
        hint = (
            "this is a depth or raw numeric image, not a colour one; choose the camera's colour topic"
            if encoding[:2] in ("32", "64") or "S" in encoding
            else f"convert it to rgb8; known are {', '.join(ENCODINGS)}"
        )
        raise InputError(f"Unknown image encoding '{shown(encoding, 40)}': {hint}.")
    if layout.code in (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2RGB_YUYV) and width % 2:
        raise InputError(f"Encoding '{encoding}' stores pixels in pairs and needs an even width, got {width}.")
    pixels = _rows(data, height, step, width * layout.channels * layout.bytes_per_channel, encoding)
    if layout.bytes_per_channel == 2:
        order = ">u2" if msg.is_bigendian else "<u2"
        pixels = np.ascontiguousarray(pixels).view(order).astype(np.uint16, copy=False)
    pixels = pixels.reshape(height, width, layout.channels)
    if layout.code is not None:
        pixels = cv2.cvtColor(np.ascontiguousarray(pixels), layout.code)
    return rgb8(pixels)


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
    rgb: Image = cv2.cvtColor(np.ascontiguousarray(pixels), PLANAR[encoding])
    return rgb
