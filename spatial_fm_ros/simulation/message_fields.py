"""Samples as the plain fields of ROS messages, faults of the wire included; no ROS is needed for it.

The node fills rclpy messages from these fields, the bag writer those of the rosbags library.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Array, Camera, LidarScan, Rig
from spatial_fm_ros.simulation.scenario import FRAMES, LINK_FROM_OPTICAL
from spatial_fm_ros.simulation.simulator import Event

#: Layout of a LiDAR point: name, offset, PointField datatype (7 = float32, 4 = uint16), in 22 bytes.
POINT_DTYPE = np.dtype(
    {
        "names": ["x", "y", "z", "intensity", "time", "ring"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<f4", "<u2"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 22,
    }
)
POINT_FIELDS = [
    (n, POINT_DTYPE.fields[n][1], 4 if n == "ring" else 7) for n in POINT_DTYPE.names or () if POINT_DTYPE.fields
]


def image_fields(event: Event, compressed: str = "") -> dict[str, Any]:
    """height, width, encoding, step, data of sensor_msgs/Image rgb8, or format, data of a
    CompressedImage when `compressed` is "jpeg" or "png". data is uint8 [n]."""
    image: NDArray[np.uint8] = event.sample.image  # type: ignore[union-attr]
    fault = event.fault
    if compressed:
        return _compressed(image, compressed, fault)
    height, width = image.shape[:2]
    fields: dict[str, Any] = {"height": height, "width": width, "encoding": "rgb8", "step": 3 * width}
    fields["data"] = np.ascontiguousarray(image).reshape(-1)
    if fault == "truncated":
        fields["height"] = 2 * height
    elif fault == "encoding":
        fields["encoding"] = "rgb_of_mars"
    elif fault == "step":
        fields["step"] = 2 * width
    return fields


def _compressed(image: NDArray[np.uint8], kind: str, fault: str) -> dict[str, Any]:
    if kind not in ("jpeg", "png"):
        raise InputError(f"Unknown image compression '{kind}'; expected jpeg, png or none.")
    if image.size == 0:
        return {"format": f"rgb8; {kind} compressed bgr8", "data": np.zeros(0, np.uint8)}
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if kind == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    data = cv2.imencode(".jpg" if kind == "jpeg" else ".png", image[:, :, ::-1], options)[1].reshape(-1)
    if fault in ("truncated", "step"):
        return {"format": f"rgb8; {kind} compressed bgr8", "data": data[: len(data) // 3]}
    if fault == "encoding":
        return {"format": f"rgb8; {kind} compressed bgr8", "data": np.roll(data, 7)}
    return {"format": f"rgb8; {kind} compressed bgr8", "data": data}


def camera_info_fields(camera: Camera, fault: str = "") -> dict[str, Any]:
    """height, width, distortion_model, d, k, r, p of sensor_msgs/CameraInfo; `fault` is one of
    faults.CAMERA_INFO_FAULTS (focal and size are in `camera` already)."""
    K = camera.K.copy()
    if fault == "zero":
        K[:] = 0.0
    elif fault == "nan":
        K[0, 0] = np.nan
    projection = np.zeros((3, 4))
    projection[:, :3] = K
    model = "plumb_bob" if camera.distortion_model == "none" else camera.distortion_model
    return {
        "height": camera.height,
        "width": camera.width,
        "distortion_model": "banana" if fault == "model" else model,
        "d": np.array(camera.distortion or (0.0,) * 5, np.float64),
        "k": K.reshape(-1),
        "r": np.eye(3).reshape(-1),
        "p": projection.reshape(-1),
    }


def cloud_fields(event: Event) -> dict[str, Any]:
    """fields [(name, offset, datatype)], point_step, width, data uint8 [n], is_dense of an unordered
    PointCloud2; time is seconds after the stamp as float32."""
    scan = event.sample
    assert isinstance(scan, LidarScan)
    points = np.zeros(len(scan.points), POINT_DTYPE)
    for i, name in enumerate("xyz"):
        points[name] = scan.points[:, i]
    if scan.intensity is not None:
        points["intensity"] = scan.intensity
    if scan.ring is not None:
        points["ring"] = scan.ring
    if scan.point_times_ns is not None:
        points["time"] = scan.point_times_ns * 1e-9
    layout = list(POINT_FIELDS)
    if event.fault == "no_xyz":
        layout = [(f"q{name}" if name in "xyz" else name, offset, kind) for name, offset, kind in layout]
    width = len(points) * (2 if event.fault == "truncated" else 1)
    return {
        "fields": layout,
        "point_step": POINT_DTYPE.itemsize,
        "width": width,
        "data": points.view(np.uint8),
        "is_dense": bool(np.isfinite(scan.points).all()),
    }


def static_transforms(rig: Rig) -> list[tuple[str, str, Array]]:
    """(parent, child, parent_from_child) of the robot's sensors."""
    transforms: list[tuple[str, str, Array]] = []
    if rig.body_from_camera is not None:
        body_from_link = rig.body_from_camera @ np.linalg.inv(LINK_FROM_OPTICAL)
        transforms.append((FRAMES["body"], FRAMES["camera_link"], body_from_link))
        transforms.append((FRAMES["camera_link"], FRAMES["camera"], LINK_FROM_OPTICAL))
    for name, pose in (("lidar", rig.body_from_lidar), ("imu", rig.body_from_imu)):
        if pose is not None:
            transforms.append((FRAMES["body"], FRAMES[name], pose))
    transforms += [(FRAMES["camera"], frame, pose) for frame, pose in rig.companions.items()]
    return transforms
