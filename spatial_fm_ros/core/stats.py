"""Counters of one pipeline, for status, diagnostics and reports."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np


@dataclass
class PipelineStats:
    """Counts since the start or the last reset. Times are wall-clock seconds of whole windows."""

    frames: int = 0
    keyframes: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    companions: int = 0  # views of the rig's other cameras in them
    failed_windows: int = 0
    unposed_windows: int = 0  # the newest ones in a row, in which no keyframe has a pose of odometry
    submaps: int = 0
    resets: int = 0
    window_times_s: deque[float] = field(default_factory=lambda: deque(maxlen=200))

    @property
    def window_time_mean_s(self) -> float:
        return float(np.mean(self.window_times_s)) if self.window_times_s else 0.0

    @property
    def window_time_p95_s(self) -> float:
        return float(np.percentile(self.window_times_s, 95)) if self.window_times_s else 0.0
