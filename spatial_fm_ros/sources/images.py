"""Image folders: frames alone, stamped from file names or at a rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import IMAGE_BYTES, read_bytes, regular_file
from spatial_fm_ros.core.pictures.decode import rgb8, stored_pixels
from spatial_fm_ros.core.pictures.header import read_header
from spatial_fm_ros.core.types import Camera, Frame, Sample
from spatial_fm_ros.sources.base import DEFAULT_RATE_HZ, NS, Source, SourceOptions
from spatial_fm_ros.sources.file_names import files_in, stamp_of_index, stamps_from_names
from spatial_fm_ros.sources.stored import StoredImages

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


class ImageFolder(Source):
    """A folder of images. No calibration unless given as an option."""

    kind = "image folder"

    def __init__(
        self,
        path: Path,
        options: SourceOptions,
        *,
        stamps: list[int] | None = None,
        camera: Camera | None = None,
        upright: bool = True,
    ) -> None:
        """stamps: of its images in natural order, where something else says them. camera: of the pixels as stored.

        upright: turn images (and the camera with them) as they say. Raises InputError for a folder without images.
        """
        super().__init__(path, options)
        files, others = files_in(path, IMAGE_SUFFIXES)
        for other in others:
            self._leave_out(other)
        if not files:
            raise InputError(
                f"The folder {shown(path)} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}), no rosbag2 and no "
                "sequence.json; name the folder that directly holds them."
            )
        entries = self._in_time(files, self._stamps(files) if stamps is None else stamps)
        self._stored = StoredImages(options, self.notes, camera, upright)
        low, high = options.start_s * NS, options.stop_s * NS
        begin, end = entries[0][1], entries[-1][1]
        self._entries = [(file, s) for file, s in entries if low <= s - begin <= high][:: options.every]
        if not self._entries:
            raise InputError(
                f"No image of {shown(path)} lies between {options.start_s:g} and {options.stop_s:g} s; it spans "
                f"{(end - begin) / NS:g} s."
            )
        self.length = len(self._entries)

    def _leave_out(self, other: Path) -> None:
        try:
            regular_file(other, "image")
        except InputError as error:
            self.bad[str(error)] += 1

    def _stamps(self, files: list[Path]) -> list[int]:
        rate = self.options.rate_hz
        stamps = None if rate else stamps_from_names([file.stem for file in files])
        if stamps is not None:
            return stamps
        if not rate:
            self.notes.append(
                f"File names are no stamps: images are stamped at {DEFAULT_RATE_HZ:g} Hz; --rate sets another rate."
            )
        return [stamp_of_index(i, rate or DEFAULT_RATE_HZ) for i in range(len(files))]

    def _in_time(self, files: list[Path], stamps: list[int]) -> list[tuple[Path, int]]:
        """Files and stamps by time; of those with one time only the first is kept, the others are counted."""
        entries: list[tuple[Path, int]] = []
        for i in sorted(range(len(files)), key=stamps.__getitem__):
            if entries and stamps[i] == entries[-1][1]:
                self.bad[f"an image has the same time as another ({shown(files[i].name)})"] += 1
            else:
                entries.append((files[i], stamps[i]))
        if entries[0][1] < 0:
            self.notes.append(f"The first image's name says {entries[0][1] / NS:g} s; times before 0 are kept.")
        return entries

    def frame(self, file: Path, stamp_ns: int) -> Frame | None:
        """The frame of one file, or None (counted) when it is no image, or of another size than the calibration."""
        try:
            content = read_bytes(file, "image", IMAGE_BYTES)
        except InputError as error:
            self.bad[str(error)] += 1
            return None
        try:
            header = read_header(content).bounded(self.options.max_pixels)
            misfit = self._stored.misfit(header.size)
            image = None if misfit else rgb8(stored_pixels(header))
        except InputError as error:
            self.bad[f"the image {shown(file.name)} cannot be used: {error}"] += 1
            return None
        if image is None:
            self.bad[misfit] += 1
            return None
        return self._stored.frame(stamp_ns, image, header.orientation, file.name)

    def __iter__(self) -> Iterator[Sample]:
        for file, stamp in self._entries:
            frame = self.frame(file, stamp)
            if frame is not None:
                yield frame
