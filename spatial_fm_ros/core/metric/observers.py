"""What can see metres. Each observer looks at one placed window and says a log-scale with its deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spatial_fm_ros.core.types import PosedKeyframe


@dataclass(frozen=True)
class ScaleObservation:
    """One observer's word on one window.

    log_scale: natural log of metres per world unit; sigma: its standard deviation; `usable` False
    means the observer is there but cannot see scale now, for the `reason` given.
    """

    name: str
    log_scale: float
    sigma: float
    usable: bool
    reason: str = ""


def unusable(name: str, reason: str) -> ScaleObservation:
    return ScaleObservation(name, 0.0, float("inf"), False, reason)


class ScaleObserver(Protocol):
    """Looks at the posed keyframes of a window, in world units, oldest first."""

    name: str

    def observe(self, keyframes: Sequence[PosedKeyframe]) -> ScaleObservation | None:
        """None: this observer has nothing to work with (its sensor is absent)."""
        ...
