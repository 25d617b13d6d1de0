"""Pixels of a picture, of bounded size and whole, or one sentence."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from spatial_fm_ros.core.config import IntakeConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.pictures.header import PictureHeader, damaged, read_header
from spatial_fm_ros.core.types import Image

MAX_PIXELS = IntakeConfig().max_pixels

Pixels = NDArray[Any]

# Cameras put a byte or two too many before a marker; the picture is whole.
_NUMBERS = re.compile(r" ?\b(0x[0-9a-f]+|[0-9]+)")
_FEW_EXTRA_BYTES = re.compile(r"\b([1-9]|1[0-6]) extraneous bytes before marker")


def decode_picture(content: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """RGB uint8 [H, W, 3] of the pixels as stored (nothing is turned); 16-bit values are scaled, alpha is left away.

    Raises InputError for what `read_header` refuses, for more than `max_pixels`, and for damaged data.
    """
    return rgb8(stored_pixels(read_header(content).bounded(max_pixels)))


def stored_pixels(header: PictureHeader) -> Pixels:
    """uint8 or uint16 [H, W] (grey) or [H, W, 3] (RGB), as stored but without alpha.

    The caller has looked at the header's size. Raises InputError for damaged data.
    """
    pixels = _jpeg(header) if header.format == "JPEG" and header.channels in (1, 3) else _other(header)
    if pixels.shape[1::-1] != header.size:
        raise damaged(header.format, f"decoded it is {pixels.shape[1]}x{pixels.shape[0]}")
    return pixels


def rgb8(pixels: Pixels) -> Image:
    """RGB uint8 [H, W, 3] of grey or RGB pixels, uint8 or uint16 (65535 becomes 255)."""
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(np.ascontiguousarray(pixels), alpha=255.0 / 65535.0)
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return np.require(pixels, np.uint8, ("C", "W"))


def _jpeg(header: PictureHeader) -> Pixels:
    """Unlike OpenCV, this decoder tells where data is missing; both give the same pixels."""
    colours = "GRAY" if header.channels == 1 else "RGB"
    try:
        pixels = simplejpeg.decode_jpeg(header.content, colours, strict=True)
    except ValueError as error:
        if not _FEW_EXTRA_BYTES.search(str(error)):
            words = _NUMBERS.sub("", shown(error))
            raise damaged("JPEG", f"the decoder says '{words}'") from error
        pixels = simplejpeg.decode_jpeg(header.content, colours, strict=False)
    decoded: Pixels = pixels[..., 0] if header.channels == 1 else pixels
    return decoded


def _other(header: PictureHeader) -> Pixels:
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(header.content, np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        raise damaged(header.format, f"the decoder says '{shown(error)}'") from error
    if pixels is None:
        raise damaged(header.format, "the decoder cannot read it")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"A {header.format} of {pixels.dtype} values is no colour picture; expected 8 or 16 bits.")
    decoded: Pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, pixels) if pixels.ndim == 3 else pixels
    return decoded
