"""Folders of depth images: this package's own (index.json), sequence folders, and plain files.

Own format: `depth/NNNNNN.png` uint16 along z, 0 = unknown, times the file's `unit` in world units
(metres where `metric`); `confidence/NNNNNN.png` uint8, 255 = certain; `index.json` lists them with
stamp, keyframe, submap and the pinhole K of the depth image.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.core.types import Array, Camera, Depth, PosedKeyframe

DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".npz")
MILLIMETRE = 0.001
_LARGEST = 65534  # 65535 marks unknown in other tools' files


@dataclass
class DepthEntry:
    """One depth image of a folder. stamp_ns and K are None where nothing tells them."""

    file: Path
    unit: float
    stamp_ns: int | None = None
    K: Array | None = None
    confidence: Path | None = None
    submap: int = 0

    @property
    def key(self) -> str:
        return self.file.stem


def read_depth(entry: DepthEntry) -> Depth:
    """float32 [h, w], NaN = unknown. Raises InputError when the file is no depth image."""
    try:
        raw = _read_raw(entry.file)
    except (OSError, ValueError, KeyError, cv2.error) as error:
        raise InputError(f"The depth image {entry.file} cannot be read: {error}.") from error
    if raw is None or raw.ndim != 2:
        raise InputError(f"{entry.file} is no depth image: one channel is expected, 16 bit or floating point.")
    if np.issubdtype(raw.dtype, np.integer):
        known = (raw > 0) & (raw < 65535)
        return np.where(known, raw * np.float64(entry.unit), np.nan).astype(np.float32)
    depth = raw.astype(np.float32) * np.float32(entry.unit)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def _read_raw(file: Path) -> NDArray[Any] | None:
    if file.suffix == ".npy":
        return np.asarray(np.load(file))
    if file.suffix == ".npz":
        with np.load(file) as data:
            return np.asarray(data["depth"])
    pixels = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if pixels is None else np.asarray(pixels)


def read_confidence(entry: DepthEntry) -> Depth | None:
    """float32 [h, w] in [0, 1], or None where none was written. Raises InputError for a damaged file."""
    if entry.confidence is None:
        return None
    raw = cv2.imread(str(entry.confidence), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.ndim != 2:
        raise InputError(f"The confidence image {entry.confidence} cannot be read.")
    confidence: Depth = raw.astype(np.float32) / np.float32(np.iinfo(raw.dtype).max)
    return confidence


def open_depth(path: Path, unit: float | None = None) -> list[DepthEntry]:
    """The depth images at `path`: own format, sequence folder, or plain files (floats in world units,
    16-bit integers in millimetres unless `unit` says otherwise).

    Raises InputError when there are none.
    """
    path = Path(path)
    if (path / "depth").is_dir():
        path = path / "depth"
    if (path / "index.json").is_file():
        return _own(path, unit)
    if not path.is_dir():
        raise InputError(f"There is no folder of depth images at {path}.")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in DEPTH_SUFFIXES)
    if not files:
        raise InputError(f"The folder {path} holds no depth images ({', '.join(DEPTH_SUFFIXES)}).")
    beside = (path.parent / "sequence.json", path.parent.parent / "sequence.json")  # the second: truth/depth
    description = next((file for file in beside if file.is_file()), None)
    if description is not None:
        from spatial_fm_ros.core.io.sequence_description import read_description
        from spatial_fm_ros.sources.file_names import stamp_of_index

        described = read_description(description)
        camera = described.camera
        K = camera.K if camera is not None and camera.is_pinhole else None
        return [
            DepthEntry(file, unit or described.depth_unit_m, stamp_of_index(int(file.stem), described.rate_hz), K)
            for file in files
            if re.fullmatch("[0-9]{1,9}", file.stem)
        ]
    return [DepthEntry(f, unit or (MILLIMETRE if f.suffix == ".png" else 1.0)) for f in files]


def _own(path: Path, unit: float | None) -> list[DepthEntry]:
    try:
        index = json.loads((path / "index.json").read_text())
        return [
            DepthEntry(
                file=path / item["file"],
                unit=unit or float(item["unit"]),
                stamp_ns=int(item["stamp_ns"]),
                K=np.array(item["K"], dtype=np.float64).reshape(3, 3),
                confidence=path / item["confidence"] if item.get("confidence") else None,
                submap=int(item["submap"]),
            )
            for item in index["images"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"The index {path / 'index.json'} cannot be used: {error!r}.") from error


class DepthWriter:
    """Writes the depth of posed keyframes as they come, in the own format.

    A world may be rescaled later: files keep their integers and their unit is multiplied; `close`
    brings the images of metric submaps to whole millimetres and writes the index.
    Raises OutputError when a file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self._items: list[dict[str, Any]] = []
        try:
            (folder / "confidence").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error

    def add(self, keyframe: PosedKeyframe) -> None:
        name = f"{keyframe.id:06d}.png"
        unit = MILLIMETRE
        known = keyframe.depth[np.isfinite(keyframe.depth)]
        if len(known):  # relative worlds have any size: the middle depth gets about four digits
            unit = 10.0 ** math.floor(math.log10(max(float(np.median(known)), 1e-9) / 1500.0))
        self._write(self.folder / name, _to_integers(keyframe.depth, unit))
        confidence = np.round(np.clip(np.nan_to_num(keyframe.confidence), 0, 1) * 255).astype(np.uint8)
        self._write(self.folder / "confidence" / name, confidence)
        self._items.append(
            {
                "file": name,
                "confidence": f"confidence/{name}",
                "unit": unit,
                "metric": False,
                "keyframe": keyframe.id,
                "stamp_ns": keyframe.stamp_ns,
                "frame_id": keyframe.frame_id,
                "submap": keyframe.submap,
                "width": keyframe.camera.width,
                "height": keyframe.camera.height,
                "K": keyframe.camera.K.reshape(-1).tolist(),
            }
        )
        self.count += 1

    def rescale(self, submap: int, factor: float) -> None:
        """The world of a submap was multiplied by `factor`; what is written already goes along."""
        for item in self._items:
            if item["submap"] == submap:
                item["unit"] *= factor

    def refine(self, factors: Mapping[int, float]) -> None:
        """The depth of single keyframes was multiplied by these factors, by keyframe id."""
        for item in self._items:
            item["unit"] *= factors.get(item["keyframe"], 1.0)

    def close(self, metric_submaps: set[int]) -> Iterator[float]:
        """Finish the files of metric submaps, then the index. Yields the share that is done."""
        for number, item in enumerate(self._items):
            item["metric"] = item["submap"] in metric_submaps
            if item["metric"] and not math.isclose(item["unit"], MILLIMETRE, rel_tol=1e-9):
                file = self.folder / item["file"]
                depth = read_depth(DepthEntry(file, item["unit"]))
                self._write(file, _to_integers(depth, MILLIMETRE))
                item["unit"] = MILLIMETRE
            yield (number + 1) / len(self._items)
        index = {
            "format": "uint16 PNG along z; depth = value * unit in world units (metres where metric); 0 = unknown",
            "images": self._items,
        }
        try:
            (self.folder / "index.json").write_text(json.dumps(index, indent=1))
        except OSError as error:
            raise OutputError(f"The index of {self.folder} cannot be written: {error.strerror or error}.") from error

    def _write(self, file: Path, pixels: NDArray[Any]) -> None:
        ok, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        if not ok:
            raise OutputError(f"The image {file} cannot be encoded ({pixels.shape}, {pixels.dtype}).")
        try:
            file.write_bytes(data.tobytes())
        except OSError as error:
            raise OutputError(f"The image {file} cannot be written: {error.strerror or error}.") from error


def _to_integers(depth: Depth, unit: float) -> NDArray[np.uint16]:
    """Depth in steps of `unit`; what is unknown or beyond the range becomes 0."""
    steps = np.round(np.nan_to_num(depth, nan=0.0).astype(np.float64) / unit)
    return np.where((steps >= 1) & (steps <= _LARGEST), steps, 0).astype(np.uint16)


def grid_camera(entry: DepthEntry, depth: Depth) -> Camera | None:
    """The pinhole of a depth image, where its K is known."""
    height, width = depth.shape
    return None if entry.K is None else Camera(width, height, entry.K)
