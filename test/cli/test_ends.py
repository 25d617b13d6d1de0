"""How commands end: one sentence whatever happens, text from anywhere shown as text, and when they are told to."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from running import environment, oracle

from spatial_fm_ros.core.errors import OutputError
from spatial_fm_ros.core.io.cloud_files import read_cloud
from spatial_fm_ros.evaluation.tum import read_tum

TRUTH = Path(__file__).parent.parent / "evaluation" / "data" / "truth.tum"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "spatial_fm_ros", *map(str, arguments)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["map", "~nosuchuser/bag", "-o", "x"], "The path '~nosuchuser/bag' cannot be used"),
        (["map", "{here}", "-o", "~nosuchuser/x"], "cannot be used|no images"),
        (["config", "~nosuchuser/c.yaml"], "The path '~nosuchuser/c.yaml' cannot be used"),
        (["map", str(TRUTH.parent), "-o", "{here}/" + "x" * 300], "images|cannot be written: File name too long"),
        (["evaluate", "depth", "{here}/" + "x" * 300, "{here}"], "cannot be used .File name too long"),
        (["evaluate", "trajectory", str(TRUTH), str(TRUTH), "--json", "{here}/no/x"], "is no folder that can be"),
        (["evaluate", "trajectory", str(TRUTH), str(TRUTH), "--tolerance", "inf"], "A tolerance is 0 s or above"),
        (["config", "/dev/zero"], "is no regular file but a device"),
        (["config", "{here}/deep.yaml"], "is nested deeper than 64 levels"),
        (["config", "--set", "[/x]"], r"got '\[/x\]'"),
        (["config", "--set", "map.[/x]=1"], r"Unknown parameter 'map.\[/x\]'"),
        (["map", "{here}/[/x]", "-o", "{here}/out"], r"There is no input at .*\[/x\]"),
        (["map", "{here}/\x1b[31m", "-o", "{here}/out"], r"There is no input at"),
        (["simulate", "room_still", "-o", "{here}/s", "--duration", "nan"], "takes up to 86400 s, got nan s"),
        (["simulate", "room_still", "-o", "{here}/s", "--seed", "-1"], "A seed is a whole number from 0 on"),
        (["simulate", "room_still", "-o", "{here}/s", "--stereo", "inf"], "up to 10 m away, got inf m"),
        (["evaluate", "trajectory", "{here}/fifo", str(TRUTH)], "is no regular file but a FIFO"),
        (["evaluate", "trajectory", str(TRUTH), str(TRUTH), "--json", "{here}/notes"], "is no table of figures"),
        (["evaluate", "trajectory", "{here}/t.tum", str(TRUTH), "--json", "{here}/t.tum"], "an input or another"),
        (["evaluate", "trajectory", str(TRUTH), str(TRUTH), "--plot", "{here}"], "is no regular file but a folder"),
    ],
)
def test_mistakes_of_any_kind_are_one_sentence(arguments, sentence, tmp_path, spatial_fm):
    import re

    (tmp_path / "deep.yaml").write_text("[" * 50_000)
    (tmp_path / "notes").write_text("precious")
    os.mkfifo(tmp_path / "fifo")
    shutil.copy(TRUTH, tmp_path / "t.tum")
    done = spatial_fm(*(argument.replace("{here}", str(tmp_path)) for argument in arguments))
    assert done.returncode == 2 and re.search(sentence, done.stderr), done.stderr
    assert done.stderr.count("error:") == 1 and "\x1b" not in done.stderr and "internal" not in done.stderr
    assert (tmp_path / "notes").read_text() == "precious" and (tmp_path / "t.tum").read_bytes() == TRUTH.read_bytes()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError("by [/x] \x1b[2J zero"), r"internal error, please report it: ZeroDivisionError: by \[/x\] "),
        (MemoryError(), "There is not enough memory"),
        (RecursionError("deep"), "internal error, please report it: RecursionError: deep"),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "no"), "internal error, please report it: UnicodeEncodeError"),
    ],
)
def test_any_exception_is_one_sentence(error, words, spatial_fm, monkeypatch):
    import re

    from spatial_fm_ros.core import config_files

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(config_files, "load_config", fails)
    done = spatial_fm("config")
    assert done.returncode == 2 and re.search(words, done.stderr) and "\x1b" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_odd_names_are_text_everywhere(recorded, tmp_path):
    """Markup, escapes and bytes that are no UTF-8, on a terminal that knows ASCII alone, from input to report."""
    source = tmp_path / os.fsdecode(b"[/a] $x^ \x1b[31m caf\xe9")
    shutil.copytree(recorded / "sequence", source, ignore=shutil.ignore_patterns("truth", "lidar"))
    out = tmp_path / os.fsdecode(b"[b]o\xff[/i]")
    arguments = ["map", source, "-o", out, *oracle(recorded / "sequence"), "--stop", 1.0]
    environ = {**environment(), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(command(*arguments), env=environ, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert rb"[/a] $x^ \x1b[31m caf\xe9" in done.stdout and b"\x1b" not in done.stdout + done.stderr
    assert rb"[b]o\xff[/i]" in done.stdout
    assert r"\x1b[31m caf\xe9" in (out / "report.html").read_text("utf-8")
    assert r"\x1b[31m caf\\xe9" in (out / "report.json").read_text("utf-8").replace(r"\\x1b", r"\x1b")


def test_streams_that_are_closed_lead_nowhere(tmp_path):
    """Nothing that is opened gets their numbers, and the work is done all the same."""
    line = " ".join(shlex.quote(word) for word in command("evaluate", "trajectory", TRUTH, TRUTH, "--json", "x"))
    for closed in (">&-", "<&- >&- 2>&-"):
        done = subprocess.run(["bash", "-c", f"{line} {closed}"], cwd=tmp_path, capture_output=True, timeout=120)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert json.loads((tmp_path / "x").read_text())["matched"] > 100
        (tmp_path / "x").unlink()


def test_a_reader_that_leaves_is_no_error(recorded, tmp_path):
    """`spatial-fm map ... | head`: the words are lost, the map is not."""
    process = subprocess.Popen(command("config"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(60) in (0, 141)
    arguments = ["map", recorded / "bag", "-o", tmp_path / "out", *oracle(recorded / "bag"), "--stop", 1.0]
    process = subprocess.Popen(command(*arguments), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read() and process.wait(100) in (0, 141)
    assert (tmp_path / "out" / "report.html").exists()


def until(place: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 100
    while not place.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_writing_lets_it_finish(recorded, tmp_path, kind):
    arguments = command("map", recorded / "bag", "-o", tmp_path, *oracle(recorded / "bag"))
    process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(tmp_path / "trajectory.tum", process)
    process.send_signal(kind)
    said, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + kind and "finishing; Ctrl-C again to stop at once" in said, errors
    for name in ("map.ply", "report.json", "report.html", "depth/index.json", "views/top.png"):
        assert (tmp_path / name).stat().st_size > 0
    assert len(read_cloud(tmp_path / "map.ply").points) > 1000


def test_a_second_signal_stops_the_writing(recorded, tmp_path):
    """What is written by then is whole, nothing half-written stays; the next run knows what is whose."""
    arguments = ["map", recorded / "bag", "-o", tmp_path, *oracle(recorded / "bag")]
    process = subprocess.Popen(command(*arguments), env=environment(), stderr=subprocess.PIPE, text=True)
    until(tmp_path / "trajectory.tum", process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - asked < 30 and process.returncode == 130 and "Traceback" not in errors
    assert not list(tmp_path.rglob("*.sfm-part")) and len(read_tum(tmp_path / "trajectory.tum")) > 8
    again = subprocess.run(command(*arguments, "--overwrite", "--stop", 0.5), env=environment(), capture_output=True)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_cannot_be_interrupted_ends_all_the_same(kind):
    """The main thread waits in code that never returns, and swallows what it is told."""
    program = (
        "import time\nfrom spatial_fm_ros.core import interrupts\n"
        "with interrupts.raising():\n"
        "    while True:\n"
        "        try:\n            print('ready', flush=True)\n            time.sleep(100)\n"
        "        except KeyboardInterrupt:\n            pass\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(kind)
    assert process.wait(30) == 128 + kind


def test_a_result_that_fails_costs_no_other(recorded, tmp_path, spatial_fm, monkeypatch):
    from spatial_fm_ros.offline import results

    def fails(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(results, "map_views", fails)
    monkeypatch.setattr(results, "write_trajectories", fails)
    monkeypatch.setattr(results.DepthWriter, "close", fails)
    done = spatial_fm("map", recorded / "bag", "-o", tmp_path, *oracle(recorded / "bag"), "--stop", 1.5)
    assert done.returncode == 2 and "The trajectories could not be made" in done.stderr and "2 more" in done.stderr
    assert (tmp_path / "map.ply").exists() and "by zero" in (tmp_path / "report.json").read_text()
    assert (tmp_path / "report.html").exists()


def test_depth_that_cannot_be_written_does_not_end_the_mapping(recorded, tmp_path, spatial_fm, monkeypatch):
    from spatial_fm_ros.offline import results

    def full(*_: object) -> None:
        raise OutputError("The depth image cannot be written (No space left on device).")

    monkeypatch.setattr(results.DepthWriter, "add", full)
    done = spatial_fm("map", recorded / "bag", "-o", tmp_path, *oracle(recorded / "bag"))
    assert done.returncode == 2 and "No space left on device" in done.stderr
    assert len(read_tum(tmp_path / "trajectory.tum")) > 8 and (tmp_path / "map.ply").exists()


def test_why_there_is_no_map(tmp_path, spatial_fm):
    (tmp_path / "dark").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):  # 12 bits in 16
        cv2.imwrite(str(tmp_path / "dark" / f"{i:03d}.png"), rng.integers(0, 900, (120, 160)).astype(np.uint16))
    done = spatial_fm("map", tmp_path / "dark", "-o", tmp_path / "out")
    assert done.returncode == 1 and "No map: 4 of 4 images were left out (4 dark)" in done.stderr, done.stderr
    assert "intake.dark_level" in done.stderr and "see the windows' notes" not in done.stderr


def test_why_there_is_no_image(recorded, tmp_path, spatial_fm):
    copy = tmp_path / "sequence"
    shutil.copytree(recorded / "sequence", copy, ignore=shutil.ignore_patterns("truth"))
    for image in (copy / "images").iterdir():
        image.write_bytes(image.read_bytes()[:700])
    (tmp_path / "out").mkdir()
    done = spatial_fm("map", copy, "-o", tmp_path / "out", "--start", 0.5, "--stop", 1.5)
    assert done.returncode == 2 and "gave no image. " in done.stderr, done.stderr
    for words in ("Skipped ", "from 0.5 s to 1.5 s (--start, --stop)", " LiDAR scans"):
        assert words in done.stderr, done.stderr
    assert not any((tmp_path / "out").iterdir())
