"""What another model may tell the geometric one about a window: cameras to start from, depth to search around."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from spatial_fm_ros.core.models.geometric.dense_hint import DepthHint
from spatial_fm_ros.core.models.geometric.problem import Problem
from spatial_fm_ros.core.models.geometric.structure import Structure
from spatial_fm_ros.core.types import Array, Depth

#: Hints by view of the window -> depth [h, w] found around them, for the views where images could look.
Search = Callable[[Mapping[int, DepthHint]], Mapping[int, Depth]]


@dataclass(frozen=True, eq=False)
class Assisted:
    """A window's cameras after assistance. new_gauge: they do not continue the remembered ones."""

    problem: Problem
    structure: Structure | None
    new_gauge: bool = False


class Assistance(Protocol):
    """Help with one window; views count its keyframes."""

    def cameras(self, problem: Problem, structure: Structure | None) -> Assisted:
        """What the images found by themselves, or better."""
        ...

    def depth(
        self, depth: Depth, confidence: Depth, sparse: Sequence[tuple[Array, Array]], search: Search
    ) -> tuple[Depth, Depth]:
        """Depth and confidence [N, h, w] in place of those that the images gave by themselves (NaN unknown).

        sparse: pixels [M, 2] of that grid and depth [M] of the points that each view sees.
        """
        ...
