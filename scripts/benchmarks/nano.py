"""nano: cameras and depth of windows with known truth, a whole run through the pipeline, time and memory.

Worlds are those of the simulation, another generator than the one it was trained on, and the recorded kitchen. Any
weights: `scripts/bench nano --set model.checkpoint=FILE`; without any, and with random ones, only time and memory are
measured. Run as a module it is the measured program.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import recorded
from benchmarks.processes import limited_environment, module, run_limited
from benchmarks.results import Result, hand_over, leave, scores_from
from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.config_files import load_config
from spatial_fm_ros.core.models.base import SpatialModel
from spatial_fm_ros.core.models.nano.adapter import WEIGHTS
from spatial_fm_ros.core.models.registry import create_model
from spatial_fm_ros.core.types import Array, Camera, Depth, Frame, Image, Keyframe, Prediction, Window
from spatial_fm_ros.evaluation.relative_pose import auc, pair_errors
from spatial_fm_ros.evaluation.scoreboard import Score
from spatial_fm_ros.evaluation.tum import read_tum
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.sequence import SequenceFolder

TIMEOUT_S = 3600.0
VIEWS, WIDTH, HEIGHT = 6, 224, 168
#: Simulated drives and the seconds between the views of a window; windows of each.
DRIVES = {"room_drive": 0.6, "room_handheld": 0.4, "corridor_loop": 0.6, "hall_drive": 0.8, "street_drive": 0.4}
WINDOWS = 8
#: Frames between the views of a window of the kitchen, and its windows.
STEP, KITCHEN_WINDOWS = 10, 40
#: Neighbours nearer to each other than this share of their median depth have no direction worth measuring.
LEAST_BASELINE = 0.02
ROUNDS = 7


def measure(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """All figures of nano. `short`: few windows, and of the kitchen its first seconds."""
    config = load_config(overrides=dict(text.split("=", 1) for text in settings))
    checkpoint = config.model.checkpoint or (str(WEIGHTS) if WEIGHTS.is_file() else "random")
    drawn = checkpoint.partition(":")[0] == "random"
    title = f"nano, {VIEWS} views {WIDTH}x{HEIGHT}" + (", no weights: time and memory only" if drawn else "")
    result = Result(name, title, f"make bench-{name}")
    figures = {}
    for part in ("float32", "bfloat16") if drawn else ("float32", "bfloat16", "simulated", "kitchen"):
        file = out / f"{part}.json"
        file.unlink(missing_ok=True)
        words = [part, file, "--checkpoint", checkpoint, "--cores", cores, *(["--short"] if short else [])]
        environment = limited_environment(cores) | {"OMP_WAIT_POLICY": "PASSIVE"}
        code = run_limited(module("nano", *words), cores, environment, TIMEOUT_S)
        if not file.is_file():
            result.problem = f"'{part}' ended with exit code {code}, see the output"
            return result
        figures[part] = scores_from(json.loads(file.read_text())["scores"])
    result.scores = [score for part in figures.values() for score in part]
    if not drawn:
        result.scores += pipeline_scores(out, cores, short, settings, checkpoint)
    return result


def pipeline_scores(out: Path, cores: int, short: bool, settings: list[str], checkpoint: str) -> list[Score]:
    """ATE of the whole kitchen through the pipeline, of nano and of the geometric model beside it."""
    own = [*settings, "model.name=nano", f"model.checkpoint={checkpoint}"]
    scores = []
    for model, words, bounds in (("nano", own, (0.15, 0.06)), ("geometric", [], (None, None))):
        folder = out / model
        folder.mkdir(exist_ok=True)
        found = recorded.measure("kitchen", folder, cores, short, words)
        ate = next((s.value for s in found.scores if s.name.startswith("ATE")), float("nan"))
        share = next((s.value for s in found.scores if s.name.startswith("share")), float("nan"))
        note = found.problem or f"{share:.0f} % of the sequence in one map"
        scores.append(Score(f"kitchen through the pipeline, {model}: ATE after Sim(3)", ate, "m", *bounds, note=note))
    return scores


def time_scores(config: Config, drawn: bool) -> list[Score]:
    """Seconds of a pass and the memory that the process had at most."""
    low = config.model.dtype != "float32"
    before = _rss_mb()
    model = loaded(config)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (VIEWS, HEIGHT, WIDTH, 3), np.uint8)
    camera = Camera(WIDTH, HEIGHT, np.array([[190.0, 0, WIDTH / 2 - 0.5], [0, 190, HEIGHT / 2 - 0.5], [0, 0, 1]]))
    wall, cpu = [], []
    for i in range(ROUNDS + 1):
        window = window_of(list(images), [camera] * VIEWS, i * VIEWS)
        started, used = time.perf_counter(), time.process_time()
        model.infer(window)
        if i:
            wall.append(time.perf_counter() - started)
            cpu.append(time.process_time() - used)
    words, bounds = config.model.dtype, (0.6, 0.2) if low else (1.0, 0.4)
    note = f"median of {ROUNDS}, no view seen before" + (", random weights" if drawn else "")
    return [
        Score(f"{words}: a window", float(np.median(wall)), "s", *bounds, note=note),
        Score(f"{words}: CPU time of a window", float(np.median(cpu)), "s"),
        Score(f"{words}: memory beyond that of the libraries", _peak_mb() - before, "MB", 400.0, 250.0),
        Score(f"{words}: memory of the process", _peak_mb(), "MB"),
    ]


def simulated_scores(model: SpatialModel, short: bool) -> list[Score]:
    """Medians over all windows of all drives, and of each drive for itself."""
    every: dict[str, list[Array]] = {"rotation": [], "direction": [], "absrel": []}
    told = []
    for name, seconds in DRIVES.items():
        found = simulated_errors(model, name, seconds, 2 if short else WINDOWS)
        words = ", ".join(f"{key} {np.nanmedian(values):.3g}" for key, values in found.items())
        told.append(Score(f"{name}: direction", float(np.nanmedian(found["direction"])), "deg", note=words))
        for key, values in found.items():
            every[key].append(values)
    medians = {key: float(np.nanmedian(np.concatenate(values))) for key, values in every.items()}
    return [
        Score("simulated: rotation between neighbours, median", medians["rotation"], "deg", 3.0, 1.0),
        Score("simulated: direction of translation, median", medians["direction"], "deg", 12.0, 5.0),
        Score("simulated: depth AbsRel after scale, median", medians["absrel"], "", 0.12, 0.07),
        *told,
    ]


def simulated_errors(model: SpatialModel, name: str, seconds: float, windows: int) -> dict[str, Array]:
    """Errors of the windows of one drive, flat arrays by kind; a window that is not posed counts as wrong as can be."""
    scenario = get_scenario(
        name, camera_hz=round(1 / seconds, 3), width=2 * WIDTH, height=2 * HEIGHT, focal_px=2 * 190.0, distortion=()
    )
    simulator = Simulator(replace(scenario, lidar_hz=0.0, imu_hz=0.0))
    count = len(simulator.frame_stamps_ns)
    starts = np.linspace(0, count - VIEWS, windows).round().astype(int)
    errors: dict[str, list[Array]] = {"rotation": [], "direction": [], "absrel": []}
    for start in starts:
        frames = [simulator.frame(int(start) + i) for i in range(VIEWS)]
        stamps = np.array([frame.stamp_ns for frame in frames])
        poses = simulator.truth.world_from_cameras(stamps)
        camera = scenario.camera()
        prediction = model.infer(window_of([f.image for f in frames], [camera] * VIEWS, int(start) * 1000))
        height, width = prediction.depth.shape[1:]
        truth = np.stack([simulator.truth.depth(int(s), camera.resized(width, height)) for s in stamps])
        for key, values in window_errors(prediction, poses, truth).items():
            errors[key].append(values)
    return {key: np.concatenate(values) for key, values in errors.items()}


def window_errors(prediction: Prediction, poses: Array, truth: Depth) -> dict[str, Array]:
    """Rotation and direction of neighbours in degrees, AbsRel after one scale; truth [N, h, w] with NaN for the sky."""
    rotation, direction = pair_errors(prediction.world_from_camera, poses, neighbours=True)
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    direction = direction[steps > LEAST_BASELINE * float(np.nanmedian(truth))]
    known = np.isfinite(prediction.depth) & np.isfinite(truth)
    if not known.any():
        return {"rotation": rotation, "direction": direction, "absrel": np.array([1.0])}
    found, wanted = prediction.depth[known].astype(np.float64), truth[known].astype(np.float64)
    scale = np.median(wanted / found)
    return {
        "rotation": rotation,
        "direction": direction,
        "absrel": np.array([np.mean(np.abs(scale * found / wanted - 1))]),
    }


def kitchen_scores(model: SpatialModel, short: bool) -> list[Score]:
    """AUC@30 over all pairs of views of windows through the whole sequence."""
    folder = recorded.data_folder() / "kitchen"
    truth = read_tum(folder / "poses.txt")
    count = len(truth) - STEP * (VIEWS - 1)
    starts = np.linspace(0, count - 1, 3 if short else KITCHEN_WINDOWS).round().astype(int)
    needed = {int(start) + STEP * i for start in starts for i in range(VIEWS)}
    images = (sample for sample in SequenceFolder(folder, SourceOptions()) if isinstance(sample, Frame))
    frames = {i: frame for i, frame in enumerate(images) if i in needed}
    worst = []
    for start in starts:
        chosen = [frames[int(start) + STEP * i] for i in range(VIEWS)]
        window = window_of([f.image for f in chosen], [f.camera for f in chosen], int(start) * 1000)
        places = [int(np.argmin(np.abs(truth.stamps_ns - f.stamp_ns))) for f in chosen]
        rotation, direction = pair_errors(model.infer(window).world_from_camera, truth.poses[places])
        worst.append(np.maximum(rotation, direction))
    errors = np.concatenate(worst)
    note = f"{len(starts)} windows of {VIEWS}, {STEP} frames apart, all pairs"
    return [
        Score("kitchen: AUC@30", auc(errors, 30.0), "", 0.60, 0.85, True, note=note),
        Score("kitchen: larger of rotation and direction error, median", float(np.median(errors)), "deg"),
    ]


def window_of(images: list[Image], cameras: list[Camera | None], first_id: int) -> Window:
    """A window of fresh keyframes; ids from `first_id` on, so that no features are remembered."""
    keyframes = tuple(
        Keyframe(first_id + i, first_id + i, image, camera, "camera", 0.0, "bench")
        for i, (image, camera) in enumerate(zip(images, cameras, strict=True))
    )
    return Window(first_id, keyframes, 0)


def loaded(config: Config) -> SpatialModel:
    model = create_model(config.model)
    model.load()
    return model


def _rss_mb() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize() / 1e6


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("float32", "bfloat16", "simulated", "kitchen"))
    parser.add_argument("figures", type=Path, help="JSON file to write")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args()
    dtype = given.part if given.part in ("float32", "bfloat16") else "float32"
    overrides = {"model.name": "nano", "model.checkpoint": given.checkpoint, "model.threads": str(given.cores),
                 "model.dtype": dtype, "model.device": "cpu"}  # fmt: skip
    config = load_config(overrides=overrides)
    if given.part in ("float32", "bfloat16"):
        scores = time_scores(config, given.checkpoint.startswith("random"))
    elif given.part == "simulated":
        scores = simulated_scores(loaded(config), given.short)
    else:
        scores = kitchen_scores(loaded(config), given.short)
    hand_over(scores, f"nano, {given.part}", given.figures)
    return 0


if __name__ == "__main__":
    leave(main)
