"""What every kind of bag file offers to bag_files.py: its channels, and their messages in the order of time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: Serialisations of messages that are read.
CDR, ROS1 = "cdr", "ros1"


@dataclass(frozen=True)
class Channel:
    """Messages of one topic and type in one file.

    encoding: how they are serialised. count: None = unknown. problem: what is wrong with their definition, if anything.
    """

    id: int
    topic: str
    type: str
    encoding: str
    count: int | None
    problem: str = ""


Raw = tuple[Channel, int, bytes]  # channel, recording time ns, serialised message


class Storage(Protocol):
    """An open file of a bag. start_ns, end_ns: first and after the last recording time, both 0 without messages.

    notes: sentences about what is missing of it.
    """

    path: Path
    channels: list[Channel]
    start_ns: int
    end_ns: int
    notes: list[str]

    def messages(self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None) -> Iterator[Raw]:
        """Messages of some channels with start_ns <= time < stop_ns. May raise anything where the file is damaged."""

    def close(self) -> None:
        """Give the file back. Safe to call twice."""


def within(time_ns: int, start_ns: int | None, stop_ns: int | None) -> bool:
    return (start_ns is None or time_ns >= start_ns) and (stop_ns is None or time_ns < stop_ns)


def full_type(name: str) -> str:
    """A message type as ROS 2 writes it: sensor_msgs/Image is sensor_msgs/msg/Image."""
    package, slash, last = name.partition("/")
    return f"{package}/msg/{last}" if slash and "/" not in last else name
