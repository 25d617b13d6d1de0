"""The time of /clock: one wrong message moves nothing, a simulation that was set back is followed."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from spatial_fm_ros.bridge import clock
from spatial_fm_ros.bridge.clock import _WatchedClock

S = 1_000_000_000


@pytest.fixture
def heard(monkeypatch):
    """A watched clock by a steady time that the test sets: `heard.at(steady_s, stamp_s)`."""

    class Heard:
        now = 0.0

        def __init__(self):
            self.seen, self.bad = [], []
            self.watched = _WatchedClock(
                lambda msg: self.seen.append(msg.clock.sec), lambda role, error: self.bad.append(f"{role}: {error}")
            )

        def at(self, steady_s, stamp_s):
            self.now = steady_s
            self.watched.hear(SimpleNamespace(clock=SimpleNamespace(sec=stamp_s, nanosec=0)))

    heard = Heard()
    monkeypatch.setattr(clock.time, "monotonic_ns", lambda: round(heard.now * S))
    return heard


def test_some_wrong_messages_move_nothing(heard):
    for i in range(5):
        heard.at(i, 100 + i)
    for k in range(5):
        heard.at(4.01 + k / 1000, 90_000 + k)
    heard.at(4.1, 0)
    heard.watched.settle()
    for i in range(5, 10):
        heard.at(i, 100 + i)
    assert heard.seen == list(range(100, 110))
    assert len(heard.bad) == 6 and heard.bad[0].startswith("clock: The time of /clock is stamped 89896 s after")


def test_a_simulation_that_was_set_back_is_followed_even_when_it_says_so_once(heard):
    for i in range(5):
        heard.at(i, 100 + i)
    heard.at(5, 3)
    heard.now = 6.0
    heard.watched.settle()
    assert heard.seen[-1] == 104
    heard.now = 7.1
    heard.watched.settle()
    assert heard.seen[-1] == 3
    heard.at(8, 4)
    assert heard.seen[-2:] == [3, 4]


def test_a_clock_that_trembles_never_goes_back(heard):
    for i, stamp in enumerate((100, 101, 100, 102)):
        heard.at(i, stamp)
    assert heard.seen == [100, 101, 102]
