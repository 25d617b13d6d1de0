"""Reads ahead in a thread of its own, a bounded number of samples, so that decoding overlaps mapping."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

from spatial_fm_ros.core.types import CompanionFrame, Frame, LidarScan

T = TypeVar("T")

#: Most bytes of samples that wait, but for one sample that is larger by itself.
WAITING_BYTES = 512 * 2**20


class _Line:
    """Items that wait, at most `depth` of them and `most_bytes` together."""

    def __init__(self, depth: int, most_bytes: int) -> None:
        self._depth = depth
        self._most_bytes = most_bytes
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, object, int]] = deque()
        self._bytes = 0
        self._closed = False

    def put(self, kind: str, value: object) -> bool:
        """Blocks while the line is full; False once it was closed."""
        size = bytes_of(value)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(size))
            if self._closed:
                return False
            self._waiting.append((kind, value, size))
            self._bytes += size
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None) -> tuple[str, object] | None:
        """The next one; None where none came in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, timeout_s):
                return None
            kind, value, size = self._waiting.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return kind, value

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        if not self._waiting:
            return True
        return len(self._waiting) < self._depth and self._bytes + size <= self._most_bytes


def bytes_of(sample: object) -> int:
    """About how much memory a sample holds: that of its image or points."""
    if isinstance(sample, CompanionFrame):
        sample = sample.frame
    if isinstance(sample, Frame):
        return int(sample.image.nbytes)
    return 2 * int(sample.points.nbytes) if isinstance(sample, LidarScan) else 0


def prefetch(
    items: Iterable[T], depth: int = 8, stop: threading.Event | None = None, most_bytes: int = WAITING_BYTES
) -> Iterator[T]:
    """The same items in the same order; at most `depth` wait, and of samples at most `most_bytes`.

    An error of `items` is raised in its place. Closing the iterator (or leaving a loop over it) ends the thread. So
    does `stop`, which also ends the iterator, even where the next item takes its time.
    """
    line = _Line(max(1, depth), most_bytes)

    def read() -> None:
        try:
            for item in items:
                if not line.put("item", item):
                    return
            line.put("end", None)
        except BaseException as error:
            line.put("error", error)

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        while stop is None or not stop.is_set():
            entry = line.get(None if stop is None else 0.2)
            if entry is None:
                continue
            kind, value = entry
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]
    finally:
        line.close()
        thread.join(timeout=2.0)  # it ends with the item it reads; nobody waits longer for that
