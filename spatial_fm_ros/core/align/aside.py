"""Maps that were set aside when time went elsewhere: kept while there is room, joined again when time comes back."""

from __future__ import annotations

from dataclasses import dataclass

from spatial_fm_ros.core.align.submap import Trajectory
from spatial_fm_ros.core.align.world import World
from spatial_fm_ros.core.io.cloud_files import SavedMap
from spatial_fm_ros.core.types import ScaleEstimate

#: More than this many are never kept; the oldest goes first.
MOST_MAPS = 8


@dataclass(frozen=True, eq=False)
class MapAside:
    """A map of its own, in its own frame and unit: where it lies in the present one is not known.

    number: counts the maps set aside, from 1. why: what happened, in words. scale: as it was last. line: the time line
    its images were of.
    """

    number: int
    why: str
    world: World
    line: int

    @property
    def size(self) -> int:
        """Voxels."""
        return self.world.map_size

    @property
    def scale(self) -> ScaleEstimate:
        return self.world.scale

    def saved(self) -> SavedMap:
        """All of its submaps, as they go into a file."""
        return self.world.saved()

    def trajectories(self) -> list[Trajectory]:
        return self.world.trajectories()


class MapsAside:
    """Holds them. Not thread-safe: the pipeline guards it.

    `forgotten`: points of maps that had to give way to newer ones.
    """

    def __init__(self) -> None:
        self.maps: list[MapAside] = []
        self.forgotten = 0
        self._count = 0

    @property
    def size(self) -> int:
        """Voxels of all."""
        return sum(each.size for each in self.maps)

    def put(self, world: World, why: str, line: int) -> None:
        """An empty world is not kept."""
        if world.map_size:
            for submap in world.submaps:
                submap.tail.clear()  # images that no window will share any more
            self._count += 1
            self.maps.append(MapAside(self._count, why, world, line))

    def take_back(self, line: int) -> World | None:
        """The newest map of that time line, which is no longer aside then."""
        for each in reversed(self.maps):
            if each.line == line:
                self.maps.remove(each)
                return each.world
        return None

    def bound(self, most: int) -> None:
        """Keep no more than `most` voxels in all: the oldest maps give way first."""
        while self.maps and (self.size > most or len(self.maps) > MOST_MAPS):
            self.forgotten += self.maps.pop(0).size
