"""The simulated robot as a process on the real middleware: everything arrives, in order, and it ends well."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, PointCloud2  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from spatial_fm_ros.bridge.decode_points import decode_points  # noqa: E402
from spatial_fm_ros.nodes.simulated_robot import main  # noqa: E402
from spatial_fm_ros.simulation.scenario import get_scenario  # noqa: E402
from spatial_fm_ros.simulation.simulator import Simulator  # noqa: E402
from spatial_fm_ros.simulation.truth import load_truth  # noqa: E402

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SMALL = ["detail:=0.25", "image_width:=160", "duration_s:=1", "linger_s:=0.5", "rate:=1.0", "camera_hz:=5"]


def command(*parameters: str, arguments: tuple[str, ...] = ()) -> list[str]:
    given = {p.split(":=")[0] for p in parameters}
    small = [p for p in SMALL if p.split(":=")[0] not in given]
    settings = [part for p in (*small, *parameters) for part in ("-p", p)]
    code = "import sys; from spatial_fm_ros.nodes.simulated_robot import main; sys.exit(main())"
    return [sys.executable, "-c", code, *arguments, "--ros-args", *settings]


class Ears:
    """Hears every topic of the robot, each message with the order of its arrival."""

    def __init__(self, image_type: Any = Image, image_topic: str = "image") -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = Node("ears", context=self.context)
        self.heard: dict[str, list[Any]] = defaultdict(list)
        sensors = QoSProfile(depth=300)
        topics = [
            (image_type, image_topic, sensors), (CameraInfo, "camera_info", sensors), (PointCloud2, "points", sensors),
            (Odometry, "odometry", sensors), (Imu, "imu", sensors), (Clock, "/clock", sensors),
            (TFMessage, "/tf", sensors), (TFMessage, "/tf_static", LATCHED),
            (Bool, "simulated_robot/finished", LATCHED), (Image, "camera_2/image", sensors),
            (CameraInfo, "camera_2/camera_info", sensors),
        ]  # fmt: skip
        for kind, topic, qos in topics:
            self.node.create_subscription(kind, topic, self.heard[topic].append, qos)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def wait_for(self, topic: str, count: int, timeout_s: float = 30.0) -> None:
        end = time.monotonic() + timeout_s
        while len(self.heard[topic]) < count:
            assert time.monotonic() < end, f"{topic}: {len(self.heard[topic])} of {count} messages"
            time.sleep(0.02)

    def close(self) -> None:
        self.context.try_shutdown()
        self._thread.join(5)


@pytest.fixture
def ears() -> Iterator[Ears]:
    heard = Ears()
    yield heard
    heard.close()


def stamp_ns(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


ALL = "wait_for:=[image,points,odometry,imu,camera_info,/clock,/tf,camera_2/image,camera_2/camera_info]"


def test_everything_is_published_as_simulated(ears: Ears, tmp_path: Path) -> None:
    asked = command(ALL, f"truth_dir:={tmp_path}", "stereo_baseline_m:=0.2")
    robot = subprocess.run(asked, capture_output=True, text=True, timeout=90)
    assert robot.returncode == 0, robot.stderr
    assert "Finished: 6 image, 10 points, 51 odometry, 101 imu, 6 camera_2; faults: none" in robot.stderr + robot.stdout
    heard = ears.heard
    ears.wait_for("imu", 101)
    counts = {t: len(heard[t]) for t in ("image", "camera_info", "points", "odometry", "imu", "/tf")}
    assert counts == {"image": 6, "camera_info": 6, "points": 10, "odometry": 51, "imu": 101, "/tf": 51}
    assert [m.data for m in heard["simulated_robot/finished"]][-1] is True
    truth = load_truth(tmp_path)
    run = Simulator(truth.scenario)
    assert [stamp_ns(m.header.stamp) for m in heard["image"]] == run.frame_stamps_ns
    image, info = heard["image"][3], heard["camera_info"][3]
    assert image.encoding == "rgb8" and image.header.frame_id == info.header.frame_id == "camera_optical_frame"
    assert image.header.stamp == info.header.stamp
    assert np.array_equal(np.frombuffer(image.data, np.uint8).reshape(120, 160, 3), run.frame(3).image)
    assert np.array_equal(np.reshape(info.k, (3, 3)), truth.scenario.camera().K)
    second, frame = heard["camera_2/image"][3], run.companion(3, 0).frame
    assert second.header == heard["camera_2/camera_info"][3].header and second.header.stamp == image.header.stamp
    assert second.header.frame_id == frame.frame_id == "camera_2_optical_frame"
    assert np.array_equal(np.frombuffer(second.data, np.uint8).reshape(120, 160, 3), frame.image)
    scan, expected = decode_points(heard["points"][4]), run.scan(4)
    assert scan.stamp_ns == expected.stamp_ns and np.array_equal(scan.points, expected.points)
    assert scan.ring is not None and np.array_equal(scan.ring, expected.ring)
    assert scan.point_times_ns is not None and expected.point_times_ns is not None
    assert np.abs(scan.point_times_ns - expected.point_times_ns).max() < 1000
    position, edge = heard["odometry"][20].pose.pose.position, heard["/tf"][20].transforms[0]
    assert np.allclose([position.x, position.y, position.z], run.odometry[20].odom_from_body[:3, 3])
    assert (edge.header.frame_id, edge.child_frame_id) == ("odom", "base_link")
    static = {(t.header.frame_id, t.child_frame_id) for t in heard["/tf_static"][-1].transforms}
    assert {("base_link", "camera_link"), ("camera_link", "camera_optical_frame"), ("base_link", "lidar")} <= static
    edge = next(t for t in heard["/tf_static"][-1].transforms if t.child_frame_id == "camera_2_optical_frame")
    assert edge.header.frame_id == "camera_optical_frame"
    assert np.allclose([getattr(edge.transform.translation, axis) for axis in "xyz"], [0.2, 0, 0])
    clock = [stamp_ns(m.clock) for m in heard["/clock"]]
    assert clock == sorted(clock) and clock[0] == truth.scenario.start_ns
    assert clock[-1] >= truth.scenario.start_ns + 10**9


def test_faults_compression_and_rate_are_obeyed(tmp_path: Path) -> None:
    ears = Ears(CompressedImage, "image/compressed")
    try:
        faults = ["fault.streams:=[image]", "fault.duplicate:=1.0", "compressed:=jpeg", "rate:=0.0", "lidar_hz:=0.0"]
        wait = "wait_for:=[image/compressed]"
        robot = subprocess.run(command(wait, *faults), capture_output=True, text=True, timeout=90)
        assert robot.returncode == 0, robot.stderr
        assert "6 image:duplicate" in robot.stderr + robot.stdout
        ears.wait_for("image/compressed", 12)
        assert ears.heard["image/compressed"][0].format == "rgb8; jpeg compressed bgr8"
        assert not ears.heard["points"] and not ears.heard["camera_2/camera_info"]
    finally:
        ears.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_at_once_and_cleanly(ears: Ears, number: int) -> None:
    with subprocess.Popen(
        command("duration_s:=50"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as robot:
        try:
            ears.wait_for("image", 2)
            robot.send_signal(number)
            output, _ = robot.communicate(timeout=60)
        finally:
            robot.kill()
    assert robot.returncode == 0 and "Traceback" not in output
    assert True not in [m.data for m in ears.heard["simulated_robot/finished"]]


def test_bag_instead_of_topics(tmp_path: Path) -> None:
    arguments = ("--bag", str(tmp_path / "bag"), "--storage", "sqlite3")
    robot = subprocess.run(command(arguments=arguments), capture_output=True, text=True, timeout=90)
    assert robot.returncode == 0, robot.stderr
    assert (tmp_path / "bag" / "metadata.yaml").is_file()
    assert load_truth(tmp_path / "bag").scenario.name == get_scenario("room_drive").name


@pytest.mark.parametrize(
    ("parameter", "part"),
    [
        ("scenario:=moon", "Unknown scenario 'moon'"),
        ("duration_s:=long", "Parameter 'duration_s' needs a float"),
        ("reliability:=maybe", "must be reliable or best_effort"),
        ("fault.drop:=3.0", "share of 'drop'"),
        ("stereo_baseline_m:=-0.1", "'stereo_baseline_m' must be a length or 0"),
    ],
)
def test_wrong_requests_are_one_sentence(parameter: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulated_robot", "--ros-args", "-p", parameter]) == 1
    said = capsys.readouterr().err
    assert part in said and "Traceback" not in said
