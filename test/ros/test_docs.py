"""docs/ros.md against the code: every table row is true, and nothing is missing."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from spatial_fm_ros.bridge.inputs import expected_inputs
from spatial_fm_ros.bridge.parameters import RUNTIME
from spatial_fm_ros.core.config import RosConfig

ROOT = Path(__file__).parents[2]


def table(heading):
    """Rows of the first table under a heading of docs/ros.md, cells without back-ticks."""
    text = (ROOT / "docs" / "ros.md").read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows]


@pytest.fixture(scope="module")
def node(module_ros, truth_folder, kit):
    node = kit.start(module_ros, truth_folder, {})
    kit.wait_for(lambda: kit.is_up(node), what="the node")
    return node


def test_publications(node):
    actual = dict(node.get_publisher_names_and_types_by_node("reconstruct", "/"))
    own = {name: types[0] for name, types in actual.items() if name.startswith(("/reconstruct/", "/diagnostics"))}
    own.pop("/reconstruct/transition_event")  # every lifecycle node has it
    rows = {row[0].replace("~", "/reconstruct"): row for row in table("Publications")}
    assert {name: row[1] for name, row in rows.items()} == own
    for name, row in rows.items():
        (info,) = node.get_publishers_info_by_topic(name)
        assert info.qos_profile.reliability == ReliabilityPolicy[row[3].upper()], name
        assert info.qos_profile.durability == DurabilityPolicy[row[4].upper()], name


def test_subscriptions(node):
    config = RosConfig(points_topic="points", odometry_topic="odom", imu_topic="imu")
    inputs = {each.role: each for each in expected_inputs(node, config)}
    rows = table("Subscriptions")
    assert [row[0] for row in rows] == list(inputs)
    for role, parameter, default, kind, depth, _ in rows:
        assert inputs[role].type_name == kind and inputs[role].qos.depth == int(depth)
        assert inputs[role].qos.reliability == ReliabilityPolicy.BEST_EFFORT
        assert getattr(RosConfig(), parameter.removeprefix("ros.")) == default
    compressed = replace(config, image_topic="image/compressed")
    assert expected_inputs(node, compressed)[0].type_name == "sensor_msgs/msg/CompressedImage"


def test_companions(node):
    config = RosConfig(companion_image_topics="right/image/compressed, up/image")
    inputs = {each.role: each for each in expected_inputs(node, config)}
    for role, parameter, _, kind, depth in table("The rig's other cameras"):
        assert getattr(RosConfig(), parameter.removeprefix("ros.")) == ""
        for number in "12":
            found = inputs[role.split(",")[0].replace("1", number)]
            assert found.qos.depth == int(depth) and found.type_name.split("/")[-1] in kind
    assert inputs["companion_1"].type_name.endswith("CompressedImage")
    assert inputs["companion_2_info"].topic == "/up/camera_info"


def test_services(node):
    actual = dict(node.get_service_names_and_types_by_node("reconstruct", "/"))
    own = {
        name: types[0]
        for name, types in actual.items()
        if name.startswith("/reconstruct/") and types[0].startswith(("std_srvs", "spatial_fm_ros"))
    }
    assert {row[0].replace("~", "/reconstruct"): row[1] for row in table("Services")} == own


def test_runtime_parameters(node):
    assert tuple(row[0] for row in table("Parameters")) == RUNTIME


def test_diagnostics(node, module_ros, kit):
    ears = kit.Ears(module_ros, outputs=(), with_map=False)
    kit.wait_for(lambda: ears["diagnostics"], what="diagnostics")
    names = [status.name.split(": ")[1] for status in ears["diagnostics"][-1].status]
    assert [row[0] for row in table("Diagnostics")] == names


def test_launch_arguments():
    spec = importlib.util.spec_from_file_location("launched", ROOT / "launch" / "reconstruct.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    documented = {name for row in table("Launch arguments") for name in re.split(r",\s*", row[0])}
    assert documented == set(module.PARAMETERS) | set(module.OTHERS)
    from spatial_fm_ros.core.config_files import describe

    assert {parameter for parameter, _ in module.PARAMETERS.values()} <= {each.name for each in describe()}
