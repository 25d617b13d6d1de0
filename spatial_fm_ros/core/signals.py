"""Signals belong to the program, not to the libraries that it imports."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager

#: More than any platform's struct sigaction; it is only kept and given back.
_SIGACTION_BYTES = 512


@contextmanager
def keeping_handler(number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """Undo what the block does to the handler of a signal.

    pycolmap (its glog) replaces the one of SIGTERM by an abort with a stack trace: a node that service
    managers stop would look like a crash. Works in every thread, which Python's `signal.signal` does not.
    """
    libc = ctypes.CDLL(None)
    before = ctypes.create_string_buffer(_SIGACTION_BYTES)
    known = libc.sigaction(int(number), None, before) == 0
    try:
        yield
    finally:
        if known:
            libc.sigaction(int(number), before, None)
