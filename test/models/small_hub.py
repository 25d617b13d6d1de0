"""A hub over real HTTP on this computer: the few addresses that huggingface_hub asks for files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Request:
    method: str
    path: str
    range: str
    authorised: bool


@dataclass
class Lie:
    """An answer of any kind: what stands in `headers` is sent as it is, and nothing else but the body's pieces."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: Iterable[bytes] = ()


@dataclass
class SmallHub:
    """`repos` maps 'owner/name' to {file name: content}; `gated` and `private` ask for a token, `broken` answers 503.

    Large files come through a redirect to another address, as from the real hub's storage. `stop_after` bytes of a
    large file, a download loses its connection, or with `hang` stands still until `closing`. `claimed` sizes of a
    repository's files are what it says instead of their own. `lie` (method, path) may answer instead of it.
    Repositories in `plain` have their files in git: no redirect, and git's hash.
    """

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict, repr=False)
    gated: set[str] = field(default_factory=set)
    broken: bool = False
    stop_after: int | None = None
    hang: bool = False
    corrupt: bool = False
    commit: str = COMMIT
    claimed: dict[str, int] = field(default_factory=dict)
    lie: Callable[[str, str], Lie | None] = lambda _method, _path: None
    plain: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list, repr=False)
    stopped: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> SmallHub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def downloads(self) -> list[Request]:
        """Requests for the content of large files."""
        return [request for request in self.requests if request.path.startswith("/storage/")]


def _handler(hub: SmallHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Requests are kept, not printed."""

        def do_HEAD(self) -> None:
            self._answer(content=False)

        def do_GET(self) -> None:
            self._answer(content=True)

        def _answer(self, content: bool) -> None:
            path = self.path.split("?")[0]
            authorised = "Authorization" in self.headers
            hub.requests.append(Request(self.command, path, self.headers.get("Range", ""), authorised))
            parts = path.strip("/").split("/")
            if (lie := hub.lie(self.command, path)) is not None:
                self._lie(lie, content)
            elif hub.broken:
                self._reply(503, b"")
            elif parts[0] == "storage":
                self._content(
                    next(f for r in hub.repos.values() for f in r.values() if _sha256(f) == parts[1]), content
                )
            elif parts[:2] == ["api", "models"]:
                repo = hub.repos["/".join(parts[2:4])]
                listed = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in repo.items()]
                if parts[4:5] == ["tree"]:
                    self._reply(200, json.dumps(listed).encode(), {"Content-Type": "application/json"})
                else:
                    siblings = {"id": "/".join(parts[2:4]), "siblings": [{"rfilename": n} for n in repo]}
                    self._reply(200, json.dumps(siblings).encode(), {"Content-Type": "application/json"})
            elif parts[2:3] != ["resolve"]:
                self._reply(404, b"")
            else:
                self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), authorised)

        def _file(self, name: str, revision: str, file: str, authorised: bool) -> None:
            if name not in hub.repos:
                self._reply(401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            elif name in hub.gated and not authorised:
                self._reply(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
            elif revision not in ("main", hub.commit, "v1"):
                self._reply(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
            elif file not in hub.repos[name]:
                headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
                self._reply(404, b"", {**headers, "X-Repo-Commit": hub.commit})
            else:
                content = hub.repos[name][file]
                if name in hub.plain:
                    self._content(content, self.command == "GET", git_hash(content))
                    return
                sha = _sha256(content)
                size = str(hub.claimed.get(name, len(content)))
                linked = {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": size, "X-Repo-Commit": hub.commit}
                self._reply(
                    302, b"", {**linked, "Location": f"{hub.address.replace('127.0.0.1', 'localhost')}/storage/{sha}"}
                )

        def _lie(self, lie: Lie, content: bool) -> None:
            self.send_response_only(lie.status)
            for key, value in lie.headers:
                self.send_header(key, value)
            self.end_headers()
            self.close_connection = True
            if content:
                with contextlib.suppress(OSError):
                    for piece in lie.body:
                        self.wfile.write(piece)
                        self.wfile.flush()

        def _content(self, content: bytes, wanted: bool, etag: str = "") -> None:
            total, first = len(content), 0
            if (span := self.headers.get("Range", "")).startswith("bytes="):
                first = int(span[6:].split("-")[0])
            if hub.corrupt:
                content = content[:-1] + bytes([content[-1] ^ 1])
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(total - first))
            self.send_header("ETag", f'"{etag or _sha256(content)}"')
            self.send_header("X-Repo-Commit", hub.commit)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
            self.end_headers()
            if not wanted:
                return
            end = total if hub.stop_after is None else min(total, first + hub.stop_after)
            self.wfile.write(content[first:end])
            self.wfile.flush()
            if end < total:
                hub.stopped.set()
                if hub.hang:
                    hub.closing.wait()
                hub.stop_after = None
                self.close_connection = True
                self.connection.shutdown(2)

        def _reply(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(code)
            for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
