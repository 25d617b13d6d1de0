"""Image folders and videos: frames alone, stamped from file names or from the frame rate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path

import cv2
import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Camera, Frame, Image, Sample
from spatial_fm_ros.sources.base import DEFAULT_RATE_HZ, NS, Source, SourceOptions

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
VIDEO_SUFFIXES = {".mp4", ".mkv", ".avi", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".mjpeg", ".ts"}

# Digits of an integer epoch stamp since 2001 and what multiplies it to nanoseconds.
_EPOCH_DIGITS = {10: NS, 13: 1_000_000, 16: 1_000, 19: 1}


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which 'img2' comes before 'img10'."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in parts if part]


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order; hidden files are left out."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
    return sorted(files, key=lambda file: natural_key(file.stem))


def load_image(path: Path) -> Image:
    """RGB uint8 [H, W, 3]; 16-bit images are scaled to 8. Raises InputError when it is no readable image."""
    try:
        data = np.fromfile(path, dtype=np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except (OSError, cv2.error) as error:
        raise InputError(f"The image {path.name} cannot be read: {error}.") from error
    if image is None:
        raise InputError(f"The file {path.name} holds no image that OpenCV can decode.")
    rgb: Image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def stamps_from_names(names: list[str]) -> list[int] | None:
    """Stamps in ns if every name is an epoch number (s, ms, us, ns) or decimal seconds, else None.

    Short whole numbers are counters, not stamps. Equal or falling stamps are not taken for stamps.
    """
    stamps = []
    for name in names:
        if re.fullmatch(r"\d+\.\d+", name):
            try:
                stamps.append(int(Decimal(name) * NS))
            except InvalidOperation:
                return None
        elif name.isdigit() and len(name) in _EPOCH_DIGITS and name[0] != "0":
            stamps.append(int(name) * _EPOCH_DIGITS[len(name)])
        else:
            return None
    if any(b <= a for a, b in zip(stamps, stamps[1:])):
        return None
    return stamps


def stamp_of_index(index: int, rate_hz: float) -> int:
    """Nanoseconds of frame `index` at a constant rate, rounded."""
    return round(Decimal(index) * NS / Decimal(str(rate_hz)))


class ImageFolder(Source):
    """A folder of images. No calibration unless given as an option."""

    kind = "image folder"

    def __init__(
        self,
        path: Path,
        options: SourceOptions,
        *,
        stamps: list[int] | None = None,
        files: list[Path] | None = None,
        camera: Camera | None = None,
    ) -> None:
        super().__init__(path, options)
        files = image_files(path) if files is None else files
        if not files:
            raise InputError(
                f"The folder {path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}), no rosbag2 and no "
                "sequence.json; name the folder that directly holds them."
            )
        rate = options.rate_hz or DEFAULT_RATE_HZ
        if stamps is None:
            stamps = None if options.rate_hz else stamps_from_names([file.stem for file in files])
            if stamps is None:
                stamps = [stamp_of_index(i, rate) for i in range(len(files))]
                if not options.rate_hz:
                    self.notes.append(
                        f"File names are no stamps: images are stamped at {rate:g} Hz; --rate sets another rate."
                    )
        low, high = options.start_s * NS, options.stop_s * NS
        entries = list(zip(files, stamps))
        entries = [(file, s) for file, s in entries if low <= s - stamps[0] <= high][:: options.every]
        if not entries:
            raise InputError(
                f"No image of {path} lies between {options.start_s:g} and {options.stop_s:g} s; it spans "
                f"{(stamps[-1] - stamps[0]) / NS:g} s."
            )
        self._entries = entries
        self._camera = camera
        self.length = len(entries)

    def frame(self, file: Path, stamp_ns: int) -> Frame | None:
        """The frame of one file, or None (counted) when the file is no image."""
        try:
            image = load_image(file)
        except InputError as error:
            self.bad[str(error)] += 1
            return None
        height, width = image.shape[:2]
        return Frame(stamp_ns, image, self.options.camera_for(width, height, self._camera))

    def __iter__(self) -> Iterator[Sample]:
        for file, stamp in self._entries:
            frame = self.frame(file, stamp)
            if frame is not None:
                yield frame


class Video(Source):
    """A video file, read with OpenCV; stamps are index / frame rate."""

    kind = "video"

    def __init__(self, path: Path, options: SourceOptions) -> None:
        super().__init__(path, options)
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise InputError(
                f"The video {path} cannot be opened; it is damaged or its codec is unknown to OpenCV. "
                "Convert it to H.264 in MP4, or to an image folder."
            )
        rate = options.rate_hz or self._capture.get(cv2.CAP_PROP_FPS)
        if not (0.1 <= rate <= 1000.0):
            rate = DEFAULT_RATE_HZ
            self.notes.append(f"The video names no frame rate; {rate:g} Hz is assumed, --rate sets another.")
        self._rate = float(rate)
        self._count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        last = min(self._count, int(min(options.stop_s, 1e9) * self._rate) + 1)
        first = int(np.ceil(options.start_s * self._rate))
        self.length = max(0, -(-(last - first) // options.every)) if self._count else None

    def __iter__(self) -> Iterator[Sample]:
        index = 0
        while True:
            stamp = stamp_of_index(index, self._rate)
            if stamp > self.options.stop_s * NS:
                return
            if not self._capture.grab():
                break
            skipped = stamp < self.options.start_s * NS
            if not skipped and (index - int(np.ceil(self.options.start_s * self._rate))) % self.options.every == 0:
                ok, image = self._capture.retrieve()
                if ok and image is not None:
                    rgb: Image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                    height, width = rgb.shape[:2]
                    yield Frame(stamp, rgb, self.options.camera_for(width, height, None))
                else:
                    self.bad["a video frame could not be decoded"] += 1
            index += 1
        if index < self._count - 1:
            self.notes.append(
                f"The video {self.path.name} ended after {index} of {self._count} frames; the file is cut off there."
            )

    def close(self) -> None:
        self._capture.release()
