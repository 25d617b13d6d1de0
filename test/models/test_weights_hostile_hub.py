"""A hub that lies: nothing outside the cache, nothing unchecked, nothing without end, and it ends when told to."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from hostile_hub import Answers, ask, here
from small_hub import COMMIT, Lie, SmallHub, git_hash

from spatial_fm_ros.core import stopping
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.weights import cache, download, wire
from spatial_fm_ros.core.models.weights.hub import HubId, cached, get
from spatial_fm_ros.core.models.weights.source import resolve

CONTENT = b"weights" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()
REPO = "owner/name"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with SmallHub({REPO: {"model.safetensors": CONTENT}}) as running, here(running.address, tmp_path / "cache"):
        monkeypatch.setattr(download, "RETRY_AFTER_S", 0.01)
        yield running


def lying(etag: str = SHA, commit: str = COMMIT, size: object = len(CONTENT), **others: str):
    """Headers of a file's description that are as they should be but for what is given."""
    headers = [("ETag", f'"{etag}"'), ("X-Repo-Commit", commit), ("Content-Length", str(size))]
    return lambda method, _path: Lie(200, [*headers, *others.items()], [CONTENT]) if method == "HEAD" else None


def everything(tmp_path: Path) -> set[str]:
    return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lying(etag="../../../../escaped"), "its ETag is '\"../../../../escaped\"'; expected its SHA-256"),
        (lying(etag="escaped"), "its ETag is"),
        (lying(etag="e" * 5000), "its ETag is"),
        (lying(etag=SHA + "-gzip"), "its ETag is"),
        (lying(commit="../../../../escaped"), "its commit is '../../../../escaped'; expected 40"),
        (lying(commit=COMMIT.upper()), "its commit is"),
        (lying(size=-5), "could not be downloaded"),
        (lying(size=0), "it has '0' bytes"),
        (lying(**{"X-Linked-Size": "-5"}), "it has '-5' bytes"),
        (lying(**{"X-Linked-Size": "1e3"}), "it has '1e3' bytes"),
        (lying(size=10**18), f"it has '{10**18}' bytes"),
        (lying(size=len(CONTENT) + 5), "now 7000 of 7005 are to come"),
        (lying(etag="0" * 64), "arrived damaged"),
        (lying(etag="0" * 40), "arrived damaged"),
    ],
)  # fmt: skip
def test_what_the_hub_says_is_believed_in_one_form_only(hub, tmp_path, lie, words):
    hub.lie = lie
    with pytest.raises(ModelError) as raised:
        get(HubId(REPO))
    assert words in str(raised.value) and str(raised.value).endswith(".")
    assert everything(tmp_path) <= {f"cache/models--owner--name/blobs/{SHA}.partial"}


def test_a_commit_that_was_asked_for_is_the_one_that_is_given(hub):
    hub.repos[REPO]["model.safetensors"] = CONTENT
    hub.lie = lying(commit="f" * 40)
    with pytest.raises(ModelError, match=f"its commit is f{{40}}, but {COMMIT} was asked for"):
        get(HubId(f"{REPO}@{COMMIT}"))


def test_the_hub_is_asked_once_and_small_files_have_the_hash_of_git(hub, tmp_path):
    hub.plain.add(REPO)
    path = get(HubId(REPO))
    assert path.read_bytes() == CONTENT and path.resolve().name == git_hash(CONTENT)
    assert [request.method for request in hub.requests] == ["HEAD", "GET"]
    hub.corrupt, hub.repos[REPO]["other.pt"] = True, CONTENT[1:]
    with pytest.raises(ModelError, match="arrived damaged"):
        get(HubId(f"{REPO}/other.pt"))
    # What others have put into the cache under a file's name is looked at as well.
    path.resolve().write_bytes(CONTENT[:-1] + b"!")
    hub.corrupt = False
    with pytest.raises(ModelError, match="is damaged: it is not the file the hub has; remove it"):
        get(HubId(REPO), refresh=True)


def test_content_without_end_is_given_up_at_the_first_byte_too_many(hub, tmp_path):
    sent = []

    def endless():
        for _ in range(1000):
            sent.append(1_000_000)
            yield bytes(1_000_000)

    hub.lie = lambda method, path: Lie(200, [], endless()) if path.startswith("/storage") else None
    with pytest.raises(ModelError, match="has 7000 bytes, the hub says, but sends more; it was given up"):
        get(HubId(REPO))
    assert everything(tmp_path) == set() and sum(sent) < 100_000_000  # what fits into the buffers of a socket


def test_nothing_is_unpacked(hub, tmp_path):
    bomb = gzip.compress(bytes(10_000_000))
    headers = [("Content-Encoding", "gzip"), ("Content-Length", str(len(bomb)))]
    hub.lie = lambda method, path: Lie(200, headers, [bomb]) if path.startswith("/storage") else None
    with pytest.raises(ModelError, match="sends its content as 'gzip'"):
        get(HubId(REPO))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.partial")) == 0


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("file:///etc/passwd", "which is no address"),
        ("ftp://127.0.0.1/x", "only http and https are followed"),
        ("http://[", "which is no address"),
        ("/storage/again", "redirected more than 5 times"),
        ("/" + "a" * 9000, "which is no address"),
    ],
)
def test_redirects_are_bounded(hub, location, words):
    hub.lie = lambda _method, path: (
        Lie(302, [("Location", location), ("Content-Length", "0")]) if path.startswith("/storage") else None
    )
    with pytest.raises(ModelError, match=words):
        get(HubId(REPO))


def test_a_hub_that_drips_is_given_up_and_goes_on_later(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LEAST_OVER_S", 0.5)

    def drip():
        for byte in CONTENT:
            yield bytes([byte])
            time.sleep(0.01)

    hub.lie = lambda _method, path: Lie(200, [], drip()) if path.startswith("/storage") else None
    with pytest.raises(ModelError, match=r"less than 1.0 kB/s: it was given up. What has arrived is kept"):
        get(HubId(REPO))
    (partial,) = tmp_path.rglob("*.partial")
    kept = partial.stat().st_size
    assert 0 < kept < 1000 and CONTENT.startswith(partial.read_bytes())
    hub.lie = lambda _method, _path: None
    assert get(HubId(REPO)).read_bytes() == CONTENT and hub.downloads()[-1].range == f"bytes={kept}-"


def test_ranges_that_are_none(hub, tmp_path):
    place = cache.blob(REPO, SHA)
    partial = place.with_name(place.name + ".partial")
    partial.write_bytes(CONTENT[:1000])
    other = [("Content-Range", "bytes 0-6999/7000"), ("Content-Length", "7000")]
    hub.lie = lambda _method, path: Lie(206, other, [CONTENT]) if path.startswith("/storage") else None
    with pytest.raises(ModelError, match="bytes 1000 to 6999 of 7000 were asked for, but the hub sends 'bytes 0-6999"):
        get(HubId(REPO))
    hub.lie = lambda _method, path: Lie(200, other[1:], [CONTENT]) if path.startswith("/storage") else None
    assert get(HubId(REPO)).read_bytes() == CONTENT  # a server without ranges sends it all


@pytest.mark.parametrize("state", ["no answer", "no content", "drip", "locked", "checking"])
def test_it_ends_when_told(hub, state, monkeypatch):
    silent = threading.Event()

    def slow():
        while not silent.wait(0.05):
            yield b"w"

    def answer(method, path):
        if state == "no answer":
            silent.wait(20)
        if path.startswith("/storage") and state in ("no content", "drip"):
            return Lie(200, [], slow() if state == "drip" else (b"" for _ in range(1) if silent.wait(20)))
        return None

    hub.lie = answer
    place = cache.blob(REPO, SHA)
    with place.with_name(place.name + ".partial").open("ab") as other:
        if state == "locked":
            fcntl.flock(other, fcntl.LOCK_EX)
        if state == "checking":
            big = cache.root() / "large.pt"
            with big.open("wb") as file:
                os.truncate(file.fileno(), 10**13)
        told = threading.Event()
        threading.Timer(0.4, told.set).start()
        began = time.monotonic()
        with stopping.until(told), pytest.raises(stopping.Stopped, match="given up, as it was told to"):
            if state == "checking":
                resolve(str(big), "vggt", "0" * 64)
            else:
                get(HubId(REPO))
        assert time.monotonic() - began < 10  # none of the waits above ends by itself before 20 s
    silent.set()


def test_ids_that_the_hub_cannot_have_are_a_sentence():
    for text in (
        "a--b/c", "o/n@" + "r" * 600, "o/n@../../x", "o/n/../../x.pt", "o/n@/x", "o/n@a//b", "-a/b", "a/b..c", "o/é",
        "a" * 97 + "/b", "o/n@..", "o/n.git", "o/x/.pt@.", "o/n/" + "d/" * 300 + "x.pt", "~nosuchuser/x", "a/b\0c.pt",
    ):  # fmt: skip
        with pytest.raises(ModelError) as raised:
            resolve(text, "vggt")
        assert str(raised.value).endswith(".") and len(str(raised.value)) < 1000, text


def test_names_of_files_stay_below_the_snapshot(hub, tmp_path):
    hub.repos[REPO] = {
        "../../../../escaped.pt": CONTENT,
        "/abs.pt": CONTENT,
        "a\\..\\b.pt": CONTENT,
        "\x1b[2J.pt": b"x",
    }
    with pytest.raises(ModelError, match="one has to be the weights .*; got none"):
        get(HubId(REPO))
    hub.repos[REPO]["sub/fine.pt"] = CONTENT
    assert get(HubId(REPO)) == tmp_path / "cache/models--owner--name/snapshots" / COMMIT / "sub/fine.pt"
    for body in (b"[" * 100_000, b"{}", b'{"siblings": 3}', b"\xff", b'{"siblings": [{"rfilename": 3}, {}]}'):
        lie = Lie(200, [], [body])
        hub.lie = lambda _method, path, lie=lie: lie if path.startswith("/api") else None
        with pytest.raises(ModelError, match="gives no list of the files of owner/none"):
            hub.repos["owner/none"] = {}
            get(HubId("owner/none"))


def test_links_that_lead_out_of_the_cache_are_not_followed(hub, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "secret.safetensors"
    secret.write_bytes(b"secret")
    path = get(HubId(REPO))
    repo = cache.folder(REPO)
    path.unlink()
    path.symlink_to(secret)
    assert cached(HubId(REPO)) is None
    assert get(HubId(REPO)).read_bytes() == CONTENT and secret.read_bytes() == b"secret"  # the link is replaced
    for content in ("../../../../outside", "", "x" * 1000, str(outside)):
        (repo / "refs/main").write_text(content)
        assert cached(HubId(REPO)) is None
    (repo / "refs/main").unlink()
    os.mkfifo(repo / "refs/main")
    assert cached(HubId(REPO)) is None
    (repo / "refs/main").unlink()
    for inner in ("refs/main", "blobs", f"snapshots/{COMMIT}"):
        link = repo / inner
        if link.exists():
            link.rename(link.with_name("aside"))
        link.symlink_to(outside if inner != "refs/main" else outside / "written")
        with pytest.raises(ModelError, match="which is outside; remove that link"):
            get(HubId(REPO), refresh=True)
        link.unlink()
        if link.with_name("aside").exists():
            link.with_name("aside").rename(link)
    assert sorted(os.listdir(outside)) == ["secret.safetensors"]
    blob = repo / "blobs" / SHA
    blob.unlink()
    os.mkfifo(blob.with_name(SHA + ".partial"))
    with pytest.raises(ModelError, match="no regular file"):
        get(HubId(REPO), refresh=True)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_answers_of_any_kind(seed, hub, tmp_path, monkeypatch):
    """scripts/fuzz/hub.py does so for as long as it is told to."""
    monkeypatch.setattr(wire, "STILL_S", 2.0)
    assert ask(hub, Answers(seed), tmp_path / "cache", CONTENT) == ""


def test_the_list_is_read_as_far_as_a_list_may_go(hub, monkeypatch):
    hub.repos["owner/long"] = {}
    lie = Lie(200, [("Content-Type", "application/json")], (json.dumps("x" * 10**6).encode() for _ in range(100)))
    hub.lie = lambda _method, path: lie if path.startswith("/api") else None
    with pytest.raises(ModelError, match="sends more than the 16777216 bytes"):
        get(HubId("owner/long"))
