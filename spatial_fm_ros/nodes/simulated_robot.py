"""A robot that drives through a simulated world and publishes what its sensors see, with /clock.

The simulated clock is the master: where images cannot be rendered at the asked rate, simulated time
goes more slowly and nothing is lost. The node ends by itself at the scenario's end. `--bag FOLDER`
writes a rosbag2 instead of publishing, `--sequence FOLDER` a sequence folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, PointCloud2
from std_msgs.msg import Bool
from tf2_msgs.msg import TFMessage

from spatial_fm_ros.bridge.encode import time_message
from spatial_fm_ros.bridge.overrides import warn_unused
from spatial_fm_ros.bridge.qos import PUBLISHER, overridden
from spatial_fm_ros.core.errors import ConfigError, SpatialFMError
from spatial_fm_ros.core.types import CompanionFrame, Frame, ImuSample, LidarScan, PoseSample
from spatial_fm_ros.nodes.robot_messages import (
    camera_info_message,
    cloud_message,
    image_message,
    imu_message,
    odometry_messages,
    static_messages,
)
from spatial_fm_ros.nodes.robot_parameters import PARAMETERS, declared, plan_from, scenario_from
from spatial_fm_ros.nodes.starting import init_ros, own_arguments, tell_foreign_files
from spatial_fm_ros.simulation.faults import FaultInjector
from spatial_fm_ros.simulation.recording import write_bag, write_sequence, write_truth
from spatial_fm_ros.simulation.scenario import companion_frame
from spatial_fm_ros.simulation.simulator import Event, Simulator

CLOCK_STEP_NS = 10_000_000


class SimulatedRobot(Node):
    """Publishes image, camera_info, points, odometry, imu, /tf, /tf_static, /clock and ~/finished; image and
    camera_info of further cameras in camera_2/ and so on."""

    def __init__(self, overrides: list[Parameter] | None = None, **options: Any) -> None:
        """Raises ConfigError or InputError for parameters given at start that cannot be used."""
        super().__init__("simulated_robot", parameter_overrides=overrides or [], **options)
        # The robot is the source of time and must never wait for it.
        self.set_parameters([Parameter("use_sim_time", Parameter.Type.BOOL, False)])
        self._values = declared(self, PARAMETERS)
        self.simulator = Simulator(scenario_from(self._values))
        self.injector = FaultInjector(plan_from(self._values))
        self.sent: dict[str, int] = {"image": 0, "points": 0, "odometry": 0, "imu": 0}
        self.stop = threading.Event()
        self._compressed = str(self._values["compressed"])
        self._make_publishers()
        warn_unused(self)
        warn_unused(self, qos=True)

    def _make_publishers(self) -> None:
        reliability = str(self._values["reliability"])
        if reliability not in ("reliable", "best_effort"):
            raise ConfigError(f"Parameter 'reliability' must be reliable or best_effort, got '{reliability}'.")
        large = QoSProfile(depth=10)
        if reliability == "best_effort":
            large.reliability = ReliabilityPolicy.BEST_EFFORT
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._camera = self._camera_publishers("", large)
        self._companions: dict[str, tuple[str, tuple[Publisher, Publisher]]] = {}  # by frame: name and publishers
        for i in range(len(self.simulator.scenario.companion_mounts)):
            name = f"camera_{i + 2}"
            self._companions[companion_frame(i)] = (name, self._camera_publishers(f"{name}/", large))
            self.sent[name] = 0
        self._points = self._publisher(PointCloud2, "points", large)
        self._odometry = self._publisher(Odometry, "odometry", QoSProfile(depth=100))
        self._imu = self._publisher(Imu, "imu", QoSProfile(depth=200))
        self._tf = self._publisher(TFMessage, "/tf", QoSProfile(depth=100))
        self._tf_static = self._publisher(TFMessage, "/tf_static", latched)
        self._time = self._publisher(Clock, "/clock", QoSProfile(depth=10))
        self._finished = self._publisher(Bool, "~/finished", latched)

    def _camera_publishers(self, prefix: str, qos: QoSProfile) -> tuple[Publisher, Publisher]:
        """Of images and camera info."""
        kind, topic = (CompressedImage, "image/compressed") if self._compressed else (Image, "image")
        return (
            self._publisher(kind, prefix + topic, qos),
            self._publisher(CameraInfo, f"{prefix}camera_info", QoSProfile(depth=10)),
        )

    def _publisher(self, kind: type, topic: str, qos: QoSProfile) -> Publisher:
        return self.create_publisher(kind, topic, overridden(self, PUBLISHER, topic, qos))

    def run(self) -> bool:
        """Plays the scenario to its end, or until `stop` is set; True when the end was reached."""
        scenario = self.simulator.scenario
        self._finished.publish(Bool(data=False))
        rig = self.injector.rig(self.simulator.rig)
        self._tf_static.publish(TFMessage(transforms=static_messages(rig, scenario.start_ns)))
        if self._values["truth_dir"]:
            write_truth(self.simulator.truth, self.simulator.frame_stamps_ns, Path(self._values["truth_dir"]))
        self.get_logger().info(f"Building the world '{scenario.world}'.")
        events = self.injector.apply(self.simulator.events(int(self._values["threads"])))
        event = next(events, None)  # builds the world and renders before the clock starts
        self._wait_for_subscribers(scenario.start_ns)
        self.get_logger().info(f"Driving '{scenario.name}' for {scenario.duration_s:g} simulated seconds.")
        pace = _Pace(scenario.start_ns, float(self._values["rate"]), self._publish_clock, self.stop)
        while event is not None and not self.stop.is_set():
            pace.until(event.arrival_ns)
            if self.stop.is_set():
                break
            self._publish(event)
            event = next(events, None)
        completed = event is None
        events.close()  # type: ignore[attr-defined]  # ends the render threads
        if completed:
            self._finished.publish(Bool(data=True))
            self.get_logger().info(self._summary(pace))
            pace.until(pace.now_ns + int(float(self._values["linger_s"]) * max(pace.rate, 1.0) * 1e9))
        return completed

    def record(self, bag: Path | None, sequence: Path | None, storage: str) -> None:
        """Writes the run to disk instead of publishing it."""
        steps = 0

        def progress(share: float) -> None:
            nonlocal steps
            if int(10 * share) > steps:
                steps = int(10 * share)
                self.get_logger().info(f"{10 * steps} % written.")

        threads = int(self._values["threads"])
        if bag is not None:
            plan = self.injector.plan
            self.injector = write_bag(self.simulator, bag, storage, plan, self._compressed, threads, progress)
        elif sequence is not None:
            # A sequence folder counts time from zero.
            scenario = dataclasses.replace(self.simulator.scenario, start_ns=0)
            write_sequence(Simulator(scenario), sequence, progress=progress)

    def _summary(self, pace: _Pace) -> str:
        sent = ", ".join(f"{count} {name}" for name, count in self.sent.items())
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.injector.counts.items())) or "none"
        return f"Finished: {sent}; faults: {faults}; real-time factor {pace.factor():.2f}."

    def _wait_for_subscribers(self, start_ns: int) -> None:
        wanted = [str(topic) for topic in self._values["wait_for"] if topic]
        if not wanted:
            return
        deadline = time.monotonic() + float(self._values["wait_timeout_s"])
        self.get_logger().info(f"Waiting for subscribers of {', '.join(wanted)}.")
        while not self.stop.is_set():
            missing = [topic for topic in wanted if self.count_subscribers(self.resolve_topic_name(topic)) == 0]
            if not missing:
                # A subscriber that has just been found may not have found us yet.
                self.stop.wait(0.5)
                return
            if time.monotonic() > deadline:
                self.get_logger().warning(f"Starting although nobody subscribes to {', '.join(missing)}.")
                return
            self._publish_clock(start_ns)
            self.stop.wait(0.1)

    def _publish_clock(self, now_ns: int) -> None:
        self._time.publish(Clock(clock=time_message(now_ns)))

    def _publish(self, event: Event) -> None:
        sample = event.sample
        if isinstance(sample, Frame):
            self._publish_image(event, sample, self._camera, self.injector.plan.camera_info)
            self.sent["image"] += 1
        elif isinstance(sample, CompanionFrame):
            name, publishers = self._companions[sample.frame.frame_id]
            self._publish_image(dataclasses.replace(event, sample=sample.frame), sample.frame, publishers, "")
            self.sent[name] += 1
        elif isinstance(sample, LidarScan):
            self._points.publish(cloud_message(event))
            self.sent["points"] += 1
        elif isinstance(sample, PoseSample):
            odometry, edge = odometry_messages(sample)
            self._odometry.publish(odometry)
            if self._values["publish_tf"]:
                self._tf.publish(TFMessage(transforms=[edge]))
            self.sent["odometry"] += 1
        elif isinstance(sample, ImuSample):
            self._imu.publish(imu_message(sample))
            self.sent["imu"] += 1

    def _publish_image(self, event: Event, frame: Frame, publishers: tuple[Publisher, Publisher], fault: str) -> None:
        """`fault`: what is wrong with the calibration."""
        image, camera_info = publishers
        info = camera_info_message(frame, fault)
        if info is not None:
            camera_info.publish(info)
        image.publish(image_message(event, self._compressed))


class _Pace:
    """Lets simulated time pass at `rate` simulated seconds a second (0: at once), publishing /clock
    at every step. Falling behind moves the schedule: time slows down, it never jumps."""

    def __init__(self, start_ns: int, rate: float, publish: Any, stop: threading.Event) -> None:
        self.now_ns, self.rate = start_ns, rate
        self._publish, self._stop = publish, stop
        self._start_ns, self._began = start_ns, time.monotonic()
        self._due = self._began
        publish(start_ns)

    def until(self, target_ns: int) -> None:
        """Returns when simulated time has reached `target_ns`, or as soon as the node stops."""
        while self.now_ns < target_ns and not self._stop.is_set():
            step = min(CLOCK_STEP_NS - self.now_ns % CLOCK_STEP_NS, target_ns - self.now_ns)
            if self.rate > 0:
                now = time.monotonic()
                self._due = max(self._due, now - 0.05) + step / 1e9 / self.rate
                if self._due > now:
                    self._stop.wait(self._due - now)
            self.now_ns += step
            self._publish(self.now_ns)

    def factor(self) -> float:
        """Simulated seconds per second so far."""
        return (self.now_ns - self._start_ns) / 1e9 / max(time.monotonic() - self._began, 1e-6)


def main(args: Sequence[str] | None = None) -> int:
    """The executable. Exit status 0 at the scenario's end or after Ctrl-C, 1 after an error."""
    argv = list(sys.argv if args is None else args)
    spinner = None
    try:
        options = _parse(own_arguments(argv))
        overrides = [Parameter(name, value=value) for name, value in options.parameters.items()]
        init_ros(argv, signal_handler_options=SignalHandlerOptions.NO)
        robot = SimulatedRobot(overrides)
        tell_foreign_files(robot, argv)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: robot.stop.set())
        if options.bag or options.sequence:
            robot.record(options.bag, options.sequence, options.storage)
            return 0
        executor = SingleThreadedExecutor()
        executor.add_node(robot)
        spinner = threading.Thread(target=_spin, args=(executor,), daemon=True)
        spinner.start()
        robot.run()
        return 0
    except SpatialFMError as error:
        print(f"simulated_robot: {error}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
        if spinner is not None:
            spinner.join(timeout=5.0)


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        return


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="simulated_robot",
        description="Drive through a simulated world; every parameter can also be given by --ros-args -p.",
    )
    parser.add_argument("--scenario", help="parameter scenario")
    parser.add_argument("--seed", type=int, help="parameter seed")
    parser.add_argument("--duration", type=float, dest="duration_s", help="parameter duration_s")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--bag", type=Path, help="write a rosbag2 to this new folder instead of publishing")
    output.add_argument("--sequence", type=Path, help="write a sequence folder instead of publishing")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="storage of the bag")
    options = parser.parse_args(argv)
    given = {name: getattr(options, name) for name in ("scenario", "seed", "duration_s")}
    options.parameters = {name: value for name, value in given.items() if value is not None}
    return options
