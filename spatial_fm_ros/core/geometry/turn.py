"""Turning an image and its camera by quarters, as photos and videos say that they are to be shown."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.types import Camera, Image

#: Quarter turns clockwise that bring stored pixels upright, by EXIF orientation. The other four are mirrored: no
#: pinhole sees what a mirrored image shows, so they are left alone.
QUARTERS_BY_EXIF = {1: 0, 6: 1, 3: 2, 8: 3}


def turned_image(image: Image, quarters: int) -> Image:
    """The image turned clockwise: pixel (u, v) of W x H becomes (H - 1 - v, u) with one quarter. May be a view."""
    return np.rot90(image, -quarters)


def can_turn(camera: Camera) -> bool:
    """Whether the turned camera is one of the same model: no skew, no tilted sensor."""
    return not camera.K[0, 1] and not any(camera.distortion[12:])


def turned_camera(camera: Camera, quarters: int) -> Camera:
    """The camera of the turned image, itself turned about its axis. Raises ValueError where `can_turn` is false."""
    if not can_turn(camera):
        raise ValueError("a camera with skew or a tilted sensor cannot be turned")
    for _ in range(quarters % 4):
        camera = _quarter(camera)
    return camera


def _quarter(camera: Camera) -> Camera:
    """x' = -y and y' = x, in pixels, of rays and of what the lens makes of them."""
    K = np.array(
        [
            [camera.K[1, 1], 0.0, camera.height - 1 - camera.K[1, 2]],
            [0.0, camera.K[0, 0], camera.K[0, 2]],
            [0.0, 0.0, 1.0],
        ]
    )
    coefficients = list(camera.distortion)
    if camera.distortion_model in ("plumb_bob", "rational_polynomial"):
        p1, p2 = coefficients[2:4]
        coefficients[2:4] = p2, -p1
        if len(coefficients) >= 12:
            s1, s2, s3, s4 = coefficients[8:12]
            coefficients[8:12] = -s3, -s4, s1, s2
    return Camera(camera.height, camera.width, K, camera.distortion_model, tuple(coefficients))
