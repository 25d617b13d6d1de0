"""Stamps, odometry, inertial samples and transforms from messages, without importing ROS (duck-typed)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Array, ImuSample, PoseSample

#: A quaternion's norm may differ from 1 by this much (float32 rounding, hand-written values).
NORM_TOLERANCE = 0.01


def stamp_ns(header: Any) -> int:
    """The header's stamp in int nanoseconds. Raises InputError where the nanosecond part is no such."""
    sec, nanosec = int(header.stamp.sec), int(header.stamp.nanosec)
    if not 0 <= nanosec < 1_000_000_000:
        raise InputError(f"A stamp's nanoseconds lie in 0..999999999, got {nanosec}; check the driver's clock.")
    return sec * 1_000_000_000 + nanosec


def clean_frame(name: str) -> str:
    """A frame's name without the leading slash of ROS 1 and blanks around it."""
    return str(name).strip().lstrip("/")


def frame_name(header: Any, default: str) -> str:
    """frame_id without the leading slash of ROS 1; `default` where it is empty."""
    return clean_frame(header.frame_id) or default


def odometry_frames(msg: Any) -> str:
    """What an odometry is of and in, by name: two that differ in either do not fit together."""
    names = clean_frame(msg.child_frame_id), clean_frame(msg.header.frame_id)
    return " in ".join(name for name in names if name)


def decode_odometry(msg: Any) -> PoseSample:
    """nav_msgs/Odometry: pose of child_frame_id (body) in frame_id (odom), metres.

    Covariance [6, 6] (x y z roll pitch yaw) or None where it is all zero (unknown by convention), not
    finite or negative. Raises InputError on NaN, infinite values and quaternions that are no rotation.
    """
    covariance: Array | None = np.array(msg.pose.covariance, dtype=np.float64).reshape(6, 6)
    if covariance is not None:
        diagonal = np.diag(covariance)
        if not np.isfinite(covariance).all() or not covariance.any() or (diagonal < 0).any():
            covariance = None
    return PoseSample(
        stamp_ns=stamp_ns(msg.header),
        odom_from_body=_pose(msg.pose.pose.position, msg.pose.pose.orientation, "An odometry pose"),
        covariance=covariance,
        frame_id=frame_name(msg.header, "odom"),
        child_frame_id=clean_frame(msg.child_frame_id) or "base_link",
    )


def decode_imu(msg: Any) -> ImuSample:
    """sensor_msgs/Imu: angular velocity rad/s and linear acceleration m/s^2. Orientation is not used.

    Raises InputError on NaN and where the driver says (-1 as first covariance) that either is not measured.
    """
    for name in ("angular_velocity", "linear_acceleration"):
        if float(getattr(msg, f"{name}_covariance")[0]) == -1.0:
            raise InputError(f"The IMU says it does not measure {name} (covariance[0] is -1); use another topic.")
    return ImuSample(
        stamp_ns=stamp_ns(msg.header),
        angular_velocity=_vector(msg.angular_velocity, "An angular velocity"),
        linear_acceleration=_vector(msg.linear_acceleration, "A linear acceleration"),
        frame_id=frame_name(msg.header, "imu"),
    )


def decode_transform(msg: Any) -> Array:
    """parent_from_child 4x4 of a geometry_msgs/TransformStamped or Transform, metres. Raises InputError."""
    transform = getattr(msg, "transform", msg)
    return _pose(transform.translation, transform.rotation, "A transform")


def decode_pose(msg: Any) -> Array:
    """a_from_b 4x4 of a geometry_msgs/Pose, metres. Raises InputError."""
    return _pose(msg.position, msg.orientation, "A pose")


def _vector(msg: Any, what: str) -> Array:
    values = np.array((msg.x, msg.y, msg.z), dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{what} needs finite x, y, z, got {values.tolist()}.")
    return values


def _pose(position: Any, orientation: Any, what: str) -> Array:
    """4x4 from a position and a unit quaternion (x, y, z, w)."""
    translation = _vector(position, what)
    quaternion = np.array((orientation.x, orientation.y, orientation.z, orientation.w), dtype=np.float64)
    norm = float(np.linalg.norm(quaternion))
    if not abs(norm - 1.0) <= NORM_TOLERANCE:  # also catches NaN
        why = "all zero (never filled in)" if norm == 0.0 else f"of norm {norm:.4g}"
        raise InputError(f"{what} needs a unit quaternion, got {quaternion.tolist()}, {why}.")
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    matrix[:3, 3] = translation
    return matrix
