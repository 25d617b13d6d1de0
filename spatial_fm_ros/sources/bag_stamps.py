"""Stamps of a bag's messages: those that were never filled in are replaced by the time of recording, and named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spatial_fm_ros.bridge.decode import stamp_ns
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.sources.base import NS

#: No message takes so long: stamps that are further from their times of recording are of another clock.
_OTHER_CLOCK_NS = 10 * NS
#: As many messages with one and the same stamp are no accident.
_SAME = 3


@dataclass
class _Seen:
    count: int = 0
    zero: int = 0
    first: int = 0
    varies: bool = False
    later_ns: int = 0  # the newest stamp than its time of recording


class Stamps:
    """Gives every message its stamp."""

    def __init__(self) -> None:
        self._topics: dict[str, _Seen] = {}

    def of(self, topic: str, header: Any, recorded_ns: int) -> int:
        """The header's stamp in ns; where it is 0, the time of recording, on the clock of the topic's other stamps.

        Raises InputError for one that is none.
        """
        stamp = stamp_ns(header)
        seen = self._topics.setdefault(topic, _Seen())
        seen.count += 1
        if stamp == 0:
            seen.zero += 1
            return recorded_ns + (seen.later_ns if abs(seen.later_ns) > _OTHER_CLOCK_NS else 0)
        seen.later_ns = stamp - recorded_ns
        seen.first = seen.first or stamp
        seen.varies |= stamp != seen.first
        return stamp

    def notes(self) -> list[str]:
        """A sentence for each topic whose stamps are wrong."""
        found = []
        for topic, seen in self._topics.items():
            if seen.zero:
                found.append(
                    f"The stamps of '{shown(topic)}' are 0 in {seen.zero} of {seen.count} messages: the time of "
                    "recording stands for them, which is later than what they show; let their driver stamp them."
                )
            stamped = seen.count - seen.zero
            if stamped >= _SAME and not seen.varies:
                found.append(
                    f"All {stamped} messages of '{shown(topic)}' carry the same stamp, {seen.first / NS:.3f} s: their "
                    "times are not known; let their driver stamp each one."
                )
        return found
