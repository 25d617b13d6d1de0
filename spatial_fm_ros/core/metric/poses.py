"""Scale from metric poses: how far odometry says the camera moved over how far the images say."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.config import ScaleConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import is_pose
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation, unusable
from spatial_fm_ros.core.metric.pose_alignment import PoseAlignment, align_poses
from spatial_fm_ros.core.types import PosedKeyframe

#: A scale this uncertain says only that odometry and images tell different stories.
LARGEST_SIGMA = 0.35


class PoseObserver:
    """Aligns the window's cameras with poses from LiDAR, wheel or visual odometry, or TF.

    Covariances that odometry publishes are not used: many senders leave them zero, and how well poses
    and images agree within the window says more.
    """

    name = "poses"

    def __init__(self, config: ScaleConfig, sensors: Sensors) -> None:
        self.config = config
        self.sensors = sensors

    def observe(self, window: PlacedWindow) -> ScaleObservation | None:
        """Scale by `align_poses` over the keyframes since the last jump of odometry; see ScaleObserver."""
        extrinsic = self.sensors.rig.body_from_camera
        if extrinsic is not None and not is_pose(extrinsic):
            return unusable(
                self.name, "the camera's mount is not a rigid transform (mirrored, scaled or NaN): correct its TF"
            )
        known = [
            k for k in window.keyframes if k.odom_from_camera is not None and np.isfinite(k.world_from_camera).all()
        ]
        if not known:
            return self._without()
        newer, jump = self._since_jump(known)
        if len(newer) < self.config.min_keyframes:
            reason = f"{len(newer)} keyframes of the window have a pose, {self.config.min_keyframes} needed"
            return unusable(self.name, reason + (f"; {jump}" if jump else ""))
        odom = np.stack([k.odom_from_camera for k in newer if k.odom_from_camera is not None])
        try:
            world = np.stack([k.world_from_camera for k in newer])
            found = align_poses(odom, world, self.config.min_travel_m, extrinsic)
        except InputError as error:
            return unusable(self.name, f"orientations of odometry and images have nothing in common: {error}")
        return self._judged(found, len(newer), jump)

    def _without(self) -> ScaleObservation | None:
        """No keyframe of the window has a pose: none where there is no odometry at all."""
        if not len(self.sensors.poses):
            return None
        sensor = "lidar" if self.sensors.poses_of_lidar else "odometry"
        if problem := self.sensors.clock_problem(sensor):
            return unusable(self.name, problem)
        return unusable(self.name, "no pose is of the window's time")

    def rescaled(self, factor: float) -> None:
        """Nothing is remembered."""

    def reset(self) -> None:
        """Nothing is remembered."""

    def _since_jump(self, known: list[PosedKeyframe]) -> tuple[list[PosedKeyframe], str]:
        """The keyframes whose poses belong to the newest odometry frame, and a sentence if those are not all."""
        start = 0
        for i in range(1, len(known)):
            if self.sensors.poses.jumped_between(known[i - 1].stamp_ns, known[i].stamp_ns):
                start = i
        if not start:
            return known, ""
        return known[start:], f"odometry jumped: only the newest {len(known) - start} of {len(known)} keyframes count"

    def _judged(self, found: PoseAlignment, count: int, jump: str) -> ScaleObservation:
        also = f"; {jump}" if jump else ""
        if found.kind == "static":
            need = self.config.min_travel_m
            if found.travel_m < need:
                return unusable(self.name, f"travelled {found.travel_m:.2f} m in the window, {need} m needed{also}")
            return unusable(self.name, f"odometry travelled {found.travel_m:.2f} m, the images saw no motion{also}")
        agree = int(found.inliers.sum())
        if agree < max(self.config.min_keyframes, count / 2) or found.sigma > LARGEST_SIGMA:
            return unusable(
                self.name, f"odometry and images disagree: {agree} of {count} keyframes fit one scale; one slips{also}"
            )
        figures = {
            "keyframes": float(agree),
            "travel_m": found.travel_m,
            "straight": float(found.kind == "straight"),
            "rotation_gap_deg": found.rotation_gap_deg,
        }
        return ScaleObservation(
            self.name, float(np.log(found.scale)), found.sigma, True, jump, self.config.odometry_sigma, figures
        )
