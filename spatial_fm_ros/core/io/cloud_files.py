"""Maps as files, PLY or PCD by the ending of the name: what is there is whole, what is read is bounded and valid.

The formats are written from one structured array rather than through a library, because a disk that runs full must
be an error with its reason; tests read every file back through Open3D.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.core.io.cloud_columns import CLOUD_BYTES, Table, cloud_of, points_of
from spatial_fm_ros.core.io.map_facts import MapFacts
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.pcd import decode_pcd, encode_pcd
from spatial_fm_ros.core.io.ply import decode_ply, encode_ply
from spatial_fm_ros.core.io.reading import open_regular
from spatial_fm_ros.core.io.writing import replacing
from spatial_fm_ros.core.types import PointCloud

_ENCODERS = {"ply": encode_ply, "pcd": encode_pcd}
_DECODERS = {"ply": decode_ply, "pcd": decode_pcd}


@dataclass(frozen=True, eq=False)
class SavedMap:
    """A map as it goes into a file."""

    cloud: PointCloud
    facts: MapFacts


@dataclass(frozen=True, eq=False)
class MapFile(SavedMap):
    """A map as it came from a file. left_out: points that had values which are not finite."""

    path: Path
    left_out: int = 0


def format_of(path: str | Path, form: str = "") -> str:
    """ "ply" or "pcd": what `form` says, or the ending of the name. Raises OutputError for anything else."""
    form = (form or Path(path).suffix.lstrip(".")).lower()
    if form not in _ENCODERS:
        got = shown(form or path)
        raise OutputError(f"A map is saved as ply or pcd, got '{got}'; end the path so or give the format.")
    return form


def write_map(path: str | Path, saved: SavedMap, form: str = "") -> int:
    """Write a map; `form` "ply" or "pcd", or empty: by the ending of the name. Returns the bytes written.

    Raises OutputError for another ending, or with the reason when the file cannot be written.
    """
    form = format_of(path, form)
    header, rows = _ENCODERS[form](saved.cloud, saved.facts.lines())
    size = len(header) + rows.nbytes
    with replacing(path, "map", size) as file:
        file.write(header)
        file.write(rows.view(np.uint8).data)  # unlike tofile, it says why it cannot
    return size


def read_map(path: str | Path) -> MapFile:
    """The points of a PLY or PCD file, with any further scalar fields, and what it says of its unit.

    Missing colours are grey, missing confidence is UNKNOWN_CONFIDENCE, missing normals are 0, points that are not
    finite are left out. Raises InputError for what is no such file, does not hold what it announces, or is too large.
    """
    path = Path(path)
    table = _table(path, "map")
    cloud, left_out = cloud_of(path, table)
    return MapFile(cloud, MapFacts.from_lines(table.comments), path, left_out)


def read_points(path: str | Path) -> tuple[NDArray[np.float64], NDArray[np.uint8] | None]:
    """Finite points float64 [N, 3], as exact as the file holds them, and colours uint8 [N, 3] or None.

    Of a cloud, or of a mesh's vertices. Raises InputError as `read_map`.
    """
    path = Path(path)
    return points_of(path, _table(path, "cloud"))


def _table(path: Path, what: str) -> Table:
    form = path.suffix.lstrip(".").lower()
    if form not in _DECODERS:
        raise InputError(f"A {what} is read from .ply or .pcd, got '{shown(path)}'.")
    with open_regular(path, what, CLOUD_BYTES) as file:
        try:
            return _DECODERS[form](path, file)
        except OSError as error:
            raise InputError(f"The {what} '{shown(path)}' cannot be read ({error.strerror or error}).") from error


def write_cloud(path: str | Path, cloud: PointCloud) -> int:
    """Write a cloud of which nobody says the unit, otherwise as `write_map`."""
    return write_map(path, SavedMap(cloud, MapFacts()))


def read_cloud(path: str | Path) -> PointCloud:
    """The points of a PLY or PCD file alone. Raises InputError as `read_map`."""
    return read_map(path).cloud
