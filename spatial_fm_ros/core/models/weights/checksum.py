"""Hashes of checkpoint files: SHA-256, and the one git gives to a content."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from spatial_fm_ros.core import stopping
from spatial_fm_ros.core.errors import ConfigError, ModelError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import open_regular
from spatial_fm_ros.core.models.weights.reporting import Progress

SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_CHUNK = 1 << 22


def sha256_of(path: Path, what: str = "") -> str:
    """The file's SHA-256 as 64 lower-case digits, with progress under the name `what` (default: the file's).

    Raises ModelError for an unreadable file, Stopped.
    """
    return _digest(path, what, hashlib.sha256(), git=False)


def git_blob_of(path: Path, what: str = "") -> str:
    """git's hash of the file's content as 40 lower-case digits. Progress and errors as for `sha256_of`."""
    return _digest(path, what, hashlib.sha1(usedforsecurity=False), git=True)


def verify(path: Path, expected: str) -> None:
    """Raises ModelError where the file's SHA-256 is another one, ConfigError where `expected` is none."""
    if not SHA256.fullmatch(expected):
        raise ConfigError(f"model.sha256 is a SHA-256 of 64 hexadecimal digits, got '{shown(expected)}'.")
    found = sha256_of(path)
    if found != expected.lower():
        raise ModelError(
            f"The checkpoint {shown(path)} is not the one that is expected: its SHA-256 is {found}, model.sha256 says "
            f"{expected.lower()}. Get it again, or correct model.sha256 where the file is the right one."
        )


def _digest(path: Path, what: str, digest: Any, git: bool) -> str:
    with open_regular(path, "checkpoint", error=ModelError) as file:
        length = os.fstat(file.fileno()).st_size
        if git:
            digest.update(b"blob %d\0" % length)
        try:
            with Progress(f"checking {what or shown(path.name)}", length) as progress:
                while chunk := file.read(_CHUNK):
                    stopping.check()
                    digest.update(chunk)
                    progress.advance(len(chunk))
        except OSError as error:
            raise ModelError(f"The checkpoint {shown(path)} cannot be read ({error.strerror or error}).") from error
    return str(digest.hexdigest())
