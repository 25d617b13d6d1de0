"""A submap: keyframes and voxels that hang together by accepted seams and share one scale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.mapping.exposure import exposed, exposure_gains
from spatial_fm_ros.core.mapping.voxel_map import VoxelMap
from spatial_fm_ros.core.metric.filter import ScaleFilter
from spatial_fm_ros.core.types import Array, PointCloud, PosedKeyframe

#: Voxels are moved when their keyframes have changed by this much (log-scale, or voxels): it costs a re-hash.
LAZY_SCALE, LAZY_VOXELS = 2e-3, 0.5


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
    has_structure: bool = False
    ids: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    poses: list[Array] = field(default_factory=list)
    #: The window (counted from 0 in this submap) that brought each keyframe.
    window_of: list[int] = field(default_factory=list)
    #: By window: log factor its part of the world was multiplied by, over what seams alone made of it.
    applied: list[float] = field(default_factory=list)
    #: Posed keyframes the next window may share, by keyframe id.
    tail: dict[int, PosedKeyframe] = field(default_factory=dict)
    #: By keyframe: factor [n] and shift [n, 3] that its voxels, relative to the origin, still lag behind.
    _owed: tuple[Array, Array] = field(default_factory=lambda: (np.ones(0), np.zeros((0, 3))))

    @property
    def windows(self) -> int:
        return len(self.applied)

    def add_keyframe(self, keyframe: PosedKeyframe) -> None:
        """A keyframe of the newest window."""
        self.ids.append(keyframe.id)
        self.stamps.append(keyframe.stamp_ns)
        self.poses.append(keyframe.world_from_camera)
        self.window_of.append(self.windows - 1)

    def add_points(self, points: PointCloud, viewpoint: Array) -> PointCloud:
        """Points and viewpoint of the newest keyframe, in the world. Returns them in the map's exposure."""
        local = (points.points - self.origin).astype(np.float32)
        if self.voxels.config.exposure:
            gains = exposure_gains(points.colors, self.voxels.colors_at(local))
            points = replace(points, colors=exposed(points.colors, gains))
        self.voxels.insert(replace(points, points=local), viewpoint - self.origin, anchor=len(self.ids) - 1)
        return points

    def rescale(self, log_factor: float) -> None:
        """Multiply everything by exp(log_factor) about the origin."""
        factor = float(np.exp(log_factor))
        self.applied = [a + log_factor for a in self.applied]
        if not self.poses:
            return
        poses = np.stack(self.poses)
        poses[:, :3, 3] = self.origin + factor * (poses[:, :3, 3] - self.origin)
        self.poses = list(poses)
        self.tail = {i: _moved(k, factor, (1.0 - factor) * self.origin) for i, k in self.tail.items()}
        self._owed = self._owed[0], factor * self._owed[1]
        self.voxels.rescale(factor)

    def bend(self, changes: Array) -> dict[int, float]:
        """Change the log-scale of the newest windows by `changes` [n], the newest last.

        Each keyframe's step from the one before grows with its window, orientations stay. Voxels go along with
        their keyframes once enough has come together. Returns the factor of every keyframe whose scale changed, by
        keyframe id.
        """
        of_window = np.zeros(self.windows)
        of_window[self.windows - len(changes) :] = changes
        self.applied = list(np.array(self.applied) + of_window)
        poses = np.stack(self.poses)
        factor = np.exp(of_window[self.window_of])
        centre = poses[:, :3, 3].copy()
        step = np.diff(centre, axis=0) * factor[1:, None]
        poses[1:, :3, 3] = centre[0] + np.cumsum(step, axis=0)
        shift = poses[:, :3, 3] - factor[:, None] * centre
        self.poses = list(poses)
        self._owe(factor, shift - (1.0 - factor[:, None]) * self.origin)
        place = {keyframe: i for i, keyframe in enumerate(self.ids)}
        for k, keyframe in self.tail.items():
            i = place.get(k, 0)  # keyframes of the submap before hang on the first of this one
            self.tail[k] = _moved(keyframe, float(factor[i]), shift[i])
        return {self.ids[i]: float(factor[i]) for i in np.flatnonzero(factor != 1.0)}

    def _owe(self, factor: Array, shift: Array) -> None:
        """Voxels x of keyframe i are to become factor[i] * x + shift[i], on top of what they lag behind."""
        more = len(factor) - len(self._owed[0])
        before, moved = np.append(self._owed[0], np.ones(more)), np.append(self._owed[1], np.zeros((more, 3)), axis=0)
        before, moved = factor * before, factor[:, None] * moved + shift
        centre = np.stack(self.poses)[:, :3, 3] - self.origin
        behind = np.linalg.norm(centre - (centre - moved) / before[:, None], axis=1).max()
        if np.abs(np.log(before)).max() > LAZY_SCALE or behind > LAZY_VOXELS * self.voxels.config.voxel_size:
            self.voxels.bend(before, moved)
            before, moved = np.ones(0), np.zeros((0, 3))
        self._owed = before, moved

    def cloud(self) -> PointCloud:
        """Voxels in the world."""
        local = self.voxels.cloud()
        return replace(local, points=(local.points + self.origin).astype(np.float32))

    def trajectory(self) -> Trajectory:
        poses = np.stack(self.poses) if self.poses else np.zeros((0, 4, 4))
        return Trajectory(
            self.id, np.array(self.ids, dtype=np.int64), np.array(self.stamps, dtype=np.int64), poses
        )


def _moved(keyframe: PosedKeyframe, factor: float, shift: Array) -> PosedKeyframe:
    """The keyframe after the world x became factor * x + shift around it."""
    pose = keyframe.world_from_camera.copy()
    pose[:3, 3] = factor * pose[:3, 3] + shift
    return replace(keyframe, world_from_camera=pose, depth=(keyframe.depth * np.float32(factor)).astype(np.float32))
