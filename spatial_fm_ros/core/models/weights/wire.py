"""Answers of HTTP servers, of which nothing is believed: how long one may take, where it leads, how it is coded.

The request is made by huggingface_hub's own client (proxies, certificates and offline mode are as everywhere) in a
thread of its own, so that whoever waits can give up at any moment: while a name is looked up, while a server says
nothing, and while it drips.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from spatial_fm_ros.core import stopping
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.io.names import shown, shown_address
from spatial_fm_ros.core.models.weights.settings import build_hf_headers, constants, get_session

#: A server that says nothing for so long is lost, seconds.
STILL_S = 20.0
#: The head of an answer takes at most so long, however slowly it comes, seconds.
HEAD_S = 60.0
#: Redirects that are followed.
REDIRECTS = 5
#: Pieces (of at most 64 kB, as the client gives them) that wait to be taken.
_AHEAD = 16
_LONGEST_ADDRESS = 8192


class Lost(Exception):
    """The connection failed, in words; trying again may help."""


@dataclass(frozen=True)
class Answer:
    """The last answer to a request. `headers` have lower-case names, one that came several times has ', ' inside.

    `pieces` are the content's bytes as they came over the wire, never decompressed; an empty one comes now and then
    while there is nothing, so that whoever takes them can look at the clock.
    """

    status: int
    headers: Mapping[str, str]
    address: str
    pieces: Iterator[bytes]


@contextmanager
def ask(method: str, address: str, more: Mapping[str, str] | None = None, leave: bool = False) -> Iterator[Answer]:
    """The answer of a server, after redirects.

    `leave`: redirects to another server are not followed but are the answer. The hub's token is sent to the hub only.
    Raises Lost, Stopped, and ModelError for a redirect that is not followed.
    """
    at = address
    for _ in range(REDIRECTS + 1):
        with _exchange(method, at, {"Accept-Encoding": "identity", **(more or {})}) as answer:
            if not (300 <= answer.status < 400 and "location" in answer.headers):
                yield answer
                return
            target = _target(at, answer.headers["location"])
            if leave and (_origin(target) != _origin(at) or "x-linked-etag" in answer.headers):
                yield answer
                return
            at = target
    raise ModelError(f"{shown(address)} was redirected more than {REDIRECTS} times; HF_ENDPOINT has to be a hub.")


def whole(answer: Answer, most: int) -> bytes:
    """The content of an answer of at most `most` bytes. Raises Lost, Stopped, and ModelError for a longer one."""
    refuse_coding(answer)
    content = bytearray()
    deadline = time.monotonic() + HEAD_S
    for piece in answer.pieces:
        content += piece
        if len(content) > most:
            sender = shown_address(answer.address)
            raise ModelError(f"{sender} sends more than the {most} bytes such an answer may have.")
        if time.monotonic() > deadline:
            raise Lost(f"the answer did not come within {HEAD_S:.0f} s")
    return bytes(content)


def refuse_coding(answer: Answer) -> None:
    """Raises ModelError for compressed content: what is asked for is the file's own bytes."""
    coding = answer.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise ModelError(
            f"{shown_address(answer.address)} sends its content as '{shown(coding, 40)}' although the plain bytes were "
            "asked for; nothing is unpacked. Try again, without a proxy that changes what it hands on."
        )


def _target(at: str, location: str) -> str:
    try:
        target = urljoin(at, location)
        parts = urlsplit(target)
        whole_address = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        whole_address = False
    if not whole_address or len(location) > _LONGEST_ADDRESS or not target.isprintable():
        raise ModelError(f"{shown(at)} leads to '{shown(location)}', which is no address.")
    if parts.scheme not in ("http", "https") or (urlsplit(at).scheme, parts.scheme) == ("https", "http"):
        raise ModelError(
            f"{shown(at)} leads to '{shown(location)}'; only http and https are followed, and https not to http."
        )
    return target


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port


@contextmanager
def _exchange(method: str, address: str, headers: Mapping[str, str]) -> Iterator[Answer]:
    own = build_hf_headers()
    if _origin(address) != _origin(constants.ENDPOINT):
        own = {name: value for name, value in own.items() if name.lower() != "authorization"}
    talk = _Talk(method, address, {**own, **headers})
    try:
        status, received = talk.head()
        yield Answer(status, received, address, talk.pieces())
    finally:
        talk.leave()


_Item = tuple[int, dict[str, str]] | bytes | Lost | None


class _Talk:
    """One request and its answer, in a daemon thread that ends soon after it is left."""

    def __init__(self, method: str, address: str, headers: Mapping[str, str]) -> None:
        self._items: queue.Queue[_Item] = queue.Queue(_AHEAD)
        self._left = threading.Event()
        threading.Thread(target=self._run, args=(method, address, dict(headers)), name="hub", daemon=True).start()

    def head(self) -> tuple[int, dict[str, str]]:
        deadline = time.monotonic() + HEAD_S
        while time.monotonic() < deadline:
            item = self._take()
            if isinstance(item, tuple):
                return item
        raise Lost(f"no answer within {HEAD_S:.0f} s")

    def pieces(self) -> Iterator[bytes]:
        while (piece := self._take()) is not None:
            assert isinstance(piece, bytes)
            yield piece

    def leave(self) -> None:
        self._left.set()

    def _take(self) -> tuple[int, dict[str, str]] | bytes | None:
        """The next item; b"" when there is none yet. Raises Lost, Stopped."""
        stopping.check()
        try:
            item = self._items.get(timeout=stopping.ASK_EVERY_S)
        except queue.Empty:
            return b""
        if isinstance(item, Lost):
            raise item
        return item

    def _run(self, method: str, address: str, headers: dict[str, str]) -> None:
        try:
            stream = get_session().stream(method, address, headers=headers, follow_redirects=False, timeout=STILL_S)
            with stream as response:
                self._put((response.status_code, {name.lower(): value for name, value in response.headers.items()}))
                if method != "HEAD":
                    for piece in response.iter_raw():
                        self._put(piece)
            self._put(None)
        except Exception as error:  # what a server can cause differs between clients and their versions
            words = str(error).strip().splitlines()
            self._put(Lost(shown(words[0].rstrip(".") if words else type(error).__name__)))

    def _put(self, item: _Item) -> None:
        while not self._left.is_set():
            try:
                self._items.put(item, timeout=stopping.ASK_EVERY_S)
                return
            except queue.Full:
                continue
        if isinstance(item, bytes):
            raise Lost("nobody listens any more")
