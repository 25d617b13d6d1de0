"""A run against its truth in one table: each figure with the floor it must reach and the aim beyond it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.types import Array, PointCloud
from spatial_fm_ros.evaluation.cloud import evaluate_cloud
from spatial_fm_ros.evaluation.depth import DepthPair, evaluate_depth
from spatial_fm_ros.evaluation.trajectory import TrajectoryErrors, evaluate_trajectory
from spatial_fm_ros.evaluation.tum import StampedPoses

#: Distance under which a map point and a surface count as the same, metres.
MAP_THRESHOLD_M = 0.05


@dataclass(frozen=True)
class Score:
    """One figure. floor and aim are None for figures that are told but not judged."""

    name: str
    value: float
    unit: str = ""
    floor: float | None = None
    aim: float | None = None
    higher_is_better: bool = False
    note: str = ""

    @property
    def passed(self) -> bool:
        """Reaches the floor; a figure that could not be computed does not."""
        return self.floor is None or self._reaches(self.floor)

    @property
    def verdict(self) -> str:
        if self.floor is None:
            return ""
        if self.aim is not None and self._reaches(self.aim):
            return "aim"
        return "floor" if self.passed else "MISSED"

    def _reaches(self, bound: float) -> bool:
        if not np.isfinite(self.value):
            return False
        return self.value >= bound if self.higher_is_better else self.value <= bound


def trajectory_scores(errors: TrajectoryErrors) -> list[Score]:
    """ATE after both alignments and the scale that the Sim(3) fit asks for."""
    path = errors.truth_path
    scale = errors.sim3.truth_from_estimate.scale
    return [
        Score("ATE RMSE after Sim(3)", errors.sim3.ate.rmse, "m"),
        Score("ATE RMSE after SE(3)", errors.se3.ate.rmse, "m"),
        Score("ATE SE(3) over path", 100 * errors.se3.ate.rmse / path, "%", 1.5, 0.5, note=f"path {path:.1f} m"),
        Score("scale error", 100 * abs(1.0 / scale - 1.0), "%", 2.0, 1.0),
    ]


def depth_scores(pairs: Sequence[DepthPair], min_confidence: float = 0.5) -> list[Score]:
    """Relative depth error on confident pixels, in metres as published, and how many those are."""
    errors = evaluate_depth(pairs, min_confidence=min_confidence)
    where = f"confidence >= {min_confidence:g}"
    return [
        Score("depth AbsRel", errors.abs_rel, "", 0.05, 0.03, note=where),
        Score("depth share", 100 * errors.share, "%", 60.0, 80.0, True, note=where),
        Score("depth delta<1.25", 100 * errors.delta_125, "%", note=where),
    ]


def map_scores(cloud: PointCloud, surface: Array, truth_from_world: Sim3) -> list[Score]:
    """Map points against points of the surfaces that the camera saw [M, 3], in metres."""
    errors = evaluate_cloud(
        cloud.points.astype(np.float64),
        surface,
        threshold=MAP_THRESHOLD_M,
        truth_from_estimate=truth_from_world,
    )
    within = f"within {100 * MAP_THRESHOLD_M:g} cm"
    return [
        Score("map accuracy, median", 100 * errors.accuracy_median, "cm"),
        Score("map accuracy, mean", 100 * errors.accuracy_mean, "cm"),
        Score("map precision", 100 * errors.precision, "%", note=within),
        Score("map completeness", 100 * errors.recall, "%", note=within),
    ]


def score_run(
    estimate: StampedPoses,
    truth: StampedPoses,
    depth: Sequence[DepthPair],
    cloud: PointCloud,
    surface: Array,
) -> tuple[TrajectoryErrors, list[Score]]:
    """All geometric figures of one run in metres. Raises InputError when the poses cannot be compared."""
    errors = evaluate_trajectory(estimate, truth)
    scores = trajectory_scores(errors)
    scores += depth_scores(depth)
    scores += map_scores(cloud, surface, errors.se3.truth_from_estimate)
    return errors, scores


def print_scores(scores: Sequence[Score], title: str) -> None:
    """A table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column, justify in (("measure", "left"), ("value", "right"), ("at least", "right"), ("aim", "right")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    table.add_column("reached")
    table.add_column("note")
    for score in scores:
        style = "red" if not score.passed else None
        bound = [_with_unit(b, score.unit) if b is not None else "" for b in (score.floor, score.aim)]
        table.add_row(score.name, _with_unit(score.value, score.unit), *bound, score.verdict, score.note, style=style)
    Console(width=110).print(table)


def write_scores(scores: Sequence[Score], path: Path) -> None:
    """The same as JSON, with the verdict of each."""
    rows = [{**asdict(score), "passed": score.passed, "verdict": score.verdict} for score in scores]
    path.write_text(json.dumps({"passed": all(s.passed for s in scores), "scores": rows}, indent=1) + "\n")


def _with_unit(value: float, unit: str) -> str:
    if not np.isfinite(value):
        return "unknown"
    digits = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}".strip()
