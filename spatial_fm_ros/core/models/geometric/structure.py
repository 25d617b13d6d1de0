"""Structure from motion of a few views: seed pair or known views, then pose by pose, then bundle adjustment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import poselib
from numpy.typing import NDArray

from spatial_fm_ros.core.config import GeometricConfig
from spatial_fm_ros.core.models.geometric.bundle import bundle_adjust
from spatial_fm_ros.core.models.geometric.features import Features
from spatial_fm_ros.core.models.geometric.matching import PairGeometry, poselib_camera
from spatial_fm_ros.core.models.geometric.tracks import Tracks, build_tracks, keep_observations
from spatial_fm_ros.core.models.geometric.triangulation import parallax_angles, reproject, triangulate
from spatial_fm_ros.core.types import Array

Mask = NDArray[np.bool_]
Pairs = Mapping[tuple[int, int], PairGeometry]

MIN_ANGLE_DEG = 1.0  # a point seen under less is too uncertain along its ray
MIN_SEED_POINTS = 30
MIN_POSE_INLIERS = 25
MIN_POSE_SHARE = 0.4  # of the points a view sees, for its pose to be believed


@dataclass(frozen=True, eq=False)
class Structure:
    """Solved views. camera_from_world [N, 4, 4] (meaningful where `posed` [N]), K [N, 3, 3]; points
    [tracks.count, 3] with the observations that agree with them (error_px, one per observation)."""

    camera_from_world: Array
    posed: Mask
    K: Array
    tracks: Tracks
    points: Array
    error_px: Array

    def visibility(self) -> Mask:
        """Which view [N] sees which point [M], from the inlier observations."""
        seen = np.zeros((len(self.posed), len(self.points)), dtype=bool)
        seen[self.tracks.view, self.tracks.track] = True
        return seen

    def behind(self, count: int) -> Structure:
        """The same with `count` views that are not posed in front."""
        return Structure(
            np.concatenate((np.tile(np.eye(4), (count, 1, 1)), self.camera_from_world)),
            np.concatenate((np.zeros(count, dtype=bool), self.posed)),
            np.concatenate((np.tile(np.eye(3), (count, 1, 1)), self.K)),
            Tracks(self.tracks.view + count, self.tracks.track, self.tracks.xy, self.tracks.count),
            self.points,
            self.error_px,
        )


class StructureSolver:
    """Solves one set of views; nothing is kept between calls."""

    def __init__(self, config: GeometricConfig, threads: int = 1, min_angle_deg: float = MIN_ANGLE_DEG) -> None:
        """`min_angle_deg`: points seen under less take no part; cameras that are given bear less than those
        that hang on the points."""
        self.config = config
        self.threads = threads
        self.min_angle_deg = min_angle_deg

    def extend(
        self,
        features: Sequence[Features],
        pairs: Pairs,
        K: Array,
        camera_from_world: Array,
        posed: Mask,
        fixed: Mask,
        refine_focal: bool = False,
    ) -> Structure:
        """Adds the views that are not posed to those that are; poses of `fixed` views stay as they are."""
        tracks = build_tracks(features, {key: pair.matches for key, pair in pairs.items()})
        poses, posed, K = camera_from_world.copy(), posed.copy(), K.copy()
        failed = np.zeros(len(posed), dtype=bool)
        while not posed.all():
            points, good = self._points(tracks, K, poses, posed)
            seen = np.bincount(tracks.view[good[tracks.track]], minlength=len(posed))
            seen[posed | failed] = 0
            view = int(seen.argmax())
            if seen[view] < MIN_POSE_INLIERS:
                break
            pose = self._locate(features[view], K[view], tracks, points, good, view)
            if pose is None:
                failed[view] = True
                continue
            poses[view], posed[view] = pose, True
            failed[:] = False
        return self._refine(tracks, K, poses, posed, fixed, refine_focal)

    def initialise(
        self, features: Sequence[Features], pairs: Pairs, K: Array, refine_focal: bool = False
    ) -> Structure | None:
        """Solves from nothing: the best seed pair with parallax, then the others. None without such a pair."""
        best: Structure | None = None
        for a, b in self._seeds(pairs)[:3]:
            poses = np.tile(np.eye(4), (len(features), 1, 1))
            poses[b] = pairs[a, b].b_from_a
            posed = np.zeros(len(features), dtype=bool)
            posed[[a, b]] = True
            nothing = np.zeros(len(features), dtype=bool)
            tracks = build_tracks(features, {(a, b): pairs[a, b].matches})
            _, good = self._points(tracks, K, poses, posed)
            if good.sum() < MIN_SEED_POINTS:
                continue
            seed = self._refine(tracks, K, poses, posed, nothing, False)
            found = self.extend(features, pairs, K, seed.camera_from_world, posed, nothing, refine_focal)
            if best is None or found.posed.sum() > best.posed.sum():
                best = found
            if best.posed.all():
                break
        return best

    def with_K(self, structure: Structure, K: Array) -> Structure:
        """The same views adjusted again with intrinsics K [N, 3, 3]."""
        nothing = np.zeros(len(structure.posed), dtype=bool)
        return self._refine(structure.tracks, K, structure.camera_from_world, structure.posed, nothing, False)

    def with_poses(self, structure: Structure, camera_from_world: Array) -> Structure:
        """The same views at other poses [N, 4, 4], which stay: points anew, with the observations that agree."""
        everyone = np.ones(len(structure.posed), dtype=bool)
        poses, posed = camera_from_world, structure.posed
        points, inlier, _ = self._supported(structure.tracks, structure.K, poses, posed, everyone)
        kept, index = keep_observations(structure.tracks, inlier)
        error, _ = reproject(kept, structure.K, poses, points[index])
        return Structure(poses, posed, structure.K, kept, points[index], error)

    def _seeds(self, pairs: Pairs) -> list[tuple[int, int]]:
        score = {
            key: len(pair) * min(pair.parallax_deg, 8.0)
            for key, pair in pairs.items()
            if len(pair) >= MIN_SEED_POINTS
            and pair.parallax_px >= self.config.min_parallax_px
            and pair.parallax_deg >= MIN_ANGLE_DEG
        }
        return sorted(score, key=lambda key: -score[key])

    def _points(self, tracks: Tracks, K: Array, poses: Array, posed: Mask) -> tuple[Array, Mask]:
        """Points [count, 3] of the posed views and which of them are well determined."""
        use = posed[tracks.view]
        points = triangulate(tracks, K, poses, use)
        for _ in range(2):
            error, _ = reproject(tracks, K, poses, points)
            inlier = use & (error < self.config.max_reprojection_px)
            points = triangulate(tracks, K, poses, inlier)
        error, _ = reproject(tracks, K, poses, points)
        inlier = use & (error < self.config.max_reprojection_px)
        good = np.bincount(tracks.track[inlier], minlength=tracks.count) >= 2
        good &= parallax_angles(tracks, poses, points, inlier) >= self.min_angle_deg
        return points, good

    def _locate(
        self, features: Features, K: Array, tracks: Tracks, points: Array, good: Mask, view: int
    ) -> Array | None:
        """camera_from_world of one view from the points it sees, or None where they do not agree on one."""
        mine = (tracks.view == view) & good[tracks.track]
        pose, info = poselib.estimate_absolute_pose(
            tracks.xy[mine], points[tracks.track[mine]], poselib_camera(K, features.size),
            {"max_reproj_error": 2.0 * self.config.max_reprojection_px, "max_iterations": 2000, "seed": 0},
            {"loss_type": "CAUCHY", "loss_scale": 1.0},
        )  # fmt: skip
        inliers = int(info["num_inliers"])
        if inliers < MIN_POSE_INLIERS or inliers < MIN_POSE_SHARE * mine.sum():
            return None
        camera_from_world = np.eye(4)
        camera_from_world[:3, :3], camera_from_world[:3, 3] = pose.R, pose.t
        return camera_from_world

    def _refine(
        self, tracks: Tracks, K: Array, poses: Array, posed: Mask, fixed: Mask, refine_focal: bool
    ) -> Structure:
        """Bundle adjustment, outliers out, points again, once more."""
        for _ in range(2):
            points, inlier, posed = self._supported(tracks, K, poses, posed, fixed)
            chosen, index = keep_observations(tracks, inlier & self._informative(tracks, inlier))
            if chosen.count == 0:
                break
            done = bundle_adjust(
                chosen, points[index], poses, K, fixed, refine_focal=refine_focal, threads=self.threads
            )
            poses, K = done.camera_from_world, done.K
        points, inlier, posed = self._supported(tracks, K, poses, posed, fixed)
        kept, index = keep_observations(tracks, inlier)
        points = points[index]
        return Structure(poses, posed, K, kept, points, reproject(kept, K, poses, points)[0])

    def _supported(self, tracks: Tracks, K: Array, poses: Array, posed: Mask, fixed: Mask) -> tuple[Array, Mask, Mask]:
        """Points [count, 3], inlier observations [n], and the posed views that enough of these hold."""
        while True:
            points, good = self._points(tracks, K, poses, posed)
            error, _ = reproject(tracks, K, poses, points)
            inlier = good[tracks.track] & posed[tracks.view] & (error < self.config.max_reprojection_px)
            held = np.bincount(tracks.view[inlier], minlength=len(posed))
            weak = posed & ~fixed & (held < MIN_POSE_INLIERS)
            if not weak.any():
                return points, inlier, posed
            posed = posed.copy()
            posed[np.flatnonzero(weak)[held[weak].argmin()]] = False

    def _informative(self, tracks: Tracks, inlier: Mask) -> Mask:
        """Observations of the longest tracks of every view: enough for adjustment, and quicker than all."""
        length = np.bincount(tracks.track[inlier], minlength=tracks.count)[tracks.track]
        order = np.lexsort((-length, ~inlier, tracks.view))
        first = np.searchsorted(tracks.view[order], np.arange(tracks.view.max(initial=0) + 1))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - first[tracks.view[order]]
        chosen = np.zeros(tracks.count, dtype=bool)
        chosen[tracks.track[inlier & (rank < self.config.adjusted_points)]] = True
        return chosen[tracks.track]
