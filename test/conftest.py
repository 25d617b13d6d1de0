"""For all tests: a ROS domain of their own, so that test runs beside each other and running robots do not mix."""

from __future__ import annotations

import os

import pytest

from spatial_fm_ros.bridge.domains import reserve_domain


def pytest_configure(config: pytest.Config) -> None:
    domain = reserve_domain()
    if domain is None:
        raise pytest.UsageError("All ROS domains from 1 to 100 are taken by other test runs; end some of them.")
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    # Before anything imports torch: threads that spin while they wait make a busy machine crawl.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
