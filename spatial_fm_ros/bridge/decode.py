"""Messages to core samples, in one place. Nothing here imports ROS: rclpy's messages and those rosbags
deserialises are both duck-typed, so the live node and the offline reader decode with the same code.

Whatever a message holds, these functions return a valid sample or raise InputError.
"""

from spatial_fm_ros.bridge.decode_camera_info import decode_camera_info
from spatial_fm_ros.bridge.decode_images import (
    ENCODINGS,
    PackedImage,
    decode_compressed_image,
    decode_image,
    open_compressed_image,
    open_image,
)
from spatial_fm_ros.bridge.decode_motion import (
    decode_imu,
    decode_odometry,
    decode_transform,
    frame_name,
    odometry_frames,
    stamp_ns,
)
from spatial_fm_ros.bridge.decode_points import decode_points

__all__ = [
    "ENCODINGS",
    "PackedImage",
    "decode_camera_info",
    "decode_compressed_image",
    "decode_image",
    "decode_imu",
    "decode_odometry",
    "decode_points",
    "decode_transform",
    "frame_name",
    "odometry_frames",
    "open_compressed_image",
    "open_image",
    "stamp_ns",
]
