"""Listens to a simulated run and, at its end, shows how far the reconstruction is from the truth.

Exit status 0 when every figure reaches its floor, 1 when one misses it, 2 when nothing could be judged.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from message_filters import Subscriber, TimeSynchronizer
from nav_msgs.msg import Path as PathMessage
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Bool

from spatial_fm_ros.bridge import qos
from spatial_fm_ros.bridge.decode import decode_camera_info, stamp_ns
from spatial_fm_ros.bridge.decode_results import decode_float_image, decode_path
from spatial_fm_ros.bridge.encode_status import SCALE_STATES
from spatial_fm_ros.bridge.overrides import warn_unused
from spatial_fm_ros.core.errors import InputError, SpatialFMError
from spatial_fm_ros.core.io.cloud_files import read_cloud
from spatial_fm_ros.evaluation.demo_report import write_demo_report
from spatial_fm_ros.evaluation.scoreboard import Score, print_scores, write_scores
from spatial_fm_ros.evaluation.simulated import PublishedDepth, score_against, spread
from spatial_fm_ros.evaluation.tum import StampedPoses
from spatial_fm_ros.msg import ReconstructionStatus
from spatial_fm_ros.nodes.robot_parameters import declared
from spatial_fm_ros.nodes.starting import init_ros
from spatial_fm_ros.simulation.truth import load_truth
from spatial_fm_ros.srv import SaveMap

#: Depth images compared with the truth; rendering the truth of more only takes time.
DEPTH_IMAGES = 40
STATE_NAMES = {number: state.value for state, number in SCALE_STATES.items()}

PARAMETERS: dict[str, tuple[Any, str]] = {
    "reconstruct": ("/reconstruct", "the node under test"),
    "robot": ("/simulated_robot", "the simulated robot"),
    "truth_dir": ("truth", "folder in which the robot wrote its truth"),
    "output": ("demo", "folder for map.ply, report.html, scores.json and views"),
    "odometry_until_s": (0.0, "when the robot's odometry falls silent, seconds of the run; 0 = never"),
    "voxel_size": (0.03, "voxel size of the map in metres, for drawing"),
    "timeout_s": (600.0, "give up when the run has not ended after this long"),
    "drain_s": (4.0, "after the end, wait until no window has come for this long"),
}


class DemoScoreboard(Node):
    """Collects what the reconstruction publishes; judging happens in `main` after the run."""

    def __init__(self) -> None:
        super().__init__("demo_scoreboard")
        self.values = declared(self, PARAMETERS)
        warn_unused(self)
        self.finished = threading.Event()
        self.status: ReconstructionStatus | None = None
        self.path: PathMessage | None = None
        self.depth: list[PublishedDepth] = []
        self.by_lidar_alone = 0  # windows that were metric with LiDAR and without odometry
        self.last_window_at = time.monotonic()
        name = str(self.values["reconstruct"])
        self.create_subscription(ReconstructionStatus, f"{name}/status", self._on_status, qos.latched_output())
        self.create_subscription(PathMessage, f"{name}/path", self._on_path, qos.result_output())
        self.create_subscription(Bool, f"{self.values['robot']}/finished", self._on_finished, qos.latched_output())
        reliable = QoSProfile(depth=32, reliability=ReliabilityPolicy.RELIABLE)
        self._images = [
            Subscriber(self, kind, f"{name}/{topic}", qos_profile=reliable)
            for kind, topic in ((Image, "depth/image"), (CameraInfo, "depth/camera_info"), (Image, "confidence/image"))
        ]
        TimeSynchronizer(self._images, 64).registerCallback(self._on_depth)
        self.save_map = self.create_client(SaveMap, f"{name}/save_map")

    def _on_status(self, message: ReconstructionStatus) -> None:
        if self.status is None or message.windows != self.status.windows:
            self.last_window_at = time.monotonic()
            observers = message.scale_observers
            alone = "poses" not in observers and any(name.startswith("lidar") for name in observers)
            self.by_lidar_alone += int(alone and message.scale_state == ReconstructionStatus.METRIC)
        self.status = message

    def _on_path(self, message: PathMessage) -> None:
        self.path = message

    def _on_finished(self, message: Bool) -> None:
        if message.data:
            self.last_window_at = time.monotonic()
            self.finished.set()

    def _on_depth(self, depth: Image, info: CameraInfo, confidence: Image) -> None:
        try:
            camera = decode_camera_info(info)
            if camera is None:
                raise InputError("the depth's CameraInfo holds no calibration.")
            sample = PublishedDepth(
                stamp_ns(depth.header), camera, decode_float_image(depth), decode_float_image(confidence)
            )
        except InputError as error:  # message_filters must never see an exception
            self.get_logger().error(f"Depth image unusable: {error}")
            return
        self.depth.append(sample)

    def wait_for_end(self) -> None:
        """Returns when the robot has finished and no window comes any more. Raises InputError on time-out."""
        deadline = time.monotonic() + float(self.values["timeout_s"])
        told = time.monotonic()
        while time.monotonic() < deadline:
            if self.finished.wait(0.2) and time.monotonic() - self.last_window_at > self._patience_s():
                return
            if time.monotonic() - told > 5.0:
                told = time.monotonic()
                self.get_logger().info(self._progress())
        raise InputError(
            f"The run did not end within {self.values['timeout_s']:g} s ({self._progress()}); look for errors of "
            "the robot or of reconstruct above."
        )

    def _patience_s(self) -> float:
        """How long no window may come before none is expected: a slow model takes long for each."""
        longest = self.status.window_time_p95_s if self.status is not None else 0.0
        return float(self.values["drain_s"]) + 1.5 * longest

    def fetch_map(self, path: Path) -> None:
        """Has the node under test save its map. Raises InputError when it cannot."""
        if not self.save_map.wait_for_service(timeout_sec=10.0):
            raise InputError(f"There is no service {self.save_map.srv_name}; is the reconstruction still running?")
        done = threading.Event()
        future = self.save_map.call_async(SaveMap.Request(path=str(path), format="ply"))
        future.add_done_callback(lambda _: done.set())
        if not done.wait(60.0):
            raise InputError(f"The service {self.save_map.srv_name} did not answer within 60 s.")
        if not future.result().success:
            raise InputError(f"The map could not be saved: {future.result().message}")

    def _progress(self) -> str:
        status = self.status
        if status is None:
            return "no status yet"
        if not status.windows and status.note:
            return status.note
        sigma = f" ± {100 * status.scale_sigma:.1f} %" if np.isfinite(status.scale_sigma) else ""
        return (
            f"{status.frames_received} images, {status.keyframes} keyframes, {status.windows} windows "
            f"({status.window_time_mean_s:.1f} s each), {status.map_points} map points, "
            f"scale {STATE_NAMES[status.scale_state]}{sigma}, latency p95 {status.latency_p95_s:.1f} s"
        )


def live_scores(status: ReconstructionStatus, stamps_ns: np.ndarray, frames_sent: int) -> list[Score]:
    """What only a live run shows: rates, latency in windows, drops."""
    span_s = float(stamps_ns.max() - stamps_ns.min()) / 1e9
    period_s = span_s / max(status.windows, 1)
    busy_s = max(status.window_time_mean_s * status.windows, 1e-9)
    metric = status.scale_state == ReconstructionStatus.METRIC
    sigma = 100 * status.scale_sigma if np.isfinite(status.scale_sigma) else float("nan")
    return [
        Score("scale state is metric", float(metric), "", 1.0, 1.0, True, note=", ".join(status.scale_observers)),
        Score("scale sigma", sigma, "%", note="of the log scale, as published"),
        Score("keyframes/s of the pipeline", len(stamps_ns) / busy_s, "1/s", note="beside the simulation"),
        Score("latency p95", status.latency_p95_s, "s", note="image stamp to published depth, simulated time"),
        Score("latency p95 / window", status.latency_p95_s / period_s, "", 2.0, 1.0, note=f"period {period_s:.2f} s"),
        Score("keyframes thinned", float(status.keyframes_thinned), "", note=f"of {status.keyframes}"),
        Score("images lost", float(frames_sent - status.frames_received), "", note=f"of {frames_sent} sent"),
        Score("bad messages", float(status.messages_bad), ""),
        Score("submaps", float(status.submaps), ""),
    ]


def judge(board: DemoScoreboard) -> bool:
    """Compare, print, write. Raises SpatialFMError when there is nothing to compare."""
    output = Path(str(board.values["output"])).resolve()
    truth = load_truth(Path(str(board.values["truth_dir"])))
    if board.status is None or board.path is None or not board.depth:
        raise InputError("The reconstruction published no status, path or depth; look for its errors above.")
    board.fetch_map(output / "map.ply")
    cloud = read_cloud(output / "map.ply")
    stamps, poses = decode_path(board.path)
    estimate = StampedPoses(stamps, poses, "the path")
    board.get_logger().info("Comparing with the truth …")
    errors, scores, pairs = score_against(truth, estimate, spread(board.depth, DEPTH_IMAGES), cloud)
    scenario = truth.scenario
    scores += live_scores(board.status, stamps, int(scenario.duration_s * scenario.camera_hz) + 1)
    if float(board.values["odometry_until_s"]) > 0:
        words = f"by LiDAR; odometry silent after {board.values['odometry_until_s']:g} s"
        count = float(board.by_lidar_alone)
        scores.append(Score("metric windows without odometry", count, "", 3.0, 5.0, True, note=words))
    title = f"Reconstruction of {scenario.name} against the truth"
    write_scores(scores, output / "scores.json")
    voxel_size = float(board.values["voxel_size"])
    write_demo_report(output, title, scores, errors, pairs, cloud, voxel_size)
    print_scores(scores, title)
    print(f"map.ply, report.html, scores.json and views/ are in {output}", flush=True)
    return all(score.passed for score in scores)


def main(args: list[str] | None = None) -> int:
    try:
        init_ros(args)
        board = DemoScoreboard()
    except SpatialFMError as error:
        print(f"demo_scoreboard: {error}", file=sys.stderr, flush=True)
        return 2
    executor = SingleThreadedExecutor()
    executor.add_node(board)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    spinner = threading.Thread(target=spin, daemon=True)
    spinner.start()
    try:
        board.wait_for_end()
        return 0 if judge(board) else 1
    except SpatialFMError as error:
        print(f"demo_scoreboard: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
        spinner.join(timeout=5.0)


if __name__ == "__main__":
    sys.exit(main())
