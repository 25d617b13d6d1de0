"""Faults on the wire: each is counted, named in /diagnostics, and the node maps on. See docs/bad_input.md."""

import copy

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, PointCloud2  # noqa: E402

from spatial_fm_ros.bridge.encode import encode_camera_info, header  # noqa: E402
from spatial_fm_ros.core.types import Camera  # noqa: E402
from test.pictures.making import encoded, scene, with_frame_size  # noqa: E402


@pytest.fixture(scope="module")
def run(module_ros, simulator, truth_folder, kit):
    """A node that has mapped something already; faults are thrown at it one after the other."""

    class Run:
        ros = module_ros
        ears = kit.Ears(module_ros, outputs=())
        robot = kit.Robot(module_ros, simulator)
        node = kit.start(module_ros, truth_folder, {"ros.missing_after_s": 60.0})

        def bad(self):
            return dict(self.node.health.bad)

        def expect(self, role, words, send):
            """`send()` until a bad message of `role` with `words` is counted and shown in /diagnostics."""
            before = self.bad()
            send()
            key = kit.wait_for(
                lambda: next(
                    (
                        key
                        for key, count in self.bad().items()
                        if key.startswith(f"{role}: ") and words in key and count > before.get(key, 0)
                    ),
                    None,
                ),
                what=f"'{words}' among {self.bad()}",
            )
            kit.wait_for(lambda: any(v.key == key for v in self.ears.finding("messages").values), what="diagnostics")

    run = Run()
    kit.wait_for(lambda: kit.is_up(run.node) and run.robot.is_heard_by(run.node), what="the node")
    kit.wait_for(lambda: run.node._tree.parent("camera_optical_frame"), what="static TF")
    run.robot.play(0.0, 5.0, speed=3.0)
    kit.settle(run.node)
    run.mapped = run.node.session.pipeline.map_size
    assert run.mapped > 0
    yield run
    # After all of it: nothing that was mapped is lost, and mapping goes on.
    assert run.node.session.pipeline.map_size >= run.mapped
    windows = run.node.session.pipeline.stats.windows
    run.robot.play(5.0, 8.0, speed=3.0)
    kit.wait_for(lambda: run.node.session.pipeline.stats.windows > windows, what="another window")


STAMP = 15_000_000_007  # no frame of the run has it


def picture(kit, **change):
    msg = kit.image_message(np.full((240, 320, 3), 90, np.uint8), STAMP)
    for name, value in change.items():
        setattr(msg, name, value)
    return msg


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": b"\0" * 1000}, "Truncated image"),
        ({"data": b"\0" * 300_000}, "Over-long image"),
        ({"encoding": "yuv999"}, "Unknown image encoding"),
        ({"encoding": "32FC1", "step": 1280}, "depth or raw numeric image"),
        ({"width": 0}, "positive size"),
        ({"height": 0}, "positive size"),
        ({"step": 100}, "shorter than a row"),
    ],
    ids=["truncated", "over-long", "encoding", "depth", "width", "height", "step"],
)
def test_images(run, kit, change, words):
    run.expect("image", words, lambda: run.robot.image.publish(picture(kit, **change)))


def test_camera_info_of_another_size(run, kit):
    camera = Camera(1280, 960, np.array([[800.0, 0, 640], [0, 800, 480], [0, 0, 1]]))

    def send():
        run.robot.info.publish(encode_camera_info(camera, STAMP, "camera_optical_frame"))
        known = run.node.session.intake.calibration._kept
        kit.wait_for(lambda: (STAMP, "camera_optical_frame") in known, what="the CameraInfo")
        run.robot.image.publish(picture(kit))

    run.expect("image", "CameraInfo describes images of", send)
    # The right one heals it.
    frame = run.robot.simulator.frame(0)
    run.robot.info.publish(encode_camera_info(frame.camera, STAMP + 1, "camera_optical_frame"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": [float("nan"), 0.0, 160.0, 0.0, 200.0, 120.0, 0.0, 0.0, 1.0]}, "finite values"),
        ({"k": [0.0, 0.0, 160.0, 0.0, 200.0, 120.0, 0.0, 0.0, 1.0]}, "fx, fy"),
        ({"distortion_model": "swirl", "d": [0.1]}, "Unknown distortion model"),
    ],
    ids=["nan", "zero", "model"],
)
def test_camera_info(run, change, words):
    msg = encode_camera_info(run.robot.simulator.frame(0).camera, STAMP, "camera_optical_frame")
    for name, value in change.items():
        setattr(msg, name, value)
    run.expect("camera_info", words, lambda: run.robot.info.publish(msg))


def test_clouds(run, kit):
    good = kit.cloud_message(np.ones((4, 3), np.float32), STAMP, "lidar")
    no_z = copy.deepcopy(good)
    no_z.fields = good.fields[:2]
    run.expect("points", "missing z", lambda: run.robot.points.publish(no_z))
    short = copy.deepcopy(good)
    short.width = 400
    short.row_step = 4800
    run.expect("points", "Truncated cloud", lambda: run.robot.points.publish(short))


def test_big_endian_and_nan_clouds_are_read(run, kit):
    points = np.array([[1, 2, 3], [np.nan, 0, 0], [4, 5, 6]], ">f4")
    msg = kit.cloud_message(np.zeros((3, 3), np.float32), STAMP, "lidar")
    msg.data = points.tobytes()
    msg.is_bigendian = True
    before = dict(run.bad())
    scans = run.node.session.pipeline.sensors.scans
    run.robot.points.publish(msg)
    scan = kit.wait_for(lambda: scans.nearest(STAMP, 1000), what="the scan")
    np.testing.assert_array_equal(scan.points, [[1, 2, 3], [4, 5, 6]])
    assert run.bad() == before


def test_odometry(run):
    nan = Odometry(header=header(STAMP, "odom"), child_frame_id="base_link")
    nan.pose.pose.position.x = float("nan")
    run.expect("odometry", "finite", lambda: run.robot.odometry.publish(nan))
    zero = Odometry(header=header(STAMP, "odom"), child_frame_id="base_link")
    zero.pose.pose.orientation.w = 0.0
    run.expect("odometry", "never filled in", lambda: run.robot.odometry.publish(zero))
    second = Odometry(header=header(STAMP, "visual"), child_frame_id="base_link")
    words = "two frames ('base_link in odom' and 'base_link in visual')"
    run.expect("odometry", words, lambda: run.robot.odometry.publish(second))


def test_jumping_odometry_is_reported(run, kit):
    last = run.robot.simulator.odometry[90]
    for i in range(5):
        msg = Odometry(header=header(last.stamp_ns + i * 50_000_000, "odom"), child_frame_id="base_link")
        msg.pose.pose.position.x = 100.0 if i % 2 else -100.0
        run.robot.odometry.publish(msg)
    kit.wait_for(lambda: run.node.session.pipeline.pose_jumps, what="counted jumps")
    kit.wait_for(
        lambda: any(v.key == "pose jumps" and v.value != "0" for v in run.ears.finding("poses").values),
        what="diagnostics",
    )


def test_imu(run):
    msg = Imu(header=header(STAMP, "imu"))
    msg.linear_acceleration.z = float("inf")
    run.expect("imu", "finite", lambda: run.robot.imu.publish(msg))


def test_black_and_white_frames_are_rejected_by_name(run, kit):
    stats = run.node.session.pipeline.stats
    newest = max(run.robot.simulator.frame_stamps_ns[:26])
    for i, (level, reason) in enumerate(((0, "dark"), (255, "bright"))):
        flat = np.full((240, 320, 3), level, np.uint8)
        run.robot.image.publish(kit.image_message(flat, newest + (i + 1) * 1_000_000))
        kit.wait_for(lambda r=reason: stats.rejected[r], what=reason)


def test_late_and_duplicate_stamps_are_stale(run, kit):
    stats = run.node.session.pipeline.stats
    before = stats.rejected["stale"]
    frame = run.robot.simulator.frame(24)
    for _ in range(2):
        run.robot.send(frame)
    kit.wait_for(lambda: stats.rejected["stale"] > before, what="stale frames")
    assert run.node.session.pipeline.map_size >= run.mapped and not stats.resets


def test_broken_jpegs(ros, reconstruct, kit):
    node = reconstruct({"ros.image_topic": "camera/image/compressed", "ros.camera_info_topic": "none"})
    kit.wait_for(lambda: kit.is_up(node), what="the node")
    publisher = ros.node("camera").create_publisher(CompressedImage, "camera/image/compressed", 10)
    kit.wait_for(publisher.get_subscription_count, what="a subscription")
    publisher.publish(CompressedImage(header=header(STAMP, "camera"), format="jpeg", data=b"\xff\xd8\xff\xe0 cut"))
    kit.wait_for(lambda: any("Truncated JPEG" in key for key in node.health.bad), what="a bad JPEG")
    bomb = with_frame_size(encoded(scene(), "JPEG"), 20000, 20000)
    publisher.publish(CompressedImage(header=header(STAMP, "camera"), format="jpeg", data=bomb))
    kit.wait_for(lambda: any("its data cannot hold" in key for key in node.health.bad), what="a bomb")


def test_missing_inputs_are_named_after_a_while(ros, reconstruct, kit):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node = reconstruct({"ros.missing_after_s": 1.0})
    kit.wait_for(lambda: kit.is_up(node), what="the node")
    found = kit.wait_for(
        lambda: ears.finding("inputs") if "Missing" in (ears.finding("inputs") or Blank).message else None,
        what="missing inputs",
    )
    assert found.level == b"\x02"
    for name in ("image (/camera/image)", "camera_info", "points (/points)", "odometry (/odom)", "imu (/imu)"):
        assert name in found.message
    assert "nobody publishes /camera/image" in found.message


@pytest.fixture
def elsewhere(ros):
    """Another participant in the same domain, as another process is."""
    context = Context()
    rclpy.init(args=[], context=context, domain_id=ros.domain)
    yield context
    rclpy.try_shutdown(context=context)


class Blank:
    message = ""


def test_incompatible_qos_is_named_with_its_publisher(ros, reconstruct, simulator, kit):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    kit.Robot(ros, simulator, reliable=False)
    node = reconstruct({"ros.image_reliability": "reliable", "ros.missing_after_s": 1.0})
    kit.wait_for(lambda: kit.is_up(node), what="the node")
    kit.wait_for(
        lambda: "/camera/image of /robot has incompatible QoS" in (ears.finding("inputs") or Blank).message,
        what="incompatible QoS",
    )


def test_wrong_type_is_named_and_the_right_topic_suggested(ros, reconstruct, kit, elsewhere):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    camera = Node("camera", context=elsewhere)  # one process cannot hold two types of a topic name
    camera.create_publisher(PointCloud2, "camera/image", 10)
    camera.create_publisher(Image, "camera/color", QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE))
    node = reconstruct({"ros.missing_after_s": 1.0})
    kit.wait_for(lambda: kit.is_up(node), what="the node")
    kit.wait_for(
        lambda: (
            "is sensor_msgs/msg/PointCloud2; expected sensor_msgs/msg/Image"
            in (ears.finding("inputs") or Blank).message
        ),
        what="the wrong type",
    )
    message = kit.wait_for(lambda: ears.finding("inputs"), what="diagnostics").message
    assert "/reconstruct/" not in message  # its own topics are no suggestion
    camera.destroy_node()


def test_an_impossible_topic_name_leaves_the_node_inactive(ros, reconstruct, kit):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node = reconstruct({"ros.image_topic": "no good name"})
    kit.wait_for(lambda: "no good name" in (ears.finding("inputs") or Blank).message, what="the reason")
    assert node.session is not None and not kit.is_up(node)


def test_missing_tf_is_named_and_poses_wait_for_it(ros, reconstruct, simulator, kit):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    robot = kit.Robot(ros, simulator, static_tf=False)
    node = reconstruct({"ros.missing_after_s": 60.0})
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    robot.play(0.0, 1.0)
    kit.wait_for(
        lambda: (
            "no transform from 'base_link' to the camera frame 'camera_optical_frame'"
            in (ears.finding("poses") or Blank).message
        ),
        what="the missing transform",
    )
    assert node.session.pipeline.pose_at(simulator.frame_stamps_ns[1]) is None
    robot.publish_static_tf()
    robot.play(1.0, 1.5)
    kit.wait_for(lambda: node.session.pipeline.pose_at(simulator.frame_stamps_ns[1]) is not None, what="the held poses")


def test_without_camera_info_the_model_is_left_to_estimate(ros, reconstruct, simulator, kit):
    node = reconstruct({"ros.missing_after_s": 0.2})
    robot = kit.Robot(ros, simulator)
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    publisher = robot.info
    robot.info = ros.node("elsewhere").create_publisher(CameraInfo, "other_camera_info", 10)
    robot.play(0.0, 4.0)
    kit.wait_for(lambda: node.session.pipeline.stats.keyframes, what="keyframes without calibration")
    assert "estimates the focal length" in node.session.intake.calibration.remark
    assert publisher.get_subscription_count()
