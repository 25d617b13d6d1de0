"""A world ready for sensors: geometry in a ray-casting scene, lit textures, exact distances."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.simulation.lighting import Lighting
from spatial_fm_ros.simulation.mesh import Array, Patch
from spatial_fm_ros.simulation.paint import Paint

Field = NDArray[np.float32]
Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Hits:
    """Where rays met the world. distance float32 [N] in units of the ray's direction (inf = sky),
    patch int64 [N] (the sky is the last index), uv float32 [N, 2], cosine float32 [N] of incidence."""

    distance: Field
    patch: NDArray[np.int64]
    uv: Field
    cosine: Field


class World:
    """Textured, lit geometry. Deterministic: the same patches, lighting and seed give the same world."""

    def __init__(self, patches: list[Patch], lighting: Lighting, seed: int, detail: float = 1.0) -> None:
        """`detail` scales the resolution of all textures. Raises InputError for detail <= 0."""
        if not detail > 0:
            raise InputError(f"A world's detail must be above 0, got {detail}; 1 is the normal resolution.")
        corners, uvs = zip(*(patch.triangles() for patch in patches), strict=True)
        counts = [len(c) for c in corners]
        #: Corners of all triangles, float64 [T, 3, 3] metres.
        self.triangles: Array = np.concatenate(corners)
        self._patch_of = np.repeat(np.arange(len(patches)), counts)
        edges = self.triangles[:, 1:] - self.triangles[:, :1]
        cross = np.cross(edges[:, 0], edges[:, 1])
        #: Areas float64 [T] in square metres.
        self.areas: Array = np.linalg.norm(cross, axis=1) / 2
        normals = cross / np.maximum(2 * self.areas[:, None], 1e-12)
        # What a hit needs of its triangle, in one row: uv of the first corner, its two edges in uv, normal.
        uv = np.concatenate(uvs)
        self._facts: Field = np.concatenate(
            [uv[:, 0], uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0], normals], axis=1
        ).astype(np.float32)
        self._scene = o3d.t.geometry.RaycastingScene(nthreads=2)
        vertices = self.triangles.reshape(-1, 3).astype(np.float32)
        indices = np.arange(len(vertices), dtype=np.uint32).reshape(-1, 3)
        self._scene.add_triangles(o3d.core.Tensor.from_numpy(vertices), o3d.core.Tensor.from_numpy(indices))
        # The first cast builds the tree; done here, later casts may come from several threads.
        self._scene.cast_rays(o3d.core.Tensor.from_numpy(np.zeros((1, 6), np.float32)))
        self._sky = len(patches)
        self._make_paint = lambda: Paint(patches, self._scene, lighting, seed, detail)
        self._paint: Paint | None = None
        self._lock = threading.Lock()

    @property
    def paint(self) -> Paint:
        """Lit textures; made at the first need, because depth and distances do without them."""
        with self._lock:
            if self._paint is None:
                self._paint = self._make_paint()
            return self._paint

    def cast(self, origins: Field | Array, directions: Field) -> Hits:
        """Rays [N, 3] each in world metres (one origin [3] may serve all); directions need not be unit length."""
        rays = np.empty((len(directions), 6), np.float32)
        rays[:, :3], rays[:, 3:] = origins, directions
        answer = self._scene.cast_rays(o3d.core.Tensor.from_numpy(rays), nthreads=2)
        distance = answer["t_hit"].numpy()
        triangle = answer["primitive_ids"].numpy()
        weights = answer["primitive_uvs"].numpy()
        missed = np.isinf(distance)
        safe = np.where(missed, np.uint32(0), triangle)
        facts = np.take(self._facts, safe, axis=0)
        uv = facts[:, 0:2] + weights[:, :1] * facts[:, 2:4] + weights[:, 1:] * facts[:, 4:6]
        length = np.sqrt(_dot(directions, directions))
        cosine = np.abs(_dot(directions, facts[:, 6:9])) / length
        patch = np.take(self._patch_of, safe)
        if missed.any():
            patch[missed] = self._sky
            unit = directions[missed] / length[missed, None]
            around = np.arctan2(unit[:, 1], unit[:, 0]) / (2 * np.pi) + 0.5
            below = np.arccos(np.clip(unit[:, 2], -1, 1)) / (0.55 * np.pi)
            uv[missed] = np.stack([around, below], 1)
            cosine[missed] = 1
        return Hits(distance, patch, uv, cosine.astype(np.float32, copy=False))

    def colors(self, hits: Hits, pixel_angle: float, lengths: Field | float = 1.0) -> Image:
        """Colours uint8 [N, 3] of hits seen with pixels of `pixel_angle` radians; `lengths` are the
        lengths of the ray directions. The footprint is that of a slanted pixel, geometric mean of
        its two axes: a compromise between blur and aliasing."""
        paint = self.paint
        reach = np.where(np.isinf(hits.distance), 1.0, hits.distance * lengths)
        footprint = reach * pixel_angle / np.sqrt(np.maximum(hits.cosine, 0.02))
        lod = np.log2(np.maximum(footprint, 1e-6)).astype(np.float32) + paint.lod_bias[hits.patch]
        return paint.atlas.sample(hits.patch, hits.uv, lod)

    def distance_to_surface(self, points: Array) -> Field:
        """Exact distance in metres of points [N, 3] to the nearest surface, float32 [N]."""
        query = o3d.core.Tensor.from_numpy(np.ascontiguousarray(points, dtype=np.float32))
        distances: Field = self._scene.compute_distance(query).numpy()
        return distances

    def sample_surface(self, count: int, seed: int = 0) -> Array:
        """`count` points float64 [count, 3] spread evenly over all surfaces, hidden ones too."""
        rng = np.random.default_rng([seed, 4])
        which = rng.choice(len(self.areas), count, p=self.areas / self.areas.sum())
        a, b = rng.uniform(size=(2, count, 1))
        flip = a + b > 1
        a, b = np.where(flip, 1 - a, a), np.where(flip, 1 - b, b)
        corner = self.triangles[which]
        return np.asarray(corner[:, 0] + a * (corner[:, 1] - corner[:, 0]) + b * (corner[:, 2] - corner[:, 0]))


def _dot(a: Field, b: Field) -> Field:
    """Row-wise dot product of [N, 3]; several times faster than einsum for three columns."""
    return np.asarray(a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2])
