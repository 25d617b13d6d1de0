"""Window assembly: overlap, the live bound, the last window, and two threads."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatial_fm_ros.core.config import WindowConfig
from spatial_fm_ros.core.intake.windows import WindowAssembler
from spatial_fm_ros.core.types import Keyframe

IMAGE = np.zeros((8, 8, 3), np.uint8)


def keyframe(i, disparity=25.0, stamp=None):
    return Keyframe(i, i * 1000 if stamp is None else stamp, IMAGE, None, "camera", disparity, "disparity")


def ids(window):
    return [k.id for k in window.keyframes]


@given(st.integers(2, 9), st.integers(2, 8), st.integers(0, 60))
def test_offline_every_keyframe_is_new_exactly_once(size, overlap, count):
    if overlap >= size:
        overlap = size - 1
    if overlap < 2:
        return
    assembler = WindowAssembler(WindowConfig(size=size, overlap=overlap, max_pending=size))
    windows = []
    for i in range(count):
        assembler.push(keyframe(i))
        if assembler.ready():
            windows.append(assembler.take())
    assert not assembler.ready() and assembler.take() is None
    last = assembler.take(final=True)
    windows += [last] if last else []
    assert assembler.take(final=True) is None
    new = [k for w in windows for k in ids(w)[w.overlap :]]
    assert new == list(range(count)) if count >= 2 else not windows
    for before, after in zip(windows, windows[1:], strict=False):
        assert after.index == before.index + 1 and after.overlap == min(overlap, len(before.keyframes))
        assert ids(after)[: after.overlap] == ids(before)[-after.overlap :]
    assert all(len(w.keyframes) == size for w in windows[:-1] if w) and assembler.thinned == 0


def test_final_windows():
    assembler = WindowAssembler(WindowConfig(size=4, overlap=2))
    assembler.push(keyframe(0))
    assert assembler.take(final=True) is None  # one view is no window
    for i in range(1, 9):
        assembler.push(keyframe(i))
    got = []
    while (window := assembler.take(final=True)) is not None:
        got.append(ids(window))
    assert got == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8]]
    assembler.push(keyframe(9))
    assert ids(assembler.take(final=True)) == [7, 8, 9]


def test_thinning_is_even_and_bounded():
    assembler = WindowAssembler(WindowConfig(size=4, overlap=2, max_pending=8))
    for i in range(4):
        assembler.push(keyframe(i))
    assembler.take()
    for i in range(4, 104):
        assembler.push(keyframe(i))
        assert assembler.pending <= 8
    left = []
    while (window := assembler.take(final=True)) is not None:
        left += ids(window)[window.overlap :]
    assert assembler.thinned == 100 - 8
    assert left[-1] == 103
    gaps = np.diff([3, *left])
    assert gaps.max() <= 2 * np.median(gaps)


def test_thinning_leaves_out_what_moved_least():
    assembler = WindowAssembler(WindowConfig(size=4, overlap=2, max_pending=6))
    steps = [0, 25, 25, 2, 25, 25, 25]
    for i, step in enumerate(steps):
        assembler.push(keyframe(i, step))
    # 2 (25 + 2) and 3 (2 + 25) leave the same gap in disparity and time: the earlier goes.
    assert [k.id for k in assembler._pending] == [0, 1, 3, 4, 5, 6]
    assembler = WindowAssembler(WindowConfig(size=4, overlap=2, max_pending=6))
    for i, stamp in enumerate([0, 100, 200, 210, 220, 300, 400]):  # standing still: by time
        assembler.push(keyframe(i, 0.0, stamp))
    assert [k.stamp_ns for k in assembler._pending] == [0, 100, 200, 220, 300, 400]


def test_bound_below_a_window_does_not_starve():
    assembler = WindowAssembler(WindowConfig(size=8, overlap=2, max_pending=3))
    for i in range(20):
        assembler.push(keyframe(i))
    assert assembler.ready() and assembler.pending == 8
    first = assembler.take()
    assert first.keyframes[0].id == 0 and first.keyframes[-1].id == 19


def test_hold_keeps_the_overlap_the_window_had():
    assembler = WindowAssembler(WindowConfig(size=4, overlap=2))
    windows = []
    for i in range(8):
        assembler.push(keyframe(i))
        if assembler.ready():
            windows.append(assembler.take())
            if len(windows) == 2:
                assembler.hold(windows[1])
    assert [ids(w) for w in windows] == [[0, 1, 2, 3], [2, 3, 4, 5], [2, 3, 6, 7]]


def test_a_window_reaches_to_the_newest_keyframe():
    assembler = WindowAssembler(WindowConfig(size=4, overlap=2))
    for i in range(4):
        assembler.push(keyframe(i))
    assembler.take()
    for i in range(4, 9):
        assembler.push(keyframe(i))
    late = assembler.take()
    assert late.overlap == 2 and ids(late)[:2] == [2, 3] and ids(late)[-1] == 8 and len(late.keyframes) == 4
    assert assembler.pending == 0 and assembler.thinned == 3


def test_reset():
    assembler = WindowAssembler(WindowConfig(size=4, overlap=2))
    for i in range(4):
        assembler.push(keyframe(i))
    assembler.take()
    assembler.push(keyframe(4))
    assembler.reset()
    assert assembler.take(final=True) is None
    for i in range(4):
        assembler.push(keyframe(i))
    window = assembler.take()
    assert window.index == 0 and window.overlap == 0


@pytest.mark.parametrize("max_pending", [4, 1000])
def test_two_threads(max_pending):
    assembler = WindowAssembler(WindowConfig(size=4, overlap=2, max_pending=max_pending))
    windows, done = [], threading.Event()

    def work():
        while not done.is_set() or assembler.ready():
            if assembler.ready():
                windows.append(assembler.take())

    worker = threading.Thread(target=work)
    worker.start()
    for i in range(400):
        assembler.push(keyframe(i))
    done.set()
    worker.join()
    assert None not in windows
    new = [k for w in windows for k in ids(w)[w.overlap :]]
    assert new == sorted(set(new)) and len(new) + assembler.thinned + assembler.pending == 400
