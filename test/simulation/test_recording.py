"""Recordings read back as what was simulated, with the truth beside and never inside the data."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.simulation.faults import FaultPlan
from spatial_fm_ros.simulation.recording import write_bag, write_sequence
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator
from spatial_fm_ros.simulation.truth import load_truth


def simulator(**changes: object) -> Simulator:
    return Simulator(get_scenario("room_drive", detail=0.3, duration_s=0.5, **changes).with_size(160))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_bag_round_trip(tmp_path: Path, storage: str) -> None:
    run = simulator()
    progress: list[float] = []
    write_bag(run, tmp_path / "run", storage, progress=progress.append)
    assert progress[-1] == 1.0 and progress == sorted(progress)
    counts: Counter[str] = Counter()
    times: dict[str, list[int]] = {}
    with AnyReader([tmp_path / "run"]) as reader:
        for connection, time, raw in reader.messages():
            counts[connection.topic] += 1
            times.setdefault(connection.topic, []).append(time)
            message = reader.deserialize(raw, connection.msgtype)
            if connection.topic == "/image" and counts["/image"] == 3:
                stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
                assert stamp == run.frame_stamps_ns[2] == time
                assert message.encoding == "rgb8" and message.header.frame_id == "camera_optical_frame"
                assert np.array_equal(message.data.reshape(120, 160, 3), run.frame(2).image)
            if connection.topic == "/camera_info":
                assert np.array_equal(message.k.reshape(3, 3), run.scenario.camera().K)
                assert tuple(message.d) == run.scenario.distortion
            if connection.topic == "/points" and counts["/points"] == 2:
                scan = run.scan(1)
                points = message.data.view(np.float32 if message.point_step % 4 == 0 else np.uint8)
                xyz = points.reshape(message.width, -1)[:, :12].copy().view(np.float32)
                assert np.array_equal(xyz, scan.points) and [f.name for f in message.fields][:3] == ["x", "y", "z"]
            if connection.topic == "/odometry" and counts["/odometry"] == 7:
                position = message.pose.pose.position
                assert np.allclose([position.x, position.y, position.z], run.odometry[6].odom_from_body[:3, 3])
            if connection.topic == "/tf_static":
                edges = {(t.header.frame_id, t.child_frame_id) for t in message.transforms}
                assert edges == {
                    ("base_link", "camera_link"), ("camera_link", "camera_optical_frame"),
                    ("base_link", "lidar"), ("base_link", "imu"),
                }  # fmt: skip
    assert counts == {
        "/image": 6, "/camera_info": 6, "/points": 5, "/odometry": 26, "/tf": 26, "/imu": 51, "/tf_static": 1,
        "/clock": 50,
    }  # fmt: skip
    assert all(t == sorted(t) for t in times.values())
    truth = load_truth(tmp_path / "run")
    lines = np.loadtxt(tmp_path / "run" / "truth" / "poses.tum")
    assert np.allclose(lines[3, 1:4], truth.world_from_camera(run.frame_stamps_ns[3])[:3, 3], atol=1e-8)


def test_bag_with_faults_and_compressed_images(tmp_path: Path) -> None:
    plan = FaultPlan(streams=("odometry",), drop=0.5)
    injector = write_bag(simulator(lidar_hz=0.0), tmp_path / "run", plan=plan, compressed="jpeg", threads=2)
    with AnyReader([tmp_path / "run"]) as reader:
        counts = Counter(c.topic for c, _, _ in reader.messages())
        connection = next(c for c in reader.connections if c.topic == "/image/compressed")
        _, _, raw = next(reader.messages([connection]))
        image = cv2.imdecode(reader.deserialize(raw, connection.msgtype).data, cv2.IMREAD_COLOR)
    assert counts["/odometry"] == 26 - injector.counts["odometry:drop"] < 26
    assert np.abs(image[:, :, ::-1].astype(float) - simulator().frame(0).image).mean() < 8


def test_a_stereo_rig_is_in_the_bag(tmp_path: Path) -> None:
    run = Simulator(simulator(lidar_hz=0.0).scenario.with_stereo(0.12))
    # Faults are of the first camera: the other one stays what it is.
    write_bag(run, tmp_path / "run", plan=FaultPlan(camera_info="zero"))
    with AnyReader([tmp_path / "run"]) as reader:
        images: list[np.ndarray] = []
        for connection, time, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            if connection.topic == "/camera_2/image":
                assert message.header.frame_id == "camera_2_optical_frame"
                assert time == run.frame_stamps_ns[len(images)]
                images.append(message.data.reshape(120, 160, 3))
            if connection.topic == "/camera_2/camera_info":
                assert np.array_equal(message.k.reshape(3, 3), run.scenario.camera().K)
            if connection.topic == "/camera_info":
                assert not message.k.any()
            if connection.topic == "/tf_static":
                edges = {(t.header.frame_id, t.child_frame_id): t.transform for t in message.transforms}
        counts = {c.topic: c.msgcount for c in reader.connections}
    assert counts["/camera_2/image"] == counts["/camera_2/camera_info"] == counts["/image"] == 6
    assert all(np.array_equal(image, run.companion(i, 0).frame.image) for i, image in enumerate(images))
    assert edges["camera_optical_frame", "camera_2_optical_frame"].translation.x == pytest.approx(0.12)
    truth = load_truth(tmp_path / "run")  # knows the second camera too
    both = [truth.world_from_camera(run.frame_stamps_ns[2], frame) for frame in ("", "camera_2_optical_frame")]
    assert np.linalg.norm(both[1][:3, 3] - both[0][:3, 3]) == pytest.approx(0.12)
    sequence = Simulator(simulator(start_ns=0).scenario.with_stereo(0.12))
    with pytest.raises(InputError, match="has one camera, and the rig of scenario room_drive has 2; record a bag"):
        write_sequence(sequence, tmp_path / "sequence")


def test_sequence_round_trip(tmp_path: Path) -> None:
    run = simulator(start_ns=0)
    write_sequence(run, tmp_path / "seq", depth_every=2)
    described = json.loads((tmp_path / "seq" / "sequence.json").read_text())
    assert described["frames"] == 6 and np.array_equal(np.reshape(described["K"], (3, 3)), run.scenario.camera().K)
    names = {p.name for p in (tmp_path / "seq").iterdir()}
    assert names == {"sequence.json", "images", "lidar", "truth"}
    image = cv2.imread(str(tmp_path / "seq/images/000004.jpg"))[:, :, ::-1]
    assert np.abs(image.astype(float) - run.frame(4).image).mean() < 6
    truth = load_truth(tmp_path / "seq")
    depth = cv2.imread(str(tmp_path / "seq/truth/depth/000004.png"), cv2.IMREAD_UNCHANGED) / 1000
    assert np.nanmax(np.abs(depth - truth.depth(400_000_000))) <= 5.1e-4
    assert not (tmp_path / "seq/truth/depth/000003.png").exists()
    # Sweeps are free of motion: at the image's stamp their points lie on the surface.
    with np.load(tmp_path / "seq/lidar/000004.npz") as data:
        points = data["xyz"].astype(float) * described["lidar_unit_m"]
    world = truth.world_from_camera(400_000_000) @ np.reshape(described["camera_from_lidar"], (4, 4))
    error = truth.distance_to_surface(points @ world[:3, :3].T + world[:3, 3])
    assert np.median(error) < 0.01 and np.percentile(error, 99) < 0.04


def test_nothing_is_overwritten_and_wrong_requests_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        write_sequence(simulator(start_ns=0), tmp_path / "full")
    with pytest.raises(OutputError, match="is there already"):
        write_bag(simulator(), tmp_path / "full")
    with pytest.raises(InputError, match="expected mcap or sqlite3"):
        write_bag(simulator(), tmp_path / "new", "zip")
    with pytest.raises(InputError, match="start_ns=0"):
        write_sequence(simulator(), tmp_path / "new")
    with pytest.raises(OutputError, match="Cannot make the folder"):
        write_sequence(simulator(start_ns=0), tmp_path / "full" / "file" / "below")
