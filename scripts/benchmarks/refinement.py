"""Calibration refined while mapping: what is left of wrong mountings and clocks, and what it does to scale and ATE.

    PYTHONPATH=.:scripts python -m benchmarks.refinement --seeds 5 --cores 2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from benchmarks.metric_run import Case, driven
from spatial_fm_ros.core.types import Array, Rig
from spatial_fm_ros.evaluation.trajectory import evaluate_trajectory
from spatial_fm_ros.evaluation.tum import StampedPoses
from spatial_fm_ros.simulation.faults import FaultPlan

#: Cameras that err like a network's.
NETWORK = ("model.oracle.rotation_error_deg=0.2", "model.oracle.direction_error_deg=0.5")
LIDAR_POSES = ("ros.pose_source=lidar",)
WRONG = FaultPlan(
    extrinsic_error_deg=2.0, extrinsic_error_m=0.02, odometry_offset_s=0.03, points_offset_s=0.03, imu_offset_s=0.03
)
TURNED = FaultPlan(extrinsic_error_deg=2.0, extrinsic_error_m=0.02)
RIGHT = FaultPlan()
CASES = (
    Case("room_handheld", "handheld, odometry and IMU", 40.0, imu=True, faults=WRONG, settings=NETWORK),
    Case("room_drive", "drive, odometry and IMU", 40.0, imu=True, faults=WRONG, settings=NETWORK),
    Case("street_drive", "street, LiDAR", 40.0, odometry=False, lidar=True, faults=TURNED, settings=NETWORK),
    Case("room_drive", "drive, odometry and LiDAR", 40.0, lidar=True, faults=TURNED, settings=NETWORK),
    Case("room_handheld", "handheld, LiDAR odometry", 30.0, odometry=False, lidar=True, faults=WRONG,
         settings=NETWORK + LIDAR_POSES),
    Case("room_handheld", "right: handheld, odometry and IMU", 40.0, imu=True, faults=RIGHT, settings=NETWORK),
    Case("room_drive", "right: drive, odometry and IMU", 40.0, imu=True, faults=RIGHT, settings=NETWORK),
    Case("street_drive", "right: street, LiDAR", 40.0, odometry=False, lidar=True, faults=RIGHT, settings=NETWORK),
    Case("room_handheld", "right: handheld, LiDAR odometry", 30.0, odometry=False, lidar=True, faults=RIGHT,
         settings=NETWORK + LIDAR_POSES),
)  # fmt: skip


@dataclass(frozen=True)
class Left:
    """What one run left. turns: error of the rotation between camera and sensor about x and z of the camera and about
    its y (vertical in these worlds), degrees; clocks_ms: by which stamps were corrected."""

    scale: float
    ate_m: float
    turns: dict[str, tuple[float, float]]
    clocks_ms: dict[str, float]


def measured(job: tuple[Case, bool, int]) -> Left:
    """One seed of a case, with refinement or without."""
    case, refine, seed = job
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    outcome, pipeline, simulator = driven(case, seed, {"calibration.refine": str(refine).lower()})
    largest = max(pipeline.trajectories(), key=lambda each: len(each.stamps_ns))
    truth = simulator.truth.world_from_cameras(largest.stamps_ns)
    errors = evaluate_trajectory(
        StampedPoses(largest.stamps_ns, largest.world_from_camera, "the map"),
        StampedPoses(largest.stamps_ns, truth, "the truth"),
    )
    sensors = pipeline.sensors
    used = ["odometry"] * case.odometry + ["imu"] * case.imu + ["lidar"] * case.lidar
    turns = {}
    for name in used:
        wrong = Rotation.from_matrix(_mounting(sensors.rig, name).T @ _mounting(simulator.rig, name)).as_rotvec()
        x, y, z = np.degrees(wrong)
        turns[name] = float(np.hypot(x, z)), abs(float(y))
    clocks = {name: 1e-6 * sensors.correction.clock_ns(name) for name in used}
    return Left(100 * outcome.scale_error, errors.se3.ate.rmse, turns, clocks)


def _mounting(rig: Rig, sensor: str) -> Array:
    """Rotation sensor_from_camera [3, 3]."""
    assert rig.body_from_camera is not None
    body = {"odometry": np.eye(4), "imu": rig.body_from_imu, "lidar": rig.body_from_lidar}[sensor]
    assert body is not None
    return np.asarray(body[:3, :3].T @ rig.body_from_camera[:3, :3])


def _row(case: Case, off: Sequence[Left], on: Sequence[Left]) -> str:
    def pair(values: list[float], digits: int) -> str:
        return f"{np.median(values):.{digits}f} / {max(values):.{digits}f}"

    def both(part: str, digits: int, factor: float = 1.0) -> str:
        return " to ".join(pair([factor * getattr(each, part) for each in runs], digits) for runs in (off, on))

    turns, clocks = [], []
    for name in off[0].turns:
        level = " to ".join(pair([each.turns[name][0] for each in runs], 2) for runs in (off, on))
        upright = " to ".join(pair([each.turns[name][1] for each in runs], 2) for runs in (off, on))
        turns.append(f"{name} {level}; y {upright}")
        moved = [each.clocks_ms[name] for each in on]
        clocks.append(f"{name} {min(moved):.1f} to {max(moved):.1f}")
    cells = [case.title, "<br>".join(turns), "<br>".join(clocks), both("scale", 2), both("ate_m", 1, 100.0)]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    print("| case | rotation left, about x and z; y (deg) | clock moved (ms) | scale error (%) | ATE (cm) |")
    print("|---|---|---|---|---|", flush=True)
    with ProcessPoolExecutor(options.cores) as pool:
        for case in CASES:
            jobs = [(case, refine, seed) for refine, seed in product((False, True), range(options.seeds))]
            runs = list(pool.map(measured, jobs))
            print(_row(case, runs[: options.seeds], runs[options.seeds :]), flush=True)


if __name__ == "__main__":
    main()
