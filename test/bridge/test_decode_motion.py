"""Odometry, IMU, transforms and stamps: exact values, refusals, fuzzing; and no ROS import."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.bridge.decode import decode_imu, decode_odometry, decode_transform, stamp_ns
from spatial_fm_ros.core.errors import InputError

QUATERNION = dict(zip("xyzw", map(float, Rotation.from_euler("xyz", [0.1, -0.2, 2.0]).as_quat()), strict=True))
NAN = float("nan")


def vector(x=0.0, y=0.0, z=0.0):
    return {"x": x, "y": y, "z": z}


def odometry(maker, position=None, orientation=None, covariance=None, **more):
    pose = {"position": position or vector(1.0, 2.0, 3.0), "orientation": orientation or QUATERNION}
    return maker(
        "nav_msgs/Odometry",
        header={"stamp": {"sec": 5, "nanosec": 7}, "frame_id": more.pop("frame_id", "odom")},
        child_frame_id=more.pop("child", "base"),
        pose={"pose": pose, "covariance": np.zeros(36) if covariance is None else covariance},
    )


def test_odometry(maker):
    sample = decode_odometry(odometry(maker, covariance=np.eye(6).reshape(-1) * 0.1))
    assert sample.stamp_ns == 5_000_000_007 and (sample.frame_id, sample.child_frame_id) == ("odom", "base")
    np.testing.assert_allclose(sample.odom_from_body[:3, 3], (1, 2, 3))
    np.testing.assert_allclose(Rotation.from_matrix(sample.odom_from_body[:3, :3]).as_euler("xyz"), (0.1, -0.2, 2.0))
    assert sample.covariance is not None and sample.covariance.shape == (6, 6)


@pytest.mark.parametrize("fill", [0.0, NAN, -1.0])
def test_unknown_covariance_is_none(maker, fill):
    assert decode_odometry(odometry(maker, covariance=np.full(36, fill))).covariance is None


def test_frame_names_of_ros1_and_empty(maker):
    sample = decode_odometry(odometry(maker, frame_id="/world", child=""))
    assert (sample.frame_id, sample.child_frame_id) == ("world", "base_link")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"orientation": dict.fromkeys("xyzw", 0.0)}, "never filled in"),
        ({"orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 2.0}}, "norm 2"),
        ({"orientation": {"w": NAN}}, "unit quaternion"),
        ({"position": vector(NAN)}, "finite"),
        ({"position": vector(float("inf"))}, "finite"),
    ],
)
def test_bad_odometry_is_refused(maker, change, words):
    with pytest.raises(InputError, match=words):
        decode_odometry(odometry(maker, **change))


def test_slightly_unnormalised_quaternion_becomes_a_rotation(maker):
    got = decode_odometry(odometry(maker, orientation={"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.005})).odom_from_body
    np.testing.assert_allclose(got[:3, :3] @ got[:3, :3].T, np.eye(3), atol=1e-12)


def imu(maker, **change):
    fields = {"angular_velocity": vector(0.1, 0.2, 0.3), "linear_acceleration": vector(0.0, 0.0, 9.81)}
    return maker("sensor_msgs/Imu", header={"stamp": {"sec": 1, "nanosec": 2}, "frame_id": "imu"}, **(fields | change))


def test_imu(maker):
    sample = decode_imu(imu(maker))
    np.testing.assert_allclose(sample.angular_velocity, (0.1, 0.2, 0.3))
    np.testing.assert_allclose(sample.linear_acceleration, (0, 0, 9.81))


def test_bad_imu_is_refused(maker):
    with pytest.raises(InputError, match="finite"):
        decode_imu(imu(maker, angular_velocity=vector(NAN)))
    msg = imu(maker)
    msg.linear_acceleration_covariance[0] = -1.0
    with pytest.raises(InputError, match="does not measure linear_acceleration"):
        decode_imu(msg)


def test_transform(maker):
    msg = maker("geometry_msgs/TransformStamped", transform={"translation": vector(1.0), "rotation": QUATERNION})
    for each in (msg, msg.transform):
        np.testing.assert_allclose(decode_transform(each)[:3, 3], (1, 0, 0))
    with pytest.raises(InputError, match="quaternion"):
        decode_transform(maker("geometry_msgs/TransformStamped", transform={"rotation": dict.fromkeys("xyzw", 0.0)}))


def test_stamp_is_exact(maker):
    header = maker("std_msgs/Header", stamp={"sec": 2_000_000_000, "nanosec": 999_999_999})
    assert stamp_ns(header) == 2_000_000_000_999_999_999


number = st.floats(allow_nan=True, allow_infinity=True, width=64)


@settings(max_examples=200, deadline=None)
@given(values=st.lists(number, min_size=7, max_size=7), nanosec=st.integers(0, 2**32 - 1))
def test_fuzzed_odometry_gives_a_pose_or_a_sentence(maker, values, nanosec):
    msg = odometry(maker, vector(*values[:3]), dict(zip("xyzw", values[3:], strict=True)))
    msg.header.stamp.nanosec = nanosec
    try:
        sample = decode_odometry(msg)
    except InputError:
        return
    assert np.isfinite(sample.odom_from_body).all()


def test_decoders_import_without_ros():
    code = (
        "import sys, builtins\n"
        "real = builtins.__import__\n"
        "def guard(name, *a, **k):\n"
        "    if name.split('.')[0].endswith(('rclpy', '_msgs', 'tf2_ros', 'cv_bridge')):\n"
        "        raise ImportError('blocked ' + name)\n"
        "    return real(name, *a, **k)\n"
        "builtins.__import__ = guard\n"
        "import spatial_fm_ros.bridge.decode\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
