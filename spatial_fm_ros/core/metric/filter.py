"""The world's scale over time: a one-dimensional Kalman filter on log(metres per world unit)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spatial_fm_ros.core.config import ScaleConfig
from spatial_fm_ros.core.metric.observers import ScaleObservation
from spatial_fm_ros.core.types import ScaleEstimate, ScaleState

#: An observation further than this many deviations from the estimate is reported, not averaged in.
GATE = 4.0


class ScaleFilter:
    """State: log_scale with its variance, of the newest end of one submap.

    Seams let the scale wander, so the variance grows with every window; observers bring it down.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config
        self.log_scale = 0.0
        self.variance = float("inf")
        self.state = ScaleState.RELATIVE
        self.observers: tuple[str, ...] = ()
        self.rejected: tuple[str, ...] = ()
        self.reason = ScaleEstimate().reason
        self._outliers = 0

    def predict(self) -> None:
        """A further seam has been chained."""
        self.variance += self.config.drift_per_window**2

    def update(self, observations: Sequence[ScaleObservation]) -> None:
        """Fuse what the observers say of the newest window, then settle the state."""
        used: list[str] = []
        rejected = [f"{o.name}: {o.reason}" for o in observations if not o.usable]
        for observation in (o for o in observations if o.usable):
            if self._conflicts(observation):
                self._outliers += 1
                gap = observation.log_scale - self.log_scale
                rejected.append(f"{observation.name}: {np.expm1(gap):+.0%} away from the estimate")
                if self._outliers < self.config.conflicts_before_restart:
                    continue
                # It keeps saying so: the estimate is what is wrong.
                self.variance = float("inf")
            self._outliers = 0
            self._fuse(observation)
            used.append(observation.name)
        self.rejected = tuple(rejected)
        if used:
            self.observers = tuple(used)
        self._settle(present=bool(observations), seen=bool(used))

    def rebase(self, log_factor: float) -> None:
        """World units were multiplied by exp(log_factor)."""
        self.log_scale -= log_factor

    def estimate(self) -> ScaleEstimate:
        """The published scale; its sigma includes the odometry's own scale error, which no window shows."""
        sigma = float(np.hypot(np.sqrt(self.variance), self.config.odometry_sigma))
        metric = self.state is ScaleState.METRIC
        return ScaleEstimate(
            state=self.state,
            value=float(np.exp(self.log_scale)) if metric else 1.0,
            sigma=sigma if np.isfinite(self.variance) else float("inf"),
            observers=self.observers,
            rejected=self.rejected,
            reason=self.reason,
        )

    def _conflicts(self, observation: ScaleObservation) -> bool:
        if not np.isfinite(self.variance):
            return False
        sigma = np.hypot(np.sqrt(self.variance), max(observation.sigma, self.config.drift_per_window))
        return bool(abs(observation.log_scale - self.log_scale) > GATE * sigma)

    def _fuse(self, observation: ScaleObservation) -> None:
        noise = observation.sigma**2
        if not np.isfinite(self.variance):
            self.log_scale, self.variance = observation.log_scale, noise
            return
        gain = self.variance / (self.variance + noise)
        self.log_scale += gain * (observation.log_scale - self.log_scale)
        self.variance *= 1.0 - gain

    def _settle(self, present: bool, seen: bool) -> None:
        """relative -> metric below metric_sigma, back only above lost_sigma (hysteresis)."""
        sigma = float(np.sqrt(self.variance))
        limit = self.config.lost_sigma if self.state is ScaleState.METRIC else self.config.metric_sigma
        if sigma <= limit:
            self.state = ScaleState.METRIC
            self.reason = "" if seen else "held from earlier windows"
        elif present or self.state is not ScaleState.RELATIVE:
            self.state = ScaleState.UNOBSERVABLE
            self.observers = ()
            self.reason = "; ".join(self.rejected) or "the scale has not been seen for too long"
        else:
            self.reason = ScaleEstimate().reason
