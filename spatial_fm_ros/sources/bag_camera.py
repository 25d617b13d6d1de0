"""One camera of a bag: its images, with the calibration that was sent before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from spatial_fm_ros.bridge.decode import decode_camera_info, frame_name, open_compressed_image, open_image
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.optical import optical_frame
from spatial_fm_ros.core.intake.one_kind import two_frames, two_sizes
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.pictures.decode import MAX_PIXELS
from spatial_fm_ros.core.types import Camera, Frame
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.reasons import Reasons
from spatial_fm_ros.sources.topics import CameraTopics

#: Frames or sizes of a topic's images that are named.
_NAMED = 5


class BagCamera:
    """Decodes a camera's messages.

    One camera has one frame and one size: those of its first image. Images and calibrations of others are left out and
    counted. frame: the one its images come in, by the name given where they name none. info: the newest CameraInfo,
    None before the first. What cannot be decoded is counted in `bad`. options: whose intrinsics stand above CameraInfo,
    if any. rectified: its images have no distortion, and P counts. max_pixels: larger pictures are not decoded.
    is_body: frames of images are body-like (ros.image_frame_is_body); `frame` is then the optical one made for it.
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
        is_body: bool = False,
    ) -> None:
        self.topics = topics
        self.frame = optical_frame(frame) if is_body else frame
        self._named = frame  # in the messages
        self.info: Any = None
        self._of_this_frame = False
        self._bad = bad
        self._options = options
        self._max_pixels = max_pixels
        self._rectified = rectified
        self._known: tuple[Any, tuple[int, int], Camera | None] | None = None
        self._size: tuple[int, int] | None = None
        self._other_frames: Counter[str] = Reasons()
        self._other_sizes: Counter[str] = Reasons()
        if info is not None:
            self.take_info(info)

    def take_info(self, info: Any) -> None:
        """A CameraInfo. Once one came in the frame of the images, those of other frames are another camera's."""
        mine = frame_name(info.header, "") == self._named
        if mine or not self._of_this_frame:
            self.info = info
            self._of_this_frame = mine

    def takes(self, message: Any) -> bool:
        """Whether an image is this camera's by its frame; others are counted."""
        frame = frame_name(message.header, self._named)
        if frame != self._named:
            self._other_frames[frame] += 1
        return frame == self._named

    def decoder(self, message: Any, stamp_ns: int) -> Callable[[], Frame | None]:
        """Decodes an image when called, with the calibration as it is known now; None for one that is damaged."""
        info = self.info
        return lambda: self._decode(message, stamp_ns, info)

    def notes(self) -> list[str]:
        """A sentence for each frame and size that was left out."""
        topic, found = shown(self.topics.image), []
        for frame, count in self._other_frames.most_common(_NAMED):
            found.append(two_frames(topic, shown(self._named), shown(frame), count=count))
        for size, count in self._other_sizes.most_common(_NAMED):
            assert self._size is not None
            found.append(two_sizes(topic, self._size, size, count))
        return found

    def _decode(self, message: Any, stamp_ns: int, info: Any) -> Frame | None:
        try:
            image = open_compressed_image(message, self._max_pixels) if self.topics.compressed else open_image(message)
            if self._size is not None and self._size != image.size:
                self._other_sizes[f"{image.size[0]}x{image.size[1]}"] += 1
                return None
            camera = self._camera(info, image.size)
            if self._options is not None:
                camera = self._options.camera_for(*image.size, camera)
            pixels = image.pixels()
            self._size = image.size  # known by an image that is whole: a header alone may lie
            return Frame(stamp_ns, pixels, camera, self.frame)
        except InputError as error:
            self._bad[f"{shown(self.topics.image)}: {error}"] += 1
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
            self._bad[f"{shown(self.topics.camera_info)}: {error}"] += 1
        if self._known is not None and camera is not None and _same_camera(self._known[2], camera):
            camera = self._known[2]  # keep one object, so that what is cached by camera stays cached
        self._known = (info, size, camera)
        return camera


def _same_camera(a: Camera | None, b: Camera) -> bool:
    if a is None or (a.width, a.height) != (b.width, b.height) or not bool((a.K == b.K).all()):
        return False
    return (a.distortion_model, a.distortion) == (b.distortion_model, b.distortion)
