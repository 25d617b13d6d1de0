"""sensor_msgs/CameraInfo to a Camera, without importing ROS (messages are duck-typed)."""

from __future__ import annotations

from typing import Any

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import DISTORTION_MODELS, Array, Camera

#: Names drivers use for the models of DISTORTION_MODELS, as letters and digits in lower case.
_POLYNOMIAL = "polynomial"  # one of OpenCV's: their number of coefficients tells which
_ALIASES = {
    "": "none",
    **dict.fromkeys(("none", "nodistortion", "undistorted", "rectified", "ideal"), "none"),
    **dict.fromkeys(("plumbbob", "radtan", "radialtangential", "brownconrady", "brown", "radtan5"), "plumb_bob"),
    **dict.fromkeys(("rationalpolynomial", "rational", "rationalpolynomialmodel", "radtan8"), "rational_polynomial"),
    **dict.fromkeys(("pinhole", "perspective", "opencv", "fullopencv", "polynomial", "standard"), _POLYNOMIAL),
    **dict.fromkeys(
        ("equidistant", "fisheye", "kannalabrandt", "kannalabrandt4", "kb4", "opencvfisheye", "equi", "pinholeequi"),
        "equidistant",
    ),
}


def decode_camera_info(msg: Any, image_size: tuple[int, int] | None = None, rectified: bool = False) -> Camera | None:
    """Intrinsics of the images that come with `msg`; None where they are unknown (K all zero).

    `image_size` (width, height) of the image it came with is checked against it. With `rectified`
    the images are already rectified: the projection matrix P counts, K where P is empty, and there is no distortion.
    Binning and region of interest are applied as sensor_msgs/CameraInfo defines them: K is of the
    full, unbinned image. Raises InputError on NaN or impossible K, an unknown distortion model, a
    wrong number of coefficients, or a size that is not the image's.
    """
    # Humble and Jazzy use k, d, p; ROS 1 bags K, D, P.
    matrix = _matrix(msg, "p") if rectified else None
    if matrix is None:
        matrix = _matrix(msg, "k")
    if matrix is None:
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


def _matrix(msg: Any, name: str) -> Array | None:
    """The left 3x3 of K or P; None where it is empty, all zero."""
    values = np.asarray(_field(msg, name), dtype=np.float64)
    return values.reshape(3, -1)[:, :3] if values.any() else None


def _field(msg: Any, name: str) -> Any:
    return getattr(msg, name) if hasattr(msg, name) else getattr(msg, name.upper())


def _distortion(msg: Any) -> tuple[str, tuple[float, ...]]:
    """Model name and coefficients; trailing zeros beyond a model's own number are dropped.

    Drivers spell names in any way and send zeros under any name: zeros distort nothing, but for an ideal fisheye,
    which is no pinhole.
    """
    given = str(msg.distortion_model)
    model = _ALIASES.get("".join(c for c in given.lower() if c.isalnum()), given)
    coefficients = tuple(float(value) for value in _field(msg, "d"))
    if not any(coefficients):
        return ("equidistant", (0.0,) * 4) if model == "equidistant" and coefficients else ("none", ())
    if model == "none":
        raise InputError(
            f"CameraInfo has distortion coefficients {list(coefficients)} but names no distortion model; "
            f"expected one of {', '.join(DISTORTION_MODELS)}."
        )
    last = max(i for i, value in enumerate(coefficients) if value) + 1
    if model == _POLYNOMIAL:
        model = "plumb_bob" if last <= 5 else "rational_polynomial"
    if model == "rational_polynomial" and len(coefficients) in (4, 5):
        model = "plumb_bob"  # the denominator is 1
    fitting = [count for count in DISTORTION_MODELS.get(model, ()) if last <= count <= len(coefficients)]
    if not fitting:
        return model, coefficients
    return model, coefficients[: max(fitting) if model == "plumb_bob" else min(fitting)]


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
