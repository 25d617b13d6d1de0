"""Messages out, read back by other libraries than those that wrote them."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from scipy.spatial.transform import Rotation
from sensor_msgs_py import point_cloud2

from spatial_fm_ros.bridge.decode_results import decode_float_image, decode_path
from spatial_fm_ros.bridge.encode import encode_cloud, encode_float_image, encode_path
from spatial_fm_ros.bridge.quaternions import quaternion_xyzw
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import PointCloud


def test_quaternions_are_scipys() -> None:
    for matrix in Rotation.random(50, random_state=0).as_matrix():
        pose = np.eye(4)
        pose[:3, :3] = matrix
        q = np.array(quaternion_xyzw(pose))
        expected = Rotation.from_matrix(matrix).as_quat()
        np.testing.assert_allclose(q * np.sign(q @ expected), expected, atol=1e-9)


def test_float_image_round_trip_keeps_nan_stamp_and_frame() -> None:
    values = np.random.default_rng(0).random((7, 11)).astype(np.float32)
    values[2, 3] = np.nan
    message = encode_float_image(values, 12_000_000_345, "cam")
    assert (message.encoding, message.step, message.header.frame_id) == ("32FC1", 44, "cam")
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 345)
    np.testing.assert_array_equal(decode_float_image(message), values)
    message.step = 40
    with pytest.raises(InputError, match="32FC1"):
        decode_float_image(message)


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_cloud_is_what_sensor_msgs_py_reads(count: int) -> None:
    rng = np.random.default_rng(count)
    cloud = PointCloud(
        rng.normal(size=(count, 3)).astype(np.float32),
        rng.integers(0, 256, (count, 3)).astype(np.uint8),
        rng.random(count).astype(np.float32),
    )
    message = encode_cloud(cloud, 5, "map")
    assert (message.height, message.width, message.point_step, len(message.data)) == (1, count, 20, 20 * count)
    points = point_cloud2.read_points(message)
    np.testing.assert_array_equal(np.stack([points[k] for k in "xyz"], axis=1).reshape(-1, 3), cloud.points)
    np.testing.assert_array_equal(points["confidence"], cloud.confidence)
    packed = np.ascontiguousarray(points["rgb"]).view("<u4")
    colors = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1)
    np.testing.assert_array_equal(colors.reshape(-1, 3), cloud.colors)


def test_a_detailed_cloud_carries_normals_and_source() -> None:
    rng = np.random.default_rng(0)
    cloud = PointCloud(
        rng.normal(size=(100, 3)).astype(np.float32),
        rng.integers(0, 256, (100, 3)).astype(np.uint8),
        rng.random(100).astype(np.float32),
        rng.normal(size=(100, 3)).astype(np.float32),
        rng.integers(0, 2, 100).astype(np.uint8),
    )
    points = point_cloud2.read_points(encode_cloud(cloud, 5, "map", detailed=True))
    normals = np.stack([points[f"normal_{axis}"] for axis in "xyz"], axis=1)
    np.testing.assert_array_equal(normals, cloud.normals)
    np.testing.assert_array_equal(points["source"], cloud.source)
    np.testing.assert_array_equal(points["x"], cloud.points[:, 0])
    assert points["rgb"].tobytes() == point_cloud2.read_points(encode_cloud(cloud, 5, "map"))["rgb"].tobytes()


def test_path_round_trip() -> None:
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, :3, :3] = Rotation.random(5, random_state=1).as_matrix()
    poses[:, :3, 3] = np.arange(15).reshape(5, 3)
    stamps, back = decode_path(encode_path([1, 2, 3, 4, 5], poses, 5, "map"))
    np.testing.assert_array_equal(stamps, [1, 2, 3, 4, 5])
    np.testing.assert_allclose(back, poses, atol=1e-9)
