"""What the hub says about a file, in the only forms that are accepted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.io.names import shown, shown_address
from spatial_fm_ros.core.models.weights import wire
from spatial_fm_ros.core.models.weights.settings import constants

_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SIZE = re.compile(r"[0-9]{1,18}")
#: No weights are larger, bytes.
LARGEST = 10**15
#: Most bytes of the list of a repository's files.
_LIST_BYTES = 16 * 2**20
_LONGEST_NAME, _LONGEST_PART = 1000, 200


class Refusal(Enum):
    """Why the hub gives no file."""

    GATED = "GatedRepo"
    REVISION = "RevisionNotFound"
    FILE = "EntryNotFound"
    REPOSITORY = "RepoNotFound"
    OTHER = ""


class Refused(Exception):
    """The hub gives no file. `status` is the HTTP status of its answer."""

    def __init__(self, why: Refusal, status: int) -> None:
        super().__init__(f"{why.name} ({status})")
        self.why, self.status = why, status


@dataclass(frozen=True)
class RemoteFile:
    """A file of the hub: its SHA-256 (64 lower-case hexadecimal digits) or git's blob hash (40), commit, bytes."""

    hash: str
    commit: str
    size: int


def file_address(repo: str, name: str, revision: str) -> str:
    return f"{constants.ENDPOINT}/{repo}/resolve/{quote(revision, safe='')}/{quote(name)}"


def describe(repo: str, name: str, revision: str) -> RemoteFile:
    """What the hub says of a file. Raises Refused, Lost, Stopped, and ModelError for what cannot be believed."""
    with wire.ask("HEAD", file_address(repo, name, revision), leave=True) as answer:
        refuse_status(answer)
        headers = answer.headers
    what = f"{shown_address(constants.ENDPOINT)} says of {repo}/{shown(name)}"
    return RemoteFile(_hash(headers, what), _commit(headers, revision, what), _size(headers, what))


def names_of(repo: str, revision: str) -> list[str]:
    """Names of a repository's files; those that cannot be names in a folder are left out. Raises as `describe`."""
    with wire.ask("GET", f"{constants.ENDPOINT}/api/models/{repo}/revision/{quote(revision, safe='')}") as answer:
        refuse_status(answer)
        content = wire.whole(answer, _LIST_BYTES)
    try:
        listed = json.loads(content)["siblings"]
        names = [each["rfilename"] for each in listed]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        hub = shown_address(constants.ENDPOINT)
        raise ModelError(f"{hub} gives no list of the files of {repo}; it is no hub.") from error
    return [name for name in names if isinstance(name, str) and is_safe(name)]


def is_safe(name: str) -> bool:
    """Whether a name of the hub (a file's, a revision) can be one below a folder, and only there."""
    parts = name.split("/")
    return (
        len(name) <= _LONGEST_NAME
        and name.isprintable()
        and "\\" not in name
        and all(part not in ("", ".", "..") and len(part.encode()) <= _LONGEST_PART for part in parts)
    )


def refuse_status(answer: wire.Answer) -> None:
    """Raises Refused for an answer that is an error."""
    if answer.status < 400:
        return
    code = answer.headers.get("x-error-code", "")
    known = next((why for why in Refusal if why.value and why.value == code), None)
    if known is None:
        known = Refusal.REPOSITORY if answer.status == 401 else Refusal.OTHER
    raise Refused(known, answer.status)


def _hash(headers: Mapping[str, str], what: str) -> str:
    said = headers.get("x-linked-etag") or headers.get("etag") or ""
    plain = said.strip().removeprefix("W/").strip('"').lower()
    if not _HASH.fullmatch(plain):
        raise ModelError(
            f"{what} that its ETag is '{shown(said, 80)}'; expected its SHA-256 (64 hexadecimal digits) or git's hash "
            "(40), by which the content is checked. HF_ENDPOINT has to be the address of a hub."
        )
    return plain


def _commit(headers: Mapping[str, str], revision: str, what: str) -> str:
    said = headers.get("x-repo-commit", "")
    if not _COMMIT.fullmatch(said):
        raise ModelError(f"{what} that its commit is '{shown(said, 80)}'; expected 40 hexadecimal digits.")
    if _COMMIT.fullmatch(revision) and revision != said:
        raise ModelError(f"{what} that its commit is {said}, but {revision} was asked for.")
    return said


def _size(headers: Mapping[str, str], what: str) -> int:
    said = headers.get("x-linked-size") or headers.get("content-length") or ""
    if not _SIZE.fullmatch(said) or not 0 < int(said) <= LARGEST:
        raise ModelError(f"{what} that it has '{shown(said, 40)}' bytes; expected a number from 1 to {LARGEST}.")
    return int(said)
