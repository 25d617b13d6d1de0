"""Writes what a run found: trajectories, maps, depth, pictures, reports."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spatial_fm_ros.core.align.submap import Trajectory
from spatial_fm_ros.core.calibration.told import as_data, sentences
from spatial_fm_ros.core.config_files import flatten
from spatial_fm_ros.core.errors import OutputError
from spatial_fm_ros.core.io.cloud_files import write_map
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.writing import make_folder, write_bytes
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Image, PointCloud, ScaleState
from spatial_fm_ros.evaluation.depth_files import DepthWriter
from spatial_fm_ros.evaluation.plots import image_png
from spatial_fm_ros.evaluation.render import map_views
from spatial_fm_ros.evaluation.tum import write_tum
from spatial_fm_ros.offline.record import RunRecord
from spatial_fm_ros.offline.report import command_line, machine, versions, write_html, write_json
from spatial_fm_ros.offline.trajectories import ordered, pose_every_frame, write_trajectories
from spatial_fm_ros.sources.base import Source


@dataclass(frozen=True)
class RunTimes:
    """Wall-clock and CPU seconds from the first sample to the last window."""

    mapping_s: float
    cpu_s: float


def write_results(
    folder: Path,
    source: Source,
    pipeline: Pipeline,
    record: RunRecord,
    depth: DepthWriter,
    times: RunTimes,
    notes: list[str],
    interrupted: bool,
    show: Callable[[str], None],
) -> dict[str, Any]:
    """Everything into `folder`; returns the report. The smallest and most wanted files come first.

    Whatever one of them fails of, it costs no other; OutputError is raised at the end, for the first of them.
    """
    started = time.perf_counter()
    attempts = _Attempts()
    trajectories = ordered(pipeline.trajectories())
    metric = record.metric_submaps()
    with attempts("The trajectories"):
        write_trajectories(folder, trajectories, attempts.files)
    clouds: dict[int, PointCloud] = {}
    for number, trajectory in enumerate(trajectories):
        name = "map.ply" if number == 0 else f"map_{number}.ply"
        show(f"writing {name}")
        with attempts(name):
            saved = pipeline.saved_map(trajectory.submap)
            clouds[trajectory.submap] = saved.cloud
            write_map(folder / name, saved)
            attempts.files.append(name)
    with attempts("trajectory_all.tum"):
        _write_every_frame(folder, source, pipeline, record, trajectories, attempts.files)
    for sentence, count in record.bad_depth.most_common():
        attempts.errors.append(OutputError(f"{sentence} So with {count} depth images."))
    with attempts("depth/index.json"):
        for share in depth.close(metric):
            show(f"writing depth images, {100 * share:.0f} %")
        attempts.files.append("depth/index.json")
    show("drawing the map")
    views: dict[str, Image] = {}
    if trajectories and trajectories[0].submap in clouds:
        with attempts("The pictures of the map"):
            largest = clouds[trajectories[0].submap]
            views = map_views(largest, trajectories[0].world_from_camera, pipeline.config.map.voxel_size)
            _write_views(folder, views, attempts.files)
    show("writing the report")
    all_notes = [*notes, *_notes(source, record), *map(str, attempts.errors)]
    report: dict[str, Any] = {}
    with attempts("report.json"):
        report = _report(source, pipeline, record, trajectories, times, all_notes, interrupted)
        report["counts"]["map_points"] = sum(len(cloud) for cloud in clouds.values())
        report["counts"]["depth_images"] = depth.count
        report["files"] = attempts.files
        report["timing"]["writing_s"] = time.perf_counter() - started
        write_json(folder / "report.json", report)
    with attempts("report.html"):
        write_html(folder / "report.html", report, record, trajectories, views)
    if attempts.errors:
        more = f" ({len(attempts.errors) - 1} more results too)" if len(attempts.errors) > 1 else ""
        raise OutputError(
            f"{attempts.errors[0]}{more} What could be written is in '{shown(folder)}'."
        ) from attempts.errors[0]
    return report


class _Attempts:
    """Collects the errors of the blocks it guards. files: names written so far."""

    def __init__(self) -> None:
        self.errors: list[OutputError] = []
        self.files: list[str] = []

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        try:
            yield
        except OutputError as error:
            self.errors.append(error)
        except Exception as error:
            told = OutputError(
                f"{what} could not be made, by an error of the program itself ({type(error).__name__}: "
                f"{shown(error)}); report it."
            )
            told.__cause__ = error
            self.errors.append(told)


def _write_every_frame(
    folder: Path,
    source: Source,
    pipeline: Pipeline,
    record: RunRecord,
    trajectories: list[Trajectory],
    files: list[str],
) -> None:
    """trajectory_all.tum, where odometry gives every frame a pose in the largest map, which is metric."""
    if not trajectories or trajectories[0].submap not in record.metric_submaps():
        return
    gap = pipeline.config.intake.pose_max_gap_s
    sensors = pipeline.sensors
    if pipeline.refinement is None:
        every = pose_every_frame(record, trajectories[0], source.rig.body_from_camera, gap)
    else:  # all poses by the calibration as it is known in the end
        clock_ns = sensors.correction.clock_ns("lidar" if sensors.poses_of_lidar else "odometry")
        every = pose_every_frame(record, trajectories[0], sensors.rig.body_from_camera, gap, clock_ns)
    if every is not None:
        write_tum(folder / "trajectory_all.tum", every.stamps_ns, every.poses)
        files.append("trajectory_all.tum")


def _write_views(folder: Path, views: dict[str, Image], files: list[str]) -> None:
    for name, picture in views.items():
        make_folder(folder / "views")
        write_bytes(folder / "views" / f"{name}.png", image_png(picture), "picture")
        files.append(f"views/{name}.png")


def _notes(source: Source, record: RunRecord) -> list[str]:
    notes = list(source.summary())
    notes += [f"Refused {count} times: {reason}" for reason, count in record.bad_samples.most_common()]
    notes += [
        f"{count} of {record.scans} LiDAR scans: {remark}; they count as taken at their stamp all at once."
        for remark, count in record.scan_remarks.most_common()
    ]
    if len(record.frame_stamps) == 1:
        notes.append("Only one image came; a map needs at least two from different places.")
    return list(dict.fromkeys(notes))


def _why_no_map(pipeline: Pipeline, record: RunRecord) -> str:
    """The reason for which there is no map: images that were left out, too few keyframes, or what windows say."""
    stats = pipeline.stats
    left_out = sum(stats.rejected.values())
    by_reason = ", ".join(f"{count} {reason}" for reason, count in sorted(stats.rejected.items(), key=lambda r: -r[1]))
    if not record.windows and left_out:
        intake, remedy = pipeline.config.intake, ""
        if stats.rejected.get("dark", 0) > 0.5 * stats.frames:
            remedy = (
                f" A mean grey level below {intake.dark_level:g} of 255 counts as dark (intake.dark_level): are these "
                "images of fewer bits in a 16-bit file, or was a lens covered?"
            )
        elif stats.rejected.get("bright", 0) > 0.5 * stats.frames:
            remedy = f" A mean grey level above {intake.bright_level:g} of 255 counts as bright (intake.bright_level)."
        return f"No map: {left_out} of {stats.frames} images were left out ({by_reason}).{remedy}"
    if not record.windows:
        return (
            f"No map: {stats.keyframes} of {stats.frames} images are keyframes, a window takes 2 at least; did the "
            "camera move?"
        )
    said = Counter(row.note for row in record.windows if row.note).most_common(3)
    reasons = "; ".join(f"{note} ({count} of {len(record.windows)} windows)" for note, count in said)
    return f"No window could be posed: {reasons or 'see report.json'}."


def coverage(trajectory: Trajectory | None, frame_stamps: list[int]) -> float:
    """Share of the recording's time that lies between the first and last keyframe of a map."""
    span = max(frame_stamps) - min(frame_stamps)
    if trajectory is None or span <= 0:
        return 0.0
    return float((int(trajectory.stamps_ns.max()) - int(trajectory.stamps_ns.min())) / span)


def _report(
    source: Source,
    pipeline: Pipeline,
    record: RunRecord,
    trajectories: list[Trajectory],
    times: RunTimes,
    notes: list[str],
    interrupted: bool,
) -> dict[str, Any]:
    stats = pipeline.stats
    largest = trajectories[0] if trajectories else None
    rejected = dict(stats.rejected)
    if rejected.get("stale", 0) > 0.02 * stats.frames:
        notes.append(
            f"{rejected['stale']} images go back in time and were left out: a looped or restarted recording? "
            "Map its parts one by one with --start and --stop."
        )
    if pipeline.model.random_weights:
        notes.insert(0, f"{pipeline.model.weights}.")
    rows = [row for row in record.windows if largest is not None and row.submap == largest.submap]
    scale = rows[-1].scale if rows else pipeline.scale
    if largest is None:
        notes.append(_why_no_map(pipeline, record))
    elif scale.state is not ScaleState.METRIC:
        notes.append(f"Lengths are not metres: the scale is {scale.state.value} ({scale.reason}).")
    # A window names the observers that said something then; the last window may have heard none.
    observers = sorted({name for row in rows for name in row.scale.observers})
    corrected = sentences(pipeline.corrections, pipeline.config.calibration, pipeline.config.intake)
    notes += corrected
    seams = [row.seam for row in record.windows if row.seam is not None]
    accepted = [seam.residual for seam in seams if seam.accepted]
    posed = sum(len(t.stamps_ns) for t in trajectories)
    first, last = min(record.frame_stamps), max(record.frame_stamps)
    return {
        "input": {"name": source.path.name or str(source.path), "kind": source.kind, "first_stamp_ns": first,
                  "last_stamp_ns": last, "span_s": (last - first) / 1e9},
        "model": {"name": pipeline.config.model.name, "weights": pipeline.model.weights,
                  "random_weights": pipeline.model.random_weights, "window_limit": pipeline.window_size},
        "command": command_line(),
        "interrupted": interrupted,
        "counts": {
            "frames": stats.frames, "keyframes": stats.keyframes, "rejected": rejected, "windows": stats.windows,
            "failed_windows": stats.failed_windows, "thinned": pipeline.thinned, "maps": len(trajectories),
            "keyframes_posed": posed, "keyframes_largest": len(largest.stamps_ns) if largest is not None else 0,
            "poses": len(record.poses), "pose_jumps": pipeline.pose_jumps, "scans": record.scans,
            "imu_samples": record.imu_samples,
            "companion_images": record.companion_images, "companions": stats.companions,
            "skipped": {**source.bad, **record.bad_samples},
        },
        "coverage": coverage(largest, record.frame_stamps),
        "scale": {"state": scale.state.value, "value": scale.value, "sigma": scale.sigma,
                  "observers": observers, "rejected": list(scale.rejected), "reason": scale.reason},
        "calibration": {"refine": pipeline.config.calibration.refine, "told": corrected,
                        "sensors": [as_data(state) for state in pipeline.corrections]},
        "seams": {"count": len(seams), "accepted": len(accepted),
                  "median_residual": float(np.median(accepted)) if accepted else None,
                  "max_residual": float(np.max(accepted)) if accepted else None},
        "timing": {"mapping_s": times.mapping_s, "cpu_s": times.cpu_s,
                   "keyframes_per_s": stats.keyframes / max(times.mapping_s, 1e-9),
                   "frames_per_s": stats.frames / max(times.mapping_s, 1e-9),
                   "window_mean_s": stats.window_time_mean_s, "window_p95_s": stats.window_time_p95_s},
        "notes": notes,
        "windows": [row.as_dict() for row in record.windows],
        "machine": machine(),
        "versions": versions(),
        "config": flatten(pipeline.config),
    }  # fmt: skip
