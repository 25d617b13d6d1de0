"""Ctrl-C, SIGTERM and a closed terminal: a program ends when told, and work that may finish what it has does so.

By default a signal is a KeyboardInterrupt in the main thread. In a `finishing` block the first one only sets an event.
A thread beside hears of every signal at once, also while the main thread is in code that is not Python: it says what
happens and, in a command (`raising`), ends the process where the main thread does not within `GRACE_S`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from spatial_fm_ros.core.io.writing import abandon_parts

#: So long after a signal that ends a command the process is gone, whatever it does, seconds.
GRACE_S = 4.0
KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    """Of this process. came: signals so far; spared: so many of them end nothing."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.came = 0
        self.spared = 0
        self.event: threading.Event | None = None
        self.say: Callable[[], None] = lambda: None
        self.installed = False
        self.ends_process = False
        self.raised = False


_state = _State()


def exit_code() -> int | None:
    """128 + the first signal that came (130 for Ctrl-C, 143 for SIGTERM); None where none did."""
    return None if _state.first is None else 128 + _state.first


@contextmanager
def raising() -> Iterator[None]:
    """Around a command: signals are a KeyboardInterrupt, and the process ends at the latest `GRACE_S` after one."""
    with _handling():
        _state.ends_process = threading.current_thread() is threading.main_thread()
        yield


@contextmanager
def finishing(say: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """Around work that has something to save: the first signal sets the event that is given, the next one interrupts.

    `say` is called once, in another thread, when the first one came. Outside the main thread signals stay as they are.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    with _handling():
        _state.event, _state.say = event, say
        _state.spared = _state.came + 1
        try:
            yield event
        finally:
            _state.event, _state.spared = None, 0


def _handle(number: int, frame: FrameType | None) -> None:
    _state.came += 1
    if _state.first is None:
        _state.first = number
    if _state.event is not None and _state.came <= _state.spared:
        _state.event.set()
        return
    if _state.raised and _state.ends_process:
        return  # what the first one broke off cleans up; the process ends in any case
    _state.raised = True
    raise KeyboardInterrupt


@contextmanager
def _handling() -> Iterator[None]:
    """Handlers and the thread beside, once, however often it is entered."""
    global _state
    if _state.installed or threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before: dict[signal.Signals, Any] = {}
    _state = _State()  # a program may run several commands, one after the other
    _state.installed = True
    woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for kind in KINDS:
        before[kind] = signal.getsignal(kind)
        if kind != signal.SIGHUP or before[kind] is not signal.SIG_IGN:  # nohup
            signal.signal(kind, _handle)
    threading.Thread(target=_watch, args=(_state, reading), name="signals", daemon=True).start()
    try:
        yield
    finally:
        _state.installed = False
        for kind, handler in before.items():
            signal.signal(kind, handler if handler is not None else signal.SIG_DFL)
        signal.set_wakeup_fd(woken)
        if not (_state.came and _state.ends_process):  # the thread sees to it that the interpreter ends, too
            os.close(writing)


def _watch(state: _State, reading: int) -> None:
    """Tells what a signal does, and ends the process where nothing else does. `reading`: gets the signals' numbers."""
    came, said = 0, False
    ends_at: float | None = None
    try:
        while True:
            ready, _, _ = select.select([reading], [], [], 0.2 if came else None)
            if ready:
                data = os.read(reading, 64)
                if not data:
                    return
                came += sum(number in KINDS for number in data)
                if signal.SIGHUP in data:
                    mute()
            if came > state.spared and ends_at is None:
                ends_at = time.monotonic() + GRACE_S
            elif came and ends_at is None and not said:
                said = True
                state.say()
            if ends_at is not None and time.monotonic() > ends_at and state.ends_process:
                abandon_parts()
                os._exit(128 + (state.first or signal.SIGINT))
    finally:
        os.close(reading)


def mute() -> None:
    """From now on what goes to a terminal that was closed is dropped."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            if os.isatty(stream.fileno()):
                drop(stream)


def drop(stream: Any) -> None:
    """From now on what goes to `stream` is dropped: nobody reads it any more."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
