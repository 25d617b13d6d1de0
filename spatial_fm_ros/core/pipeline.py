"""A frame goes in, an update comes out: the whole story from sensor samples to a metric map.

The live node and the offline mapper both call this and nothing else. `offer` is cheap and belongs
to the thread that receives images; `step` is slow and belongs to the one thread that owns the device.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from spatial_fm_ros.core.align.aside import MapAside, MapsAside
from spatial_fm_ros.core.align.submap import Trajectory
from spatial_fm_ros.core.align.world import Integrated, Rescaling, World
from spatial_fm_ros.core.calibration.estimate import SensorCorrection
from spatial_fm_ros.core.calibration.image_frame import ImageFrameEvidence, image_frame_problem
from spatial_fm_ros.core.calibration.refinement import Refinement
from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.geometry.rectify import Rectifier
from spatial_fm_ros.core.geometry.rotations import rotation_angle
from spatial_fm_ros.core.intake.companions import companion_poses, mount_problem
from spatial_fm_ros.core.intake.gate import GateDecision, KeyframeGate
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.intake.stamps import TimeLine
from spatial_fm_ros.core.intake.windows import WindowAssembler
from spatial_fm_ros.core.io.cloud_files import SavedMap
from spatial_fm_ros.core.io.map_facts import MapFacts
from spatial_fm_ros.core.mapping.lidar_surface import LidarSurface
from spatial_fm_ros.core.mapping.loaded_map import LoadedMap
from spatial_fm_ros.core.metric.create import create_observers
from spatial_fm_ros.core.models.base import SpatialModel
from spatial_fm_ros.core.models.registry import create_model
from spatial_fm_ros.core.stats import PipelineStats
from spatial_fm_ros.core.types import (
    Array,
    CompanionFrame,
    CompanionPose,
    Frame,
    ImuSample,
    Keyframe,
    LidarScan,
    PointCloud,
    PosedKeyframe,
    PoseSample,
    Prediction,
    Rig,
    Sample,
    ScaleEstimate,
    Update,
    Window,
    WindowState,
)

#: While the camera turns less than this, a window without parallax keeps the overlap it had.
HOLD_ROTATION_DEG = 15.0


class Pipeline:
    """Intake, windows, model, seams, scale and map of one camera; others of its rig help where they look along."""

    def __init__(self, config: Config, model: SpatialModel | None = None) -> None:
        self.config = config
        self.model = model if model is not None else create_model(config.model)
        self.sensors = Sensors(config.intake)
        self.stats = PipelineStats()
        self._rectifier = Rectifier(config.intake.image_width)
        self._gate = KeyframeGate(config.intake)
        self._line: TimeLine[None] = TimeLine("An image")
        #: Called by `offer`, with the numbers of the old and the new line, when the images' time went elsewhere for
        #: good (a robot that starts over). Without, a recording is mapped as far as its time goes on.
        self.on_new_time: Callable[[int, int], None] | None = None
        self._windows = WindowAssembler(config.window)
        self.observers = create_observers(config, self.sensors)
        self.refinement: Refinement | None = None
        if config.calibration.refine:
            self.refinement = Refinement(config.calibration, self.sensors, self.observers.extrinsic)
        self._image_frame = ImageFrameEvidence()
        self._frame_id = ""  # of the newest window's images
        self._world = self._new_world()
        self._aside = MapsAside()
        self._next_id = 0
        self._spare: Keyframe | None = None
        self._body_unknown = False
        self._epoch = 0  # counts resets: a window in the model's hands then belongs to the past
        self._model_epoch = 0
        self._intake_lock = threading.RLock()
        self._world_lock = threading.RLock()

    def load(self) -> None:
        """Load the model. Raises ModelError with the reason."""
        self.model.load()
        self._windows.limit(self.model.window_limit)

    # -- sensors -----------------------------------------------------------------------------

    def set_rig(self, rig: Rig) -> None:
        """Static extrinsics. One without body_from_camera says that nobody knows where the camera sits: `add` then
        leaves poses out. Before a rig is set, poses are the camera's own."""
        self.sensors.rig = rig
        self._body_unknown = rig.body_from_camera is None

    def add_pose(self, sample: PoseSample) -> None:
        """Raises InputError for a pose that is none, and for one whose stamp is not of this time."""
        self.sensors.add_pose(sample)

    def add_scan(self, scan: LidarScan) -> bool:
        """True when time went back, see Sensors. Raises InputError for a scan whose stamp is not of this time."""
        return self.sensors.add_scan(scan)

    def add_imu(self, sample: ImuSample) -> None:
        """Raises InputError for a sample whose stamp is not of this time."""
        self.sensors.add_imu(sample)

    def add_companion(self, companion: CompanionFrame) -> None:
        """An image of another camera of the rig (`Rig.companions`); it joins a window if taken with a keyframe.

        Raises InputError for an image that cannot be used.
        """
        if self.config.window.companions > 0:
            with self._intake_lock:
                self.sensors.companions.add(companion.frame, self._new_id)

    def add(self, sample: Sample) -> None:
        """A sample of any kind; frames are offered, poses of a body that the camera's place on is not known left out.

        Raises InputError as the method for its kind.
        """
        if isinstance(sample, Frame):
            self.offer(sample)
        elif isinstance(sample, CompanionFrame):
            self.add_companion(sample)
        elif isinstance(sample, PoseSample):
            if not self._body_unknown:
                self.add_pose(sample)
        elif isinstance(sample, LidarScan):
            self.add_scan(sample)
        else:
            self.add_imu(sample)

    # -- frames ------------------------------------------------------------------------------

    def offer(self, frame: Frame) -> GateDecision:
        """Rectify a frame and let the gate decide; a kept one waits for its window.

        Raises InputError for a frame that cannot be used, or whose stamp is not of this time (see TimeLine; one that
        is older is only "stale"); nothing is changed by it then.
        """
        self._watch(frame)
        with self._intake_lock:
            image, camera = self._rectifier.rectify(frame)
            decision = self._gate.consider(frame.stamp_ns, image)
            self.stats.frames += 1
            keyframe = Keyframe(
                id=-1,  # numbered when it is kept
                stamp_ns=frame.stamp_ns,
                image=image,
                camera=camera,
                frame_id=frame.frame_id,
                disparity_px=decision.disparity_px,
                reason=decision.reason,
            )
            if decision.kept:
                self._keep(keyframe)
            else:
                self.stats.rejected[decision.reason] += 1
                # A sharp frame that only brought too little new is what `finish` may end with.
                if decision.reason in ("still", "interval"):
                    self._spare = keyframe
            return decision

    def _watch(self, frame: Frame) -> None:
        newest = self._line.newest_ns
        admitted = self._line.admit(frame.stamp_ns, frame.arrived_ns, None)
        if admitted.refused and (newest is None or frame.stamp_ns > newest):
            admitted.or_raise()
        if not admitted.refused:
            self.sensors.add_image(frame.stamp_ns, frame.arrived_ns, admitted.moved)
        if admitted.moved and admitted.was_young:  # some first images had wrong stamps
            with self._intake_lock:
                self._gate.reset()
                self._windows.reset()
        elif admitted.moved and self.on_new_time is not None:
            self.on_new_time(admitted.before, admitted.line)

    def ready(self) -> bool:
        """A full window is waiting for `step`."""
        return self._windows.ready()

    def step(self, final: bool = False) -> Update | None:
        """Process the next window. None where there is none (`final`: a shorter one will do)."""
        epoch = self._epoch
        if self._model_epoch != epoch:
            self.model.reset()
            self._model_epoch = epoch
        most = self.model.window_limit  # measured anew at every look
        self._windows.limit(most - self._companions_wanted(most))
        window = self._windows.take(final)
        if window is None:
            return None
        started = time.perf_counter()
        window = self._with_companions(window, most)
        window = replace(window, keyframes=tuple(self._with_pose(k) for k in window.keyframes))
        posed = any(keyframe.odom_from_camera is not None for keyframe in window.keyframes)
        self.stats.unposed_windows = 0 if posed else self.stats.unposed_windows + 1
        prediction, note = self._infer(window)
        inferred = time.perf_counter()
        with self._world_lock:
            if self._epoch != epoch:
                return None
            update = self._integrate(window, prediction, note)
        finished = time.perf_counter()
        self.stats.windows += 1
        self.stats.window_times_s.append(finished - started)
        return replace(
            update,
            timings_s={
                "model": inferred - started,
                "world": finished - inferred,
                "window": finished - started,
            },
        )

    def add_frame(self, frame: Frame) -> Update | None:
        """`offer`, then `step` when a window is full: the offline way, nothing is thinned."""
        self.offer(frame)
        return self.step() if self.ready() else None

    def finish(self) -> Update | None:
        """The last keyframes as a shorter window; the last usable frame becomes one of them.

        To be called until it gives None: more than one window may be waiting.
        """
        with self._intake_lock:
            if self._spare is not None:
                self.stats.rejected[self._spare.reason] -= 1
                self._keep(replace(self._spare, reason="last"))
        return self.step(final=True)

    # -- the world ---------------------------------------------------------------------------

    @property
    def scale(self) -> ScaleEstimate:
        return self._world.scale

    @property
    def window_size(self) -> int:
        """Keyframes of a window now: `window.size`, or fewer where the model's memory does not hold them."""
        return self._windows.size

    @property
    def waiting(self) -> int:
        """Keyframes that wait to be in a window."""
        return self._windows.pending

    @property
    def thinned(self) -> int:
        """Keyframes dropped because the model could not keep up."""
        return self._windows.thinned

    @property
    def corrections(self) -> tuple[SensorCorrection, ...]:
        """What `calibration.refine` knows of each sensor; empty where it is off."""
        return self.refinement.states() if self.refinement is not None else ()

    @property
    def image_frame_problem(self) -> str:
        """Why the frame of the images seems to be no optical one (REP-103), empty where nothing says so."""
        told, is_body = self.sensors.told_rig, self.config.ros.image_frame_is_body
        return image_frame_problem(self._image_frame.verdict, told.frame_doubt, self._frame_id, is_body)

    @property
    def pose_jumps(self) -> int:
        return self.sensors.poses.jumps

    @property
    def map_size(self) -> int:
        """Voxels of the whole map."""
        with self._world_lock:
            return self._world.map_size

    def map_cloud(self, submap: int | None = None, metric_only: bool = False) -> PointCloud:
        """A snapshot of one submap, or of the whole map to be shown.

        The whole map is in one unit: a loaded map is alone in it while what is mapped has another one. `metric_only`:
        nothing of it but what is in metres.
        """
        with self._world_lock:
            return self._world.shown(metric_only) if submap is None else self._world.submaps[submap].cloud()

    def saved_map(self, submap: int | None = None) -> SavedMap:
        """A snapshot of one submap, or of all that was mapped, as it goes into a file, with what is known of it."""
        with self._world_lock:
            saved = self._world.saved(submap)
        weights = self.model.weights if self.model.random_weights else saved.facts.weights
        return replace(saved, facts=replace(saved.facts, weights=weights))

    def map_facts(self) -> MapFacts:
        """What holds for all that was mapped."""
        with self._world_lock:
            return self._world.facts()

    @property
    def loaded(self) -> LoadedMap | None:
        """The map from a file that the world grows beside."""
        return self._world.loaded

    @property
    def loaded_joins(self) -> bool:
        """A loaded map, if any, has the unit of what is mapped, and both are shown and saved together."""
        with self._world_lock:
            return self._world.loaded_joins

    def trajectories(self) -> list[Trajectory]:
        """Keyframe poses by submap, in the scale known now."""
        with self._world_lock:
            return self._world.trajectories()

    def pose_at(self, stamp_ns: int) -> Array | None:
        """odom_from_camera [4, 4] at a stamp, or None where poses do not reach."""
        return self.sensors.odom_from_camera(stamp_ns)

    def maps_aside(self) -> list[MapAside]:
        """What `set_aside` keeps, oldest first; together with the map no more than `map.max_voxels` voxels."""
        with self._world_lock:
            return list(self._aside.maps)

    @property
    def aside_forgotten(self) -> int:
        """Points of maps aside that had to give way to newer ones."""
        return self._aside.forgotten

    def set_aside(self, why: str, line: int = 0, now: int | None = None) -> bool:
        """Time went elsewhere: as `reset`, but the map is kept aside, see `maps_aside`.

        why: in words. line: the time line that the map's images were of. now: the one that goes on; a map aside of
        that line is the map again (True where one was). None: whatever image comes next begins it.
        """
        with self._intake_lock, self._world_lock:
            if now is None:
                line = self._line.number
                self._line.begin_anew()
            self._aside.put(self._world, why, line)
            joined = None if now is None else self._aside.take_back(now)
            self._begin(joined)
            self._aside.bound(self.config.map.max_voxels - self._world.map_size)
            return joined is not None

    def reset(self, loaded: LoadedMap | None = None) -> None:
        """Forget every sample, window, pose, voxel and correction, what is aside too; the model stays loaded.

        `loaded`: a map from a file, beside which the new world grows.
        """
        with self._intake_lock, self._world_lock:
            self._line = TimeLine("An image")
            self._aside = MapsAside()
            self._begin(None, loaded)

    def _begin(self, world: World | None, loaded: LoadedMap | None = None) -> None:
        """Nothing was heard yet, and `world` (None: an empty one, or with what was loaded) is the map. The caller holds
        both locks."""
        self._gate.reset()
        self._windows.reset()
        self.sensors.clear()
        if self.refinement is not None:
            self.refinement.reset()
        self._image_frame.reset()
        self._epoch += 1
        self._spare = None
        fresh = self._new_world(loaded)  # observers forget
        self._world = world if world is not None else fresh
        self.stats = PipelineStats(resets=self.stats.resets + 1, submaps=len(self._world.submaps))

    def _new_world(self, loaded: LoadedMap | None = None) -> World:
        self.observers.reset()
        lidar = LidarSurface(self.config.scale.lidar, self.sensors) if self.config.map.lidar else None
        return World(self.config, self.observers, lidar, loaded)

    def _keep(self, keyframe: Keyframe) -> None:
        self.stats.keyframes += 1
        self._spare = None
        keyframe = replace(keyframe, id=self._new_id())
        self.sensors.companions.expect(keyframe, self._new_id)
        self._windows.push(keyframe)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    # -- inside a step -----------------------------------------------------------------------

    def _with_pose(self, keyframe: Keyframe, camera_from_companion: Array | None = None) -> Keyframe:
        pose = self.pose_at(keyframe.stamp_ns)
        if camera_from_companion is not None and pose is not None:
            pose = pose @ camera_from_companion
        return replace(keyframe, odom_from_camera=pose)

    def _companions_wanted(self, most: int) -> int:
        """Views a window keeps free for the rig's other cameras: no more than a third of the `most` a model holds."""
        if not self.sensors.companions.cameras:
            return 0
        return min(self.config.window.companions, most // 3)

    def _with_companions(self, window: Window, most: int) -> Window:
        """The window with what the rig's other cameras saw, of `most` views in all.

        Only those whose place is known: a view without a pose would cost models the poses of all others.
        """
        room = min(self.config.window.companions, most - len(window.keyframes))
        rig = self.sensors.rig  # as it is now: intake may be told another one meanwhile
        mounted = [frame_id for frame_id in rig.companions if not mount_problem(rig, frame_id)]
        found = self.sensors.companions.take(window.keyframes, room, mounted)
        self.stats.companions += len(found)
        posed = [replace(each, view=self._with_pose(each.view, rig.companions[each.view.frame_id])) for each in found]
        return replace(window, companions=tuple(posed))

    def _infer(self, window: Window) -> tuple[Prediction | None, str]:
        try:
            prediction = self.model.infer(window.with_companions)
        except ModelError as error:
            return None, str(error)
        return prediction, prediction.note

    def _integrate(self, window: Window, prediction: Prediction | None, note: str) -> Update:
        state = prediction.state if prediction is not None else WindowState.FAILED
        seen_along: tuple[CompanionPose, ...] = ()
        if prediction is not None:
            seen_along = companion_poses(window, prediction)
            prediction = prediction.of_first(len(window.keyframes))
        if prediction is None or not prediction.posed.any():
            self.stats.failed_windows += 1
            return _update(window, None, (), self._world.scale, state, note, self._world.map_size)
        self._look_at_frame(window, prediction)
        result = self._world.integrate(window, prediction, seen_along)
        self._aside.bound(self.config.map.max_voxels - self._world.map_size)
        if self.refinement is not None:
            self.refinement.observe(window, prediction)
        self.stats.submaps = len(self._world.submaps)
        if state is WindowState.NO_PARALLAX and _turned_deg(prediction, window.overlap) < HOLD_ROTATION_DEG:
            # The next window hangs on the keyframes that still have depth.
            self._windows.hold(window)
        return _update(window, result, result.keyframes, result.scale, state, note, self._world.map_size)


    def _look_at_frame(self, window: Window, prediction: Prediction) -> None:
        """Keyframes of one camera only: another frame in the window is another mounting."""
        newest = window.keyframes[-1].frame_id
        if newest != self._frame_id:
            self._frame_id = newest
            self._image_frame.reset()
        told = [k.odom_from_camera if k.frame_id == newest else None for k in window.keyframes]
        seen = np.where(prediction.posed[:, None, None], prediction.world_from_camera, np.nan)
        self._image_frame.observe(told, list(seen))


def _turned_deg(prediction: Prediction, overlap: int) -> float:
    """Rotation from the first posed overlap camera to the last posed camera; infinite without overlap."""
    shared = np.flatnonzero(prediction.posed[:overlap])
    if not len(shared):
        return float("inf")
    last = int(np.flatnonzero(prediction.posed)[-1])
    first_rotation = prediction.world_from_camera[int(shared[0]), :3, :3]
    return float(np.degrees(rotation_angle(first_rotation.T @ prediction.world_from_camera[last, :3, :3])))


def _update(
    window: Window,
    result: Integrated | None,
    keyframes: tuple[PosedKeyframe, ...],
    scale: ScaleEstimate,
    state: WindowState,
    note: str,
    map_size: int,
) -> Update:
    rescaling = result.rescaling if result else Rescaling()
    return Update(
        window=window.index,
        submap=result.submap if result else -1,
        keyframes=keyframes,
        points=result.points if result else PointCloud.empty(),
        scale=scale,
        seam=result.seam if result else None,
        state=state,
        note=note,
        timings_s={},
        map_size=map_size,
        world_from_odom=result.world_from_odom if result else None,
        rescaled_by=rescaling.submap,
        scale_correction=rescaling.largest,
        refined=rescaling.refined,
    )
