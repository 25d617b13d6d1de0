"""For all tests: a ROS domain of their own, so that test runs beside each other and running robots do not mix."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

_DOMAINS = range(1, 101)  # above 101 the ports of a domain can collide with the system's own
_held: list[int] = []  # open lock files; the system frees them when this process ends


def _reserve_domain() -> int:
    """A domain number that no other test run on this machine holds."""
    start = os.getpid() % len(_DOMAINS)
    for domain in [*_DOMAINS[start:], *_DOMAINS[:start]]:
        path = Path(tempfile.gettempdir()) / f"spatial_fm_ros_domain_{domain}.lock"
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except PermissionError:  # another user's
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            continue
        _held.append(handle)
        return domain
    raise pytest.UsageError("All ROS domains from 1 to 100 are taken by other test runs; end some of them.")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["ROS_DOMAIN_ID"] = str(_reserve_domain())
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    # Before anything imports torch: threads that spin while they wait make a busy machine crawl.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
