"""All observers of metres. Each stays silent while its sensor is absent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.baseline import BaselineObserver
from spatial_fm_ros.core.metric.extrinsic_slack import ExtrinsicEvidence
from spatial_fm_ros.core.metric.gravity import GravityEstimate
from spatial_fm_ros.core.metric.inertial import InertialObserver
from spatial_fm_ros.core.metric.known_height import KnownHeightObserver
from spatial_fm_ros.core.metric.lidar_depth import LidarDepthObserver
from spatial_fm_ros.core.metric.metric_model import MetricModelObserver
from spatial_fm_ros.core.metric.observers import ScaleObserver
from spatial_fm_ros.core.metric.poses import PoseObserver
from spatial_fm_ros.core.metric.registration import RegistrationObserver


@dataclass(frozen=True, eq=False)
class Observers:
    """scale: those in use, in the order in which they look at a window; of the newest window, if known, gravity, and
    what LiDAR depth says of the extrinsic between LiDAR and camera."""

    scale: tuple[ScaleObserver, ...]
    gravity: Callable[[], GravityEstimate | None] = lambda: None
    extrinsic: Callable[[], ExtrinsicEvidence | None] = lambda: None

    def reset(self) -> None:
        """The world starts anew."""
        for observer in self.scale:
            observer.reset()


def create_observers(config: Config, sensors: Sensors) -> Observers:
    """All but those that `scale.ignore` names. Raises ConfigError for a name that none of them has."""
    imu = InertialObserver(config.scale.inertial, sensors)
    lidar_depth = LidarDepthObserver(config.scale, sensors)
    every: tuple[ScaleObserver, ...] = (
        PoseObserver(config.scale, sensors),
        lidar_depth,
        RegistrationObserver(config.scale, config.lidar, sensors),
        imu,
        KnownHeightObserver(config.scale, sensors, lambda: imu.gravity),
        BaselineObserver(config.scale, sensors),
        MetricModelObserver(config.scale, sensors),
    )
    ignored = {name.strip() for name in config.scale.ignore.split(",") if name.strip()}
    names = [observer.name for observer in every]
    if unknown := sorted(ignored - set(names)):
        raise ConfigError(f"scale.ignore names {', '.join(unknown)}; expected some of {', '.join(names)}.")
    used = tuple(observer for observer in every if observer.name not in ignored)
    return Observers(used, lambda: imu.gravity, lidar_depth.evidence)
