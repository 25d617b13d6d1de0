"""The ros2 command of the environment: look-up of our messages, launch files that end whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not here; run the tests with `make test`")
pytestmark = pytest.mark.skipif(shutil.which("ros2") is None, reason="there is no ros2 command in PATH")
from_pip = pytest.mark.skipif("SPATIAL_FM_PIP_ROS" not in os.environ, reason="a sourced ROS 2 brings its own ros2")

LAUNCH = """
import sys
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration

CHILD = '''
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[3] == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()))
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    time.sleep(0.1)
'''

def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument("file", description="where the child writes its process id"),
        DeclareLaunchArgument("seconds", default_value="60", description="how long it runs"),
        DeclareLaunchArgument("manners", default_value="good", choices=["good", "deaf"]),
        ExecuteProcess(cmd=[sys.executable, "-c", CHILD, LaunchConfiguration("file"),
                            LaunchConfiguration("seconds"), LaunchConfiguration("manners")]),
    ])
"""


def ros2(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ros2", *words], capture_output=True, text=True, timeout=60)


def wait_for(condition, seconds: float = 30.0) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between opening and reading
        return False


@pytest.fixture
def launch_file(tmp_path: Path) -> Path:
    path = tmp_path / "child.launch.py"
    path.write_text(LAUNCH)
    return path


def test_interfaces_of_this_package_are_found() -> None:
    assert ros2("interface", "package", "spatial_fm_ros").stdout.split() == [
        "spatial_fm_ros/msg/ReconstructionStatus",
        "spatial_fm_ros/srv/LoadMap",
        "spatial_fm_ros/srv/SaveMap",
        "spatial_fm_ros/srv/SaveTrajectory",
    ]
    shown = ros2("interface", "show", "spatial_fm_ros/msg/ReconstructionStatus").stdout
    assert "uint8 METRIC=1" in shown
    assert "\tbuiltin_interfaces/Time stamp" in shown and "\t\tint32 sec" in shown
    assert "spatial_fm_ros/msg/ReconstructionStatus" in ros2("interface", "list").stdout


def test_executables_are_found() -> None:
    listed = ros2("pkg", "executables", "spatial_fm_ros").stdout
    for name in ("check_topics", "map_bag", "reconstruct", "simulated_robot"):
        assert f"spatial_fm_ros {name}" in listed


def test_launch_passes_arguments_and_ends_with_its_processes(launch_file: Path, tmp_path: Path) -> None:
    result = ros2("launch", str(launch_file), f"file:={tmp_path}/pid", "seconds:=0.2")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "pid").exists()


def test_launch_shows_arguments(launch_file: Path) -> None:
    shown = ros2("launch", str(launch_file), "--show-args").stdout
    assert "'file':" in shown and "where the child writes" in shown and "60" in shown


@from_pip
def test_launch_names_what_it_cannot_find() -> None:
    result = ros2("launch", "spatial_fm_ros", "no_such.launch.py")
    assert result.returncode != 0 and "no file 'no_such.launch.py'" in result.stderr
    result = ros2("launch", "no_such_package", "x.launch.py")
    assert result.returncode != 0 and "'no_such_package' not found" in result.stderr


@from_pip
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_launch_takes_its_processes_along(launch_file: Path, tmp_path: Path, signum: signal.Signals) -> None:
    """A signal to the command alone ends the nodes at once; they ignore SIGTERM here, as busy nodes may."""
    run = subprocess.Popen(["ros2", "launch", str(launch_file), f"file:={tmp_path}/pid"], start_new_session=True)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    run.send_signal(signum)
    run.wait(timeout=30)
    assert not is_running(pid)


@from_pip
def test_launch_that_is_killed_leaves_nothing(launch_file: Path, tmp_path: Path) -> None:
    run = subprocess.Popen(["ros2", "launch", str(launch_file), f"file:={tmp_path}/pid"], start_new_session=True)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    run.kill()
    run.wait(timeout=10)
    wait_for(lambda: not is_running(pid))


def test_lifecycle_states_over_the_command_line(tmp_path: Path) -> None:
    node = tmp_path / "node.py"
    node.write_text(
        "import rclpy\n"
        "from rclpy.lifecycle import LifecycleNode\n"
        "rclpy.init()\n"
        "try:\n"
        "    rclpy.spin(LifecycleNode('a_node'))\n"
        "except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):\n"
        "    pass\n"
    )
    run = subprocess.Popen([sys.executable, str(node)])
    try:
        wait_for(lambda: "/a_node" in ros2("lifecycle", "nodes").stdout)
        assert "configure" in ros2("lifecycle", "list", "/a_node").stdout
        assert ros2("lifecycle", "set", "/a_node", "configure").returncode == 0
        assert "inactive" in ros2("lifecycle", "get", "/a_node").stdout
        refused = ros2("lifecycle", "set", "/a_node", "configure")
        assert refused.returncode != 0 or "Transitioning successful" not in refused.stdout
    finally:
        run.send_signal(signal.SIGINT)
        run.wait(timeout=20)
