"""One way to open a file for reading: regular files only, never blocking, no larger than its kind may be.

A FIFO would block for ever, a device may have no end, and a few bytes on a disk can ask for gigabytes of memory:
none of that may happen because of a name that came from outside.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from spatial_fm_ros.core.errors import InputError, SpatialFMError
from spatial_fm_ros.core.io.names import shown

#: Most bytes of a file that is read as a whole, by its kind.
TEXT_BYTES = 16 * 2**20
TABLE_BYTES = 2**30
IMAGE_BYTES = 512 * 2**20


def open_regular(
    path: str | Path, what: str, most_bytes: int | None = None, error: type[SpatialFMError] = InputError
) -> BinaryIO:
    """The file, open for reading; `what` names its kind in the error ("map", "parameter file").

    Raises `error` for what is absent, unreadable, no regular file (symlinks are followed), or larger than `most_bytes`
    (None: files that are read piece by piece, or mapped).
    """
    try:
        # Opening a FIFO waits for a writer, unless told not to; regular files do not mind.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as reason:
        raise _unreadable(path, what, reason, error) from reason
    try:
        _check(path, what, os.fstat(descriptor), most_bytes, error)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def regular_file(
    path: str | Path, what: str, most_bytes: int | None = None, error: type[SpatialFMError] = InputError
) -> Path:
    """The path of a file that a library opens by itself, checked as by `open_regular`, and that it can be read."""
    open_regular(path, what, most_bytes, error).close()
    return Path(path)


def read_bytes(path: str | Path, what: str, most_bytes: int, error: type[SpatialFMError] = InputError) -> bytes:
    """The whole file, at most `most_bytes` of it. Raises `error` as `open_regular`, also while reading."""
    with open_regular(path, what, most_bytes, error) as file:
        try:
            content = file.read(most_bytes + 1)  # it may have grown, and those of /proc state no size
        except OSError as reason:
            raise _unreadable(path, what, reason, error) from reason
    if len(content) > most_bytes:
        raise _too_large(path, what, len(content), most_bytes, error)
    return content


def read_text(
    path: str | Path, what: str, most_bytes: int = TEXT_BYTES, error: type[SpatialFMError] = InputError
) -> str:
    """The whole file as UTF-8, with or without a byte order mark. Raises `error` as `read_bytes`."""
    try:
        return read_bytes(path, what, most_bytes, error).decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(
            f"The {what} '{shown(path)}' is no text: byte {reason.start} is not UTF-8; save it as UTF-8."
        ) from reason


def _check(
    path: str | Path, what: str, status: os.stat_result, most_bytes: int | None, error: type[SpatialFMError]
) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise error(f"The {what} '{shown(path)}' is no regular file but {_kind(status.st_mode)}; name a file.")
    if most_bytes is not None and status.st_size > most_bytes:
        raise _too_large(path, what, status.st_size, most_bytes, error)


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((words for test, words in kinds if test(mode)), "something else")


def _unreadable(path: str | Path, what: str, reason: Exception, error: type[SpatialFMError]) -> SpatialFMError:
    words = getattr(reason, "strerror", None) or str(reason)
    return error(f"The {what} '{shown(path)}' cannot be read ({words}).")


def _too_large(path: str | Path, what: str, size: int, most_bytes: int, error: type[SpatialFMError]) -> SpatialFMError:
    return error(
        f"The {what} '{shown(path)}' has {size} bytes or more, a {what} has at most {most_bytes}; is it the right file?"
    )
