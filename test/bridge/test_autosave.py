"""The file of the automatic saves where others write it, too."""

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from spatial_fm_ros.bridge.autosave import Autosave
from spatial_fm_ros.core.config import MapConfig
from spatial_fm_ros.core.io.cloud_files import SavedMap, read_map
from spatial_fm_ros.core.io.map_facts import MapFacts
from spatial_fm_ros.core.types import PointCloud


class Robot:
    """A node whose map has `points` points, and another window with each save."""

    def __init__(self, path: Path, points: int) -> None:
        self.stats = SimpleNamespace(resets=0, windows=3)
        cloud = PointCloud(
            np.ones((points, 3), np.float32), np.zeros((points, 3), np.uint8), np.ones(points, np.float32)
        )
        self.saved_map = lambda: SavedMap(cloud, MapFacts())
        self.lines: list[str] = []
        log = SimpleNamespace(warning=self.lines.append, info=self.lines.append)
        node = SimpleNamespace(get_logger=lambda: log)
        self.autosave = Autosave(node, self, MapConfig(autosave_s=0.1, autosave_path=str(path)))  # type: ignore[arg-type]

    def saves_again(self) -> Path:
        """Another window comes and is saved; where."""
        self.stats.windows += 1
        end = time.monotonic() + 20.0
        while f"{self.stats.windows} windows" not in self.autosave.state:
            assert time.monotonic() < end, self.autosave.state
            time.sleep(0.02)
        return self.autosave.path


def test_two_nodes_of_one_name_lose_no_map(tmp_path: Path) -> None:
    path = tmp_path / "auto.ply"
    first = Robot(path, 11)
    assert first.saves_again() == first.saves_again() == path and not first.lines
    second = Robot(path, 22)
    assert second.saves_again() == path
    own = first.saves_again()
    assert own != path and own.parent == tmp_path and "another node of this name" in first.lines[-1]
    assert second.saves_again() == path and first.saves_again() == own
    for robot in (first, second):
        robot.autosave.close()
    assert len(read_map(own).cloud) == 11 and len(read_map(path).cloud) == 22
    assert not any("another node" in line for line in second.lines)
