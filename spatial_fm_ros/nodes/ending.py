"""The process ends when it is told to: at the first signal in order, soon in any case, at the second one at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

from spatial_fm_ros.core.io.writing import abandon_parts, is_writing

#: From the signal to the last resort, seconds. `ros2 launch` sends the next, harder signal after 5.
WITHIN_S = 4.0
#: A file that is being written then (the map) gets so much longer, seconds.
WRITING_S = 60.0
#: Signals that come closer together are one: `timeout` and some shells send each twice. Seconds.
_TOGETHER_S = 0.5
_ASK_EVERY_S = 0.1


class Ending:
    """Listens to SIGINT and SIGTERM from now on. To be made in the main thread, before anything slow."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self._told_at = 0.0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def begin(self) -> None:
        """From now on there are WITHIN_S seconds left, whatever the other threads do."""
        threading.Thread(target=self._last_resort, name="last_resort", daemon=True).start()

    def leave(self, code: int) -> NoReturn:
        """End the process without waiting for its other threads, as Python would; files in work are finished."""
        while is_writing():
            time.sleep(_ASK_EVERY_S)
        _end(code)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.told.is_set():
            self._told_at = now
            self.told.set()
        elif now - self._told_at > _TOGETHER_S:
            _end(128 + number)

    def _last_resort(self) -> None:
        time.sleep(WITHIN_S)
        end = time.monotonic() + WRITING_S
        if is_writing():
            print("reconstruct: a file is still being written; another Ctrl-C leaves it.", file=sys.stderr, flush=True)
        while is_writing() and time.monotonic() < end:
            time.sleep(_ASK_EVERY_S)
        print("reconstruct: what is still in work cannot be interrupted and was left.", file=sys.stderr)
        _end(0)


def _end(code: int) -> NoReturn:
    abandon_parts()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, RuntimeError):  # closed, or in use by what was interrupted
            continue
    os._exit(code)
