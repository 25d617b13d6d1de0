"""Folders of depth images: this package's own (index.json), sequence folders, and plain files.

Own format: `depth/NNNNNN.png` uint16 along z, 0 = unknown, times the file's `unit` in world units
(metres where `metric`); `confidence/NNNNNN.png` uint8, 255 = certain; `index.json` lists them with
stamp, keyframe, submap and the pinhole K of the depth image.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.core.io.arrays import read_npy, read_npz
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import IMAGE_BYTES, read_bytes
from spatial_fm_ros.core.io.structured import mapping, read_json
from spatial_fm_ros.core.io.writing import make_folder, write_bytes, write_text
from spatial_fm_ros.core.pictures.decode import stored_pixels
from spatial_fm_ros.core.pictures.header import read_header
from spatial_fm_ros.core.types import Array, Camera, Depth, PosedKeyframe

DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".npz")
MILLIMETRE = 0.001
#: Most pixels of a depth image that is read: 8000 x 8000.
MOST_PIXELS = 64_000_000
#: Most bytes of an index: ten hours of keyframes.
INDEX_BYTES = 64 * 2**20
_LARGEST = 65534  # 65535 marks unknown in other tools' files


@dataclass
class DepthEntry:
    """One depth image of a folder. stamp_ns and K are None where nothing tells them.

    unit: of one step; None where nothing tells it: whole numbers are millimetres then, others metres.
    """

    file: Path
    unit: float | None
    stamp_ns: int | None = None
    K: Array | None = None
    confidence: Path | None = None
    submap: int = 0

    @property
    def key(self) -> str:
        return self.file.stem


def read_depth(entry: DepthEntry) -> Depth:
    """float32 [h, w], NaN = unknown. Raises InputError when the file is no depth image or too large."""
    raw = _read_raw(entry.file)
    if raw.ndim != 2 or raw.dtype.kind not in "uif" or raw.dtype.itemsize < 2:
        raise InputError(
            f"'{shown(entry.file)}' is no depth image: one channel is expected, 16 bit or floating point, got "
            f"{raw.dtype} of shape {raw.shape}."
        )
    if raw.dtype.kind in "ui":
        known = (raw > 0) & (raw < 65535)
        return np.where(known, raw * np.float64(entry.unit or MILLIMETRE), np.nan).astype(np.float32)
    with np.errstate(over="ignore"):
        depth = raw.astype(np.float32) * np.float32(entry.unit or 1.0)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def _read_raw(file: Path) -> NDArray[Any]:
    kind = file.suffix.lower()
    if kind == ".npy":
        return read_npy(file, "depth image")
    if kind == ".npz":
        found = read_npz(file, "depth image", ("depth",))
        if "depth" not in found:
            raise InputError(f"The depth image '{shown(file)}' holds no array 'depth'.")
        return found["depth"]
    return _pixels(file, "depth image")


def _pixels(file: Path, what: str) -> NDArray[Any]:
    """The image as it is stored; its size is looked at before it is decoded, and damage is an error."""
    data = read_bytes(file, what, IMAGE_BYTES)
    try:
        if data[:4] not in (b"II*\0", b"MM\0*"):
            return stored_pixels(read_header(data).bounded(MOST_PIXELS))
        with PIL.Image.open(io.BytesIO(data), formats=("TIFF",)) as image:  # also of floating point numbers
            _check_size(*image.size)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except Exception as error:  # readers of pictures raise anything on damaged files
        raise InputError(f"The {what} '{shown(file)}' cannot be read: {shown(error)}") from error
    if pixels is None:
        raise InputError(f"The {what} '{shown(file)}' cannot be decoded.")
    return np.asarray(pixels)


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise InputError(f"{width} x {height} pixels, at most {MOST_PIXELS} are read.")


def read_confidence(entry: DepthEntry) -> Depth | None:
    """float32 [h, w] in [0, 1], or None where none was written. Raises InputError for a damaged file."""
    if entry.confidence is None:
        return None
    raw = _pixels(entry.confidence, "confidence image")
    if raw.ndim != 2 or raw.dtype.kind != "u":
        raise InputError(f"The confidence image '{shown(entry.confidence)}' is no grey picture of whole numbers.")
    confidence: Depth = raw.astype(np.float32) / np.float32(np.iinfo(raw.dtype).max)
    return confidence


def open_depth(path: Path, unit: float | None = None) -> list[DepthEntry]:
    """The depth images at `path`: own format, sequence folder, or plain files (floats in world units,
    whole numbers in millimetres unless `unit` says otherwise).

    Raises InputError when there are none.
    """
    path = Path(path)
    if unit is not None and not 0 < unit < math.inf:
        raise InputError(f"The unit of depth images must be above 0, and finite, got {unit:g}.")
    if (path / "depth").is_dir():
        path = path / "depth"
    if (path / "index.json").is_file():
        return _own(path, unit)
    if not path.is_dir():
        raise InputError(f"There is no folder of depth images at '{shown(path)}'.")
    try:
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in DEPTH_SUFFIXES)
    except OSError as error:
        raise InputError(f"The folder '{shown(path)}' cannot be read ({error.strerror}).") from error
    if not files:
        raise InputError(f"The folder '{shown(path)}' holds no depth images ({', '.join(DEPTH_SUFFIXES)}).")
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
    return [DepthEntry(file, unit) for file in files]


def _own(path: Path, unit: float | None) -> list[DepthEntry]:
    name = f"depth index '{shown(path / 'index.json')}'"
    index = mapping(read_json(path / "index.json", "depth index", most_bytes=INDEX_BYTES), name)
    items = index.get("images")
    if not isinstance(items, list):
        raise InputError(f"The {name} needs a list 'images', got {shown(items, 60)}.")
    return [_entry(path, mapping(item, f"{name} at 'images[{i}]'"), unit, i, name) for i, item in enumerate(items)]


def _entry(folder: Path, item: dict[str, Any], unit: float | None, number: int, name: str) -> DepthEntry:
    """One image of an index. Raises InputError, naming the key that cannot be used."""

    def wrong(key: str, expected: str) -> InputError:
        return InputError(f"The {name} needs {expected} at 'images[{number}].{key}', got {shown(item.get(key), 60)}.")

    def inside(key: str) -> Path:
        given = item.get(key)
        if not isinstance(given, str) or not given or Path(given).is_absolute() or ".." in Path(given).parts:
            raise wrong(key, "the name of a file in this folder")
        return folder / given

    def whole(key: str) -> int:
        given = item.get(key)
        if not isinstance(given, int) or isinstance(given, bool) or not -(2**63) <= given < 2**63:
            raise wrong(key, "a whole number")
        return given

    K: Any = item.get("K")
    step: Any = item.get("unit")
    if not isinstance(K, list) or len(K) != 9 or not all(_is_number(value) for value in K) or not (K[0] and K[4]):
        raise wrong("K", "9 numbers (3x3 row by row) with focal lengths above 0")
    if not _is_number(step) or not step > 0:
        raise wrong("unit", "a number above 0")
    return DepthEntry(
        file=inside("file"),
        unit=unit or float(step),
        stamp_ns=whole("stamp_ns"),
        K=np.array(K, dtype=np.float64).reshape(3, 3),
        confidence=inside("confidence") if item.get("confidence") else None,
        submap=whole("submap"),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


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
        place = next((each for each in (folder, *folder.parents) if each.exists()), folder)
        if not place.is_dir():
            raise OutputError(f"The folder '{shown(folder)}' cannot be made: '{shown(place)}' is a file.")

    def add(self, keyframe: PosedKeyframe) -> None:
        name = f"{keyframe.id:06d}.png"
        make_folder(self.folder / "confidence")
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
        make_folder(self.folder)
        write_text(self.folder / "index.json", json.dumps(index, indent=1), "depth index")

    def _write(self, file: Path, pixels: NDArray[Any]) -> None:
        ok, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        if not ok:
            raise OutputError(f"The image {file} cannot be encoded ({pixels.shape}, {pixels.dtype}).")
        write_bytes(file, data.tobytes(), "depth image", durable=False)


def _to_integers(depth: Depth, unit: float) -> NDArray[np.uint16]:
    """Depth in steps of `unit`; what is unknown or beyond the range becomes 0."""
    steps = np.round(np.nan_to_num(depth, nan=0.0).astype(np.float64) / unit)
    return np.where((steps >= 1) & (steps <= _LARGEST), steps, 0).astype(np.uint16)


def grid_camera(entry: DepthEntry, depth: Depth) -> Camera | None:
    """The pinhole of a depth image, where its K is known."""
    height, width = depth.shape
    return None if entry.K is None else Camera(width, height, entry.K)
