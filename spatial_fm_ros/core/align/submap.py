"""A submap: keyframes and voxels that hang together by accepted seams and share one scale."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.mapping.voxel_map import VoxelMap
from spatial_fm_ros.core.metric.filter import ScaleFilter
from spatial_fm_ros.core.types import Array, PointCloud, PosedKeyframe


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Keyframe poses of one submap in world units. stamps_ns int64 [n], world_from_camera [n, 4, 4]."""

    submap: int
    keyframe_ids: NDArray[np.int64]
    stamps_ns: NDArray[np.int64]
    world_from_camera: Array


@dataclass(eq=False)
class Submap:
    """Grows window by window. Voxels are kept relative to `origin` (the first camera's centre), so that
    a change of scale turns into one re-hash about it."""

    id: int
    origin: Array
    voxels: VoxelMap
    scale: ScaleFilter
    windows: int = 0
    has_structure: bool = False
    ids: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    poses: list[Array] = field(default_factory=list)
    #: Posed keyframes the next window may share, by keyframe id.
    tail: dict[int, PosedKeyframe] = field(default_factory=dict)

    def add_keyframe(self, keyframe: PosedKeyframe) -> None:
        self.ids.append(keyframe.id)
        self.stamps.append(keyframe.stamp_ns)
        self.poses.append(keyframe.world_from_camera)

    def add_points(self, points: PointCloud, viewpoint: Array) -> None:
        """Points and viewpoint in the world."""
        local = points.points.astype(np.float64) - self.origin
        self.voxels.insert(local, points.colors, points.confidence, viewpoint - self.origin)

    def rescale(self, factor: float) -> None:
        """Multiply everything by `factor` about the origin."""
        if not self.poses:
            return
        poses = np.stack(self.poses)
        poses[:, :3, 3] = self.origin + factor * (poses[:, :3, 3] - self.origin)
        self.poses = list(poses)
        self.voxels.rescale(factor)

    def cloud(self) -> PointCloud:
        """Voxels in the world."""
        local = self.voxels.cloud()
        return PointCloud(
            (local.points + self.origin).astype(np.float32), local.colors, local.confidence
        )

    def trajectory(self) -> Trajectory:
        poses = np.stack(self.poses) if self.poses else np.zeros((0, 4, 4))
        return Trajectory(
            self.id, np.array(self.ids, dtype=np.int64), np.array(self.stamps, dtype=np.int64), poses
        )
