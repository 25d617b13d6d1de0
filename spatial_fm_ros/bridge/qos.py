"""Quality of service of every topic, in one place."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, reliable: bool, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def image_input(reliability: str, depth: int) -> QoSProfile:
    """Best effort hears every camera driver; reliable is for lossy links whose driver offers it."""
    return _profile(depth, reliable=reliability == "reliable")


def sensor_input(depth: int) -> QoSProfile:
    """LiDAR, odometry, IMU, CameraInfo: best effort matches both kinds of publisher."""
    return _profile(depth, reliable=False)


def result_output(depth: int = 10) -> QoSProfile:
    """Depth, clouds, poses: reliable, because best effort loses large messages even on one machine."""
    return _profile(depth, reliable=True)


def latched_output() -> QoSProfile:
    """Map and status: a late subscriber gets the last one."""
    return _profile(1, reliable=True, latched=True)
