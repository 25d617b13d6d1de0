"""sensor_msgs/PointCloud2 to a LidarScan, without importing ROS (messages are duck-typed)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.bridge.decode_images import as_bytes
from spatial_fm_ros.bridge.decode_motion import frame_name, stamp_ns
from spatial_fm_ros.bridge.point_times import PointTimes, decode_times, is_time_field
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import LidarScan

#: numpy codes of sensor_msgs/PointField datatypes 1 to 8.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_INTENSITY = ("intensity", "intensities", "reflectivity")
_RING = ("ring", "channel", "line")


def decode_points(msg: Any) -> LidarScan:
    """One LiDAR sweep from a PointCloud2 of any field order, type, padding and byte order.

    Needs x, y, z in metres; takes intensity, ring and a time per point where they are. Points that
    are not finite, or exactly at the origin (the mark of 'no return' in organised clouds), are
    dropped. Point times may be in any usual unit, after the stamp or absolute (`decode_times`); what cannot be used
    is left out, and the scan's `remark` says why. Raises InputError on missing x/y/z, unknown types, and steps or
    lengths that do not fit.
    """
    stamp = stamp_ns(msg.header)
    cloud = _structured(msg)
    names = cloud.dtype.names or ()
    xyz = np.stack([cloud[axis].astype(np.float32) for axis in "xyz"], axis=-1)
    good = np.isfinite(xyz).all(axis=1) & xyz.any(axis=1)
    everything = bool(good.all())

    def column(name: str | None) -> NDArray[Any] | None:
        if name is None:
            return None
        return cloud[name] if everything else cloud[name][good]

    intensity, ring = (column(_first_of(candidates, names)) for candidates in (_INTENSITY, _RING))
    times = _times({name: column(name) for name in names if is_time_field(name)}, stamp)
    return LidarScan(
        stamp_ns=stamp,
        points=xyz if everything else xyz[good],
        intensity=None if intensity is None else intensity.astype(np.float32),
        ring=None if ring is None else _integers(ring),
        point_times_ns=times.after_stamp_ns,
        frame_id=frame_name(msg.header, "lidar"),
        remark=times.problem,
    )


def _times(columns: dict[str, Any], stamp: int) -> PointTimes:
    """The first field of times that can be used; else why the first one cannot."""
    tried = [decode_times(values, name, stamp) for name, values in columns.items()]
    usable = (times for times in tried if times.after_stamp_ns is not None)
    return next(usable, tried[0] if tried else PointTimes(None))


def _first_of(candidates: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    return next((name for name in candidates if name in names), None)


def _structured(msg: Any) -> NDArray[Any]:
    """The cloud's points as a structured array [n] with its fields by name (count 1 each)."""
    width, height = int(msg.width), int(msg.height)
    point_step, row_step = int(msg.point_step), int(msg.row_step)
    dtype = _dtype(msg.fields, point_step, bool(msg.is_bigendian))
    data = as_bytes(msg.data)
    if width * height == 0:
        if data.size:
            raise InputError(f"A cloud of {width}x{height} points has {data.size} bytes of data; expected none.")
        return np.zeros(0, dtype)
    row = width * point_step
    if data.size == height * row and row_step in (0, width, height * row):
        row_step = row  # drivers that leave it out, count it in points, or over all rows
    if row_step < row:
        raise InputError(f"Cloud row_step {row_step} is shorter than {width} points of {point_step} bytes.")
    stride = row_step
    least, full = (height - 1) * stride + row, height * stride
    if not least <= data.size <= full:
        what = "Truncated" if data.size < least else "Over-long"
        raise InputError(f"{what} cloud: {height} rows of {stride} bytes are {full} bytes, got {data.size}.")
    grid: NDArray[Any] = np.ndarray((height, width), dtype, buffer=data, strides=(stride, point_step))
    return grid.reshape(-1)


def _dtype(fields: Any, point_step: int, big_endian: bool) -> np.dtype[Any]:
    """Structured dtype of the fields this package reads; the others are skipped unread."""
    wanted = {"x", "y", "z", *_INTENSITY, *_RING}
    names: list[str] = []
    formats: list[str] = []
    offsets: list[int] = []
    for each in fields:
        name = str(each.name)
        if name in names or not (name in wanted or is_time_field(name)):
            continue
        code = _TYPES.get(int(each.datatype))
        if code is None:
            raise InputError(f"Cloud field '{name}' has the unknown datatype {each.datatype}; expected 1 to 8.")
        if int(each.offset) + int(code[1]) > point_step:
            raise InputError(f"Cloud field '{name}' at offset {each.offset} does not fit into point_step {point_step}.")
        names.append(name)
        formats.append((">" if big_endian else "<") + code)
        offsets.append(int(each.offset))
    missing = [axis for axis in "xyz" if axis not in names]
    if missing:
        have = ", ".join(str(each.name) for each in fields) or "none"
        raise InputError(f"A cloud needs the fields x, y and z; missing {', '.join(missing)}, got {have[:200]}.")
    try:
        return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": point_step})
    except (ValueError, OverflowError) as error:
        raise InputError(f"The cloud's fields do not describe a point of {point_step} bytes: {error}.") from error


def _integers(values: NDArray[Any]) -> NDArray[np.int32]:
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=-1.0, posinf=-1.0, neginf=-1.0).clip(-(2.0**31), 2.0**31 - 1024)
    return values.astype(np.int32)
