"""Every benchmark by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import bridge, hybrid, live, metric, models, nano, recorded, road, simulated, soak
from benchmarks.results import Result
from spatial_fm_ros.core.errors import InputError

#: (name, output folder, cores, short, settings) -> result
Measure = Callable[[str, Path, int, bool, list[str]], Result]

CASES: dict[str, Measure] = {
    **dict.fromkeys(recorded.RECORDINGS, recorded.measure),
    **dict.fromkeys(simulated.DRIVES, simulated.measure),
    "live": live.measure,
    "bridge": bridge.measure,
    **dict.fromkeys(models.NETWORKS, models.measure),
    "vggt-gpu": models.measure_gpu,
    "nano": nano.measure,
    "hybrid": hybrid.measure,
    **dict.fromkeys(metric.GROUPS, metric.measure),
    "metric_cost": metric.measure_cost,
    "metric_road": road.measure,
    "soak": soak.measure,
}
#: Names for several cases. `default` is what runs when none is named: all but the long soak.
GROUPS: dict[str, tuple[str, ...]] = {
    "recorded": tuple(recorded.RECORDINGS),
    "simulated": tuple(simulated.DRIVES),
    "metric": (*metric.GROUPS, "metric_cost", "metric_road"),
    "models": (*models.NETWORKS, "vggt-gpu"),
    "default": tuple(name for name in CASES if name != "soak"),
    "all": tuple(CASES),
}


def chosen(names: Sequence[str]) -> list[str]:
    """The cases that the names mean, in the order of CASES. Raises InputError for an unknown name."""
    wanted: set[str] = set()
    for name in names or ("default",):
        if name not in CASES and name not in GROUPS:
            raise InputError(f"Unknown benchmark '{name}'; expected some of {', '.join([*CASES, *GROUPS])}.")
        wanted.update(GROUPS.get(name, (name,)))
    return [name for name in CASES if name in wanted]
