"""This package's own outputs back into arrays, for nodes that read a reconstruction. Duck-typed, no ROS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.bridge.decode_images import as_bytes
from spatial_fm_ros.bridge.decode_motion import decode_pose, stamp_ns
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Array, Depth


def decode_float_image(msg: Any) -> Depth:
    """float32 [H, W] of a 32FC1 image (depth, confidence). Raises InputError for anything else."""
    width, height, step = int(msg.width), int(msg.height), int(msg.step)
    data = as_bytes(msg.data)
    if msg.encoding != "32FC1" or step < 4 * width or data.size != step * height or not data.size:
        raise InputError(
            f"Expected a 32FC1 image with {height} rows of at least {4 * width} bytes, got encoding "
            f"'{msg.encoding}', step {step} and {data.size} bytes."
        )
    order = ">f4" if msg.is_bigendian else "<f4"
    rows = np.ascontiguousarray(data.reshape(height, step)[:, : 4 * width])
    return rows.view(order).astype(np.float32)


def decode_path(msg: Any) -> tuple[NDArray[np.int64], Array]:
    """Stamps int64 [n] and poses float64 [n, 4, 4] of a nav_msgs/Path, oldest first."""
    stamps = np.array([stamp_ns(pose.header) for pose in msg.poses], dtype=np.int64)
    poses = [decode_pose(pose.pose) for pose in msg.poses]
    return stamps, np.stack(poses) if poses else np.zeros((0, 4, 4))
