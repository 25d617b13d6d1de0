"""`road`: a real car with LiDAR among moving cars. LiDAR odometry and LiDAR depth give the metres, `geometric` the
shape; published depth is compared with the LiDAR on what does not move.

The poses that come with it are those of a LiDAR odometry, good to 2 to 30 cm on a way of 6 m by its own description,
so the trajectory is compared with these and with direct registration of the scans.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import minimum_filter
from scipy.spatial import cKDTree

from benchmarks.processes import limited_environment, run_limited
from benchmarks.recorded import data_folder
from benchmarks.results import ROOT, Result
from benchmarks.scan_registration import register
from spatial_fm_ros.core.geometry.cameras import project
from spatial_fm_ros.core.geometry.rotations import invert_pose, move_points
from spatial_fm_ros.core.types import Array, Camera, Depth, LidarScan
from spatial_fm_ros.evaluation.depth import DepthPair, evaluate_depth
from spatial_fm_ros.evaluation.depth_files import open_depth, read_confidence, read_depth
from spatial_fm_ros.evaluation.scoreboard import Score, print_scores
from spatial_fm_ros.evaluation.trajectory import TrajectoryErrors, evaluate_trajectory
from spatial_fm_ros.evaluation.tum import StampedPoses, read_tum
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.sequence import SequenceFolder

TIMEOUT_S = 1800.0
SETTINGS = ("ros.pose_source=lidar",)
#: A point is static when at least this share of the scans so far away in time saw something within this distance of it.
APART_S, STATIC_M, STATIC_SHARE = 0.7, 0.25, 0.5
#: The LiDAR sees over and past what the camera sees: a point with one so much nearer beside it, within so many pixels
#: of the depth image, may be hidden from the camera.
NEARER, BESIDE_PX = 0.85, 3
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
    recording = _recording(sequence)
    trajectory = read_tum(folder / "trajectory.tum")
    given = evaluate_trajectory(trajectory, read_tum(sequence / "poses.txt"))
    registered = evaluate_trajectory(trajectory, recording.cameras)
    pairs = list(_pairs(recording, folder))
    depth = evaluate_depth(pairs, min_confidence=MIN_CONFIDENCE)
    loosely = evaluate_depth(list(_pairs(recording, folder, strict=False)), min_confidence=MIN_CONFIDENCE)
    scaled = evaluate_depth(pairs, scaling="global", min_confidence=MIN_CONFIDENCE)
    where = f"static points, confidence >= {MIN_CONFIDENCE:g}"
    by_given, by_own = recording.distances
    return [
        Score("AbsRel of published depth", depth.abs_rel, "", 0.12, 0.06, note=where),
        Score("SE(3) over Sim(3) ATE", _ratio(given), "", 1.5, 1.1, note=f"{given.matched} keyframes, poses as given"),
        Score("SE(3) over Sim(3) ATE, scans registered", _ratio(registered), "", 1.5, 1.1, note="to the first scan"),
        *_errors(given, "as given"),
        *_errors(registered, "scans registered"),
        Score("last scan to the first, as given", by_given, "m", note="RMS over points nearer than 0.3 m"),
        Score("last scan to the first, scans registered", by_own, "m"),
        Score("AbsRel where any other scan saw something", loosely.abs_rel, note="moving and hidden points among them"),
        Score("AbsRel with one scale for all images", scaled.abs_rel, "", note=f"scale {scaled.scale:.3f}"),
        Score("share of LiDAR pixels with confident depth", 100 * depth.share, "%"),
        Score("median error of depth", 100 * depth.median_abs_rel, "%", note=where),
        Score("scale state is metric", float(report["scale"]["state"] == "metric"), "", 1.0, 1.0, True,
              note=", ".join(report["scale"]["observers"])),
        Score("maps", float(report["counts"]["maps"])),
        Score("keyframes", float(report["counts"]["keyframes"]), note=f"of {report['counts']['frames']} images"),
    ]  # fmt: skip


def _ratio(errors: TrajectoryErrors) -> float:
    return errors.se3.ate.rmse / max(errors.sim3.ate.rmse, 1e-9)


def _errors(errors: TrajectoryErrors, reference: str) -> list[Score]:
    return [
        Score(f"ATE RMSE after Sim(3), {reference}", errors.sim3.ate.rmse, "m", note=f"path {errors.truth_path:.2f} m"),
        Score(f"ATE RMSE after SE(3), {reference}", errors.se3.ate.rmse, "m"),
        Score(f"scale error, {reference}", 100 * abs(1.0 / errors.sim3.truth_from_estimate.scale - 1.0), "%"),
    ]


@dataclass(frozen=True, eq=False)
class _Recording:
    """Scans by stamp, points [N, 3] in the camera frame, and the share [N] of other scans that saw something there;
    cameras by registration; RMS distance of the last scan from the first by the given poses and by registration,
    metres."""

    scans: dict[int, tuple[Array, Array]]
    cameras: StampedPoses
    distances: tuple[float, float]


def _pairs(recording: _Recording, folder: Path, strict: bool = True) -> Iterator[DepthPair]:
    """Published depth beside LiDAR depth on the same pixels: of static points that the camera sees, or (not
    `strict`) of all that any other scan confirms."""
    index = json.loads((folder / "depth" / "index.json").read_text())["images"]
    for entry, item in zip(open_depth(folder), index):
        stamp = int(item["stamp_ns"])
        if stamp in recording.scans:
            camera = Camera(item["width"], item["height"], np.array(item["K"]).reshape(3, 3))
            points, confirmed = recording.scans[stamp]
            truth = _depth_image(camera, points[confirmed >= STATIC_SHARE if strict else confirmed > 0])
            if strict:
                nearest = np.nan_to_num(_depth_image(camera, points), nan=np.inf)
                around = minimum_filter(nearest, size=2 * BESIDE_PX + 1)
                truth = np.where(around < NEARER * truth, np.nan, truth).astype(np.float32)
            yield DepthPair(str(stamp), read_depth(entry), truth, read_confidence(entry))


def _recording(sequence: Path) -> _Recording:
    source = SequenceFolder(sequence, SourceOptions())
    given = read_tum(sequence / "lidar_poses.txt")
    at = dict(zip(given.stamps_ns.tolist(), given.poses, strict=True))
    scans = [s for s in source if isinstance(s, LidarScan) and s.stamp_ns in at]
    described = json.loads((sequence / "sequence.json").read_text())
    camera_from_lidar = np.array(described["camera_from_lidar"]).reshape(4, 4)
    poses, distances = register(scans, np.stack([at[s.stamp_ns] for s in scans]))
    world = [move_points(pose, s.points.astype(np.float64)) for pose, s in zip(poses, scans, strict=True)]
    trees = [cKDTree(points) for points in world]
    stamps = np.array([s.stamp_ns for s in scans])
    found = {}
    for stamp, points, own in zip(stamps, world, scans, strict=True):
        others = np.flatnonzero(np.abs(stamps - stamp) >= APART_S * 1e9)
        seen = [np.isfinite(trees[i].query(points, distance_upper_bound=STATIC_M, workers=2)[0]) for i in others]
        found[int(stamp)] = (move_points(camera_from_lidar, own.points.astype(np.float64)), np.mean(seen, axis=0))
    cameras = StampedPoses(stamps, camera_from_lidar @ poses @ invert_pose(camera_from_lidar), "registered scans")
    return _Recording(found, cameras, (float(distances[-1, 0]), float(distances[-1, 1])))


def _depth_image(camera: Camera, points: Array) -> Depth:
    """The nearest point in each pixel, NaN elsewhere."""
    points = points[points[:, 2] > 0.5]
    pixel = np.rint(project(camera, points)).astype(np.int64)
    inside = (pixel >= 0).all(axis=1) & (pixel < (camera.width, camera.height)).all(axis=1)
    depth = np.full((camera.height, camera.width), np.inf, np.float32)
    np.minimum.at(depth, (pixel[inside, 1], pixel[inside, 0]), points[inside, 2].astype(np.float32))
    return np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)
