"""How commands speak: tables and sentences on the terminal, errors without a traceback."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from spatial_fm_ros.core.errors import SpatialFMError

#: Exit codes: no window could be posed; an error, told in a sentence; interrupted by Ctrl-C.
NOTHING_MAPPED, FAILED, INTERRUPTED = 1, 2, 130
DEBUG_VARIABLE = "SPATIAL_FM_DEBUG"

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

C = TypeVar("C", bound=Callable[..., Any])


def debugging() -> bool:
    """Whether tracebacks are wanted (--debug, or the environment variable)."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def in_sentences(command: C) -> C:
    """Errors of this package become one sentence and exit code 2, Ctrl-C exit code 130."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except SpatialFMError as error:
            if debugging():
                err.print_exception()
            err.print(f"[bold red]error:[/] {_safe(str(error))}", soft_wrap=True)
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            err.print("interrupted")
            raise typer.Exit(INTERRUPTED) from error

    return run  # type: ignore[return-value]


def warn(text: str) -> None:
    err.print(f"[yellow]note:[/] {_safe(text)}", soft_wrap=True)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """The first column is left, the others right aligned."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, name in enumerate(columns):
        made.add_column(name, justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in rows:
        made.add_row(*row)
    out.print(made)


def number(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}" if value == value else "unknown"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %" if value == value else "unknown"


def _safe(text: str) -> str:
    """Square brackets of paths and lists are text, not markup."""
    return text.replace("[", r"\[")
