"""The rig's other cameras on the real middleware: a stereo camera that stands still gives metres, and says why not
where it cannot. The node of most tests is one; each begins with a reset."""

import os
import subprocess
import time

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from ament_index_python.packages import get_package_prefix  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from spatial_fm_ros.msg import ReconstructionStatus  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from spatial_fm_ros.bridge.encode import encode_camera_info, encode_transform, header  # noqa: E402
from spatial_fm_ros.bridge.inputs import expected_inputs  # noqa: E402
from spatial_fm_ros.bridge.pose_feed import PoseFeed  # noqa: E402
from spatial_fm_ros.core.config import Config, ModelConfig, RosConfig  # noqa: E402
from spatial_fm_ros.core.errors import ConfigError  # noqa: E402
from spatial_fm_ros.core.pipeline import Pipeline  # noqa: E402
from spatial_fm_ros.core.types import CompanionFrame, Frame  # noqa: E402
from spatial_fm_ros.simulation.scenario import FRAMES, companion_frame, get_scenario, save_scenario  # noqa: E402
from spatial_fm_ros.simulation.simulator import Simulator  # noqa: E402

BASELINE = 0.12
SCENARIO = get_scenario(
    "room_still", width=320, height=240, focal_px=215.0, detail=0.25, duration_s=4.0, distortion=(),
    camera_hz=5.0, lidar_hz=0.0, imu_hz=0.0, odometry_hz=0.0,
).with_stereo(BASELINE)  # fmt: skip
LEFT, RIGHT = FRAMES["camera"], companion_frame(0)
#: Nothing but the images: no other observer of metres.
ALONE = {
    "ros.pose_source": "none",
    "ros.points_topic": "",
    "ros.odometry_topic": "",
    "ros.imu_topic": "",
    "ros.companion_image_topics": "right/image",
    "ros.missing_after_s": 60.0,
    "intake.max_interval_s": 0.5,
}
LATE_NS = 30_000_000


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    """(simulator, its camera samples, truth folder)."""
    folder = tmp_path_factory.mktemp("stereo")
    save_scenario(SCENARIO, folder / "scenario.json")
    simulator = Simulator(SCENARIO)
    return simulator, [event.sample for event in simulator.events(threads=2)], folder


class StereoRobot:
    """Publishes both cameras of the standing robot; TF ties the right one to the left when told to."""

    def __init__(self, ros, kit, stereo):
        self.simulator, self.samples, _ = stereo
        self.kit = kit
        self.robot = kit.Robot(ros, self.simulator, odometry=False)
        self.right = {name: self._publishers(name) for name in ("right", "third")}

    def _publishers(self, name):
        make = self.robot.node.create_publisher
        return make(Image, f"{name}/image", 20), make(CameraInfo, f"{name}/camera_info", 20)

    def publish_mount(self):
        rig = self.simulator.rig
        edges = [
            encode_transform(rig.body_from_camera, 0, "base_link", LEFT),
            encode_transform(rig.companions[RIGHT], 0, LEFT, RIGHT),
        ]
        self.robot.static.publish(TFMessage(transforms=edges))

    def play(self, late_ns=0, frame=RIGHT, shift_ns=0, speed=5.0, third=None):
        """All of the run; `late_ns` is added to the right camera's stamps, `frame` is where it says it is; the
        same of a third camera that sees what the right one does."""
        began = time.monotonic()
        for sample in self.samples:
            due = began + (sample.stamp_ns - SCENARIO.start_ns) * 1e-9 / speed
            time.sleep(max(0.0, due - time.monotonic()))
            if isinstance(sample, Frame):
                self.robot.send(sample, shift_ns)
            elif isinstance(sample, CompanionFrame):
                stamp = sample.stamp_ns + shift_ns
                self.send_right(sample.frame, stamp + late_ns, frame)
                if third is not None:
                    self.send_right(sample.frame, stamp + third[0], third[1], "third")

    def send_right(self, frame, stamp, frame_id=RIGHT, topic="right"):
        image, info = self.right[topic]
        info.publish(encode_camera_info(frame.camera, stamp, frame_id))
        image.publish(self.kit.image_message(frame.image, stamp, frame_id))

    def is_heard_by(self, node):
        image, info = self.right["right"]
        publishers = (self.robot.image, self.robot.info, image, info)
        return all(p.get_subscription_count() and node.count_publishers(p.topic_name) for p in publishers)


@pytest.fixture(scope="module")
def run(module_ros, stereo, kit):
    class Run:
        ears = kit.Ears(module_ros, outputs=(), with_map=False)
        robot = StereoRobot(module_ros, kit, stereo)
        node = kit.start(module_ros, stereo[2], ALONE)

        def play(self, **how):
            """A stretch that starts over, on its own."""
            assert self.ears.call(Trigger, "/reconstruct/reset").success
            self.robot.play(**how)
            kit.settle(self.node)
            return self.ears.status

        def rejected(self, words):
            kit.wait_for(
                lambda: any(words in each for each in self.ears.status.scale_rejected),
                what=f"'{words}' among {list(self.ears.status.scale_rejected)}, {self.ears.status.scale_reason}",
            )

        def warned(self, words):
            kit.wait_for(lambda: words in self.ears.finding("poses").message, what=f"'{words}' in the diagnostics")
            assert self.ears.finding("poses").level == b"\x01"

    run = Run()
    kit.wait_for(lambda: kit.is_up(run.node) and run.robot.is_heard_by(run.node), what="the node")
    kit.wait_for(lambda: run.node._tree.parent(LEFT), what="static TF")
    return run


def test_a_companion_that_tf_does_not_know_is_named_and_the_map_goes_on(run):
    """First in this module: afterwards TF knows it."""
    status = run.play()
    words = f"TF has no transform from the camera to the rig's camera '{RIGHT}'"
    run.rejected(words)
    run.warned(f"TF has no transform from the camera frame '{LEFT}' to '{RIGHT}' ('companion_1')")
    assert status.scale_state != ReconstructionStatus.METRIC and status.map_points > 1000
    assert status.messages_bad == 0


def test_a_stereo_camera_that_stands_still_gives_metres(run, stereo, kit):
    run.robot.publish_mount()
    kit.wait_for(lambda: run.node._tree.parent(RIGHT) == LEFT, what="the mount")
    status = run.play()
    assert status.scale_state == ReconstructionStatus.METRIC, (status.scale_reason, list(status.scale_rejected))
    assert list(status.scale_observers) == ["baseline"] and status.scale_sigma < 0.05
    newest = run.node.session.last.keyframes[-1]
    truth = stereo[0].truth.depth(newest.stamp_ns, newest.camera)
    assert abs(float(np.nanmedian(newest.depth / truth)) - 1) < 0.05
    # The map is the first camera's alone.
    assert {keyframe.frame_id for keyframe in run.node.session.last.keyframes} == {LEFT}
    kit.wait_for(lambda: run.ears.finding("poses").message == "No poses are configured.", what="the all-clear")
    places = {value.key: value.value for value in run.ears.finding("poses").values}
    assert places["companion_1, seen from the camera"] == "0.120 m to the right"
    counted = {value.key: value.value for value in run.ears.finding("model").values}
    assert int(counted["companion images in windows"]) >= 4


def test_cameras_that_are_not_triggered_together_are_named(run):
    status = run.play(late_ns=LATE_NS)
    words = f"no image of '{RIGHT}' within 10.0 ms of a keyframe, the nearest 30.0 ms away"
    run.rejected(words)
    run.warned(words)
    assert status.scale_state != ReconstructionStatus.METRIC and status.map_points > 1000


def test_two_cameras_in_one_frame_are_named(run):
    status = run.play(frame=LEFT)
    run.rejected("give each a frame of its own")
    run.warned(f"'companion_1' sends in the frame '{LEFT}' as another camera does: give each its own.")
    assert status.scale_state != ReconstructionStatus.METRIC


def test_garbage_of_a_companion_is_counted_and_metres_still_come(run, stereo, kit):
    assert run.ears.call(Trigger, "/reconstruct/reset").success  # the frame of the test before is forgotten
    frame = stereo[0].companion(0, 0).frame
    stamp = 15_000_000_007
    image, info = run.robot.right["right"]

    def expect(role, words, publisher, message):
        publisher.publish(message)
        kit.wait_for(
            lambda: any(key.startswith(f"{role}: ") and words in key for key in run.node.health.bad),
            what=f"{role}: {words} among {dict(run.node.health.bad)}",
        )

    def picture(**change):
        message = kit.image_message(frame.image, stamp, RIGHT)
        for name, value in change.items():
            setattr(message, name, value)
        return message

    expect("companion_1", "Truncated image", image, picture(data=b"\0" * 1000))
    expect("companion_1", "Unknown image encoding", image, picture(encoding="yuv999"))
    expect("companion_1", "positive size", image, picture(width=0))
    wrong = encode_camera_info(frame.camera, stamp, RIGHT)
    wrong.k[0] = float("nan")
    expect("companion_1_info", "finite values", info, wrong)
    info.publish(encode_camera_info(frame.camera.resized(640, 480), stamp, RIGHT))
    calibration = run.node.session.intake._companions["companion_1"].calibration
    kit.wait_for(lambda: (stamp, RIGHT) in calibration._kept, what="the CameraInfo")
    expect("companion_1", "CameraInfo describes images of", image, picture())
    assert run.play().scale_state == ReconstructionStatus.METRIC


def test_a_bag_that_starts_over_and_a_pause(run, kit):
    """Stamps jump back: the companions of the world before are forgotten with it. Paused, none are taken."""
    resets = run.node.session.pipeline.stats.resets
    run.robot.play()
    kit.settle(run.node)
    assert run.node.session.pipeline.stats.resets == resets + 1
    assert run.ears.status.scale_state == ReconstructionStatus.METRIC
    assert run.ears.call(SetBool, "/reconstruct/set_running", SetBool.Request(data=False)).success
    assert run.play(speed=20.0).keyframes == 0 and run.node.session.pipeline.sensors.companions.cameras == ()
    assert run.ears.call(SetBool, "/reconstruct/set_running", SetBool.Request(data=True)).success


def test_without_camera_info_compressed_images_are_counted(ros, stereo, kit):
    topics = {"ros.companion_image_topics": "right/image/compressed", "ros.missing_after_s": 0.3}
    node = kit.start(ros, stereo[2], ALONE | topics)
    kit.wait_for(lambda: kit.is_up(node), what="the node")
    inputs = {each.role: each.topic for each in node.session.intake.inputs}
    assert inputs["companion_1_info"] == "/right/camera_info"
    publisher = ros.node("camera").create_publisher(CompressedImage, "right/image/compressed", 10)
    kit.wait_for(publisher.get_subscription_count, what="a subscription")
    frame = stereo[0].companion(0, 0).frame
    data = cv2.imencode(".jpg", frame.image[:, :, ::-1])[1].tobytes()

    def counted():
        publisher.publish(CompressedImage(header=header(frame.stamp_ns, RIGHT), format="jpeg", data=data))
        time.sleep(0.1)
        return any(key.startswith("companion_1: ") and "came without calibration" in key for key in node.health.bad)

    kit.wait_for(counted, what="images without calibration")
    assert ("companion_1_info", "No CameraInfo came; these images cannot be used.") in node.session.intake.remarks


def test_silent_companions_are_missing_by_name(ros, stereo, kit):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node = kit.start(ros, stereo[2], ALONE | {"ros.missing_after_s": 0.5})
    kit.wait_for(lambda: kit.is_up(node), what="the node")
    for name in ("companion_1 (/right/image)", "companion_1_info (/right/camera_info)"):
        kit.wait_for(lambda n=name: ears.finding("inputs") and n in ears.finding("inputs").message, what=name)


@pytest.mark.parametrize(
    ("images", "infos", "words"),
    [
        ("a/image, b/image", "a/info", "names 1 topics, ros.companion_image_topics 2"),
        ("", "a/info", "names 1 topics, ros.companion_image_topics 0"),
        ("no good name", "", "'no good name' (input 'companion_1') is no name of a ROS topic"),
        ("a/image", "no good name", "'no good name' (input 'companion_1_info') is no name of a ROS topic"),
        ("a/image, a/image", "a/info, b/info", "/a/image is named twice, for the inputs 'companion_1' and 'compan"),
        ("cam/image", "a/info", "/cam/image is named twice, for the inputs 'image' and 'companion_1'"),
        ("cam/right", "", "/cam/camera_info is named twice, for the inputs 'camera_info' and 'companion_1_info'"),
    ],
    ids=["one info for two", "info without image", "name", "info name", "twice", "the first's image", "its info"],
)
def test_topics_that_cannot_be_are_a_sentence(module_ros, run, images, infos, words):
    config = RosConfig(
        image_topic="cam/image",
        camera_info_topic="cam/camera_info",
        companion_image_topics=images,
        companion_camera_info_topics=infos,
    )
    with pytest.raises(ConfigError) as error:
        expected_inputs(run.robot.robot.node, config)
    assert words in str(error.value)


def test_impossible_lists_leave_the_node_inactive(ros, stereo, kit):
    node = kit.start(ros, stereo[2], ALONE | {"ros.companion_camera_info_topics": "a,b,c"})
    kit.wait_for(lambda: "names 3 topics" in node.problem, what="the reason")
    assert node.session is not None and not kit.is_up(node)


@pytest.mark.parametrize("source", ["odometry", "tf", "lidar", "none"])
def test_every_pose_source_looks_companions_up_anew_when_frames_change(run, source):
    """Whatever tells poses, and before any of them: the cameras of the rig need each other only."""
    known = run.robot.simulator.rig.companions[RIGHT]
    pipeline = Pipeline(Config(model=ModelConfig(name="oracle")))
    config = RosConfig(pose_source=source, points_topic="points", odometry_topic="odom")
    poses = PoseFeed(config, pipeline, run.node._tree, lambda role, error: None)
    poses.saw_companion("companion_1", RIGHT)
    assert not pipeline.sensors.told_rig.companions and not poses.companion_problem
    poses.saw("camera", LEFT)
    poses.saw_companion("companion_1", RIGHT)
    np.testing.assert_allclose(pipeline.sensors.told_rig.companions[RIGHT], known, atol=1e-9)
    poses.saw("camera", "elsewhere")
    poses.saw_companion("companion_1", RIGHT)
    assert not pipeline.sensors.told_rig.companions
    assert f"no transform from the camera frame 'elsewhere' to '{RIGHT}'" in poses.companion_problem
    poses.saw("camera", RIGHT)
    poses.saw_companion("companion_1", LEFT)
    np.testing.assert_allclose(pipeline.sensors.told_rig.companions[LEFT], np.linalg.inv(known), atol=1e-9)
    assert poses.companion_places == [("companion_1", "0.120 m to the left")] and not poses.companion_problem
    poses.saw_companion("companion_2", LEFT)
    assert f"sends in the frame '{LEFT}' as another camera does" in poses.companion_problem


def test_check_topics_tells_of_triggers_and_mounts(ros, stereo, kit, tmp_path):
    """One companion as it should be, another 30 ms late and in the first camera's frame."""
    robot = StereoRobot(ros, kit, stereo)
    robot.publish_mount()
    executable = os.path.join(get_package_prefix("spatial_fm_ros"), "lib", "spatial_fm_ros", "check_topics")
    command = [executable, "--duration", "2.5", "--image", "camera/image", "--camera-info", "camera/camera_info"]
    command += ["--companion-images", "right/image,third/image"]
    output = tmp_path / "output"
    with output.open("w") as file:
        environment = os.environ | {"ROS_DOMAIN_ID": str(ros.domain)}
        child = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        publishers = (robot.robot.image, robot.right["right"][0], robot.right["third"][0])
        kit.wait_for(lambda: all(each.get_subscription_count() for each in publishers), what="check_topics")
        robot.play(shift_ns=time.time_ns() - SCENARIO.start_ns, speed=2.0, third=(LATE_NS, LEFT))
        child.wait(timeout=30)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    said = output.read_text()
    assert child.returncode == 0, said
    for words in (
        f"rig      companion_1: TF has '{RIGHT}' 0.120 m to the right of the camera.",
        "companion_1: for 100 % of the images it has one within 10.0 ms, the nearest is usually 0.0 ms",
        "warning  companion_2: for 0 % of the images it has one within 10.0 ms, the nearest is usually 30.0 ms later: "
        "trigger the rig's cameras together",
        f"warning  companion_2: both cameras send in frame '{LEFT}': give each its own.",
    ):
        assert words in said, said
