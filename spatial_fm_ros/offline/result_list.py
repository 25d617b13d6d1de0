"""The list of what a run wrote into its folder, by which a later run knows what it may remove: that and nothing else.

`.spatial_fm_results` lies in the folder, one line for each file before it takes its place (so that a run that is killed
leaves a list that covers it) and for each folder that was made. A file is ours while it has the size and the mark of
its line. The list itself may come from anybody: names in it never lead out of the folder, nor through links.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import threading
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from spatial_fm_ros.core.errors import OutputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.writing import telling

#: Folders that results lie in.
FOLDERS = ("depth", "depth/confidence", "views")
LIST = ".spatial_fm_results"
HEADER = "results of spatial_fm_ros, one a line: file SIZE MARK NAME, or folder NAME"
#: Most bytes of a list: two files for each of 300,000 keyframes.
LIST_BYTES = 64 * 2**20
#: A mark is of so many bytes at either end of a file, and of its size.
_MARKED_BYTES = 65536
_NAME = r"(?P<name>[0-9A-Za-z_][0-9A-Za-z._-]{0,99}(?:/[0-9A-Za-z_][0-9A-Za-z._-]{0,99}){0,3})"
_LINE = re.compile(rf"(?:file (?P<size>[0-9]{{1,15}}) (?P<mark>[0-9a-f]{{32}})|(?P<folder>folder)) {_NAME}", re.ASCII)


class ResultList:
    """The list of a folder, held for one run: a second run at the same time is refused.

    Within the block every file that is written into the folder is entered. Raises OutputError for a list that is none,
    cannot be written, or is held by another run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        self._file = _open(self.folder)
        self._lock = threading.Lock()
        self._begun = False
        self._made: set[str] = set()
        self._stack = ExitStack()
        try:
            self._text = _content(self._file, self.folder)
            known = _listed(self._text)[1]
            self._others = {name for name in FOLDERS if name not in known and (self.folder / name).is_dir()}
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> ResultList:
        self._stack.enter_context(telling(self._note))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        with suppress(OSError):
            if os.fstat(self._file).st_size == 0:  # made for this run, which wrote nothing
                (self.folder / LIST).unlink()
        os.close(self._file)

    def ours(self) -> list[str]:
        """Names of files of the list that are as they were written."""
        listed = _listed(self._text)[0]
        return [name for name, kept in listed.items() if _is_as_listed(self.folder, name, kept)]

    def begin(self) -> None:
        """Remove what the run before left, and begin the list anew; once. Raises OutputError."""
        if self._begun:
            return
        self._begun = True
        remove(self.folder, self.ours(), _listed(self._text)[1])
        with suppress(OSError):
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{HEADER}\n".encode())

    def _note(self, part: Path, target: Path) -> None:
        """`part` is about to take the place of `target`."""
        try:
            name = target.relative_to(self.folder)
        except ValueError:
            return  # not of this folder
        with self._lock, suppress(OSError):  # a result is worth more than its line: without it, it stays for ever
            self.begin()
            above = [each.as_posix() for each in name.parents if each.parts]
            new = [each for each in above if each not in self._made and each not in self._others]
            self._made.update(new)
            lines = [
                *(f"folder {each}" for each in new),
                "file {} {} {}".format(*_size_and_mark(part), name.as_posix()),
            ]
            os.write(self._file, "".join(f"{line}\n" for line in lines).encode())


def remove(folder: Path, names: Iterable[str], folders: Iterable[str]) -> None:
    """Remove these files, then those of the folders that are empty now. Raises OutputError for one that cannot go."""
    for name in names:
        try:
            (folder / name).unlink()
        except OSError as error:
            raise OutputError(
                f"'{shown(name)}' of an earlier run cannot be removed from '{shown(folder)}' ({error.strerror}); name "
                "another folder."
            ) from error
    for name in sorted(folders, key=lambda name: -name.count("/")):
        if _has_no_links(folder, name):
            with suppress(OSError):  # something else lies in it
                (folder / name).rmdir()


def _open(folder: Path) -> int:
    place = folder / LIST
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(place, flags, 0o666)
    except OSError as error:
        raise OutputError(
            f"The list of results '{shown(place)}' cannot be opened ({error.strerror}); name another folder."
        ) from error
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise OutputError(f"'{shown(place)}' is no list of results of this program; name another folder.")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"Another run writes its results into '{shown(folder)}' just now; name another folder or wait for it."
            ) from error
        except OSError:
            pass  # some network drives have no locks
        return file
    except BaseException:
        os.close(file)
        raise


def _content(file: int, folder: Path) -> str:
    """The list's text; empty for one that was begun just now. Raises OutputError for anything else."""
    size = os.fstat(file).st_size
    data = os.pread(file, min(size, LIST_BYTES) + 1, 0)
    if size > LIST_BYTES or (size and not data.startswith(f"{HEADER}\n".encode())):
        raise OutputError(
            f"'{shown(folder / LIST)}' is no list of results of this program; name another folder, or remove it and "
            "the results by hand."
        )
    return data.decode("ascii", "replace")


def _listed(text: str) -> tuple[dict[str, set[tuple[int, str]]], set[str]]:
    """Files with the sizes and marks they were written with, and folders. Lines that are none are left out."""
    files: dict[str, set[tuple[int, str]]] = {}
    folders: set[str] = set()
    for line in text.split("\n")[1:-1]:  # the last line may be half written
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        if found["folder"]:
            folders.add(found["name"])
        else:
            files.setdefault(found["name"], set()).add((int(found["size"]), found["mark"]))
    return files, folders


def _has_no_links(folder: Path, name: str) -> bool:
    """Whether the way from the folder to `name` leads through real folders only."""
    here = folder
    for part in Path(name).parts[:-1]:
        here = here / part
        try:
            if not stat.S_ISDIR(here.lstat().st_mode):
                return False
        except OSError:
            return False
    return True


def _is_as_listed(folder: Path, name: str, kept: set[tuple[int, str]]) -> bool:
    place = folder / name
    if not _has_no_links(folder, name):
        return False
    try:
        status = place.lstat()
        if not stat.S_ISREG(status.st_mode) or all(status.st_size != size for size, _ in kept):
            return False
        return _size_and_mark(place) in kept
    except OSError:
        return False


def _size_and_mark(place: Path) -> tuple[int, str]:
    """Raises OSError."""
    file = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = os.fstat(file).st_size
        ends = os.pread(file, _MARKED_BYTES, 0) + os.pread(file, _MARKED_BYTES, max(0, size - _MARKED_BYTES))
    finally:
        os.close(file)
    return size, hashlib.blake2b(ends, digest_size=16, salt=str(size).encode()[:16]).hexdigest()
