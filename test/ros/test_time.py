"""Wrong stamps on the real middleware: poisoned, absent, of another clock. See docs/bad_input.md."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from rosgraph_msgs.msg import Clock  # noqa: E402
from spatial_fm_ros.msg import ReconstructionStatus  # noqa: E402

from spatial_fm_ros.bridge.decode import stamp_ns  # noqa: E402
from spatial_fm_ros.bridge.encode import time_message  # noqa: E402
from spatial_fm_ros.bridge.frames import TransformTree  # noqa: E402
from spatial_fm_ros.bridge.topic_check import TopicCheck  # noqa: E402
from spatial_fm_ros.core.config import Config, IntakeConfig, RosConfig  # noqa: E402
from spatial_fm_ros.core.types import Frame, ImuSample, PoseSample  # noqa: E402

S = 1_000_000_000
#: Metres come from odometry alone here.
ODOMETRY_ONLY = {"scale.ignore": "lidar_depth, lidar_registration, imu", "ros.missing_after_s": 60.0}


def up(ros, kit, simulator, reconstruct, parameters):
    node = reconstruct(parameters)
    robot = kit.Robot(ros, simulator)
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    kit.wait_for(lambda: node._tree.parent("camera_optical_frame"), what="static TF")
    return node, robot


def bad(node, role, words):
    return sum(count for key, count in node.health.bad.items() if key.startswith(f"{role}: ") and words in key)


@pytest.mark.parametrize("source", ["odometry", "tf"])
def test_odometry_from_the_future_moves_nothing(ros, reconstruct, simulator, kit, source):
    """Five messages in a row, one hour ahead, each later than the one before."""
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node, robot = up(ros, kit, simulator, reconstruct, {"ros.pose_source": source})
    robot.play(0.0, 5.0, speed=2.0)
    kit.wait_for(ears.edges, what="the map's edge")
    for k in range(5):
        robot.send(simulator.odometry[10], (3600 + k) * S)
    role = {"odometry": "odometry", "tf": "tf"}[source]
    kit.wait_for(lambda: bad(node, role, "after the newest one") >= 5, what="five refused poses")
    before = len(ears.edges())
    robot.play(5.0, 8.0, speed=2.0)
    end = simulator.scenario.start_ns + 8 * S
    last = max(sample.stamp_ns for sample in simulator.odometry if sample.stamp_ns <= end)
    kit.wait_for(lambda: stamp_ns(ears.edges()[-1].header) >= last - S, what="the newest edge")
    stamps = [stamp_ns(edge.header) for edge in ears.edges()]
    assert max(stamps) <= last + S and len(stamps) > before + 10
    assert not node.session.pipeline.stats.resets
    kit.wait_for(lambda: any(v.key.startswith(f"{role}: ") for v in ears.finding("messages").values), what="its name")


def unstamped(robot, kinds):
    """Samples of some kinds are sent without stamps, the others with the time of now."""
    send = robot.send

    def sent(sample, shift_ns=0, change=None):
        stamp = 0 if isinstance(sample, kinds) else time.time_ns()
        send(replace(sample, stamp_ns=stamp), 0, change)

    robot.send = sent


@pytest.mark.parametrize("kinds, role", [((Frame,), "image"), ((PoseSample,), "odometry")])
def test_stamps_of_zero_are_the_time_of_arrival_and_said(ros, reconstruct, simulator, kit, kinds, role):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node, robot = up(ros, kit, simulator, reconstruct, {})
    unstamped(robot, kinds)
    robot.play(0.0, 4.0, speed=1.0)
    pipeline = node.session.pipeline
    assert pipeline.stats.keyframes > 4 and not pipeline.stats.rejected["stale"]
    assert pipeline.sensors.poses_reach_images
    assert not bad(node, role, ""), node.health.bad
    kit.wait_for(
        lambda: ears.finding("messages").level == b"\x01"
        and re.search(rf"{role}: \d+ messages came with stamp 0", ears.finding("messages").message),
        what="the warning",
    )


def test_odometry_on_another_clock_is_told_with_the_offset_that_mends_it(ros, reconstruct, simulator, kit):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node, robot = up(ros, kit, simulator, reconstruct, ODOMETRY_ONLY)
    send = robot.send
    robot.send = lambda sample, shift_ns=0, change=None: send(
        sample, shift_ns + 37 * S * isinstance(sample, PoseSample), change
    )
    robot.play(0.0, 6.0, speed=1.0)  # the offset is told by arrival: a delay counts as often as time runs
    kit.settle(node)
    told = kit.wait_for(
        lambda: re.search(r"set intake.pose_time_offset_s to (-?[\d.]+)", ears.finding("poses").message),
        what="the offset",
    )
    finding = ears.finding("poses")
    assert finding.level == b"\x01" and "No pose within 0.5 s of an image" in finding.message
    assert abs(float(told[1]) + 37.0) < 1.0
    assert ears.status.scale_state == ReconstructionStatus.UNOBSERVABLE and told[0] in ears.status.scale_reason
    assert not ears.edges()
    node.session.stop()

    mended = kit.Ears(ros, target="mended", outputs=(), with_map=False)
    other = reconstruct({**ODOMETRY_ONLY, "intake.pose_time_offset_s": float(told[1])}, name="mended")
    kit.wait_for(lambda: kit.is_up(other) and robot.is_heard_by(other), what="the node")
    robot.play(0.0, 8.0, speed=2.0)
    kit.wait_for(lambda: mended.status.scale_state == ReconstructionStatus.METRIC, what="metres")
    assert not other.session.pipeline.sensors.clock_problem("odometry")
    edges = [stamp_ns(edge.header) for edge in ears.edges()]
    assert edges and max(edges) < simulator.scenario.start_ns + 9 * S  # on the images' clock


def test_a_poisoned_camera_costs_no_map(ros, reconstruct, simulator, kit):
    """Images one hour ahead for a while, and no others: the map is set aside, and joined when they are over."""
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node, robot = up(ros, kit, simulator, reconstruct, {"ros.missing_after_s": 60.0})
    pipeline = node.session.pipeline
    robot.play(0.0, 5.0, speed=1.0)
    began = time.monotonic()
    kit.settle(node)
    points = pipeline.map_size
    assert points
    send = robot.send
    robot.send = lambda sample, shift_ns=0, change=None: send(
        sample, shift_ns + 3600 * S * isinstance(sample, Frame), change
    )
    robot.play(5.0, 9.0, speed=1.0)
    kit.wait_for(pipeline.maps_aside, what="the map aside")
    assert [each.size for each in pipeline.maps_aside()] == [points]
    kit.wait_for(lambda: any("set aside" in v.key for v in ears.finding("map").values), what="diagnostics")
    robot.send = send
    now_s = 5.0 + (time.monotonic() - began)  # the camera goes on where it would be by now, about
    robot.play(now_s, now_s + 5.0, speed=1.0)
    kit.wait_for(lambda: not pipeline.maps_aside() and pipeline.map_size > points, what="the map of before, and more")
    assert pipeline.stats.resets == 2 and np.isfinite(pipeline.map_cloud().points).all()


def test_one_wrong_message_of_the_simulated_clock_moves_nothing(ros, reconstruct, simulator, kit):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node, robot = up(ros, kit, simulator, reconstruct, {"use_sim_time": True, "ros.missing_after_s": 60.0})
    kit.wait_for(lambda: "nobody publishes /clock" in ears.finding("inputs").message, what="the missing clock")
    clock = ros.node("clock").create_publisher(Clock, "/clock", 10)
    kit.wait_for(clock.get_subscription_count, what="the clock's subscription")

    def say(seconds):
        clock.publish(Clock(clock=time_message(seconds * S)))
        time.sleep(0.05)

    for seconds in (50, 51, 52, 53, 2, 90_000, 54, 55):
        say(seconds)
    kit.wait_for(lambda: node.get_clock().now().nanoseconds == 55 * S, what="simulated time")
    time.sleep(2.5)
    assert node.get_clock().now().nanoseconds == 55 * S and not node.session.pipeline.stats.resets
    assert bad(node, "clock", "The time of /clock") == 2


def test_a_camera_whose_clock_stands_is_named(ros, reconstruct, simulator, kit):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    _, robot = up(ros, kit, simulator, reconstruct, {"ros.missing_after_s": 60.0})
    frame = simulator.frame(3)
    for _ in range(30):
        robot.send(frame)
        time.sleep(0.02)
    kit.wait_for(lambda: "clock of their sender" in ears.finding("messages").message, what="the warning")
    assert ears.finding("messages").level == b"\x01"


@pytest.mark.parametrize("source", ["odometry", "tf"])
def test_check_topics_tells_of_other_clocks_and_of_none(ros, simulator, kit, source):
    """Odometry 37 s ahead, IMU without stamps; with the offset that is told there is nothing to say of odometry."""

    def checked(**offsets):
        node = ros.node(f"check{len(offsets)}")
        topics = {name.removeprefix("ros."): topic for name, topic in kit.topics.items()}
        config = Config(ros=RosConfig(**topics, pose_source=source), intake=IntakeConfig(**offsets))
        tree = TransformTree(node)
        try:
            check = TopicCheck(node, config, tree)
            kit.wait_for(lambda: all(node.count_publishers(each.wanted.topic) for each in check.heard), what="inputs")
            robot.play(0.0, 3.0, speed=1.0)
            return [problem.sentence for problem in check.problems()]
        finally:
            tree.close()

    robot = kit.Robot(ros, simulator)
    send = robot.send

    def sent(sample, shift_ns=0, change=None):
        if isinstance(sample, ImuSample):
            sample = replace(sample, stamp_ns=0)
        send(sample, shift_ns + 37 * S * isinstance(sample, PoseSample), change)

    robot.send = sent
    said = checked()
    told = next(found for found in (re.search(r"pose_time_offset_s to (-?[\d.]+)", each) for each in said) if found)
    assert abs(float(told[1]) + 37.0) < 0.5
    assert any(re.match(r"imu: (\d+) of \1 messages have stamp 0", each) for each in said)
    assert not any("pose_time_offset_s" in each for each in checked(pose_time_offset_s=float(told[1])))
