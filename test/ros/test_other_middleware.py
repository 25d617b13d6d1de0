"""The same tests on the other RMW implementation. It is chosen when rclpy is loaded, so in a process of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from rclpy.utilities import get_rmw_implementation_identifier

HERE = Path(__file__).parent
#: Everything where a middleware can differ: QoS, discovery, latching, services, graph, processes.
CHOSEN = (
    "test_live.py",
    "test_lifecycle.py::test_all_transitions_work_and_can_be_repeated",
    "test_control.py::test_services",
    "test_bad_input.py::test_missing_inputs_are_named_after_a_while",
    "test_bad_input.py::test_incompatible_qos_is_named_with_its_publisher",
    "test_bad_input.py::test_wrong_type_is_named_and_the_right_topic_suggested",
    "test_processes.py::test_reconstruct_runs_and_ends_cleanly_on_ctrl_c",
)


def test_on_the_other_middleware():
    here = get_rmw_implementation_identifier()
    other = "rmw_fastrtps_cpp" if here != "rmw_fastrtps_cpp" else "rmw_cyclonedds_cpp"
    try:
        get_package_prefix(other)
    except PackageNotFoundError:
        pytest.skip(f"{other} is not installed")
    if os.environ.get("SPATIAL_FM_ONE_MIDDLEWARE"):
        pytest.skip("SPATIAL_FM_ONE_MIDDLEWARE is set")
    result = subprocess.run(
        [shutil.which("pytest"), "-q", *(str(HERE / name) for name in CHOSEN)],
        cwd=HERE.parents[1],
        env=os.environ | {"RMW_IMPLEMENTATION": other},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, f"{other}:\n{result.stdout[-8000:]}\n{result.stderr[-2000:]}"
