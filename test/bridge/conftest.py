"""Messages of both worlds for the decoder tests: rosbags' dataclasses and rclpy's classes."""

import array
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)


def _rosbags_blank(name: str) -> Any:
    """A zero-filled message, its arrays as numpy arrays, as deserialising makes them."""
    values: dict[str, Any] = {}
    for field, (node, detail) in STORE.fielddefs[name][1]:
        kind = node.name
        if kind == "NAME":
            values[field] = _rosbags_blank(detail)
        elif kind == "BASE":
            values[field] = "" if detail[0] == "string" else (False if detail[0] == "bool" else 0)
        else:
            (inner, inner_detail), count = detail
            if inner.name == "BASE" and inner_detail[0] != "string":
                values[field] = np.zeros(count, inner_detail[0])
            else:
                values[field] = []
    return STORE.types[name](**values)


def _ros_blank(name: str) -> Any:
    package, _, short = name.split("/")
    return getattr(import_module(f"{package}.msg"), short)()


class MessageMaker:
    """`maker("sensor_msgs/Image", width=4, data=b"...")`: nested messages as dicts, their lists as lists of dicts."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._blank: Callable[[str], Any] = _rosbags_blank if kind == "rosbags" else _ros_blank

    def __call__(self, name: str, **fields: Any) -> Any:
        package, short = name.split("/")
        return self._fill(self._blank(f"{package}/msg/{short}"), fields)

    def _fill(self, msg: Any, fields: dict[str, Any]) -> Any:
        for key, value in fields.items():
            if isinstance(value, dict):
                self._fill(getattr(msg, key), value)
            elif key == "fields":
                setattr(msg, key, [self._fill(self._blank("sensor_msgs/msg/PointField"), each) for each in value])
            elif key == "data":
                raw = value.tobytes() if isinstance(value, np.ndarray) else bytes(value)
                setattr(
                    msg,
                    key,
                    np.frombuffer(raw, np.uint8) if self.kind == "rosbags" else array.array("B", raw),
                )
            elif key in ("d", "k", "r", "p", "covariance"):
                numbers = np.asarray(value, np.float64)
                setattr(msg, key, numbers if self.kind == "rosbags" else numbers.tolist())
            else:
                setattr(msg, key, value)
        return msg


@pytest.fixture(scope="session", params=["rosbags", "rclpy"])
def maker(request: pytest.FixtureRequest) -> MessageMaker:
    if request.param == "rclpy":
        pytest.importorskip("sensor_msgs.msg", reason="rclpy's messages need ROS (scripts/with_env)")
    return MessageMaker(request.param)


@pytest.fixture(scope="session")
def ros_maker() -> MessageMaker:
    pytest.importorskip("sensor_msgs.msg", reason="rclpy's messages need ROS (scripts/with_env)")
    return MessageMaker("rclpy")
