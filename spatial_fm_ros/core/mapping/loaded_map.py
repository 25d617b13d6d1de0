"""A map from a file, brought under the rules that mapped voxels obey: their bound and their density."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spatial_fm_ros.core.config import MapConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.cloud_files import MapFile
from spatial_fm_ros.core.io.map_facts import MapFacts
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.mapping.voxel_map import VoxelMap
from spatial_fm_ros.core.types import Array, PointCloud, ScaleEstimate, ScaleState

#: Points go through the voxel map in portions of this many: what that needs in memory is a multiple of them.
PORTION = 250_000
#: No map in any coordinates has numbers beyond this: float32 has steps of 64 there.
FARTHEST = 1e9


@dataclass(frozen=True, eq=False)
class LoadedMap:
    """The points that a world holds of a file. note: what was done to them, sentences; name: the file's."""

    cloud: PointCloud
    facts: MapFacts
    name: str
    note: str

    @property
    def scale(self) -> ScaleEstimate:
        """The scale of a world in which nothing else is mapped yet."""
        if self.facts.scale_state is None:
            return ScaleEstimate(reason=f"the loaded map '{self.name}' does not say its unit")
        reason = f"as saved in the loaded map '{self.name}'"
        return ScaleEstimate(self.facts.scale_state, sigma=self.facts.scale_sigma, reason=reason)


def load(file: MapFile, config: MapConfig, metres: bool = False) -> LoadedMap:
    """What a world may take of a map file.

    A map that was saved with voxels of this size (or larger) and fits stays as it is; anything else is brought to the
    map's voxels. `metres`: a file that does not say its unit is in metres. Raises InputError where nothing is left.
    """
    facts = file.facts
    if metres and facts.scale_state is None:
        facts = replace(facts, scale_state=ScaleState.METRIC)
    cloud, notes = file.cloud, []
    if file.left_out:
        notes.append(f"{file.left_out} points that are not finite were left out.")
    near = (np.abs(cloud.points) < FARTHEST).all(axis=1)  # the others would move the middle of all
    absurd = int((~near).sum())
    cloud = cloud[near] if absurd else cloud
    if not len(cloud):
        raise _too_far(file)
    own_density = facts.voxel_size >= config.voxel_size * (1.0 - 1e-6)
    if absurd or not (own_density and len(cloud) <= config.max_voxels and _within(cloud, config)):
        before = len(cloud) + absurd
        cloud, refused, facts = *_through_voxels(cloud, config), replace(facts, voxel_size=config.voxel_size)
        refused += absurd
        if refused:
            notes.append(f"{refused} points farther out than a map reaches were left out.")
        if not len(cloud):
            raise _too_far(file)
        if len(cloud) < before - refused:
            notes.append(
                f"{before - refused} points became {len(cloud)} voxels (map.voxel_size {config.voxel_size:g}, "
                f"map.max_voxels {config.max_voxels})."
            )
    return LoadedMap(cloud, facts, shown(file.path.name), " ".join(notes))


def _too_far(file: MapFile) -> InputError:
    return InputError(f"'{shown(file.path)}' holds no point that a map can hold: all lie too far out.")


def _within(cloud: PointCloud, config: MapConfig) -> bool:
    """All points lie where a voxel map about their middle reaches."""
    reach = VoxelMap(config).reach
    return bool((np.abs(cloud.points - _middle(cloud)) < reach).all())


def _middle(cloud: PointCloud) -> Array:
    middle: Array = np.median(cloud.points.astype(np.float64), axis=0)
    return middle


def _through_voxels(cloud: PointCloud, config: MapConfig) -> tuple[PointCloud, int]:
    """One point a voxel, and how many points lay beyond all voxels. The middle of the cloud stays at its place."""
    middle = _middle(cloud)
    voxels = VoxelMap(config)
    for start in range(0, len(cloud), PORTION):
        part = cloud[start : start + PORTION]
        with np.errstate(over="ignore"):
            local = (part.points - middle).astype(np.float32)
        voxels.insert(replace(part, points=local), np.zeros(3))
    thinned = voxels.cloud()
    return replace(thinned, points=(thinned.points + middle).astype(np.float32)), voxels.refused
