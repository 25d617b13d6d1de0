"""Which stamps are believed: one wrong one moves nothing, time that really went elsewhere is followed.

Every input has a line of time of its own. Its stamps go on about as fast as its messages arrive; a stamp that does
not belong to the line is left out, whatever it says. Several such stamps that belong together become the new line
once they have lasted and the old one has fallen silent: a sender that was restarted, a bag that starts over.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from spatial_fm_ros.core.errors import InputError

T = TypeVar("T")
NS = 1_000_000_000

#: A new line of time is believed when it has lasted this long, with so many messages.
LASTING_NS, LEAST = 2 * NS, 3
#: A stamp may be this much older than the newest of its line, and this much newer than arrival lets expect.
LATE_NS, AHEAD_NS = 2 * NS, 2 * NS
#: What comes ever later may skip so much to come in time again.
CATCHING_UP_NS = 8 * NS
#: Both where nobody tells when messages arrived: gaps in a recording and parts in another order are no faults.
UNTIMED_NS = 60 * NS
#: Messages of which the line's place is the median.
RECENT = 400
#: Without times of arrival, so many messages in a row make a line.
LEAST_UNTIMED = 6
#: A line that has lasted less than `LASTING_NS` gives way to one that has lasted this much longer.
LONGER_NS = NS // 10
#: When stamps belong to no line at all, the newest begins one after this long: nothing is shut out for ever.
PATIENCE_NS = 10 * NS
#: Lines that are watched besides, and lines of before that would be known again.
CANDIDATES, REMEMBERED = 4, 8
#: Stamps may pass so much faster than messages arrive (a bag read at once), and by this much faster than they did.
FASTEST, HASTE = 1e6, 1.2


@dataclass(eq=False)
class _Line(Generic[T]):
    """Stamps that belong together."""

    number: int
    first_ns: int
    newest_ns: int
    first_arrived_ns: int | None
    newest_arrived_ns: int | None
    untimed_ns: int
    usual_step_ns: float = 0.0
    count: int = 1
    anchor: tuple[int, int] | None = None  # stamp and arrival of a recent message in the middle of the others
    lead: tuple[int, int] | None = None  # of those, the one that came with the least delay
    recent: list[tuple[int, int]] = field(default_factory=list)  # the same of those since
    waiting: deque[T] = field(default_factory=deque)

    def add(self, stamp_ns: int, arrived_ns: int | None) -> None:
        self.newest_ns = max(self.newest_ns, stamp_ns)
        self.first_ns = min(self.first_ns, stamp_ns)
        if arrived_ns is not None:
            self.newest_arrived_ns = arrived_ns
            self._anchor(stamp_ns, arrived_ns)
        self.count += 1
        self.usual_step_ns = (self.newest_ns - self.first_ns) / (self.count - 1)

    def _anchor(self, stamp_ns: int, arrived_ns: int) -> None:
        """What is ahead by a little, time and again, may not draw the line along: it hangs on a median."""
        if len(self.recent) < RECENT:
            self.recent.append((stamp_ns, arrived_ns))
        assert self.anchor is not None
        rate = self.rate
        if max(1.0, rate) * (arrived_ns - self.anchor[1]) >= LASTING_NS:
            self.recent.sort(key=lambda each: each[0] - rate * each[1])
            self.anchor = self.recent[(len(self.recent) - 1) // 2]
            if self.lead is None or self.anchor[0] >= self._led_to(self.anchor[1]):
                self.lead = self.anchor
            self.recent = []

    def _led_to(self, arrived_ns: int) -> float:
        """The stamp of a message that comes then with no more delay than others had: what came late catches up."""
        if self.lead is None:
            return -math.inf
        return self.lead[0] + max(1.0, self.rate) * (arrived_ns - self.lead[1])

    @property
    def rate(self) -> float:
        """How fast stamps pass, per time of arrival; 1 until that is known."""
        if self.first_arrived_ns is None or self.newest_arrived_ns is None:
            return 1.0
        stamps, arrivals = self.newest_ns - self.first_ns, self.newest_arrived_ns - self.first_arrived_ns
        if self.anchor is not None and self.anchor[0] - self.first_ns >= LASTING_NS:  # no wrong one is in it
            stamps, arrivals = self.anchor[0] - self.first_ns, self.anchor[1] - self.first_arrived_ns
        return min(FASTEST, stamps / max(1, arrivals)) if stamps >= LASTING_NS else 1.0

    def reaches(self, stamp_ns: int, arrived_ns: int | None) -> bool:
        """The stamp may belong to this line."""
        if arrived_ns is None or self.anchor is None:
            return -self.untimed_ns <= stamp_ns - self.newest_ns <= max(self.untimed_ns, 3 * self.usual_step_ns)
        passed = max(1.0, self.rate) * max(0, arrived_ns - self.anchor[1])
        now_ns = min(self.newest_ns, self.anchor[0] + passed)
        caught_up_ns = min(self._led_to(arrived_ns), now_ns + CATCHING_UP_NS)
        until_ns = max(self.anchor[0] + HASTE * passed, caught_up_ns) + AHEAD_NS
        if self.newest_ns - self.first_ns < LASTING_NS:  # how fast stamps pass is not known yet
            until_ns = max(until_ns, self.newest_ns + 3 * self.usual_step_ns)
        return now_ns - LATE_NS <= stamp_ns <= until_ns

    def resumed_by(self, other: _Line[T]) -> bool:
        """The other line goes on where this one was left, or would be by now."""
        if self.newest_arrived_ns is None or other.first_arrived_ns is None:
            return False
        passed = self.rate * (other.first_arrived_ns - self.newest_arrived_ns)
        return -LATE_NS <= other.first_ns - self.newest_ns <= AHEAD_NS + HASTE * passed

    def lasted_ns(self, rate: float) -> float:
        """How long by its stamps, but no longer than arrival says at that rate, or at 1 where that is slower."""
        stamps = self.newest_ns - self.first_ns
        if self.first_arrived_ns is None or self.newest_arrived_ns is None:
            return stamps
        return min(stamps, max(1.0, rate) * (self.newest_arrived_ns - self.first_arrived_ns))


@dataclass(frozen=True, eq=False)
class Admitted(Generic[T]):
    """What may be used now: the item given last, and those that waited with it; none where `refused` says why.

    moved: time went elsewhere, what is older belongs to another line; `line` is the one that is believed now, `before`
    the one that was; `was_young`: it had hardly begun.
    """

    items: tuple[T, ...]
    moved: bool = False
    line: int = 0
    before: int = 0
    was_young: bool = False
    refused: str = ""

    def or_raise(self) -> Admitted[T]:
        """Raises InputError where the item is not used."""
        if self.refused:
            raise InputError(self.refused)
        return self


class TimeLine(Generic[T]):
    """The line of time of one input. Not thread-safe. Constant time and memory, whatever comes.

    Where times of arrival are known (any steady clock; a bag's recording times), "lasting" is by them, so that many
    messages at once prove nothing; else by the stamps themselves. `number` tells lines apart: one that
    was left and goes on later has its number again.
    """

    def __init__(self, what: str, hold: int = 0, untimed_ns: int = UNTIMED_NS) -> None:
        """what: the input in words, as 'An odometry message'. hold: so many items of a new line wait for it to last;
        without, they are left out. untimed_ns: tolerance where nobody tells of arrivals."""
        self._what = what
        self._untimed_ns = untimed_ns
        self._hold = hold
        self._line: _Line[T] | None = None
        self._candidates: list[_Line[T]] = []
        self._past: deque[_Line[T]] = deque(maxlen=REMEMBERED)
        self._lines = 0
        self._refused = 0  # in a row

    @property
    def number(self) -> int:
        """Of the line that is believed now; 0 before the first."""
        return self._line.number if self._line is not None else 0

    @property
    def newest_ns(self) -> int | None:
        return self._line.newest_ns if self._line is not None else None

    def admit(self, stamp_ns: int, arrived_ns: int | None, item: T) -> Admitted[T]:
        """Judge one message's stamp."""
        line = self._line
        if line is None:
            self._line = self._begun(stamp_ns, arrived_ns)
            return Admitted((item,), line=self._line.number)
        if line.reaches(stamp_ns, arrived_ns) and not self._is_nearer_another(stamp_ns, arrived_ns):
            line.add(stamp_ns, arrived_ns)
            self._refused = 0
            if not self._is_young(line):
                self._candidates.clear()
            return Admitted((item,), line=line.number)
        self._refused += 1
        candidate = self._candidate(stamp_ns, arrived_ns)
        candidate.waiting.append(item)
        while len(candidate.waiting) > max(1, self._hold):
            candidate.waiting.popleft()
        if self._is_believed(candidate, line) or self._is_lost(line, arrived_ns):
            return self._move_to(candidate, line)
        return Admitted((), line=line.number, refused=self._sentence(stamp_ns - line.newest_ns))

    def settle(self, arrived_ns: int) -> Admitted[T] | None:
        """For senders that may say a new time once and then rest: the newest other stamp is believed when the old
        line has been silent since, for long enough. To be called now and then."""
        line = self._line
        if line is None or not self._candidates or line.newest_arrived_ns is None:
            return None
        newest = self._candidates[-1]
        since = newest.first_arrived_ns
        if since is None or line.newest_arrived_ns >= since or arrived_ns - since < LASTING_NS:
            return None
        return self._move_to(newest, line)

    def begin_anew(self) -> None:
        """Whatever comes next is believed."""
        if self._line is not None:
            self._past.append(self._line)
        self._line, self._candidates, self._refused = None, [], 0

    # -- inside ------------------------------------------------------------------------------

    def _begun(self, stamp_ns: int, arrived_ns: int | None) -> _Line[T]:
        self._lines += 1
        line: _Line[T] = _Line(self._lines, stamp_ns, stamp_ns, arrived_ns, arrived_ns, self._untimed_ns)
        if arrived_ns is not None:
            line.anchor = (stamp_ns, arrived_ns)
        return line

    def _candidate(self, stamp_ns: int, arrived_ns: int | None) -> _Line[T]:
        """The line besides that a stamp belongs to; the newest is the last."""
        for each in self._candidates:
            if each.reaches(stamp_ns, arrived_ns):
                each.add(stamp_ns, arrived_ns)
                self._candidates.remove(each)
                self._candidates.append(each)
                return each
        assert self._line is not None
        fresh = self._begun(stamp_ns, arrived_ns)
        # Pictures taken minutes apart, or a slow camera in a bag that was played fast: so far it may go on.
        fresh.usual_step_ns = max(0, stamp_ns - self._line.newest_ns)
        self._candidates = [*self._candidates[-(CANDIDATES - 1) :], fresh]
        return fresh

    def _is_nearer_another(self, stamp_ns: int, arrived_ns: int | None) -> bool:
        """It could be a late one, but goes on from others that come besides: time that started over comes near."""
        assert self._line is not None
        late = self._line.newest_ns - stamp_ns
        return late > 0 and any(
            abs(each.newest_ns - stamp_ns) < late and each.reaches(stamp_ns, arrived_ns) for each in self._candidates
        )

    @staticmethod
    def _is_young(line: _Line[T]) -> bool:
        return line.lasted_ns(line.rate) < LASTING_NS

    def _is_believed(self, candidate: _Line[T], line: _Line[T]) -> bool:
        """It has lasted, and the old line, if that is one, has been silent meanwhile."""
        timed = candidate.first_arrived_ns is not None and line.newest_arrived_ns is not None
        if candidate.count < (LEAST if timed else LEAST_UNTIMED):
            return False
        lasted = candidate.lasted_ns(line.rate)
        if self._is_young(line) and candidate.count > line.count:  # a few among many are not the sender's
            return lasted > line.lasted_ns(line.rate) + LONGER_NS
        return lasted >= LASTING_NS and self._is_silent(line, candidate.newest_arrived_ns, LASTING_NS)

    def _is_lost(self, line: _Line[T], arrived_ns: int | None) -> bool:
        """Nothing has come of the believed line for long, and others do come."""
        if arrived_ns is None or line.newest_arrived_ns is None:
            return False
        return self._refused >= LEAST and self._is_silent(line, arrived_ns, PATIENCE_NS)

    @staticmethod
    def _is_silent(line: _Line[T], now_ns: int | None, least_ns: int) -> bool:
        """Longer than its messages usually are apart."""
        if now_ns is None or line.newest_arrived_ns is None or line.first_arrived_ns is None:
            return True
        usual = (line.newest_arrived_ns - line.first_arrived_ns) / max(1, line.count - 1)
        least = max(3 * usual, least_ns / max(1.0, line.rate))
        return now_ns - line.newest_arrived_ns >= least

    def _move_to(self, candidate: _Line[T], line: _Line[T]) -> Admitted[T]:
        again = next((each for each in self._past if each.resumed_by(candidate)), None)
        if again is not None:
            self._past.remove(again)
            candidate.number = again.number
        items = tuple(candidate.waiting) if self._hold else tuple(candidate.waiting)[-1:]
        candidate.waiting.clear()
        self._past.append(line)
        self._line, self._candidates, self._refused = candidate, [], 0
        return Admitted(items, True, candidate.number, line.number, self._is_young(line))

    def _sentence(self, gap_ns: int) -> str:
        way = "after" if gap_ns > 0 else "before"
        return (
            f"{self._what} is stamped {abs(gap_ns) / NS:.0f} s {way} the newest one; it is left out unless its time "
            f"lasts and the other's ends. Check the sender's clock."
        )
