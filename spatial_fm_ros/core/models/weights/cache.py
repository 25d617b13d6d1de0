"""huggingface_hub's cache: its documented layout, which nothing that a server or a link says leads out of.

models--OWNER--NAME/blobs/HASH             contents
models--OWNER--NAME/snapshots/COMMIT/FILE  links to them
models--OWNER--NAME/refs/REVISION          a commit's 40 digits
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from spatial_fm_ros.core.errors import ModelError, SpatialFMError
from spatial_fm_ros.core.io.names import shown, user_path
from spatial_fm_ros.core.io.reading import read_text
from spatial_fm_ros.core.io.writing import write_text
from spatial_fm_ros.core.models.weights.settings import constants

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REFERENCE_BYTES = 100
#: Files of a snapshot that are looked at.
_MOST_FILES = 10_000


def root() -> Path:
    """Where the cache is (HF_HOME, HF_HUB_CACHE). Raises ModelError for what can be no path."""
    return user_path(constants.HF_HUB_CACHE, ModelError)


def folder(repo: str) -> Path:
    """Where the files of a repository are."""
    return root() / f"models--{repo.replace('/', '--')}"


def repo_of(path: Path) -> str:
    """The hub id of a file inside a cache; empty for any other."""
    for part in path.absolute().parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return ""


def inside(path: Path) -> Path:
    """The path, of which every link has been followed. Raises ModelError where that leads out of the cache."""
    real, top = Path(os.path.realpath(path)), Path(os.path.realpath(root()))
    if not real.is_relative_to(top) or real == top:
        raise ModelError(
            f"In the cache {shown(root())}, '{shown(path)}' leads to '{shown(real)}', which is outside; remove that "
            "link, or set HF_HOME to another cache."
        )
    return path


def names(repo: str, revision: str) -> tuple[Path, list[str]]:
    """The snapshot of a revision and the files that it has, of those inside the cache. Raises OSError, ModelError."""
    snapshot = folder(repo) / "snapshots" / _commit(repo, revision)
    found: list[str] = []
    for place, _, files in os.walk(inside(snapshot)):
        found += [os.path.relpath(os.path.join(place, file), snapshot) for file in files]
        if len(found) > _MOST_FILES:
            break
    return snapshot, [name for name in found if _is_ours(snapshot / name)]


def blob(repo: str, digest: str) -> Path:
    """Where a content belongs; its folder exists afterwards. Raises OSError, ModelError."""
    place = inside(folder(repo) / "blobs")
    place.mkdir(parents=True, exist_ok=True)
    return inside(place / digest)


def link(repo: str, revision: str, commit: str, name: str, content: Path) -> Path:
    """Give a content its name in a commit and the commit its revision's. Raises OSError, OutputError, ModelError."""
    pointer = folder(repo) / "snapshots" / commit / name
    inside(pointer.parent).mkdir(parents=True, exist_ok=True)
    inside(pointer.parent)
    if not (pointer.exists() and os.path.samefile(pointer, content)):
        fresh = pointer.with_name(f".{uuid.uuid4().hex}")
        try:
            try:
                fresh.symlink_to(os.path.relpath(os.path.realpath(content), os.path.realpath(pointer.parent)))
            except OSError:  # file systems without links, as on memory sticks
                shutil.copyfile(content, fresh)
            os.replace(fresh, pointer)
        finally:
            fresh.unlink(missing_ok=True)
    if revision != commit:
        reference = inside(folder(repo) / "refs" / revision)
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_text(reference, commit, "reference of the cache")
    return pointer


def _commit(repo: str, revision: str) -> str:
    if not _COMMIT.fullmatch(revision):
        with suppress(SpatialFMError):
            revision = read_text(inside(folder(repo) / "refs" / revision), "reference", _REFERENCE_BYTES).strip()
    if not _COMMIT.fullmatch(revision):
        raise ModelError(f"The cache has no revision '{shown(revision)}' of {repo}.")
    return revision


def _is_ours(path: Path) -> bool:
    try:
        return inside(path).is_file()
    except (ModelError, OSError):
        return False
