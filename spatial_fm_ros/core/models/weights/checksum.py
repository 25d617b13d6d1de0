"""SHA-256 of checkpoint files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from spatial_fm_ros.core.errors import ConfigError, ModelError
from spatial_fm_ros.core.models.weights.reporting import Progress

SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_CHUNK = 1 << 22


def sha256_of(path: Path, what: str = "") -> str:
    """The file's SHA-256 as 64 lower-case digits, with progress under the name `what` (default: the file's).

    Raises ModelError for an unreadable file.
    """
    digest = hashlib.sha256()
    try:
        with (
            path.open("rb", buffering=0) as file,
            Progress(f"checking {what or path.name}", path.stat().st_size) as progress,
        ):
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                progress.advance(len(chunk))
    except OSError as error:
        raise ModelError(f"The checkpoint {path} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


def verify(path: Path, expected: str) -> None:
    """Raises ModelError where the file's SHA-256 is another one, ConfigError where `expected` is none."""
    if not SHA256.fullmatch(expected):
        raise ConfigError(f"model.sha256 is a SHA-256 of 64 hexadecimal digits, got '{expected}'.")
    found = sha256_of(path)
    if found != expected.lower():
        raise ModelError(
            f"The checkpoint {path} is not the one that is expected: its SHA-256 is {found}, model.sha256 says "
            f"{expected.lower()}. Get it again, or correct model.sha256 where the file is the right one."
        )
