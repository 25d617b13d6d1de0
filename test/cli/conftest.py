"""A short simulated drive, recorded once as a bag and as a sequence folder, and the command line as users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spatial_fm_ros.simulation.recording import write_bag, write_sequence
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `bag` (odometry, LiDAR, IMU, TF) and `sequence` (images, LiDAR), truth beside both."""
    folder = tmp_path_factory.mktemp("recorded")
    scenario = get_scenario("room_drive", duration_s=3.0, detail=0.25).with_size(160)
    write_bag(Simulator(scenario), folder / "bag", threads=2)
    write_sequence(Simulator(replace(scenario, start_ns=0)), folder / "sequence", depth_every=5)
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "spatial_fm_ros.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    """That of this process; terminal width and colours are fixed so that output can be compared."""
    found = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "2"}
    found["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    found.pop("SPATIAL_FM_DEBUG", None)
    return found


@pytest.fixture(scope="session")
def spatial_fm() -> Run:
    """Runs `spatial-fm ARGUMENTS` in a process of its own."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments), env=environment(), capture_output=True, text=True, timeout=120, **options
        )

    return run


def oracle(truth: Path) -> list[str]:
    """Options that map with the exact model and little work for the gate."""
    return ["--model", "oracle", "--set", f"model.oracle.truth={truth}", "--set", "intake.disparity_px=6"]


@pytest.fixture(scope="session")
def mapped(recorded: Path, spatial_fm: Run) -> Path:
    """The results of mapping the bag."""
    out = recorded / "mapped"
    done = spatial_fm("map", recorded / "bag", "-o", out, *oracle(recorded / "bag"))
    assert done.returncode == 0, done.stderr
    return out
