"""The process ends when it is told to: at the first signal in order, soon in any case, at the second one at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

#: From the signal to the last resort, seconds. `ros2 launch` sends the next, harder signal after 5.
WITHIN_S = 4.0
#: Signals that come closer together are one: `timeout` and some shells send each twice. Seconds.
_TOGETHER_S = 0.5


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
        """End the process without waiting for its other threads, as Python would."""
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
        print("reconstruct: what is still in work cannot be interrupted and was left.", file=sys.stderr)
        _end(0)


def _end(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, RuntimeError):  # closed, or in use by what was interrupted
            continue
    os._exit(code)
