"""A run against its truth in one table: each figure with the floor it must reach and the aim beyond it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from spatial_fm_ros.core.io.writing import write_text
from spatial_fm_ros.core.types import Array
from spatial_fm_ros.evaluation.depth import DepthPair, evaluate_depth
from spatial_fm_ros.evaluation.trajectory import TrajectoryErrors

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


def map_scores(points_in_truth: Array, distance_m: Array, visible: Array) -> list[Score]:
    """A map in the truth's frame [N, 3]: its exact distances to the true surfaces [N], and how much of the
    surface points that the camera saw [M, 3] it covers. Metres."""
    within = f"within {100 * MAP_THRESHOLD_M:g} cm"
    gap, _ = cKDTree(points_in_truth).query(visible, distance_upper_bound=1.0)
    return [
        Score("map accuracy, median", 100 * float(np.median(distance_m)), "cm"),
        Score("map accuracy, mean", 100 * float(np.mean(distance_m)), "cm"),
        Score("map precision", 100 * float(np.mean(distance_m < MAP_THRESHOLD_M)), "%", note=within),
        Score("map completeness", 100 * float(np.mean(gap < MAP_THRESHOLD_M)), "%", note=within),
    ]


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


def score_rows(scores: Sequence[Score]) -> list[tuple[str, str]]:
    """Name and sentence of each figure, for a report."""
    rows = []
    for score in scores:
        words = [_with_unit(score.value, score.unit)]
        if score.floor is not None:
            reached = "reached" if score.passed else "MISSED"
            words.append(f"at least {_with_unit(score.floor, score.unit)}: {reached}")
        if score.aim is not None:
            reached = "reached" if score.verdict == "aim" else "not yet"
            words.append(f"aim {_with_unit(score.aim, score.unit)}: {reached}")
        rows.append((score.name, "; ".join([*words, score.note] if score.note else words)))
    return rows


def write_scores(scores: Sequence[Score], path: Path) -> None:
    """The same as JSON, with the verdict of each; null for a value that is none. Raises OutputError."""
    rows = [
        {**asdict(score), "value": score.value if np.isfinite(score.value) else None, "passed": score.passed,
         "verdict": score.verdict}
        for score in scores
    ]  # fmt: skip
    content = json.dumps({"passed": all(s.passed for s in scores), "scores": rows}, indent=1)
    write_text(path, content + "\n", "scoreboard")


def _with_unit(value: float, unit: str) -> str:
    if not np.isfinite(value):
        return "unknown"
    digits = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}".strip()
