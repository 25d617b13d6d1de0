"""Scale from a model that speaks in metres: weak, but there from the first window on, also standing still."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.config import ScaleConfig
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation, unusable


class MetricModelObserver:
    """The model's own metres. How far they are off is a matter of camera and scene and hardly changes from window to
    window; nothing of it shows in the window, so both deviations are parameters."""

    name = "model"

    def __init__(self, config: ScaleConfig, sensors: Sensors) -> None:
        self.config = config

    def observe(self, window: PlacedWindow) -> ScaleObservation | None:
        """None for a model without metres."""
        if not window.metric_gauge:
            return None
        if not (np.isfinite(window.world_per_gauge) and window.world_per_gauge > 0):
            return unusable(self.name, f"the window has no size in the world ({window.world_per_gauge})")
        return ScaleObservation(
            name=self.name,
            log_scale=-float(np.log(window.world_per_gauge)),
            sigma=self.config.model_sigma,
            usable=True,
            systematic=self.config.model_systematic,
        )

    def rescaled(self, factor: float) -> None:
        """Nothing is remembered."""

    def reset(self) -> None:
        """Nothing is remembered."""
