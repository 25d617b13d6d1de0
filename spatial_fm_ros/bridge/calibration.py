"""Which CameraInfo belongs to which image. Needs no ROS: messages are duck-typed."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from spatial_fm_ros.bridge.decode import decode_camera_info, frame_name, stamp_ns
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Camera

#: CameraInfo kept to find the one with an image's own stamp.
_KEPT = 30
#: Stamps of image and newest CameraInfo further apart than this deserve a warning.
_APART_NS = 1_000_000_000


class CalibrationPending(Exception):
    """CameraInfo is expected but has not come yet: the image cannot be used now."""


class Calibration:
    """Caches CameraInfo. A camera's calibration rarely changes, so the newest one serves images that
    have none with their own stamp. Where several cameras send theirs on one topic, an image gets that of its frame.
    Thread-safe.
    """

    def __init__(
        self,
        expected: bool,
        patience_s: float,
        rectified: bool,
        without: str = "the model estimates the focal length",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`expected`: a CameraInfo topic is configured. Images wait for it `patience_s` steady seconds from
        the first image on; after that they go without; `without` says what then happens to them."""
        self._expected = expected
        self._patience_s = patience_s
        self.rectified = rectified
        self._without = without
        self._now = now
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, str], Camera | None] = OrderedDict()  # by stamp and frame, oldest first
        self._waiting_since: float | None = None
        self.remark = ""

    def add(self, msg: Any) -> None:
        """Take a CameraInfo. Raises InputError for one that cannot be used; the last good one stays."""
        stamp, camera = stamp_ns(msg.header), decode_camera_info(msg, rectified=self.rectified)
        with self._lock:
            key = (stamp, frame_name(msg.header, ""))
            self._kept[key] = camera
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def camera_for(self, stamp: int, size: tuple[int, int], frame: str) -> Camera | None:
        """The camera of an image (width, height); None where its calibration is unknown.

        Raises CalibrationPending while CameraInfo is still worth waiting for, and InputError when it
        describes images of another size.
        """
        with self._lock:
            if not self._kept:
                self._wait_or_go_on()
                return None

            keys = list(self._kept)
            best = max(range(len(keys)), key=lambda i: (keys[i][1] == frame, keys[i][0] == stamp, i))
            camera, info_frame, newest = self._kept[keys[best]], keys[best][1], keys[-1][0]
            self.remark = _remark(abs(stamp - newest), frame, info_frame)
        if camera is not None and (camera.width, camera.height) != size:
            raise InputError(
                f"CameraInfo describes images of {camera.width}x{camera.height}, the image is "
                f"{size[0]}x{size[1]}; use the CameraInfo topic of this very image topic."
            )
        return camera

    def reset(self) -> None:
        """Stamps start anew; the newest calibration stays."""
        with self._lock:
            newest = {frame: (stamp, frame) for stamp, frame in self._kept}
            self._kept = OrderedDict((key, self._kept[key]) for key in newest.values())

    def _wait_or_go_on(self) -> None:
        if not self._expected:
            return
        now = self._now()
        if self._waiting_since is None:
            self._waiting_since = now
        if now - self._waiting_since < self._patience_s:
            raise CalibrationPending
        self.remark = f"No CameraInfo came; {self._without}."


def _remark(apart_ns: int, frame: str, info_frame: str) -> str:
    if apart_ns > _APART_NS:
        return f"The newest CameraInfo is {apart_ns / 1e9:.1f} s from the image's stamp; is it of this camera?"
    if info_frame and info_frame != frame:
        return f"The image is in frame '{frame}', its CameraInfo in '{info_frame}'; is it of this camera?"
    return ""
