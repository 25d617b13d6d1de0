"""Random answers of a hub, and what must hold of whoever asks it."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from huggingface_hub import constants
from small_hub import COMMIT, Lie, SmallHub, git_hash

from spatial_fm_ros.core.errors import SpatialFMError
from spatial_fm_ros.core.models.weights.hub import HubId, get

REPO = "owner/name"


@contextlib.contextmanager
def here(address: str, cache: Path) -> Iterator[None]:
    """In this process, the hub is at `address` and the cache is `cache`."""
    with (
        mock.patch.object(constants, "ENDPOINT", address),
        mock.patch.object(constants, "HF_HUB_CACHE", str(cache)),
        mock.patch.object(constants, "HF_HUB_OFFLINE", False),
    ):
        yield


class Answers:
    """What a hub says, all of it following from the seed: true in most parts, so that lies get far."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._headers: list[tuple[str, str]] = []

    def to(self, hub: SmallHub, content: bytes) -> None:
        """Let a hub answer so."""
        base = hub.address
        # The same answers whatever the order of the requests' threads is.
        answers = {"HEAD": [self._head(base, content) for _ in range(8)], "GET": []}
        answers["GET"] = [self._get(base, content) for _ in range(8)]

        def lie(method: str, _path: str) -> Lie | None:
            return answers[method].pop() if answers[method] else Lie(404, [("Content-Length", "0")])

        hub.lie = lie

    def _pick(self, true: str, *lies: str) -> str:
        return true if self._random.random() < 0.75 else self._random.choice([*lies, self._noise()])

    def _noise(self) -> str:
        letters = "0123456789abcdefABCDEF./\\-_ :;,%\"'\x1b\x7fé"
        return "".join(self._random.choices(letters, k=self._random.randrange(90)))

    def _head(self, base: str, content: bytes) -> Lie:
        sha, length = hashlib.sha256(content).hexdigest(), len(content)
        etag = self._pick(f'"{sha}"', f'W/"{sha}"', f'"{git_hash(content)}"', '"../../../../escaped"', f'"{sha}/../x"',
                          "/etc/passwd", sha.upper(), "0" * 64, "0" * 40, "")  # fmt: skip
        headers = [
            (self._random.choice(["ETag", "X-Linked-Etag", "x-linked-etag"]), etag),
            ("X-Repo-Commit", self._pick(COMMIT, "../../../../escaped", "f" * 40, "main", "")),
            (self._random.choice(["Content-Length", "X-Linked-Size"]), self._size(length)),
            ("Location", self._location(base)),
        ]
        code = self._pick("", "RepoNotFound", "EntryNotFound", "GatedRepo", "RevisionNotFound")
        headers += [("X-Error-Code", code)] if code else []
        return Lie(self._status(), self._some(headers))

    def _get(self, base: str, content: bytes) -> Lie:
        body, length = content, len(content)
        start = self._random.randrange(length)
        kind = self._random.random()
        if kind < 0.1:
            body = gzip.compress(bytes(1_000_000))
        elif kind < 0.2:
            body = content + bytes(self._random.randrange(200_000))
        elif kind < 0.4:
            body = content[: self._random.randrange(length)]
        elif kind < 0.5:
            body = content[start:]
        elif kind < 0.6:
            body = self._random.randbytes(length)
        span = f"bytes {start}-{length - 1}/{length}"
        headers = [
            ("Content-Length", self._size(len(body))),
            ("Content-Encoding", self._pick("identity", "gzip", "br", "deflate, gzip")),
            ("Content-Range", self._pick(span, "bytes 0-0/1", "bytes */0", "bytes -1-2/3")),
            ("Location", self._location(base)),
            ("Transfer-Encoding", self._pick("", "chunked", "gzip")),
        ]
        return Lie(self._status(), self._some([(name, value) for name, value in headers if value]), [body])

    def _size(self, true: int) -> str:
        return self._pick(str(true), "0", "-1", "1" * 17, "9" * 400, "1e3", "0x10", str(true - 1), str(true + 1), " 7")

    def _location(self, base: str) -> str:
        elsewhere = base.replace("127.0.0.1", "localhost")
        odd = ("file:///etc/passwd", "//", "http://[::", "?", "..", "\x00", "http://user:pass@127.0.0.1:1/")
        return self._pick(f"{base}/storage/x", "/storage/x", f"{elsewhere}/x", *odd)

    def _status(self) -> int:
        return int(self._random.choice(["302", "307", "206", "404", "401", "500", "416", "204", "304", "999"])
                   if self._random.random() < 0.25 else "200")  # fmt: skip

    def _some(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Some left out, some twice; characters that a header cannot have in Latin-1 are left out."""
        chosen = [header for header in headers if self._random.random() < 0.92]
        if self._random.random() < 0.1:
            chosen.append(self._random.choice(headers))
        return [(name, value.encode("latin-1", "ignore").decode("latin-1")) for name, value in chosen]


def ask(hub: SmallHub, answers: Answers, cache: Path, content: bytes) -> str:
    """Ask a hub that answers so, with an empty cache. What is wrong afterwards, '' for nothing."""
    shutil.rmtree(cache, ignore_errors=True)
    before = _files(cache.parent)
    answers.to(hub, content)
    try:
        path = get(HubId(REPO))
    except SpatialFMError as error:
        if not str(error).endswith(".") or not str(error).isprintable() or len(str(error)) > 3000:
            return f"no sentence: {error!r}"
    else:
        held = path.read_bytes()
        blob = path.resolve()
        if not blob.is_relative_to(cache.resolve()) or blob.name not in (_sha256(held), git_hash(held)):
            return f"{path} is not what its name says"
    if outside := {name for name in _files(cache.parent) - before if not name.startswith(f"{cache.name}/")}:
        return f"files outside the cache: {outside}"
    longest = max((file.stat().st_size for file in cache.rglob("*") if file.is_file()), default=0)
    return f"{longest} bytes in the cache" if longest > len(content) + 10 else ""


def _files(folder: Path) -> set[str]:
    return {os.path.relpath(os.path.join(place, name), folder) for place, _, names in os.walk(folder) for name in names}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
