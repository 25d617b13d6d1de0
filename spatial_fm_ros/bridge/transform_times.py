"""Which moving transforms are believed: one with a wrong stamp would shut out all that follow in TF's buffer."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from spatial_fm_ros.bridge.decode import stamp_ns
from spatial_fm_ros.bridge.unstamped import Unstamped
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.intake.stamps import TimeLine

#: Frames whose time is watched; those that were silent longest are forgotten first.
MOST_FRAMES = 10_000


class TransformTimes:
    """A line of time for every moving frame. For one thread."""

    def __init__(self, unstamped: Unstamped, on_bad: Callable[[str, Exception], None]) -> None:
        """`on_bad` gets 'tf' and why a transform is left out."""
        self._unstamped = unstamped
        self._on_bad = on_bad
        self._lines: OrderedDict[str, TimeLine[None]] = OrderedDict()

    def believed(self, transforms: list[Any]) -> tuple[list[Any], bool]:
        """The transforms that are of this time, stamped where they had no stamp, and whether time went back for one:
        what is kept of it is then to be forgotten."""
        taken, back = [], False
        for transform in transforms:
            try:
                went_back = self._judge(transform)
            except InputError as error:
                self._on_bad("tf", error)
                continue
            taken.append(transform)
            back |= went_back
        return taken, back

    def _judge(self, transform: Any) -> bool:
        self._unstamped.stamp("tf", transform.header)
        stamp, child = stamp_ns(transform.header), str(transform.child_frame_id)
        line = self._lines.setdefault(child, TimeLine(f"The transform of '{child[:100]}'"))
        self._lines.move_to_end(child)
        while len(self._lines) > MOST_FRAMES:
            self._lines.popitem(last=False)
        newest = line.newest_ns
        admitted = line.admit(stamp, time.monotonic_ns(), None).or_raise()
        return admitted.moved and newest is not None and stamp < newest
