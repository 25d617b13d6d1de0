"""Scale from the known height of the camera above the ground: the measure of a rig with a single camera."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spatial_fm_ros.core.config import ScaleConfig
from spatial_fm_ros.core.geometry.cameras import pinhole_rays
from spatial_fm_ros.core.geometry.robust import MAD_TO_SIGMA
from spatial_fm_ros.core.geometry.rotations import is_pose
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.gravity import GravityEstimate
from spatial_fm_ros.core.metric.ground import Ground, fit_ground
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation, unusable
from spatial_fm_ros.core.types import Array, PosedKeyframe

#: How far the ground may be tilted against what is taken for up, rad: gravity, the body's z axis, the image's -y.
GRAVITY_TILT, BODY_TILT, IMAGE_TILT = np.radians([10.0, 12.0, 30.0])
#: Pixels that take part: confident ones, every n-th of a row and column.
MIN_CONFIDENCE, STRIDE = 0.5, 3
MIN_KEYFRAMES = 2
#: Heights in one window that differ by more than this (log standard deviation) are not of one ground.
LARGEST_SPREAD = 0.1
#: Depth of the ground errs alike in all images of a window: no number of them makes its height better than this.
LEAST_SIGMA = 0.01


class KnownHeightObserver:
    """Fits the ground in every keyframe. `gravity` gives the newest window's, where an IMU knows it."""

    name = "height"

    def __init__(
        self, config: ScaleConfig, sensors: Sensors, gravity: Callable[[], GravityEstimate | None] = lambda: None
    ) -> None:
        self.config = config
        self.sensors = sensors
        self.gravity = gravity

    def observe(self, window: PlacedWindow) -> ScaleObservation | None:
        """log(known height / fitted height), the median over the window's keyframes; None without a known height."""
        if not self.config.camera_height_m > 0:
            return None
        rng = np.random.default_rng(window.keyframes[0].id)
        grounds = [self._ground(keyframe, rng) for keyframe in window.keyframes]
        found = [ground for ground in grounds if ground is not None]
        if len(found) < min(MIN_KEYFRAMES, len(window.keyframes)):
            return unusable(self.name, f"the ground is seen in {len(found)} of {len(grounds)} keyframes")
        logs = np.log([ground.height for ground in found])
        middle = float(np.median(logs))
        spread = MAD_TO_SIGMA * float(np.median(np.abs(logs - middle)))
        if spread > LARGEST_SPREAD:
            return unusable(self.name, f"the camera's height above ground differs by {spread:.0%} within the window")
        return ScaleObservation(
            name=self.name,
            log_scale=float(np.log(self.config.camera_height_m)) - middle,
            sigma=float(np.hypot(LEAST_SIGMA, spread / np.sqrt(len(found)))),
            usable=True,
            systematic=self.config.camera_height_sigma,
            figures={"ground_keyframes": float(len(found)), "ground_share": float(np.median([g.share for g in found]))},
        )

    def rescaled(self, factor: float) -> None:
        """Nothing is remembered."""

    def reset(self) -> None:
        """Nothing is remembered."""

    def _ground(self, keyframe: PosedKeyframe, rng: np.random.Generator) -> Ground | None:
        depth = keyframe.depth[::STRIDE, ::STRIDE]
        use = np.isfinite(depth) & (depth > 0) & (keyframe.confidence[::STRIDE, ::STRIDE] >= MIN_CONFIDENCE)
        height, width = keyframe.depth.shape
        rays = pinhole_rays(keyframe.camera.K, width, height)[::STRIDE, ::STRIDE]
        up, tilt = self._up(keyframe)
        return fit_ground(rays[use] * depth[use, None], up, tilt, rng)

    def _up(self, keyframe: PosedKeyframe) -> tuple[Array, float]:
        """What is taken for up in the camera's axes [3], and how far the ground's normal may be from it."""
        gravity = self.gravity()
        if gravity is not None:
            up = -(keyframe.world_from_camera[:3, :3].T @ gravity.direction_in_world)
            return up, float(GRAVITY_TILT + 2 * gravity.sigma_rad)
        mount = self.sensors.rig.body_from_camera
        if mount is not None and is_pose(mount):
            return mount[2, :3].copy(), float(BODY_TILT)
        return np.array([0.0, -1.0, 0.0]), float(IMAGE_TILT)
