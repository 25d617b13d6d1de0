"""Pixels as stored, the one calibration that describes them, and both turned upright together."""

from __future__ import annotations

from spatial_fm_ros.core.geometry.turn import QUARTERS_BY_EXIF, can_turn, turned_camera, turned_image
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.types import Camera, Frame, Image
from spatial_fm_ros.sources.base import SourceOptions


class StoredImages:
    """Makes frames of the images of one folder or video.

    A calibration is of one size of the pixels as stored: what the input says of itself (`described`), or
    `options.intrinsics`, which are taken to be of the first image's size. notes: where a sentence goes for people, once
    for each thing that happens.
    """

    def __init__(
        self, options: SourceOptions, notes: list[str], described: Camera | None = None, upright: bool = True
    ) -> None:
        """`upright`: turn images and calibration as the files say; else leave both as stored."""
        self._options = options
        self._notes = notes
        self._upright = upright
        self._described = described
        self._camera: Camera | None = None
        self._begun = False
        self._said: set[str] = set()
        self._turned: dict[int, Camera | None] = {}

    def misfit(self, size: tuple[int, int]) -> str:
        """Why an image of this (width, height) does not belong to the calibration, before it is decoded; '' if it does.

        Raises InputError for options that make no camera.
        """
        if not self._begun:
            self._camera = self._options.camera_for(*size, self._described)
            self._begun = True
        camera = self._camera
        if camera is None or (camera.width, camera.height) == size:
            return ""
        said = (
            f"the intrinsics given are taken to be of the first image's size, {camera.width}x{camera.height}"
            if self._options.intrinsics
            else f"the calibration is of {camera.width}x{camera.height}"
        )
        return f"an image has {size[0]}x{size[1]} pixels as stored; {said}"

    def frame(self, stamp_ns: int, image: Image, orientation: int, name: str) -> Frame:
        """The frame of an image (RGB uint8, as stored) that fits; orientation: EXIF's.

        Stored images come in the order of their stamps: these say when they were recorded, minutes or years apart.
        """
        camera, quarters = self._camera, 0 if orientation == 1 else self._quarters(orientation, name)
        if quarters:
            if quarters not in self._turned:
                self._turned[quarters] = None if camera is None else turned_camera(camera, quarters)
            camera, image = self._turned[quarters], turned_image(image, quarters).copy()
        return Frame(stamp_ns, image, camera, arrived_ns=stamp_ns)

    def _quarters(self, orientation: int, name: str) -> int:
        quarters = QUARTERS_BY_EXIF.get(orientation)
        if quarters is None:
            self._say(name, f"is stored mirrored (EXIF orientation {orientation}); such images are taken as stored.")
            return 0
        turn = f"says that it is to be turned by {90 * quarters} degrees"
        if not self._upright:
            self._say(name, f"{turn}; the calibration describes pixels as stored, so they are taken as stored.")
            return 0
        if self._camera is not None and not can_turn(self._camera):
            self._say(name, f"{turn}, and a calibration with skew or tilt cannot be; it is taken as stored.")
            return 0
        with_it = ", and the calibration (of the pixels as stored) with it" if self._camera is not None else ""
        self._say(name, f"{turn}: such images are turned{with_it}.")
        return quarters

    def _say(self, name: str, what: str) -> None:
        """Once for everything that happens, of the first file to which it does."""
        if what not in self._said:
            self._said.add(what)
            self._notes.append(f"{shown(name, 80)} {what}")
