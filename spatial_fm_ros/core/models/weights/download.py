"""One file of the hub into huggingface_hub's cache, going on where an earlier attempt ended.

huggingface_hub itself starts from nothing after an interrupted program (since its version 1.18 partial files are
removed), which for 5 GB over a robot's radio means never. So the bytes are fetched here into a partial file that
stays; when it has the announced length and hash it becomes a blob of the cache. Nothing else ever does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from spatial_fm_ros.core import stopping
from spatial_fm_ros.core.errors import ModelError, OutputError
from spatial_fm_ros.core.io.names import shown, shown_address
from spatial_fm_ros.core.models.weights import cache, wire
from spatial_fm_ros.core.models.weights.answers import RemoteFile, describe, file_address, refuse_status
from spatial_fm_ros.core.models.weights.checksum import git_blob_of, sha256_of
from spatial_fm_ros.core.models.weights.reporting import Lines, note, size

RETRY_AFTER_S = 1.0
#: Left free on the disk beside the file, in bytes.
SPARE = 100_000_000
#: A hub that sends less than LEAST_RATE bytes a second over LEAST_OVER_S seconds is given up.
LEAST_RATE = 1000
LEAST_OVER_S = 60.0


def fetch(repo: str, name: str, revision: str) -> Path:
    """The file's path in the cache, after downloading it if need be.

    Raises Refused and Lost of the hub, Stopped, OSError for a cache that cannot be written, OutputError for a disk that
    is too full, and ModelError for a hub that contradicts itself and content that is not what was announced.
    """
    remote = describe(repo, name, revision)
    blob = cache.blob(repo, remote.hash)
    what = f"{repo}/{shown(name)}"
    if not blob.exists():
        _download(file_address(repo, name, remote.commit), blob, remote, what)
    elif not _is_whole(blob, remote, what):  # put there by somebody else
        raise ModelError(f"{blob} is damaged: it is not the file the hub has; remove it and download it again.")
    return cache.link(repo, revision, remote.commit, name, blob)


def _download(address: str, blob: Path, remote: RemoteFile, what: str) -> None:
    partial = blob.with_name(blob.name + ".partial")
    with _locked(partial, what) as file:
        if blob.exists():  # another process finished it while this one waited
            partial.unlink()
            return
        done = file.tell()
        if done > remote.size:
            done = _empty(file)
        missing, free = remote.size - done, shutil.disk_usage(blob.parent).free
        if missing + SPARE > free:
            raise OutputError(f"{what} needs {size(missing)} more, but {blob.parent} has {size(free)} free.")
        if done:
            note(f"{what}: going on after {size(done)} of {size(remote.size)}")
        else:
            note(f"{what}: downloading {size(remote.size)} to {blob.parent}")
        try:
            _receive(address, file, remote.size, what)
            if not _is_whole(partial, remote, what):
                raise _Wrong(f"{what} arrived damaged (its hash is wrong) and was removed; download it again.")
        except _Wrong:
            partial.unlink()
            raise
        os.replace(partial, blob)


class _Wrong(ModelError):
    """What has arrived cannot be the file."""


def _is_whole(path: Path, remote: RemoteFile, what: str) -> bool:
    """Whether a file has the length and the hash that were announced, however it was put together."""
    if path.stat().st_size != remote.size:
        return False
    return (sha256_of if len(remote.hash) == 64 else git_blob_of)(path, what) == remote.hash


def _receive(address: str, file: IO[bytes], length: int, what: str) -> None:
    """Append what is still missing. A connection that is lost is taken up again as long as every try gets further."""
    furthest, pace = file.tell(), _Pace()
    while file.tell() < length:
        try:
            _append(address, file, length, what, pace)
        except wire.Lost as lost:
            if file.tell() <= furthest:
                raise
            furthest = file.tell()
            note(f"{what}: lost the connection after {size(furthest)} ({lost}); going on")
            stopping.pause(RETRY_AFTER_S)


def _append(address: str, file: IO[bytes], length: int, what: str, pace: _Pace) -> None:
    done = file.tell()
    with wire.ask("GET", address, {"Range": f"bytes={done}-"} if done else {}) as answer:
        refuse_status(answer)
        wire.refuse_coding(answer)
        if answer.status == 206:
            _same_span(answer.headers.get("content-range", ""), done, length, what)
        elif answer.status == 200:
            done = _empty(file) if done else 0  # a server that knows no ranges sends it all
        else:
            raise ModelError(f"{shown_address(answer.address)} answered {answer.status} when asked for {what}.")
        announced = answer.headers.get("content-length", str(length - done))
        if announced != str(length - done):
            raise ModelError(
                f"{what} has {length} bytes, the hub says, but now {shown(announced, 40)} of {length - done} are to "
                "come; nothing of that is taken. Try again later."
            )
        lines = Lines(what, length, done)
        for piece in answer.pieces:
            pace.advance(len(piece))
            if len(piece) > length - file.tell():
                raise _Wrong(f"{what} has {length} bytes, the hub says, but sends more; it was given up and removed.")
            file.write(piece)
            file.flush()
            lines.advance(len(piece))
    if file.tell() < length:
        raise wire.Lost("the answer ended too early")


def _same_span(said: str, first: int, length: int, what: str) -> None:
    if said not in (f"bytes {first}-{length - 1}/{length}", f"bytes {first}-{length - 1}/*"):
        raise ModelError(
            f"Of {what}, bytes {first} to {length - 1} of {length} were asked for, but the hub sends "
            f"'{shown(said, 80)}'; nothing of that is taken. Try again later."
        )


class _Pace:
    """Whether bytes come fast enough, over all tries together."""

    def __init__(self) -> None:
        self._since, self._count = time.monotonic(), 0

    def advance(self, count: int) -> None:
        self._count += count
        passed = time.monotonic() - self._since
        if passed < LEAST_OVER_S:
            return
        if self._count < LEAST_RATE * passed:
            raise ModelError(
                f"The hub sent {size(self._count)} in {passed:.0f} s, less than {size(LEAST_RATE)}/s: it was given up. "
                "What has arrived is kept for the next try."
            )
        self._since, self._count = time.monotonic(), 0


def _empty(file: IO[bytes]) -> int:
    file.truncate(0)
    return file.seek(0)


@contextmanager
def _locked(path: Path, what: str) -> Iterator[IO[bytes]]:
    """The file, open at its end, for one process at a time.

    It may have been moved or removed by the process that was waited for; then it is begun anew.
    """
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _PLAIN, 0o666), "ab") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelError(f"{path} is no regular file; remove it and download again.")
            told = False
            while not _lock(file):
                if not told:
                    note(f"{what}: another process is downloading it; waiting")
                    told = True
                stopping.pause(stopping.ASK_EVERY_S)
            if path.exists() and os.path.samefile(path, file.fileno()):
                file.seek(0, os.SEEK_END)
                yield file
                return


#: A link is not followed, a FIFO not waited for.
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
