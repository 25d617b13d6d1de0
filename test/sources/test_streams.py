"""Reordering and reading ahead, against plain twins."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatial_fm_ros.core.types import Frame
from spatial_fm_ros.sources.prefetch import prefetch
from spatial_fm_ros.sources.reorder import by_stamp


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60), st.integers(0, 300))
def test_order_within_the_horizon_is_the_sorted_order(steps, jitter):
    stamps = sorted(steps)
    delays = [(7919 * i) % (jitter + 1) for i in range(len(stamps))]
    arrival = sorted(range(len(stamps)), key=lambda i: (stamps[i] + delays[i], i))
    out = list(by_stamp(((stamps[i], stamps[i]) for i in arrival), jitter + 1))
    assert out == stamps


@given(st.lists(st.integers(-(10**12), 10**12), max_size=60), st.integers(1, 10**6))
def test_nothing_is_lost_or_made_up(stamps, horizon):
    assert sorted(by_stamp(((s, s) for s in stamps), horizon)) == sorted(stamps)


def test_a_jump_back_starts_anew():
    stamps = [100, 101, 103, 102, 0, 2, 1, 3]
    assert list(by_stamp(((s, s) for s in stamps), 10)) == [100, 101, 102, 103, 0, 1, 2, 3]


def test_read_ahead_keeps_order_bounds_and_errors():
    produced: list[int] = []

    def items():
        for i in range(100):
            produced.append(i)
            yield i
        raise KeyError("end")

    stream = prefetch(items(), depth=4)
    assert next(stream) == 0
    time.sleep(0.2)
    assert len(produced) <= 7  # one out, four waiting, one in the thread's hand
    with pytest.raises(KeyError):
        for expected, got in enumerate(stream, start=1):
            assert got == expected
    threads = threading.active_count()
    left = prefetch(iter(range(10**9)), depth=2)
    assert next(left) == 0
    left.close()
    assert threading.active_count() == threads


def test_large_images_wait_one_at_a_time():
    """Eight pictures of 16K would take gigabytes while they wait."""
    produced: list[int] = []

    def frames():
        for i in range(6):
            produced.append(i)
            yield Frame(i, np.zeros((10, 10, 3), np.uint8))

    stream = prefetch(frames(), depth=8, most_bytes=299)
    assert next(stream).stamp_ns == 0
    time.sleep(0.2)
    assert len(produced) == 3  # one out, one waiting, one in the thread's hand
    assert [frame.stamp_ns for frame in stream] == [1, 2, 3, 4, 5]
