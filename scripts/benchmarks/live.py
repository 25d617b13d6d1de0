"""The live node in the demo, as `make demo` runs it, on a given number of cores: latency, drops, quality."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.processes import require_ros, ros_environment, run_limited
from benchmarks.results import Result, scores_from

TIMEOUT_S = 900.0
SHORT_S = 12.0


def measure(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """Run the demo. `short`: its first seconds, to try the benchmark itself. `settings` are launch arguments."""
    require_ros()
    result = Result(name, "the live node in the demo", f"make bench-{name}")
    scores = out / "scores.json"
    scores.unlink(missing_ok=True)
    command = ["ros2", "launch", "spatial_fm_ros", "demo.launch.py", f"output:={out}"]
    command += ["scenario:=room_patrol", f"duration_s:={SHORT_S}"] if short else []
    command += [text.replace("=", ":=", 1) for text in settings]
    code = run_limited(command, cores, ros_environment(cores), TIMEOUT_S)
    if not scores.is_file():
        result.problem = f"exit code {code} without scores, see the output"
        return result
    result.scores = scores_from(json.loads(scores.read_text())["scores"])
    return result
