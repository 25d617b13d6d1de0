"""The worlds by name, built once per process."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.simulation.lighting import Lighting
from spatial_fm_ros.simulation.mesh import Patch
from spatial_fm_ros.simulation.noise import RNG
from spatial_fm_ros.simulation.world import World
from spatial_fm_ros.simulation.worlds_indoor import corridor, hall, room
from spatial_fm_ros.simulation.worlds_long import street, tunnel

WORLDS: dict[str, Callable[[RNG, bool], tuple[list[Patch], Lighting]]] = {
    "room": room,
    "corridor": corridor,
    "hall": hall,
    "tunnel": tunnel,
    "street": street,
}


@lru_cache(maxsize=3)
def build_world(name: str, seed: int = 0, detail: float = 1.0, low_texture: bool = False) -> World:
    """The world `name` with textures and furniture drawn from `seed`. `detail` scales texture
    resolution (1 for pictures, 0.3 for quick tests); `low_texture` paints the walls plain.
    Raises InputError for an unknown name."""
    if name not in WORLDS:
        raise InputError(f"Unknown world '{name}'; expected one of {', '.join(WORLDS)}.")
    patches, lighting = WORLDS[name](np.random.default_rng([seed, 0]), low_texture)
    return World(patches, lighting, seed, detail)
