"""Installed executables and the launch file, as processes, as a user starts them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from small_hub import Lie, SmallHub

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from ament_index_python.packages import get_package_share_directory  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from rcl_interfaces.srv import GetParameters  # noqa: E402

LAUNCH = Path(get_package_share_directory("spatial_fm_ros")) / "launch" / "reconstruct.launch.py"
RUN_LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
arguments = [tuple(word.split(":=", 1)) for word in sys.argv[2:]]
service = LaunchService()
source = AnyLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""


@pytest.fixture
def process(ros):
    """Start a command in the test's domain, in a process group of its own; all end with the test."""
    started = []

    def start(command, **variables):
        environment = os.environ | {"ROS_DOMAIN_ID": str(ros.domain), "PYTHONUNBUFFERED": "1"} | variables
        child = subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()


def interrupt(child):
    """Ctrl-C reaches the whole process group. Returns (exit code, output)."""
    os.killpg(child.pid, signal.SIGINT)
    output, _ = child.communicate(timeout=20)
    return child.returncode, output


def executable(name):
    from ament_index_python.packages import get_package_prefix

    return Path(get_package_prefix("spatial_fm_ros")) / "lib" / "spatial_fm_ros" / name


def test_reconstruct_runs_and_ends_cleanly_on_ctrl_c(ros, process, truth_folder, simulator, kit):
    command = [executable("reconstruct"), "--ros-args"]
    for name, value in (kit.small | kit.topics | {"model.oracle.truth": truth_folder}).items():
        command += ["-p", f"{name}:={value}"]
    child = process(command)
    ears = kit.Ears(ros)
    robot = kit.Robot(ros, simulator)
    kit.wait_for(robot.image.get_subscription_count, 30.0, "the node")
    time.sleep(0.5)
    robot.play(0.0, 4.0, speed=3.0)
    kit.wait_for(lambda: ears["depth/image"] and ears["map"] and ears.edges(), what="outputs")
    code, output = interrupt(child)
    assert code == 0 and "Traceback" not in output, output


#: The node in a program where one part of it hangs, as a device that is lost or code that cannot be interrupted.
HANG = """
import sys, threading, time
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.nodes import reconstruct, worker

def hang(*_):
    print("hangs", flush=True)
    time.sleep(600)

{where} = hang
sys.exit(reconstruct.main())
"""
ORACLE = ("--ros-args", "-p", "model.name:=oracle", "-p", "model.oracle.truth:=")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_while_weights_are_downloaded(ros, process, tmp_path, kit, number):
    closing = threading.Event()

    def drip():
        while not closing.wait(0.05):
            yield b"w"

    with SmallHub({"owner/name": {"model.safetensors": b"weights" * 1000}}) as hub:
        hub.lie = lambda _method, path: Lie(200, [], drip()) if path.startswith("/storage") else None
        command = [executable("reconstruct"), "--ros-args", "-p", "model.name:=vggt"]
        child = process(
            [*command, "-p", "model.checkpoint:=owner/name"], HF_ENDPOINT=hub.address, HF_HOME=str(tmp_path)
        )
        kit.wait_for(hub.downloads, 60.0, "a download")
        kit.wait_for(lambda: any(p.stat().st_size for p in tmp_path.rglob("*.partial")), 20.0, "some bytes")
        child.send_signal(number)
        output, _ = child.communicate(timeout=10)
        closing.set()
    assert child.returncode == 0 and "Traceback" not in output and "given up" in output, output
    (partial,) = tmp_path.rglob("*.partial")
    assert partial.stat().st_size > 0  # the next start goes on there


#: A file that takes a while, begun as a service is at work.
WRITE = """
import sys, threading, time
from spatial_fm_ros.core.io.writing import replacing
from spatial_fm_ros.nodes import ending, reconstruct

def write():
    with replacing(sys.argv[1], "map") as file:
        print("writes", flush=True)
        while not told.is_set():
            time.sleep(0.05)
        time.sleep(1.0)
        file.write(b"whole")

class Ending(ending.Ending):
    def __init__(self):
        super().__init__()
        global told
        told = self.told
        threading.Thread(target=write, daemon=True).start()

reconstruct.Ending = Ending
sys.exit(reconstruct.main())
"""


def test_a_file_in_work_is_finished_first(process, tmp_path):
    arguments = ["--ros-args", "-p", "ros.autostart:=false"]
    child = process([sys.executable, "-c", WRITE, tmp_path / "map.ply", *arguments])
    for line in child.stdout:
        if "writes" in line:
            break
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=20)
    assert child.returncode == 0 and (tmp_path / "map.ply").read_bytes() == b"whole", output


@pytest.mark.parametrize("where", ["Pipeline.load", "worker.Worker._work"])
def test_it_ends_whatever_hangs(process, truth_folder, where):
    child = process([sys.executable, "-c", HANG.format(where=where), *ORACLE[:-1], f"{ORACLE[-1]}{truth_folder}"])
    for line in child.stdout:
        if "hangs" in line:
            break
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=10)
    assert child.returncode == 0 and "Traceback" not in output, output


def test_a_second_signal_ends_it_at_once(process, truth_folder):
    where = "reconstruct.Ending.begin"  # so that nothing else ends it
    child = process([sys.executable, "-c", HANG.format(where=where), *ORACLE[:-1], f"{ORACLE[-1]}{truth_folder}"])
    for line in child.stdout:
        if "Listening" in line:
            break
    child.send_signal(signal.SIGINT)
    assert "hangs" in child.stdout.readline()
    time.sleep(1.0)  # closer together they are one
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=10)
    assert child.returncode == 130


def test_ctrl_c_before_the_node_is_there(process):
    child = process([executable("reconstruct"), "--ros-args", "-p", "ros.autostart:=false"])
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=20)
    assert child.returncode in (0, -signal.SIGINT) and "Traceback" not in output, output


def test_wrong_parameters_are_a_sentence_not_a_traceback(process):
    child = process([executable("reconstruct"), "--ros-args", "-p", "window.size:=1000"])
    output, _ = child.communicate(timeout=30)
    assert child.returncode == 2 and "Traceback" not in output
    assert "reconstruct: Parameter 'window.size' must be at most 64, got 1000." in output


def test_launch_file_takes_topics_model_and_files(ros, process, truth_folder, tmp_path, kit):
    extra = tmp_path / "extra.yaml"
    extra.write_text(f"/**:\n  ros__parameters:\n    model.oracle.truth: '{truth_folder}'\n    window.size: 5\n")
    child = process(
        [
            *(sys.executable, "-c", RUN_LAUNCH, LAUNCH, "model:=oracle", f"config:=realsense_d4xx,{extra}"),
            *("image_topic:=/cam/color/image_raw", "odometry_topic:=odom", "namespace:=robot7"),
            *("companion_image_topics:=/cam/infra1,/cam/infra2", "companion_camera_info_topics:=/cam/info1,/cam/info2"),
        ]
    )
    ears = kit.Ears(ros, target="robot7/reconstruct", outputs=(), with_map=False)
    asked = {
        "ros.image_topic": "/cam/color/image_raw",
        "ros.camera_info_topic": "",  # beside the images
        "ros.odometry_topic": "odom",
        "ros.companion_image_topics": "/cam/infra1,/cam/infra2",
        "ros.companion_camera_info_topics": "/cam/info1,/cam/info2",
        "ros.imu_topic": "/camera/camera/imu",
        "model.name": "oracle",
        "window.size": 5,
        "use_sim_time": False,
    }
    request = GetParameters.Request(names=list(asked))
    answer = ears.call(GetParameters, "/robot7/reconstruct/get_parameters", request, 30.0)
    fields = {1: "bool_value", 2: "integer_value", 3: "double_value", 4: "string_value"}
    got = {name: getattr(v, fields[v.type]) for name, v in zip(asked, answer.values, strict=True)}
    assert got == asked

    def state():
        return ears.call(GetState, "/robot7/reconstruct/get_state").current_state.label

    kit.wait_for(lambda: state() == "active", what="autostart")
    code, output = interrupt(child)
    assert "Traceback" not in output, output


def test_waiting_ends_when_somebody_activates_the_node(ros, process, reconstruct, kit):
    """What a bag of the launch file waits for."""
    node = reconstruct({"ros.autostart": False})
    child = process([executable("wait_until_active"), "/reconstruct"])
    kit.wait_for(lambda: node.count_clients("/reconstruct/get_state"), what="the question")
    assert child.poll() is None
    node.trigger_configure()
    assert child.poll() is None
    node.trigger_activate()
    assert child.wait(20.0) == 0
    assert process([executable("wait_until_active"), "/reconstruct"]).wait(20.0) == 0
    node.trigger_shutdown()
    assert process([executable("wait_until_active"), "/reconstruct"]).wait(20.0) == 1


@pytest.mark.parametrize(
    ("argument", "words"),
    [("config:=nowhere.yaml", "neither a file nor one of"), ("bag:=/nowhere/bag", "does not exist")],
)
def test_launch_says_what_is_wrong_with_an_argument(process, argument, words):
    child = process([sys.executable, "-c", RUN_LAUNCH, LAUNCH, argument])
    output, _ = child.communicate(timeout=30)
    assert words in output, output


def test_check_topics_is_content_with_a_healthy_robot(ros, process, simulator, kit):
    robot = kit.Robot(ros, simulator)
    command = [executable("check_topics"), "--duration", "3"]
    for option in ("image", "camera-info", "points", "odometry", "imu"):
        role = option.replace("-", "_")
        command += [f"--{option}", kit.topics[f"ros.{role}_topic"]]
    child = process(command)
    while child.poll() is None:
        robot.play(0.0, 1.0, shift_ns=time.time_ns() - simulator.scenario.start_ns, speed=1.0)
    output = child.stdout.read()
    assert child.returncode == 0, output
    for words in ("320x240 rgb8", "camera_optical_frame", "of 'base_link'", "points"):
        assert words in output
    assert "ERROR" not in output and "Traceback" not in output


def test_check_topics_names_what_is_wrong(ros, process, simulator, kit):
    robot = kit.Robot(ros, simulator, reliable=False, static_tf=False)
    command = [
        *(executable("check_topics"), "--duration", "3", "--image", "camera/image"),
        *("--camera-info", "camera/camera_info", "--odometry", "odom", "--points", "no_points"),
        *("--image-reliability", "reliable"),
    ]
    child = process(command)
    while child.poll() is None:
        robot.play(0.0, 1.0, shift_ns=-5_000_000_000, speed=3.0)
    output = child.stdout.read()
    assert child.returncode == 1 and "Traceback" not in output, output
    assert "nobody publishes /no_points" in output
    assert "/camera/image of /robot has incompatible QoS" in output
    assert "behind this node's clock" in output


def test_check_topics_help_and_wrong_options(process):
    for arguments, code, words in (
        (["--help"], 0, "--camera-info"),
        (["--pose-source", "gps"], 2, "odometry, tf, lidar, none"),
        (["--image", "no good name"], 2, "no name of a ROS topic"),
    ):
        child = process([executable("check_topics"), *arguments])
        output, _ = child.communicate(timeout=30)
        assert child.returncode == code and words in output and "Traceback" not in output, output
