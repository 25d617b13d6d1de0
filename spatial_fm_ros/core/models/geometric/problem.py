"""What is solved together: remembered views and those of a window, with their verified pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spatial_fm_ros.core.models.geometric.local_map import View
from spatial_fm_ros.core.models.geometric.structure import Pairs, Structure

MIN_POINTS = 30  # a structure with fewer points is not believed


@dataclass(frozen=True, eq=False)
class Problem:
    """Views to solve together: remembered ones, then from `first` on the window's; pairs by place in `views`."""

    views: Sequence[View]
    first: int
    pairs: Pairs


def inside(pairs: Pairs, first: int) -> Pairs:
    """The pairs among views[first:], numbered from there."""
    return {(a - first, b - first): pair for (a, b), pair in pairs.items() if a >= first}


def believable(structure: Structure, first: int) -> bool:
    """Whether at least two views from `first` on are posed, on enough points."""
    return int(structure.posed[first:].sum()) >= 2 and structure.tracks.count >= MIN_POINTS
