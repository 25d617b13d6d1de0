"""Messages with stamp 0."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from spatial_fm_ros.bridge.unstamped import REMARKED_S, Unstamped


def test_a_few_at_the_beginning_are_no_warning_for_ever() -> None:
    lines: list[str] = []
    clock = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=7, to_msg=lambda: Time(sec=7)))
    node = SimpleNamespace(get_clock=lambda: clock, get_logger=lambda: SimpleNamespace(warning=lines.append))
    now = [100.0]
    unstamped = Unstamped(node, lambda: now[0])  # type: ignore[arg-type]
    header = Header()
    unstamped.stamp("imu", header)
    assert header.stamp.sec == 7 and len(lines) == 1
    assert [role for role, _ in unstamped.remarks] == ["imu"]
    now[0] += REMARKED_S + 1.0
    assert not unstamped.remarks
    unstamped.stamp("imu", Header())
    assert "2 messages came with stamp 0" in unstamped.remarks[0][1]
