"""Which stamps move time: late, repeated and broken ones must not."""

import pytest

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from spatial_fm_ros.bridge.clock import StampWatch
from spatial_fm_ros.core.errors import InputError

S = 1_000_000_000


def test_rising_and_slightly_late_stamps_are_no_jump() -> None:
    watch = StampWatch()
    assert not any(watch.jumped_back(stamp) for stamp in (10 * S, 11 * S, 10 * S + S // 2, 12 * S, 12 * S))


def test_a_bag_that_starts_over_is_a_jump_once() -> None:
    watch = StampWatch()
    watch.jumped_back(100 * S)
    assert [watch.jumped_back(stamp) for stamp in (1 * S, 2 * S, 3 * S, 4 * S)] == [False, False, True, False]


def test_single_old_stamps_are_no_jump() -> None:
    watch = StampWatch()
    assert not any(watch.jumped_back(stamp) for stamp in (100 * S, 1 * S, 101 * S, 2 * S, 102 * S, 3 * S, 103 * S))


def test_one_stamp_far_ahead_is_left_out_and_moves_nothing() -> None:
    watch = StampWatch()
    watch.jumped_back(100 * S)
    with pytest.raises(InputError, match="after the one before"):
        watch.jumped_back(9000 * S)
    assert not any(watch.jumped_back(stamp) for stamp in (101 * S, 102 * S, 103 * S, 104 * S))


def test_after_a_long_silence_the_second_stamp_is_believed() -> None:
    watch = StampWatch()
    watch.jumped_back(100 * S)
    with pytest.raises(InputError):
        watch.jumped_back(900 * S)
    assert not watch.jumped_back(901 * S)
    assert not watch.jumped_back(902 * S)
