"""Brings samples that were recorded slightly out of order back into the order of their stamps."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

#: Further back than this many horizons is a jump in time (a looped or restarted recording), not a late sample.
JUMP_HORIZONS = 5


class RecordingOrder:
    """Keys to sort messages by: their stamps, or for stamps of another clock, and wrong ones, when they were recorded
    beside the images."""

    def __init__(self, horizon_ns: int) -> None:
        self._horizon_ns = horizon_ns
        self._lag_ns: int | None = None  # of the newest image: stamp after recording time

    def of_image(self, stamp_ns: int, recorded_ns: int) -> int:
        key = self.of(stamp_ns, recorded_ns)
        self._lag_ns = stamp_ns - recorded_ns
        return key

    def of(self, stamp_ns: int, recorded_ns: int) -> int:
        if self._lag_ns is None or abs(stamp_ns - recorded_ns - self._lag_ns) <= JUMP_HORIZONS * self._horizon_ns:
            return stamp_ns
        return recorded_ns + self._lag_ns


def by_stamp(items: Iterable[tuple[int, T]], horizon_ns: int) -> Iterator[T]:
    """Items (key, value) in order of key, as far as they came within `horizon_ns` of the newest key.

    What comes later is passed on at once, out of order. After a jump back everything that waits goes
    first and order starts anew. Equal keys keep their order; at most `horizon_ns` worth of items wait.
    """
    heap: list[tuple[int, int, T]] = []
    newest: int | None = None
    for count, (key, value) in enumerate(items):
        late = 0 if newest is None else newest - key
        if late > JUMP_HORIZONS * horizon_ns:
            while heap:
                yield heapq.heappop(heap)[2]
            newest = key
        elif late > horizon_ns:
            yield value
            continue
        newest = key if newest is None else max(newest, key)
        heapq.heappush(heap, (key, count, value))
        while heap and heap[0][0] <= newest - horizon_ns:
            yield heapq.heappop(heap)[2]
    while heap:
        yield heapq.heappop(heap)[2]
