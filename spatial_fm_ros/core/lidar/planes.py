"""Local planes of a point cloud, and point-to-plane alignment with them: rigid or with scale.

Chen and Medioni, 'Object modelling by registration of multiple range images', 1992; planes by principal
components of nearest neighbours (Hoppe et al., 1992).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.types import Array

NEIGHBOURS = 10
#: A neighbourhood is a plane when its thickness is below this share of its width (standard deviations).
FLAT = 0.35


@dataclass(frozen=True, eq=False)
class Planes:
    """Planes near query points: normal and centre float64 [M, 3], flat bool [M] (False: no plane there)."""

    centre: Array
    normal: Array
    flat: NDArray[np.bool_]

    def distance(self, places: Array) -> Array:
        """Distances [M] of places [M, 3] from their planes."""
        offset: Array = np.abs(np.einsum("mi,mi->m", self.normal, places - self.centre))
        return offset


class PlaneCloud:
    """Points float64 [N, 3] that answer with the plane through the neighbours of a place."""

    def __init__(self, points: Array, reach: float) -> None:
        """`reach`: neighbours farther than this from a place (same unit) do not belong to its plane."""
        self.points = np.asarray(points, dtype=np.float64)
        self.reach = reach
        self.tree = cKDTree(self.points, balanced_tree=False, compact_nodes=False)

    def planes_at(self, places: ArrayLike) -> Planes:
        """Planes through the neighbours of places [M, 3]. Not flat where fewer than five are in reach."""
        places = np.asarray(places, dtype=np.float64)
        count = min(NEIGHBOURS, len(self.points))
        distance, index = self.tree.query(places, k=count, distance_upper_bound=self.reach)
        distance, index = distance.reshape(len(places), -1), index.reshape(len(places), -1)
        near = np.isfinite(distance)
        # Missing neighbours repeat the place itself with weight zero: no NaN enters the sums.
        neighbours = np.where(near[..., None], self.points[np.where(near, index, 0)], places[:, None])
        amount = near.sum(axis=1)
        share = near / np.maximum(amount, 1)[:, None]
        centre = np.einsum("mk,mkd->md", share, neighbours)
        spread = (neighbours - centre[:, None]) * np.sqrt(share)[..., None]
        values, vectors = np.linalg.eigh(np.einsum("mki,mkj->mij", spread, spread))
        flat = (amount >= 5) & (values[:, 0] < FLAT**2 * values[:, 1])
        return Planes(centre, vectors[..., 0], flat)


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal equations of one Gauss-Newton step; order: rotation, translation, log-scale."""

    information: Array  # [7, 7]
    gradient: Array  # [7]


def normal_equations(moved: Array, planes: Planes, weights: Array, pivot: Array) -> Normal:
    """Of sum w (n . (x - q))^2 over moved points x [M, 3], for x' = x + r x (x - p) + v + l (x - p), p = `pivot`."""
    arm = moved - pivot
    residual = np.einsum("mi,mi->m", planes.normal, moved - planes.centre)
    along = np.einsum("mi,mi->m", planes.normal, arm)
    J = np.concatenate([np.cross(arm, planes.normal), planes.normal, along[:, None]], axis=1)
    weighted = J * weights[:, None]
    return Normal(weighted.T @ J, weighted.T @ residual)


def stepped(sim: Sim3, step: NDArray[Any], pivot: Array) -> Sim3:
    """`sim` followed by the small similarity `step` [7] (rotation, translation, log-scale) about `pivot`."""
    rotation = Rotation.from_rotvec(step[:3]).as_matrix()
    scale = float(np.exp(step[6]))
    return Sim3(scale, rotation, pivot + step[3:6] - scale * rotation @ pivot) @ sim
