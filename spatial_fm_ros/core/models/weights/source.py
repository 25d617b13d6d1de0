"""From what a user writes as `checkpoint` to a file on this computer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.weights import checksum
from spatial_fm_ros.core.models.weights.choice import NAMES, choose, weight_files
from spatial_fm_ros.core.models.weights.hub import HubId, get
from spatial_fm_ros.core.models.weights.licences import DEFAULT, Licence, published, said
from spatial_fm_ros.core.models.weights.reporting import note


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
    path = Path(asked).expanduser()
    if path.exists():
        file = _in_folder(path) if path.is_dir() else path
        known = published(_repo_of_cached(file))
    elif HubId.fits(asked):
        hub_id = HubId(asked)
        known = published(hub_id.repo)
        file = get(hub_id, refresh)
    else:
        raise ModelError(
            f"The checkpoint {asked} does not exist; expected a file, a folder with {NAMES[0]} or {NAMES[1]}, or a hub "
            f"id such as {DEFAULT.get(model, 'owner/name')}. model:=geometric needs no weights."
        )
    if sha256:
        checksum.verify(file, sha256)
    licence = known.licence if known else None
    if known:
        note(said(known))
    return CheckpointFile(file, asked, licence)


def _in_folder(folder: Path) -> Path:
    try:
        names = [path.name for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        raise ModelError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error
    name = choose(names)
    if name is not None:
        return folder / name
    found = weight_files(names)
    if found:
        raise ModelError(f"The folder {folder} holds several weight files ({', '.join(found[:4])}); name one of them.")
    raise ModelError(
        f"The folder {folder} holds no weights; expected {' or '.join(NAMES)} or one *.safetensors or *.pt."
    )


def _repo_of_cached(path: Path) -> str:
    """The hub id of a file inside huggingface_hub's cache; empty for any other."""
    for part in path.absolute().parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return ""
