"""A short simulated drive, recorded once as a bag and as a sequence folder, and the command line as users run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from running import oracle
from typer.testing import CliRunner

from spatial_fm_ros.cli import app
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


@pytest.fixture(scope="session")
def spatial_fm() -> Run:
    """Runs `spatial-fm ARGUMENTS` in this process (torch and Open3D load once) and gives what it printed."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = list(map(str, arguments))
        done = CliRunner().invoke(app, words, prog_name="spatial-fm")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def mapped(recorded: Path, spatial_fm: Run) -> Path:
    """The results of mapping the bag."""
    out = recorded / "mapped"
    done = spatial_fm("map", recorded / "bag", "-o", out, *oracle(recorded / "bag"))
    assert done.returncode == 0, done.stderr
    return out
