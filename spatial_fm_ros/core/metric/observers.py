"""What can see metres. Each observer looks at one placed window and says a log-scale with its deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from spatial_fm_ros.core.types import CompanionPose, PosedKeyframe


@dataclass(frozen=True)
class ScaleObservation:
    """One observer's word on one window.

    log_scale: natural log of metres per world unit. Its error has two parts, both standard deviations:
    `sigma` is new in every window, `systematic` is the same in all of them (a wheel's radius, a LiDAR's
    extrinsic), so that no number of windows averages it away. `usable` False means the observer is there
    but cannot see scale now, for the `reason` given. figures: what people want to see of it, by name. witness:
    the instrument behind it; observers of one LiDAR err alike in part, and are one voice.
    """

    name: str
    log_scale: float
    sigma: float
    usable: bool
    reason: str = ""
    systematic: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)
    witness: str = ""

    @property
    def instrument(self) -> str:
        """`witness`, by default the observer itself."""
        return self.witness or self.name


def unusable(name: str, reason: str) -> ScaleObservation:
    return ScaleObservation(name, 0.0, float("inf"), False, reason)


@dataclass(frozen=True, eq=False)
class PlacedWindow:
    """A window's posed keyframes in world units, oldest first; the first `overlap` were in the window before.

    world_per_gauge: world units per unit of the model's own gauge; `metric_gauge`: that unit is a metre.
    companions: the rig's other cameras as far as the model posed them, in world units.
    """

    keyframes: tuple[PosedKeyframe, ...]
    overlap: int = 0
    world_per_gauge: float = 1.0
    metric_gauge: bool = False
    companions: tuple[CompanionPose, ...] = ()


class ScaleObserver(Protocol):
    """Looks at a placed window; may keep what it learnt of earlier ones until `reset`."""

    name: str

    def observe(self, window: PlacedWindow) -> ScaleObservation | None:
        """None: this observer has nothing to work with (its sensor is absent)."""
        ...

    def rescaled(self, factor: float) -> None:
        """World units were multiplied by this: adjust what is remembered in them."""
        ...

    def reset(self) -> None:
        """Forget earlier windows: the world starts anew."""
        ...
