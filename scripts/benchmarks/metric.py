"""Metric scale over many seeds: errors of the scale, its states, its stated deviation, and what observers cost.

Run as a module it is the measured program: it drives one case with all its seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.metric_run import Case, Outcome, run
from benchmarks.processes import limited_environment, module, run_limited
from benchmarks.results import Result, hand_over, leave, scores_from
from spatial_fm_ros.evaluation.scoreboard import Score
from spatial_fm_ros.simulation.faults import FaultPlan

SEEDS = 20
TIMEOUT_S = 5400.0
#: What is wrong in the case of many faults: mounts, clocks, lost scans.
WRONG = FaultPlan(
    streams=("points",), drop=0.2, extrinsic_error_deg=1.0, extrinsic_error_m=0.02, points_offset_s=0.02
)


@dataclass(frozen=True)
class Group:
    """Cases that are judged together. scale: floor and aim of the scale error, %; ratio: of SE(3) over Sim(3) ATE;
    unobservable: no window beyond the third may be anything else; honest: the stated deviation is judged."""

    title: str
    cases: tuple[Case, ...]
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] | None = None
    metric_states: bool = False
    unobservable: bool = False
    honest: bool = False
    seeds: int = SEEDS
    jump: bool = False


GROUPS = {
    "metric_drive": Group(
        "drive and handheld, oracle with 5 % noise and 10 % outliers, odometry with 1 % drift",
        (Case("room_drive", "drive"), Case("room_handheld", "handheld")),
        scale=(1.0, 0.5), ratio=(1.2, 1.05),
    ),
    "metric_tunnel": Group(
        "straight tunnel, poses only", (Case("tunnel_straight", "tunnel"),), scale=(2.0, 1.0)
    ),
    "metric_still_lidar": Group(
        "standing still and pure rotation, LiDAR depth only",
        (
            Case("room_still", "still", 20.0, odometry=False, lidar=True),
            Case("room_rotation", "rotation", 20.0, odometry=False, lidar=True),
        ),
        scale=(3.0, 1.5), metric_states=True,
    ),
    "metric_still": Group(
        "standing still, odometry, no LiDAR", (Case("room_still", "still", 20.0),), unobservable=True
    ),
    "metric_faults": Group(
        "mounts wrong by 1 deg and 2 cm, LiDAR 20 ms late, 20 % of scans lost, odometry jumps by 1 m",
        (Case("room_drive", "faults", lidar=True, faults=WRONG, jump_m=1.0),),
        scale=(3.0, 2.0), jump=True,
    ),
    "metric_geometric": Group(
        "geometric model, drive and handheld, odometry with 1 % drift",
        (
            Case("room_drive", "drive", 30.0, 5.0, 640, 1.0, "geometric", settings=("intake.max_interval_s=2.0",)),
            Case("room_handheld", "hand", 30.0, 5.0, 640, 1.0, "geometric", settings=("intake.max_interval_s=2.0",)),
        ),
        scale=(2.0, 1.0),
    ),
    "metric_stereo": Group(
        "stereo camera of 12 cm whose mount is known to 0.02 deg, geometric model, no other sensor",
        tuple(
            Case(
                scenario, title, seconds, rate, 640, 1.0, "geometric", odometry=False, baseline_m=0.12,
                settings=(f"intake.max_interval_s={interval}", "scale.baseline_turn_sigma_deg=0.02"),
            )
            for scenario, title, seconds, rate, interval in (
                ("room_still", "standing", 10.0, 1.0, 1.0), ("room_drive", "driving", 15.0, 5.0, 2.0)
            )
        ),
        scale=(2.0, 1.0), metric_states=True,
    ),
    "metric_honest": Group(
        "robots whose wheels and mounts are as wrong as the configuration says",
        (
            Case("room_drive", "wheels", 10.0, population=True),
            Case("room_drive", "LiDAR", 10.0, odometry=False, lidar=True, population=True),
            Case("room_drive", "wheels and LiDAR", 10.0, lidar=True, population=True),
            # Cameras as far off as a network's: without that, a baseline would be seen exactly.
            Case("room_drive", "stereo", 10.0, odometry=False, baseline_m=0.12, population=True,
                 settings=("model.oracle.pose_noise=0.002",)),
        ),
        # An error that lasts is one draw a run, however many windows it has: many short runs.
        honest=True, seeds=100,
    ),
}  # fmt: skip


def measure(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """All seeds of a group in a limited process of its own. `short`: two seeds, to try the benchmark itself."""
    group = GROUPS[name]
    seeds = 2 if short else group.seeds
    result = Result(name, f"metric scale, {seeds} seeds: {group.title}", f"make bench-{name}")
    figures = out / "figures.json"
    figures.unlink(missing_ok=True)
    command = module("metric", name, figures, "--seeds", seeds, "--cores", cores)
    command += [word for text in settings for word in ("--set", text)]
    code = run_limited(command, cores, limited_environment(1) | {"OMP_WAIT_POLICY": "PASSIVE"}, TIMEOUT_S)
    if not figures.is_file():
        result.problem = f"exit code {code}, see the output"
        return result
    result.scores = scores_from(json.loads(figures.read_text())["scores"])
    return result


def measure_cost(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """Time of all observers on windows of 8 keyframes at 640x480 with a 64-beam scan each."""
    result = Result(name, "all observers of metres, windows of 8 keyframes, 64-beam scans", f"make bench-{name}")
    figures = out / "figures.json"
    figures.unlink(missing_ok=True)
    command = module("metric_cost", figures, "--seconds", 6 if short else 20)
    code = run_limited(command, cores, limited_environment(cores) | {"OMP_WAIT_POLICY": "PASSIVE"}, TIMEOUT_S)
    if not figures.is_file():
        result.problem = f"exit code {code}, see the output"
        return result
    result.scores = scores_from(json.loads(figures.read_text())["scores"])
    return result


def judged(group: Group, case: Case, outcomes: Sequence[Outcome]) -> list[Score]:
    """Figures of one case over its seeds: the median, and what 95 % of the seeds stay below."""
    name = case.title
    scores: list[Score] = []
    if group.scale is not None:
        error = 100.0 * np.array([o.scale_error for o in outcomes])
        floor, aim = group.scale
        scores.append(Score(f"{name}: scale error, median", float(np.median(error)), "%", floor, aim))
        scores.append(Score(f"{name}: scale error, 95 % of the seeds", _p95(error), "%", floor, aim))
        depth = 100.0 * np.array([np.median(np.abs(o.depth_errors)) if o.depth_errors else np.nan for o in outcomes])
        scores.append(Score(f"{name}: error of published depth, median", float(np.median(depth)), "%"))
    if group.ratio is not None:
        ratio = np.array([o.ate_ratio for o in outcomes])
        scores.append(Score(f"{name}: SE(3) over Sim(3) ATE, median", float(np.median(ratio)), "", *group.ratio))
        scores.append(Score(f"{name}: SE(3) over Sim(3) ATE, 95 % of the seeds", _p95(ratio)))
    if case.odometry and case.scenario != "room_still":
        scores.append(Score(f"{name}: drift of odometry", 100.0 * float(np.median([o.drift for o in outcomes])), "%"))
    if group.metric_states:
        share = [np.mean([state == "metric" for state in o.states]) for o in outcomes]
        scores.append(Score(f"{name}: windows called metric", 100.0 * float(np.mean(share)), "%", 100.0, 100.0, True))
    if group.unobservable:
        wrong = sum(any(state != "unobservable" for state in o.states[2:]) for o in outcomes)
        scores.append(Score(f"{name}: seeds not unobservable from the third window on", float(wrong), "", 0.0, 0.0))
    if group.scale is not None and not group.metric_states:
        flips = sum(o.turned_over for o in outcomes)
        scores.append(Score(f"{name}: seeds whose map turned over", float(flips), "", 0.0, 0.0))
    if group.jump:
        seen = sum(o.jumps > 0 for o in outcomes)
        scores.append(Score(f"{name}: seeds whose jump was reported", float(seen), "", float(len(outcomes)),
                            float(len(outcomes)), True))  # fmt: skip
    z = np.concatenate([np.array(o.depth_errors) / np.array(o.sigmas) for o in outcomes if o.sigmas] or [np.zeros(0)])
    if len(z):
        inside = 100.0 * float((np.abs(z) < 2.0).mean())
        if group.honest:
            scores.append(Score(f"{name}: windows within 2 sigma", inside, "%", 90.0, 90.0, True))
            scores.append(Score(f"{name}: windows within 2 sigma, not more than", inside, "%", 98.0, 98.0))
        else:
            scores.append(Score(f"{name}: windows within 2 sigma", inside, "%", note="calibration without error"))
        scores.append(Score(f"{name}: stated sigma, median", 100.0 * float(np.median(np.concatenate(
            [o.sigmas for o in outcomes]))), "%"))  # fmt: skip
    return scores


def _p95(values: np.ndarray) -> float:
    return float(np.quantile(values, 0.95)) if np.isfinite(values).all() else float("nan")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=sorted(GROUPS))
    parser.add_argument("figures", type=Path, help="JSON file to write")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="parameter of the pipeline")
    given = parser.parse_args()
    group = GROUPS[given.group]
    settings = {"model.threads": "1", **dict(text.split("=", 1) for text in given.set)}
    scores: list[Score] = []
    runs: dict[str, list[dict[str, object]]] = {}
    with ProcessPoolExecutor(given.cores) as pool:
        for case in group.cases:
            jobs = [pool.submit(run, case, seed, settings) for seed in range(given.seeds)]
            outcomes = []
            for number, job in enumerate(jobs, 1):
                outcomes.append(job.result())
                print(f"   {case.title}: {number} of {given.seeds} seeds", flush=True)
            scores += judged(group, case, outcomes)
            runs[case.title] = [{**asdict(o), "scale_error": o.scale_error} for o in outcomes]
    hand_over(scores, group.title, given.figures, runs=runs)
    return 0


if __name__ == "__main__":
    leave(main)
