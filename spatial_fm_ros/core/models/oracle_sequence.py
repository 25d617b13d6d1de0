"""Ground truth of a recorded sequence folder: poses.txt (TUM, camera-to-world) and depth/%06d.png."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import matrix_from_quaternion, pose_from
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import IMAGE_BYTES, read_bytes, read_text
from spatial_fm_ros.core.io.sequence_description import read_description
from spatial_fm_ros.core.pictures.decode import MAX_PIXELS, stored_pixels
from spatial_fm_ros.core.pictures.header import read_header
from spatial_fm_ros.core.types import Array, Camera, Depth


class SequenceTruth:
    """Frame i has stamp i / rate_hz; depth exists for some frames, in units of depth_unit_m."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError where sequence.json or poses.txt cannot be used."""
        described = read_description(folder / "sequence.json")
        rows = _poses(folder / "poses.txt")
        self._rate_hz = described.rate_hz
        self._folder = folder
        self._unit_m = described.depth_unit_m
        self._frames = np.round(rows[:, 0] * self._rate_hz).astype(np.int64)
        self._poses = pose_from(matrix_from_quaternion(rows[:, 4:8]), rows[:, 1:4])

    def world_from_camera(self, stamp_ns: int, frame_id: str = "") -> Array:
        index = np.flatnonzero(self._frames == self._frame(stamp_ns))
        if not len(index):
            raise InputError(f"{self._folder} has no pose at {stamp_ns} ns.")
        pose: Array = self._poses[index[0]]
        return pose

    def depth(self, stamp_ns: int, camera: Camera, frame_id: str = "") -> Depth:
        """Nearest-pixel look-up; NaN everywhere for a frame without a depth image. InputError for a broken one."""
        path = self._folder / "depth" / f"{self._frame(stamp_ns):06d}.png"
        if not path.exists():
            return np.full((camera.height, camera.width), np.nan, np.float32)
        raw = stored_pixels(read_header(read_bytes(path, "depth image", IMAGE_BYTES)).bounded(MAX_PIXELS))
        if raw.ndim != 2:
            raise InputError(f"The depth image '{shown(path)}' has colours; one channel of 16 bits is expected.")
        raw = cv2.resize(raw, (camera.width, camera.height), interpolation=cv2.INTER_NEAREST)
        known = (raw > 0) & (raw < 65535)
        return np.where(known, raw * np.float32(self._unit_m), np.float32(np.nan))

    def _frame(self, stamp_ns: int) -> int:
        return round(stamp_ns * self._rate_hz / 1e9)


def _poses(path: Path) -> Array:
    """Rows of time, position and quaternion. Raises InputError for a file that is none in TUM format."""
    try:
        rows: Array = np.loadtxt(io.StringIO(read_text(path, "trajectory")), ndmin=2)
    except ValueError as error:
        raise InputError(f"The trajectory '{shown(path)}' is none in TUM format: {shown(error)}.") from error
    if rows.ndim != 2 or rows.shape[1] != 8 or not np.isfinite(rows).all():
        raise InputError(f"The trajectory '{shown(path)}' is none in TUM format: expected rows of 8 finite numbers.")
    return rows
