"""The whole pipeline over simulated drives with odometry, against the exact truth, without ROS.

Run as a module it is the measured program: it renders a drive, then maps it and counts only the time inside
the pipeline.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import limited_environment, module, run_limited
from benchmarks.results import Result, hand_over, leave, scores_from
from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.config_files import load_config
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Frame, PoseSample, Sample, Update
from spatial_fm_ros.evaluation.scoreboard import Score
from spatial_fm_ros.evaluation.simulated import PublishedDepth, score_against, spread
from spatial_fm_ros.evaluation.tum import StampedPoses
from spatial_fm_ros.simulation.scenario import Scenario, get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

#: Published depth images that are compared with the truth.
DEPTH_IMAGES = 40
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Drive:
    """A scenario, how long it lasts and how many images a second are taken of it."""

    scenario: str
    duration_s: float
    camera_hz: float
    required: bool = False


DRIVES = {
    drive.scenario: drive
    for drive in (
        Drive("room_drive", 40.0, 10.0, required=True),  # the demo's world
        Drive("room_oval", 40.0, 10.0),
        Drive("corridor_loop", 90.0, 5.0),
        Drive("hall_drive", 90.0, 5.0),
        Drive("street_drive", 45.0, 10.0),
    )
}


def measure(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """Drive `name` in a limited process of its own. `short`: its beginning, to try the benchmark itself."""
    drive = DRIVES[name]
    seconds = drive.duration_s / 8 if short else drive.duration_s
    title = f"`{name}`, simulated, {seconds:g} s at {drive.camera_hz:g} images/s, with odometry"
    result = Result(name, title, f"make bench-{name}", required=drive.required)
    figures = out / "figures.json"
    figures.unlink(missing_ok=True)
    command = module("simulated", name, figures, "--first", seconds, "--cores", cores)
    command += [word for text in settings for word in ("--set", text)]
    code = run_limited(command, cores, limited_environment(cores), TIMEOUT_S)
    if not figures.is_file():
        result.problem = f"exit code {code}, see the output"
        return result
    result.scores = scores_from(json.loads(figures.read_text())["scores"])
    return result


@dataclass
class Timed:
    """What a mapped drive gave, and the time spent inside the pipeline."""

    pipeline: Pipeline
    depth: list[PublishedDepth]
    busy_s: float
    cpu_s: float


def rendered(simulator: Simulator, first_s: float, threads: int) -> list[Sample]:
    """The samples of the first seconds, made before any time is taken: rendering must not share the cores with
    the pipeline."""
    end_ns = simulator.scenario.start_ns + round(first_s * 1e9)
    total = sum(stamp <= end_ns for stamp in simulator.frame_stamps_ns)
    samples: list[Sample] = []
    done, told = 0, time.monotonic()
    for event in simulator.events(threads, ahead=4 * threads):
        if event.arrival_ns > end_ns:
            break
        samples.append(event.sample)
        done += isinstance(event.sample, Frame)
        if time.monotonic() - told > 5.0:
            told = time.monotonic()
            print(f"   rendered {done} of {total} images", flush=True)
    return samples


def mapped(samples: list[Sample], simulator: Simulator, config: Config) -> Timed:
    """Maps the samples; only `add_frame` (offer and step) and `finish` are timed."""
    pipeline = Pipeline(config)
    pipeline.load()
    pipeline.set_rig(simulator.rig)
    run = Timed(pipeline, [], 0.0, 0.0)

    def timed(work: object, *arguments: Frame) -> Update | None:
        wall, cpu = time.perf_counter(), time.process_time()
        update: Update | None = work(*arguments)  # type: ignore[operator]
        run.busy_s += time.perf_counter() - wall
        run.cpu_s += time.process_time() - cpu
        if update is not None:
            run.depth += [PublishedDepth(k.stamp_ns, k.camera, k.depth, k.confidence) for k in update.keyframes]
        return update

    told = time.monotonic()
    for sample in samples:
        if isinstance(sample, Frame):
            timed(pipeline.add_frame, sample)
        elif isinstance(sample, PoseSample):
            pipeline.add_pose(sample)
        if time.monotonic() - told > 5.0:
            told = time.monotonic()
            stats = pipeline.stats
            print(f"   {stats.frames} images, {stats.keyframes} keyframes, {stats.windows} windows", flush=True)
    while timed(pipeline.finish) is not None:
        pass
    return run


def judged(run: Timed, simulator: Simulator, cores: int) -> list[Score]:
    """All figures of a mapped drive. Raises InputError when nothing was mapped."""
    pipeline, stats = run.pipeline, run.pipeline.stats
    maps = pipeline.trajectories()
    if not maps:
        raise InputError(f"Nothing was mapped: {stats.keyframes} keyframes, {stats.failed_windows} failed windows.")
    largest = max(maps, key=lambda each: len(each.stamps_ns))
    estimate = StampedPoses(largest.stamps_ns, largest.world_from_camera, "the largest map")
    depth = spread(run.depth, DEPTH_IMAGES)
    _, scores, _ = score_against(simulator.truth, estimate, depth, pipeline.map_cloud(largest.submap))
    width, height = simulator.scenario.width, simulator.scenario.height
    where = f"whole pipeline, {width}x{height}, {cores} cores"
    return [
        *scores,
        Score("keyframes/s", stats.keyframes / run.busy_s, "1/s", 1.5, 4.0, True, note=where),
        Score("keyframes per CPU second", stats.keyframes / run.cpu_s, "1/s"),
        Score("keyframes", float(stats.keyframes), note=f"of {stats.frames} images"),
        Score("keyframes in the largest map", 100 * len(largest.stamps_ns) / stats.keyframes, "%",
              note=f"{len(maps)} map(s), scale {pipeline.scale.state.value}"),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=sorted(DRIVES))
    parser.add_argument("figures", type=Path, help="JSON file to write")
    parser.add_argument("--first", type=float, required=True, help="simulated seconds to map")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="parameter of the pipeline")
    given = parser.parse_args()
    drive = DRIVES[given.scenario]
    scenario: Scenario = get_scenario(
        drive.scenario, duration_s=drive.duration_s, camera_hz=drive.camera_hz, lidar_hz=0.0, imu_hz=0.0
    )
    simulator = Simulator(scenario)
    overrides = {"model.threads": str(given.cores), **dict(text.split("=", 1) for text in given.set)}
    config = load_config(overrides=overrides)
    run = mapped(rendered(simulator, given.first, given.cores), simulator, config)
    scores = judged(run, simulator, given.cores)
    hand_over(scores, f"{drive.scenario}, {given.first:g} s", given.figures)
    return 0


if __name__ == "__main__":
    leave(main)
