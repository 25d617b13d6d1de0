"""Scale from LiDAR depth: how deep the scan says a pixel is over how deep the images say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.config import ScaleConfig
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.depth_ratio import DepthRatio, View, rough_log_scale, window_ratio
from spatial_fm_ros.core.metric.extrinsic_slack import ExtrinsicEvidence
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation, unusable
from spatial_fm_ros.core.metric.projection import DepthField, depth_field, hits
from spatial_fm_ros.core.metric.scan_placing import ScanPlacer, mount_of, nearest_scan, possible_hits
from spatial_fm_ros.core.types import Array, LidarScan, PosedKeyframe

#: A cloud all of which is farther than any robot's LiDAR reaches, in metres, is in millimetres.
MILLIMETRE_NEAR, MILLIMETRE_MEDIAN = 200.0, 500.0
#: Passes when the window's own cameras move the scans: the scale they need is the one that is sought.
PASSES = 4
#: Change of log-scale that ends them: a scan moves by some percent of its depth, and this is a share of that.
SETTLED = 0.01


@dataclass(frozen=True, eq=False)
class _Sight:
    """A keyframe with the part of a scan that its camera may see, and the scan moved by poses if they reach."""

    keyframe: PosedKeyframe
    field: DepthField
    scan: LidarScan
    placed: Array | None


class LidarDepthObserver:
    """Mode of log(LiDAR depth / network depth) over confident pixels off edges. Needs no motion at all:
    it works while the camera stands or only turns, as long as the model has depth."""

    name = "lidar_depth"

    def __init__(self, config: ScaleConfig, sensors: Sensors) -> None:
        self.config = config
        self.sensors = sensors
        self._guess = 0.0  # metres per world unit of the window before, 0 where there is none
        self._evidence: Callable[[], ExtrinsicEvidence] | None = None

    def observe(self, window: PlacedWindow) -> ScaleObservation | None:
        """See ScaleObserver; None while no scan has come."""
        self._evidence = None
        if not len(self.sensors.scans):
            return None
        camera_from_lidar, problem = mount_of(self.sensors.rig)
        if camera_from_lidar is None:
            return unusable(self.name, problem)
        keyframes = [k for k in window.keyframes if np.isfinite(k.world_from_camera).all()]
        deep = [k for k in keyframes if np.isfinite(k.depth).any()]
        if not deep:
            return unusable(self.name, "the model gives no depth in this window")
        placer = ScanPlacer(self.sensors, keyframes, camera_from_lidar)
        sights, problem = self._sights(deep, placer, camera_from_lidar)
        if not sights:
            return unusable(self.name, problem)
        views, in_image = self._views(sights, placer)
        if sum(len(view.hits) >= self.config.lidar.min_points for view in views) == 0:
            return unusable(self.name, self._too_few(views, in_image))
        by_poses = sum(sight.placed is not None for sight in sights) / len(sights)
        found = window_ratio(views, self.config.lidar)
        self._evidence = found.evidence
        return self._judged(found, by_poses)

    def rescaled(self, factor: float) -> None:
        self._guess /= factor

    def reset(self) -> None:
        self._guess = 0.0
        self._evidence = None

    def evidence(self) -> ExtrinsicEvidence | None:
        """What the newest window says of the extrinsic's error, None where it was not compared."""
        return self._evidence() if self._evidence is not None else None

    def _sights(
        self, keyframes: Sequence[PosedKeyframe], placer: ScanPlacer, camera_from_lidar: Array
    ) -> tuple[list[_Sight], str]:
        """What can be compared, or why nothing can."""
        options = self.config.lidar
        gap_ns = round(options.max_gap_s * 1e9)
        near = [(k, nearest_scan(self.sensors.scans, k.stamp_ns, gap_ns)) for k in keyframes]
        pairs = [(k, scan) for k, scan in near if scan is not None]
        if not pairs:
            if problem := self.sensors.clock_problem("lidar", options.max_gap_s):
                return [], problem
            newest = self.sensors.scans.latest_ns
            behind = (keyframes[-1].stamp_ns - newest) * 1e-9 if newest is not None else float("nan")
            return [], (
                f"no scan within {options.max_gap_s} s of an image (the newest scan is {behind:+.2f} s before the "
                "newest image): check the clocks or intake.lidar_time_offset_s"
            )
        ranges = np.concatenate([_some_ranges(scan) for _, scan in pairs])
        if not len(ranges):
            return [], "the scans are empty: no point of them is finite"
        near_m, median = np.percentile(ranges, (5.0, 50.0))
        if near_m > MILLIMETRE_NEAR and median > MILLIMETRE_MEDIAN:
            return [], f"the cloud is in millimetres (its median range would be {median:.0f} m): publish metres"
        sights = []
        for keyframe, scan in pairs:
            part = possible_hits(scan, camera_from_lidar, keyframe.camera)
            field = depth_field(keyframe.depth, keyframe.confidence, options.min_confidence)
            sights.append(_Sight(keyframe, field, part, placer.by_poses(part, keyframe.stamp_ns)))
        return sights, ""

    def _views(self, sights: Sequence[_Sight], placer: ScanPlacer) -> tuple[list[View], int]:
        """The hits of all sights, and how many points fell into images at all. Scans that poses do not reach
        are moved by the window's cameras with the scale of the window before (at first by their turning alone),
        then with the one found so far."""
        scale = self._guess
        views: list[View] = []
        in_image = 0
        for _ in range(PASSES):
            views, in_image = [], 0
            for sight in sights:
                points = sight.placed
                if points is None:
                    points = placer.by_window(sight.scan, sight.keyframe.stamp_ns, scale)
                found, inside = hits(sight.field, sight.keyframe.camera, points)
                views.append(View(found, float(sight.keyframe.camera.K[0, 0])))
                in_image += inside
            if all(sight.placed is not None for sight in sights) or not any(len(view.hits) for view in views):
                break
            before, scale = scale, float(np.exp(rough_log_scale(views, self.config.lidar)))
            if before > 0 and abs(np.log(scale / before)) < SETTLED:
                break
        self._guess = scale
        return views, in_image

    def _too_few(self, views: Sequence[View], in_image: int) -> str:
        usable = sum(len(view.hits) for view in views)
        need = self.config.lidar.min_points
        if in_image < need:
            return f"the LiDAR does not look where the camera does: {in_image} points fall into {len(views)} images"
        return f"{usable} LiDAR points on confident pixels in {len(views)} images, {need} needed in one of them"

    def _judged(self, found: DepthRatio, by_poses: float) -> ScaleObservation:
        return ScaleObservation(
            self.name, found.log_scale, found.sigma, True, found.warning, found.systematic,
            {**found.figures, "moved_by_poses": by_poses}, witness="lidar",
        )  # fmt: skip


def _some_ranges(scan: LidarScan) -> Array:
    """Ranges of some hundred returns over the whole scan."""
    points = scan.points.reshape(-1, 3)
    ranges: Array = np.linalg.norm(points[:: max(1, len(points) // 500)].astype(np.float64), axis=1)
    return ranges[np.isfinite(ranges) & (ranges > 0)]
