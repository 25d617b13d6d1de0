"""Brings samples that were recorded slightly out of order back into the order of their stamps."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

#: Further back than this many horizons is a jump in time (a looped or restarted recording), not a late sample.
JUMP_HORIZONS = 5


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
