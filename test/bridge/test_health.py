"""Counts of messages that cannot be used, and how they are told."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from spatial_fm_ros.bridge.health import MOST_REASONS, InputHealth
from spatial_fm_ros.core.errors import InputError


@pytest.fixture
def node():
    lines: list[str] = []
    log = SimpleNamespace(warning=lines.append)
    return SimpleNamespace(get_logger=lambda: log, lines=lines)


def told(health, node, role, error):
    try:
        raise error
    except Exception as caught:
        health.tell_bad(node, role, caught)


def test_what_a_message_says_is_safe_on_a_terminal(node):
    health = InputHealth()
    told(health, node, "tf", InputError("The frame '\x1b]0;owned\x07\nnext' is none."))
    told(health, node, "imu", RuntimeError("\x1b[2J"))
    assert r"The frame '\x1b]0;owned\x07\x0anext' is none." in node.lines[0] and "Traceback" in node.lines[1]
    assert not any("\x1b" in text for text in (*node.lines, *health.bad))


def test_one_inputs_many_reasons_hide_no_other_inputs_fault(node):
    health = InputHealth()
    for i in range(200):
        told(health, node, "tf", InputError(f"The frame '{chr(0x4E00 + i)}' is none."))
    told(health, node, "odometry", InputError("Not a unit quaternion."))
    assert health.bad["odometry: Not a unit quaternion."] == 1 and "Not a unit quaternion" in node.lines[-1]
    assert len(health.bad) == MOST_REASONS + 2 and health.bad["tf: other reasons"] == 200 - MOST_REASONS
