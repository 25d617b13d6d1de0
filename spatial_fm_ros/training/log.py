"""What a run tells: one JSON object a line, and a plot of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from spatial_fm_ros.core.errors import InputError, OutputError

NAME = "log.jsonl"


class Log:
    """Appends to run/log.jsonl; lines written by an earlier part of the run stay."""

    def __init__(self, run: Path) -> None:
        self._path = run / NAME

    def write(self, event: str, **values: Any) -> None:
        """One line: the event, when, and its values. Raises OutputError."""
        line = json.dumps({"event": event, "time": round(time.time(), 1), **values})
        try:
            with self._path.open("a") as file:
                file.write(line + "\n")
        except OSError as error:
            raise OutputError(f"The log {self._path} cannot be written: {error.strerror}.") from error


def read(run: Path) -> list[dict[str, Any]]:
    """All lines of a run's log. Raises InputError where there is none."""
    path = run / NAME
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no log of a training run ({error}).") from error


def series(lines: list[dict[str, Any]], event: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one number over a run; where a step was repeated after a resume, the later line counts."""
    found = {line["step"]: line[name] for line in lines if line["event"] == event and name in line}
    steps = np.array(sorted(found))
    return steps, np.array([found[step] for step in steps], dtype=float)


def plot(run: Path, path: Path) -> None:
    """Losses, what the checks on unseen scenes gave, learning rate and speed, as one PNG. Needs matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise InputError("The plot needs matplotlib, which training does not; install it or plot elsewhere.") from error
    lines = read(run)
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), layout="constrained")
    for name in ("total", "camera", "depth", "point", "match"):
        axes[0, 0].plot(*series(lines, "step", name), label=name, linewidth=1)
    axes[0, 0].set(title="training losses", xlabel="step")
    axes[0, 0].set_yscale("symlog", linthresh=0.1)
    for name, unit in (("rotation", "deg"), ("direction", "deg"), ("absrel", "share")):
        axis = axes[0, 1] if unit == "deg" else axes[1, 0]
        axis.plot(*series(lines, "check", f"check_{name}"), "o-", markersize=3, label=f"{name}, {unit}")
    axes[0, 1].set(title="unseen scenes: neighbouring views, medians", xlabel="step", yscale="log")
    axes[1, 0].plot(
        *series(lines, "check", "check_following"), "o-", markersize=3, label="turns: correlation with truth"
    )
    axes[1, 0].set(title="unseen scenes: depth after one scale (median), turns", xlabel="step")
    axes[1, 1].plot(*series(lines, "step", "views_per_s"), label="views/s", linewidth=1)
    axes[1, 1].set(title="speed", xlabel="step")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.legend()
    try:
        figure.savefig(path, dpi=100)
    except OSError as error:
        raise OutputError(f"The plot cannot be written to {path}: {error.strerror}.") from error
    finally:
        pyplot.close(figure)
