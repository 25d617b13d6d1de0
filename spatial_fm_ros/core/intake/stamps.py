"""Telling one wrong stamp from time that really went elsewhere."""

from __future__ import annotations


class StampWatch:
    """Watches the stamps that enter a buffer of `span_ns`.

    A stamp further than the span from the newest one is either broken (a sender without a clock, a
    damaged message) or the first after a long gap or a jump in time. Taken at its word, a single broken
    one in the future would empty the buffer and shut out everything that follows. So it is left out, and
    only a second one that carries on from there starts the buffer anew.
    """

    def __init__(self, span_ns: int) -> None:
        self._span_ns = span_ns
        self._outside_ns: int | None = None

    def judge(self, stamp_ns: int, newest_ns: int | None) -> str:
        """'take' it, 'drop' it, or 'restart': empty the buffer, then take it."""
        if newest_ns is None or abs(stamp_ns - newest_ns) <= self._span_ns:
            self._outside_ns = None
            return "take"
        before, self._outside_ns = self._outside_ns, stamp_ns
        if before is not None and 0 < stamp_ns - before <= self._span_ns:
            self._outside_ns = None
            return "restart"
        return "drop"
