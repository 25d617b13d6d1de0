"""From what a user writes as `checkpoint` to a file on this computer."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.io.names import shown, user_path
from spatial_fm_ros.core.models.weights import checksum
from spatial_fm_ros.core.models.weights.cache import repo_of
from spatial_fm_ros.core.models.weights.choice import NAMES, choose, weight_files
from spatial_fm_ros.core.models.weights.hub import HubId, get
from spatial_fm_ros.core.models.weights.licences import DEFAULT, Licence, published, said
from spatial_fm_ros.core.models.weights.reporting import note

#: Files of a folder that are looked at.
_MOST_FILES = 10_000


@dataclass(frozen=True)
class CheckpointFile:
    """A weight file: where it lies, what was asked for, and its licence where that is known (None: it is not)."""

    path: Path
    source: str
    licence: Licence | None


def resolve(source: str, model: str, sha256: str = "", refresh: bool = False) -> CheckpointFile:
    """The weight file that `source` means.

    `source`: a file; a folder that holds one (config.json beside it is not needed); or a hub id, `owner/name`, with
    `/file` and `@revision` where wanted; empty for the model's default. A hub id is downloaded once, with progress, and
    then comes from huggingface_hub's cache (HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and HF_ENDPOINT are respected);
    `refresh` asks the hub for a newer one. `sha256`, where given, must be the file's. The licence of known weights is
    said on stderr. Raises ModelError with the reason and the remedy, ConfigError for a `sha256` that is none.
    """
    asked = source or DEFAULT.get(model, "")
    if not asked:
        raise ModelError(f"model.checkpoint is empty and '{model}' has no default: name a file, a folder or a hub id.")
    path = user_path(asked, ModelError)
    if _exists(path):
        file = _in_folder(path) if path.is_dir() else path
        known = published(repo_of(file))
    elif HubId.fits(asked):
        hub_id = HubId(asked)
        known = published(hub_id.repo)
        file = get(hub_id, refresh)
    else:
        raise ModelError(
            f"The checkpoint {shown(asked)} does not exist; expected a file, a folder with {NAMES[0]} or {NAMES[1]}, "
            f"or a hub id such as {DEFAULT.get(model, 'owner/name')}. model:=geometric needs no weights."
        )
    if sha256:
        checksum.verify(file, sha256)
    licence = known.licence if known else None
    if known:
        note(said(known))
    return CheckpointFile(file, asked, licence)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return False
        raise ModelError(f"The checkpoint {shown(path)} cannot be read ({error.strerror}).") from error
    return True


def _in_folder(folder: Path) -> Path:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MOST_FILES + 1) if entry.is_file()]
    except OSError as error:
        raise ModelError(f"The folder {shown(folder)} cannot be read: {error.strerror or error}.") from error
    if len(names) > _MOST_FILES:
        raise ModelError(f"The folder {shown(folder)} holds more than {_MOST_FILES} files; name the file of weights.")
    name = choose(names)
    if name is not None:
        return folder / name
    found = [shown(each, 80) for each in weight_files(names)]
    if found:
        listed = ", ".join(found[:4])
        raise ModelError(f"The folder {shown(folder)} holds several weight files ({listed}); name one of them.")
    raise ModelError(
        f"The folder {shown(folder)} holds no weights; expected {' or '.join(NAMES)} or one *.safetensors or *.pt."
    )
