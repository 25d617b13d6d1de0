"""The public names, and README's program with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import spatial_fm_ros
from spatial_fm_ros.evaluation.tum import read_tum

ROOT = Path(__file__).resolve().parents[2]


def test_public_names_are_what_they_were() -> None:
    assert set(spatial_fm_ros.__all__) == {
        "Config", "Pipeline", "SourceOptions", "SpatialFMError", "load_config", "open_source", "read_cloud",
        "read_map", "read_tum", "write_cloud", "write_map", "write_tum",
    }  # fmt: skip
    for name in spatial_fm_ros.__all__:
        assert getattr(spatial_fm_ros, name).__name__ == name and name in dir(spatial_fm_ros)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, spatial_fm_ros; print({'torch', 'cv2', 'numpy', 'rclpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_program_of_the_readme_gives_what_the_command_gives(recorded: Path, tmp_path: Path, spatial_fm) -> None:
    program = (ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert len(program.strip().splitlines()) <= 16
    (tmp_path / "my_bag").symlink_to(recorded / "bag")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env=os.environ, timeout=250
    )
    assert done.returncode == 0, done.stderr
    mapped = spatial_fm("map", recorded / "bag", "-o", tmp_path / "out")
    assert mapped.returncode == 0, mapped.stderr
    assert "scale metric" in mapped.stdout and "METRIC" in done.stdout.splitlines()[-1]
    mine, theirs = read_tum(tmp_path / "poses_0.tum"), read_tum(tmp_path / "out" / "trajectory.tum")
    np.testing.assert_array_equal(mine.stamps_ns, theirs.stamps_ns)
    np.testing.assert_allclose(mine.poses, theirs.poses, atol=1e-3)
    points = json.loads((tmp_path / "out" / "report.json").read_text())["counts"]["map_points"]  # of all its maps
    saved = spatial_fm_ros.read_map(tmp_path / "map.ply")
    assert len(saved.cloud) == points > 1000 and saved.facts.metric
