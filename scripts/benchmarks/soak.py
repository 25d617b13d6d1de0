"""The live node for half a simulated hour: does its memory stay where it is once the map has its full size?

Run as a module it starts the reconstruction and a robot on an endless round, listens to every output, and
samples the memory of the reconstruction's process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.memory import MB, Sample, draw, memory_scores
from benchmarks.processes import leave_on_sigterm, module, require_ros, ros_environment, run_limited, running
from benchmarks.results import Result, hand_over, leave, scores_from
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.evaluation.scoreboard import Score
from spatial_fm_ros.offline.report import write_json

SCENARIO = "room_patrol"
DURATION_S = 1800.0
SHORT_S = 90.0
#: Simulated seconds per second; smaller images and depth make up for it.
RATE = 2.0
CAMERA_HZ = 4.0
LIDAR_HZ = 2.0
IMAGE_WIDTH = 320
SAMPLE_S = 10.0
#: The map's bound is reached within the first round, so that what grows later is not the map; the rest keeps up with
#: RATE on four cores beside the simulation.
PIPELINE = {
    "map.max_voxels": 50_000,
    "intake.disparity_px": 44.0,
    "model.geometric.max_features": 1024,
    "model.geometric.dense_width": 160,
    "model.geometric.dense_sources": 4,
}
START_TIMEOUT_S = 180.0
#: Without a new image for this long the run is over.
STALL_S = 60.0


@dataclass
class Heard:
    """What the outputs told. A count of windows that falls is a reset."""

    status: Any = None
    resets: int = 0
    finished: threading.Event = field(default_factory=threading.Event)
    messages: dict[str, int] = field(default_factory=dict)

    def on_status(self, message: Any) -> None:
        if self.status is not None and message.windows < self.status.windows:
            self.resets += 1
        self.status = message

    def on_finished(self, message: Any) -> None:
        if message.data:
            self.finished.set()


def measure(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """Half a simulated hour on all cores. `short`: a minute and a half, to try the benchmark itself."""
    require_ros()
    duration = SHORT_S if short else DURATION_S
    title = f"the live node over {duration / 60:g} simulated minutes, {IMAGE_WIDTH}x{IMAGE_WIDTH * 3 // 4} images"
    result = Result(name, title, f"make bench-{name}")
    figures = out / "figures.json"
    figures.unlink(missing_ok=True)
    command = module("soak", out, "--duration", duration, "--threads", cores)
    command += [word for text in settings for word in ("--set", text)]
    every = len(os.sched_getaffinity(0))
    code = run_limited(command, every, ros_environment(cores), START_TIMEOUT_S + 4 * duration)
    if not figures.is_file():
        result.problem = f"exit code {code}, see the output"
        return result
    result.scores = scores_from(json.loads(figures.read_text())["scores"])
    return result


def robot_values(duration_s: float) -> dict[str, Any]:
    """Parameters of the simulated robot."""
    return {
        "scenario": SCENARIO,
        "duration_s": duration_s,
        "camera_hz": CAMERA_HZ,
        "lidar_hz": LIDAR_HZ,
        "image_width": IMAGE_WIDTH,
        "rate": RATE,
        "wait_for": ["/robot/image", "/robot/camera_info", "/robot/odometry", "/reconstruct/depth/image"],
        "wait_timeout_s": START_TIMEOUT_S,
    }


def write_pipeline_file(path: Path, values: Mapping[str, Any]) -> None:
    """Dotted names as a ROS 2 parameter file."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *sections, last = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": nested}}))


def write_truth(folder: Path, duration_s: float) -> None:
    """The robot's scenario, which is all that the model `oracle` needs to know the truth."""
    from spatial_fm_ros.nodes.robot_parameters import PARAMETERS, scenario_from
    from spatial_fm_ros.simulation.scenario import save_scenario

    defaults = {name: default for name, (default, _) in PARAMETERS.items()}
    save_scenario(scenario_from({**defaults, **robot_values(duration_s)}), folder / "scenario.json")


def launch_command(parameters: Path) -> list[str]:
    topics = ("image", "points", "odometry", "imu")
    words = [f"{topic}_topic:=/robot/{topic}" for topic in topics]
    words += ["use_sim_time:=true", f"config:={parameters}"]
    return ["ros2", "launch", "spatial_fm_ros", "reconstruct.launch.py", *words]


def robot_command(values: Mapping[str, Any]) -> list[str]:
    words = [w for name, value in values.items() for w in ("-p", f"{name}:={json.dumps(value)}")]
    return ["ros2", "run", "spatial_fm_ros", "simulated_robot", "--ros-args", "-r", "__ns:=/robot", *words]


def listening_node(heard: Heard) -> Any:
    """A node that subscribes to every output, so that each of them is really made."""
    import rclpy
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from nav_msgs.msg import Odometry, Path
    from sensor_msgs.msg import CameraInfo, Image, PointCloud2
    from spatial_fm_ros.msg import ReconstructionStatus
    from std_msgs.msg import Bool

    from spatial_fm_ros.bridge import qos

    node = rclpy.create_node("bench_soak")
    outputs = {
        "depth/image": Image,
        "depth/camera_info": CameraInfo,
        "confidence/image": Image,
        "points": PointCloud2,
        "pose": PoseWithCovarianceStamped,
        "odometry": Odometry,
        "path": Path,
        "map": PointCloud2,
    }

    def count(name: str) -> None:
        heard.messages[name] = heard.messages.get(name, 0) + 1

    for name, kind in outputs.items():
        profile = qos.latched_output() if name == "map" else qos.result_output()
        node.create_subscription(kind, f"/reconstruct/{name}", lambda _, n=name: count(n), profile, raw=True)
    node.create_subscription(ReconstructionStatus, "/reconstruct/status", heard.on_status, qos.latched_output())
    node.create_subscription(Bool, "/robot/simulated_robot/finished", heard.on_finished, qos.latched_output())
    return node


def process_of(launch_pid: int, name: str, timeout_s: float = 60.0) -> psutil.Process:
    """The node's process below a launch. Raises InputError when there is none."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for child in psutil.Process(launch_pid).children(recursive=True):
            if any(Path(word).name == name for word in child.cmdline()[:3]):
                return child
        time.sleep(0.5)
    raise InputError(f"The launch started no process {name} within {timeout_s:g} s; look for its errors above.")


def sampled(
    node: psutil.Process, heard: Heard, alive: Sequence[Any], period_s: float, started_s: float
) -> list[Sample]:
    """The process every `period_s` seconds until the drive is over. Raises InputError when a process ends before."""
    samples: list[Sample] = []
    frames, moved_s = 0, started_s
    while not heard.finished.wait(period_s):
        if any(child.poll() is not None for child in alive) or not node.is_running():
            raise InputError("The reconstruction or the robot ended before the drive did; look for its errors above.")
        status, now = heard.status, time.monotonic()
        if status is not None and status.frames_received > frames:
            frames, moved_s = status.frames_received, now
        if now - moved_s > (STALL_S if frames else START_TIMEOUT_S):
            raise InputError(f"No image has arrived for {now - moved_s:.0f} s after {frames}; look for errors above.")
        if not frames:
            continue
        memory = node.memory_info()
        simulated_s = (status.frames_received - 1) / CAMERA_HZ
        samples.append(
            Sample(
                simulated_s,
                memory.rss / MB,
                (memory.rss - memory.shared) / MB,
                int(status.windows),
                int(status.map_points),
            )
        )
        print(
            f"   {simulated_s / 60:.1f} simulated minutes: {memory.rss / MB:.0f} MB resident, {status.windows} "
            f"windows, {status.map_points} map points, {status.keyframes_thinned} keyframes thinned",
            flush=True,
        )
    return samples


def run_scores(status: Any, resets: int, frames_sent: int, wall_s: float) -> list[Score]:
    """What else the drive gave; `status` is the last one of the drive."""
    return [
        Score("resets", float(resets)),
        Score("windows", float(status.windows), note=f"{wall_s / 60:.1f} minutes of real time"),
        Score("failed windows", float(status.failed_windows)),
        Score("submaps", float(status.submaps)),
        Score("keyframes thinned", float(status.keyframes_thinned), note=f"of {status.keyframes}"),
        Score("images lost", float(frames_sent - status.frames_received), note=f"of {frames_sent} sent"),
        Score("bad messages", float(status.messages_bad)),
    ]


def drive(out: Path, duration_s: float, threads: int, settings: Sequence[str]) -> list[Score]:
    """Start everything, listen until the end. Raises InputError when something ends too early."""
    import rclpy

    pipeline: dict[str, Any] = {**PIPELINE, "model.threads": threads}
    pipeline |= {name: yaml.safe_load(value) for name, value in (text.split("=", 1) for text in settings)}
    if pipeline.get("model.name") == "oracle":
        pipeline["model.oracle.truth"] = str((out / "truth").resolve())
        write_truth(out / "truth", duration_s)
    parameters = out / "pipeline.yaml"
    write_pipeline_file(parameters, pipeline)
    heard = Heard()
    rclpy.init()
    node = listening_node(heard)
    spinner = threading.Thread(target=_spin, args=(node,), daemon=True)
    spinner.start()
    period_s = min(SAMPLE_S, duration_s / RATE / 20)
    cores, started_s = len(os.sched_getaffinity(0)), time.monotonic()
    try:
        with running(launch_command(parameters.resolve()), cores, os.environ) as launch:
            reconstruct = process_of(launch.pid, "reconstruct")
            with running(robot_command(robot_values(duration_s)), cores, os.environ) as robot:
                samples = sampled(reconstruct, heard, (launch, robot), period_s, started_s)
                status, resets = heard.status, heard.resets  # the end of the node is a reset of its own
    finally:
        rclpy.try_shutdown()
        spinner.join(timeout=5.0)
    wall_s = time.monotonic() - started_s
    content = {"samples": [asdict(s) for s in samples], "messages": heard.messages, "pipeline": pipeline}
    write_json(out / "samples.json", content)
    scores = memory_scores(samples)
    draw(samples, out / "memory.png")
    return [*scores, *run_scores(status, resets, int(duration_s * CAMERA_HZ) + 1, wall_s)]


def _spin(node: Any) -> None:
    import rclpy
    from rclpy.executors import ExternalShutdownException

    with contextlib.suppress(ExternalShutdownException):
        rclpy.spin(node)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for figures.json, samples.json and memory.png")
    parser.add_argument("--duration", type=float, default=DURATION_S, help="simulated seconds")
    parser.add_argument("--threads", type=int, default=2, help="threads of the model")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="parameter of the pipeline")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    leave_on_sigterm()
    scores = drive(given.output, given.duration, given.threads, given.set)
    hand_over(scores, f"{given.duration / 60:g} simulated minutes", given.output / "figures.json")
    return 0


if __name__ == "__main__":
    leave(main)
