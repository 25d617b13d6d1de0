"""Measured programs run in processes of their own, on a given number of cores, in a ROS domain of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.results import ROOT
from spatial_fm_ros.core.errors import InputError

#: Shared memory that the larger of the two Fast DDS profiles asks for, bytes.
ROOMY_SHM = 1 << 29


def limited_environment(cores: int) -> dict[str, str]:
    """The environment for a program on `cores` cores; it finds this checkout's Python packages."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(cores), "MKL_NUM_THREADS": str(cores), "PYTHONUNBUFFERED": "1"}
    paths = [environment.get("PYTHONPATH", ""), str(ROOT), str(ROOT / "scripts")]
    environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    return environment


def ros_environment(cores: int) -> dict[str, str]:
    """As limited_environment, with a domain that no other robot is likely to use, and shared memory large enough
    for images and clouds. What the user set is kept."""
    environment = limited_environment(cores)
    environment.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if not any(f"{name}_DEFAULT_PROFILES_FILE" in environment for name in ("FASTRTPS", "FASTDDS")):
        try:
            small = shutil.disk_usage("/dev/shm").total < ROOMY_SHM
        except OSError:
            small = True
        profile = ROOT / "config" / ("fastdds_small.xml" if small else "fastdds.xml")
        environment["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(profile)
    return environment


def require_ros() -> None:
    """Raises InputError where ROS 2 and the built package are not on the paths."""
    if shutil.which("ros2") is None or "AMENT_PREFIX_PATH" not in os.environ:
        raise InputError("This benchmark needs ROS 2 and the built package; run it as scripts/with_env scripts/bench …")


@contextlib.contextmanager
def running(command: Sequence[str], cores: int, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program on the first `cores` cores, in a process group of its own that ends with the block."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    child = subprocess.Popen(
        command, env=dict(environment), start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, allowed)
    )
    try:
        yield child
    finally:
        end(child)


def end(child: subprocess.Popen[bytes], patience_s: float = 60.0) -> None:
    """Ctrl-C to the whole group, and where that does not help in time, the end of it."""
    for number, wait_s in ((signal.SIGINT, patience_s), (signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
        if child.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(wait_s)
    with contextlib.suppress(ProcessLookupError):  # what outlived its parent
        os.killpg(child.pid, signal.SIGKILL)


def leave_on_sigterm() -> None:
    """SIGTERM ends this program as Ctrl-C does, so that what it started ends with it."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def run_limited(command: Sequence[str], cores: int, environment: Mapping[str, str], timeout_s: float) -> int:
    """Exit code of a program. Raises InputError when it takes longer than `timeout_s`."""
    with running(command, cores, environment) as child:
        try:
            return child.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise InputError(f"{' '.join(command[:4])} … did not end within {timeout_s:g} s.") from error


def module(name: str, *arguments: object) -> list[str]:
    """The command that runs a module of this package in this Python."""
    return [sys.executable, "-m", f"benchmarks.{name}", *(str(a) for a in arguments)]
