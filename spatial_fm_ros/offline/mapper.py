"""One recording to one map: reads, feeds the pipeline with back-pressure, writes everything at the end."""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.errors import InputError, ModelError, OutputError, SpatialFMError
from spatial_fm_ros.core.intake.clocks import SAMPLES
from spatial_fm_ros.core.interrupts import finishing
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.writing import make_folder
from spatial_fm_ros.core.lidar.odometry import LidarOdometry
from spatial_fm_ros.core.models.base import SpatialModel
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import CompanionFrame, Frame, LidarScan, PoseSample, Sample, Update
from spatial_fm_ros.evaluation.depth_files import DepthWriter
from spatial_fm_ros.offline.progress import RunProgress, waiting
from spatial_fm_ros.offline.record import RunRecord
from spatial_fm_ros.offline.result_list import ResultList
from spatial_fm_ros.offline.results import RunTimes, write_results
from spatial_fm_ros.sources.base import Source
from spatial_fm_ros.sources.prefetch import prefetch


@dataclass(frozen=True)
class RunSummary:
    """How a run ended. interrupted: Ctrl-C; what was there then is written."""

    folder: Path
    interrupted: bool
    report: dict[str, Any]


def map_recording(
    source: Source,
    folder: Path,
    config: Config,
    console: Console,
    model: SpatialModel | None = None,
) -> RunSummary:
    """Map `source` into the prepared `folder`; results of an earlier run there go when the first new one comes.

    Ctrl-C or SIGTERM ends the mapping after the window in work, or lets the writing go on to its end; a second one
    raises KeyboardInterrupt. Raises ModelError when the model cannot be loaded, InputError when the recording gave no
    frame, OutputError when results cannot be written (what is written already stays).
    """
    make_folder(folder)
    with ResultList(folder) as results:
        pipeline = Pipeline(config, model)
        with waiting(console, "loading the model"):
            pipeline.load()
        run = _Run(source, results, config, console, pipeline)
        with finishing(run.say_stopping) as stop:
            times = run.feed(stop)
            if run.record.frame_stamps:
                report = run.write(times)
        if not run.record.frame_stamps:
            if stop.is_set():
                raise KeyboardInterrupt
            if run.broken is not None:
                raise run.broken
            raise InputError(_no_image(source, run.record))
    if run.broken is not None:
        raise _told(run.broken, folder) from run.broken
    return RunSummary(folder, stop.is_set(), report)


class _Run:
    """The state of one run."""

    def __init__(
        self, source: Source, results: ResultList, config: Config, console: Console, pipeline: Pipeline
    ) -> None:
        self.source = source
        self.results = results
        self.folder = results.folder
        self.writing = False
        self.cut_short = False
        self.config = config
        self.console = console
        self.pipeline = pipeline
        self.record = RunRecord(confident=config.map.min_confidence)
        self.depth = DepthWriter(self.folder / "depth")
        self.notes: list[str] = []
        self.broken: Exception | None = None
        offset_s = config.intake.pose_time_offset_s
        if config.ros.pose_source == "lidar":
            offset_s = config.intake.lidar_time_offset_s
        self._pose_offset_ns = round(offset_s * 1e9)
        self._lidar = LidarOdometry(config.lidar) if config.ros.pose_source == "lidar" else None
        self._use_poses = config.ros.pose_source in ("odometry", "tf") and source.rig.body_from_camera is not None

    def feed(self, stop: threading.Event) -> RunTimes:
        """Everything the source gives, then the last window; ends early when `stop` is set."""
        self.pipeline.set_rig(self.source.rig)
        started, cpu = time.perf_counter(), time.process_time()
        with (
            RunProgress(self.console, "mapping", self.source.length) as progress,
            closing(prefetch(self.source, stop=stop)) as samples,  # type: ignore[type-var]
        ):
            try:
                for sample in samples:
                    self._take(sample)
                    if isinstance(sample, Frame):
                        progress.advance()
                    while self.pipeline.ready() and not stop.is_set():
                        self._updated(self.pipeline.step(), progress)
                self.cut_short = stop.is_set()
                if not self.cut_short:
                    progress.status("last window")
                    self._updated(self.pipeline.finish(), progress)
            except Exception as error:
                # Whatever it is, the map so far is in memory and must not be lost: told after it is written.
                self.broken = error
                self.notes.append(f"Mapping ended early: {_sentence(error)}")
        self._note_lidar()
        self._note_clocks()
        if problem := self.pipeline.image_frame_problem:
            self.notes.append(problem)
        if self.cut_short:
            self.notes.append("The run was interrupted; this is the map up to then.")
        return RunTimes(mapping_s=time.perf_counter() - started, cpu_s=time.process_time() - cpu)

    def _take(self, sample: Sample) -> None:
        """Hand one sample to the pipeline; what it refuses is counted."""
        if isinstance(sample, PoseSample) and not self._use_poses:
            return
        try:
            if isinstance(sample, LidarScan):
                if self.pipeline.add_scan(sample) and self._lidar is not None:
                    self._lidar.reset()  # time went back
            else:
                self.pipeline.add(sample)
            if isinstance(sample, Frame):
                self.record.frame_stamps.append(sample.stamp_ns)
            elif isinstance(sample, CompanionFrame):
                self.record.companion_images += 1
            elif isinstance(sample, PoseSample):
                self._record_pose(sample)
            elif isinstance(sample, LidarScan):
                self.record.scans += 1
                if sample.remark:
                    self.record.scan_remarks[sample.remark] += 1
                self._take_lidar_pose(sample)
            else:
                self.record.imu_samples += 1
        except InputError as error:
            self.record.refuse(type(sample).__name__, str(error))

    def _take_lidar_pose(self, scan: LidarScan) -> None:
        """LiDAR odometry in the caller's thread: the same recording gives the same poses."""
        if self._lidar is None:
            return
        pose = self._lidar.add(scan, self.source.rig)
        if pose is not None:
            pose = replace(pose, arrived_ns=scan.arrived_ns)
            self.pipeline.sensors.add_lidar_pose(pose)
            self._record_pose(pose)
        elif self._lidar.problem:
            self.record.refuse("LidarScan", self._lidar.problem)

    def _record_pose(self, sample: PoseSample) -> None:
        self.record.add_pose(replace(sample, stamp_ns=sample.stamp_ns + self._pose_offset_ns))

    def _note_lidar(self) -> None:
        """What a user of LiDAR odometry should know of it."""
        if self._lidar is None:
            return
        if not self.record.scans:
            self.notes.append("ros.pose_source is lidar, but the recording gave no LiDAR scan.")
        elif not self.record.poses:
            self.notes.append(
                "LiDAR odometry gave no pose: it needs the place of camera and LiDAR (static transforms) and scans "
                "that see surfaces across every direction."
            )
        if self._lidar.restarts:
            self.notes.append(f"LiDAR odometry lost its way {self._lidar.restarts} times and began a new frame.")

    def _note_clocks(self) -> None:
        """Sensors whose stamps are not of the images' time."""
        problems = [self.pipeline.sensors.clock_problem(sensor) for sensor in SAMPLES]
        self.notes += [f"{problem[0].upper()}{problem[1:]}." for problem in problems if problem]

    def _updated(self, update: Update | None, progress: RunProgress) -> None:
        if update is None:
            return
        self.results.begin()
        self.record.add_update(update)
        if update.rescaled_by != 1.0:
            self.depth.rescale(update.submap, update.rescaled_by)
        if update.refined:
            self.depth.refine(update.refined)
        for keyframe in update.keyframes:
            try:
                self.depth.add(keyframe)
            except OutputError as error:  # one depth image less
                self.record.bad_depth[str(error)] += 1
        stats = self.pipeline.stats
        maps = f", {stats.submaps} maps" if stats.submaps > 1 else ""
        progress.status(f"{stats.keyframes} keyframes{maps}, scale {update.scale.state.value}")

    def write(self, times: RunTimes) -> dict[str, Any]:
        """All results; returns the report."""
        self.writing = True
        self.results.begin()
        with waiting(self.console, "writing the results") as status:

            def show(words: str) -> None:
                status.update(Text(words))

            return write_results(
                self.folder,
                self.source,
                self.pipeline,
                self.record,
                self.depth,
                times,
                self.notes,
                self.cut_short,
                show,
            )

    def say_stopping(self) -> None:
        """What the first signal does."""
        before = "" if self.writing else " the window in work, then writing what is mapped"
        with suppress(Exception):
            self.console.print(Text(f"finishing{before}; Ctrl-C again to stop at once"), soft_wrap=True)


def _no_image(source: Source, record: RunRecord) -> str:
    """Why nothing came: what was refused and skipped, by reason, and what the source itself says."""
    said = list(source.summary())
    said += [f"Refused {count} times: {reason}" for reason, count in record.bad_samples.most_common(5)]
    part = source.options
    if part.start_s > 0 or part.stop_s < float("inf"):
        until = "its end" if part.stop_s == float("inf") else f"{part.stop_s:g} s"
        said.append(f"It was read from {part.start_s:g} s to {until} (--start, --stop).")
    others = ", ".join(
        f"{count} {name}"
        for name, count in (
            ("poses", len(record.poses)),
            ("LiDAR scans", record.scans),
            ("IMU samples", record.imu_samples),
            ("images of other cameras", record.companion_images),
        )
        if count
    )
    if others:
        said.append(f"It gave {others}.")
    if not said:
        said.append("It holds no image that can be read.")
    return f"The {source.kind} '{shown(source.path)}' gave no image. {' '.join(dict.fromkeys(said))}"


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, SpatialFMError) else f"{type(error).__name__}: {error}"


def _told(error: Exception, folder: Path) -> SpatialFMError:
    """The error that broke off a run, with the place of what was saved."""
    if isinstance(error, SpatialFMError):
        return type(error)(f"{error} What was mapped before is in '{shown(folder)}'.")
    return ModelError(
        f"Mapping broke off by an error of the program itself, {_sentence(error)}; what was mapped before is in "
        f"'{shown(folder)}'. Run again with --debug and report what it shows."
    )
