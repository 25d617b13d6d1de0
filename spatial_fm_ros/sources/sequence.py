"""Sequence folders: sequence.json, images/ and, where recorded, lidar/. Ground truth beside them stays shut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.arrays import read_npz
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.sequence_description import SequenceDescription, read_description
from spatial_fm_ros.core.types import LidarScan, Rig, Sample
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.file_names import files_in, stamp_of_index
from spatial_fm_ros.sources.images import IMAGE_SUFFIXES, ImageFolder

DESCRIPTION = "sequence.json"
_INDEX = re.compile(r"[0-9]{1,9}")


class SequenceFolder(ImageFolder):
    """A sequence folder; frame i is stamped i / rate_hz. LiDAR scans carry the stamp of their image.

    Images are taken as stored: that is what sequence.json describes, where the LiDAR is mounted too.
    """

    kind = "sequence folder"

    def __init__(self, path: Path, options: SourceOptions) -> None:
        described = read_description(path / DESCRIPTION)
        images = path / "images"
        files = files_in(images, IMAGE_SUFFIXES)[0] if images.is_dir() else []
        if not files:
            raise InputError(f"The sequence {shown(path)} has no images in {shown(images)}.")
        # The number in a file's name is the frame's index: a gap in the files is a gap in time.
        numbered = all(_INDEX.fullmatch(file.stem) for file in files)
        rate = options.rate_hz or described.rate_hz
        stamps = [stamp_of_index(int(file.stem) if numbered else i, rate) for i, file in enumerate(files)]
        super().__init__(images, options, stamps=stamps, camera=described.camera, upright=False)
        self.path = path
        if not numbered:
            self.notes.append("File names are no plain numbers: images are stamped by their order.")
        if described.frames > len(files):
            self.notes.append(f"{DESCRIPTION} speaks of {described.frames} frames, {len(files)} are there.")
        self._scan_unit = described.lidar_unit_m
        self._scans = self._find_scans(described)

    def _find_scans(self, described: SequenceDescription) -> dict[int, Path]:
        """Files of scans by stamp; the rig learns where the LiDAR sits."""
        if not self._scan_unit or described.camera_from_lidar is None or self.options.points_topic == "none":
            return {}
        # There is no body frame in a sequence folder: the camera is the body.
        self.rig = Rig(body_from_camera=np.eye(4), body_from_lidar=described.camera_from_lidar)
        return {stamp: self.path / "lidar" / f"{file.stem}.npz" for file, stamp in self._entries}

    def scan(self, stamp_ns: int) -> LidarScan | None:
        """The scan that belongs to an image's stamp; None where there is none or it is damaged (counted)."""
        file = self._scans.get(stamp_ns)
        if file is None or not file.exists():
            return None
        try:
            found = read_npz(file, "scan", ("xyz", "intensity"))
            return LidarScan(stamp_ns, *_measured(found, self._scan_unit), arrived_ns=stamp_ns)
        except InputError as error:
            self.bad[f"the scan {shown(file.name)} cannot be read: {error}"] += 1
            return None

    def __iter__(self) -> Iterator[Sample]:
        for file, stamp in self._entries:
            scan = self.scan(stamp)
            if scan is not None:
                yield scan
            frame = self.frame(file, stamp)
            if frame is not None:
                yield frame


def _measured(found: dict[str, np.ndarray], unit_m: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Points float32 [N, 3] in metres and intensity float32 [N] or None. Raises InputError for other shapes."""
    xyz, intensity = found.get("xyz"), found.get("intensity")
    if xyz is None or xyz.ndim != 2 or xyz.shape[1] != 3 or xyz.dtype.kind not in "iuf":
        raise InputError("it holds no numbers 'xyz' of shape [N, 3]")
    if intensity is not None and (intensity.shape != xyz.shape[:1] or intensity.dtype.kind not in "iuf"):
        raise InputError("its 'intensity' is no number for each point")
    points = xyz.astype(np.float32) * np.float32(unit_m)
    return points, None if intensity is None else intensity.astype(np.float32)
