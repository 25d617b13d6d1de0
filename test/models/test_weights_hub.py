"""Checkpoints of the hub over real HTTP: downloads that break and go on, the cache, offline, and every refusal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from other_user import not_root
from small_hub import COMMIT, SmallHub

from spatial_fm_ros.core.models.weights.choice import weight_files
from spatial_fm_ros.core.models.weights.hub import HubId
from spatial_fm_ros.core.models.weights.licences import COMMERCIAL, DEFAULT, PUBLISHED, published, said

#: huggingface_hub passes data on in pieces of 10 MB, so what is to be kept of a download has to be longer.
LARGE = bytes(range(256)) * 100_000  # 25.6 MB
SMALL = b"weights" * 1000
DA3, VGGT = "depth-anything/DA3-BASE", "facebook/VGGT-1B"

ASK = """
import sys
from spatial_fm_ros.core.errors import SpatialFMError
from spatial_fm_ros.core.models.weights.source import resolve
for source in sys.argv[1:]:
    refresh = source.startswith("new ")
    try:
        print(resolve(source.removeprefix("new ").strip("-"), "depth_anything_3", refresh=refresh).path)
    except SpatialFMError as error:
        print("error:", error)
"""


@dataclass
class Asked:
    answers: list[str]
    said: str


@dataclass
class Robot:
    """A computer with a cache of its own that knows one hub."""

    hub: SmallHub
    home: Path

    def start(self, *sources: str, **variables: str) -> subprocess.Popen[str]:
        keep = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        set_here = {"HF_ENDPOINT": self.hub.address, "HF_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}
        environment = {
            **keep,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            **set_here,
            **variables,
        }
        command = [sys.executable, "-c", ASK, *(source or "-" for source in sources)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def ask(self, *sources: str, **variables: str) -> Asked:
        process = self.start(*sources, **variables)
        answers, words = process.communicate(timeout=60)
        assert process.returncode == 0, words
        return Asked(answers.splitlines(), words)

    def partial(self) -> list[Path]:
        return list(self.home.rglob("*.partial"))


@pytest.fixture
def robot(tmp_path):
    with SmallHub({DA3: {"config.json": b"{}", "model.safetensors": SMALL}}) as hub:
        yield Robot(hub, tmp_path / "home")


def test_a_download_is_kept_and_the_hub_is_not_asked_again(robot):
    first = robot.ask("", DA3)
    assert Path(first.answers[0]).read_bytes() == SMALL and first.answers[0] == first.answers[1]
    assert "models--depth-anything--DA3-BASE" in first.answers[0] and COMMIT in first.answers[0]
    assert len(robot.hub.downloads()) == 1 and "downloading 7.0 kB" in first.said
    assert first.said.count(f"weights {DA3}: Apache-2.0: commercial use is allowed") == 2  # once a load
    robot.hub.requests.clear()
    again = robot.ask(DA3, f"{DA3}@main", f"{DA3}@{COMMIT}", f"{DA3}/model.safetensors", first.answers[0])
    offline = robot.ask(DA3, "x/y", HF_HUB_OFFLINE="1")
    assert set(again.answers) == {first.answers[0]} and robot.hub.requests == []
    assert again.said.count("Apache-2.0") == 5  # a file of the cache is known by its place
    assert offline.answers[0] == first.answers[0]
    assert "x/y are not in the cache" in offline.answers[1] and "HF_HUB_OFFLINE forbids" in offline.answers[1]
    assert "By hand: download http" in offline.answers[1] and "model:=geometric" in offline.answers[1]


def test_a_newer_file_is_fetched_only_when_asked_for(robot):
    old = robot.ask(DA3).answers[0]
    robot.hub.repos[DA3]["model.safetensors"] = SMALL + b"newer"
    robot.hub.commit = "f" * 40
    kept, new = robot.ask(DA3, f"new {DA3}").answers
    assert kept == old and Path(old).read_bytes() == SMALL
    assert Path(new).read_bytes() == SMALL + b"newer" and robot.ask(DA3).answers == [new]
    robot.hub.broken = True
    unreachable = robot.ask(f"new {DA3}")
    assert (
        unreachable.answers == [new]
        and "answered 503" in unreachable.said
        and "a copy, which is used" in unreachable.said
    )


def test_a_lost_connection_is_taken_up_again(robot):
    robot.hub.repos[DA3]["model.safetensors"] = LARGE
    robot.hub.stop_after = 15_000_000
    found = robot.ask(DA3).answers
    assert Path(found[0]).read_bytes() == LARGE and robot.partial() == []
    first, second = robot.hub.downloads()
    assert first.range == "" and 10_000_000 <= int(second.range.removeprefix("bytes=").rstrip("-")) < 15_000_001


def test_an_interrupted_program_goes_on_where_it_was(robot):
    """Killed, interrupted by Ctrl-C, and once more: no byte is asked for twice that has arrived."""
    robot.hub.repos[DA3]["model.safetensors"] = LARGE
    kept = 0
    for kind in (signal.SIGKILL, signal.SIGINT):
        robot.hub.stop_after, robot.hub.hang = 11_000_000, True
        robot.hub.stopped.clear()
        process = robot.start(DA3)
        assert robot.hub.stopped.wait(30)
        wait_until(lambda known=kept: sum(path.stat().st_size for path in robot.partial()) > known + 9_000_000)
        process.send_signal(kind)
        process.communicate(timeout=30)
        (partial,) = robot.partial()
        kept = partial.stat().st_size
        assert LARGE.startswith(partial.read_bytes())
    robot.hub.stop_after = None
    done = robot.ask(DA3)
    assert Path(done.answers[0]).read_bytes() == LARGE and robot.partial() == []
    assert f"going on after {kept / 1e6:.1f} MB of 25.6 MB" in done.said
    assert robot.hub.downloads()[-1].range == f"bytes={kept}-"


def test_a_damaged_download_is_not_kept(robot):
    robot.hub.corrupt = True
    damaged = robot.ask(DA3).answers[0]
    assert damaged.startswith("error:") and "arrived damaged" in damaged
    assert robot.partial() == [] and not list(robot.home.rglob("model.safetensors"))
    robot.hub.corrupt = False
    assert Path(robot.ask(DA3).answers[0]).read_bytes() == SMALL


def test_a_partial_file_that_is_too_long_is_begun_anew(robot):
    path = Path(robot.ask(DA3).answers[0])
    blob = path.resolve()
    path.unlink()
    blob.rename(blob.with_name(blob.name + ".partial"))
    with robot.partial()[0].open("ab") as file:
        file.write(b"more")
    assert Path(robot.ask(DA3).answers[0]).read_bytes() == SMALL and robot.partial() == []


def test_two_programs_share_one_download(robot):
    robot.hub.repos[DA3]["model.safetensors"] = LARGE
    robot.hub.stop_after, robot.hub.hang = 11_000_000, True
    first = robot.start(DA3)
    assert robot.hub.stopped.wait(30)
    second = robot.start(DA3)
    assert "another process is downloading it; waiting" in iter_until(second, "waiting")
    robot.hub.stop_after = None
    robot.hub.closing.set()  # the connection of the first is lost; it goes on by itself
    answers = [process.communicate(timeout=60)[0].strip() for process in (first, second)]
    assert answers[0] == answers[1] and Path(answers[0]).read_bytes() == LARGE
    assert len(robot.hub.downloads()) == 2 and robot.partial() == []  # both of the first


def test_which_file_of_a_repository(robot):
    robot.hub.repos |= {
        "a/torch": {"README.md": b"x", "model.pt": SMALL},
        "a/odd": {"README.md": b"x", "vggt_1B.pt": SMALL, "LICENSE": b"x"},
        "a/two": {"one.pt": SMALL, "two.pt": SMALL},
        "a/none": {"README.md": b"x"},
    }
    torch, odd, two, one, none, absent = robot.ask(
        "a/torch", "a/odd@v1", "a/two", "a/two/one.pt", "a/none", "a/none/model.pt"
    ).answers
    assert torch.endswith("/model.pt") and odd.endswith("/vggt_1B.pt") and one.endswith("/one.pt")
    assert "several (one.pt, two.pt): name one, as a/two/one.pt" in two
    assert "got none" in none and "a/none has no file 'model.pt'" in absent


def test_refusals_are_explained(robot, tmp_path):
    robot.hub.repos |= {VGGT + "-Commercial": {"model.pt": SMALL}, "a/huge": {"model.safetensors": SMALL}}
    robot.hub.gated.add(VGGT + "-Commercial")
    robot.hub.claimed = {"a/huge": 10**15}
    gated, absent, revision, huge = robot.ask(VGGT + "-Commercial", "a/absent", f"{DA3}@v9", "a/huge").answers
    assert "accept their licence" in gated and f"log in at {robot.hub.address}/{VGGT}-Commercial" in gated
    assert "no file or folder a/absent here" in absent and "no such repository" in absent
    assert f"{DA3} has no revision 'v9'" in revision
    assert "needs 1000000.00 GB more" in huge and "HF_HOME" in huge
    for answer in (gated, absent, revision, huge):
        assert answer.startswith("error:") and answer.endswith("model:=geometric needs no weights.")
    allowed = robot.ask(VGGT + "-Commercial", HF_TOKEN="hf_secret").answers[0]
    assert Path(allowed).read_bytes() == SMALL
    # The storage is another host: the token is not for it.
    assert not any(request.authorised for request in robot.hub.downloads())
    robot.hub.broken = True
    assert "answered 503 when asked for a/absent" in robot.ask("a/absent").answers[0]
    occupied = tmp_path / "occupied"
    occupied.write_text("a file where the cache should be")
    robot.hub.broken = False
    stored = robot.ask(DA3, HF_HOME=str(occupied)).answers[0]
    assert "cannot be stored in" in stored and "Not a directory" in stored and "HF_HOME chooses another place" in stored


def test_no_network(tmp_path):
    with SmallHub() as hub:
        robot = Robot(hub, tmp_path)
    answer = robot.ask(DA3).answers[0]
    assert f"{DA3} could not be downloaded from {hub.address}" in answer and "refused" in answer
    assert f"download {hub.address}/{DA3}/resolve/main/model.safetensors" in answer


def test_a_cache_without_write_access(robot, tmp_path, monkeypatch):
    from huggingface_hub import constants

    from spatial_fm_ros.core.errors import ModelError
    from spatial_fm_ros.core.models.weights.hub import get

    monkeypatch.setattr(constants, "ENDPOINT", robot.hub.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    tmp_path.chmod(0o555)
    with not_root(), pytest.raises(ModelError, match="cannot be stored in .*: Permission denied. HF_HOME"):
        get(HubId(DA3))
    tmp_path.chmod(0o755)


# -- names and licences ----------------------------------------------------------------------------


def test_hub_ids():
    plain, whole = HubId("owner/name-1.1"), HubId("owner/name/folder/file.pt@refs/pr/1")
    assert (plain.repo, plain.file, plain.revision) == ("owner/name-1.1", None, "main")
    assert (whole.repo, whole.file, whole.revision) == ("owner/name", "folder/file.pt", "refs/pr/1")
    assert all(HubId.fits(known.id) for known in PUBLISHED) and HubId.fits("a/b/c.safetensors")
    for no in ("name", "/abs/file.pt", "./a/b", "../a", "a/b.pt", "a/b/c", "", "a b/c", "a/b@", "~/a"):
        assert not HubId.fits(no), no


def test_the_documented_table_is_true():
    """docs/models.md: every checkpoint in one row, with its size, licence and whether commercial use is allowed."""
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    for known in PUBLISHED:
        name, edition = known.id.split("/")[1], known.id.endswith("-1.1")
        plain = name.removesuffix("-1.1")
        (row,) = (row for row in rows if f"{plain}`" in row)
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert ("-1.1`" in cells[0]) or not edition
        assert abs(float(cells[1].split()[0]) * {"GB": 1e9, "MB": 1e6}[cells[1].split()[1]] / known.size - 1) < 0.005
        assert cells[2] == known.licence.name and cells[3].startswith("yes" if known.licence.commercial else "no")
        assert ("default of" in cells[0]) == (DEFAULT[known.model] == known.id)


def test_licences():
    assert published(VGGT.lower()).licence.commercial is False and published("a/b") is None
    assert published(DEFAULT["depth_anything_3"]).licence.commercial is True
    for model, name in {**DEFAULT, **COMMERCIAL}.items():
        assert published(name).model == model
    assert all(published(name).licence.commercial for name in COMMERCIAL.values())
    assert said(published(VGGT)).endswith(
        "no commercial use, the authors must be named; facebook/VGGT-1B-Commercial allows it"
    )
    assert published(VGGT).size == 5_026_150_064
    assert weight_files(["b.pt", "a.safetensors", "README.md", "c.onnx"]) == ["a.safetensors", "b.pt"]


def wait_until(happened) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, "waited 30 s in vain"
        time.sleep(0.02)


def iter_until(process: subprocess.Popen[str], word: str) -> str:
    """What a program says on stderr until a line with `word`."""
    said_so_far = ""
    for line in process.stderr:
        said_so_far += line
        if word in line:
            break
    return said_so_far
