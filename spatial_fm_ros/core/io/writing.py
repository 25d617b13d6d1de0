"""One way to write a file: whole or not at all, over a regular file or none, as what it replaces was.

A file is written under a temporary name beside its place and then renamed, so that what is there is whole. The
temporary names tell which process writes them; those of processes that are gone can be swept.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from spatial_fm_ros.core.errors import OutputError
from spatial_fm_ros.core.io.names import shown

_PART = re.compile(r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<pid>[0-9]+)-(?P<start>[0-9]+)-[0-9]+\.sfm-part", re.DOTALL)
#: Parts of another machine (a shared disk, another container) are left for so long, seconds.
_FOREIGN_AGE_S = 86400.0
_NUMBERS = itertools.count()
#: Parts that are being written, and who wants to know of each file before it takes its place.
_OPEN: set[Path] = set()
_TOLD: list[Callable[[Path, Path], None]] = []


@contextmanager
def replacing(path: str | Path, what: str, needed_bytes: int | None = None, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write into that takes `path`'s place when the block ends well; otherwise `path` stays as it was.

    Unless it is `durable`, a power cut (not the death of the process) may leave an empty file: for many small ones.

    Symlinks are followed, the mode of a file that is replaced is kept. Raises OutputError, which names `what` and the
    reason, for a place that holds anything but a regular file, cannot be written or has too little room; what the
    block itself raises passes through, but for OSError.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = _replaced_mode(path, target, what)
        part = target.with_name(part_name(target.name))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(part, flags, 0o666)
        _OPEN.add(part)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            for tell in tuple(_TOLD):
                tell(part, target)
            os.replace(part, target)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        finally:
            _OPEN.discard(part)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        room = "" if needed_bytes is None else f" with {needed_bytes / 1e6:.1f} MB of space"
        raise OutputError(
            f"The {what} cannot be written to '{shown(path)}' ({reason}); give an existing, writable folder{room}."
        ) from error


def write_bytes(path: str | Path, data: bytes, what: str, durable: bool = True) -> None:
    """Write a whole file by `replacing`. Raises OutputError."""
    with replacing(path, what, len(data), durable) as file:
        file.write(data)


def write_text(path: str | Path, text: str, what: str) -> None:
    """Write text as UTF-8 by `replacing`; what UTF-8 cannot hold (file names of any bytes) is escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"), what)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they lack. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"The folder '{shown(folder)}' cannot be made ({reason}); name another place.") from error


@contextmanager
def telling(tell: Callable[[Path, Path], None]) -> Iterator[None]:
    """In this block `tell(part, target)` is called for every file that is written whole, before it takes its place."""
    _TOLD.append(tell)
    try:
        yield
    finally:
        _TOLD.remove(tell)


def is_writing() -> bool:
    """Whether this process is writing a file by `replacing` just now."""
    return bool(_OPEN)


def abandon_parts() -> None:
    """Remove what this process is writing just now; for a process that ends here."""
    for part in tuple(_OPEN):
        with suppress(OSError):
            part.unlink()


def part_name(name: str) -> str:
    """The temporary name under which this process writes a file called `name`."""
    kept = os.fsdecode(os.fsencode(name)[:150])  # with what follows it stays below 255 bytes
    return f".{kept}.{_machine()}-{os.getpid()}-{_started(os.getpid())}-{next(_NUMBERS)}.sfm-part"


def sweep_parts(folder: Path) -> int:
    """Remove from a folder what writers that are gone left half written. Returns how many files went."""
    swept = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _PART.fullmatch(entry.name)
            if found is None or not entry.is_file(follow_symlinks=False):
                continue
            with suppress(OSError):
                if _is_left(found, entry):
                    os.unlink(entry.path)
                    swept += 1
    return swept


def _is_left(found: re.Match[str], entry: os.DirEntry[str]) -> bool:
    if found["machine"] != _machine():
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _FOREIGN_AGE_S
    return _started(int(found["pid"])) != int(found["start"])


def _replaced_mode(path: str | Path, target: Path, what: str) -> int | None:
    """Permissions of the file to be replaced, None where there is none."""
    try:
        status = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise OutputError(f"The {what} cannot be written to '{shown(path)}': that is {kind}; name a file.")
    if not os.access(target, os.W_OK):
        raise OutputError(f"The {what} cannot be written to '{shown(path)}': the file there is write-protected.")
    return stat.S_IMODE(status.st_mode)


@lru_cache(maxsize=1)
def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _started(pid: int) -> int:
    """When a process began, in clock ticks since the machine did; -1 for one that is not there."""
    try:
        # The second field is the program's name in brackets and may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()[19])
    except (OSError, ValueError, IndexError):
        return -1
