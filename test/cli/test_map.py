"""`spatial-fm map` from end to end: what it writes is right, complete and readable."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from running import command, environment, oracle

from spatial_fm_ros.core.io.cloud_files import read_cloud
from spatial_fm_ros.evaluation.depth import evaluate_depth, matched_pairs
from spatial_fm_ros.evaluation.trajectory import evaluate_trajectory
from spatial_fm_ros.evaluation.tum import read_tum
from spatial_fm_ros.simulation.truth import load_truth


def test_a_bag_becomes_a_metric_map(mapped, recorded):
    truth = read_tum(recorded / "bag" / "truth" / "poses.tum")
    errors = evaluate_trajectory(read_tum(mapped / "trajectory.tum"), truth)
    report = json.loads((mapped / "report.json").read_text())
    assert errors.matched == report["counts"]["keyframes_largest"] > 8
    assert set(errors.estimate.stamps_ns) <= set(truth.stamps_ns)  # stamps are the images' own, to the ns
    assert report["scale"]["state"] == "metric" and "poses" in report["scale"]["observers"]
    assert errors.se3.ate.rmse < 0.03 and errors.sim3.ate.rmse < 0.01
    points = errors.se3.truth_from_estimate.apply(read_cloud(mapped / "map.ply").points)
    distance = np.asarray(load_truth(recorded / "bag").distance_to_surface(points))
    assert len(points) > 2000 and np.median(distance) < 0.05


def test_every_frame_has_a_pose_with_odometry(mapped, recorded):
    truth = read_tum(recorded / "bag" / "truth" / "poses.tum")
    every = read_tum(mapped / "trajectory_all.tum")
    assert (every.stamps_ns == truth.stamps_ns).all()
    assert evaluate_trajectory(every, truth).se3.ate.rmse < 0.03
    keyframes = read_tum(mapped / "trajectory.tum")
    same = np.isin(every.stamps_ns, keyframes.stamps_ns)
    assert np.allclose(every.poses[same], keyframes.poses, atol=1e-6)


def test_depth_images_are_millimetres_and_right(mapped, recorded):
    index = json.loads((mapped / "depth" / "index.json").read_text())
    assert all(item["metric"] and item["unit"] == 0.001 for item in index["images"])
    pairs = matched_pairs(mapped, recorded / "bag")
    errors = evaluate_depth((make() for make in pairs), min_confidence=0.5)
    assert errors.images == len(index["images"]) and errors.abs_rel < 0.02 and errors.share > 0.9


def test_report_is_complete_and_self_contained(mapped):
    report = json.loads((mapped / "report.json").read_text())
    assert report["counts"]["frames"] == 31 and report["input"]["kind"] == "rosbag2"
    assert report["counts"]["poses"] > 100 and report["counts"]["scans"] >= 30
    assert {"model.name", "map.voxel_size"} <= set(report["config"]) and "numpy" in report["versions"]
    assert len(report["windows"]) == report["counts"]["windows"] > 1
    assert report["windows"][1]["seam"]["accepted"] and report["seams"]["max_residual"] < 0.05
    for name in report["files"]:
        assert (mapped / name).stat().st_size > 0
    page = (mapped / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 8
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_images_alone_give_a_relative_map(recorded, tmp_path, spatial_fm):
    ignored = ("--set", "scale.ignore=lidar_depth,lidar_registration")
    done = spatial_fm("map", recorded / "sequence", "-o", tmp_path / "out", *oracle(recorded / "sequence"), *ignored)
    assert done.returncode == 0, done.stderr
    assert "Lengths are not metres" in done.stderr and "scale relative" in done.stdout
    errors = evaluate_trajectory(
        read_tum(tmp_path / "out" / "trajectory.tum"), read_tum(recorded / "sequence" / "truth" / "poses.tum")
    )
    assert errors.sim3.ate.rmse < 0.01
    assert not (tmp_path / "out" / "trajectory_all.tum").exists()
    index = json.loads((tmp_path / "out" / "depth" / "index.json").read_text())
    assert not any(item["metric"] for item in index["images"])
    assert "world units" in (tmp_path / "out" / "map.ply").read_bytes()[:500].decode("ascii", "replace")


def test_part_of_a_recording_and_overwriting(recorded, mapped, tmp_path, spatial_fm):
    part = ["--start", 1, "--stop", 2.5, "--every", 2, *oracle(recorded / "bag")]
    done = spatial_fm("map", recorded / "bag", "-o", tmp_path / "out", *part)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert 7 <= report["counts"]["frames"] <= 9
    (tmp_path / "out" / "mine.txt").write_text("kept")
    again = spatial_fm("map", recorded / "bag", "-o", tmp_path / "out", *part)
    assert again.returncode == 2 and "is not empty; name another one or add --overwrite" in again.stderr
    again = spatial_fm("map", recorded / "bag", "-o", tmp_path / "out", "--overwrite", *part)
    assert again.returncode == 0 and (tmp_path / "out" / "mine.txt").read_text() == "kept"


def test_interrupt_saves_what_there_is(recorded, tmp_path):
    out = tmp_path / "out"
    arguments = ["map", recorded / "bag", "-o", out, *oracle(recorded / "bag"), "--set", "intake.disparity_px=0.5"]
    process = subprocess.Popen(command(*arguments), env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out / "depth" / "000007.png").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    report = json.loads((out / "report.json").read_text())
    assert report["interrupted"] and "Traceback" not in errors and "interrupted" in errors
    assert len(read_tum(out / "trajectory.tum")) == report["counts"]["keyframes_largest"] >= 8
    assert (out / "map.ply").exists() and (out / "report.html").exists()


def test_a_full_disk_loses_only_what_does_not_fit(recorded, tmp_path):
    """A limit on file size stands for the full disk: small files fit, the map does not."""
    out = tmp_path / "out"
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)); "
        "from spatial_fm_ros.cli import main; main(sys.argv[1:])"
    )
    arguments = ["map", recorded / "bag", "-o", out, *oracle(recorded / "bag")]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(r"error: .*map\.ply.* What could be written is in", done.stderr), done.stderr
    assert len(read_tum(out / "trajectory.tum")) > 8 and not (out / "map.ply").exists()


def test_a_failure_on_the_way_keeps_what_was_mapped(recorded, tmp_path, monkeypatch):
    """A defect in the third window: results of the first two are written, the error is still an error."""
    from rich.console import Console

    from spatial_fm_ros.core.config_files import load_config
    from spatial_fm_ros.core.errors import ModelError
    from spatial_fm_ros.core.models.oracle import OracleModel
    from spatial_fm_ros.offline.mapper import map_recording
    from spatial_fm_ros.sources.open_source import open_source

    class Breaks(OracleModel):
        def infer(self, window):
            if window.index == 2:
                raise ZeroDivisionError("by zero")
            return super().infer(window)

    config = load_config([], {"model.oracle.truth": str(recorded / "bag"), "intake.disparity_px": 4.0})
    with open_source(recorded / "bag") as source, pytest.raises(ModelError, match="ZeroDivisionError.*mapped before"):
        map_recording(source, tmp_path, config, Console(quiet=True), model=Breaks(config.model))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"]["windows"] == 2 and len(read_tum(tmp_path / "trajectory.tum")) >= 8
    assert any("ZeroDivisionError" in note for note in report["notes"])


def test_a_looped_recording_is_named(recorded, tmp_path, spatial_fm):
    from rosbags.highlevel import AnyReader
    from rosbags.rosbag2 import Writer

    with AnyReader([recorded / "bag"]) as reader, Writer(tmp_path / "loop", version=9) as writer:
        added = {
            c.id: writer.add_connection(c.topic, c.msgtype, typestore=reader.typestore) for c in reader.connections
        }
        span = reader.end_time - reader.start_time + 10**8
        for repeat in range(2):
            for connection, time_ns, data in reader.messages():
                writer.write(added[connection.id], time_ns + repeat * span, data)
    done = spatial_fm("map", tmp_path / "loop", "-o", tmp_path / "out", *oracle(recorded / "bag"))
    assert done.returncode == 0 and "31 images go back in time" in done.stderr, done.stderr
    truth = read_tum(recorded / "bag" / "truth" / "poses.tum")
    assert evaluate_trajectory(read_tum(tmp_path / "out" / "trajectory.tum"), truth).se3.ate.rmse < 0.05


def test_one_image_and_nothing_to_see(recorded, tmp_path, spatial_fm):
    done = spatial_fm("map", recorded / "sequence", "-o", tmp_path / "one", "--stop", 0, "--start", 0)
    assert done.returncode == 2 and "0 <= start < stop" in done.stderr
    done = spatial_fm("map", recorded / "sequence", "-o", tmp_path / "one", "--stop", 0.05)
    assert done.returncode == 1 and "Only one image came; a map needs at least two" in done.stderr
    assert json.loads((tmp_path / "one" / "report.json").read_text())["counts"]["maps"] == 0


def test_damaged_images_are_named_and_the_rest_is_mapped(recorded, tmp_path, spatial_fm):
    copy = tmp_path / "sequence"
    shutil.copytree(recorded / "sequence", copy)
    (copy / "images" / "000020.jpg").write_bytes(b"broken")
    done = spatial_fm("map", copy, "-o", tmp_path / "out", *oracle(copy))
    assert done.returncode == 0 and "000020.jpg" in done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["counts"]["frames"] == 30 and sum(report["counts"]["skipped"].values()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["map", "{none}", "-o", "{out}"], "There is no input at"),
        (["map", "{bag}", "-o", "{file}"], "is a file; name a folder"),
        (["map", "{bag}", "-o", "{file}/below"], "cannot be written"),
        (["map", "{bag}", "-o", "{out}", "--set", "map.voxel_sise=1"], "did you mean 'map.voxel_size'"),
        (["map", "{bag}", "-o", "{out}", "--set", "nonsense"], "--set takes section.key=value"),
        (["map", "{bag}", "-o", "{out}", "--model", "nothing"], "Unknown model 'nothing'; expected one of"),
        (["map", "{bag}", "-o", "{out}", "--config", "{none}"], "cannot be read"),
        (["map", "{bag}", "-o", "{out}", "--image-topic", "/odometry"], "is a nav_msgs/msg/Odometry, expected"),
        (
            ["map", "{bag}", "-o", "{out}", "--companion-image-topics", "/two"],
            "no topic '/two' for --companion-image-top",
        ),
        (["map", "{bag}", "-o", "{out}", "--intrinsics", "1,2"], "fx,fy,cx,cy"),
        (["map", "{bag}", "-o", "{out}", "--every", "0"], "n >= 1"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, recorded, tmp_path, spatial_fm):
    (tmp_path / "file").write_text("")
    places = {"none": tmp_path / "none", "out": tmp_path / "out", "file": tmp_path / "file", "bag": recorded / "bag"}
    done = spatial_fm(*(argument.format(**places) for argument in arguments))
    assert done.returncode == 2 and sentence in done.stderr, done.stderr
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "report.json").exists()


def test_debug_shows_the_traceback(tmp_path):
    arguments = ["map", tmp_path / "none", "-o", tmp_path / "out", "--debug"]
    done = subprocess.run(command(*arguments), env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" in done.stderr and "There is no input at" in done.stderr


def test_a_whole_run_never_opens_the_truth_beside_its_input(recorded, tmp_path):
    """The embedded model on a sequence folder with truth/ and poses.txt; every file Python opens is watched."""
    sequence = tmp_path / "sequence"
    shutil.copytree(recorded / "sequence", sequence)
    (sequence / "poses.txt").write_text("0 0 0 0 0 0 0 1\n")
    program = (
        "import sys; opened = set(); "
        "sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == 'open' else None)\n"
        "from spatial_fm_ros.cli import main\n"
        "try:\n    main(sys.argv[2:])\n"
        "except SystemExit as done:\n    code = done.code or 0\n"
        "print(*sorted(path for path in opened if path.startswith(sys.argv[1])), sep='\\n'); sys.exit(code)"
    )
    arguments = [sequence, "map", sequence, "-o", tmp_path / "out", "--stop", 0.5, "--set", "window.size=4"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], env=environment(), capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    opened = [line[len(str(sequence)) :] for line in done.stdout.splitlines() if line.startswith(str(sequence))]
    assert "/sequence.json" in opened and "/images/000005.jpg" in opened
    assert not [path for path in opened if "truth" in path or "poses" in path or "depth" in path]
