"""`spatial-fm map` with calibration.refine: a wrong TF and a late odometry are corrected and reported."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from running import oracle

from spatial_fm_ros.evaluation.tum import read_tum
from spatial_fm_ros.simulation.faults import FaultPlan
from spatial_fm_ros.simulation.recording import write_bag
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

SCENARIO = replace(
    get_scenario("room_handheld", seed=2, detail=0.2, duration_s=15.0, camera_hz=5.0, lidar_hz=0.0, imu_hz=0.0)
).with_size(96)
REFINE = ("--set", "calibration.refine=true", "--set", "intake.max_interval_s=0.2")


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    plan = FaultPlan(extrinsic_error_deg=2.0, odometry_offset_s=0.03, seed=1)
    write_bag(Simulator(SCENARIO), folder / "bag", threads=2, plan=plan)
    return folder / "bag"


def test_corrections_are_in_the_report(wrong: Path, tmp_path: Path, spatial_fm) -> None:
    out = tmp_path / "out"
    done = spatial_fm("map", wrong, "-o", out, *oracle(wrong), *REFINE)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    (odometry,) = report["calibration"]["sensors"]
    assert odometry["sensor"] == "odometry" and not odometry["beyond_bounds"]
    assert odometry["applied_offset_s"] == pytest.approx(0.03, abs=0.003)
    assert np.linalg.norm(odometry["applied_rotation_deg"]) == pytest.approx(2.0, abs=0.3)
    assert len(report["calibration"]["told"]) == 2 and set(report["calibration"]["told"]) <= set(report["notes"])
    # Poses of all frames are by the calibration as found: they meet the keyframes, in place and in turn.
    keyframes, every = read_tum(out / "trajectory.tum"), read_tum(out / "trajectory_all.tum")
    index = np.searchsorted(every.stamps_ns, keyframes.stamps_ns)
    assert every.poses[index] == pytest.approx(keyframes.poses, abs=3e-3)


def test_without_refinement_nothing_is_corrected(mapped: Path) -> None:
    report = json.loads((mapped / "report.json").read_text())
    assert report["calibration"] == {"refine": False, "told": [], "sensors": []}
