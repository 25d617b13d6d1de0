"""Samples as messages of a rosbag2, through the rosbags library: no ROS installation is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.types import Array, CompanionFrame, Frame, ImuSample, LidarScan, PoseSample
from spatial_fm_ros.simulation.message_fields import camera_info_fields, cloud_fields, image_fields
from spatial_fm_ros.simulation.simulator import Event


def _latched() -> Qos:
    """Quality of service of /tf_static: the last one is kept for late subscribers."""
    never = QosTime(2147483647, 4294967295)
    return Qos(
        QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
        never, never, QosLiveliness.AUTOMATIC, never, False,
    )  # fmt: skip


def camera_topics(number: int, compressed: str = "") -> tuple[str, str]:
    """Image and CameraInfo topic of a camera of the rig, counted from 1."""
    namespace = "" if number == 1 else f"/camera_{number}"
    return f"{namespace}/image/compressed" if compressed else f"{namespace}/image", f"{namespace}/camera_info"


class BagMessages:
    """Writes events to an open Writer. `camera_info_fault` as in message_fields.camera_info_fields; it is of the first
    camera alone."""

    def __init__(self, camera_info_fault: str = "", compressed: str = "") -> None:
        self._store = get_typestore(Stores.ROS2_HUMBLE)  # these messages are the same in Jazzy
        self._fault, self._compressed = camera_info_fault, compressed
        self._writer: Writer | None = None
        self._connections: dict[str, Any] = {}

    def _new(self, kind: str, **fields: Any) -> Any:
        return self._store.types[kind](**fields)

    def open(self, writer: Writer, companions: Sequence[str] = ()) -> None:
        """Makes the topics; `companions` are the frames of the rig's cameras 2, 3, ..."""
        self._writer = writer
        image = "sensor_msgs/msg/CompressedImage" if self._compressed else "sensor_msgs/msg/Image"
        cameras = {}
        for number, frame_id in enumerate(("", *companions), 1):
            image_topic, info_topic = camera_topics(number, self._compressed)
            cameras[f"image{frame_id}"] = (image_topic, image)
            cameras[f"camera_info{frame_id}"] = (info_topic, "sensor_msgs/msg/CameraInfo")
        topics = {
            **cameras,
            "points": ("/points", "sensor_msgs/msg/PointCloud2"),
            "odometry": ("/odometry", "nav_msgs/msg/Odometry"),
            "imu": ("/imu", "sensor_msgs/msg/Imu"),
            "tf": ("/tf", "tf2_msgs/msg/TFMessage"),
            "tf_static": ("/tf_static", "tf2_msgs/msg/TFMessage"),
            "clock": ("/clock", "rosgraph_msgs/msg/Clock"),
        }
        for key, (topic, kind) in topics.items():
            latched = (_latched(),) if key == "tf_static" else ()
            self._connections[key] = writer.add_connection(
                topic, kind, typestore=self._store, offered_qos_profiles=latched
            )

    def _put(self, key: str, arrival_ns: int, message: Any) -> None:
        assert self._writer is not None, "open() comes first"
        connection = self._connections[key]
        self._writer.write(connection, arrival_ns, self._store.serialize_cdr(message, connection.msgtype))

    def _time(self, stamp_ns: int) -> Any:
        return self._new("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        return self._new("std_msgs/msg/Header", stamp=self._time(stamp_ns), frame_id=frame_id)

    def _vector(self, values: Array) -> Any:
        x, y, z = (float(v) for v in values)
        return self._new("geometry_msgs/msg/Vector3", x=x, y=y, z=z)

    def _quaternion(self, rotation: Array) -> Any:
        x, y, z, w = (float(v) for v in Rotation.from_matrix(rotation).as_quat())
        return self._new("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)

    def _transform(self, stamp_ns: int, parent: str, child: str, pose: Array) -> Any:
        moved = self._new(
            "geometry_msgs/msg/Transform",
            translation=self._vector(pose[:3, 3]),
            rotation=self._quaternion(pose[:3, :3]),
        )
        header = self._header(stamp_ns, parent)
        return self._new("geometry_msgs/msg/TransformStamped", header=header, child_frame_id=child, transform=moved)

    def write_static(self, stamp_ns: int, transforms: list[tuple[str, str, Array]]) -> None:
        """/tf_static, at the bag's beginning."""
        stamped = [self._transform(stamp_ns, *edge) for edge in transforms]
        self._put("tf_static", stamp_ns, self._new("tf2_msgs/msg/TFMessage", transforms=stamped))

    def write_clock(self, now_ns: int) -> None:
        self._put("clock", now_ns, self._new("rosgraph_msgs/msg/Clock", clock=self._time(now_ns)))

    def write(self, event: Event) -> None:
        """One event as its message or messages, received at its arrival."""
        sample = event.sample
        if isinstance(sample, Frame):
            self._write_image(event, sample, "", self._fault)
        elif isinstance(sample, CompanionFrame):
            self._write_image(replace(event, sample=sample.frame), sample.frame, sample.frame.frame_id, "")
        elif isinstance(sample, LidarScan):
            self._write_points(event, sample)
        elif isinstance(sample, PoseSample):
            self._write_pose(event, sample)
        else:
            self._write_imu(event, sample)

    def _write_image(self, event: Event, frame: Frame, camera: str, info_fault: str) -> None:
        """`camera`: the frame of one of the rig's other cameras, empty for the first."""
        header = self._header(frame.stamp_ns, frame.frame_id)
        fields = image_fields(event, self._compressed)
        if self._compressed:
            image = self._new("sensor_msgs/msg/CompressedImage", header=header, **fields)
        else:
            image = self._new("sensor_msgs/msg/Image", header=header, is_bigendian=0, **fields)
        self._put(f"image{camera}", event.arrival_ns, image)
        if frame.camera is not None:
            roi = self._new(
                "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            )
            info = camera_info_fields(frame.camera, info_fault)
            message = self._new("sensor_msgs/msg/CameraInfo", header=header, binning_x=0, binning_y=0, roi=roi, **info)
            self._put(f"camera_info{camera}", event.arrival_ns, message)

    def _write_points(self, event: Event, scan: LidarScan) -> None:
        fields = cloud_fields(event)
        layout = [
            self._new("sensor_msgs/msg/PointField", name=name, offset=offset, datatype=kind, count=1)
            for name, offset, kind in fields.pop("fields")
        ]
        row_step = fields["point_step"] * fields["width"]
        message = self._new(
            "sensor_msgs/msg/PointCloud2", header=self._header(scan.stamp_ns, scan.frame_id), height=1,
            fields=layout, is_bigendian=False, row_step=row_step, **fields,
        )  # fmt: skip
        self._put("points", event.arrival_ns, message)

    def _write_pose(self, event: Event, sample: PoseSample) -> None:
        pose = sample.odom_from_body
        x, y, z = (float(v) for v in pose[:3, 3])
        place = self._new(
            "geometry_msgs/msg/Pose",
            position=self._new("geometry_msgs/msg/Point", x=x, y=y, z=z),
            orientation=self._quaternion(pose[:3, :3]),
        )
        covariance = np.zeros(36) if sample.covariance is None else sample.covariance.reshape(-1)
        still = self._new(
            "geometry_msgs/msg/Twist", linear=self._vector(np.zeros(3)), angular=self._vector(np.zeros(3))
        )
        message = self._new(
            "nav_msgs/msg/Odometry",
            header=self._header(sample.stamp_ns, sample.frame_id),
            child_frame_id=sample.child_frame_id,
            pose=self._new("geometry_msgs/msg/PoseWithCovariance", pose=place, covariance=covariance),
            twist=self._new(
                "geometry_msgs/msg/TwistWithCovariance", twist=still, covariance=1e6 * np.eye(6).reshape(-1)
            ),
        )
        self._put("odometry", event.arrival_ns, message)
        edge = self._transform(sample.stamp_ns, sample.frame_id, sample.child_frame_id, pose)
        self._put("tf", event.arrival_ns, self._new("tf2_msgs/msg/TFMessage", transforms=[edge]))

    def _write_imu(self, event: Event, sample: ImuSample) -> None:
        unknown = np.zeros(9)
        unknown[0] = -1.0  # by convention: there is no orientation here
        message = self._new(
            "sensor_msgs/msg/Imu",
            header=self._header(sample.stamp_ns, sample.frame_id),
            orientation=self._new("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
            orientation_covariance=unknown,
            angular_velocity=self._vector(sample.angular_velocity),
            angular_velocity_covariance=np.zeros(9),
            linear_acceleration=self._vector(sample.linear_acceleration),
            linear_acceleration_covariance=np.zeros(9),
        )
        self._put("imu", event.arrival_ns, message)
