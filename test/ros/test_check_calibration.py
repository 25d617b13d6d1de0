"""check_topics beside a robot that turns: a late IMU and a wrong camera mount are named, live."""

import dataclasses
import os
import subprocess
import time

import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from ament_index_python.packages import get_package_prefix  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from spatial_fm_ros.core.types import ImuSample  # noqa: E402
from spatial_fm_ros.simulation.scenario import get_scenario  # noqa: E402
from spatial_fm_ros.simulation.simulator import Simulator  # noqa: E402

LATE_NS = 30_000_000
SCENARIO = get_scenario(
    "room_handheld", seed=2, detail=0.2, camera_hz=8.0, lidar_hz=0.0, imu_hz=50.0, odometry_hz=20.0,
    duration_s=12.0, distortion=(),
).with_size(240)  # fmt: skip


def test_a_late_imu_and_a_turned_camera_are_named(ros, kit, tmp_path):
    simulator = Simulator(SCENARIO)
    turned = simulator.rig.body_from_camera.copy()
    turned[:3, :3] = turned[:3, :3] @ Rotation.from_euler("x", 3.0, degrees=True).as_matrix()
    samples = [event.sample for event in simulator.events(threads=2)]
    simulator.rig = dataclasses.replace(simulator.rig, body_from_camera=turned)  # what TF says
    robot = kit.Robot(ros, simulator)
    executable = os.path.join(get_package_prefix("spatial_fm_ros"), "lib", "spatial_fm_ros", "check_topics")
    command = [executable, "--duration", "8", "--image", "camera/image", "--camera-info", "camera/camera_info"]
    command += ["--odometry", "odom", "--imu", "imu"]
    output = tmp_path / "output"
    with output.open("w") as file:
        child = subprocess.Popen(
            command, env=os.environ | {"ROS_DOMAIN_ID": str(ros.domain)}, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        kit.wait_for(lambda: robot.imu.get_subscription_count() and robot.image.get_subscription_count())
        shift = time.time_ns() - SCENARIO.start_ns
        began = time.monotonic()
        for sample in samples:
            due = began + (sample.stamp_ns - SCENARIO.start_ns) * 1e-9 / 2.0  # twice as fast as it was
            time.sleep(max(0.0, due - time.monotonic()))
            robot.send(sample, shift + (LATE_NS if isinstance(sample, ImuSample) else 0))
        child.wait(timeout=60)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    said = output.read_text()
    assert child.returncode == 0, said
    late = said.split("IMU: its stamps are ")[1]
    assert (
        late.startswith(("29 ", "30 ", "31 "))
        and "later than the camera's; set intake.imu_time_offset_s: -0.03" in said
    )
    assert "odometry: its stamps agree with the camera's" in said
    for name in ("IMU", "odometry"):
        mounting = said.split(
            f"{name}: the rotation between camera and {name} in TF is wrong: turn the camera's frame by "
        )[1]
        assert -3.5 < float(mounting.split()[0]) < -2.5 and "about x (right)" in mounting.split("\n")[0]
    assert "All inputs can be used." not in said and "ERROR" not in said
