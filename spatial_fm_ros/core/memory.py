"""The heap of a process that runs for hours with many threads."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # of mallopt(3)


def bound_arenas(count: int = 2) -> None:
    """Let glibc keep at most `count` heaps. By default every thread may get one of its own, and each keeps
    the largest hole it ever had: image-sized arrays made by many threads then add up. To be called before
    threads start; does nothing with another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, count)


def return_freed() -> None:
    """Give pages that hold nothing back to the system: what a rare large step needed once (a wide-baseline
    match, a rescaled map) is then not kept for ever. Some milliseconds; glibc only."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
