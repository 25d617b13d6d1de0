"""ROS domains on one machine that nobody else of ours uses: demos and test runs of several users do not mix."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

#: Above 101 the ports of a domain can collide with the system's own; 0 is everybody's.
DOMAINS = range(1, 101)
_held: list[int] = []  # open lock files; the system frees them when this process ends


def reserve_domain() -> int | None:
    """A domain that no other process holds, until this one ends. None where all are taken."""
    start = os.getpid() % len(DOMAINS)
    for domain in [*DOMAINS[start:], *DOMAINS[:start]]:
        path = Path(tempfile.gettempdir()) / f"spatial_fm_ros_domain_{domain}.lock"
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError:  # another user's
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            continue
        _held.append(handle)
        return domain
    return None
