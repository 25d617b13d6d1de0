"""What the bridge between messages and core costs: one image in, one large cloud out.

Run as a module it is the measured program; with --listen it is the subscriber that makes publishing real.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.processes import module, require_ros, ros_environment, run_limited
from benchmarks.results import Result, hand_over, leave, scores_from
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Frame, PointCloud
from spatial_fm_ros.evaluation.scoreboard import Score

WIDTH, HEIGHT, POINTS = 1280, 720, 500_000
REPETITIONS = 50
#: Pause between two messages, so that each is measured alone, as windows and images come.
PAUSE_S = 0.1
TOPIC = "/bench/points"
TIMEOUT_S = 300.0


def measure(name: str, out: Path, cores: int, short: bool, settings: list[str]) -> Result:
    """Both directions in a limited process of its own; `short` and `settings` change nothing here."""
    require_ros()
    result = Result(name, "cost of the bridge, medians", f"make bench-{name}")
    figures = out / "figures.json"
    figures.unlink(missing_ok=True)
    code = run_limited(module("bridge", figures), cores, ros_environment(cores), TIMEOUT_S)
    if not figures.is_file():
        result.problem = f"exit code {code}, see the output"
        return result
    result.scores = scores_from(json.loads(figures.read_text())["scores"])
    return result


def median_ms(work: Callable[[], object], repetitions: int = REPETITIONS, pause_s: float = 0.0) -> float:
    """Median wall time of a call in milliseconds, after two calls that do not count."""
    times = []
    for i in range(repetitions + 2):
        started = time.perf_counter()
        work()
        if i >= 2:
            times.append(time.perf_counter() - started)
        time.sleep(pause_s)
    return 1e3 * float(np.median(times))


def image_scores() -> list[Score]:
    """From a message as rclpy hands it over to the Frame that the pipeline takes."""
    from rclpy.serialization import deserialize_message, serialize_message
    from sensor_msgs.msg import Image

    from spatial_fm_ros.bridge.decode import decode_image, frame_name, stamp_ns
    from spatial_fm_ros.bridge.encode import header

    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    scores = []
    for encoding in ("rgb8", "bgr8"):
        data = array.array("B")
        data.frombytes(memoryview(pixels.reshape(-1)))
        message = Image(header=header(1, "camera"), height=HEIGHT, width=WIDTH, encoding=encoding, step=3 * WIDTH)
        message.data = data

        def decode(message: Image = message) -> Frame:
            image = decode_image(message)
            return Frame(stamp_ns(message.header), image, None, frame_name(message.header, "camera"))

        expected = pixels if encoding == "rgb8" else pixels[..., ::-1]
        if not np.array_equal(decode().image, expected):
            raise InputError(f"A decoded {encoding} image is not the one that was encoded; the bridge is broken.")
        name = f"{WIDTH}x{HEIGHT} {encoding} image in"
        scores.append(Score(name, median_ms(decode), "ms", 5.0, 2.0, note=f"median of {REPETITIONS}"))
    wire = serialize_message(message)
    took = median_ms(lambda: deserialize_message(wire, Image))
    scores.append(Score("the same, rclpy's own deserialisation", took, "ms", note="before the bridge is called"))
    return scores


def cloud_scores() -> list[Score]:
    """Encoding of a cloud, and publishing to a subscriber in another process."""
    import rclpy
    from sensor_msgs.msg import PointCloud2

    from spatial_fm_ros.bridge import qos
    from spatial_fm_ros.bridge.encode import encode_cloud

    rng = np.random.default_rng(0)
    cloud = PointCloud(
        rng.normal(0, 5, (POINTS, 3)).astype(np.float32),
        rng.integers(0, 256, (POINTS, 3), np.uint8),
        rng.random(POINTS, np.float32),
    )
    rclpy.init()
    node = rclpy.create_node("bench_bridge")
    publisher = node.create_publisher(PointCloud2, TOPIC, qos.result_output())
    with subprocess.Popen(module("bridge", "--listen"), stdout=subprocess.PIPE, text=True) as listener:
        try:
            deadline = time.monotonic() + 30.0
            while publisher.get_subscription_count() == 0:
                if time.monotonic() > deadline:
                    raise InputError("The subscriber in another process did not appear within 30 s.")
                time.sleep(0.05)
            encode_ms = median_ms(lambda: encode_cloud(cloud, 1, "map"))
            message = encode_cloud(cloud, 1, "map")
            publish_ms = median_ms(lambda: publisher.publish(message), pause_s=PAUSE_S)
            both_ms = median_ms(lambda: publisher.publish(encode_cloud(cloud, 1, "map")), pause_s=PAUSE_S)
            time.sleep(1.0)
        finally:
            listener.terminate()
        received = int(listener.communicate(timeout=20.0)[0].strip() or 0)
    node.destroy_node()
    rclpy.shutdown()
    sent = 2 * (REPETITIONS + 2)
    return [
        Score(f"{POINTS:,}-point cloud out", both_ms, "ms", 20.0, 8.0, note=f"median of {REPETITIONS}, one subscriber"),
        Score("of this, encoding alone", encode_ms, "ms"),
        Score("of this, publishing alone", publish_ms, "ms"),
        Score("clouds that did not arrive", float(sent - received), note=f"of {sent}"),
    ]


def listen() -> int:
    """Counts the clouds that arrive until it is told to end; prints their number."""
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from sensor_msgs.msg import PointCloud2

    from spatial_fm_ros.bridge import qos

    rclpy.init()
    node = rclpy.create_node("bench_listener")
    count = 0

    def arrived(_: bytes) -> None:
        nonlocal count
        count += 1

    node.create_subscription(PointCloud2, TOPIC, arrived, qos.result_output(), raw=True)
    with contextlib.suppress(ExternalShutdownException, KeyboardInterrupt):
        rclpy.spin(node)
    print(count, flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, nargs="?", help="JSON file to write")
    parser.add_argument("--listen", action="store_true", help="be the subscriber")
    given = parser.parse_args()
    if given.listen:
        return listen()
    scores = [*image_scores(), *cloud_scores()]
    hand_over(scores, "bridge", given.figures)
    return 0


if __name__ == "__main__":
    leave(main)
