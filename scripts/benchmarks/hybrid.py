"""hybrid: windows with known truth by a prior alone, by the geometric model alone, and by both; then a whole drive.

The prior is simulated: the truth with the errors that a network is expected to have. Its errors are drawn, smooth and
independent from view to view; those of a real network are not, so the gain is that of such a prior and no other. Run
as a module it is the measured program.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.nano import LEAST_BASELINE
from benchmarks.processes import limited_environment, module, run_limited
from benchmarks.results import Result, hand_over, leave, scores_from
from spatial_fm_ros.core.config import Config, OracleConfig
from spatial_fm_ros.core.config_files import load_config
from spatial_fm_ros.core.models.base import SpatialModel
from spatial_fm_ros.core.models.hybrid.model import HybridModel
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.models.registry import create_model
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Array, Depth, Keyframe, PosedKeyframe, Prediction, Update, Window
from spatial_fm_ros.evaluation.relative_pose import pair_errors
from spatial_fm_ros.evaluation.scoreboard import Score
from spatial_fm_ros.evaluation.trajectory import evaluate_trajectory
from spatial_fm_ros.evaluation.tum import StampedPoses
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

TIMEOUT_S = 3600.0
VIEWS, WIDTH, HEIGHT, FOCAL_PX = 6, 320, 240, 215.0
SEEDS, WINDOWS = (0, 1), 3
WITHIN = 0.05
MODELS = ("geometric", "prior", "hybrid")


@dataclass(frozen=True)
class Scene:
    """A simulated drive, the seconds between its views, and whether its images show nothing."""

    scenario: str
    seconds: float
    blank: bool = False


SCENES = {
    "room_drive": Scene("room_drive", 0.6),
    "room_handheld": Scene("room_handheld", 0.4),
    "street_drive": Scene("street_drive", 0.4),
    "low texture": Scene("room_plain", 0.6),
    "keyframes far apart": Scene("room_drive", 2.0),
    "turn on the spot": Scene("room_rotation", 0.5),
    "no texture": Scene("room_drive", 0.6, blank=True),
}
#: Errors of the prior: what nano aims at, the least it has to reach, and one that is of no use.
PRIORS = {
    "at the aims": OracleConfig(rotation_error_deg=1.0, direction_error_deg=5.0, warp=0.07, outliers=0.02),
    "at the floors": OracleConfig(rotation_error_deg=3.0, direction_error_deg=12.0, warp=0.12, outliers=0.05),
    "of no use": OracleConfig(rotation_error_deg=40.0, direction_error_deg=60.0, warp=0.8, outliers=0.2),
}
#: The drive through the whole pipeline: images a second and how long.
DRIVE, DRIVE_HZ, DRIVE_S = "room_drive", 5.0, 30.0
DEPTH_IMAGES = 40


def measure(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """All figures, in a limited process. `short`: one window of each scene, and the beginning of the drive."""
    title = f"hybrid with a simulated prior, {VIEWS} views {WIDTH}x{HEIGHT}"
    result = Result(name, title, f"make bench-{name}")
    figures = out / "figures.json"
    figures.unlink(missing_ok=True)
    words = [figures, "--cores", cores, *(["--short"] if short else [])]
    words += [word for text in settings for word in ("--set", text)]
    environment = limited_environment(cores) | {"OMP_WAIT_POLICY": "PASSIVE"}
    code = run_limited(module("hybrid", *words), cores, environment, TIMEOUT_S)
    if not figures.is_file():
        result.problem = f"exit code {code}, see the output"
        return result
    result.scores = scores_from(json.loads(figures.read_text())["scores"])
    return result


def simulator_of(scene: str, camera_hz: float, seed: int) -> Simulator:
    scenario = get_scenario(
        scene, camera_hz=camera_hz, width=WIDTH, height=HEIGHT, focal_px=FOCAL_PX, distortion=(), seed=seed, detail=0.5
    )
    return Simulator(replace(scenario, lidar_hz=0.0, imu_hz=0.0, odometry_hz=0.0))


def windows(scene: Scene, seed: int, count: int) -> Iterator[tuple[Simulator, Window]]:
    """Windows spread over the drive, of keyframes that no other window has."""
    simulator = simulator_of(scene.scenario, round(1 / scene.seconds, 3), seed)
    starts = np.linspace(0, len(simulator.frame_stamps_ns) - VIEWS, count).round().astype(int)
    for index, start in enumerate(starts):
        frames = [simulator.frame(int(start) + i) for i in range(VIEWS)]
        keyframes = (
            Keyframe(
                1000 * index + i, f.stamp_ns, np.full_like(f.image, 90) if scene.blank else f.image, f.camera, "camera",
                0.0, "bench",
            )
            for i, f in enumerate(frames)
        )  # fmt: skip
        yield simulator, Window(1000 * seed + index, tuple(keyframes), 0)


def judged(prediction: Prediction, poses: Array, truth: Depth) -> dict[str, float]:
    """Means over one window; truth [N, h, w] metres with NaN for the sky. NaN where there is nothing to judge."""
    rotation, direction = pair_errors(prediction.world_from_camera, poses, neighbours=True)
    moves = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) > LEAST_BASELINE * float(np.nanmedian(truth))
    known, there = np.isfinite(prediction.depth) & np.isfinite(truth), np.isfinite(truth).sum()
    ratio = prediction.depth[known].astype(np.float64) / truth[known]
    wrong = np.abs(ratio / np.median(ratio) - 1.0) if known.any() else np.zeros(0)
    return {
        "rotation": float(rotation.mean()),
        "direction": float(direction[moves].mean()) if moves.any() else float("nan"),
        "absrel": float(wrong.mean()) if len(wrong) else float("nan"),
        "share": float(known.sum() / there),
        "within": float((wrong < WITHIN).sum() / there),
    }


class Rig:
    """The three models over one prior's errors."""

    def __init__(self, config: Config, prior: OracleConfig) -> None:
        model = replace(config.model, oracle=prior, hybrid=replace(config.model.hybrid, prior="oracle"))
        self.geometric = create_model(replace(model, name="geometric"))
        self.prior = OracleModel(replace(model, name="oracle"))
        self.hybrid = HybridModel(replace(model, name="hybrid"))

    def named(self, simulator: Simulator) -> dict[str, SpatialModel]:
        """All of them, loaded, with the truth of a simulation and without memory."""
        assert isinstance(self.hybrid.prior, OracleModel)
        self.prior.truth = self.hybrid.prior.truth = simulator.truth
        found = dict(zip(MODELS, (self.geometric, self.prior, self.hybrid), strict=True))
        for model in found.values():
            model.load()
            model.reset()
        return found


Rows = dict[str, dict[str, float]]


def scene_rows(rigs: Mapping[str, Rig], scene: Scene, seeds: tuple[int, ...], count: int) -> dict[str, Rows]:
    """Means over all windows of a scene, {prior: {model: figures}}."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {key: defaultdict(list) for key in rigs}
    for seed in seeds:
        for simulator, window in windows(scene, seed, count):
            stamps = np.array([keyframe.stamp_ns for keyframe in window.keyframes])
            poses = simulator.truth.world_from_cameras(stamps)
            alone: dict[str, float] | None = None
            for key, rig in rigs.items():
                for name, model in rig.named(simulator).items():
                    if name == "geometric" and alone is not None:
                        found[key][name].append(alone)  # the prior does not change it
                        continue
                    before = time.process_time()
                    prediction = model.infer(window)
                    used = time.process_time() - before
                    camera = simulator.scenario.camera().resized(*prediction.depth.shape[:0:-1])
                    truth = np.stack([simulator.truth.depth(int(stamp), camera) for stamp in stamps])
                    row = {**judged(prediction, poses, truth), "cpu": used}
                    found[key][name].append(row)
                    alone = row if name == "geometric" else alone
    return {
        key: {name: {k: _mean([row[k] for row in rows]) for k in rows[0]} for name, rows in models.items()}
        for key, models in found.items()
    }


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def window_scores(rows: Mapping[tuple[str, str], Rows]) -> list[Score]:
    """How the hybrid compares with the better of both at worst, then everything by scene and prior."""
    names = {
        "absrel": ("depth AbsRel after scale", ""),
        "within": ("pixels within 5 %", "%"),
        "rotation": ("rotation", "deg"),
        "direction": ("direction", "deg"),
        "cpu": ("CPU time of a window", "s"),
    }
    scores = _worst(rows)
    for (scene, prior), models in rows.items():
        for key, (words, unit) in names.items():
            value = {name: (100 if unit == "%" else 1) * models[name][key] for name in MODELS}
            if not np.isfinite(value["hybrid"]):
                continue
            note = f"geometric {_told(value['geometric'])}, prior {_told(value['prior'])}"
            if key == "within":
                note += "; with depth " + ", ".join(f"{name} {100 * models[name]['share']:.0f} %" for name in MODELS)
            scores.append(Score(f"{scene}, prior {prior}: {words}", value["hybrid"], unit, note=note))
    return scores


def _told(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "none"


def _worst(rows: Mapping[tuple[str, str], Rows]) -> list[Score]:
    """Largest losses against the better of the two, over all scenes and priors."""
    useful = {key: models for key, models in rows.items() if key[1] != "of no use"}
    absrel, within, rotation = [], [], []
    for models in useful.values():
        own, both = models["hybrid"], (models["geometric"], models["prior"])
        absrel.append(own["absrel"] / np.nanmin([m["absrel"] for m in both]))
        within.append(max(m["within"] for m in both) - own["within"])
        rotation.append(own["rotation"] - min(m["rotation"] for m in both))
    useless = [models["hybrid"]["within"] - models["geometric"]["within"] for key, models in rows.items()
               if key[1] == "of no use"]  # fmt: skip
    note = "at worst over scenes and priors"
    return [
        Score("AbsRel over that of the better of both", float(max(absrel)), "", 1.1, 1.0, note=note),
        Score("pixels within 5 % lost against the better of both", 100 * float(max(within)), "%", 3.0, 0.0, note=note),
        Score("rotation error above that of the better of both", float(max(rotation)), "deg", 0.2, 0.02, note=note),
        Score("pixels within 5 % lost to a prior of no use", -100 * float(min(useless)), "%", 3.0, 0.0),
    ]


def drive_scores(config: Config, rig: Rig, seconds: float) -> list[Score]:
    """The whole pipeline on one drive: ATE, depth, keyframes in the largest map, by each of the three."""
    simulator = simulator_of(DRIVE, DRIVE_HZ, 0)
    count = round(seconds * DRIVE_HZ)
    frames = [simulator.frame(i) for i in range(count)]
    scores = []
    for name, model in rig.named(simulator).items():
        pipeline = Pipeline(config, model)
        pipeline.load()
        keyframes: list[PosedKeyframe] = []
        before = time.process_time()
        updates: list[Update | None] = [pipeline.add_frame(frame) for frame in frames]
        while (last := pipeline.finish()) is not None:
            updates.append(last)
        used = time.process_time() - before
        for update in updates:
            keyframes += update.keyframes if update is not None else ()
        maps = pipeline.trajectories()
        largest = max(maps, key=lambda each: len(each.stamps_ns))
        stamps = np.array(largest.stamps_ns)
        truth = StampedPoses(stamps, simulator.truth.world_from_cameras(stamps), "the truth")
        errors = evaluate_trajectory(StampedPoses(stamps, largest.world_from_camera, "the largest map"), truth)
        note = f"{len(stamps)} of {pipeline.stats.keyframes} keyframes in the largest of {len(maps)} map(s)"
        inside = set(stamps.tolist())
        absrel, each, within = _drive_depth(simulator, [k for k in keyframes if k.stamp_ns in inside])
        title = f"{DRIVE} through the pipeline, {name}"
        scores += [
            Score(f"{title}: ATE after Sim(3)", errors.sim3.ate.rmse, "m", note=note),
            Score(f"{title}: depth AbsRel after one scale", absrel, ""),
            Score(f"{title}: depth AbsRel after a scale of each keyframe", each, ""),
            Score(f"{title}: pixels within 5 % after a scale of each keyframe", 100 * within, "%"),
            Score(f"{title}: CPU time a keyframe", used / pipeline.stats.keyframes, "s"),
        ]
    return scores


def _drive_depth(simulator: Simulator, keyframes: list[PosedKeyframe]) -> tuple[float, float, float]:
    """Of the depth of one map: AbsRel after one scale for all of it, and AbsRel and the share of pixels within 5 %
    after a scale for each keyframe, which leaves the drift of the map out."""
    chosen = [keyframes[i] for i in np.unique(np.linspace(0, len(keyframes) - 1, DEPTH_IMAGES).round().astype(int))]
    ratios, there = [], 0
    for keyframe in chosen:
        truth = simulator.truth.depth(keyframe.stamp_ns, keyframe.camera)
        known = np.isfinite(truth) & np.isfinite(keyframe.depth)
        ratios.append(keyframe.depth[known].astype(np.float64) / truth[known])
        there += int(np.isfinite(truth).sum())
    wrong = np.abs(np.concatenate(ratios) / np.median(np.concatenate(ratios)) - 1.0)
    each = np.concatenate([np.abs(ratio / np.median(ratio) - 1.0) for ratio in ratios if len(ratio)])
    return float(wrong.mean()), float(each.mean()), float((each < WITHIN).sum() / there)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, help="JSON file to write")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="parameter of the models")
    given = parser.parse_args()
    overrides = {"model.threads": str(given.cores), "model.device": "cpu"}
    config = load_config(overrides={**overrides, **dict(text.split("=", 1) for text in given.set)})
    rigs = {key: Rig(config, errors) for key, errors in PRIORS.items()}
    rows: dict[tuple[str, str], Rows] = {}
    for name, scene in SCENES.items():
        chosen = rigs if name == "room_drive" else {k: rig for k, rig in rigs.items() if k != "of no use"}
        print(f"   {name}", flush=True)
        found = scene_rows(chosen, scene, SEEDS[:1] if given.short else SEEDS, 1 if given.short else WINDOWS)
        rows.update({(name, prior): models for prior, models in found.items()})
    print("   the whole pipeline", flush=True)
    drive = drive_scores(config, rigs["at the aims"], DRIVE_S / 3 if given.short else DRIVE_S)
    table = [{"scene": scene, "prior": prior, "models": models} for (scene, prior), models in rows.items()]
    hand_over([*window_scores(rows), *drive], "hybrid", given.figures, rows=table)
    return 0


if __name__ == "__main__":
    leave(main)
