"""Services, TF variants, holding back what is not metric, and time that jumps back."""

import threading
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from rosgraph_msgs.msg import Clock  # noqa: E402
from spatial_fm_ros.msg import ReconstructionStatus  # noqa: E402
from spatial_fm_ros.srv import LoadMap, SaveMap, SaveTrajectory  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from spatial_fm_ros.bridge.decode import decode_transform  # noqa: E402
from spatial_fm_ros.bridge.encode import encode_transform, time_message  # noqa: E402
from spatial_fm_ros.core.io.cloud_files import read_map  # noqa: E402
from spatial_fm_ros.evaluation.tum import read_tum  # noqa: E402


def up(ros, kit, node, simulator, **robot_options):
    robot = kit.Robot(ros, simulator, **robot_options)
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    if robot_options.get("static_tf", True):
        kit.wait_for(lambda: node._tree.parent("camera_optical_frame"), what="static TF")
    return robot


def test_services(ros, reconstruct, simulator, kit, tmp_path):
    ears = kit.Ears(ros, outputs=())
    node = reconstruct()
    robot = up(ros, kit, node, simulator)
    empty = ears.call(SaveMap, "/reconstruct/save_map", SaveMap.Request(path=str(tmp_path / "no.ply")))
    assert not empty.success and "empty" in empty.message
    robot.play(0.0, 5.0, speed=3.0)
    kit.settle(node)
    points = node.session.pipeline.map_size

    for name in ("map.ply", "folder/map.pcd"):
        saved = ears.call(SaveMap, "/reconstruct/save_map", SaveMap.Request(path=str(tmp_path / name)))
        assert saved.success and saved.points == points and str(tmp_path / name) == saved.path
        back = read_map(tmp_path / name)
        assert len(back.cloud) == points and saved.bytes == (tmp_path / name).stat().st_size
        assert saved.scale_state == ReconstructionStatus.METRIC and back.facts.metric and saved.frame_id == "map"
        assert 0 < saved.scale_sigma == pytest.approx(back.facts.scale_sigma, rel=1e-6)
    poses = ears.call(SaveTrajectory, "/reconstruct/save_trajectory", SaveTrajectory.Request(path=f"{tmp_path}/t.tum"))
    (trajectory,) = node.session.pipeline.trajectories()
    assert poses.success and poses.poses == len(trajectory.stamps_ns) and poses.paths == [str(tmp_path / "t.tum")]
    assert poses.scale_state == ReconstructionStatus.METRIC and poses.frame_id == "map" and poses.bytes
    np.testing.assert_array_equal(read_tum(tmp_path / "t.tum").stamps_ns, trajectory.stamps_ns)
    wrong = ears.call(SaveMap, "/reconstruct/save_map", SaveMap.Request(path=str(tmp_path / "map.xyz")))
    assert not wrong.success and "ply or pcd" in wrong.message
    (tmp_path / "file").write_text("")
    blocked = ears.call(SaveMap, "/reconstruct/save_map", SaveMap.Request(path=str(tmp_path / "file" / "map.ply")))
    assert not blocked.success and blocked.message

    paused = ears.call(SetBool, "/reconstruct/set_running", SetBool.Request(data=False))
    frames = node.session.pipeline.stats.frames
    robot.play(5.0, 6.0)
    time.sleep(0.3)
    assert paused.success and node.session.pipeline.stats.frames == frames
    assert ears.call(SetBool, "/reconstruct/set_running", SetBool.Request(data=True)).success

    assert ears.call(Trigger, "/reconstruct/reset").success and node.session.pipeline.map_size == 0
    kit.wait_for(lambda: ears["map"] and ears["map"][-1].width == 0, what="the empty map")
    assert ears.status.map_points == 0 or kit.wait_for(lambda: ears.status.map_points == 0, what="status")

    loaded = ears.call(LoadMap, "/reconstruct/load_map", LoadMap.Request(path=str(tmp_path / "map.ply")))
    assert loaded.success and loaded.points == points == node.session.pipeline.map_size
    assert loaded.scale_state == ReconstructionStatus.METRIC and loaded.frame_id == "map"
    kit.wait_for(lambda: ears["map"][-1].width == points, what="the loaded map")
    again = ears.call(SaveMap, "/reconstruct/save_map", SaveMap.Request(path=str(tmp_path / "again.ply")))
    assert again.success and again.points == points
    assert (tmp_path / "again.ply").read_bytes() == (tmp_path / "map.ply").read_bytes()
    missing = ears.call(LoadMap, "/reconstruct/load_map", LoadMap.Request(path=str(tmp_path / "none.ply")))
    assert not missing.success and "none.ply" in missing.message
    assert node.session.pipeline.map_size == points


def test_a_long_service_does_not_block_the_input(ros, reconstruct, simulator, kit, tmp_path):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node = reconstruct()
    robot = up(ros, kit, node, simulator)
    release = threading.Event()
    pipeline = node.session.pipeline
    whole, pipeline.saved_map = pipeline.saved_map, lambda: (release.wait(10.0), whole())[1]
    client = ears.node.create_client(SaveMap, "/reconstruct/save_map")
    assert client.wait_for_service(10.0)
    future = client.call_async(SaveMap.Request(path=str(tmp_path / "map.ply")))
    robot.play(0.0, 2.0)
    kit.wait_for(lambda: pipeline.stats.frames >= 8, what="frames while the service works")
    assert not future.done()
    release.set()
    kit.wait_for(future.done, what="the service")


def test_without_odometry_the_camera_is_placed_by_tf(ros, reconstruct, simulator, kit):
    """The camera hangs on base_link, so the map carries base_link, the root of its tree."""
    ears = kit.Ears(ros, outputs=("odometry",), with_map=False)
    node = reconstruct({"ros.odometry_topic": "", "ros.pose_source": "none"})
    robot = up(ros, kit, node, simulator, odometry=False)
    robot.tf = ears.node.create_publisher(TFMessage, "unused_tf", 10)
    robot.play(0.0, 5.0, speed=3.0)
    kit.settle(node)
    assert {edge.child_frame_id for edge in ears.edges()} == {"base_link"}
    last = node.session.last.keyframes[-1]
    want = last.world_from_camera @ np.linalg.inv(simulator.rig.body_from_camera)
    np.testing.assert_allclose(decode_transform(ears.edges()[-1]), want, atol=1e-9)
    assert len(ears.edges()) == len(ears["odometry"])  # at the keyframes, nothing invented between
    before = len(ears.edges())
    assert ears.call(Trigger, "/reconstruct/reset").success
    robot.play(5.0, 8.0, speed=3.0)
    kit.wait_for(lambda: len(ears.edges()) > before, what="TF after a reset")


def test_a_lone_camera_is_the_child_of_the_map(ros, reconstruct, simulator, kit):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node = reconstruct({"ros.odometry_topic": "", "ros.pose_source": "none"})
    robot = up(ros, kit, node, simulator, odometry=False, static_tf=False)
    robot.tf = ears.node.create_publisher(TFMessage, "unused_tf", 10)
    robot.play(0.0, 5.0, speed=3.0)
    kit.wait_for(ears.edges, what="TF")
    assert {edge.child_frame_id for edge in ears.edges()} == {"camera_optical_frame"}


def test_a_frame_that_has_a_parent_keeps_it(ros, reconstruct, simulator, kit):
    ears = kit.Ears(ros, outputs=("points",), with_map=False)
    node = reconstruct()
    robot = up(ros, kit, node, simulator)
    robot.static.publish(TFMessage(transforms=[encode_transform(np.eye(4), 0, "world", "odom")]))
    kit.wait_for(lambda: node._tree.parent("odom") == "world", what="the other parent")
    robot.play(0.0, 5.0, speed=3.0)
    kit.wait_for(lambda: ears["points"], what="points")
    assert not ears.edges()
    kit.wait_for(lambda: "'odom' already has the parent 'world'" in ears.finding("poses").message, what="the reason")


def test_tf_can_be_switched_off_and_nothing_relative_passes_for_metres(ros, reconstruct, simulator, kit):
    ears = kit.Ears(ros)
    no_metres = {"ros.odometry_topic": "", "ros.pose_source": "none", "ros.points_topic": "", "ros.imu_topic": ""}
    node = reconstruct(no_metres | {"ros.publish_tf": False, "ros.require_metric": True})
    robot = up(ros, kit, node, simulator, odometry=False)
    robot.play(0.0, 5.0, speed=3.0)
    kit.settle(node)
    assert node.session.pipeline.map_size
    for name in ("depth/image", "points", "map", "odometry", "path"):
        assert not ears[name], name
    assert not ears.edges()
    kit.wait_for(lambda: "held back" in ears.finding("map").message, what="the reason")


def test_poses_can_come_from_tf(ros, reconstruct, simulator, kit):
    node = reconstruct({"ros.pose_source": "tf", "ros.odometry_topic": ""})
    robot = up(ros, kit, node, simulator, odometry=False)
    robot.play(0.0, 5.0, speed=3.0)
    kit.wait_for(lambda: node.session.last and node.session.last.keyframes, what="a window")
    stamp = simulator.frame_stamps_ns[10]
    pose = node.session.pipeline.pose_at(stamp)
    odom_from_body = min(simulator.odometry, key=lambda sample: abs(sample.stamp_ns - stamp)).odom_from_body
    np.testing.assert_allclose(pose, odom_from_body @ simulator.rig.body_from_camera, atol=1e-6)


def test_a_bag_that_starts_over_resets(ros, reconstruct, simulator, kit):
    node = reconstruct()
    robot = up(ros, kit, node, simulator)
    for _ in range(2):
        robot.play(0.0, 4.0)
    kit.settle(node)
    assert node.session.pipeline.stats.resets == 1
    stamps = node.session.pipeline.trajectories()[-1].stamps_ns
    assert len(node.session.pipeline.trajectories()) == 1 and (np.diff(stamps) > 0).all()


def test_one_late_message_does_not_reset(ros, reconstruct, simulator, kit):
    node = reconstruct()
    robot = up(ros, kit, node, simulator)
    robot.play(0.0, 4.0)
    robot.send(simulator.frame(2))
    robot.play(4.0, 5.0)
    kit.settle(node)
    assert not node.session.pipeline.stats.resets


def test_simulated_time_that_jumps_back_resets(ros, reconstruct, simulator, kit):
    node = reconstruct({"use_sim_time": True})
    robot = up(ros, kit, node, simulator)
    clock = ros.node("clock").create_publisher(Clock, "/clock", 10)
    kit.wait_for(clock.get_subscription_count, what="the clock's subscription")
    for seconds in (50, 51, 52):
        clock.publish(Clock(clock=time_message(seconds * 1_000_000_000)))
    kit.wait_for(lambda: node.get_clock().now().nanoseconds == 52_000_000_000, what="simulated time")
    robot.play(0.0, 4.0)
    kit.settle(node)
    assert node.session.pipeline.map_size
    clock.publish(Clock(clock=time_message(3_000_000_000)))
    kit.wait_for(lambda: node.session.pipeline.stats.resets == 1, what="a reset")
    assert node.session.pipeline.map_size == 0


def test_the_rest_is_mapped_when_images_stop(ros, reconstruct, simulator, kit):
    node = reconstruct({"ros.missing_after_s": 1.0})
    robot = up(ros, kit, node, simulator)
    robot.play(0.0, 4.0)
    pipeline = node.session.pipeline

    def all_mapped():
        mapped = sum(len(each.stamps_ns) for each in pipeline.trajectories())
        return mapped == pipeline.stats.keyframes - pipeline.thinned > 4

    kit.wait_for(all_mapped, what="nothing left to map")
