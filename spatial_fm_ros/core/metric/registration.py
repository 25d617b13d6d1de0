"""Scale from registration: the window's cloud onto the LiDAR's surroundings, by a similarity.

The post-fusion of LiDAR-VGGT (2025) in a form of our own: where single depths are noisy, whole surfaces still fit
in one scale only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.config import LidarConfig, ScaleConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import chordal_mean, invert_pose, is_pose, move_points, rotation_angle
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.lidar.local_map import LocalMap, one_per_cell, thinned
from spatial_fm_ros.core.lidar.similarity_fit import Fit, Priors, Source, Target, fit, target_of
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation, unusable
from spatial_fm_ros.core.metric.projection import DepthField, depth_field, hits, in_view
from spatial_fm_ros.core.metric.scan_placing import ScanPlacer, nearest_scan
from spatial_fm_ros.core.types import Array, PosedKeyframe

#: Keyframes that take part, points of each, and LiDAR points of the whole map.
MOST_KEYFRAMES = 5
POINTS_PER_KEYFRAME = 400
MOST_TARGET_POINTS = 5_000
#: Edge of a cell of the LiDAR map as a share of its median distance, between two bounds, metres.
CELL_SHARE, CELL_SMALLEST, CELL_LARGEST = 0.04, 0.08, 0.6
#: LiDAR points on confident pixels that the scale to begin with needs.
MIN_HITS = 60
#: The scale to begin with may be wrong by this share: points may then be so far from their surface.
REACH_SHARE = 0.10
#: How far poses of the window's time may be off, beside the extrinsic: metres and degrees.
POSE_SIGMA_M, POSE_SIGMA_DEG = 0.01, 0.3
#: The boxes of two clouds that see the same differ by so much in log-scale.
BOX_SIGMA = 0.15
#: A result is refused when it moves rotation or place of the cameras by this many deviations of their priors, ...
PLAUSIBLE = 3.5
#: ... when fewer points than this share lie on surfaces, and when their distance grows by more than this factor
#: (a good beginning leaves nothing to gain).
MIN_INLIERS, GROWTH = 0.25, 1.05


@dataclass(frozen=True, eq=False)
class _Scene:
    """The window as LiDAR sees it: metric_from_camera [N, 4, 4] of its keyframes, LiDAR points [M, 3] in the same
    metric frame, and metres per world unit by depth, to begin with."""

    metric_from_camera: Array
    points: Array
    scale: float


class RegistrationObserver:
    """Sim(3) of confident window points to a local LiDAR map, point to plane, scaled about the cameras."""

    name = "lidar_registration"

    def __init__(self, config: ScaleConfig, lidar: LidarConfig, sensors: Sensors) -> None:
        self.config = config
        self.sensors = sensors
        self._range = (lidar.min_range, lidar.max_range)
        self._map = LocalMap(sensors)

    def observe(self, window: PlacedWindow) -> ScaleObservation | None:
        """See ScaleObserver; None while no scan has come."""
        if not len(self.sensors.scans):
            return None
        rig = self.sensors.rig
        if rig.body_from_camera is None or rig.body_from_lidar is None:
            return unusable(self.name, "TF does not say where LiDAR and camera are")
        if not (is_pose(rig.body_from_camera) and is_pose(rig.body_from_lidar)):
            return unusable(self.name, "an extrinsic is no rigid transform (mirrored, scaled or NaN): correct its TF")
        keyframes = _some([k for k in window.keyframes if np.isfinite(k.world_from_camera).all()])
        fields = [depth_field(k.depth, k.confidence, self.config.lidar.min_confidence) for k in keyframes]
        deep = [i for i, field in enumerate(fields) if np.isfinite(field.log_depth).any()]
        keyframes, fields = [keyframes[i] for i in deep], [fields[i] for i in deep]
        if len(keyframes) < 2:
            return unusable(self.name, "the model gives no depth in this window")
        scene = self._scene(keyframes, fields)
        if isinstance(scene, str):
            return unusable(self.name, scene)
        return self._observed(keyframes, fields, scene)

    def rescaled(self, factor: float) -> None:
        """What is remembered is in metres."""

    def reset(self) -> None:
        self._map.reset()

    def _observed(
        self, keyframes: Sequence[PosedKeyframe], fields: Sequence[DepthField], scene: _Scene
    ) -> ScaleObservation:
        target = _target(scene, keyframes)
        if target is None:
            return unusable(self.name, "the LiDAR sees too little of what the camera sees")
        source = _source(keyframes, fields)
        try:
            start = _start(keyframes, scene)
        except InputError:
            return unusable(self.name, "the orientations of images and poses do not fit together")
        limits = self.config.lidar
        priors = Priors(
            float(np.radians(np.hypot(limits.extrinsic_sigma_deg, POSE_SIGMA_DEG))),
            float(np.hypot(limits.extrinsic_sigma_m, POSE_SIGMA_M)),
            BOX_SIGMA,
        )
        reach = REACH_SHARE * float(np.median(source.depth)) * scene.scale + 2.0 * target.cell
        found = fit(source, target, start, reach, priors)
        if found is None:
            return unusable(self.name, "too few surfaces in common")
        problem = _implausible(found, start, source.centre, priors)
        if problem:
            return unusable(self.name, problem)
        figures = {
            "residual_before_m": found.before_m,
            "residual_after_m": found.after_m,
            "inliers": found.inlier_share,
            "points": float(found.matched),
            "change": found.sim.log_scale - start.log_scale,
        }
        return ScaleObservation(
            self.name,
            found.sim.log_scale,
            found.sigma,
            True,
            systematic=found.systematic,
            figures=figures,
            witness="lidar",
        )

    def _scene(self, keyframes: Sequence[PosedKeyframe], fields: Sequence[DepthField]) -> _Scene | str:
        """The window in metres, or why it cannot be had: by the sensors' poses, else by the window's cameras."""
        newest = keyframes[-1]
        margin = round(self.config.lidar.max_gap_s * 1e9)
        clouds = []
        if all(k.odom_from_camera is not None for k in keyframes) and not self.sensors.poses.jumped_between(
            keyframes[0].stamp_ns, newest.stamp_ns
        ):
            clouds = self._map.around(keyframes[0].stamp_ns - margin, newest.stamp_ns + margin, self._range)
        if not clouds:
            return self._scene_by_window(keyframes, fields)
        cameras = np.stack([k.odom_from_camera for k in keyframes if k.odom_from_camera is not None])
        points = np.concatenate(clouds).astype(np.float64)
        seen = [
            move_points(invert_pose(pose), points[_sees(pose, k, points, 0.0)]) for pose, k in zip(cameras, keyframes)
        ]
        scale = _coarse_scale(keyframes, fields, seen)
        return scale if isinstance(scale, str) else _Scene(cameras, points, scale)

    def _scene_by_window(self, keyframes: Sequence[PosedKeyframe], fields: Sequence[DepthField]) -> _Scene | str:
        """Without poses: the nearest scan of each keyframe, moved and placed by the window's cameras in metres.

        Their scale is the one by depth; what it is wrong by moves the places of scans in proportion.
        """
        rig = self.sensors.rig
        assert rig.body_from_camera is not None and rig.body_from_lidar is not None
        placer = ScanPlacer(self.sensors, keyframes, invert_pose(rig.body_from_camera) @ rig.body_from_lidar)
        gap = round(self.config.lidar.max_gap_s * 1e9)
        scans = [nearest_scan(self.sensors.scans, k.stamp_ns, gap) for k in keyframes]
        near = [(i, thinned(scan, self._range)) for i, scan in enumerate(scans) if scan is not None]
        if not near:
            gap_s = self.config.lidar.max_gap_s
            return self.sensors.clock_problem("lidar", gap_s) or f"no scan within {gap_s} s of an image"
        scale = 0.0
        for _ in range(3):
            placed = {i: placer.by_window(scan, keyframes[i].stamp_ns, scale) for i, scan in near}
            found = _coarse_scale([keyframes[i] for i in placed], [fields[i] for i in placed], list(placed.values()))
            if isinstance(found, str):
                return found
            scale = found
        cameras = np.stack([k.world_from_camera for k in keyframes])
        cameras[:, :3, 3] *= scale
        return _Scene(cameras, np.concatenate([move_points(cameras[i], cloud) for i, cloud in placed.items()]), scale)


def _some(keyframes: Sequence[PosedKeyframe]) -> list[PosedKeyframe]:
    """Evenly chosen ones with depth, the first and the last among them."""
    deep = [k for k in keyframes if np.isfinite(k.depth).any()]
    chosen = np.unique(np.linspace(0, len(deep) - 1, min(MOST_KEYFRAMES, len(deep))).round().astype(int))
    return [deep[i] for i in chosen]


def _coarse_scale(
    keyframes: Sequence[PosedKeyframe], fields: Sequence[DepthField], seen: Sequence[Array]
) -> float | str:
    """Metres per world unit by the median ratio of depths, of LiDAR points [N, 3] in each camera's frame."""
    ratios = np.concatenate([hits(f, k.camera, p)[0].log_ratio for k, f, p in zip(keyframes, fields, seen)])
    if len(ratios) < MIN_HITS:
        return f"{len(ratios)} LiDAR points on confident pixels, {MIN_HITS} needed"
    return float(np.exp(np.median(ratios)))


def _sees(metric_from_camera: Array, keyframe: PosedKeyframe, points: Array, margin: float) -> NDArray[np.bool_]:
    x, y, z = (move_points(invert_pose(metric_from_camera), points)).T
    return in_view(keyframe.camera, x, y, z, margin)


def _target(scene: _Scene, keyframes: Sequence[PosedKeyframe]) -> Target | None:
    """The LiDAR points in view of any keyframe (and a little around), thinned, with their planes."""
    seen = np.zeros(len(scene.points), dtype=bool)
    for pose, keyframe in zip(scene.metric_from_camera, keyframes, strict=True):
        rest = np.flatnonzero(~seen)
        seen[rest] = _sees(pose, keyframe, scene.points[rest], 0.1)
    points = scene.points[seen]
    if len(points) < MIN_HITS:
        return None
    distance = float(np.median(np.linalg.norm(points - scene.metric_from_camera[:, :3, 3].mean(axis=0), axis=1)))
    cell = float(np.clip(CELL_SHARE * distance, CELL_SMALLEST, CELL_LARGEST))
    points = one_per_cell(points, 0.7 * cell)
    if len(points) > MOST_TARGET_POINTS:
        points = points[np.random.default_rng(0).random(len(points)) < MOST_TARGET_POINTS / len(points)]
    return target_of(points, cell)


def _source(keyframes: Sequence[PosedKeyframe], fields: Sequence[DepthField]) -> Source:
    """Points of smooth, confident pixels, evenly at random over every keyframe, in world units."""
    points, rays, depths, groups = [], [], [], []
    for i, (keyframe, field) in enumerate(zip(keyframes, fields, strict=True)):
        rows, columns = np.nonzero(np.isfinite(field.log_depth))
        rng = np.random.default_rng(i)
        chosen = rng.choice(len(rows), min(POINTS_PER_KEYFRAME, len(rows)), replace=False)
        pixels = np.stack([columns[chosen], rows[chosen], np.ones(len(chosen))], axis=1).astype(np.float64)
        ray = pixels @ np.linalg.inv(keyframe.camera.K).T
        z = np.exp(field.log_depth[rows[chosen], columns[chosen]].astype(np.float64))
        length = np.linalg.norm(ray, axis=1)
        pose = keyframe.world_from_camera
        points.append(move_points(pose, ray * z[:, None]))
        rays.append((ray / length[:, None]) @ pose[:3, :3].T)
        depths.append(z * length)
        groups.append(np.full(len(chosen), i))
    centre = np.mean([k.world_from_camera[:3, 3] for k in keyframes], axis=0)
    group = np.concatenate(groups).astype(np.int64)
    return Source(np.concatenate(points), np.concatenate(rays), np.concatenate(depths), group, centre)


def _start(keyframes: Sequence[PosedKeyframe], scene: _Scene) -> Sim3:
    """Rotation by the cameras' orientations, place by their centre, scale by depth. Raises InputError where
    orientations have no mean."""
    world = np.stack([k.world_from_camera for k in keyframes])
    rotation = chordal_mean(scene.metric_from_camera[:, :3, :3] @ np.swapaxes(world[:, :3, :3], -1, -2))
    centre, home = world[:, :3, 3].mean(axis=0), scene.metric_from_camera[:, :3, 3].mean(axis=0)
    return Sim3(scene.scale, rotation, home - scene.scale * rotation @ centre)


def _implausible(found: Fit, start: Sim3, centre: Array, priors: Priors) -> str:
    """Why a fit is not believed; empty when it is."""
    turn = float(rotation_angle(found.sim.R @ start.R.T))
    shift = float(np.linalg.norm(found.sim.apply(centre) - start.apply(centre)))
    change = abs(found.sim.log_scale - start.log_scale)
    if found.inlier_share < MIN_INLIERS:
        return f"only {found.inlier_share:.0%} of the points lie on surfaces that the LiDAR saw"
    if turn > PLAUSIBLE * priors.rotation * np.sqrt(3) or shift > PLAUSIBLE * priors.translation * np.sqrt(3):
        return f"it would turn the cameras by {np.degrees(turn):.1f} deg and move them by {shift:.2f} m"
    if change > REACH_SHARE:
        return f"it would change the scale by {np.expm1(change):.0%} against the depths of single pixels"
    if found.after_m > GROWTH * found.before_m:
        return f"the distance to surfaces grew ({found.before_m:.3f} to {found.after_m:.3f} m)"
    return ""
