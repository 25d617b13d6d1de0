"""A process's memory over a long run: how much it grows once everything has its full size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import theilslopes

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.evaluation.scoreboard import Score

#: Of the run, before memory counts.
WARM_UP_SHARE = 0.1
MB = 1e6


@dataclass
class Sample:
    """One look at process and map. Memory in MB: all that is resident, and of it the heap, which is no file's."""

    simulated_s: float
    rss_mb: float
    heap_mb: float
    windows: int
    map_points: int


def growth_mb(samples: Sequence[Sample], values: Sequence[float]) -> float:
    """What a robust line through the values rises from the end of the warm-up to the last sample.

    Theil-Sen: the median of the slopes between all pairs of samples. NaN with fewer than three samples.
    """
    times = np.array([sample.simulated_s for sample in samples])
    after = times >= WARM_UP_SHARE * times[-1] if len(times) else np.zeros(0, bool)
    if after.sum() < 3:
        return float("nan")
    slope = theilslopes(np.asarray(values)[after], times[after])[0]
    return float(slope * np.ptp(times[after]))


def memory_scores(samples: Sequence[Sample]) -> list[Score]:
    """Raises InputError when the run was too short for any figure."""
    if len(samples) < 4:
        raise InputError(f"Only {len(samples)} samples of the memory were taken; the run was too short.")
    last = samples[-1]
    rss = [sample.rss_mb for sample in samples]
    heap = [sample.heap_mb for sample in samples]
    settled = next(s for s in samples if s.simulated_s >= WARM_UP_SHARE * last.simulated_s)
    minutes = last.simulated_s / 60
    return [
        Score(f"RSS growth over {minutes:.0f} simulated minutes", growth_mb(samples, rss), "MB", 100.0, 30.0,
              note="robust line after the first tenth"),
        Score("growth of the heap", growth_mb(samples, heap), "MB", note="without libraries and shared memory"),
        Score("RSS after the warm-up", settled.rss_mb, "MB", note=f"map of {settled.map_points} points"),
        Score("RSS at the end", last.rss_mb, "MB", note=f"map of {last.map_points} points"),
        Score("RSS at most", max(rss), "MB"),
    ]  # fmt: skip


def draw(samples: Sequence[Sample], path: Path) -> None:
    """Memory over simulated time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    minutes = [sample.simulated_s / 60 for sample in samples]
    axes.plot(minutes, [sample.rss_mb for sample in samples], label="resident")
    axes.plot(minutes, [sample.heap_mb for sample in samples], label="heap")
    axes.axvline(WARM_UP_SHARE * minutes[-1], color="grey", linestyle=":", label="end of warm-up")
    axes.set(xlabel="simulated minutes", ylabel="memory of reconstruct [MB]")
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
