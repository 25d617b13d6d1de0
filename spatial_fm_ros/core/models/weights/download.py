"""One file of the hub into huggingface_hub's cache, going on where an earlier attempt ended.

huggingface_hub itself starts from nothing after an interrupted program (since its version 1.18 partial files are
removed), which for 5 GB over a robot's radio means never. So the bytes are fetched here, by its own client, into a
partial file that stays; the finished and checked file becomes a blob of the cache, which huggingface_hub then links.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers

from spatial_fm_ros.core.errors import ModelError, OutputError
from spatial_fm_ros.core.models.weights.checksum import SHA256, sha256_of
from spatial_fm_ros.core.models.weights.reporting import Lines, note, size

RETRY_AFTER_S = 1.0

#: What goes wrong with connections and files. Which HTTP client huggingface_hub uses differs between its versions;
#: its own error inherits that client's.
FAILURES: tuple[type[Exception], ...] = (
    OSError,
    *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)),
)

#: Left free on the disk beside the file, in bytes.
SPARE = 100_000_000


def cache_folder(repo: str) -> Path:
    """Where huggingface_hub keeps the files of a repository."""
    return Path(constants.HF_HUB_CACHE).expanduser() / repo_folder_name(repo_id=repo, repo_type="model")


def fetch(repo: str, name: str, revision: str) -> Path:
    """The file's path in the cache, after downloading it if need be.

    Raises what huggingface_hub raises, OSError for a cache that cannot be written, OutputError for a disk that is too
    full, and ModelError for a file that arrived damaged.
    """
    metadata = get_hf_file_metadata(hf_hub_url(repo, name, revision=revision))
    if metadata.etag is None or metadata.size is None:
        raise ModelError(f"{constants.ENDPOINT} does not say which file {repo}/{name} is: it is no hub.")
    blob = cache_folder(repo) / "blobs" / metadata.etag
    if not blob.exists():
        blob.parent.mkdir(parents=True, exist_ok=True)
        _download(hf_hub_url(repo, name, revision=metadata.commit_hash), blob, metadata.size, f"{repo}/{name}")
    return Path(hf_hub_download(repo, name, revision=revision))


def _download(url: str, blob: Path, length: int, what: str) -> None:
    partial = blob.with_name(blob.name + ".partial")
    with _locked(partial, what) as file:
        if blob.exists():  # another process finished it while this one waited
            partial.unlink()
            return
        done = file.tell()
        if done > length:
            file.truncate(0)
            done = file.seek(0)
        free = shutil.disk_usage(blob.parent).free
        if length - done + SPARE > free:
            raise OutputError(f"{what} needs {size(length - done)} more, but {blob.parent} has {size(free)} free.")
        if done:
            note(f"{what}: going on after {size(done)} of {size(length)}")
        else:
            note(f"{what}: downloading {size(length)} to {blob.parent}")
        _receive(url, file, length, what)
        # The hub names large files by their SHA-256: what was put together from pieces is checked as a whole.
        if SHA256.fullmatch(blob.name) and sha256_of(partial, what) != blob.name.lower():
            partial.unlink()
            raise ModelError(f"{what} arrived damaged (its SHA-256 is wrong) and was removed; download it again.")
        os.replace(partial, blob)


def _receive(url: str, file: IO[bytes], length: int, what: str) -> None:
    """Append what is still missing. A connection that is lost is taken up again as long as every try brings some."""
    while True:
        done = file.tell()
        counted: Any = _Counted(file, Lines(what, length, done))
        try:
            headers = build_hf_headers()
            http_get(url, counted, resume_size=done, headers=headers, expected_size=length, displayed_filename=what)
            file.flush()
            return
        except FAILURES as error:
            file.flush()
            if file.tell() <= done:
                raise
            note(f"{what}: lost the connection after {size(file.tell())} ({error}); going on")
            time.sleep(RETRY_AFTER_S)


@contextmanager
def _locked(path: Path, what: str) -> Iterator[IO[bytes]]:
    """The file, open at its end, for one process at a time.

    It may have been moved or removed by the process that was waited for; then it is begun anew.
    """
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                note(f"{what}: another process is downloading it; waiting")
                fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.path.samefile(path, file.fileno()):
                file.seek(0, os.SEEK_END)
                yield file
                return


class _Counted:
    """A file whose growth is reported."""

    def __init__(self, file: IO[bytes], lines: Lines) -> None:
        self._file, self._lines = file, lines

    def write(self, data: bytes) -> int:
        self._lines.advance(len(data))
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def truncate(self) -> int:
        return self._file.truncate()
