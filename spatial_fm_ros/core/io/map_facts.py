"""What a map file says of itself: the unit of its lengths, its frame, how dense it is, what made it.

It stands in comment lines of the file's header, one line for people and one `spatial_fm_ros KEY VALUE` a fact, so
that other programs read the file as before and this one knows a unit again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.types import ScaleState

_MARK = "spatial_fm_ros"
_METRES = "lengths are metres"


@dataclass(frozen=True)
class MapFacts:
    """Facts of a whole map. scale_state None: nobody says what unit the lengths are in.

    scale_sigma: standard deviation of the log-scale; voxel_size in the map's unit, 0 where unknown; weights: set where
    weights drawn at random made the map.
    """

    scale_state: ScaleState | None = None
    scale_sigma: float = math.inf
    frame_id: str = ""
    voxel_size: float = 0.0
    weights: str = ""

    @property
    def metric(self) -> bool:
        """Lengths are metres."""
        return self.scale_state is ScaleState.METRIC

    @property
    def unit(self) -> str:
        """For people: what the lengths are in."""
        if self.scale_state is None:
            return "an unknown unit (the file does not say)"
        return "metres" if self.metric else f"world units of unknown size (scale {self.scale_state.value})"

    def lines(self) -> list[str]:
        """The comment lines of a file's header."""
        made_by = f"{shown(self.weights)}; " if self.weights else ""
        facts = [("frame", shown(self.frame_id)), ("voxel_size", f"{self.voxel_size:.9g}")]
        if self.scale_state is not None:
            facts += [("scale_state", self.scale_state.value), ("scale_sigma", f"{self.scale_sigma:.9g}")]
        if self.weights:
            facts.append(("random_weights", shown(self.weights)))
        return [f"{made_by}lengths are {self.unit}", *(f"{_MARK} {key} {value}" for key, value in facts)]

    @staticmethod
    def from_lines(lines: Iterable[str]) -> MapFacts:
        """What a header's comments say; what cannot be understood, or is said twice differently, is unknown."""
        said: dict[str, set[str]] = {}
        in_words = False
        for line in lines:
            in_words |= line.strip().endswith(_METRES)
            mark, _, fact = line.strip().partition(" ")
            if mark == _MARK:
                key, _, value = fact.partition(" ")
                said.setdefault(key, set()).add(value)
        once = {key: values.pop() for key, values in said.items() if len(values) == 1}
        state = next((each for each in ScaleState if each.value == once.get("scale_state")), None)
        if in_words and "scale_state" not in said:  # files of version 0.1
            state = ScaleState.METRIC
        voxel_size = _positive(once.get("voxel_size"))
        return MapFacts(
            state,
            _positive(once.get("scale_sigma")),
            once.get("frame", ""),
            voxel_size if math.isfinite(voxel_size) else 0.0,
            once.get("random_weights", ""),
        )


def _positive(text: str | None) -> float:
    """A number >= 0, infinity for anything else."""
    try:
        value = float(text or "inf")
    except ValueError:
        return math.inf
    return value if value >= 0 else math.inf
