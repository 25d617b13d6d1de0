"""Reads ahead in a thread of its own, a bounded number of samples, so that decoding overlaps mapping."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], depth: int = 8, stop: threading.Event | None = None) -> Iterator[T]:
    """The same items in the same order; at most `depth` wait. An error of `items` is raised in its place.

    Closing the iterator (or leaving a loop over it) ends the thread. So does `stop`, which also ends the iterator,
    even where the next item takes its time.
    """
    waiting: queue.Queue[tuple[str, object]] = queue.Queue(maxsize=max(1, depth))
    closed = threading.Event()

    def put(entry: tuple[str, object]) -> bool:
        while not closed.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        while stop is None or not stop.is_set():
            try:
                kind, value = waiting.get(timeout=None if stop is None else 0.2)
            except queue.Empty:
                continue
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]
    finally:
        closed.set()
        thread.join(timeout=2.0)  # it ends with the item it reads; nobody waits longer for that
