"""Our own bag player, alone and through the launch file: what was recorded arrives, in the recorded time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from ament_index_python.packages import get_package_prefix  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from spatial_fm_ros.simulation.recording import write_bag  # noqa: E402
from spatial_fm_ros.simulation.scenario import get_scenario  # noqa: E402
from spatial_fm_ros.simulation.simulator import Simulator  # noqa: E402

PLAYER = Path(get_package_prefix("spatial_fm_ros")) / "lib" / "spatial_fm_ros" / "play_bag"


@pytest.fixture(scope="module", params=["mcap", "sqlite3"])
def bag(request, tmp_path_factory):
    scenario = get_scenario("room_drive", duration_s=3.0, detail=0.25, camera_hz=4.0, lidar_hz=0.0, imu_hz=0.0)
    simulator = Simulator(scenario.with_size(160))
    folder = tmp_path_factory.mktemp("bags") / request.param
    write_bag(simulator, folder, request.param)
    return simulator, folder


def play(ros, bag, *options):
    environment = os.environ | {"ROS_DOMAIN_ID": str(ros.domain)}
    command = [sys.executable, str(PLAYER), str(bag), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_everything_arrives_in_recorded_time(ros, bag, kit):
    simulator, folder = bag
    node = ros.node("listener")
    heard = {"/image": [], "/odometry": [], "/tf_static": [], "/clock": []}
    for (topic, messages), kind in zip(heard.items(), (Image, Odometry, TFMessage, Clock), strict=True):
        node.create_subscription(kind, topic, messages.append, 200)
    done = play(ros, folder, "--rate", "2", "--wait-for", "/image", "/odometry", "/tf_static", "/clock")
    assert done.returncode == 0, done.stderr
    stamps = simulator.frame_stamps_ns
    kit.wait_for(lambda: len(heard["/image"]) == len(stamps), what="all images")
    assert [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in heard["/image"]] == stamps
    assert (heard["/image"][0].width, len(heard["/image"][0].data)) == (160, 160 * 120 * 3)
    kit.wait_for(lambda: len(heard["/odometry"]) == len(simulator.odometry), what="all poses")
    assert heard["/tf_static"][0].transforms
    clock = [m.clock.sec * 10**9 + m.clock.nanosec for m in heard["/clock"]]
    assert clock == sorted(clock) and len(clock) > 50
    assert stamps[0] <= clock[0] and clock[-1] <= stamps[-1] + 10**8


def test_no_bag_is_a_sentence(ros, tmp_path):
    done = play(ros, tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "play_bag:" in done.stderr and "it holds no storage file" in done.stderr


def test_launch_file_maps_a_bag(ros, bag, kit):
    simulator, folder = bag
    ears = kit.Ears(ros)
    environment = os.environ | {"ROS_DOMAIN_ID": str(ros.domain), "PYTHONUNBUFFERED": "1"}
    words = [f"bag:={folder}", "bag_rate:=3", "model:=geometric", "image_topic:=/image", "odometry_topic:=/odometry"]
    launch = subprocess.Popen(
        ["ros2", "launch", "spatial_fm_ros", "reconstruct.launch.py", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        frames = len(simulator.frame_stamps_ns)
        kit.wait_for(lambda: ears.status is not None and ears.status.frames_received == frames, 90.0, "all images")
    finally:
        os.killpg(launch.pid, signal.SIGINT)
        output, _ = launch.communicate(timeout=30)
    assert "Traceback" not in output, output
