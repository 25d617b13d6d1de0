"""sensor_msgs/CameraInfo to a Camera, without importing ROS (messages are duck-typed)."""

from __future__ import annotations

from typing import Any

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import DISTORTION_MODELS, Camera

#: Names drivers use for the models of DISTORTION_MODELS.
_ALIASES = {"": "none", "fisheye": "equidistant", "kannala_brandt": "equidistant", "radtan": "plumb_bob"}


def decode_camera_info(msg: Any, image_size: tuple[int, int] | None = None, rectified: bool = False) -> Camera | None:
    """Intrinsics of the images that come with `msg`; None where they are unknown (K all zero).

    `image_size` (width, height) of the image it came with is checked against it. With `rectified`
    the images are already rectified: the projection matrix P counts and there is no distortion.
    Binning and region of interest are applied as sensor_msgs/CameraInfo defines them: K is of the
    full, unbinned image. Raises InputError on NaN or impossible K, an unknown distortion model, a
    wrong number of coefficients, or a size that is not the image's.
    """
    # Humble and Jazzy use k, d, p; ROS 1 bags K, D, P.
    source = _field(msg, "p" if rectified else "k")
    matrix = np.asarray(source, dtype=np.float64).reshape(3, -1)[:, :3]
    if not matrix.any():
        return None
    if not np.isfinite(matrix).all() or not np.allclose(matrix[2], (0.0, 0.0, 1.0), atol=1e-6):
        raise InputError(
            f"A camera matrix needs finite values and 0 0 1 in its last row, got {matrix.tolist()}; "
            "recalibrate the camera, or publish zeros where its calibration is unknown."
        )
    model, coefficients = ("none", ()) if rectified else _distortion(msg)
    camera = Camera(int(msg.width), int(msg.height), matrix, model, coefficients)
    camera = _binned(_cropped(camera, msg.roi), msg)
    if image_size is not None and (camera.width, camera.height) != tuple(image_size):
        raise InputError(
            f"CameraInfo describes images of {camera.width}x{camera.height}, the image is "
            f"{image_size[0]}x{image_size[1]}; use the CameraInfo topic of this very image topic."
        )
    return camera


def _field(msg: Any, name: str) -> Any:
    return getattr(msg, name) if hasattr(msg, name) else getattr(msg, name.upper())


def _distortion(msg: Any) -> tuple[str, tuple[float, ...]]:
    """Model name and coefficients; trailing zeros beyond a model's own number are dropped."""
    given = str(msg.distortion_model).strip().lower()
    model = _ALIASES.get(given, given)
    coefficients = tuple(float(value) for value in _field(msg, "d"))
    if not any(coefficients) and model in DISTORTION_MODELS:
        # Zeros distort nothing under the polynomial models; an ideal fisheye is not a pinhole.
        return ("equidistant", (0.0,) * 4) if model == "equidistant" and coefficients else ("none", ())
    most = max(DISTORTION_MODELS.get(model, (len(coefficients),)))
    if len(coefficients) > most and not any(coefficients[most:]):
        coefficients = coefficients[:most]
    if model == "none":
        raise InputError(
            f"CameraInfo has distortion coefficients {list(coefficients)} but names no distortion model; "
            f"expected one of {', '.join(DISTORTION_MODELS)}."
        )
    return model, coefficients


def _cropped(camera: Camera, roi: Any) -> Camera:
    """The part of the sensor that `roi` (full-resolution pixels, all zero = everything) reads out."""
    x, y, width, height = int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)
    if width == 0 and height == 0:
        width, height = camera.width - x, camera.height - y
    if width <= 0 or height <= 0 or x + width > camera.width or y + height > camera.height:
        raise InputError(
            f"CameraInfo's region of interest {width}x{height} at ({x}, {y}) does not lie in its "
            f"{camera.width}x{camera.height} image."
        )
    K = camera.K.copy()
    K[0, 2] -= x
    K[1, 2] -= y
    return Camera(width, height, K, camera.distortion_model, camera.distortion)


def _binned(camera: Camera, msg: Any) -> Camera:
    """The camera after the sensor's binning; 0 and 1 both mean none."""
    x, y = max(1, int(msg.binning_x)), max(1, int(msg.binning_y))
    if x == 1 and y == 1:
        return camera
    width, height = camera.width // x, camera.height // y
    if width == 0 or height == 0:
        raise InputError(f"CameraInfo's binning {x}x{y} leaves nothing of {camera.width}x{camera.height} pixels.")
    # Binning whole blocks; what does not fill a block at the right or lower edge is not read out.
    whole = Camera(width * x, height * y, camera.K, camera.distortion_model, camera.distortion)
    return whole.resized(width, height)
