"""`spatial-fm map` of a stereo bag: a rig that stands still, without odometry and LiDAR, knows metres."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from running import oracle

from spatial_fm_ros.evaluation.depth import evaluate_depth, matched_pairs
from spatial_fm_ros.simulation.recording import write_bag
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

BOTH = ("--image-topic", "/image", "--companion-image-topics", "/camera_2/image")


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stereo camera of 30 cm in a room, its bag."""
    bag = tmp_path_factory.mktemp("standing") / "bag"
    silent = {"lidar_hz": 0.0, "imu_hz": 0.0, "odometry_hz": 0.0}
    scenario = get_scenario("room_still", duration_s=2.5, camera_hz=5.0, detail=0.5, **silent)
    write_bag(Simulator(scenario.with_stereo(0.3).with_size(320)), bag, threads=2)
    return bag


@pytest.mark.parametrize("model", ["oracle", "geometric"])
def test_a_stereo_camera_that_stands_still_gives_metres(standing, model, tmp_path, spatial_fm):
    out = tmp_path / "out"
    options = oracle(standing) if model == "oracle" else ("--model", "geometric")
    done = spatial_fm("map", standing, "-o", out, *options, *BOTH)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["scale"]["state"] == "metric" and report["scale"]["observers"] == ["baseline"]
    counts = report["counts"]
    assert counts["companion_images"] == counts["frames"] == 13 and 0 < counts["companions"] <= counts["keyframes"]
    assert not report["notes"]
    assert f"13 images read, {counts['companions']} seen in windows" in (out / "report.html").read_text()
    errors = evaluate_depth((make() for make in matched_pairs(out, standing)), scaling="global", min_confidence=0.5)
    assert abs(errors.scale - 1.0) < 0.05 and errors.within_5 > 0.7 and errors.share > 0.5


def test_one_of_its_cameras_alone_does_not(standing, tmp_path, spatial_fm):
    out = tmp_path / "out"
    done = spatial_fm("map", standing, "-o", out, *oracle(standing), *BOTH[:2])
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["scale"]["state"] == "relative" and not report["scale"]["observers"]
    assert report["counts"]["companion_images"] == report["counts"]["companions"] == 0
    assert "'/camera_2/image' is a calibrated camera 0.30 m beside" in done.stderr
    assert "other cameras" not in (out / "report.html").read_text()


def test_swapped_cameras_are_named_and_nothing_is_believed(standing, tmp_path, spatial_fm):
    """The images of one side in the frame of the other: TF has the second camera on the wrong side."""
    swapped = tmp_path / "bag"
    from rosbags.highlevel import AnyReader
    from rosbags.rosbag2 import Writer

    other = {"/image": "/camera_2/image", "/camera_2/image": "/image"}
    frames = {"/image": "camera_optical_frame", "/camera_2/image": "camera_2_optical_frame"}
    with AnyReader([standing]) as reader, Writer(swapped, version=9) as writer:
        made = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=reader.typestore) for c in reader.connections
        }
        for connection, time_ns, data in reader.messages():
            topic = other.get(connection.topic, connection.topic)
            if topic in frames:
                message = reader.deserialize(data, connection.msgtype)
                message.header.frame_id = frames[topic]
                data = reader.typestore.serialize_cdr(message, connection.msgtype)
            writer.write(made[topic], time_ns, data)
    done = spatial_fm("map", swapped, "-o", tmp_path / "out", "--model", "geometric", *BOTH)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["scale"]["state"] != "metric"
    assert "are the cameras swapped?" in done.stderr
