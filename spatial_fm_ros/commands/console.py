"""How commands speak and end: text from anywhere is shown as it is, and every exception is one sentence.

Text goes to the terminal through `say`, `warn`, `fail` and `table`: there, and only there, paths, names and notes
become safe (no markup, no control characters, any bytes, any encoding of the terminal).
"""

from __future__ import annotations

import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spatial_fm_ros.core import interrupts
from spatial_fm_ros.core.errors import OutputError, SpatialFMError
from spatial_fm_ros.core.io.names import shown

#: Exit codes: no window could be posed; an error, told in a sentence; nobody reads what is printed.
NOTHING_MAPPED, FAILED, UNREAD = 1, 2, 141
#: Ctrl-C; SIGTERM gives 143.
INTERRUPTED = 130
DEBUG_VARIABLE = "SPATIAL_FM_DEBUG"
#: Letters of one sentence; more is cut.
MOST_LETTERS = 4000


class _Console(Console):
    """Goes on in silence where its reader is gone: the work of a command is worth more than its words."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        interrupts.drop(self.file)


out = _Console(highlight=False)
err = _Console(stderr=True, highlight=False)

C = TypeVar("C", bound=Callable[..., Any])


def debugging() -> bool:
    """Whether tracebacks are wanted (--debug, or the environment variable)."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def in_sentences(command: C) -> C:
    """Any exception of a command becomes one sentence and its exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            if type(error).__module__.startswith(("click", "typer")):
                raise  # how typer ends a command, and what it says of options
            raise typer.Exit(ended_by(error)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(ended_by(error)) from error

    return run  # type: ignore[return-value]


def ended_by(error: BaseException) -> int:
    """Says what ended a command; gives its exit code."""
    if isinstance(error, KeyboardInterrupt):
        with suppress(Exception):
            err.print("interrupted")
        return interrupts.exit_code() or INTERRUPTED
    if isinstance(error, BrokenPipeError):
        interrupts.drop(sys.stdout)
        return UNREAD
    if isinstance(error, OSError) and error.filename is None and error.errno in (errno.ENOSPC, errno.EIO):
        error = OutputError(f"What this prints cannot be written ({error.strerror}).")
    if debugging():
        with suppress(Exception):
            sys.stderr.write("".join(traceback.format_exception(error)))
    fail(_sentence(error))
    return FAILED


def _sentence(error: BaseException) -> str:
    if isinstance(error, SpatialFMError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:  # no rights, a name too long, a disk that is gone
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else error.filename
        return f"'{shown(name)}' cannot be used ({error.strerror or error}); check its name, its rights and its disk."
    kind, text = type(error).__name__, " ".join(str(error).split())
    said = f"{kind}: {text}" if text else kind
    if isinstance(error, MemoryError):
        return f"There is not enough memory for this ({said}); close other programs or give it less to do."
    return f"internal error, please report it: {said}; run again with --debug for where it came from."


def plain(text: object) -> Text:
    """Text from anywhere, as it stands: no markup in it, nothing that a terminal would obey."""
    return Text(shown(text, MOST_LETTERS))


def say(text: object) -> None:
    """A line of results."""
    out.print(plain(text), soft_wrap=True)


def warn(text: object) -> None:
    err.print(Text("note:", style="yellow"), plain(text), soft_wrap=True)


def fail(text: object) -> None:
    with suppress(Exception):  # the exit code says it, too
        err.print(Text("error:", style="bold red"), plain(text), soft_wrap=True)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """The first column is left, the others right aligned."""
    made = Table(title=plain(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, name in enumerate(columns):
        made.add_column(plain(name), justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in rows:
        made.add_row(*map(plain, row))
    out.print(made)


def number(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}" if value == value else "unknown"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %" if value == value else "unknown"


def any_text() -> None:
    """Standard output and error take any text, whatever the terminal's encoding: what it lacks is escaped."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def flush() -> int | None:
    """What is printed goes out; an exit code where it does not."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        interrupts.drop(sys.stdout)
        return UNREAD
    except (OSError, ValueError) as error:
        interrupts.drop(sys.stdout)
        fail(f"The output cannot be printed ({getattr(error, 'strerror', None) or error}).")
        return FAILED
    return None
