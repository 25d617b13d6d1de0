"""The world: submaps with one of them growing. Takes predictions in, gives posed keyframes and points out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from spatial_fm_ros.core.align.placement import place_on_submap, scaled_about, start_submap
from spatial_fm_ros.core.align.submap import Submap, Trajectory
from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.io.cloud_files import SavedMap
from spatial_fm_ros.core.io.map_facts import MapFacts
from spatial_fm_ros.core.mapping.lidar_surface import LidarSurface
from spatial_fm_ros.core.mapping.loaded_map import LoadedMap
from spatial_fm_ros.core.mapping.surface import surface_points
from spatial_fm_ros.core.mapping.voxel_map import VoxelMap
from spatial_fm_ros.core.metric.create import Observers
from spatial_fm_ros.core.metric.filter import ScaleFilter
from spatial_fm_ros.core.metric.gravity import level
from spatial_fm_ros.core.metric.observers import PlacedWindow
from spatial_fm_ros.core.types import (
    Array,
    Camera,
    CompanionPose,
    Image,
    PointCloud,
    PosedKeyframe,
    Prediction,
    ScaleEstimate,
    ScaleState,
    SeamReport,
    Window,
)

#: Of windows that do not continue each other, this share of the expected drift is taken for granted.
INDEPENDENT_SHARE = 0.25
#: Gravity known worse than this (standard deviation) levels no map.
LEVEL_SIGMA_RAD = 0.03
#: States of scale by how little they tell of a length.
_LEAST_KNOWN = (ScaleState.RELATIVE, ScaleState.UNOBSERVABLE, ScaleState.CONFLICT, ScaleState.METRIC)


@dataclass(frozen=True, eq=False)
class Integrated:
    """What one window became. keyframes and points: the new ones only."""

    submap: int
    keyframes: tuple[PosedKeyframe, ...]
    points: PointCloud
    scale: ScaleEstimate
    seam: SeamReport | None
    rescaling: Rescaling
    world_from_odom: Array | None


@dataclass(frozen=True, eq=False)
class Rescaling:
    """What a window's scale did to the world before it.

    submap: factor on the whole submap; refined: further factor on the depth of earlier keyframes, by
    their id; largest: the largest of these further changes, the window's own included, as a log factor.
    """

    submap: float = 1.0
    refined: Mapping[int, float] = field(default_factory=dict)
    largest: float = 0.0


class World:
    """Not thread-safe: the pipeline guards it."""

    def __init__(
        self,
        config: Config,
        observers: Observers,
        lidar: LidarSurface | None = None,
        loaded: LoadedMap | None = None,
    ) -> None:
        """`lidar`: joins keyframes with scans while the world is in metres; None: images alone make the map.

        `loaded`: a map from a file, beside which the world grows.
        """
        self.config = config
        self.observers = observers
        self.lidar = lidar
        self.submaps: list[Submap] = []
        self.loaded = loaded
        self.scale = loaded.scale if loaded is not None else ScaleEstimate()
        self._last: PosedKeyframe | None = None
        self._world_from_odom: Array | None = None

    def integrate(
        self, window: Window, prediction: Prediction, companions: Sequence[CompanionPose] = ()
    ) -> Integrated:
        """Place the window, settle the scale, add its new keyframes and points.

        `companions`: the rig's other cameras in the gauge of the prediction, which is of the keyframes alone.

        Precondition: at least one keyframe of the window is posed.
        """
        submap, sim, seam, is_new = self._place(window, prediction)
        posed = _in_world(window, prediction, sim, submap.id)
        if not is_new and seam is not None and np.isfinite(seam.scale):
            submap.scale.predict(self._drift(seam, prediction))
        sim, rescaling = self._settle_scale(submap, sim, self._placed(window, prediction, sim, posed, companions))
        posed = _moved(posed, prediction, sim)
        fresh = _new_keyframes(window, posed)
        points = []
        for keyframe in fresh:
            submap.add_keyframe(keyframe)
            cloud = self._surface(keyframe, posed, submap.scale.known)
            points.append(submap.add_points(cloud, keyframe.world_from_camera[:3, 3]))
        submap.voxels.forget(posed[-1].world_from_camera[:3, 3] - submap.origin)
        submap.has_structure |= prediction.has_depth
        self._renew_tail(submap, window, posed)
        self._remember_newest(posed)
        self._bound_voxels()
        self.scale = submap.scale.estimate(submap.applied[-1])
        return Integrated(
            submap.id, tuple(fresh), PointCloud.joined(points), self.scale, seam, rescaling, self._world_from_odom
        )

    def shown(self, metric_only: bool = False) -> PointCloud:
        """The whole map, in one unit: a loaded map is alone in it while what is mapped has another one.

        `metric_only`: nothing but what is in metres.
        """
        loaded = self.loaded if self.loaded is not None and (self.loaded.facts.metric or not metric_only) else None
        if not self.loaded_joins:
            return loaded.cloud if loaded is not None else PointCloud.empty()
        submaps = [s for s in self._filled if s.scale.state is ScaleState.METRIC or not metric_only]
        return PointCloud.joined([*([loaded.cloud] if loaded is not None else []), *(s.cloud() for s in submaps)])

    def saved(self, submap: int | None = None) -> SavedMap:
        """One submap, or all that was mapped, for a file. A loaded map goes along where it has the same unit."""
        submaps = self._filled if submap is None else [self.submaps[submap]]
        if submap is not None or self.loaded is None:
            return SavedMap(PointCloud.joined([s.cloud() for s in submaps]), self.facts(submaps))
        if not submaps:
            return SavedMap(self.loaded.cloud, self.loaded.facts)
        facts, clouds = self.facts(submaps), [s.cloud() for s in submaps]
        if self.loaded_joins:
            other = self.loaded.facts
            facts = replace(
                facts,
                scale_sigma=max(facts.scale_sigma, other.scale_sigma),
                voxel_size=min(facts.voxel_size, other.voxel_size),
            )
            clouds.insert(0, self.loaded.cloud)
        return SavedMap(PointCloud.joined(clouds), facts)

    @property
    def loaded_joins(self) -> bool:
        """What is mapped has the unit of the loaded map: both are in metres, or nothing is mapped."""
        if self.loaded is None or not self._filled:
            return True
        return self.loaded.facts.metric and all(s.scale.state is ScaleState.METRIC for s in self._filled)

    @property
    def _filled(self) -> list[Submap]:
        return [submap for submap in self.submaps if len(submap.voxels)]

    def facts(self, submaps: Sequence[Submap] | None = None) -> MapFacts:
        """What holds for all of these submaps (None: all): the state of the one whose lengths are known least."""
        submaps = self.submaps if submaps is None else submaps
        scales = [s.scale.estimate(s.applied[-1] if s.applied else 0.0) for s in submaps] or [self.scale]
        worst = min((scale.state for scale in scales), key=_LEAST_KNOWN.index)
        sigma = max(scale.sigma for scale in scales)
        return MapFacts(worst, sigma, self.config.ros.map_frame, self.config.map.voxel_size)

    def trajectories(self) -> list[Trajectory]:
        return [s.trajectory() for s in self.submaps]

    @property
    def map_size(self) -> int:
        return sum(len(s.voxels) for s in self.submaps) + (len(self.loaded.cloud) if self.loaded is not None else 0)

    def _place(
        self, window: Window, prediction: Prediction
    ) -> tuple[Submap, Sim3, SeamReport | None, bool]:
        seam: SeamReport | None = None
        if self.submaps:
            current = self.submaps[-1]
            sim, seam = place_on_submap(window, prediction, current, self.config.seam)
            if sim is not None:
                return current, sim, seam, False
            current.tail.clear()  # the next windows hang on the new submap: these images are not asked for again
        sim = start_submap(window, prediction, self._last, self._world_from_odom)
        first = int(np.flatnonzero(prediction.posed)[0])
        origin = sim.apply(prediction.world_from_camera[first, :3, 3])
        self.submaps.append(
            Submap(len(self.submaps), origin, VoxelMap(self.config.map), ScaleFilter(self.config.scale))
        )
        return self.submaps[-1], sim, seam, True

    @staticmethod
    def _placed(
        window: Window,
        prediction: Prediction,
        sim: Sim3,
        posed: Sequence[PosedKeyframe],
        companions: Sequence[CompanionPose],
    ) -> PlacedWindow:
        """What observers of metres look at."""
        shared = set(window.ids[: window.overlap])
        return PlacedWindow(
            tuple(posed),
            sum(keyframe.id in shared for keyframe in posed),
            sim.scale,
            prediction.metric,
            tuple(replace(each, world_from_camera=sim.apply_pose(each.world_from_camera)) for each in companions),
        )

    def _settle_scale(self, submap: Submap, sim: Sim3, placed: PlacedWindow) -> tuple[Sim3, Rescaling]:
        """Observe metres and bring the window, and as far as they help it the windows before, to them.

        Returns the corrected world_from_window and what became of the submap's past.
        """
        before = submap.applied[-1] if submap.applied else 0.0
        settled, was_known = submap.windows >= self.config.scale.settle_windows, submap.scale.known
        posed = placed.keyframes
        seen = [observer.observe(placed) for observer in self.observers.scale]
        submap.scale.update([observation for observation in seen if observation is not None], before)
        submap.applied.append(before)
        if submap.windows == 1 and posed[0].odom_from_camera is None:
            sim = self._levelled(submap, sim)
        if not submap.scale.known:
            return sim, Rescaling()
        whole = 0.0
        if not (settled and was_known):
            # A young world, or one that only now learns of metres, is resized as a whole.
            whole = submap.scale.log_scale - before
            submap.rescale(whole)
            sim = scaled_about(sim, float(np.exp(whole)), submap.origin)
            for observer in self.observers.scale:
                observer.rescaled(float(np.exp(whole)))
        return self._refine(submap, sim, posed, whole)

    def _levelled(self, submap: Submap, sim: Sim3) -> Sim3:
        """The first window of a submap turned about its origin so that gravity points down, where an IMU tells.

        With odometry the world is its frame, which the robot has levelled already.
        """
        gravity = self.observers.gravity()
        if gravity is None or gravity.sigma_rad > LEVEL_SIGMA_RAD:
            return sim
        turn = level(gravity)
        return Sim3(1.0, turn, submap.origin - turn @ submap.origin) @ sim

    def _refine(
        self, submap: Submap, sim: Sim3, posed: Sequence[PosedKeyframe], whole: float
    ) -> tuple[Sim3, Rescaling]:
        """Bring the newest window to its scale, and bend those before to their smoothed scales, a bounded step at a
        time."""
        wanted = submap.scale.smoothed()[-submap.windows :]
        changes = wanted - np.array(submap.applied[-len(wanted) :])
        limit = self.config.scale.max_correction
        changes[:-1] = np.clip(changes[:-1], -limit, limit)  # these have been published
        largest = float(np.abs(changes).max())
        refined: dict[int, float] = {}
        hinges = [k.id for k in posed if k.id in submap.tail]
        if len(changes) > 1 and hinges:
            was = np.mean([submap.tail[i].world_from_camera[:3, 3] for i in hinges], axis=0)
            # Its keyframes are not in the submap yet: the window itself is scaled below.
            refined = submap.bend(np.append(changes[:-1], 0.0))
            now = np.mean([submap.tail[i].world_from_camera[:3, 3] for i in hinges], axis=0)
            sim = Sim3(1.0, np.eye(3), now - was) @ sim
        # The window itself is scaled about the cameras it hangs on.
        centres = [submap.tail[i].world_from_camera[:3, 3] for i in hinges]
        centre = np.mean(centres, axis=0) if centres else submap.origin
        if changes[-1] != 0.0:
            sim = scaled_about(sim, float(np.exp(changes[-1])), centre)
            submap.applied[-1] += float(changes[-1])
        return sim, Rescaling(float(np.exp(whole)), refined, largest)

    def _drift(self, seam: SeamReport, prediction: Prediction) -> float:
        """Standard deviation of the log-scale that a seam carries over.

        The overlap shows it where windows are independent of each other; a gauge that goes on hides it there.
        """
        least = self.config.scale.drift_per_window * (1.0 if prediction.continues else INDEPENDENT_SHARE)
        return max(least, seam.scale_sigma) if np.isfinite(seam.scale_sigma) else self.config.scale.drift_per_window

    def _surface(self, keyframe: PosedKeyframe, window: Sequence[PosedKeyframe], metric: bool) -> PointCloud:
        if self.lidar is None or not metric:
            return surface_points(keyframe, self.config.map)
        keyframe, lidar_points = self.lidar.join(keyframe, window)
        return PointCloud.joined([surface_points(keyframe, self.config.map), lidar_points])

    def _renew_tail(self, submap: Submap, window: Window, posed: list[PosedKeyframe]) -> None:
        """What the next window may share. A camera that stands or turns keeps the depth it saw before."""
        tail = {keyframe.id: keyframe for keyframe in posed}
        if not any(np.isfinite(keyframe.depth).any() for keyframe in posed):
            shared = window.ids[: window.overlap]
            tail |= {i: keyframe for i, keyframe in submap.tail.items() if i in shared}
        submap.tail = tail

    def _remember_newest(self, posed: list[PosedKeyframe]) -> None:
        self._last = posed[-1]
        for keyframe in reversed(posed):
            if keyframe.odom_from_camera is not None:
                self._world_from_odom = keyframe.world_from_camera @ invert_pose(keyframe.odom_from_camera)
                return

    def _bound_voxels(self) -> None:
        """All submaps together keep the map's bound: the oldest give way first."""
        for submap in self.submaps[:-1]:
            if sum(len(s.voxels) for s in self.submaps) <= self.config.map.max_voxels:
                return
            if len(submap.voxels):
                submap.voxels = VoxelMap(self.config.map)


def _in_world(window: Window, prediction: Prediction, sim: Sim3, submap: int) -> list[PosedKeyframe]:
    """The posed keyframes of a window under world_from_window = `sim`."""
    height, width = prediction.depth.shape[1:]
    posed = []
    for i in np.flatnonzero(prediction.posed):
        keyframe = window.keyframes[i]
        posed.append(
            PosedKeyframe(
                id=keyframe.id,
                stamp_ns=keyframe.stamp_ns,
                frame_id=keyframe.frame_id,
                world_from_camera=sim.apply_pose(prediction.world_from_camera[i]),
                camera=Camera(width, height, prediction.K[i]),
                depth=(prediction.depth[i] * sim.scale).astype(np.float32),
                confidence=prediction.confidence[i],
                image=_at_size(keyframe.image, width, height),
                submap=submap,
                odom_from_camera=keyframe.odom_from_camera,
            )
        )
    return posed


def _moved(posed: list[PosedKeyframe], prediction: Prediction, sim: Sim3) -> list[PosedKeyframe]:
    """The keyframes of `_in_world` under another world_from_window."""
    return [
        replace(
            keyframe,
            world_from_camera=sim.apply_pose(prediction.world_from_camera[i]),
            depth=(prediction.depth[i] * sim.scale).astype(np.float32),
        )
        for i, keyframe in zip(np.flatnonzero(prediction.posed), posed, strict=True)
    ]


def _new_keyframes(window: Window, posed: list[PosedKeyframe]) -> list[PosedKeyframe]:
    shared = set(window.ids[: window.overlap])
    return [keyframe for keyframe in posed if keyframe.id not in shared]


def _at_size(image: Image, width: int, height: int) -> Image:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
