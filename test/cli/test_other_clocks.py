"""A recording whose sensors are stamped by other clocks than the camera: told with the offsets that mend it."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from running import oracle

from spatial_fm_ros.core.intake.clocks import PARAMETERS
from spatial_fm_ros.simulation.faults import FaultPlan
from spatial_fm_ros.simulation.lidar import LidarModel
from spatial_fm_ros.simulation.recording import write_bag
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

SCENARIO = replace(
    get_scenario("room_drive", detail=0.2, duration_s=8.0, camera_hz=5.0, lidar_hz=5.0, imu_hz=50.0),
    lidar_model=LidarModel(rings=8, columns=90),
).with_size(160)
#: PTP time is TAI, a time zone, and a clock that counts from the start of the machine.
WRONG_S = {"odometry": 37.0, "lidar": -7200.0, "imu": -1.6e9}


def test_other_clocks_are_told_by_all_and_the_offsets_mend_them(tmp_path: Path, spatial_fm) -> None:
    bag = tmp_path / "bag"
    plan = FaultPlan(
        odometry_offset_s=WRONG_S["odometry"], points_offset_s=WRONG_S["lidar"], imu_offset_s=WRONG_S["imu"]
    )
    write_bag(Simulator(SCENARIO), bag, threads=2, plan=plan)

    def mapped(name: str, *more: object) -> dict:
        done = spatial_fm("map", bag, "-o", tmp_path / name, *oracle(bag), *more)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / name / "report.json").read_text())

    report = mapped("wrong")
    assert report["scale"]["state"] != "metric"
    reasons = " ".join(report["scale"]["rejected"])
    assert "poses: no pose within 0.5 s of an image (they are 37." in reasons or "they are 36." in reasons
    told = {}
    for sensor, parameter in PARAMETERS.items():
        notes = [note for note in report["notes"] if parameter in note]
        assert notes, report["notes"]
        told[sensor] = re.search(rf"set {re.escape(parameter)} to (-?[\d.]+)", notes[0])[1]
        assert abs(float(told[sensor]) + WRONG_S[sensor]) < 0.3

    checked = spatial_fm("check-calibration", bag)
    assert checked.returncode == 1 and "fine" not in checked.stdout
    for sensor, parameter in PARAMETERS.items():
        found = re.search(rf"set {re.escape(parameter)}: (-?[\d.]+)", checked.stdout)
        assert found, checked.stdout
        assert abs(float(found[1]) - float(told[sensor])) < 0.2

    mends = [word for sensor, value in told.items() for word in ("--set", f"{PARAMETERS[sensor]}={value}")]
    mended = mapped("mended", *mends)
    assert mended["scale"]["state"] == "metric" and "poses" in mended["scale"]["observers"]
    assert not [note for note in mended["notes"] if "time_offset_s" in note]
