"""One camera of a bag: its images, with the calibration that was sent before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from spatial_fm_ros.bridge.decode import decode_camera_info, frame_name, open_compressed_image, open_image
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.pictures.decode import MAX_PIXELS
from spatial_fm_ros.core.types import Camera, Frame
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.topics import CameraTopics


class BagCamera:
    """Decodes a camera's messages.

    frame: the frame its images come in where their header names none. info: the newest CameraInfo, None before the
    first. What cannot be decoded is counted in `bad`. options: whose intrinsics stand above CameraInfo, if any.
    rectified: its images have no distortion, and P counts. max_pixels: larger pictures are not decoded.
    """

    def __init__(
        self,
        topics: CameraTopics,
        frame: str,
        info: Any,
        bad: Counter[str],
        options: SourceOptions | None = None,
        rectified: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.topics = topics
        self.frame = frame
        self.info = info
        self._bad = bad
        self._options = options
        self._max_pixels = max_pixels
        self._rectified = rectified
        self._known: tuple[Any, tuple[int, int], Camera | None] | None = None

    def decoder(self, message: Any, stamp_ns: int) -> Callable[[], Frame | None]:
        """Decodes an image when called, with the calibration as it is known now; None for one that is damaged."""
        info = self.info
        return lambda: self._decode(message, stamp_ns, info)

    def _decode(self, message: Any, stamp_ns: int, info: Any) -> Frame | None:
        try:
            image = open_compressed_image(message, self._max_pixels) if self.topics.compressed else open_image(message)
            camera = self._camera(info, image.size)
            if self._options is not None:
                camera = self._options.camera_for(*image.size, camera)
            return Frame(stamp_ns, image.pixels(), camera, frame_name(message.header, self.frame))
        except InputError as error:
            self._bad[f"{self.topics.image}: {error}"] += 1
            return None

    def _camera(self, info: Any, size: tuple[int, int]) -> Camera | None:
        """The camera a CameraInfo describes; None without one. One that does not fit is counted, not used."""
        if info is None:
            return None
        if self._known is not None and self._known[0] is info and self._known[1] == size:
            return self._known[2]
        camera = None
        try:
            camera = decode_camera_info(info, size, rectified=self._rectified)
        except InputError as error:
            self._bad[f"{self.topics.camera_info}: {error}"] += 1
        if self._known is not None and camera is not None and _same_camera(self._known[2], camera):
            camera = self._known[2]  # keep one object, so that what is cached by camera stays cached
        self._known = (info, size, camera)
        return camera


def _same_camera(a: Camera | None, b: Camera) -> bool:
    if a is None or (a.width, a.height) != (b.width, b.height) or not bool((a.K == b.K).all()):
        return False
    return (a.distortion_model, a.distortion) == (b.distortion_model, b.distortion)
