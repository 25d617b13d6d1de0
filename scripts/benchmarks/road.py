"""`road`: a real car with LiDAR among moving cars. LiDAR odometry and LiDAR depth give the metres, `geometric` the
shape; published depth is compared with the LiDAR on what does not move."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.processes import limited_environment, run_limited
from benchmarks.recorded import data_folder
from benchmarks.results import ROOT, Result
from spatial_fm_ros.core.geometry.cameras import project
from spatial_fm_ros.core.geometry.rotations import invert_pose, move_points
from spatial_fm_ros.core.types import Array, Camera, Depth, LidarScan
from spatial_fm_ros.evaluation.depth import DepthPair, evaluate_depth
from spatial_fm_ros.evaluation.depth_files import open_depth, read_confidence, read_depth
from spatial_fm_ros.evaluation.scoreboard import Score, print_scores
from spatial_fm_ros.evaluation.trajectory import evaluate_trajectory
from spatial_fm_ros.evaluation.tum import StampedPoses, read_tum
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.sequence import SequenceFolder

TIMEOUT_S = 1800.0
SETTINGS = ("ros.pose_source=lidar",)
#: A point is static when scans at least this far away in time saw something within this distance of it.
APART_S, STATIC_M = 0.7, 0.25
MIN_CONFIDENCE = 0.5


def measure(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """Map the sequence and take its figures; `short` changes nothing, it is 28 images long."""
    title = "`road`, recorded car, LiDAR and LiDAR odometry, `geometric`"
    result = Result(name, title, f"make bench-{name}")
    sequence, folder = data_folder() / "road", out / "map"
    command = [sys.executable, "-m", "spatial_fm_ros.cli", "map", str(sequence), "-o", str(folder), "--overwrite"]
    command += ["--config", str(ROOT / "config" / "kitti_car.yaml")]
    for text in (f"model.threads={cores}", *SETTINGS, *settings):
        command += ["--set", text]
    code = run_limited(command, cores, limited_environment(cores), TIMEOUT_S)
    if code != 0:
        result.problem = f"exit code {code}, see the output"
        return result
    result.scores = judged(sequence, folder)
    print_scores(result.scores, result.title)
    return result


def judged(sequence: Path, folder: Path) -> list[Score]:
    """Figures of a finished run. Raises InputError when its poses or depth cannot be compared."""
    report = json.loads((folder / "report.json").read_text())
    errors = evaluate_trajectory(read_tum(folder / "trajectory.tum"), read_tum(sequence / "poses.txt"))
    ratio = errors.se3.ate.rmse / max(errors.sim3.ate.rmse, 1e-9)
    pairs = list(_pairs(sequence, folder))
    depth = evaluate_depth(pairs, min_confidence=MIN_CONFIDENCE)
    scaled = evaluate_depth(pairs, scaling="global", min_confidence=MIN_CONFIDENCE)
    where = f"static points, confidence >= {MIN_CONFIDENCE:g}"
    return [
        Score("AbsRel of published depth", depth.abs_rel, "", 0.12, 0.06, note=where),
        Score("SE(3) over Sim(3) ATE", ratio, "", 1.5, 1.1, note=f"{errors.matched} keyframes"),
        Score("ATE RMSE after Sim(3)", errors.sim3.ate.rmse, "m", note=f"path {errors.truth_path:.1f} m"),
        Score("ATE RMSE after SE(3)", errors.se3.ate.rmse, "m"),
        Score("scale error", 100 * abs(1.0 / errors.sim3.truth_from_estimate.scale - 1.0), "%"),
        Score("AbsRel with one scale for all images", scaled.abs_rel, "", note=f"scale {scaled.scale:.3f}"),
        Score("share of LiDAR pixels with confident depth", 100 * depth.share, "%"),
        Score("median error of depth", 100 * depth.median_abs_rel, "%", note=where),
        Score("scale state is metric", float(report["scale"]["state"] == "metric"), "", 1.0, 1.0, True,
              note=", ".join(report["scale"]["observers"])),
        Score("maps", float(report["counts"]["maps"])),
        Score("keyframes", float(report["counts"]["keyframes"]), note=f"of {report['counts']['frames']} images"),
    ]  # fmt: skip


def _pairs(sequence: Path, folder: Path) -> Iterator[DepthPair]:
    """Published depth beside LiDAR depth on the same pixels."""
    static = _static_scans(sequence)
    index = json.loads((folder / "depth" / "index.json").read_text())["images"]
    for entry, item in zip(open_depth(folder), index):
        stamp = int(item["stamp_ns"])
        if stamp in static:
            camera = Camera(item["width"], item["height"], np.array(item["K"]).reshape(3, 3))
            truth = _depth_image(camera, static[stamp])
            yield DepthPair(str(stamp), read_depth(entry), truth, read_confidence(entry))


def _static_scans(sequence: Path) -> dict[int, Array]:
    """By stamp: LiDAR points [N, 3] in the camera frame that other scans saw at the same place."""
    source = SequenceFolder(sequence, SourceOptions())
    scans = {s.stamp_ns: s.points.astype(np.float64) for s in source if isinstance(s, LidarScan)}
    described = json.loads((sequence / "sequence.json").read_text())
    camera_from_lidar = np.array(described["camera_from_lidar"]).reshape(4, 4)
    poses: StampedPoses = read_tum(sequence / "lidar_poses.txt")
    at = {int(stamp): pose for stamp, pose in zip(poses.stamps_ns, poses.poses)}
    world = {stamp: move_points(at[stamp], points) for stamp, points in scans.items() if stamp in at}
    trees = {stamp: cKDTree(points) for stamp, points in world.items()}
    static = {}
    for stamp, points in world.items():
        seen = np.zeros(len(points), dtype=bool)
        for other, tree in trees.items():
            if abs(other - stamp) >= APART_S * 1e9:
                seen |= np.isfinite(tree.query(points, distance_upper_bound=STATIC_M, workers=2)[0])
        static[stamp] = move_points(camera_from_lidar @ invert_pose(at[stamp]), points[seen])
    return static


def _depth_image(camera: Camera, points: Array) -> Depth:
    """The nearest point in each pixel, NaN elsewhere."""
    points = points[points[:, 2] > 0.5]
    pixel = np.rint(project(camera, points)).astype(np.int64)
    inside = (pixel >= 0).all(axis=1) & (pixel < (camera.width, camera.height)).all(axis=1)
    depth = np.full((camera.height, camera.width), np.inf, np.float32)
    np.minimum.at(depth, (pixel[inside, 1], pixel[inside, 0]), points[inside, 2].astype(np.float32))
    return np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)
