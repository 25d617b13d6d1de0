"""Recorded sequences: `spatial-fm map` in a process of its own, compared with the ground truth afterwards."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import limited_environment, run_limited
from benchmarks.results import ROOT, Result
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.evaluation.scoreboard import Score, print_scores
from spatial_fm_ros.evaluation.trajectory import evaluate_trajectory
from spatial_fm_ros.evaluation.tum import StampedPoses, read_tum

TIMEOUT_S = 3600.0
#: Frames of a recording that are mapped to try the benchmark itself, seconds.
SHORT_S = 3.0


@dataclass(frozen=True)
class Recording:
    """A recording, how it is mapped, and what it must reach: ATE in metres, or relative to the diameter of an
    `orbit`; share of the sequence in one map."""

    sequence: str
    words: str
    ate_floor: float
    ate_aim: float
    share_floor: float
    share_aim: float
    options: tuple[str, ...] = ()
    orbit: bool = False


RECORDINGS = {
    "kitchen": Recording("kitchen", "500 frames, K, images alone", 0.06, 0.035, 0.95, 1.0),
    "kitchen_no_K": Recording(
        "kitchen", "without K, focal estimated", 0.08, 0.04, 0.90, 0.90, ("--intrinsics", "none")
    ),
    "fox": Recording(
        "fox", "orbit, distortion, portrait; every photo", 0.03, 0.01, 0.80, 1.0,
        ("--set", "intake.disparity_px=0"), orbit=True,
    ),
}  # fmt: skip


def data_folder() -> Path:
    """Where the sequences are. Raises InputError when they are nowhere."""
    for place in (os.environ.get("SPATIAL_FM_DATA"), ROOT.parent / "shared" / "data"):
        if place and Path(place).is_dir():
            return Path(place)
    raise InputError("No sequences found: set SPATIAL_FM_DATA, or put them into ../shared/data beside the checkout.")


def measure(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """Map one recording and take its figures. `short`: its first seconds, to try the benchmark itself."""
    recording = RECORDINGS[name]
    result = Result(name, f"`{recording.sequence}`, recorded, {recording.words}", f"make bench-{name}")
    sequence, folder = data_folder() / recording.sequence, out / "map"
    command = [sys.executable, "-m", "spatial_fm_ros.cli", "map", str(sequence), "-o", str(folder), "--overwrite"]
    command += ["--set", f"model.threads={cores}", *recording.options]
    command += [word for text in settings for word in ("--set", text)]
    command += ["--stop", str(SHORT_S)] if short else []
    code = run_limited(command, cores, limited_environment(cores), TIMEOUT_S)
    if code != 0:
        result.problem = f"exit code {code}, see the output"
        return result
    result.scores = judged(recording, read_tum(sequence / "poses.txt"), folder)
    print_scores(result.scores, result.title)
    return result


def judged(recording: Recording, truth: StampedPoses, folder: Path) -> list[Score]:
    """Figures of a finished run. Raises InputError when its poses cannot be compared with the truth."""
    report = json.loads((folder / "report.json").read_text())
    counts, timing = report["counts"], report["timing"]
    errors = evaluate_trajectory(read_tum(folder / "trajectory.tum"), truth)
    ate = errors.sim3.ate.rmse
    floor, aim = 100 * recording.share_floor, 100 * recording.share_aim
    if recording.orbit:
        positions = truth.positions
        diameter = float(np.linalg.norm(positions[:, None] - positions[None], axis=-1).max())
        share = 100 * errors.matched / len(truth)
        bounded = [
            Score("ATE RMSE after Sim(3) over the orbit's diameter", 100 * ate / diameter, "%",
                  100 * recording.ate_floor, 100 * recording.ate_aim),
            Score("share posed in one map", share, "%", floor, aim, True, note=f"{errors.matched} of {len(truth)}"),
        ]  # fmt: skip
    else:
        note = f"over {errors.matched} keyframes"
        bounded = [
            Score("ATE RMSE after Sim(3)", ate, "m", recording.ate_floor, recording.ate_aim, note=note),
            Score("share of the sequence in one map", 100 * report["coverage"], "%", floor, aim, True),
        ]
    return [*bounded, Score("rotation error, RMSE", errors.sim3.ate_rotation_deg.rmse, "deg"), *_told(counts, timing)]


def _told(counts: dict[str, Any], timing: dict[str, Any]) -> list[Score]:
    rejected = ", ".join(f"{reason} {count}" for reason, count in counts["rejected"].items())
    return [
        Score("keyframes", counts["keyframes"], note=f"of {counts['frames']} images; rejected: {rejected or 'none'}"),
        Score("maps", counts["maps"], note=f"{counts['keyframes_largest']} keyframes in the largest"),
        Score("keyframes/s", timing["keyframes_per_s"], "1/s", note="reading of files included"),
        Score("time of a window, mean", timing["window_mean_s"], "s"),
        Score("CPU time", timing["cpu_s"], "s", note=f"{timing['mapping_s']:.0f} s of wall time"),
    ]
