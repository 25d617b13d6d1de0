"""Videos: frames alone, at the times of their container."""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import open_regular
from spatial_fm_ros.core.types import Image, Sample
from spatial_fm_ros.sources.base import DEFAULT_RATE_HZ, NS, Source, SourceOptions
from spatial_fm_ros.sources.file_names import stamp_of_index
from spatial_fm_ros.sources.stored import StoredImages

VIDEO_SUFFIXES = {".mp4", ".mkv", ".avi", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".mjpeg", ".ts"}

#: Containers count time in steps of up to a millisecond: what is no further from index / rate is a constant rate.
_SAME_NS = 2_000_000
_LONGEST_GAP_NS = 3600 * NS

#: FFmpeg would open whatever a playlist names, FIFOs too. No container begins with so many letters.
_HEAD_BYTES = 20
_PLAYLIST = re.compile(rb"[\t\n\r\x20-\x7e]{20}")

_EXIF_BY_DEGREES = {0: 1, 90: 6, 180: 3, 270: 8}  # clockwise, to stand upright

_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_environment = threading.Lock()


class Video(Source):
    """A video file, read with OpenCV.

    Frames are stamped index / frame rate, or from where the container's times differ from that on, by those; times
    count from the first frame. Raises InputError for what cannot be opened, and for more than `options.max_pixels`.
    """

    kind = "video"

    def __init__(self, path: Path, options: SourceOptions) -> None:
        super().__init__(path, options)
        self._open_files = ExitStack()
        file = self._open_files.enter_context(open_regular(path, "video"))
        try:
            if _PLAYLIST.match(file.read(_HEAD_BYTES)):
                raise InputError(
                    f"The video {shown(path)} is a text and no video; a playlist is not followed, name a file that it "
                    "lists."
                )
            with _bounded_ffmpeg(options.max_pixels):
                self._capture = cv2.VideoCapture(_name(path, file.fileno()), _backend())
            self._check()
        except BaseException:
            self.close()
            raise
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # pixels as stored: that is what a calibration describes
        self._orientation = _EXIF_BY_DEGREES.get(int(self._property(cv2.CAP_PROP_ORIENTATION_META)) % 360, 1)
        rate = options.rate_hz or self._property(cv2.CAP_PROP_FPS)
        if not (0.1 <= rate <= 1000.0) and not options.rate_hz:
            rate = DEFAULT_RATE_HZ
            self.notes.append(f"The video names no frame rate; {rate:g} Hz is assumed, --rate sets another.")
        self._rate = float(rate)
        self._count = int(min(max(0.0, self._property(cv2.CAP_PROP_FRAME_COUNT)), 1e12))
        self._stored = StoredImages(options, self.notes)
        last = min(self._count, int(min(options.stop_s, 1e9) * self._rate) + 1)
        first = math.ceil(options.start_s * self._rate)
        self.length = max(0, -(-(last - first) // options.every)) if self._count else None

    def _check(self) -> None:
        name = shown(self.path)
        if not self._capture.isOpened():
            raise InputError(
                f"The video {name} cannot be opened; it is damaged or its codec is unknown to OpenCV. "
                "Convert it to H.264 in MP4, or to an image folder."
            )
        width, height = (int(self._property(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > self.options.max_pixels:
            raise InputError(
                f"The video {name} has frames of {width}x{height} pixels, more than intake.max_pixels = "
                f"{self.options.max_pixels}; raise that parameter if they are real."
            )

    def _property(self, which: int) -> float:
        value = self._capture.get(which)
        return value if math.isfinite(value) else 0.0

    def __iter__(self) -> Iterator[Sample]:
        times = _Times(self._rate, None if self.options.rate_hz else self.notes)
        admitted = 0
        index = 0
        while self._capture.grab():
            stamp = times.of(index, self._property(cv2.CAP_PROP_POS_MSEC))
            if stamp > self.options.stop_s * NS:
                return
            index += 1
            if stamp < self.options.start_s * NS:
                continue
            admitted += 1
            if (admitted - 1) % self.options.every:
                continue
            ok, image = self._capture.retrieve()
            if not ok or image is None or image.ndim != 3:
                self.bad["a video frame could not be decoded"] += 1
            elif misfit := self._stored.misfit(image.shape[1::-1]):
                self.bad[misfit] += 1
            else:
                rgb: Image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                yield self._stored.frame(stamp, rgb, self._orientation, "The video")
        if index < self._count - 1:
            self.notes.append(
                f"The video {shown(self.path.name)} ended after {index} of {self._count} frames; the file is cut off "
                "or damaged there."
            )

    def close(self) -> None:
        if hasattr(self, "_capture"):
            self._capture.release()
        self._open_files.close()


class _Times:
    """Stamps of the frames as they come: of a constant rate until the container's own times differ from it.

    notes: where to say that they do; None: they do not count.
    """

    def __init__(self, rate_hz: float, notes: list[str] | None) -> None:
        self._rate_hz = rate_hz
        self._notes = notes
        self._own = False  # the container's times count
        self._first_ns: int | None = None
        self._last_ns = -1
        self._last_own_ns = 0

    def of(self, index: int, position_ms: float) -> int:
        """Nanoseconds after the first frame; they rise with every call."""
        even = stamp_of_index(index, self._rate_hz)
        own = round(position_ms * 1e6)
        if self._first_ns is None:
            self._first_ns = own
        own -= self._first_ns
        rising = index == 0 or 0 < own - self._last_own_ns < _LONGEST_GAP_NS
        if self._notes is not None and rising and not self._own and abs(own - even) > _SAME_NS:
            self._own = True
            self._notes.append(
                f"The video's frames do not come at even {self._rate_hz:g} Hz: they are stamped with the times of its "
                "container; --rate sets even ones."
            )
        stamp = even
        if self._own:
            stamp = own if rising else self._last_ns + stamp_of_index(1, self._rate_hz)
        self._last_own_ns = max(self._last_own_ns, own)
        self._last_ns = max(stamp, self._last_ns + 1)
        return self._last_ns


def _backend() -> int:
    """FFmpeg where OpenCV has it: others take names for patterns and addresses."""
    return int(cv2.CAP_FFMPEG) if cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends() else int(cv2.CAP_ANY)


def _name(path: Path, descriptor: int) -> str:
    """A name that OpenCV takes, and FFmpeg for no address."""
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"/proc/self/fd/{descriptor}"
    return name


@contextmanager
def _bounded_ffmpeg(max_pixels: int) -> Iterator[None]:
    """FFmpeg opens no address that a video names and decodes no larger frames, but for what the user says himself."""
    with _environment:
        if _FFMPEG_OPTIONS in os.environ:
            yield
            return
        os.environ[_FFMPEG_OPTIONS] = f"protocol_whitelist;file|max_pixels;{max_pixels}"
        try:
            yield
        finally:
            del os.environ[_FFMPEG_OPTIONS]
