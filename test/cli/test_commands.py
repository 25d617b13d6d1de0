"""The other commands, help and version; the ROS form of `map`; progress without a terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.config_files import load_config
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.nodes.map_bag import translate
from spatial_fm_ros.offline.progress import RunProgress

TRUTH = Path(__file__).parent.parent / "evaluation" / "data" / "truth.tum"
ESTIMATE = TRUTH.with_name("estimate.tum")


def test_help_is_light():
    """Help must not wait for torch, Open3D or OpenCV."""
    heavy = "{'torch', 'open3d', 'cv2', 'scipy'}"
    program = f"import sys; from spatial_fm_ros import cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_and_version(spatial_fm):
    assert "map" in spatial_fm("--help").stdout and "--output" in spatial_fm("map", "--help").stdout
    assert spatial_fm("--version").stdout.startswith("spatial-fm ")
    assert spatial_fm("map").returncode == 2


def test_evaluate_trajectory(tmp_path, spatial_fm):
    picture, figures = tmp_path / "p.png", tmp_path / "f.json"
    done = spatial_fm("evaluate", "trajectory", ESTIMATE, TRUTH, "--plot", picture, "--json", figures)
    assert done.returncode == 0, done.stderr
    assert "scale factor 2.69779" in done.stdout and "0.05095" in done.stdout and "SE(3)" in done.stdout
    found = json.loads(figures.read_text())
    assert found["sim3"]["ate"]["rmse"] == pytest.approx(0.0509469, abs=1e-6) and found["se3"]["scale"] == 1.0
    assert picture.read_bytes().startswith(b"\x89PNG")
    done = spatial_fm("evaluate", "trajectory", ESTIMATE, TRUTH, "--offset", 100)
    assert done.returncode == 2 and "Only 0 poses of" in done.stderr and "--tolerance" in done.stderr


def test_evaluate_depth_and_cloud(mapped, recorded, tmp_path, spatial_fm):
    done = spatial_fm("evaluate", "depth", mapped, recorded / "bag", "--min-confidence", 0.5, "--json", tmp_path / "d")
    assert done.returncode == 0 and "AbsRel" in done.stdout, done.stderr
    assert json.loads((tmp_path / "d").read_text())["abs_rel"] < 0.02
    done = spatial_fm("evaluate", "depth", mapped, recorded / "sequence" / "truth" / "depth")
    assert done.returncode == 2 and "No depth image" in done.stderr  # its stamps count from 0
    trajectories = ["--trajectories", mapped / "trajectory.tum", recorded / "bag" / "truth" / "poses.tum"]
    done = spatial_fm("evaluate", "cloud", mapped / "map.ply", mapped / "map.ply", *trajectories, "--alignment", "se3")
    assert done.returncode == 0 and "given similarity" in done.stdout, done.stderr
    done = spatial_fm("evaluate", "cloud", mapped / "map.ply", mapped / "map.ply", "--json", tmp_path / "c")
    figures = json.loads((tmp_path / "c").read_text())
    assert figures["f_score"] == 1.0 and figures["colour"]["reference_mean"] < 0.1
    assert "CIE L*a*b*" in done.stdout


def test_config_prints_checks_and_names_mistakes(tmp_path, spatial_fm):
    done = spatial_fm("config", "--set", "window.size=6")
    assert yaml.safe_load(done.stdout)["window"]["size"] == 6
    (tmp_path / "c.yaml").write_text(done.stdout)
    assert load_config([tmp_path / "c.yaml"]) == load_config([], {"window.size": 6}) != Config()
    assert "ros__parameters" in spatial_fm("config", "--ros").stdout
    (tmp_path / "bad.yaml").write_text("window: {size: many}")
    done = spatial_fm("config", tmp_path / "bad.yaml")
    assert done.returncode == 2 and "window.size" in done.stderr and "Traceback" not in done.stderr


def test_simulate(tmp_path, spatial_fm):
    assert "room_drive" in spatial_fm("simulate", "list").stdout
    done = spatial_fm("simulate", "tunnel_straight", "-o", tmp_path / "s", "--duration", 0.5, "--form", "sequence")
    assert done.returncode == 0 and (tmp_path / "s" / "truth" / "poses.tum").is_file(), done.stderr
    done = spatial_fm(
        "simulate", "room_still", "-o", tmp_path / "two", "--duration", 0.5, "--stereo", 0.1, "--form", "sequence"
    )
    assert done.returncode == 2 and "has one camera" in done.stderr
    done = spatial_fm("simulate", "nowhere", "-o", tmp_path / "t")
    assert done.returncode == 2 and "Unknown scenario 'nowhere'" in done.stderr


def test_ros_arguments_of_map_bag():
    given = ["bag", "--output", "out", "--ros-args", "-p", "map.voxel_size:=0.05", "-p", "every:=2", "-p",
             "use_sim_time:=true", "-p", "overwrite:=true", "--params-file", "p.yaml", "--log-level", "info",
             "-r", "__node:=x", "--", "--debug"]  # fmt: skip
    assert translate(given) == [
        "map", "bag", "--output", "out", "--debug", "--set", "map.voxel_size=0.05", "--every", "2", "--overwrite",
        "--config", "p.yaml",
    ]  # fmt: skip
    as_parameters = ["--ros-args", "-p", "input:='my bag'", "-p", "output:=/o", "-p", "image_topic:=/cam",
                     "-p", "companion_image_topics:=/two,/three"]  # fmt: skip
    assert translate(as_parameters) == [
        "map", "my bag", "--output", "/o", "--image-topic", "/cam", "--companion-image-topics", "/two,/three",
    ]  # fmt: skip
    assert translate(["--ros-args", "-p", "map_bag:qos_overrides./x.publisher.depth:=1"]) == ["map"]
    for wrong, words in {
        "nonsense": "-p takes name:=value",
        "voxel_size:=1": "Unknown parameter 'voxel_size'; did you mean 'map.voxel_size'",
        "outptu:=/o": "did you mean 'output'",
        "zzzz:=1": "there are input, output, config",
        "overwrite:=yes": "'overwrite' takes true or false, got 'yes'",
        "other:every:=2": "-p other:every is for another node than reconstruct and map_bag",
    }.items():
        with pytest.raises(ConfigError, match=words):
            translate(["--ros-args", "-p", wrong])


def test_map_bag_runs_as_an_executable(recorded, tmp_path):
    from running import environment

    arguments = ["--ros-args", "-p", f"input:={recorded / 'bag'}", "-p", f"output:={tmp_path / 'out'}", "-p",
                 "model.name:=oracle", "-p", f"model.oracle.truth:={recorded / 'bag'}", "-p",
                 "intake.disparity_px:=6"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "spatial_fm_ros.nodes.map_bag", *arguments],
        env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "trajectory.tum").is_file()


def test_progress_lines_without_a_terminal(monkeypatch):
    clock = iter(float(i) for i in range(1000))
    monkeypatch.setattr("spatial_fm_ros.offline.progress.time.monotonic", lambda: next(clock))
    text = io.StringIO()
    with RunProgress(Console(file=text, width=200), "mapping", 40) as progress:
        for _ in range(20):
            progress.advance()
        progress.status("3 keyframes")
    lines = text.getvalue().splitlines()
    assert 2 <= len(lines) <= 20 and "left" in lines[0] and "/40 frames" in lines[0]
    assert "3 keyframes" in lines[-1]
