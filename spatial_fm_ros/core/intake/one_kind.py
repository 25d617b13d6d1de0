"""One topic, one sensor: what a second one sends on the same topic is left out."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

#: The kind that came first is given up after so long a silence, once so many in a row were of one other kind.
PATIENCE_S, IN_A_ROW = 5.0, 3

Kind = TypeVar("Kind", bound=Hashable)


class OneKind(Generic[Kind]):
    """Keeps to the kind of message (its frame, its size) that came first.

    Another kind is believed, and kept from then on, when the first has been silent for PATIENCE_S and IN_A_ROW
    messages in a row were of that other one: a driver that was set up anew. Not thread-safe.
    """

    def __init__(self) -> None:
        self.kept: Kind | None = None
        self._last_s = 0.0
        self._other: Kind | None = None
        self._in_a_row = 0

    def admits(self, kind: Kind, time_s: float) -> bool:
        """Whether a message of this kind is used; time_s: when it came, or its stamp, in seconds."""
        if self.kept is None:
            self.kept = kind
        elif kind != self.kept:
            self._in_a_row = self._in_a_row + 1 if kind == self._other else 1
            self._other = kind
            if self._in_a_row < IN_A_ROW or abs(time_s - self._last_s) < PATIENCE_S:
                return False
            self.kept = kind
        self._last_s, self._other, self._in_a_row = time_s, None, 0
        return True


def two_frames(
    topic: str, kept: str, other: str, what: str = "Images", sensor: str = "camera", count: int | None = None
) -> str:
    """What is said of messages in a second frame; count: how many came, where that is known."""
    return _two(topic, "frames", f"'{kept}'", f"'{other}'", what, sensor, count)


def two_sizes(topic: str, kept: tuple[int, int], other: tuple[int, int] | str, count: int | None = None) -> str:
    """What is said of images of a second size, (width, height) or WIDTHxHEIGHT; count as of `two_frames`."""
    second = other if isinstance(other, str) else f"{other[0]}x{other[1]}"
    return _two(topic, "sizes", f"{kept[0]}x{kept[1]}", second, "Images", "camera", count)


def _two(topic: str, kinds: str, kept: str, other: str, what: str, sensor: str, count: int | None) -> str:
    many = "" if count is None else f" ({count})"
    return (
        f"{what} of '{topic}' come in two {kinds} ({kept} and {other}); those of {other}{many} are left out. "
        f"Give each {sensor} its own topic."
    )
