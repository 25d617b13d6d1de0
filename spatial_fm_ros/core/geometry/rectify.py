"""From a camera's image to the working image: shrunk, and as a pinhole would have seen it."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.cameras import distort, distortion_limit, pinhole_rays, pixel_grid
from spatial_fm_ros.core.types import Array, Camera, Frame, Image

#: Widest view of a virtual pinhole. A pinhole spends most pixels of a wider view on its rim.
MAX_VIEW_DEG = 110.0
#: Focal lengths tried for the virtual pinhole, as factors of the real one.
FOCAL_FACTORS = (0.2, 5.0)
CACHED_CAMERAS = 4

Maps = tuple[NDArray[np.int16], NDArray[np.uint16]]


class Rectifier:
    """Brings frames to working size and, where their lens distorts, to a virtual pinhole.

    Look-up maps are computed once a camera and kept for the last few cameras. Thread-safe.
    """

    def __init__(self, max_side: int) -> None:
        """`max_side`: long side of the working image in pixels; smaller images keep their size."""
        self.max_side = max_side
        self._known: OrderedDict[tuple[object, ...], tuple[Camera, Maps]] = OrderedDict()
        self._lock = Lock()

    def rectify(self, frame: Frame) -> tuple[Image, Camera | None]:
        """The working image uint8 [h, w, 3] and its pinhole camera (None: unknown, only resized).

        An image that needs no change is returned as it is, not copied. Raises InputError for an image
        that is not RGB uint8, an empty one, and a camera of another image size.
        """
        self.check(frame)
        image, camera = frame.image, frame.camera
        height, width = image.shape[:2]
        scale = min(1.0, self.max_side / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if size != (width, height):
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        if camera is None:
            return image, None
        camera = camera.resized(*size)
        if camera.is_pinhole:
            return image, camera if camera.distortion_model == "none" else Camera(*size, camera.K)
        pinhole, maps = self._maps(camera)
        return cv2.remap(image, *maps, interpolation=cv2.INTER_LINEAR), pinhole

    @staticmethod
    def check(frame: Frame) -> None:
        """Raises InputError as `rectify` does, but for a lens that cannot be undone; costs nothing."""
        image, camera = frame.image, frame.camera
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"An RGB image uint8 [height, width, 3] is expected, got {image.dtype} {list(image.shape)}."
            )
        height, width = image.shape[:2]
        if min(height, width) < 8:
            raise InputError(f"An image of at least 8x8 pixels is expected, got {width}x{height}.")
        if camera is not None and (camera.width, camera.height) != (width, height):
            raise InputError(
                f"The image of '{frame.frame_id}' is {width}x{height} but its camera info is for "
                f"{camera.width}x{camera.height}; publish the camera info of this very image stream."
            )

    def _maps(self, camera: Camera) -> tuple[Camera, Maps]:
        key = (camera.width, camera.height, camera.K.tobytes(), camera.distortion_model, camera.distortion)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
            pinhole = virtual_pinhole(camera)
            rays = pinhole_rays(pinhole.K, pinhole.width, pinhole.height)
            source = _source_pixels(camera, rays[..., :2]).astype(np.float32)
            fixed, weights = cv2.convertMaps(source[..., 0], source[..., 1], cv2.CV_16SC2)
            self._known[key] = pinhole, (fixed, weights)
            while len(self._known) > CACHED_CAMERAS:
                self._known.popitem(last=False)
            return self._known[key]


def virtual_pinhole(camera: Camera) -> Camera:
    """The pinhole of the same size and principal point that shows most of the view without empty border.

    Its focal lengths are the camera's times one factor: the smallest for which every pixel of the rim
    looks where the real image has a pixel, and the view stays within MAX_VIEW_DEG. Raises InputError
    when no factor in FOCAL_FACTORS does, which no real lens needs.
    """
    width, height = camera.width, camera.height
    grid = pixel_grid(width, height)
    rim = np.concatenate([grid[0], grid[-1], grid[:, 0], grid[:, -1]]) - camera.K[:2, 2]
    rim = rim @ np.linalg.inv(camera.K[:2, :2]).T
    limit = distortion_limit(camera)

    def inside(factor: float) -> bool:
        xy = rim / factor
        if np.linalg.norm(xy, axis=1).max() > limit:
            return False
        pixels = _source_pixels(camera, xy)
        return bool((pixels >= 0).all() and (pixels <= (width - 1, height - 1)).all())

    low, high = FOCAL_FACTORS
    if not inside(high):
        raise InputError(
            f"The {camera.distortion_model} distortion {list(camera.distortion)} cannot be undone over "
            "the image; check the calibration, or rectify the images first."
        )
    if inside(low):
        high = low
    for _ in range(40):
        if high - low < 1e-6:
            break
        middle = 0.5 * (low + high)
        low, high = (low, middle) if inside(middle) else (middle, high)
    K = camera.K.copy()
    K[:2, :2] *= max(high, _factor_for_view(camera))
    return Camera(width, height, K)


def _factor_for_view(camera: Camera) -> float:
    """Focal factor at which the wider side spans MAX_VIEW_DEG."""
    half = np.tan(np.radians(MAX_VIEW_DEG / 2))
    spans = camera.width / (2 * camera.K[0, 0]), camera.height / (2 * camera.K[1, 1])
    return float(max(spans) / half)


def _source_pixels(camera: Camera, normalised: Array) -> Array:
    return distort(camera, normalised) @ camera.K[:2, :2].T + camera.K[:2, 2]
