"""Which stamps move time: no handful of wrong ones does, a line that lasts does."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.intake.stamps import PATIENCE_NS, TimeLine

S, MS = 1_000_000_000, 1_000_000
START = 1_700_000_000 * S


class Heard:
    """What a line let through. Messages as (arrival, stamp)."""

    def __init__(self, hold: int = 0) -> None:
        self.line: TimeLine[int] = TimeLine("A message", hold)
        self.taken: list[int] = []
        self.refused: list[str] = []
        self.moves: list[tuple[int, int]] = []  # arrival, line

    def hear(self, arrived: int | None, stamp: int) -> None:
        admitted = self.line.admit(stamp, arrived, stamp)
        self.refused += [admitted.refused] if admitted.refused else []
        self.taken += admitted.items
        if admitted.moved:
            self.moves.append((arrived or 0, admitted.line))

    def play(self, first_stamp: int, first_arrival: int, seconds: float, hz: float = 20.0, rate: float = 1.0) -> None:
        for i in range(round(seconds * hz)):
            self.hear(first_arrival + round(i * S / hz / rate), first_stamp + round(i * S / hz))


@settings(deadline=None, max_examples=60)
@given(
    hz=st.sampled_from([2.0, 10.0, 50.0]),
    step_s=st.floats(0.5, 2.0),
    attacks=st.sets(st.integers(5, 30), max_size=4),
)
def test_wrong_stamps_that_go_ahead_step_by_step_draw_nothing_along(
    hz: float, step_s: float, attacks: set[int]
) -> None:
    """Five in a row, each a little ahead of the one before: some may be taken for late or early ones, that is all."""
    heard, good = Heard(), []
    for i in range(round(35 * hz)):
        arrived, stamp = round(i * S / hz), START + round(i * S / hz)
        good.append(stamp)
        heard.hear(arrived, stamp)
        if i % round(hz) == 0 and i // round(hz) in attacks:
            for k in range(5):
                heard.hear(arrived + (k + 1) * 2 * MS, stamp + round((k + 1) * step_s * S))
    assert not heard.moves and set(good) <= set(heard.taken)


far = st.one_of(
    st.integers(-(10**19), 10**19).filter(lambda x: abs(x) > 10 * S),
    st.sampled_from([-START, 37 * S, -37 * S, 3600 * S, 86400 * S, 10**18]),
)


@settings(deadline=None, max_examples=150)
@given(
    timed=st.booleans(),
    hz=st.sampled_from([2.0, 10.0, 50.0]),
    attacks=st.dictionaries(
        st.integers(0, 79), st.tuples(far, st.integers(1, 5), st.integers(-3 * S, 3 * S)), max_size=8
    ),
)
def test_no_handful_of_wrong_stamps_moves_time(
    timed: bool, hz: float, attacks: dict[int, tuple[int, int, int]]
) -> None:
    """A good stream with bursts of up to five wrong stamps, each growing by some step: the good stream gets through."""
    heard, good = Heard(hold=100), []
    far_is = 70 * S if not timed else 10 * S  # without arrivals a gap of a minute is a gap
    for i in range(-round(3 * hz), 80):
        arrived, stamp = round((i + 200) * S / hz), START + round(i * S / hz)
        good.append(stamp)
        heard.hear(arrived if timed else None, stamp)
        offset, count, step = attacks.get(i, (0, 0, 0))
        for k in range(count):
            wrong = stamp + offset + k * step
            if abs(wrong - stamp) > far_is:
                heard.hear(arrived + (k + 1) * 2 * MS if timed else None, wrong)
    assert heard.taken == good and not heard.moves


@settings(deadline=None, max_examples=100)
@given(
    offset=far,
    hz=st.sampled_from([5.0, 30.0, 200.0]),
    rate=st.sampled_from([0.3, 1.0, 10.0]),
    hold=st.sampled_from([0, 1000]),
)
def test_a_line_that_lasts_is_taken_in_time(offset: int, hz: float, rate: float, hold: int) -> None:
    heard = Heard(hold)
    heard.play(START, 0, 20.0, hz, rate)
    before = len(heard.taken)
    arrival = round(20.0 * S / rate) + 10 * MS
    heard.play(START + 20 * S + offset, arrival, 8.0, hz, rate)
    ((moved, line),) = heard.moves
    assert line == 2
    assert 1.9 * S <= (moved - arrival) * max(1.0, rate) <= 2.6 * S / min(1.0, rate)
    late = len(heard.taken) - before
    assert late == round(8.0 * hz) if hold else late >= 5.0 * hz - 3
    assert heard.taken[-1] == START + 20 * S + offset + round((8.0 * hz - 1) * S / hz)


def test_two_senders_at_once_change_nothing() -> None:
    """For a minute, ten wrong messages to each good one: the line that was there stays."""
    heard = Heard()
    heard.play(START, 0, 3.0)
    for i in range(600):
        heard.hear(3 * S + i * 100 * MS, START + 3 * S + i * 100 * MS)
        for k in range(10):
            heard.hear(3 * S + i * 100 * MS + k * 9 * MS, 3600 * S + START + i * 100 * MS + k * 9 * MS)
    assert not heard.moves and len(heard.taken) == 60 + 600 and len(heard.refused) == 6000
    assert "stamped 3597 s after the newest one" in heard.refused[500]


@pytest.mark.parametrize("wrong", ["arrival", "around zero"])
def test_a_few_other_stamps_take_over_no_slow_simulation(wrong: str) -> None:
    """Simulated time passes at 0.4 of arrival; from the first second on every fifth message has another stamp, which
    alone would seem to last longer."""
    heard, good = Heard(), []
    for i in range(2000):
        arrived, stamp = 5000 * S + 25 * i * MS, 10 * S + 10 * i * MS
        good.append(stamp)
        heard.hear(arrived, stamp)
        if i > 20 and i % 5 == 0:
            heard.hear(arrived, START + arrived if wrong == "arrival" else -S * (i % 2))
    assert not heard.moves and heard.taken == good


def test_a_line_that_goes_on_is_known_again() -> None:
    heard = Heard()
    heard.play(START, 0, 5.0)
    heard.play(START + 3600 * S, 5 * S, 30.0)  # a poisoned sender for half a minute
    heard.play(START + 35 * S, 35 * S, 5.0)
    heard.play(START, 40 * S, 5.0)  # starts over: no line of before
    lines = [line for _, line in heard.moves]
    assert lines[1] == 1 and len(set(lines)) == 3


@pytest.mark.parametrize("first", [10**18, 0, START + 3600 * S])
def test_a_wrong_first_stamp_gives_way_at_once(first: int) -> None:
    for arrived in (0, None):
        heard = Heard(hold=100)
        heard.hear(arrived, first)
        for i in range(50):
            heard.hear(None if arrived is None else (i + 1) * 50 * MS, START + i * 50 * MS)
        assert heard.taken == [first, *(START + i * 50 * MS for i in range(50))] or arrived is None
        assert heard.taken[-1] == START + 49 * 50 * MS


def test_late_repeated_and_paused_stamps_are_of_the_line() -> None:
    heard = Heard()
    heard.play(START, 0, 5.0)
    for stamp in (START + 4 * S, START + 4 * S, START + 5 * S, START + 3 * S + 500 * MS):
        heard.hear(6 * S, stamp)
    heard.play(START + 5 * S, 100 * S, 3.0)  # a bag that was paused
    heard.play(START + 120 * S, 222 * S, 3.0)  # a camera that was silent
    assert not heard.refused and not heard.moves


@pytest.mark.parametrize("period_s", [5.0, 100.0, 4000.0])
def test_a_slow_camera_is_followed(period_s: float) -> None:
    """Pictures minutes apart; without arrivals (a folder) some of the first are left out."""
    for timed in (True, False):
        heard = Heard()
        for i in range(40):
            heard.hear(round(i * period_s * S) if timed else None, START + round(i * period_s * S))
        assert len(heard.refused) <= (0 if timed else 6) and heard.taken[-1] == START + round(39 * period_s * S)


@pytest.mark.parametrize(("period_s", "rate"), [(5.0, 10.0), (60.0, 100.0)])
def test_a_slow_camera_in_a_bag_that_was_played_fast_is_followed(period_s: float, rate: float) -> None:
    heard = Heard()
    heard.play(START, 0, 40 * period_s, 1.0 / period_s, rate)
    assert len(heard.refused) <= 2 and len(heard.taken) >= 38


def test_what_came_ever_later_and_catches_up_is_of_the_line() -> None:
    """A network that was slow for a while: by and by 8 s late, and in time again within 10 s."""
    heard = Heard()
    for i in range(600):
        t = i / 20.0
        late = min(8.0 * t / 10.0, 8.0) if t < 12.0 else max(0.0, 8.0 - 0.8 * (t - 12.0) / 0.2)
        heard.hear(round((t + late) * S), START + round(t * S))
    assert not heard.refused and not heard.moves


def test_short_recordings_that_start_over_are_followed() -> None:
    heard = Heard()
    for k in range(3):
        heard.play(START, k * S, 4.0, hz=5.0, rate=4.0)
    assert len(heard.moves) == 2


def test_growing_stamps_cost_neither_memory_nor_shut_anything_out() -> None:
    """10 kHz of stamps that grow by days: the good ones come through; alone, one is believed now and then."""
    heard = Heard(hold=100)
    heard.play(START, 0, 3.0)
    heard.refused = []
    tracemalloc.start()
    for i in range(20_000):
        heard.hear(3 * S + i * MS // 10, START + i * 86400 * S)
        heard.refused.clear()
        if i % 500 == 0:
            heard.hear(3 * S + i * MS // 10, START + 3 * S + i * MS // 10)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert not heard.moves and size < 300_000
    heard.hear(20 * S, 7)
    heard.hear(20 * S + PATIENCE_NS, 10**19)
    assert len(heard.moves) == 1 and heard.taken[-1] in (7, 10**19)


def test_a_clock_that_says_a_new_time_once_is_believed_after_a_while() -> None:
    heard = Heard()
    heard.play(START, 0, 3.0)
    heard.hear(3 * S, 3 * S)
    assert heard.line.settle(4 * S) is None
    moved = heard.line.settle(5 * S + 1)
    assert moved is not None and moved.moved and moved.items == (3 * S,)
    heard.hear(6 * S, START)  # one wrong one, and the clock goes on
    heard.hear(6 * S, 5 * S)
    assert heard.line.settle(9 * S) is None
