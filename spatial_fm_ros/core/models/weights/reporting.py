"""What loading says while it works, on stderr: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

LINE_EVERY_S = 5.0


def note(text: str) -> None:
    """A sentence for whoever started the program."""
    print(text, file=sys.stderr, flush=True)


class Lines:
    """Progress of `total` bytes as lines: for logs, where a bar would be noise. On a terminal it says nothing."""

    def __init__(self, what: str, total: int | None, done: int = 0) -> None:
        self._what, self._total, self._done = what, total, done
        self._silent = sys.stderr.isatty()
        self._started = self._said = time.monotonic()
        self._first = done

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if not self._silent and now - self._said > LINE_EVERY_S:
            self._said = now
            share = f" of {size(self._total)} ({100 * self._done / self._total:.0f} %)" if self._total else ""
            rate = size((self._done - self._first) / (now - self._started))
            note(f"{self._what}: {size(self._done)}{share}, {rate}/s")


class Progress:
    """Lines in a log, a bar on a terminal."""

    def __init__(self, what: str, total: int) -> None:
        self._lines = Lines(what, total)
        self._bar = tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=None, leave=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, count: int) -> None:
        self._lines.advance(count)
        self._bar.update(count)


def size(count: float) -> str:
    """Bytes for people, in decimal units as download pages give them."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
