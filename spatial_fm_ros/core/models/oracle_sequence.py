"""Ground truth of a recorded sequence folder: poses.txt (TUM, camera-to-world) and depth/%06d.png."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import matrix_from_quaternion, pose_from
from spatial_fm_ros.core.types import Array, Camera, Depth


class SequenceTruth:
    """Frame i has stamp i / rate_hz; depth exists for some frames, in units of depth_unit_m."""

    def __init__(self, folder: Path) -> None:
        try:
            description = json.loads((folder / "sequence.json").read_text())
            rows = np.loadtxt(folder / "poses.txt", ndmin=2)
            self._rate_hz = float(description["rate_hz"])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{folder} is no sequence with ground truth ({error}); sequence.json with rate_hz and a "
                "poses.txt in TUM format are needed."
            ) from error
        self._folder = folder
        self._unit_m = float(description.get("depth_unit_m", 0.001))
        self._frames = np.round(rows[:, 0] * self._rate_hz).astype(np.int64)
        self._poses = pose_from(matrix_from_quaternion(rows[:, 4:8]), rows[:, 1:4])

    def world_from_camera(self, stamp_ns: int, frame_id: str = "") -> Array:
        index = np.flatnonzero(self._frames == self._frame(stamp_ns))
        if not len(index):
            raise InputError(f"{self._folder} has no pose at {stamp_ns} ns.")
        pose: Array = self._poses[index[0]]
        return pose

    def depth(self, stamp_ns: int, camera: Camera, frame_id: str = "") -> Depth:
        """Nearest-pixel look-up; NaN everywhere for a frame without a depth image."""
        path = self._folder / "depth" / f"{self._frame(stamp_ns):06d}.png"
        raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
        if raw is None:
            return np.full((camera.height, camera.width), np.nan, np.float32)
        raw = cv2.resize(raw, (camera.width, camera.height), interpolation=cv2.INTER_NEAREST)
        known = (raw > 0) & (raw < 65535)
        return np.where(known, raw * np.float32(self._unit_m), np.float32(np.nan))

    def _frame(self, stamp_ns: int) -> int:
        return round(stamp_ns * self._rate_hz / 1e9)
