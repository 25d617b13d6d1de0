"""Progress for people: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.status import Status
from rich.text import Text

from spatial_fm_ros.core.io.names import shown

LINE_EVERY_S = 5.0


def waiting(console: Console, words: str) -> Status:
    """Words with something that turns, on a terminal, while a block runs. They are text, not markup."""
    return console.status(Text(shown(words)), spinner=_spinner(console))


def _spinner(console: Console) -> str:
    return "dots" if console.encoding.startswith("utf") else "line"


class _TimeLeft(ProgressColumn):
    """Time left by the mean rate so far: windows come in bursts, a short average would jump about."""

    def render(self, task: Task) -> Text:
        return Text(_left(task.completed, task.total, task.elapsed or 0.0), style="progress.remaining")


class RunProgress:
    """Frames done of an estimated total, with rate, time left and a short status."""

    def __init__(self, console: Console, title: str, total: int | None) -> None:
        self._console = console
        self._title = title
        self._total = total
        self._done = 0
        self._status = ""
        self._started = time.monotonic()
        self._printed = self._started
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(_spinner(console)),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                _TimeLeft(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[status]}", markup=False),
                console=console,
            )
            self._task = self._bar.add_task(title, total=total, rate="", status="")

    def __enter__(self) -> RunProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.stop()
        elif self._printed > self._started:
            self._print()

    def advance(self, count: int = 1) -> None:
        self._done += count
        self._show()

    def reach(self, done: int) -> None:
        """This many in all are done."""
        self._done = done
        self._show()

    def status(self, text: str) -> None:
        self._status = shown(text)
        self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=self._rate(), status=self._status)
        elif time.monotonic() - self._printed > LINE_EVERY_S:
            self._print()

    def _print(self) -> None:
        self._printed = time.monotonic()
        left = _left(self._done, self._total, self._printed - self._started)
        parts = [f"{self._title}: {self._rate()}", left, self._status]
        with suppress(OSError):  # a full disk under a log costs no map
            self._console.print(Text(", ".join(part for part in parts if part)), soft_wrap=True)

    def _rate(self) -> str:
        elapsed = time.monotonic() - self._started
        return f"{self._done}{f'/{self._total}' if self._total else ''} frames, {self._done / max(elapsed, 1e-6):.1f}/s"


def _left(done: float, total: float | None, elapsed: float) -> str:
    if not total or done <= 0:
        return ""
    seconds = round(max(0.0, total - done) * elapsed / done)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"
