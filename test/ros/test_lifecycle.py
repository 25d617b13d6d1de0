"""The node's states: every transition works, may be repeated, and a model that cannot load ends nothing."""

import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from hostile_hub import here
from small_hub import Lie, SmallHub

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableTransitions, GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from std_srvs.srv import Trigger

from spatial_fm_ros.core.errors import ConfigError


@pytest.fixture
def remote(ros, kit):
    """Drives the node through its services, as a lifecycle manager does."""

    class Remote:
        ears = kit.Ears(ros, outputs=(), with_map=False)

        def state(self):
            return self.ears.call(GetState, "/reconstruct/get_state").current_state.label

        def change(self, name):
            number = getattr(Transition, f"TRANSITION_{name.upper()}")
            request = ChangeState.Request(transition=Transition(id=number))
            return self.ears.call(ChangeState, "/reconstruct/change_state", request).success

        def set(self, name, value):
            kind = {bool: "bool", str: "string", float: "double", int: "integer"}[type(value)]
            message = ParameterMessage(
                name=name,
                value=ParameterValue(
                    type=getattr(ParameterType, f"PARAMETER_{kind.upper()}"), **{f"{kind}_value": value}
                ),
            )
            request = SetParameters.Request(parameters=[message])
            return self.ears.call(SetParameters, "/reconstruct/set_parameters", request).results[0]

    return Remote()


def test_all_transitions_work_and_can_be_repeated(reconstruct, remote, ros, simulator, kit):
    node = reconstruct({"ros.autostart": False})
    robot = kit.Robot(ros, simulator)
    assert remote.state() == "unconfigured"
    for round_ in range(2):
        assert remote.change("configure") and remote.state() == "inactive"
        assert not robot.image.get_subscription_count()
        for _ in range(2):
            assert remote.change("activate") and remote.state() == "active"
            kit.wait_for(robot.image.get_subscription_count, what="a subscription")
            before = node.session.pipeline.stats.frames
            robot.play(2.0 * round_, 2.0 * round_ + 1.0)
            kit.wait_for(lambda b=before: node.session.pipeline.stats.frames > b, what="frames")
            assert remote.change("deactivate") and remote.state() == "inactive"
            kit.wait_for(lambda: not robot.image.get_subscription_count(), what="no subscription")
            assert node.session.pipeline.stats.frames > before  # what was mapped stays
        assert remote.change("cleanup") and remote.state() == "unconfigured"
    assert not remote.change("deactivate") and remote.state() == "unconfigured"
    assert remote.change("unconfigured_shutdown") and remote.state() == "finalized"


def test_a_model_that_cannot_load_leaves_the_node_alive_with_the_reason(reconstruct, remote, truth_folder, kit):
    reconstruct({"model.oracle.truth": ""})
    kit.wait_for(lambda: remote.ears.status and "ground truth" in remote.ears.status.note, what="the reason")
    finding = kit.wait_for(lambda: remote.ears.finding("model"), what="diagnostics")
    kit.wait_for(lambda: "ground truth" in remote.ears.finding("model").message, what="the reason")
    assert finding.level == b"\x02" and remote.state() == "unconfigured"
    assert not remote.change("configure")
    answer = remote.ears.call(Trigger, "/reconstruct/reset")
    assert not answer.success and "not configured" in answer.message
    assert remote.set("model.oracle.truth", str(truth_folder)).successful
    assert remote.change("configure") and remote.change("activate") and remote.state() == "active"


@pytest.fixture
def slow_hub(tmp_path):
    """A hub that sends a byte now and then, and this process asks it."""
    closing = threading.Event()

    def drip():
        while not closing.wait(0.05):
            yield b"w"

    with SmallHub({"owner/name": {"model.safetensors": b"weights" * 1000}}) as hub, here(hub.address, tmp_path / "c"):
        hub.lie = lambda _method, path: Lie(200, [], drip()) if path.startswith("/storage") else None
        yield hub
        closing.set()


def being_loaded(finding):
    return finding is not None and "is being loaded" in finding.message and finding


def test_while_the_model_is_loaded_the_node_answers_and_can_be_told_to_stop(reconstruct, remote, slow_hub, kit):
    node = reconstruct({"model.name": "vggt", "model.checkpoint": "owner/name"})
    for again in range(3):
        kit.wait_for(lambda n=again: len(slow_hub.downloads()) > n, what="a download")
        assert remote.state() == "configuring"
        for task in ("model", "inputs"):
            found = kit.wait_for(lambda task=task: being_loaded(remote.ears.finding(task)), what="diagnostics")
            assert found.level == DiagnosticStatus.OK
        answer = remote.ears.call(GetAvailableTransitions, "/reconstruct/get_available_transitions")
        assert len(answer.available_transitions) == 3  # how configuring may end; not for others to decide
        request = GetParameters.Request(names=["model.name"])
        assert remote.ears.call(GetParameters, "/reconstruct/get_parameters", request).values[0].string_value == "vggt"
        refused = remote.set("model.name", "oracle")
        assert not refused.successful and "unconfigured" in refused.reason
        assert not remote.change("configure") and not remote.change("activate")
        assert not remote.change("on_configure_success") and remote.state() == "configuring"
        if again == 2:
            break
        assert remote.change("cleanup") and remote.state() == "unconfigured"
        assert "given up" in node.problem
        thread = threading.Thread(target=lambda: remote.change("configure"))
        thread.start()
    assert remote.change("inactive_shutdown") and remote.state() == "finalized"
    thread.join(20)
    assert not thread.is_alive() and len(slow_hub.downloads()) == 3


def test_an_unknown_model_is_named(reconstruct, remote, kit):
    reconstruct({"model.name": "no_such_model"})
    kit.wait_for(lambda: remote.ears.status and "no_such_model" in remote.ears.status.note, what="the reason")


def test_parameters_are_fixed_while_configured_but_for_a_few(reconstruct, remote, kit):
    node = reconstruct()
    kit.wait_for(lambda: kit.is_up(node), what="the node")
    refused = remote.set("window.size", 6)
    assert not refused.successful and "unconfigured" in refused.reason
    assert remote.set("ros.require_metric", True).successful and node.session.config.ros.require_metric
    assert remote.change("deactivate") and remote.change("cleanup")
    assert remote.set("window.size", 6).successful
    wrong = remote.set("window.overlap", 9)
    assert not wrong.successful and "overlap" in wrong.reason
    assert remote.change("configure") and node.session.pipeline.config.window.size == 6


def test_parameters_are_described(reconstruct, remote):
    reconstruct({"ros.autostart": False})
    request = DescribeParameters.Request(names=["map.voxel_size", "window.size", "ros.pose_source"])
    voxel, size, source = remote.ears.call(DescribeParameters, "/reconstruct/describe_parameters", request).descriptors
    assert "voxel" in voxel.description and voxel.floating_point_range[0].from_value > 0
    assert size.integer_range[0].from_value == 2
    assert "odometry, tf, lidar, none" in source.additional_constraints


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ros.pose_source", "gps", "odometry, tf, lidar, none"),
        ("map.voxel_size", -1.0, "map.voxel_size"),
        ("window.size", "many", "window.size"),
        ("window.overlap", 30, "overlap"),
    ],
)
def test_wrong_parameters_at_start_are_a_sentence(reconstruct, name, value, words):
    with pytest.raises(ConfigError, match=words):
        reconstruct({name: value})


def test_a_whole_number_for_a_float_is_fine(reconstruct):
    assert reconstruct({"ros.autostart": False, "ros.map_rate_hz": 1}).config.ros.map_rate_hz == 1.0
