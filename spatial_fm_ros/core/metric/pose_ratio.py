"""Scale from metric poses: how far odometry says the camera moved over how far the images say."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.config import ScaleConfig
from spatial_fm_ros.core.geometry.robust import MAD_TO_SIGMA, weighted_median
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation, unusable

#: Log ratios spread wider than this are no scale: odometry and images tell different stories.
LARGEST_SPREAD = 0.35


class PoseRatioObserver:
    """Robust pairwise distance ratios of camera centres (LiDAR, wheel or visual odometry, or TF).

    Distances need no common orientation, so the estimate is free of odometry's heading frame.
    """

    name = "poses"

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config

    def observe(self, window: PlacedWindow) -> ScaleObservation | None:
        """Weighted median of log(odometry distance / image distance) over all pairs with enough travel.

        sigma is the median absolute deviation brought to a standard deviation, over the square
        root of the independent frames (not pairs: they share frames).
        """
        known = [k for k in window.keyframes if k.odom_from_camera is not None]
        if not known:
            return None
        if len(known) < 3:
            return unusable(self.name, f"{len(known)} keyframes of the window have a pose, 3 needed")
        odometry = np.stack([k.odom_from_camera[:3, 3] for k in known if k.odom_from_camera is not None])
        images = np.stack([k.world_from_camera[:3, 3] for k in known])
        first, second = np.triu_indices(len(known), k=1)
        metres = np.linalg.norm(odometry[first] - odometry[second], axis=1)
        units = np.linalg.norm(images[first] - images[second], axis=1)
        extent = float(metres.max())
        if extent < self.config.min_travel_m:
            return unusable(
                self.name, f"travelled {extent:.2f} m in the window, {self.config.min_travel_m} m needed"
            )
        # Short pairs carry odometry's noise rather than scale.
        use = (metres > 0.25 * extent) & (units > 1e-9)
        if use.sum() < self.config.min_pairs:
            return unusable(self.name, f"{int(use.sum())} usable pairs, {self.config.min_pairs} needed")
        ratio, weight = np.log(metres[use] / units[use]), metres[use]
        centre = weighted_median(ratio, weight)
        spread = MAD_TO_SIGMA * weighted_median(np.abs(ratio - centre), weight)
        if spread > LARGEST_SPREAD:
            return unusable(self.name, f"distance ratios disagree (spread {spread:.0%}): odometry or images slip")
        sigma = max(spread, 0.002) / np.sqrt(len(known) - 1)
        figures = {"pairs": float(use.sum())}
        return ScaleObservation(
            self.name, centre, float(sigma), True, systematic=self.config.odometry_sigma, figures=figures
        )

    def rescaled(self, factor: float) -> None:
        """Nothing is remembered."""

    def reset(self) -> None:
        """Nothing is remembered."""

