"""The result of one benchmark: figures with their bounds, and under which conditions they were measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

import psutil

from spatial_fm_ros.core.errors import InputError, SpatialFMError
from spatial_fm_ros.evaluation.scoreboard import Score, print_scores
from spatial_fm_ros.offline.report import machine, versions, write_json

ROOT = Path(__file__).resolve().parents[2]
CONDITIONS = {"when", "machine", "cores_used", "busy_cores", "versions", "commit"}


@dataclass
class Result:
    """One case. `required`: its bounds are those the package has to keep; otherwise they are told for comparison.

    `problem` says why there are no figures. `command` repeats the measurement.
    """

    name: str
    title: str
    command: str
    required: bool = True
    scores: list[Score] = field(default_factory=list)
    problem: str = ""
    wall_s: float = 0.0
    conditions: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.required or (not self.problem and all(score.passed for score in self.scores))


def conditions(cores: int) -> dict[str, Any]:
    """Machine, versions, commit, and how many cores other programs keep busy just now (looked at for two seconds).

    `cores`: how many the measured program may use.
    """
    return {
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
        "machine": machine(),
        "cores_used": cores,
        "busy_cores": psutil.cpu_percent(interval=2.0) / 100 * (os.cpu_count() or 1),
        "versions": versions(),
        "commit": _commit(),
    }


def write_result(result: Result, folder: Path) -> None:
    """Into folder/result.json. Raises OutputError."""
    content = asdict(result)
    content["scores"] = [{**asdict(s), "passed": s.passed, "verdict": s.verdict} for s in result.scores]
    write_json(folder / "result.json", content)


def read_results(output: Path, names: Sequence[str]) -> list[Result]:
    """What was measured so far, in the order of `names`; cases without a result are left out. Raises InputError."""
    found = []
    for name in names:
        path = output / name / "result.json"
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text())
            if older := CONDITIONS - content["conditions"].keys():
                raise KeyError(", ".join(sorted(older)))
            content["scores"] = scores_from(content["scores"])
            found.append(Result(**content))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no result of this version ({error}); remove it and measure again.") from error
    return found


def scores_from(rows: Sequence[dict[str, Any]]) -> list[Score]:
    """Scores as JSON keeps them; null is a figure that could not be computed."""
    known = {f.name for f in fields(Score)}
    scores = []
    for row in rows:
        values = {key: value for key, value in row.items() if key in known}
        if values["value"] is None:
            values["value"] = float("nan")
        scores.append(Score(**values))
    return scores


def hand_over(scores: Sequence[Score], title: str, figures: Path | None, **more: Any) -> None:
    """What a measured program ends with: print its figures, and leave them in a file for who started it."""
    print_scores(scores, title)
    if figures is not None:
        write_json(figures, {"scores": [asdict(score) for score in scores], **more})


def leave(main: Callable[[], int]) -> NoReturn:
    """Run a measured program and end with its exit code; an error of this package is a sentence and code 2."""
    try:
        sys.exit(main())
    except SpatialFMError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _commit() -> str:
    """Short commit, with a + when sources were changed since; empty outside a git checkout."""

    def git(*words: str) -> str:
        run = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
        return run.stdout.strip() if run.returncode == 0 else ""

    try:
        changed = git("status", "--porcelain", "--", "spatial_fm_ros", "scripts", "launch", "config")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except OSError:  # no git here
        return ""
