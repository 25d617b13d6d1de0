"""What the observers of metres cost: a drive with a 64-beam LiDAR, IMU and odometry, every `observe` timed."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.results import hand_over, leave
from spatial_fm_ros.core.config_files import load_config
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation, ScaleObserver
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import LidarScan
from spatial_fm_ros.evaluation.scoreboard import Score
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

BEAMS, COLUMNS = 64, 1800


def timed(observer: ScaleObserver, times: dict[str, list[float]]) -> Callable[[PlacedWindow], ScaleObservation | None]:
    """`observer.observe` that notes how long it took, of windows of 8 only."""
    observe = observer.observe

    def watched(window: PlacedWindow) -> ScaleObservation | None:
        started = time.perf_counter()
        seen = observe(window)
        if len(window.keyframes) == 8:
            times[observer.name].append(time.perf_counter() - started)
        return seen

    return watched


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, help="JSON file to write")
    parser.add_argument("--seconds", type=float, default=20.0, help="simulated seconds")
    given = parser.parse_args()
    scenario = get_scenario("room_drive", duration_s=given.seconds, camera_hz=4.0, detail=0.25)
    scenario = dataclasses.replace(
        scenario, lidar_model=dataclasses.replace(scenario.lidar_model, rings=BEAMS, columns=COLUMNS)
    )
    simulator = Simulator(scenario)
    values = {"model.oracle.noise": "0.05", "model.oracle.outliers": "0.1", "scale.camera_height_m": "0.55"}
    config = load_config(overrides={"model.name": "oracle", "intake.max_interval_s": "0.5", **values})
    pipeline = Pipeline(config, OracleModel(config.model, simulator.truth))
    times: dict[str, list[float]] = defaultdict(list)
    for observer in pipeline.observers.scale:
        observer.observe = timed(observer, times)  # type: ignore[method-assign]
    pipeline.load()
    pipeline.set_rig(simulator.rig)
    points = 0
    for sample in simulator:
        pipeline.add(sample)
        if pipeline.ready():
            pipeline.step()
        if isinstance(sample, LidarScan):
            points = len(sample.points)
    together = np.sum(list(times.values()), axis=0)
    note = f"{len(together)} windows, {points} points a scan"
    scores = [Score("all observers, median of a window", float(np.median(together)), "s", 0.5, 0.2, note=note)]
    scores += [Score(f"{name}, median", float(np.median(each)), "s") for name, each in times.items()]
    hand_over(scores, "cost of the observers", given.figures)
    return 0


if __name__ == "__main__":
    leave(main)
