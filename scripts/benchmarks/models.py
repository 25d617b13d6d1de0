"""Foundation models: time and memory of one pass against what the public code computes, and what low precision costs.

Every pass runs in a process of its own (model_run.py), the variants in turn, so that what else the machine does
falls on all of them; medians over the rounds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.model_run import GB, VARIANTS, accounted_bytes
from benchmarks.processes import limited_environment, module, run_limited
from benchmarks.results import Result
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Array
from spatial_fm_ros.evaluation.scoreboard import Score

ROUNDS = 3
TIMEOUT_S = 1800.0
#: Random last layers give nearly one depth; log depths are stretched to this spread before errors are taken.
LOG_DEPTH_SPREAD = 0.5


@dataclass(frozen=True)
class Network:
    """A network with its window and its bounds (floor, aim): times as shares, memory in GB."""

    title: str
    views: int
    size: tuple[int, int]  # width, height
    room_gb: float  # memory the largest variant needs
    time: tuple[float, float]
    memory: tuple[float, float] | None = None
    low_time: tuple[float, float] | None = None
    low_memory: tuple[float, float | None] | None = None


NETWORKS = {
    "vggt": Network(
        "VGGT-1B, 4 frames 518x392, cameras, depth and points, random weights",
        4, (518, 392), 8.0, (0.85, 0.7), (6.2, 5.8), (0.5, 0.35), (3.2, None),
    ),
    "da3-small": Network("DA3-SMALL, 8 views 504x378, random weights", 8, (504, 378), 2.5, (0.9, 0.6)),
}  # fmt: skip


def measure(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """A network on the CPU. `short`: a single round on a window of two; `settings` change nothing here."""
    network = NETWORKS[name]
    result = Result(name, network.title, f"make bench-{name}")
    free = psutil.virtual_memory().available / GB
    if free < network.room_gb:
        result.problem = f"needs {network.room_gb:g} GB of free memory, {free:.1f} GB are"
        return result
    rounds = [
        {variant: one_pass(name, variant, 2 if short else network.views, out, cores) for variant in VARIANTS}
        for _ in range(1 if short else ROUNDS)
    ]
    figures = {v: {key: np.median([r[v][key] for r in rounds]) for key in rounds[0][v]} for v in VARIANTS}
    ratios = {
        (v, to): float(np.median([r[v]["cpu_s"] / r[to]["cpu_s"] for r in rounds]))
        for v, to in (("fast", "plain"), ("bfloat16", "plain"), ("bfloat16", "fast"))
    }
    result.scores = scores(network, figures, ratios, {v: results(out, v) for v in VARIANTS})
    if name == "vggt":
        result.scores.append(frame_memory_score(network))
    return result


def one_pass(name: str, variant: str, views: int, out: Path, cores: int) -> dict[str, float]:
    """Figures of one process; its results lie in out/VARIANT.npz. Raises InputError when it fails."""
    network, file = NETWORKS[name], out / f"{variant}.npz"
    file.unlink(missing_ok=True)
    size = f"{network.size[0]}x{network.size[1]}"
    words = ["--network", name, "--variant", variant, "--views", views, "--size", size, "--threads", cores]
    environment = limited_environment(cores) | {"OMP_WAIT_POLICY": "PASSIVE"}
    code = run_limited(module("model_run", *words, "--output", file), cores, environment, TIMEOUT_S)
    if code or not file.is_file():
        raise InputError(f"The {variant} pass of {name} ended with exit code {code}; see its output.")
    with np.load(file) as content:
        return dict(json.loads(str(content["figures"])))


def results(out: Path, variant: str) -> dict[str, Array]:
    with np.load(out / f"{variant}.npz") as content:
        return {key: content[key].astype(np.float64) for key in ("depth", "pose")}


def scores(
    network: Network,
    figures: dict[str, dict[str, float]],
    ratios: dict[tuple[str, str], float],
    found: dict[str, dict[str, Array]],
) -> list[Score]:
    """Time, memory and differences of the three variants."""
    floor, aim = network.memory or (None, None)
    low_floor, low_aim = network.low_time or (None, None)
    low_memory = network.low_memory or (None, None)
    exact = np.abs(found["fast"]["depth"] / found["plain"]["depth"] - 1).max()
    noise, turned = depth_error(found["bfloat16"]["depth"], found["fast"]["depth"]), pose_error(found)
    stretched = f"log depths stretched to a spread of {LOG_DEPTH_SPREAD:g}"
    return [
        Score("float32: CPU time over the public computation's", ratios["fast", "plain"], "", *network.time),
        Score("float32: peak memory", figures["fast"]["peak_gb"], "GB", floor, aim),
        Score("float32: largest relative difference of depth", float(exact), "", 1e-3, 1e-5),
        Score("bfloat16: CPU time over our float32's", ratios["bfloat16", "fast"], "", low_floor, low_aim),
        Score("bfloat16: CPU time over the public computation's", ratios["bfloat16", "plain"]),
        Score("bfloat16: peak memory", figures["bfloat16"]["peak_gb"], "GB", *low_memory),
        Score("bfloat16: depth AbsRel to float32", 100 * noise, "%", 1.0, note=stretched),
        Score("bfloat16: pose error", 100 * turned, "%", note="of the spread of the poses over the views, RMS"),
        *(Score(f"{words}: CPU time", figures[v]["cpu_s"], "s") for v, words in WORDS.items()),
        Score("public computation: peak memory", figures["plain"]["peak_gb"], "GB"),
    ]


WORDS = {"plain": "public computation", "fast": "float32", "bfloat16": "bfloat16"}


def depth_error(depth: Array, truth: Array) -> float:
    """AbsRel of a depth image's noise, as it would be in a scene whose log depths spread by LOG_DEPTH_SPREAD."""
    stretch = LOG_DEPTH_SPREAD / np.log(truth).std()
    return float(np.abs(np.expm1(stretch * np.log(depth / truth))).mean())


def pose_error(found: dict[str, dict[str, Array]]) -> float:
    """RMS difference of bfloat16 pose encodings over their RMS spread between the views."""
    low, exact = found["bfloat16"]["pose"], found["fast"]["pose"]
    spread = exact - exact.mean(axis=1, keepdims=True)
    return float(np.sqrt(((low - exact) ** 2).mean() / (spread**2).mean()))


def frame_memory_score(network: Network) -> Score:
    """Memory of one more frame on a GPU, from the sizes of all tensors between 20 and 50 frames."""
    size = (network.size[1], network.size[0])
    few, many = (accounted_bytes("bfloat16", views, size) for views in (20, 50))
    # Judged by `measure_gpu` alone: a sum of tensor sizes is no measurement.
    words = "added up from the sizes of its tensors, bfloat16; asked on a GPU: 0.12, aim 0.06"
    return Score("GPU memory of an extra frame, all heads, computed", (many - few) / 30 / GB, "GB", note=words)


def measure_gpu(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """VGGT-1B on a GPU in growing windows; where there is none, the result says so and misses nothing."""
    command = "python scripts/benchmarks/model_run.py --device cuda --sweep 10 50 100"
    result = Result(name, "VGGT-1B on a GPU, 518x392", f"make bench-{name}", required=False)
    file = out / "sweep.json"
    file.unlink(missing_ok=True)
    windows = (2, 4) if short else (10, 50, 100)
    words = ["--device", "cuda", "--threads", cores, "--output", file, "--sweep", *windows]
    run_limited(module("model_run", *words), cores, limited_environment(cores), TIMEOUT_S)
    if not file.is_file():
        result.problem = f"not measured, torch sees no GPU; `{command}` needs torch, numpy and safetensors alone"
        return result
    content = json.loads(file.read_text())
    for row in content["rows"]:
        label = f"{WORDS[row['variant']]}, {row['part']}, {row['frames']} frames"
        note = row.get("problem", content["device"])
        result.scores += [
            Score(f"{label}: time", row.get("s", float("nan")), "s", note=note),
            Score(f"{label}: peak memory", row.get("gb", float("nan")), "GB", note=note),
        ]
    return result
