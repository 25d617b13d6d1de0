"""A bounded, coloured voxel map: one point per occupied voxel, the weighted mean of what fell into it."""

from __future__ import annotations

from threading import RLock

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spatial_fm_ros.core.config import MapConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.mapping.voxel_index import AXIS_LIMIT, VoxelIndex, pack
from spatial_fm_ros.core.types import PointCloud

#: Observations a voxel remembers. Beyond it old ones fade, so that a changed scene can be learnt.
MAX_COUNT = 64.0
#: Smallest weight of an observation, so that confidence 0 divides nothing by zero.
MIN_WEIGHT = 1e-3
#: A full map is thinned to this share of its bound, so that the next insert need not thin again.
THINNED_SHARE = 0.9
#: Columns of the voxel table.
X, COLOR, NORMAL, CONFIDENCE, COUNT, ANCHOR, SOURCE = slice(0, 3), slice(3, 6), slice(6, 9), 9, 10, 11, 12
MEANS = slice(0, 9)
COLUMNS = 13

Table = NDArray[np.float32]


class VoxelMap:
    """Voxels of edge `voxel_size`, aligned with the origin. Thread-safe.

    Each voxel keeps the mean position, colour and normal of the points that fell into it, weighted by their
    confidence, and its own confidence: the plain mean of theirs. Since prediction confidence is the
    chance of a right depth, so is the voxel's; repeated looks at the same surface do not raise it,
    for their errors are not independent. Its anchor is the newest keyframe that saw it (numbered by the
    caller): it goes along when that keyframe moves. Memory: 52 to 104 bytes a voxel and 20 to 40 of index.

    `refused` counts points with NaN or infinite values or out of range, `evicted` voxels that made
    room, `forgotten` voxels left behind.
    """

    def __init__(self, config: MapConfig) -> None:
        self.config = config
        self.refused = self.evicted = self.forgotten = 0
        self._index = VoxelIndex()
        self._table: Table = np.empty((0, COLUMNS), np.float32)  # rows beyond len(self) are spare
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def reach(self) -> float:
        """Points closer to the origin than this along each axis have a voxel."""
        return (AXIS_LIMIT - 1) * self.config.voxel_size

    def insert(self, cloud: PointCloud, viewpoint: ArrayLike, anchor: int = 0) -> int:
        """Add points in world units.

        `viewpoint` [3] is where they were seen from; when the map is full, voxels far from it leave
        first. `anchor` < 2^24 numbers the keyframe. Returns the number of voxels that were empty before.
        """
        n = len(cloud)
        with np.errstate(invalid="ignore"):
            usable = (np.abs(cloud.points) < self.reach).all(axis=1) & np.isfinite(cloud.confidence)
        with self._lock:
            if not usable.all():
                self.refused += n - int(usable.sum())
                cloud = cloud[usable]
            observed = np.empty((len(cloud), COLUMNS), np.float32)
            observed[:, X], observed[:, COLOR], observed[:, NORMAL] = cloud.points, cloud.colors, cloud.normals
            observed[:, CONFIDENCE], observed[:, COUNT] = np.clip(cloud.confidence, 0.0, 1.0), 1.0
            observed[:, ANCHOR], observed[:, SOURCE] = anchor, cloud.source
            before = len(self._index)
            self._merge(observed)
            new = len(self._index) - before
            if len(self._index) > self.config.max_voxels:
                self._thin(np.asarray(viewpoint, dtype=np.float32))
            return new

    def colors_at(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """The map's colour float32 [N, 3] where points [N, 3] fall into known voxels, NaN elsewhere."""
        with self._lock:
            rows = self._index.find(self._keys(points))
            colors = np.full((len(points), 3), np.nan, np.float32)
            colors[rows >= 0] = self._table[rows[rows >= 0], COLOR]
            return colors

    def rescale(self, factor: float) -> None:
        """Multiply all positions by `factor` about the origin; voxels keep their size, so some may join."""
        if not (np.isfinite(factor) and factor > 0):
            raise InputError(f"A map is rescaled by a finite factor above 0, got {factor}.")
        with self._lock:
            table = self._table[: len(self._index)].copy()
            table[:, X] *= np.float32(factor)
            self._rebuild(table)

    def bend(self, scales: ArrayLike, shifts: ArrayLike) -> None:
        """Move every voxel x of anchor i to scales[i] * x + shifts[i]: scales [n] > 0, shifts [n, 3]."""
        scale, shift = np.asarray(scales, dtype=np.float64), np.asarray(shifts, dtype=np.float64)
        with self._lock:
            table = self._table[: len(self._index)].copy()
            anchor = table[:, ANCHOR].astype(np.int64)
            table[:, X] = scale[anchor, None] * table[:, X] + shift[anchor]
            self._rebuild(table)

    def _rebuild(self, table: Table) -> None:
        """These rows [N, COLUMNS] and no others, under the voxels they now lie in."""
        inside = (np.abs(table[:, X]) < self.reach).all(axis=1)
        self.refused += len(table) - int(inside.sum())
        self._index.rebuild(np.empty(0, np.int64))
        self._merge(table[inside])

    def forget(self, center: ArrayLike) -> int:
        """Drop voxels farther than `forget_distance` from center [3] (0: none). Returns their number."""
        if self.config.forget_distance <= 0:
            return 0
        with self._lock:
            near = self._distance(np.asarray(center, dtype=np.float32)) <= self.config.forget_distance
            gone = len(near) - int(near.sum())
            if gone:
                self._keep(near)
            self.forgotten += gone
            return gone

    def cloud(self) -> PointCloud:
        """A snapshot: one point a voxel, in the order the voxels came."""
        with self._lock:
            table = self._table[: len(self._index)]
            normals = table[:, NORMAL]
            length = np.sqrt(np.einsum("ij,ij->i", normals, normals))[:, None]
            return PointCloud(
                points=table[:, X].copy(),
                colors=np.clip(np.rint(table[:, COLOR]), 0, 255).astype(np.uint8),
                confidence=table[:, CONFIDENCE].copy(),
                normals=normals / np.where(length > 0, length, 1.0),
                source=table[:, SOURCE].astype(np.uint8),
            )

    def clear(self) -> None:
        """Drop all voxels; the counts stay."""
        with self._lock:
            self._index.rebuild(np.empty(0, np.int64))
            self._table = np.empty((0, COLUMNS), np.float32)

    def _keys(self, positions: NDArray[np.float32]) -> NDArray[np.int64]:
        return pack(np.floor(positions.astype(np.float64) / self.config.voxel_size).astype(np.int64))

    def _merge(self, observed: Table) -> None:
        """Fold rows of observations, many to a voxel, into the table. In a voxel that LiDAR has seen, only
        LiDAR counts: its ranges are better than depth from images."""
        keys, voxel = np.unique(self._keys(observed[:, X]), return_inverse=True)
        n = len(keys)
        known = len(self._index)
        rows = self._index.rows(keys)
        self._reserve(len(self._index))
        self._table[known : len(self._index)] = 0.0
        old = self._table[rows].astype(np.float64)
        source, anchor = old[:, SOURCE].copy(), old[:, ANCHOR].copy()
        np.maximum.at(source, voxel, observed[:, SOURCE])
        np.maximum.at(anchor, voxel, observed[:, ANCHOR])

        count = observed[:, COUNT] * (observed[:, SOURCE] == source[voxel])
        weight = count * np.maximum(observed[:, CONFIDENCE], MIN_WEIGHT)
        weights, counts = np.bincount(voxel, weight, n), np.bincount(voxel, count, n)
        sums = [np.bincount(voxel, weight * observed[:, column], n) for column in range(MEANS.stop)]
        sum_confidence = np.bincount(voxel, count * observed[:, CONFIDENCE], n)

        old_count = np.minimum(old[:, COUNT], MAX_COUNT) * (old[:, SOURCE] == source)
        old_weight = old_count * np.maximum(old[:, CONFIDENCE], MIN_WEIGHT)
        merged = np.empty_like(old)
        merged[:, MEANS] = (old_weight[:, None] * old[:, MEANS] + np.stack(sums, axis=1)) / (old_weight + weights)[
            :, None
        ]
        merged[:, CONFIDENCE] = (old_count * old[:, CONFIDENCE] + sum_confidence) / (old_count + counts)
        merged[:, COUNT] = np.minimum(old_count + counts, MAX_COUNT)
        merged[:, ANCHOR], merged[:, SOURCE] = anchor, source
        self._table[rows] = merged

    def _reserve(self, rows: int) -> None:
        if rows > len(self._table):
            bound = max(rows, min(2 * rows, self.config.max_voxels + rows // 8))
            grown = np.empty((bound, COLUMNS), np.float32)
            grown[: len(self._table)] = self._table
            self._table = grown

    def _distance(self, center: NDArray[np.float32]) -> NDArray[np.float32]:
        offsets = self._table[: len(self._index), X] - center
        distance: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", offsets, offsets))
        return distance

    def _thin(self, viewpoint: NDArray[np.float32]) -> None:
        """Keep the voxels with the most evidence (confidence times count) for their distance."""
        distance = self._distance(viewpoint)
        table = self._table[: len(self._index)]
        typical = max(float(np.median(distance)), self.config.voxel_size)
        worth = table[:, CONFIDENCE] * table[:, COUNT] / (1.0 + distance / typical)
        kept = int(THINNED_SHARE * self.config.max_voxels)
        keep = np.zeros(len(table), bool)
        keep[np.argpartition(worth, -kept)[-kept:]] = True
        self.evicted += len(table) - kept
        self._keep(keep)

    def _keep(self, mask: NDArray[np.bool_]) -> None:
        table = self._table[: len(mask)][mask]
        # Positions are means of points of one voxel, but rounding may carry one over its border: the
        # keys are those the voxels were found under, not new ones of the means.
        keys = self._index.keys()[mask]
        self._index.rebuild(keys)
        self._table[: len(table)] = table
