"""Every `ros.pose_source` on the real middleware: where metres come from, which TF edge goes out, what is said
when the source cannot be used."""

from dataclasses import replace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from spatial_fm_ros.msg import ReconstructionStatus  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from spatial_fm_ros.bridge.decode import decode_transform, stamp_ns  # noqa: E402
from spatial_fm_ros.bridge.encode import encode_transform  # noqa: E402
from spatial_fm_ros.core.types import LidarScan  # noqa: E402
from spatial_fm_ros.simulation.lidar import LidarModel  # noqa: E402
from spatial_fm_ros.simulation.scenario import save_scenario  # noqa: E402
from spatial_fm_ros.simulation.simulator import Simulator  # noqa: E402


@pytest.fixture(scope="module")
def robot_run(simulator, tmp_path_factory):
    """The drive of the other tests with a LiDAR fast enough for odometry. Gives simulator and truth folder."""
    scenario = replace(simulator.scenario, lidar_hz=10.0, lidar_model=LidarModel(rings=16, columns=180))
    folder = tmp_path_factory.mktemp("truth")
    save_scenario(scenario, folder / "scenario.json")
    return Simulator(scenario), folder


#: Metres come from the poses alone here: the other observers would hide that none come. A busy machine registers
#: every third scan only.
POSES_ONLY = {
    "scale.ignore": "lidar_depth, lidar_registration, imu",
    "ros.imu_topic": "",
    "ros.missing_after_s": 60.0,
    "intake.pose_max_gap_s": 1.5,
}


class Quiet:
    """A robot that has no odometry: neither the topic nor /tf."""

    def publish(self, _msg):
        pass


def begin(ros, kit, robot_run, parameters, odometry=False, static_tf=True):
    sim, folder = robot_run
    node = kit.start(ros, folder, POSES_ONLY | parameters)
    robot = kit.Robot(ros, sim, odometry=odometry, static_tf=static_tf)
    if not odometry:
        robot.tf = Quiet()
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    if static_tf:
        kit.wait_for(lambda: node._tree.parent("camera_optical_frame"), what="static TF")
    return node, robot


def scale_error(node, sim):
    """Of the published world: how far keyframes are apart there and in truth."""
    stamps, poses = zip(*[(t.stamps_ns, t.world_from_camera) for t in node.session.pipeline.trajectories()])
    centres = np.concatenate(poses)[:, :3, 3]
    truth = np.array([sim.truth.world_from_camera(int(s))[:3, 3] for s in np.concatenate(stamps)])
    apart = [np.linalg.norm(p[:, None] - p[None], axis=2).sum() for p in (centres, truth)]
    return apart[0] / apart[1] - 1


def becomes_metric(ears, kit):
    try:
        kit.wait_for(lambda: ears.status.scale_state == ReconstructionStatus.METRIC, what="metres")
    except AssertionError as error:
        raise AssertionError(f"{error}: {ears.status.scale_reason} {list(ears.status.scale_rejected)}") from error
    assert list(ears.status.scale_observers) == ["poses"]


@pytest.mark.parametrize("source", ["odometry", "tf"])
def test_poses_of_others(ros, kit, robot_run, source):
    """The edge goes to the odometry frame, and its correction stays small."""
    ears = kit.Ears(ros, outputs=(), with_map=False)
    parameters = {"ros.pose_source": source, "ros.points_topic": ""}
    node, robot = begin(ros, kit, robot_run, parameters, odometry=True)
    robot.play(0.0, 6.0, speed=2.0)
    kit.settle(node)
    becomes_metric(ears, kit)
    assert abs(scale_error(node, robot.simulator)) < 0.05
    kit.wait_for(ears.edges, what="TF")
    assert {edge.child_frame_id for edge in ears.edges()} == {"odom"}
    assert node.session.poses.lidar is None


def test_no_poses_at_all(ros, kit, robot_run):
    ears = kit.Ears(ros, outputs=("odometry",), with_map=False)
    parameters = {"ros.pose_source": "none", "ros.odometry_topic": "", "ros.points_topic": ""}
    node, robot = begin(ros, kit, robot_run, parameters)
    robot.play(0.0, 5.0, speed=3.0)
    kit.settle(node)
    assert ears.status.scale_state == ReconstructionStatus.RELATIVE
    assert {edge.child_frame_id for edge in ears.edges()} == {"base_link"}
    assert len(ears.edges()) == len(ears["odometry"])


def test_poses_of_the_lidar(ros, kit, robot_run):
    """Metres without odometry; the robot's base is a child of the map, also between the windows."""
    sim, _ = robot_run
    ears = kit.Ears(ros, outputs=("odometry",), with_map=False)
    node, robot = begin(ros, kit, robot_run, {"ros.pose_source": "lidar", "ros.odometry_topic": ""})
    robot.play(0.0, 5.0, speed=1.2)
    kit.settle(node)
    becomes_metric(ears, kit)
    robot.play(5.0, 7.0, speed=1.2)
    kit.settle(node)
    session = node.session
    assert abs(scale_error(node, sim)) < 0.05
    assert session.poses.body_frame == "base_link" and not session.poses.problem
    assert not session.poses.lidar.restarts and not session.pipeline.pose_jumps
    kit.wait_for(lambda: ears.finding("poses").message == "Poses are used.", what="the finding")
    # The body in its first pose is the map: level, x forward.
    last = session.last.keyframes[-1]
    first = sim.truth.world_from_body(sim.scenario.start_ns)
    truth = np.linalg.inv(first) @ sim.truth.world_from_camera(last.stamp_ns)
    assert np.linalg.norm((last.world_from_camera - truth)[:3, 3]) < 0.15
    # One edge, to the root of the camera's tree; more often than there are keyframes, and right there too.
    assert {edge.child_frame_id for edge in ears.edges()} == {"base_link"}
    assert len(ears.edges()) > len(ears["odometry"])
    metric = [edge for edge in ears.edges() if stamp_ns(edge.header) > sim.scenario.start_ns + 5_200_000_000]
    assert metric
    for edge in metric:
        truth = np.linalg.inv(first) @ sim.truth.world_from_body(stamp_ns(edge.header))
        assert np.linalg.norm((decode_transform(edge) - truth)[:3, 3]) < 0.15


def test_a_camera_and_a_lidar_without_a_base(ros, kit, robot_run):
    """TF knows of these two only: the camera is the body and the child of the map, which is level all the same."""
    sim, _ = robot_run
    ears = kit.Ears(ros, outputs=(), with_map=False)
    parameters = {"ros.pose_source": "lidar", "ros.odometry_topic": ""}
    node, robot = begin(ros, kit, robot_run, parameters, static_tf=False)
    camera_from_lidar = np.linalg.inv(sim.rig.body_from_camera) @ sim.rig.body_from_lidar
    edge = encode_transform(camera_from_lidar, 0, "camera_optical_frame", "lidar")
    robot.static.publish(TFMessage(transforms=[edge]))
    kit.wait_for(lambda: node._tree.parent("lidar"), what="the extrinsic")
    robot.play(0.0, 6.0, speed=1.2)
    kit.settle(node)
    becomes_metric(ears, kit)
    assert node.session.poses.body_frame == "camera_optical_frame"
    assert {edge.child_frame_id for edge in ears.edges()} == {"camera_optical_frame"}
    path = np.concatenate([t.world_from_camera for t in node.session.pipeline.trajectories()])[:, :3, 3]
    assert np.ptp(path[:, 2]) < 0.1 < 0.5 < np.ptp(path[:, 0])


def test_a_lidar_that_tf_does_not_know_is_named(ros, kit, robot_run):
    """The map goes on, relative, and the reason is in the diagnostics; when TF comes, poses do."""
    sim, _ = robot_run
    ears = kit.Ears(ros, outputs=(), with_map=False)
    parameters = {"ros.pose_source": "lidar", "ros.odometry_topic": ""}
    node, robot = begin(ros, kit, robot_run, parameters, static_tf=False)
    robot.play(0.0, 2.0, speed=3.0)
    words = "no transform between the camera frame 'camera_optical_frame' and the LiDAR frame 'lidar'"
    kit.wait_for(lambda: words in ears.finding("poses").message, what="the reason")
    assert node.session.pipeline.scale.state.value != "metric"
    robot.publish_static_tf()
    robot.play(2.0, 7.0, speed=1.2)
    kit.settle(node)
    becomes_metric(ears, kit)
    kit.wait_for(lambda: "no transform" not in ears.finding("poses").message, what="the all-clear")


def test_scans_that_are_none_are_counted_and_the_rest_is_used(ros, kit, robot_run):
    """Empty, NaN, millimetres, doubled: one reason each; the good ones between still give poses."""
    sim, _ = robot_run
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node, robot = begin(ros, kit, robot_run, {"ros.pose_source": "lidar", "ros.odometry_topic": ""})
    count = 0
    send = robot.send

    def spoiled(sample, shift_ns=0, change=None):
        nonlocal count
        if isinstance(sample, LidarScan):
            count += 1
            if count % 8 == 3:
                sample = replace(sample, points=sample.points[:0])
            elif count % 8 == 5:
                sample = replace(sample, points=np.full_like(sample.points, np.nan))
            elif count % 8 == 7:
                sample = replace(sample, points=sample.points * 1000)
            elif count % 8 == 0:
                send(sample, shift_ns, change)
        send(sample, shift_ns, change)

    robot.send = spoiled
    robot.play(0.0, 7.0, speed=1.2)
    kit.settle(node)
    reasons = " ".join(node.health.bad)
    for words in ("it is empty", "millimetres", "not newer than the one before"):
        assert words in reasons, reasons
    assert all(name.startswith("points: ") for name in node.health.bad), reasons
    becomes_metric(ears, kit)
    assert abs(scale_error(node, sim)) < 0.05


def test_a_lidar_source_without_a_topic_is_named(ros, kit, robot_run):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    begin(ros, kit, robot_run, {"ros.pose_source": "lidar", "ros.points_topic": "", "ros.odometry_topic": ""})
    kit.wait_for(
        lambda: ears.finding("poses") and "ros.points_topic is empty" in ears.finding("poses").message,
        what="the reason",
    )


def test_a_reset_starts_lidar_odometry_anew(ros, kit, robot_run):
    """As when a bag starts over: stamps go back, and the scans after it are not taken for old ones."""
    sim, _ = robot_run
    node, robot = begin(ros, kit, robot_run, {"ros.pose_source": "lidar", "ros.odometry_topic": ""})
    for until_s in (4.0, 9.0):
        robot.play(0.0, until_s, speed=3.0)
        kit.settle(node)
    pipeline = node.session.pipeline
    assert pipeline.stats.resets == 1
    # The first seconds of the new time were only watched; what comes after is in a new frame of odometry.
    a, b = (sim.frame_stamps_ns[i] for i in (35, 39))
    moved = np.linalg.inv(pipeline.pose_at(a)) @ pipeline.pose_at(b)
    truth = np.linalg.inv(sim.truth.world_from_camera(a)) @ sim.truth.world_from_camera(b)
    assert np.linalg.norm((moved - truth)[:3, 3]) < 0.1
