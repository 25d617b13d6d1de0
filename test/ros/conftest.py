"""A real middleware in a domain of its own, a simulated robot that feeds it, and ears for what comes out."""

import array
import contextlib
import itertools
import os
import threading
import time
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import PoseWithCovarianceStamped  # noqa: E402
from nav_msgs.msg import Odometry, Path  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, Imu, PointCloud2, PointField  # noqa: E402
from spatial_fm_ros.msg import ReconstructionStatus  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from spatial_fm_ros.bridge.encode import (  # noqa: E402
    encode_camera_info,
    encode_pose,
    encode_transform,
    header,
)
from spatial_fm_ros.core.types import Frame, ImuSample, LidarScan, PoseSample  # noqa: E402
from spatial_fm_ros.simulation.scenario import get_scenario, save_scenario  # noqa: E402
from spatial_fm_ros.simulation.simulator import Simulator  # noqa: E402

_DOMAINS = itertools.count(os.getpid() % 80)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

#: Small images and windows: the middleware is tested here, not the model.
SCENARIO = get_scenario(
    "room_drive",
    width=320,
    height=240,
    focal_px=215.0,
    detail=0.25,
    duration_s=24.0,
    distortion=(),
    camera_hz=5.0,
    lidar_hz=2.0,
    imu_hz=10.0,
    odometry_hz=20.0,
)
TOPICS = {
    "ros.image_topic": "camera/image",
    "ros.camera_info_topic": "camera/camera_info",
    "ros.points_topic": "points",
    "ros.odometry_topic": "odom",
    "ros.imu_topic": "imu",
}
SMALL = {
    "model.name": "oracle",
    "window.size": 4,
    "window.overlap": 2,
    # A window of four has a keyframe to spare for one whose pose comes too late.
    "scale.min_keyframes": 3,
    "intake.image_width": 320,
    "intake.disparity_px": 12.0,
    "ros.map_rate_hz": 4.0,
    "map.voxel_size": 0.05,
    "map.autosave_s": 0.0,
}


def wait_for(condition, timeout_s=20.0, what="the condition"):
    """Poll until `condition()` is truthy and return it."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout_s} s in vain for {what}")


class Spun:
    """A node in an executor and thread of its own."""

    def __init__(self, node, executor):
        self.node, self.executor = node, executor
        executor.add_node(node)
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()

    def _spin(self):
        with contextlib.suppress(ExternalShutdownException):
            self.executor.spin()

    def close(self):
        self.executor.shutdown()
        self.thread.join(5.0)
        self.node.destroy_node()


class Ros:
    """One domain: makes nodes, ends them all."""

    def __init__(self):
        self.domain = 1 + next(_DOMAINS) % 100
        self.context = Context()
        rclpy.init(args=[], context=self.context, domain_id=self.domain)
        self._spun = []

    def spin(self, node, executor=None):
        self._spun.append(Spun(node, executor or SingleThreadedExecutor(context=self.context)))
        return node

    def node(self, name):
        return self.spin(Node(name, context=self.context))

    def close(self):
        for spun in reversed(self._spun):
            if hasattr(spun.node, "close"):
                spun.node.close()
            spun.close()
        rclpy.try_shutdown(context=self.context)


class Robot:
    """Publishes a simulated run on the topics of TOPICS, with TF."""

    def __init__(self, ros, simulator, reliable=True, odometry=True, static_tf=True):
        self.simulator = simulator
        self.node = ros.node("robot")
        qos = QoSProfile(
            depth=20, reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        )
        make = self.node.create_publisher
        self.image = make(Image, "camera/image", qos)
        self.info = make(CameraInfo, "camera/camera_info", qos)
        self.points = make(PointCloud2, "points", qos)
        self.imu = make(Imu, "imu", qos)
        self.tf = make(TFMessage, "/tf", 100)
        self.odometry = make(Odometry, "odom", qos) if odometry else None
        self.static = make(TFMessage, "/tf_static", LATCHED)
        if static_tf:
            self.publish_static_tf()

    def is_heard_by(self, node):
        """Both sides have found each other, for every topic the node asks for."""
        publishers = [p for p in (self.image, self.info, self.points, self.imu, self.odometry) if p is not None]
        asked = [p for p in publishers if any(each.topic == p.topic_name for each in node.session.intake.inputs)]
        return all(p.get_subscription_count() and node.count_publishers(p.topic_name) for p in asked)

    def publish_static_tf(self):
        rig = self.simulator.rig
        pairs = (
            ("camera_optical_frame", rig.body_from_camera),
            ("lidar", rig.body_from_lidar),
            ("imu", rig.body_from_imu),
        )
        self.static.publish(TFMessage(transforms=[encode_transform(m, 0, "base_link", child) for child, m in pairs]))

    def play(self, start_s=0.0, stop_s=None, speed=4.0, shift_ns=0, change=None):
        """Publish the samples of a stretch of the run; `change(message)` may alter an image message."""
        first = self.simulator.scenario.start_ns
        stop_s = stop_s or self.simulator.scenario.duration_s
        began = time.monotonic()
        for event in self.simulator.events(threads=2):
            t = (event.arrival_ns - first) * 1e-9
            if t < start_s:
                continue
            if t > stop_s:
                return
            delay = began + (t - start_s) / speed - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            self.send(event.sample, shift_ns, change)

    def send(self, sample, shift_ns=0, change=None):
        stamp = sample.stamp_ns + shift_ns
        if isinstance(sample, Frame):
            msg = image_message(sample.image, stamp, sample.frame_id)
            self.info.publish(encode_camera_info(sample.camera, stamp, sample.frame_id))
            self.image.publish(change(msg) if change else msg)
        elif isinstance(sample, LidarScan):
            self.points.publish(cloud_message(sample.points, stamp, sample.frame_id))
        elif isinstance(sample, PoseSample):
            pose = sample.odom_from_body
            self.tf.publish(TFMessage(transforms=[encode_transform(pose, stamp, "odom", "base_link")]))
            if self.odometry is not None:
                msg = Odometry(header=header(stamp, "odom"), child_frame_id="base_link")
                msg.pose.pose = encode_pose(pose)
                self.odometry.publish(msg)
        elif isinstance(sample, ImuSample):
            msg = Imu(header=header(stamp, sample.frame_id))
            a, g = msg.linear_acceleration, msg.angular_velocity
            a.x, a.y, a.z = map(float, sample.linear_acceleration)
            g.x, g.y, g.z = map(float, sample.angular_velocity)
            self.imu.publish(msg)


def image_message(image, stamp, frame="camera_optical_frame", encoding="rgb8"):
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(image).data)
    height, width = image.shape[:2]
    return Image(
        header=header(stamp, frame),
        height=height,
        width=width,
        encoding=encoding,
        step=len(data) // height,
        data=data,
    )


def cloud_message(points, stamp, frame):
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(points, np.float32).tobytes())
    fields = [PointField(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate("xyz")]
    return PointCloud2(
        header=header(stamp, frame),
        height=1,
        width=len(points),
        fields=fields,
        point_step=12,
        row_step=12 * len(points),
        data=data,
        is_dense=True,
    )


OUTPUTS = {
    "depth/image": Image,
    "depth/camera_info": CameraInfo,
    "confidence/image": Image,
    "points": PointCloud2,
    "pose": PoseWithCovarianceStamped,
    "odometry": Odometry,
    "path": Path,
}


class Ears:
    """Keeps everything the reconstruction sends; newest last."""

    def __init__(self, ros, target="reconstruct", outputs=tuple(OUTPUTS), with_map=True):
        self.node = ros.node("ears")
        self.heard = defaultdict(list)
        for name in outputs:
            self._hear(OUTPUTS[name], f"/{target}/{name}", name, 50)
        self._hear(ReconstructionStatus, f"/{target}/status", "status", LATCHED)
        self._hear(DiagnosticArray, "/diagnostics", "diagnostics", 50)
        self._hear(TFMessage, "/tf", "tf", 500)
        if with_map:
            self._hear(PointCloud2, f"/{target}/map", "map", LATCHED)

    def _hear(self, kind, topic, name, qos):
        self.node.create_subscription(kind, topic, self.heard[name].append, qos)

    def __getitem__(self, name):
        return self.heard[name]

    @property
    def status(self):
        return self.heard["status"][-1] if self.heard["status"] else None

    def finding(self, task):
        """The newest diagnostic status of one task of the node."""
        for message in reversed(self.heard["diagnostics"]):
            for status in message.status:
                if status.name.endswith(f": {task}"):
                    return status
        return None

    def edges(self, parent="map"):
        return [t for m in self.heard["tf"] for t in m.transforms if t.header.frame_id == parent]

    def call(self, kind, name, request=None, timeout_s=15.0):
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(10.0), f"no service {name}"
        future = client.call_async(request or kind.Request())
        wait_for(future.done, timeout_s, f"an answer of {name}")
        self.node.destroy_client(client)
        return future.result()


@pytest.fixture(scope="session")
def simulator():
    return Simulator(SCENARIO)


@pytest.fixture(scope="session")
def truth_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    save_scenario(SCENARIO, folder / "scenario.json")
    return folder


def open_ros():
    world = Ros()
    yield world
    world.close()


ros = pytest.fixture(open_ros)
module_ros = pytest.fixture(scope="module")(open_ros)


def is_up(node):
    """The node has opened its subscriptions."""
    return node.session is not None and bool(node.session.intake.inputs)


def settle(node):
    """Wait until all windows are done and their messages have come."""
    pipeline = node.session.pipeline
    while True:
        before = pipeline.stats.windows
        time.sleep(0.8)
        if not pipeline.ready() and pipeline.stats.windows == before:
            return


def start_reconstruct(ros, truth_folder, parameters, name="reconstruct"):
    """The node in this process, spinning as its main() spins it."""
    from rclpy.executors import MultiThreadedExecutor

    from spatial_fm_ros.nodes.reconstruct import Reconstruct

    values = SMALL | {"model.oracle.truth": str(truth_folder)} | TOPICS | parameters
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    node = Reconstruct(name, context=ros.context, parameter_overrides=overrides)
    return ros.spin(node, MultiThreadedExecutor(num_threads=4, context=ros.context))


@pytest.fixture
def reconstruct(ros, truth_folder):
    """Start the node: parameters as `{"ros.publish_tf": False}`."""
    return lambda parameters=None, name="reconstruct": start_reconstruct(ros, truth_folder, parameters or {}, name)


@pytest.fixture(scope="session")
def kit():
    """The helpers above, for test modules (which cannot import a conftest)."""
    return SimpleNamespace(
        wait_for=wait_for,
        Robot=Robot,
        Ears=Ears,
        start=start_reconstruct,
        image_message=image_message,
        cloud_message=cloud_message,
        is_up=is_up,
        settle=settle,
        topics=TOPICS,
        small=SMALL,
    )
