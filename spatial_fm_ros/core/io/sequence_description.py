"""sequence.json: what a sequence folder says of its images and its LiDAR."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.structured import read_json
from spatial_fm_ros.core.types import DISTORTION_MODELS, Array, Camera

_NUMBER = {"type": "number", "minimum": -1e9, "maximum": 1e9}


def _matrix(rows: int) -> dict[str, Any]:
    """A square matrix row by row: one list, or a list for each row."""
    flat = {"type": "array", "items": _NUMBER, "minItems": rows * rows, "maxItems": rows * rows}
    row = {"type": "array", "items": _NUMBER, "minItems": rows, "maxItems": rows}
    nested = {"type": "array", "items": row, "minItems": rows, "maxItems": rows}
    return {"anyOf": [{"type": "null"}, flat, nested]}


#: The form of sequence.json. Keys that are not here are notes for people.
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "description": "an object with at least 'rate_hz'",
    "type": "object",
    "required": ["rate_hz"],
    "properties": {
        "rate_hz": {
            "description": "images per second, 0.0001 to 100000",
            "type": "number",
            "minimum": 1e-4,
            "maximum": 1e5,
        },
        "frames": {
            "description": "how many images there were, a whole number",
            "type": ["integer", "null"],
            "minimum": 0,
            "maximum": 10**9,
        },
        "width": {
            "description": "columns of the images as stored, 1 to 65535",
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": 65535,
        },
        "height": {
            "description": "rows of the images as stored, 1 to 65535",
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": 65535,
        },
        "K": {"description": "9 numbers, 3x3 row by row, in pixels; or null where unknown", **_matrix(3)},
        "distortion": {
            "description": "up to 14 coefficients in the order of CameraInfo, or null",
            "type": ["array", "null"],
            "items": _NUMBER,
            "maxItems": 14,
        },
        "distortion_model": {
            "description": f"{', '.join(DISTORTION_MODELS)}; or null: by the number of coefficients",
            "enum": [*DISTORTION_MODELS, "", None],
        },
        "lidar_unit_m": {
            "description": "metres of one unit of lidar/*.npz, above 0, or null without LiDAR",
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1000,
        },
        "camera_from_lidar": {"description": "16 numbers, 4x4 row by row, in metres; or null", **_matrix(4)},
        "depth_unit_m": {
            "description": "metres of one unit of depth/*.png, above 0",
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "maximum": 1000,
        },
    },
}
_VALIDATOR = Draft202012Validator(SCHEMA)

_MODEL_BY_COUNT = {0: "none", 4: "plumb_bob", 5: "plumb_bob", **dict.fromkeys((8, 12, 14), "rational_polynomial")}


@dataclass(frozen=True, eq=False)
class SequenceDescription:
    """camera: of the pixels as stored, None where unknown. camera_from_lidar: 4x4 metres. Units in metres; 0 = none."""

    rate_hz: float
    camera: Camera | None = None
    frames: int = 0
    lidar_unit_m: float = 0.0
    camera_from_lidar: Array | None = None
    depth_unit_m: float = 0.001


def read_description(path: Path) -> SequenceDescription:
    """The content of a sequence.json. Raises InputError, naming the key, for what is none or cannot be."""
    described = read_json(path, "sequence description")
    name = f"The sequence description '{shown(path)}'"
    error = next(iter(sorted(_VALIDATOR.iter_errors(described), key=lambda each: len(each.absolute_path))), None)
    if error is not None:
        raise InputError(_sentence(name, error, described))
    try:
        return SequenceDescription(
            rate_hz=float(described["rate_hz"]),
            camera=_camera(described),
            frames=int(described.get("frames") or 0),
            lidar_unit_m=float(described.get("lidar_unit_m") or 0.0),
            camera_from_lidar=_extrinsic(described),
            depth_unit_m=float(described.get("depth_unit_m") or 0.001),
        )
    except InputError as reason:
        raise InputError(f"{name} cannot be used: {reason}") from reason


def _sentence(name: str, error: Any, described: Any) -> str:
    path = list(error.absolute_path)
    if not path:
        if error.validator == "required":
            return f"{name} lacks 'rate_hz', {SCHEMA['properties']['rate_hz']['description']}."
        return f"{name} must be {SCHEMA['description']}, got {shown(described, 60)}."
    key = path[0]
    where = f"{key}{''.join(f'[{index}]' for index in path[1:])}"
    expected = SCHEMA["properties"][key]["description"]
    return f"{name}: '{where}' must be {expected}; got {shown(repr(error.instance), 60)}."


def _camera(described: dict[str, Any]) -> Camera | None:
    if described.get("K") is None:
        return None
    width, height = described.get("width"), described.get("height")
    if width is None or height is None:
        raise InputError("'K' needs 'width' and 'height' beside it, the size of the images it describes")
    K = np.asarray(described["K"], dtype=np.float64).reshape(3, 3)
    if K[1, 0] != 0 or not np.array_equal(K[2], (0.0, 0.0, 1.0)):
        raise InputError(f"'K' must be fx s cx, 0 fy cy, 0 0 1 row by row, got {K.tolist()}")
    distortion = tuple(float(value) for value in described.get("distortion") or ())
    model = described.get("distortion_model") or _MODEL_BY_COUNT.get(len(distortion), "plumb_bob")
    if not any(distortion) and model != "equidistant":
        model, distortion = "none", ()  # whatever the name
    return Camera(int(width), int(height), K, model, distortion)


def _extrinsic(described: dict[str, Any]) -> Array | None:
    if described.get("camera_from_lidar") is None:
        return None
    pose = np.asarray(described["camera_from_lidar"], dtype=np.float64).reshape(4, 4)
    turn = pose[:3, :3]
    rigid = np.allclose(turn @ turn.T, np.eye(3), atol=1e-2) and np.linalg.det(turn) > 0
    if not rigid or not np.allclose(pose[3], (0, 0, 0, 1), atol=1e-6):
        raise InputError(
            "'camera_from_lidar' is no rigid transform (a rotation, a translation, and 0 0 0 1 as its last row), "
            f"got {pose.tolist()}"
        )
    return pose
