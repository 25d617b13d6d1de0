"""What is published of poses and how outputs fail: by frames, by mountings, one by one."""

from dataclasses import replace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from spatial_fm_ros.msg import ReconstructionStatus  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from spatial_fm_ros.bridge import outputs  # noqa: E402
from spatial_fm_ros.bridge.decode_motion import decode_pose, decode_transform  # noqa: E402
from spatial_fm_ros.bridge.encode import encode_transform  # noqa: E402
from spatial_fm_ros.core.geometry.optical import BODY_FROM_OPTICAL  # noqa: E402
from spatial_fm_ros.core.intake import one_kind  # noqa: E402
from spatial_fm_ros.core.types import Frame  # noqa: E402

BY_POSES = {"ros.missing_after_s": 60.0, "scale.ignore": "lidar_depth,lidar_registration,imu", "ros.points_topic": ""}


def begin(ros, kit, simulator, truth_folder, parameters=None, static=()):
    """Node, robot and ears; `static`: further static transforms."""
    ears = kit.Ears(ros)
    robot = kit.Robot(ros, simulator, static_tf=not static)
    if static:
        robot.static.publish(TFMessage(transforms=list(static)))
    node = kit.start(ros, truth_folder, BY_POSES | (parameters or {}))
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    kit.wait_for(lambda: node._tree.root("camera_optical_frame") != "camera_optical_frame" or static, what="TF")
    return node, robot, ears


def pose_errors(messages, truth):
    """How far, m, each message's pose is from `truth(stamp)`."""
    stamps = [m.header.stamp.sec * 1_000_000_000 + m.header.stamp.nanosec for m in messages]
    poses = [decode_pose(m.pose.pose) for m in messages]
    return np.array([np.linalg.norm((p - truth(s))[:3, 3]) for s, p in zip(stamps, poses, strict=True)])


def test_an_output_that_fails_costs_itself_alone(ros, kit, simulator, truth_folder, monkeypatch):
    """Clouds and the TF edge fail; poses, depth and path come, no window is lost, and both are named."""

    def broken(*_args, **_kwargs):
        raise RuntimeError("too large for the middleware")

    monkeypatch.setattr(outputs, "encode_cloud", broken)
    node, robot, ears = begin(ros, kit, simulator, truth_folder)
    monkeypatch.setattr(node.session.transform._broadcaster, "sendTransform", broken)
    # A name that no text format likes is a frame like any other.
    robot.tf.publish(TFMessage(transforms=[encode_transform(np.eye(4), 1, "tool", "*gripper: {%")]))
    robot.play(0.0, 6.0, speed=3.0)
    kit.settle(node)
    for name in ("depth/image", "confidence/image", "odometry", "pose", "path"):
        assert len(ears[name]) >= 2, name
    assert node.session.pipeline.stats.windows >= 2 and not sum(node.health.bad.values()), node.health.bad
    assert not ears["points"] and not ears["map"] and not ears.edges()
    failures = node.session.outputs.failures
    assert set(failures) == {"points", "map", "tf"} and "too large" in failures["map"][1]
    monkeypatch.undo()
    robot.play(6.0, 9.0, speed=3.0)
    kit.wait_for(lambda: ears["points"] and ears["map"] and ears.edges(), what="what had failed")
    kit.wait_for(
        lambda: any("points failed" in v.key and "too large" in v.value for v in ears.finding("map").values),
        what="the diagnostics",
    )


def test_pose_frame_is_any_frame_on_the_robot(ros, kit, simulator, truth_folder):
    """One that TF does not know yet is waited for, and named; then path and odometry are of it, ~/pose of the base."""
    node, robot, ears = begin(ros, kit, simulator, truth_folder, {"ros.pose_frame": "tool"})
    robot.play(0.0, 4.0, speed=3.0)
    kit.settle(node)
    assert ears["pose"] and not ears["odometry"] and not ears["path"]
    kit.wait_for(lambda: "'tool' (ros.pose_frame)" in ears.finding("poses").message, what="the reason")
    base_from_tool = np.eye(4)
    base_from_tool[:3, 3] = (1.0, 0.0, 0.5)
    robot.static.publish(TFMessage(transforms=[encode_transform(base_from_tool, 0, "base_link", "tool")]))
    kit.wait_for(lambda: node._tree.parent("tool"), what="the frame")
    robot.play(4.0, 8.0, speed=3.0)
    kit.settle(node)
    assert {m.child_frame_id for m in ears["odometry"]} == {"tool"}
    poses = {str(m.header.stamp): m for m in ears["pose"]}
    for odometry in ears["odometry"]:
        base = decode_pose(poses[str(odometry.header.stamp)].pose.pose)
        np.testing.assert_allclose(decode_pose(odometry.pose.pose), base @ base_from_tool, atol=1e-9)
    newest = {str(p.header.stamp): p for p in ears["path"][-1].poses}[str(ears["odometry"][-1].header.stamp)]
    np.testing.assert_allclose(decode_pose(newest.pose), decode_pose(ears["odometry"][-1].pose.pose), atol=1e-6)
    kit.wait_for(lambda: "pose_frame" not in ears.finding("poses").message, what="the all-clear")


def link_mount(simulator):
    """base_link -> camera_link, whose x points where the camera looks."""
    return encode_transform(
        simulator.rig.body_from_camera @ np.linalg.inv(BODY_FROM_OPTICAL), 0, "base_link", "camera_link"
    )


def in_camera_link(robot):
    send = robot.send

    def renamed(sample, shift_ns=0, change=None):
        send(replace(sample, frame_id="camera_link") if isinstance(sample, Frame) else sample, shift_ns, change)

    robot.send = renamed


def test_images_of_a_body_like_frame_are_named(ros, kit, simulator, truth_folder):
    """At once, by what TF says; for certain, when the camera has moved."""
    node, robot, ears = begin(ros, kit, simulator, truth_folder, static=[link_mount(simulator)])
    in_camera_link(robot)
    robot.play(0.0, 0.8, speed=2.0)
    kit.wait_for(lambda: "looks as if it were no optical frame" in ears.finding("poses").message, what="the doubt")
    robot.play(0.8, 8.0, speed=3.0)
    kit.wait_for(lambda: "moves as if its frame 'camera_link' had x forward" in ears.finding("poses").message)
    assert "ros.image_frame_is_body" in ears.finding("poses").message


def test_image_frame_is_body_makes_it_right(ros, kit, simulator, truth_folder):
    """The world is level and metric, and what needs an optical frame has one that TF knows."""
    parameters = {"ros.image_frame_is_body": True}
    node, robot, ears = begin(ros, kit, simulator, truth_folder, parameters, [link_mount(simulator)])
    in_camera_link(robot)
    robot.play(0.0, 8.0, speed=3.0)
    kit.settle(node)
    assert ears.status.scale_state == ReconstructionStatus.METRIC, ears.status.scale_reason
    first = np.linalg.inv(simulator.truth.world_from_body(simulator.frame_stamps_ns[0]))
    errors = pose_errors(ears["pose"], lambda stamp: first @ simulator.truth.world_from_body(stamp))
    assert np.median(errors) < 0.1
    keyframe = node.session.last.keyframes[-1]
    truth = first @ simulator.truth.world_from_camera(keyframe.stamp_ns)
    np.testing.assert_allclose(keyframe.world_from_camera[:3, :3], truth[:3, :3], atol=0.05)
    assert ears["depth/image"][-1].header.frame_id == "camera_link_optical"
    heard = []
    ears.node.create_subscription(TFMessage, "/tf_static", heard.append, ears_qos())
    found = kit.wait_for(
        lambda: [t for m in heard for t in m.transforms if t.child_frame_id == "camera_link_optical"],
        what="the optical frame",
    )
    assert found[0].header.frame_id == "camera_link"
    np.testing.assert_allclose(decode_transform(found[0]), BODY_FROM_OPTICAL, atol=1e-9)
    assert "optical" not in ears.finding("poses").message


def ears_qos():
    from rclpy.qos import DurabilityPolicy, QoSProfile

    return QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.mark.parametrize("other", ["frame", "size"])
def test_a_second_camera_on_the_topic_is_left_out(ros, kit, simulator, truth_folder, monkeypatch, other):
    """Every second image is of another one: nothing of it enters map or rig, and it is named. When the first has
    gone for long enough, the other is believed."""
    node, robot, ears = begin(ros, kit, simulator, truth_folder)

    def second(msg):
        if other == "frame":
            msg.header.frame_id = "right_camera"
            return msg
        return kit.image_message(np.full((120, 160, 3), 90, np.uint8), simulator.frame_stamps_ns[0])

    turn = [0]

    def mixed(msg):
        turn[0] += 1
        return second(msg) if turn[0] % 2 == 0 else msg

    robot.play(0.0, 6.0, speed=3.0, change=mixed)
    kit.settle(node)
    pipeline = node.session.pipeline
    assert pipeline.stats.keyframes >= 4 and ears.status.scale_state == ReconstructionStatus.METRIC
    assert {m.header.frame_id for m in ears["depth/image"]} == {"camera_optical_frame"}
    rig = pipeline.sensors.told_rig
    np.testing.assert_allclose(rig.body_from_camera, simulator.rig.body_from_camera, atol=1e-9)
    (reason, count), *rest = node.health.bad.items()
    assert not rest and count == turn[0] // 2
    words = "two frames ('camera_optical_frame' and 'right_camera')" if other == "frame" else "come in two sizes"
    assert words in reason
    if other == "size":
        return
    robot.static.publish(
        TFMessage(transforms=[encode_transform(simulator.rig.body_from_camera, 0, "base_link", "right_camera")])
    )
    monkeypatch.setattr(one_kind, "PATIENCE_S", 0.5)
    robot.play(6.0, 10.0, speed=3.0, change=second)
    kit.wait_for(lambda: any(m.header.frame_id == "right_camera" for m in ears["depth/image"]), what="the other camera")
