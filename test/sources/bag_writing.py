"""Bags with known content for the source tests, written with rosbags."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

STORE = get_typestore(Stores.ROS2_HUMBLE)
STORE1 = get_typestore(Stores.ROS1_NOETIC)
STORE1.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage"))
T = STORE.types
NS = 1_000_000_000
Message = tuple[str, int, Any]  # topic, recording time ns, message


def header(stamp_ns: int, frame_id: str, store: Any = STORE) -> Any:
    time = store.types["builtin_interfaces/msg/Time"](sec=stamp_ns // NS, nanosec=stamp_ns % NS)
    if store is STORE1:
        return store.types["std_msgs/msg/Header"](seq=0, stamp=time, frame_id=frame_id)
    return store.types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def picture(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A distinct RGB picture per index: its top-left pixel is (index, 255 - index, 7)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width, dtype=np.uint8)
    image[..., 1] = np.arange(height, dtype=np.uint8)[:, None]
    image[0, 0] = (index, 255 - index, 7)
    return image


def image(stamp_ns: int, pixels: np.ndarray, encoding: str = "rgb8", frame: str = "cam", store: Any = STORE) -> Any:
    height, width = pixels.shape[:2]
    return store.types["sensor_msgs/msg/Image"](
        header=header(stamp_ns, frame, store),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=np.ascontiguousarray(pixels).view(np.uint8).reshape(-1),
    )


def compressed(stamp_ns: int, pixels: np.ndarray) -> Any:
    ok, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    assert ok
    return T["sensor_msgs/msg/CompressedImage"](
        header=header(stamp_ns, "cam"), format="rgb8; png compressed bgr8", data=data.reshape(-1)
    )


def camera_info(stamp_ns: int, width: int = 64, height: int = 48, fx: float = 50.0) -> Any:
    roi = T["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return T["sensor_msgs/msg/CameraInfo"](
        header=header(stamp_ns, "cam"),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array([fx, 0, 31.5, 0, fx, 23.5, 0, 0, 1.0]),
        r=np.eye(3).reshape(-1),
        p=np.array([fx, 0, 31.5, 0, 0, fx, 23.5, 0, 0, 0, 1.0, 0]),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def _pose(x: float) -> tuple[Any, Any]:
    return (
        T["geometry_msgs/msg/Point"](x=x, y=0.0, z=0.0),
        T["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
    )


def odometry(stamp_ns: int, x: float) -> Any:
    position, orientation = _pose(x)
    zero = T["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0)
    twist = T["geometry_msgs/msg/Twist"](linear=zero, angular=zero)
    return T["nav_msgs/msg/Odometry"](
        header=header(stamp_ns, "odom"),
        child_frame_id="base",
        pose=T["geometry_msgs/msg/PoseWithCovariance"](
            pose=T["geometry_msgs/msg/Pose"](position=position, orientation=orientation), covariance=np.zeros(36)
        ),
        twist=T["geometry_msgs/msg/TwistWithCovariance"](twist=twist, covariance=np.zeros(36)),
    )


def transforms(stamp_ns: int, *edges: tuple[str, str, float]) -> Any:
    """A TFMessage with pure translations along x: (parent, child, x)."""
    made = []
    for parent, child, x in edges:
        _, orientation = _pose(0.0)
        made.append(
            T["geometry_msgs/msg/TransformStamped"](
                header=header(stamp_ns, parent),
                child_frame_id=child,
                transform=T["geometry_msgs/msg/Transform"](
                    translation=T["geometry_msgs/msg/Vector3"](x=x, y=0.0, z=0.0), rotation=orientation
                ),
            )
        )
    return T["tf2_msgs/msg/TFMessage"](transforms=made)


def points(stamp_ns: int, xyz: np.ndarray) -> Any:
    fields = [
        T["sensor_msgs/msg/PointField"](name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate("xyz")
    ]
    return T["sensor_msgs/msg/PointCloud2"](
        header=header(stamp_ns, "lidar"),
        height=1,
        width=len(xyz),
        fields=fields,
        is_bigendian=False,
        point_step=12,
        row_step=12 * len(xyz),
        data=np.ascontiguousarray(xyz, dtype=np.float32).view(np.uint8).reshape(-1),
        is_dense=True,
    )


def imu(stamp_ns: int) -> Any:
    zero = T["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=9.81)
    return T["sensor_msgs/msg/Imu"](
        header=header(stamp_ns, "imu"),
        orientation=T["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
        orientation_covariance=np.zeros(9),
        angular_velocity=zero,
        angular_velocity_covariance=np.zeros(9),
        linear_acceleration=zero,
        linear_acceleration_covariance=np.zeros(9),
    )


def write_bag(
    path: Path,
    messages: Iterable[Message],
    storage: StoragePlugin = StoragePlugin.SQLITE3,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """A rosbag2 of the messages; one that is bytes is written raw as the type of its topic's first."""
    writer = Writer(path, version=8, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    connections: dict[str, Any] = {}
    with writer:
        for topic, time_ns, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            raw = message if isinstance(message, bytes) else STORE.serialize_cdr(message, message.__msgtype__)
            writer.write(connections[topic], time_ns, raw)
    return path


def write_bag1(path: Path, messages: Iterable[Message], compression: Writer1.CompressionFormat | None = None) -> Path:
    writer = Writer1(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        connections: dict[str, Any] = {}
        for topic, time_ns, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE1)
            writer.write(connections[topic], time_ns, STORE1.serialize_ros1(message, kind))
    return path


def robot_messages(images: int = 10) -> list[Message]:
    """A robot on a line at 1 m/s: images at 10 Hz with CameraInfo, odometry at 20 Hz, LiDAR at 5 Hz, IMU, TF."""
    start = 1_700_000_000 * NS
    found: list[Message] = [
        ("/tf_static", start, transforms(start, ("base", "mount", 0.1), ("mount", "cam", 0.2), ("base", "lidar", -0.3)))
    ]
    for i in range(images):
        stamp = start + i * NS // 10
        found.append(("/camera/camera_info", stamp, camera_info(stamp)))
        found.append(("/camera/image_raw", stamp, image(stamp, picture(i))))
        for half in range(2):
            at = stamp + half * NS // 20
            found.append(("/odom", at, odometry(at, (at - start) / NS)))
            found.append(("/imu", at, imu(at)))
        if i % 2 == 0:
            found.append(("/lidar/points", stamp, points(stamp, np.full((5, 3), float(i + 1)))))
    return found
