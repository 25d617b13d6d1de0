"""One simulated drive through the node on the real middleware; every output is looked at afterwards."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from rclpy.qos import DurabilityPolicy, ReliabilityPolicy  # noqa: E402
from spatial_fm_ros.msg import ReconstructionStatus  # noqa: E402

from spatial_fm_ros.bridge.decode import decode_camera_info, decode_points, decode_transform  # noqa: E402

OUTPUT_TYPES = {
    "depth/image": "sensor_msgs/msg/Image",
    "depth/camera_info": "sensor_msgs/msg/CameraInfo",
    "confidence/image": "sensor_msgs/msg/Image",
    "points": "sensor_msgs/msg/PointCloud2",
    "map": "sensor_msgs/msg/PointCloud2",
    "pose": "geometry_msgs/msg/PoseWithCovarianceStamped",
    "odometry": "nav_msgs/msg/Odometry",
    "path": "nav_msgs/msg/Path",
    "status": "spatial_fm_ros/msg/ReconstructionStatus",
}


def stamp_of(msg):
    return msg.header.stamp.sec * 1_000_000_000 + msg.header.stamp.nanosec


def matrix_of(pose):
    matrix = np.eye(4)
    q = pose.orientation
    matrix[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    matrix[:3, 3] = (pose.position.x, pose.position.y, pose.position.z)
    return matrix


@pytest.fixture(scope="module")
def live(module_ros, simulator, truth_folder, kit):
    ros = module_ros
    ears = kit.Ears(ros, with_map=False)
    robot = kit.Robot(ros, simulator)
    # Odometry alone gives the metres here: at three times real time, on a busy machine, few and wide windows are left
    # for the others. LiDAR in the live node is what test_pose_sources.py is about.
    chosen = {"ros.missing_after_s": 60.0, "scale.ignore": "lidar_depth,lidar_registration,imu"}
    node = kit.start(ros, truth_folder, chosen)
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    kit.wait_for(lambda: node._tree.parent("camera_optical_frame"), what="static TF")
    robot.play(0.0, 12.0, speed=3.0)
    kit.settle(node)
    return SimpleNamespace(ros=ros, ears=ears, robot=robot, node=node, sim=simulator, kit=kit)


def test_topics_have_their_types(live):
    known = dict(live.ears.node.get_topic_names_and_types())
    for name, kind in OUTPUT_TYPES.items():
        assert known[f"/reconstruct/{name}"] == [kind]
    assert known["/diagnostics"] == ["diagnostic_msgs/msg/DiagnosticArray"]


def test_outputs_are_reliable_and_map_and_status_are_latched(live):
    for name in OUTPUT_TYPES:
        (info,) = live.ears.node.get_publishers_info_by_topic(f"/reconstruct/{name}")
        assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE, name
        latched = info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        assert latched == (name in ("map", "status")), name


def test_inputs_are_heard_whatever_the_publisher_offers(live):
    for name in ("camera/image", "camera/camera_info", "points", "odom", "imu"):
        (info,) = live.ears.node.get_subscriptions_info_by_topic(f"/{name}")
        assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


def test_depth_has_source_stamp_frame_and_true_values(live):
    assert len(live.ears["depth/image"]) >= 4
    sources = set(live.sim.frame_stamps_ns)
    for msg, info in zip(live.ears["depth/image"], live.ears["depth/camera_info"], strict=True):
        assert msg.encoding == "32FC1" and msg.header.frame_id == "camera_optical_frame"
        assert stamp_of(msg) == stamp_of(info) and stamp_of(msg) in sources
        camera = decode_camera_info(info, (msg.width, msg.height))
        assert camera.is_pinhole
        depth = np.frombuffer(msg.data, np.float32).reshape(msg.height, msg.width)
    truth = live.sim.truth.depth(stamp_of(msg), camera)  # the last one: scale has settled by then
    known = np.isfinite(depth) & np.isfinite(truth)
    assert known.mean() > 0.9
    assert np.median(np.abs(depth[known] / truth[known] - 1)) < 0.03


def test_confidence_belongs_to_the_depth(live):
    depths = {stamp_of(m): m for m in live.ears["depth/image"]}
    for msg in live.ears["confidence/image"]:
        values = np.frombuffer(msg.data, np.float32)
        assert (msg.width, msg.height) == (depths[stamp_of(msg)].width, depths[stamp_of(msg)].height)
        assert values.min() >= 0 and values.max() <= 1


def test_status_says_metric(live):
    status = live.ears.status
    assert status.scale_state == ReconstructionStatus.METRIC, (status.scale_reason, status.scale_rejected)
    assert any("poses" in message.scale_observers for message in live.ears["status"])
    assert status.model == "oracle" and status.window_state == "ok" and status.header.frame_id == "map"
    assert status.windows == live.node.session.pipeline.stats.windows >= 3
    assert status.frames_received == status.frames_rejected + status.keyframes
    assert status.map_points > 1000 and status.submaps == 1 and status.messages_bad == 0


def test_odometry_is_the_base_in_the_map(live):
    sim = live.sim
    first = sim.truth.world_from_body(sim.frame_stamps_ns[0])
    for msg in live.ears["odometry"][-3:]:
        assert msg.header.frame_id == "map" and msg.child_frame_id == "base_link"
        # The odometry frame starts at the body's first pose, and the map is that frame.
        truth = np.linalg.inv(first) @ sim.truth.world_from_body(stamp_of(msg))
        error = np.linalg.inv(truth) @ matrix_of(msg.pose.pose)
        assert np.linalg.norm(error[:3, 3]) < 0.1
        assert np.degrees(Rotation.from_matrix(error[:3, :3]).magnitude()) < 5.0


def test_covariances_can_be_fused_from_the_first_keyframe_on(live):
    """Never singular, as a window without a seam had it: a filter takes that for certainty."""
    messages = live.ears["odometry"]
    for msg in messages:
        covariance = np.reshape(msg.pose.covariance, (6, 6))
        np.testing.assert_array_equal(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > 1e-6 and covariance.max() <= 1e7
        assert covariance[3, 3] > 1e-6
    assert np.reshape(messages[-1].pose.covariance, (6, 6))[0, 0] < 1.0


def test_the_pose_is_that_of_the_odometry(live):
    """~/pose, ~/odometry and ~/path of the base agree, and TF says the same."""
    assert len(live.ears["pose"]) == len(live.ears["odometry"])
    for pose, odometry in zip(live.ears["pose"], live.ears["odometry"], strict=True):
        assert pose.header == odometry.header and pose.pose == odometry.pose


def test_path_goes_through_all_keyframes(live):
    path = live.ears["path"][-1]
    assert path.header.frame_id == "map"
    stamps = [stamp_of(pose) for pose in path.poses]
    assert stamps == sorted(stamps) and len(stamps) >= len(live.ears["odometry"]) - 2
    np.testing.assert_allclose(
        matrix_of(path.poses[-1].pose), matrix_of(live.ears["odometry"][-1].pose.pose), atol=1e-6
    )


def test_points_are_new_points_in_the_map_frame(live):
    msg = live.ears["points"][-1]
    assert msg.header.frame_id == "map" and [f.name for f in msg.fields] == [
        "x",
        "y",
        "z",
        "rgb",
        "confidence",
    ]
    scan = decode_points(msg)
    first = live.sim.truth.world_from_body(live.sim.frame_stamps_ns[0])
    world = scan.points[::20].astype(float) @ first[:3, :3].T + first[:3, 3]
    assert np.median(live.sim.truth.distance_to_surface(world)) < 0.05


def test_tf_takes_odometry_to_the_map(live):
    """map->odom times the robot's odometry is the camera's pose in the map."""
    edge, last = live.ears.edges()[-1], live.node.session.last
    assert edge.child_frame_id == "odom"
    np.testing.assert_allclose(decode_transform(edge), last.world_from_odom, atol=1e-9)
    newest = last.keyframes[-1]
    assert newest.odom_from_camera is not None
    np.testing.assert_allclose(decode_transform(edge) @ newest.odom_from_camera, newest.world_from_camera, atol=1e-9)
    base = newest.world_from_camera @ np.linalg.inv(live.sim.rig.body_from_camera)
    np.testing.assert_allclose(matrix_of(live.ears["odometry"][-1].pose.pose), base, atol=1e-9)


def test_tf_is_repeated_with_the_clock_of_the_data(live):
    stamps = [stamp_of(edge) for edge in live.ears.edges()]
    assert len(stamps) > len(live.ears["points"])
    assert max(stamps) <= max(s.stamp_ns for s in live.sim.odometry)


def test_tf_from_map_to_camera_can_be_looked_up(live):
    from rclpy.time import Time
    from tf2_ros import Buffer, TransformListener

    buffer = Buffer()
    listener = TransformListener(buffer, live.ros.node("tf_user"))
    live.robot.play(12.0, 16.0, speed=3.0)
    found = live.kit.wait_for(
        lambda: (
            buffer.can_transform("map", "camera_optical_frame", Time())
            and buffer.lookup_transform("map", "camera_optical_frame", Time())
        ),
        what="map to camera",
    )
    assert found.header.frame_id == "map"
    listener.unregister()


def test_late_map_subscriber_gets_the_whole_map(live):
    late = live.kit.Ears(live.ros, outputs=())
    live.kit.wait_for(lambda: late["map"], what="the latched map")
    live.kit.wait_for(lambda: late["map"][-1].width == live.node.session.pipeline.map_size, what="the map as it is")
    assert late["map"][-1].header.frame_id == "map"


def test_diagnostics_are_good(live):
    live.kit.wait_for(lambda: live.ears.finding("inputs"), what="diagnostics")
    for task in ("model", "messages", "poses", "map"):
        assert live.ears.finding(task).level == b"\x00", live.ears.finding(task)
    names = {value.key for value in live.ears.finding("inputs").values}
    assert {"image", "camera_info", "points", "odometry", "imu"} <= names


def test_after_a_reset_everything_comes_again(live):
    """Last in this module: it empties the world."""
    from std_srvs.srv import Trigger

    assert live.ears.call(Trigger, "/reconstruct/reset").success
    names = ("depth/image", "odometry", "path", "points")
    before = {name: len(live.ears[name]) for name in names}
    edges = len(live.ears.edges())
    live.robot.play(16.0, 22.0, speed=3.0)
    for name in names:
        live.kit.wait_for(lambda n=name: len(live.ears[n]) > before[n], what=name)
    live.kit.wait_for(lambda: len(live.ears.edges()) > edges, what="TF")
