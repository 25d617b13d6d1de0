"""What the build and the package's files promise: messages, executables, locks, a core without ROS."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXECUTABLES = (
    "check_topics", "demo_scoreboard", "map_bag", "play_bag", "reconstruct", "simulated_robot", "wait_until_active",
)  # fmt: skip


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def interface_fields() -> list[tuple[str, str]]:
    lines = []
    for file in sorted([*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")]):
        for line in file.read_text().splitlines():
            if line.strip() and not line.startswith(("#", "---")):
                lines.append((file.name, line))
    return lines


@pytest.mark.parametrize(("file", "line"), interface_fields())
def test_every_message_field_is_explained(file: str, line: str) -> None:
    # The response flag of a service says all in its name.
    assert "#" in line or line == "bool success", f"{file}: '{line}' has no comment with meaning and unit"


def test_messages_are_built_and_travel() -> None:
    messages = pytest.importorskip("spatial_fm_ros.msg", reason="the package is not built here")
    from rclpy.serialization import deserialize_message, serialize_message

    status = messages.ReconstructionStatus()
    assert (status.RELATIVE, status.METRIC, status.UNOBSERVABLE, status.CONFLICT) == (0, 1, 2, 3)
    assert status.scale_state == status.loaded_scale_state == status.SCALE_UNKNOWN  # no default says more
    status.scale_observers = ["odometry", "lidar"]
    status.scale_sigma = float("inf")
    status.map_points = 2**40
    back = deserialize_message(serialize_message(status), messages.ReconstructionStatus)
    assert back == status


def test_states_of_scale_and_windows_match_the_core() -> None:
    messages = pytest.importorskip("spatial_fm_ros.msg", reason="the package is not built here")
    from spatial_fm_ros.core.types import ScaleState, WindowState

    constants = {name for name in dir(messages.ReconstructionStatus) if name.isupper()}
    assert {state.name for state in ScaleState} <= constants
    assert {f"WINDOW_{state.name}" for state in WindowState} <= constants


def test_messages_are_found_from_the_checkout_too() -> None:
    """With the checkout first on the path its folder hides the built package, but not the messages."""
    pytest.importorskip("spatial_fm_ros.msg", reason="the package is not built here")
    code = "import spatial_fm_ros; from spatial_fm_ros.srv import SaveMap; print(spatial_fm_ros.__file__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(result.stdout.strip()) == ROOT / "spatial_fm_ros" / "__init__.py"


@pytest.mark.parametrize("name", [*(f"nodes/{name}" for name in EXECUTABLES), "spatial-fm"])
def test_executables_honour_an_activated_environment(name: str) -> None:
    file = ROOT / "scripts" / name
    assert file.read_text().startswith("#!/usr/bin/env python3\n")
    assert os.access(file, os.X_OK)
    assert f"scripts/{name}" in (ROOT / "CMakeLists.txt").read_text().split()


def test_every_source_folder_is_a_package() -> None:
    """A folder without __init__.py would be left out by `pip install .`."""
    for folder in {file.parent for file in (ROOT / "spatial_fm_ros").rglob("*.py")}:
        assert (folder / "__init__.py").exists(), folder


def test_nothing_but_python_needs_packaging() -> None:
    """Another kind of file in the package has to be named in setup.py's package_data."""
    package = ROOT / "spatial_fm_ros"
    others = {file for file in package.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert {file.name for file in others if file.parent != package / "core/models/nano/weights"} == {"py.typed"}


def test_no_package_shadows_generated_code() -> None:
    for name in ("msg", "srv", "action"):
        assert not (ROOT / "spatial_fm_ros" / name).exists()
    assert not (ROOT / "test" / "__init__.py").exists()
    assert not (ROOT / "conftest.py").exists()


@pytest.mark.parametrize("name", ["run", "test", "build"])
def test_locks_pin_everything_that_is_asked_for(name: str) -> None:
    pins = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        if not line.startswith("#"):
            package, separator, version = line.partition("==")
            assert separator and re.fullmatch(r"[\w.!+]+", version), f"{name}.txt: '{line}' is not pinned"
            pins[package] = version
    asked = set()
    for line in (ROOT / "requirements" / f"{name}.in").read_text().splitlines():
        words = line.split()
        if words and words[0] == "#leave-out":
            assert canonical(words[1]) not in pins
        elif words and words[0] == "#no-deps":
            package, _, version = words[1].partition("==")
            assert pins[canonical(package)] == version
        elif words and not words[0].startswith("#"):
            asked.add(canonical(re.match(r"[\w.-]+", words[0])[0]))
    assert asked <= set(pins), f"run scripts/lock: {asked - set(pins)} are not in {name}.txt"


def test_package_xml_names_what_is_imported_from_ros() -> None:
    """Every ROS package that the sources import is a dependency (rosdep installs what stands there)."""
    tree = ElementTree.parse(ROOT / "package.xml")
    declared = {
        item.text for tag in ("depend", "exec_depend", "buildtool_depend", "test_depend") for item in tree.iter(tag)
    }
    known = re.compile(
        r"^(\w+_msgs|rclpy|tf2_\w+|cv_bridge|message_filters|launch\w*|std_srvs|sensor_msgs_py|"
        r"tf_transformations|diagnostic_\w+|rcl_interfaces|builtin_interfaces|ament_\w+|rosidl_\w+)$"
    )
    missing = set()
    sources = [*(ROOT / "spatial_fm_ros").rglob("*.py"), *(ROOT / "launch").rglob("*.py")]
    for file in sources:
        for line in file.read_text().splitlines():
            match = re.match(r"\s*(?:from|import)\s+(\w+)", line)
            if match and known.match(match[1]) and match[1] not in declared:
                missing.add((match[1], file.relative_to(ROOT).as_posix()))
    assert not missing


def test_package_xml_and_changelog_belong_together() -> None:
    """As the tools that release packages want them."""
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    assert {url.get("type") for url in root.iter("url")} >= {"website", "repository", "bugtracker"}
    (maintainer,) = root.iter("maintainer")
    assert re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", maintainer.get("email", ""))
    assert not maintainer.get("email", "").endswith((".invalid", ".local", ".example"))
    lines = (ROOT / "CHANGELOG.rst").read_text().splitlines()
    assert lines[0] == lines[2] == "^" * len(lines[1]) and lines[1].endswith(root.findtext("name"))
    titles = [(title, line) for title, line in zip(lines, lines[1:]) if line and set(line) == {"-"}]
    assert all(len(title) == len(line) for title, line in titles)
    assert [title.split()[0] for title, _ in titles][:2] == ["Forthcoming", root.findtext("version")]


WITHOUT_ROS = """
import importlib, pkgutil, re, sys

ROS = re.compile(r"^(rclpy|.*_msgs|tf2.*|tf_transformations|cv_bridge|message_filters|launch|launch_ros|std_srvs|"
                 r"rcl_interfaces|diagnostic_updater|sensor_msgs_py|ament_index_python)$")

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if ROS.match(name.partition(".")[0]):
            raise ImportError(f"{name} is ROS and must not be imported here")

sys.meta_path.insert(0, Refuse())
for root in sys.argv[1:]:
    package = importlib.import_module(root)
    for module in pkgutil.walk_packages(package.__path__, root + "."):
        importlib.import_module(module.name)
        print(module.name)
"""


def test_core_needs_no_ros() -> None:
    parts = [f"spatial_fm_ros.{name}" for name in ("core", "evaluation", "simulation", "sources")]
    result = subprocess.run([sys.executable, "-c", WITHOUT_ROS, *parts], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "spatial_fm_ros.core.types" in result.stdout
