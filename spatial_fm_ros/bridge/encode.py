"""Core results to ROS messages.

Large data fields go through cv_bridge and sensor_msgs_py, which fill them as array.array: assigning a
numpy array to a message field costs a thousand times as much. Lengths are in the world's unit: metres
once the scale is metric.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from cv_bridge import CvBridge
from geometry_msgs.msg import Pose, PoseStamped, PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Odometry, Path
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from sensor_msgs_py.point_cloud2 import create_cloud, dtype_from_fields
from std_msgs.msg import Header

from spatial_fm_ros.bridge.quaternions import quaternion_xyzw
from spatial_fm_ros.core.metric.pose_covariance import UNKNOWN_VARIANCE
from spatial_fm_ros.core.types import Array, Camera, PointCloud

_POINT_FIELDS = [
    PointField(name="x", offset=0, datatype=PointField.FLOAT32, count=1),
    PointField(name="y", offset=4, datatype=PointField.FLOAT32, count=1),
    PointField(name="z", offset=8, datatype=PointField.FLOAT32, count=1),
    PointField(name="rgb", offset=12, datatype=PointField.FLOAT32, count=1),
    PointField(name="confidence", offset=16, datatype=PointField.FLOAT32, count=1),
]
_POINT_TYPE = dtype_from_fields(_POINT_FIELDS)
_MAP_FIELDS = [
    *_POINT_FIELDS,
    *(
        PointField(name=f"normal_{axis}", offset=20 + 4 * i, datatype=PointField.FLOAT32, count=1)
        for i, axis in enumerate("xyz")
    ),
    PointField(name="source", offset=32, datatype=PointField.UINT32, count=1),
]
_MAP_TYPE = dtype_from_fields(_MAP_FIELDS)
_cv_bridge = CvBridge()


def time_message(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def header(stamp_ns: int, frame_id: str) -> Header:
    return Header(stamp=time_message(stamp_ns), frame_id=frame_id)


def encode_float_image(values: NDArray[np.float32], stamp_ns: int, frame_id: str) -> Image:
    """Image 32FC1 of float32 [H, W]: depth in metres with NaN = unknown (REP-118), or confidence."""
    pixels = np.ascontiguousarray(values, dtype=np.float32)
    message = _cv_bridge.cv2_to_imgmsg(pixels, encoding="32FC1")
    message.header = header(stamp_ns, frame_id)
    return message


def encode_camera_info(camera: Camera, stamp_ns: int, frame_id: str) -> CameraInfo:
    """CameraInfo of a pinhole grid (R = identity, P = K) or of a distorted camera."""
    K = camera.K
    return CameraInfo(
        header=header(stamp_ns, frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob" if camera.distortion_model == "none" else camera.distortion_model,
        d=list(camera.distortion) or [0.0] * 5,
        k=K.reshape(-1).tolist(),
        r=np.eye(3).reshape(-1).tolist(),
        p=np.column_stack((K, np.zeros(3))).reshape(-1).tolist(),
    )


def encode_cloud(cloud: PointCloud, stamp_ns: int, frame_id: str, detailed: bool = False) -> PointCloud2:
    """PointCloud2 with x y z, rgb packed as PCL and RViz read it, and confidence; float32 each.

    `detailed` adds the normal and the source (uint32 of PointSource).
    """
    fields, kind = (_MAP_FIELDS, _MAP_TYPE) if detailed else (_POINT_FIELDS, _POINT_TYPE)
    record = np.empty((len(cloud), len(fields)), "<f4")
    if len(cloud):
        record[:, :3] = cloud.points
        record[:, 4] = cloud.confidence
        # The float's bits are 0x00RRGGBB: blue is its low byte, and no alpha, which could make it a NaN.
        bgra = cv2.cvtColor(np.ascontiguousarray(cloud.colors)[None], cv2.COLOR_RGB2BGRA)
        np.bitwise_and(bgra.view("<u4").reshape(-1), 0x00FFFFFF, out=record.view("<u4")[:, 3])
        if detailed:
            record[:, 5:8] = cloud.normals
            record.view("<u4")[:, 8] = cloud.source
    structured = record.view(kind).reshape(-1)
    message = create_cloud(header(stamp_ns, frame_id), fields, structured)
    message.is_dense = True
    return message


def encode_pose(matrix: Array) -> Pose:
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in matrix[:3, 3])
    o = pose.orientation
    o.x, o.y, o.z, o.w = quaternion_xyzw(matrix)
    return pose


def encode_transform(parent_from_child: Array, stamp_ns: int, parent: str, child: str) -> TransformStamped:
    msg = TransformStamped(header=header(stamp_ns, parent), child_frame_id=child)
    pose = encode_pose(parent_from_child)
    t, p = msg.transform.translation, pose.position
    t.x, t.y, t.z = p.x, p.y, p.z
    msg.transform.rotation = pose.orientation
    return msg


def encode_pose_with_covariance(
    map_from_frame: Array, covariance: Array, stamp_ns: int, map_frame: str
) -> PoseWithCovarianceStamped:
    """A pose [4, 4] in the map with its covariance [6, 6] (x y z, turns about x y z, in the map's axes)."""
    msg = PoseWithCovarianceStamped(header=header(stamp_ns, map_frame))
    msg.pose.pose = encode_pose(map_from_frame)
    msg.pose.covariance = covariance.reshape(-1).tolist()
    return msg


def encode_odometry(
    map_from_frame: Array, covariance: Array, stamp_ns: int, map_frame: str, frame: str
) -> Odometry:
    """Odometry of a frame of the robot in the map; covariance [6, 6] as of encode_pose_with_covariance.

    There is no velocity in a keyframe: the twist is zero with an unknown (very large) covariance.
    """
    msg = Odometry(header=header(stamp_ns, map_frame), child_frame_id=frame)
    msg.pose.pose = encode_pose(map_from_frame)
    msg.pose.covariance = covariance.reshape(-1).tolist()
    msg.twist.covariance = (np.eye(6) * UNKNOWN_VARIANCE).reshape(-1).tolist()
    return msg


def encode_path(stamps_ns: Sequence[int], map_from_frame: Array, stamp_ns: int, map_frame: str) -> Path:
    """Path through poses [n, 4, 4] in the map frame."""
    msg = Path(header=header(stamp_ns, map_frame))
    if not len(map_from_frame):
        return msg
    quaternions = Rotation.from_matrix(map_from_frame[:, :3, :3]).as_quat().tolist()
    positions = map_from_frame[:, :3, 3].tolist()
    poses = []
    for stamp, (x, y, z), (qx, qy, qz, qw) in zip(stamps_ns, positions, quaternions, strict=True):
        each = PoseStamped(header=header(int(stamp), map_frame))
        p, q = each.pose.position, each.pose.orientation
        p.x, p.y, p.z = x, y, z
        q.x, q.y, q.z, q.w = qx, qy, qz, qw
        poses.append(each)
    msg.poses = poses
    return msg
