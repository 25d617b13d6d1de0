"""The simulated robot's samples as rclpy messages."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, PointCloud2, PointField

from spatial_fm_ros.bridge.encode import UNKNOWN_VARIANCE, encode_pose, encode_transform, header
from spatial_fm_ros.core.types import Frame, ImuSample, LidarScan, PoseSample, Rig
from spatial_fm_ros.simulation.message_fields import camera_info_fields, cloud_fields, image_fields, static_transforms
from spatial_fm_ros.simulation.simulator import Event


def _bytes(values: NDArray[np.uint8]) -> array.array[int]:
    # Filling through array.array costs a thousandth of assigning a numpy array to the field.
    data = array.array("B")
    data.frombytes(memoryview(np.ascontiguousarray(values)) if values.size else b"")
    return data


def image_message(event: Event, compressed: str) -> Image | CompressedImage:
    """Image rgb8, or CompressedImage when `compressed` is "jpeg" or "png"; damaged as event.fault says."""
    frame = event.sample
    assert isinstance(frame, Frame)
    fields = image_fields(event, compressed)
    head = header(frame.stamp_ns, frame.frame_id)
    data = _bytes(fields.pop("data"))
    kind: Any = CompressedImage if compressed else Image
    return kind(header=head, data=data, **fields)


def camera_info_message(frame: Frame, fault: str) -> CameraInfo | None:
    """CameraInfo of a frame; None where its camera is unknown."""
    if frame.camera is None:
        return None
    fields = {
        k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in camera_info_fields(frame.camera, fault).items()
    }
    return CameraInfo(header=header(frame.stamp_ns, frame.frame_id), **fields)


def cloud_message(event: Event) -> PointCloud2:
    """PointCloud2 with x y z intensity time ring."""
    scan = event.sample
    assert isinstance(scan, LidarScan)
    fields = cloud_fields(event)
    layout = [PointField(name=n, offset=o, datatype=k, count=1) for n, o, k in fields["fields"]]
    return PointCloud2(
        header=header(scan.stamp_ns, scan.frame_id),
        height=1,
        width=fields["width"],
        fields=layout,
        is_bigendian=False,
        point_step=fields["point_step"],
        row_step=fields["point_step"] * fields["width"],
        data=_bytes(fields["data"]),
        is_dense=fields["is_dense"],
    )


def odometry_messages(sample: PoseSample) -> tuple[Odometry, TransformStamped]:
    """Odometry and the transform odom -> base_link. There is no velocity: its covariance says so."""
    odometry = Odometry(header=header(sample.stamp_ns, sample.frame_id), child_frame_id=sample.child_frame_id)
    odometry.pose.pose = encode_pose(sample.odom_from_body)
    if sample.covariance is not None:
        odometry.pose.covariance = sample.covariance.reshape(-1).tolist()
    odometry.twist.covariance = (np.eye(6) * UNKNOWN_VARIANCE).reshape(-1).tolist()
    edge = encode_transform(sample.odom_from_body, sample.stamp_ns, sample.frame_id, sample.child_frame_id)
    return odometry, edge


def imu_message(sample: ImuSample) -> Imu:
    """Imu without orientation (its covariance begins with -1)."""
    message = Imu(header=header(sample.stamp_ns, sample.frame_id))
    message.orientation_covariance = [-1.0] + [0.0] * 8
    rates, force = message.angular_velocity, message.linear_acceleration
    rates.x, rates.y, rates.z = (float(v) for v in sample.angular_velocity)
    force.x, force.y, force.z = (float(v) for v in sample.linear_acceleration)
    return message


def static_messages(rig: Rig, stamp_ns: int) -> list[TransformStamped]:
    """The transforms from base_link to the sensors."""
    return [encode_transform(pose, stamp_ns, parent, child) for parent, child, pose in static_transforms(rig)]
