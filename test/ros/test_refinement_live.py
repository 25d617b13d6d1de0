"""The real node with calibration.refine: a late odometry and a wrong TF are corrected, told, and forgotten on reset."""

import dataclasses
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from scipy.spatial.transform import Rotation  # noqa: E402

from spatial_fm_ros.core.types import PoseSample  # noqa: E402
from spatial_fm_ros.simulation.scenario import get_scenario, save_scenario  # noqa: E402
from spatial_fm_ros.simulation.simulator import Simulator  # noqa: E402

LATE_NS, TURNED_DEG = 30_000_000, 2.0
SCENARIO = get_scenario(
    "room_handheld", seed=2, detail=0.2, camera_hz=5.0, lidar_hz=0.0, imu_hz=0.0, odometry_hz=20.0,
    duration_s=40.0, distortion=(),
).with_size(240)  # fmt: skip


def test_wrong_clock_and_mounting_are_corrected_and_told(ros, kit, tmp_path):
    simulator = Simulator(SCENARIO)
    save_scenario(SCENARIO, tmp_path / "scenario.json")
    true = simulator.rig.body_from_camera
    turned = true.copy()
    turned[:3, :3] = turned[:3, :3] @ Rotation.from_euler("x", TURNED_DEG, degrees=True).as_matrix()
    simulator.rig = dataclasses.replace(simulator.rig, body_from_camera=turned)  # what TF says
    parameters = {"calibration.refine": True, "ros.points_topic": "", "ros.imu_topic": "", "window.size": 6}
    node = kit.start(ros, tmp_path, parameters)
    ears = kit.Ears(ros, outputs=(), with_map=False)
    robot = kit.Robot(ros, simulator)
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    kit.wait_for(lambda: node._tree.parent("camera_optical_frame"), what="static TF")
    began = time.monotonic()
    for event in simulator.events(threads=2):
        sample = event.sample
        due = began + (sample.stamp_ns - SCENARIO.start_ns) * 1e-9 / 3.0  # three times as fast as it was
        time.sleep(max(0.0, due - time.monotonic()))
        robot.send(sample, LATE_NS if isinstance(sample, PoseSample) else 0)
        while node.session.pipeline.ready():  # on a busy machine, too, windows are worked off
            time.sleep(0.02)
        if is_corrected(node.session.pipeline):
            break
    kit.settle(node)
    clock, mounting = kit.wait_for(lambda: len(ears.status.calibration) == 2 and ears.status.calibration, what="both")
    assert clock.startswith("odometry: its stamps are ") and "set intake.pose_time_offset_s: -0.03" in clock
    assert "odometry: the rotation between camera and odometry in TF is wrong; corrected by" in mounting
    assert -2.3 < float(mounting.split("frame by ")[1].split()[0]) < -1.7 and "about x (right)" in mounting
    sensors = node.session.pipeline.sensors
    left = sensors.rig.body_from_camera[:3, :3].T @ true[:3, :3]
    assert np.degrees(Rotation.from_matrix(left).magnitude()) < 0.4
    assert sensors.correction.clock_ns("odometry") == pytest.approx(LATE_NS, abs=3e6)
    finding = kit.wait_for(lambda: ears.finding("calibration").values and ears.finding("calibration"), what="finding")
    assert finding.message == f"{clock} {mounting}" and any(v.key == "odometry: stamps later" for v in finding.values)
    node.session.reset("the test wants it")
    kit.wait_for(lambda: not ears.status.calibration, what="nothing corrected")
    assert sensors.rig is sensors.told_rig


def is_corrected(pipeline):
    """Clock and mounting are nearly what they should be."""
    return any(
        state.applied_offset_s > 0.9e-9 * LATE_NS and np.degrees(np.linalg.norm(state.applied_rotation)) > 1.7
        for state in pipeline.corrections
    )
