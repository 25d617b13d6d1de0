"""Sequence folders: sequence.json, images/ and, where recorded, lidar/. Ground truth beside them stays shut."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Camera, LidarScan, Rig, Sample
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.images import ImageFolder, image_files, stamp_of_index


def read_description(path: Path) -> dict[str, Any]:
    """The content of a sequence.json. Raises InputError when it is no JSON object or has no rate."""
    try:
        described = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"The description {path} cannot be read: {error}.") from error
    if not isinstance(described, dict):
        raise InputError(f"The description {path} must be a JSON object, got {type(described).__name__}.")
    rate = described.get("rate_hz")
    if not isinstance(rate, (int, float)) or not rate > 0:
        raise InputError(f"The description {path} needs 'rate_hz' > 0 (images per second), got {rate!r}.")
    return described


def described_camera(described: dict[str, Any], path: Path) -> Camera | None:
    """The camera of a sequence.json; None where its K is null. Raises InputError for a K of another shape."""
    values = described.get("K")
    if values is None:
        return None
    K = np.asarray(values, dtype=np.float64)
    if K.size != 9:
        raise InputError(f"'K' in {path} needs 9 numbers (3x3 row by row), got {K.size}.")
    distortion = tuple(float(value) for value in described.get("distortion") or ())
    models = {0: "none", 4: "plumb_bob", 5: "plumb_bob", 8: "rational_polynomial"}
    model = str(described.get("distortion_model") or models.get(len(distortion), "plumb_bob"))
    return Camera(int(described["width"]), int(described["height"]), K.reshape(3, 3), model, distortion)


class SequenceFolder(ImageFolder):
    """A sequence folder; frame i is stamped i / rate_hz. LiDAR scans carry the stamp of their image."""

    kind = "sequence folder"

    def __init__(self, path: Path, options: SourceOptions) -> None:
        description = path / "sequence.json"
        described = read_description(description)
        rate = options.rate_hz or float(described["rate_hz"])
        files = image_files(path / "images") if (path / "images").is_dir() else []
        if not files:
            raise InputError(f"The sequence {path} has no images in {path / 'images'}.")
        # The number in a file's name is the frame's index: a gap in the files is a gap in time.
        numbered = all(file.stem.isdigit() for file in files)
        indices = [int(file.stem) if numbered else i for i, file in enumerate(files)]
        stamps = [stamp_of_index(i, rate) for i in indices]
        camera = described_camera(described, description)
        super().__init__(path, options, stamps=stamps, files=files, camera=camera)
        self._scan_unit = float(described.get("lidar_unit_m") or 0.0)
        self._scans = path / "lidar"
        extrinsic = described.get("camera_from_lidar")
        if self._scan_unit and extrinsic is not None and options.points_topic != "none":
            # There is no body frame in a sequence folder: the camera is the body.
            self.rig = Rig(
                body_from_camera=np.eye(4),
                body_from_lidar=np.asarray(extrinsic, dtype=np.float64).reshape(4, 4),
            )
            self._stems = {stamp: file.stem for file, stamp in zip(files, stamps)}
        else:
            self._stems = {}
        described_frames = described.get("frames")
        if isinstance(described_frames, int) and described_frames > len(files):
            self.notes.append(f"{description.name} speaks of {described_frames} frames, {len(files)} are there.")

    def scan(self, stamp_ns: int) -> LidarScan | None:
        """The scan that belongs to an image's stamp; None where there is none or it is damaged (counted)."""
        stem = self._stems.get(stamp_ns)
        file = self._scans / f"{stem}.npz"
        if stem is None or not file.is_file():
            return None
        try:
            with np.load(file) as data:
                points = data["xyz"].astype(np.float32) * np.float32(self._scan_unit)
                intensity = data["intensity"].astype(np.float32) if "intensity" in data else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            self.bad[f"the scan {file.name} cannot be read: {error}"] += 1
            return None
        return LidarScan(stamp_ns, points, intensity)

    def __iter__(self) -> Iterator[Sample]:
        for file, stamp in self._entries:
            scan = self.scan(stamp)
            if scan is not None:
                yield scan
            frame = self.frame(file, stamp)
            if frame is not None:
                yield frame
