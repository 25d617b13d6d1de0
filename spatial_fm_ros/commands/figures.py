"""Files that `spatial-fm evaluate` writes where it is told: never over what it did not write itself."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.core.io.names import shown, user_path
from spatial_fm_ros.core.io.reading import open_regular
from spatial_fm_ros.core.io.writing import write_bytes

#: Stands in each file, by which a later run knows it: the value of "made_by", the software of the PNG.
MADE_BY = "spatial-fm evaluate"
_HEAD_BYTES = 4096


def target(path: Path | None, what: str, others: Iterable[Path | None]) -> Path | None:
    """The path of --json or --plot, looked at before the work; `others`: inputs and other outputs.

    Raises OutputError where it must not or cannot be written.
    """
    if path is None:
        return None
    path = user_path(path, OutputError)
    place = os.path.realpath(path)
    for other in others:
        if other is not None and (place == os.path.realpath(other) or _is_same(place, other)):
            raise OutputError(f"The {what} would replace '{shown(path)}', an input or another output; name another.")
    folder = os.path.dirname(place)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"The {what} '{shown(path)}' cannot be written: '{shown(folder)}' is no folder that can be written to; "
            "name another."
        )
    if os.path.exists(place):
        try:
            with open_regular(path, what) as file:
                head = file.read(_HEAD_BYTES)
        except InputError as error:
            raise OutputError(str(error)) from error
        if head and MADE_BY.encode() not in head:
            raise OutputError(
                f"The file '{shown(path)}' is there already and is no {what} of this program; name another file, or "
                "remove it."
            )
    return path


def _is_same(place: str, other: Path) -> bool:
    try:
        return os.path.samefile(place, other)
    except (OSError, ValueError):
        return False


def write_figures(path: Path | None, figures: dict[str, Any]) -> None:
    """As JSON, where a path was given. Raises OutputError."""
    if path is not None:
        from spatial_fm_ros.offline.report import write_json

        write_json(path, {"made_by": MADE_BY, **figures})


def write_plot(path: Path, png: bytes) -> None:
    """Raises OutputError."""
    write_bytes(path, png, "plot")
