"""Checkpoints of the hub: from the cache, or downloaded; what goes wrong becomes a sentence with a way out."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from huggingface_hub import constants, list_repo_files
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from spatial_fm_ros.core.errors import ModelError, OutputError
from spatial_fm_ros.core.models.weights.choice import ENDINGS, NAMES, choose, weight_files
from spatial_fm_ros.core.models.weights.download import FAILURES, cache_folder, fetch
from spatial_fm_ros.core.models.weights.reporting import note

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(/(?P<file>[\w./-]+))?(@(?P<revision>[\w./-]+))?")
_FAILURES: tuple[type[Exception], ...] = (*FAILURES, OutputError)


class HubId:
    """`owner/name`, with `/file` where it is not a usual name, and `@revision` (branch, tag or commit)."""

    def __init__(self, text: str) -> None:
        match = HUB_ID.fullmatch(text)
        if match is None:
            raise ModelError(f"'{text}' is no hub id; expected owner/name, owner/name/file or owner/name@revision.")
        self.repo = match["repo"]
        self.file = match["file"]
        self.revision = match["revision"] or constants.DEFAULT_REVISION

    @staticmethod
    def fits(text: str) -> bool:
        """Whether the text can be a hub id: two names, or more where the last one is a weight file's."""
        match = HUB_ID.fullmatch(text)
        return (
            match is not None
            and not text.startswith(".")
            and (not match["repo"].endswith(ENDINGS) if match["file"] is None else match["file"].endswith(ENDINGS))
        )


def cached(hub_id: HubId) -> Path | None:
    """The weight file in huggingface_hub's cache, or None, also where the cache may not be read. Asks nobody."""
    folder = cache_folder(hub_id.repo)
    try:
        reference = folder / "refs" / hub_id.revision
        commit = reference.read_text().strip() if reference.is_file() else hub_id.revision
        snapshot = folder / "snapshots" / commit
        names = [str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()]
    except OSError:
        return None
    name = choose(names) if hub_id.file is None else hub_id.file if hub_id.file in names else None
    return snapshot / name if name else None


def get(hub_id: HubId, refresh: bool = False) -> Path:
    """The weight file of a hub id. What the cache has is used without asking the hub, unless `refresh`.

    A robot thus starts without network and with the weights it had yesterday. Raises ModelError with the reason and
    how to get the file by hand.
    """
    found = cached(hub_id)
    if found is not None and not refresh:
        return found
    try:
        return _download(hub_id)
    except _FAILURES as error:
        if found is not None:
            note(f"{_reason(hub_id, error)} The cache has a copy, which is used.")
            return found
        by_hand = "" if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError) else _by_hand(hub_id)
        raise ModelError(f"{_reason(hub_id, error)} {by_hand}model:=geometric needs no weights.") from error


def _download(hub_id: HubId) -> Path:
    if hub_id.file:
        return fetch(hub_id.repo, hub_id.file, hub_id.revision)
    try:
        return fetch(hub_id.repo, NAMES[0], hub_id.revision)
    except EntryNotFoundError:
        names = list_repo_files(hub_id.repo, revision=hub_id.revision)
    name = choose(names)
    if name is None:
        found = weight_files(names)
        several = f"several ({', '.join(found[:4])}): name one, as {hub_id.repo}/{found[0]}" if found else "none"
        raise ModelError(
            f"Of the files of {hub_id.repo}, one has to be the weights (safetensors or torch); got {several}."
        )
    return fetch(hub_id.repo, name, hub_id.revision)


def _reason(hub_id: HubId, error: BaseException) -> str:
    name, hub = hub_id.repo, constants.ENDPOINT
    if isinstance(error, GatedRepoError):
        return (
            f"The weights {name} are given only to those who accept their licence: log in at {hub}/{name}, accept it, "
            "then run 'hf auth login' here or set HF_TOKEN."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{name} has no revision '{hub_id.revision}' at {hub}."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no file or folder {name} here, and no such repository at {hub} (or it is private: then run "
            "'hf auth login' or set HF_TOKEN). spatial-fm weights list names those that are known."
        )
    if isinstance(error, OfflineModeIsEnabled):
        return (
            f"The weights {name} are not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to download."
        )
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return f"{name} has no file '{hub_id.file or NAMES[0]}' in its revision '{hub_id.revision}' at {hub}."
    if isinstance(error, HfHubHTTPError):
        return f"The hub {hub} answered {error.response.status_code} when asked for {name}."
    if isinstance(error, OutputError):
        return f"The weights {name} cannot be stored: {str(error).rstrip('.')}. HF_HOME chooses another place."
    if isinstance(error, OSError) and (error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT)):
        place = error.filename or constants.HF_HUB_CACHE
        return f"The weights {name} cannot be stored in {place}: {error.strerror}. HF_HOME chooses another place."
    detail = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return (
        f"The weights {name} could not be downloaded from {hub}: {detail}. What has arrived is kept for the next try."
    )


def _by_hand(hub_id: HubId) -> str:
    address = f"{constants.ENDPOINT}/{hub_id.repo}/resolve/{hub_id.revision}/{hub_id.file or NAMES[0]}"
    return f"By hand: download {address} elsewhere and set checkpoint:=FILE. "
