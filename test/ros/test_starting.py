"""What stands in the way of a node's start and is none of its fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")


def test_logs_go_elsewhere_where_their_folder_cannot_be_written(tmp_path: Path) -> None:
    """A file in the way is in everybody's way, root's too."""
    (tmp_path / "log").write_text("")
    environment = os.environ | {"ROS_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment.pop("ROS_LOG_DIR", None)
    code = (
        "import rclpy; from spatial_fm_ros.nodes.starting import init_ros; init_ros([]);"
        "rclpy.create_node('some').get_logger().error('told'); rclpy.shutdown()"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "ROS logs go to" in done.stderr and "told" in done.stderr
    (folder,) = tmp_path.glob("spatial_fm_ros_log_*")
    assert any("told" in file.read_text() for file in folder.rglob("*.log"))
