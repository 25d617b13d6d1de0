"""Long work (downloading, checking, loading) that ends when it is told to.

Whoever starts the work says by `until` which event ends it; the loops inside ask `check`. The event travels with the
thread, so that no function in between has to hand it on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from spatial_fm_ros.core.errors import SpatialFMError

#: How often waiting loops ask, seconds.
ASK_EVERY_S = 0.1

_NEVER = threading.Event()
_told: ContextVar[threading.Event] = ContextVar("told_to_stop", default=_NEVER)


class Stopped(SpatialFMError):
    """The work was given up because it was told to."""


@contextmanager
def until(event: threading.Event) -> Iterator[None]:
    """What this thread does inside the block is given up soon after `event` is set."""
    token = _told.set(event)
    try:
        yield
    finally:
        _told.reset(token)


def check() -> None:
    """Raises Stopped when this thread's work is to end."""
    if _told.get().is_set():
        raise Stopped("Loading was given up, as it was told to; what has arrived is kept, and the next try goes on.")


def pause(seconds: float) -> None:
    """Wait so long. Raises Stopped as soon as this thread's work is to end."""
    _told.get().wait(seconds)
    check()
