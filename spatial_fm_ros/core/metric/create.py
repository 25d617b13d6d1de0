"""All observers of metres. Each stays silent while its sensor is absent."""

from __future__ import annotations

from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.lidar_depth import LidarDepthObserver
from spatial_fm_ros.core.metric.observers import ScaleObserver
from spatial_fm_ros.core.metric.poses import PoseObserver


def create_observers(config: Config, sensors: Sensors) -> list[ScaleObserver]:
    return [PoseObserver(config.scale, sensors), LidarDepthObserver(config.scale, sensors)]
