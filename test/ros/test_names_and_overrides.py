"""Names as ROS users give them: remappings, topics of inputs, parameters nobody takes, QoS by parameters."""

import importlib
import signal

import pytest

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import ListParameters, SetParameters
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from spatial_fm_ros.bridge.inputs import expected_inputs
from spatial_fm_ros.bridge.overrides import foreign_files, unused_values
from spatial_fm_ros.core.config import RosConfig
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.nodes.reconstruct import Reconstruct
from spatial_fm_ros.nodes.simulated_robot import SimulatedRobot

#: One executor's worth of inputs, whatever their names.
QUIET = ["-p", "ros.autostart:=false", "-p", "model.name:=oracle"]


@pytest.fixture
def made(ros):
    """A node of this name with these ROS arguments, in namespace /r, not spun."""
    nodes = []

    def make(*arguments, kind=Node, name="reconstruct"):
        named = {"node_name": name} if kind is Node else {}
        nodes.append(kind(**named, context=ros.context, namespace="r", cli_args=["--ros-args", *arguments]))
        return nodes[-1]

    yield make
    for node in nodes:
        if isinstance(node, Reconstruct):
            node.close()
        node.destroy_node()


def topics(node, **values):
    return {each.role: each.topic for each in expected_inputs(node, RosConfig(**values))}


def remaps(*rules):
    return [word for rule in rules for word in ("-r", rule)]


@pytest.mark.parametrize(
    ("rules", "values", "expected"),
    [
        ((), {}, {"image": "/r/image", "camera_info": "/r/camera_info"}),
        (("image:=/cam/image_raw",), {}, {"image": "/cam/image_raw", "camera_info": "/cam/camera_info"}),
        (("reconstruct:image:=/cam/image_raw",), {}, {"image": "/cam/image_raw", "camera_info": "/cam/camera_info"}),
        (("image:=/cam/image", "camera_info:=/k"), {}, {"image": "/cam/image", "camera_info": "/k"}),
        (("/cam/camera_info:=/k",), {"image_topic": "/cam/image"}, {"image": "/cam/image", "camera_info": "/k"}),
        (("image:=/cam/image",), {"camera_info_topic": "k"}, {"image": "/cam/image", "camera_info": "/r/k"}),
        (("image:=/cam/image",), {"camera_info_topic": "none"}, {"image": "/cam/image"}),
        (
            ("image:=/cam/image",),
            {"image_transport": "compressed"},
            {"image": "/cam/image/compressed", "camera_info": "/cam/camera_info"},
        ),
        (
            ("points:=/velodyne_points", "odometry:=odom", "imu:=/imu/data"),
            {"camera_info_topic": "none"},
            {"image": "/r/image", "points": "/velodyne_points", "odometry": "/r/odom", "imu": "/imu/data"},
        ),
        (
            ("points:=/velodyne_points", "companion_1:=/right/image"),
            {"camera_info_topic": "none", "points_topic": "none", "companion_image_topics": "none"},
            {"image": "/r/image"},
        ),
        (
            ("companion_1:=/right/image", "companion_2_info:=/k"),
            {"camera_info_topic": "none", "companion_image_topics": ""},
            {"image": "/r/image", "companion_1": "/right/image", "companion_1_info": "/right/camera_info"},
        ),
        (
            ("left:=/up/image", "companion_2_info:=/k"),
            {"camera_info_topic": "none", "companion_image_topics": "left, right", "image_transport": "compressed"},
            {
                "image": "/r/image/compressed",
                "companion_1": "/up/image/compressed",
                "companion_1_info": "/up/camera_info",
                "companion_2": "/r/right/compressed",
                "companion_2_info": "/k",
            },
        ),
    ],
)
def test_inputs_are_where_remappings_and_parameters_say(made, rules, values, expected):
    assert topics(made(*remaps(*rules)), **values) == expected


def test_a_rule_without_effect_is_told(made, capfd):
    assert topics(made("-r", "points:=/velodyne"), points_topic="/ouster/points")["points"] == "/ouster/points"
    assert "The remapping of 'points' has no effect: the parameter of this input names" in capfd.readouterr().err


def test_a_remapped_compressed_topic_is_compressed(made):
    node = made("-r", "image:=/cam/image_raw/compressed")
    image, _ = expected_inputs(node, RosConfig())
    assert image.type_name == "sensor_msgs/msg/CompressedImage"


@pytest.mark.parametrize("topic", ["", "none"])
def test_an_image_topic_there_must_be(made, topic):
    with pytest.raises(ConfigError, match="nothing is mapped without images"):
        topics(made(), image_topic=topic)


def test_two_rules_that_swap_names_are_applied_once(made, ros, truth_folder, kit):
    """The helper that subscribes must not remap a second time."""
    rules = remaps("reconstruct:image:=/b/image", "/b/image:=/c/image", "/tf:=/robot/tf")
    values = [f"model.oracle.truth:={truth_folder}", "model.name:=oracle", "ros.autostart:=false"]
    node = made(*rules, *(word for value in values for word in ("-p", value)), kind=Reconstruct)
    ears = ros.node("ears")
    assert node.trigger_configure().name == node.trigger_activate().name == "SUCCESS"
    kit.wait_for(lambda: ears.count_subscribers("/b/image"), what="the subscription")
    assert not ears.count_subscribers("/c/image")
    kit.wait_for(lambda: ears.count_subscribers("/robot/tf"), what="the remapped /tf")
    kit.wait_for(lambda: ears.count_publishers("/robot/tf"), what="TF out")
    assert not ears.count_subscribers("/tf")


# -- parameters nobody takes -------------------------------------------------------------------


def test_values_nobody_takes_are_named_with_the_nearest(made):
    given = {
        "map_frame": "m",
        "/map.voxel_size": 1,
        "Ros.Base_Frame": "b",
        "image_topc": "/i",
        "robot_description": "x",
    }
    node = made(
        *QUIET, *(word for name, value in given.items() for word in ("-p", f"{name}:={value}")), kind=Reconstruct
    )
    said = "\n".join(unused_values(node))
    for name, near in {
        "map_frame": "ros.map_frame",
        "/map.voxel_size": "map.voxel_size",
        "Ros.Base_Frame": "ros.base_frame",
        "image_topc": "ros.image_topic",
    }.items():
        assert f"Unknown parameter '{name}', its value is not used; did you mean '{near}'?" in said
    assert "'robot_description', its value is not used; `ros2 param list /r/reconstruct` shows" in said


def test_values_others_take_are_not_told(made):
    arguments = ("-p", "use_sim_time:=true", "-p", "diagnostic_updater.use_fqn:=true", "-p", "map.voxel_size:=0.5")
    assert unused_values(made(*QUIET, *arguments, kind=Reconstruct)) == []


def test_a_thousand_foreign_names_are_told_once(made, tmp_path):
    file = tmp_path / "many.yaml"
    file.write_text("/**:\n  ros__parameters:\n" + "".join(f"    foreign_{i}: {i}\n" for i in range(1000)))
    said = unused_values(made(*QUIET, "--params-file", str(file), kind=Reconstruct))
    assert len(said) == 21 and "980 other parameters" in said[-1]


@pytest.mark.parametrize(
    ("key", "applies"),
    [
        ("reconstruct", False),
        ("/reconstruct", False),
        ("r/reconstruct", True),
        ("/r/reconstruct", True),
        ("/*/reconstruct", True),
        ("/**/reconstruct", True),
        ("/**", True),
        ("/r/*", True),
        ("/other", False),
        ("/*", False),
    ],
)
def test_files_for_other_nodes_are_named_as_ros_reads_them(made, tmp_path, key, applies):
    file = tmp_path / "p.yaml"
    file.write_text(f"'{key}':\n  ros__parameters:\n    map.voxel_size: 0.5\n")
    node = made("--params-file", str(file))
    assert bool(node._parameter_overrides) is applies
    said = foreign_files(["reconstruct", "--ros-args", "--params-file", str(file)], node.get_fully_qualified_name())
    assert not said if applies else "none for this node, '/r/reconstruct'; put them under '/**'" in said[0]


@pytest.fixture
def own_signals():
    """Executables run in this process leave its signals as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["reconstruct", "check_topics", "simulated_robot", "demo_scoreboard", "play_bag"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "voxel_size"], "-p takes name:=value"),
        (["-r", "image"], "-r takes from:=to"),
        (["--params-file", "gone.yaml"], "'--params-file gone.yaml'. Error: Error opening YAML file; there is no such"),
        (["--no-such"], "unknown are ['--no-such']"),
    ],
)
def test_arguments_ros_refuses_are_one_sentence(capfd, own_signals, name, arguments, words):
    main = importlib.import_module(f"spatial_fm_ros.nodes.{name}").main
    own = ["no_bag"] if name == "play_bag" else []
    assert main([name, *own, "--ros-args", *arguments]) in (1, 2)
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith(f"{name}: ")]
    assert len(said) == 1 and words in said[0] and ".c:" not in said[0]


def test_the_robot_names_what_it_does_not_take(made):
    node = made("-p", "corrupt_as:=x", "-p", "qos_overrides./r/points.publisher.depth:=3", kind=SimulatedRobot)
    assert unused_values(node) == [
        "Unknown parameter 'corrupt_as', its value is not used; did you mean 'fault.corrupt_as'?"
    ]
    (points,) = node.get_publishers_info_by_topic("/r/points")
    assert node.get_parameter("qos_overrides./r/points.publisher.depth").value == 3


# -- QoS by parameters -------------------------------------------------------------------------

IMAGE = "qos_overrides./camera/image.subscription"


def test_qos_of_inputs_and_outputs_follows_parameters(ros, reconstruct, kit):
    node = reconstruct(
        {
            f"{IMAGE}.reliability": "reliable",
            f"{IMAGE}.depth": 3,
            "qos_overrides./reconstruct/map.publisher.durability": "volatile",
            "qos_overrides./reconstruct/status.publisher.depth": 7,
            "qos_overrides./tf_static.subscription.depth": 500,
            "qos_overrides./diagnostics.publisher.reliability": "best_effort",
            "qos_overrides./camera/imagee.subscription.depth": 3,
        }
    )
    ears = kit.Ears(ros, outputs=(), with_map=False)
    kit.wait_for(lambda: kit.is_up(node), what="the node")
    (image,) = kit.wait_for(lambda: ears.node.get_subscriptions_info_by_topic("/camera/image"), what="the input")
    assert image.node_name == "reconstruct_inputs" and image.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert next(each for each in node.session.intake.inputs if each.role == "image").qos.depth == 3
    (map_,) = ears.node.get_publishers_info_by_topic("/reconstruct/map")
    assert map_.qos_profile.durability == DurabilityPolicy.VOLATILE
    (diagnostics,) = ears.node.get_publishers_info_by_topic("/diagnostics")
    assert diagnostics.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT

    listed = ears.call(ListParameters, "/reconstruct/list_parameters").result.names
    for topic, kind in (("/camera/image", "subscription"), ("/points", "subscription"), ("/tf", "publisher")):
        assert {f"qos_overrides.{topic}.{kind}.{p}" for p in ("history", "depth", "reliability", "durability")} <= set(
            listed
        )
    assert unused_values(node, qos=True) == [
        "Nothing here has the QoS parameter 'qos_overrides./camera/imagee.subscription.depth', its value is not used; "
        f"did you mean '{IMAGE}.depth'?"
    ]

    def set_to(name, value):
        message = ParameterMessage(
            name=name, value=ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value)
        )
        request = SetParameters.Request(parameters=[message])
        return ears.call(SetParameters, "/reconstruct/set_parameters", request).results[0]

    fixed = set_to(f"{IMAGE}.depth", 5)
    assert not fixed.successful and "is fixed; give it at start" in fixed.reason
    unknown = set_to("voxel_size", 5)
    assert not unknown.successful and unknown.reason == "Unknown parameter 'voxel_size'; did you mean 'map.voxel_size'?"


def test_qos_follows_another_default_where_nothing_was_given(made):
    node = made()
    for depth in (10, 20):
        image, _ = expected_inputs(node, RosConfig(queue_depth=depth))
        assert image.qos.depth == depth == node.get_parameter("qos_overrides./r/image.subscription.depth").value


@pytest.mark.parametrize(
    ("policy", "value", "words"),
    [
        ("reliability", "sometimes", "takes one of .*reliable.* got 'sometimes'"),
        ("reliability", "1", "takes one of .*reliable.* got 1"),
        ("durability", "unknown", "takes .*transient_local.* got 'unknown'"),
        ("history", "''", "takes .*keep_last.* got ''"),
        ("depth", "many", "takes a number of messages, got 'many'"),
        ("depth", "0", "takes 1 to 100000, got 0"),
        ("depth", "true", "takes a number of messages, got True"),
        ("deadline", "0.5", "takes a whole number of nanoseconds, got 0.5"),
    ],
)
def test_qos_that_cannot_be_is_a_sentence(made, policy, value, words):
    with pytest.raises(ConfigError, match=f"'{IMAGE}.{policy}' {words}"):
        made(*QUIET, "-p", f"{IMAGE}.{policy}:={value}", kind=Reconstruct)
