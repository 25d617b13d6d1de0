"""Checkpoints of the hub: from the cache, or downloaded; what goes wrong becomes a sentence with a way out."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from huggingface_hub.errors import HFValidationError

from spatial_fm_ros.core.errors import ModelError, OutputError
from spatial_fm_ros.core.io.names import shown, shown_address
from spatial_fm_ros.core.models.weights import cache
from spatial_fm_ros.core.models.weights.answers import Refusal, Refused, is_safe, names_of
from spatial_fm_ros.core.models.weights.choice import ENDINGS, NAMES, choose, weight_files
from spatial_fm_ros.core.models.weights.download import fetch
from spatial_fm_ros.core.models.weights.reporting import note
from spatial_fm_ros.core.models.weights.settings import constants, validate_repo_id
from spatial_fm_ros.core.models.weights.wire import Lost

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(/(?P<file>[\w./-]+))?(@(?P<revision>[\w./-]+))?", flags=re.ASCII)
_LONGEST_ID = 500


class HubId:
    """`owner/name`, with `/file` where it is not a usual name, and `@revision` (branch, tag or commit)."""

    def __init__(self, text: str) -> None:
        """Raises ModelError for what the hub cannot have, or what would be no place in the cache."""
        match = _match(text)
        if match is None:
            raise ModelError(
                f"'{shown(text)}' is no hub id; expected owner/name, owner/name/file or owner/name@revision."
            )
        self.repo = match["repo"]
        self.file = match["file"]
        self.revision = match["revision"] or constants.DEFAULT_REVISION
        try:
            validate_repo_id(self.repo)
        except HFValidationError as error:
            raise ModelError(f"'{shown(text)}' is no hub id: {str(error).rstrip('.')}.") from error
        for name in filter(None, (self.file, self.revision)):
            if not is_safe(name):
                raise ModelError(f"'{shown(text)}' is no hub id: '{shown(name)}' is no name of a file or revision.")

    @staticmethod
    def fits(text: str) -> bool:
        """Whether the text can be a hub id: two names, or more where the last one is a weight file's."""
        match = _match(text)
        return (
            match is not None
            and not text.startswith(".")
            and (not match["repo"].endswith(ENDINGS) if match["file"] is None else match["file"].endswith(ENDINGS))
        )


def cached(hub_id: HubId) -> Path | None:
    """The weight file in huggingface_hub's cache, or None, also where the cache may not be read. Asks nobody."""
    try:
        snapshot, names = cache.names(hub_id.repo, hub_id.revision)
    except (OSError, ModelError):
        return None
    name = choose(names) if hub_id.file is None else hub_id.file if hub_id.file in names else None
    return snapshot / name if name else None


def get(hub_id: HubId, refresh: bool = False) -> Path:
    """The weight file of a hub id. What the cache has is used without asking the hub, unless `refresh`.

    A robot thus starts without network and with the weights it had yesterday. Raises ModelError with the reason and
    how to get the file by hand, and Stopped.
    """
    found = cached(hub_id)
    if found is not None and not refresh:
        return found
    try:
        if constants.HF_HUB_OFFLINE:
            raise _Offline
        return _download(hub_id)
    except (Refused, Lost, OSError, OutputError, _Offline) as error:
        if found is not None:
            note(f"{_reason(hub_id, error)} The cache has a copy, which is used.")
            return found
        unknown = isinstance(error, Refused) and error.why in (Refusal.REPOSITORY, Refusal.REVISION)
        by_hand = "" if unknown else _by_hand(hub_id)
        raise ModelError(f"{_reason(hub_id, error)} {by_hand}model:=geometric needs no weights.") from error


class _Offline(Exception):
    """HF_HUB_OFFLINE is set."""


def _match(text: str) -> re.Match[str] | None:
    return HUB_ID.fullmatch(text) if len(text) <= _LONGEST_ID else None


def _download(hub_id: HubId) -> Path:
    cache.root()  # where it can be none, nobody is asked
    if hub_id.file:
        return fetch(hub_id.repo, hub_id.file, hub_id.revision)
    try:
        return fetch(hub_id.repo, NAMES[0], hub_id.revision)
    except Refused as error:
        if error.why is not Refusal.FILE:
            raise
        names = names_of(hub_id.repo, hub_id.revision)
    name = choose(names)
    if name is None:
        found = [shown(each, 80) for each in weight_files(names)]
        several = f"several ({', '.join(found[:4])}): name one, as {hub_id.repo}/{found[0]}" if found else "none"
        raise ModelError(
            f"Of the files of {hub_id.repo}, one has to be the weights (safetensors or torch); got {several}."
        )
    return fetch(hub_id.repo, name, hub_id.revision)


def _reason(hub_id: HubId, error: BaseException) -> str:
    name, hub = hub_id.repo, shown_address(constants.ENDPOINT)
    if isinstance(error, Refused):
        return _refusal(hub_id, error)
    if isinstance(error, _Offline):
        return (
            f"The weights {name} are not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to download."
        )
    if isinstance(error, OutputError):
        return f"The weights {name} cannot be stored: {str(error).rstrip('.')}. HF_HOME chooses another place."
    if isinstance(error, OSError):
        place = error.filename or constants.HF_HUB_CACHE
        reason = error.strerror or (errno.errorcode.get(error.errno or 0, "no reason given"))
        return f"The weights {name} cannot be stored in {shown(place)}: {reason}. HF_HOME chooses another place."
    return (
        f"The weights {name} could not be downloaded from {hub}: {str(error).rstrip('.')}. What has arrived is kept "
        "for the next try."
    )


def _refusal(hub_id: HubId, refused: Refused) -> str:
    name, hub = hub_id.repo, shown_address(constants.ENDPOINT)
    if refused.why is Refusal.GATED:
        return (
            f"The weights {name} are given only to those who accept their licence: log in at {hub}/{name}, accept it, "
            "then run 'hf auth login' here or set HF_TOKEN."
        )
    if refused.why is Refusal.REVISION:
        return f"{name} has no revision '{hub_id.revision}' at {hub}."
    if refused.why is Refusal.REPOSITORY:
        return (
            f"There is no file or folder {name} here, and no such repository at {hub} (or it is private: then run "
            "'hf auth login' or set HF_TOKEN). spatial-fm weights list names those that are known."
        )
    if refused.why is Refusal.FILE:
        return f"{name} has no file '{hub_id.file or NAMES[0]}' in its revision '{hub_id.revision}' at {hub}."
    return f"The hub {hub} answered {refused.status} when asked for {name}."


def _by_hand(hub_id: HubId) -> str:
    address = f"{shown_address(constants.ENDPOINT)}/{hub_id.repo}/resolve/{hub_id.revision}/{hub_id.file or NAMES[0]}"
    return f"By hand: download {address} elsewhere and set checkpoint:=FILE. "
