"""`spatial-fm weights`: what is there, what a file is, and a download, as users run them."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from running import command, environment
from small_hub import Lie, SmallHub
from sparse_checkpoint import write_sparse

from spatial_fm_ros.core.models import depth_anything_3
from spatial_fm_ros.core.models.weights.licences import PUBLISHED


def shapes_of(variant: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return depth_anything_3.build(variant).published_layout().needed


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_sparse(tmp_path_factory.mktemp("weights") / "model.safetensors", shapes_of("small"))


def test_list_names_every_checkpoint_and_licence(spatial_fm, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = spatial_fm("weights", "list")
    assert done.returncode == 0, done.stderr
    assert all(f"{known.id} " in done.stdout for known in PUBLISHED)  # not cut even on a narrow terminal
    assert "facebook/VGGT-1B (default)" in done.stdout and "depth-anything/DA3-BASE (default)" in done.stdout
    assert "CC BY-NC 4.0: no commercial use" in done.stdout and "Apache-2.0: commercial use is allowed" in done.stdout


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("HF_ENDPOINT", "http://[::1", r"HF_ENDPOINT is 'http://\[::1', which is no address"),
        ("HF_ENDPOINT", "http://127.0.0.1:99999", "HF_ENDPOINT is 'http://127.0.0.1:99999', which is no address"),
        ("HF_HOME", "~nosuchuser/x", "The path '~nosuchuser/x/hub' cannot be used"),
    ],
)
def test_settings_of_the_hub_that_are_none_are_named(name, value, sentence):
    settings = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", name: value}
    settings.pop("HF_HUB_CACHE", None)
    arguments = command("weights", "get", "facebook/VGGT-1B")
    done = subprocess.run(arguments, env=settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and re.search(sentence, done.stderr), done.stderr


def test_check_says_what_a_file_is(base, spatial_fm, tmp_path):
    done = spatial_fm("weights", "check", base)
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(base.read_bytes()).hexdigest()
    for words in ("a Depth Anything 3 SMALL checkpoint", "437 with 34,299,463 parameters, float32", "as published",
                  f"model:=depth_anything_3 checkpoint:={base}", digest):  # fmt: skip
        assert words in done.stdout, done.stdout
    assert spatial_fm("weights", "check", base.parent, "--sha256", digest).returncode == 0
    other = spatial_fm("weights", "check", base, "--sha256", "0" * 64)
    assert other.returncode == 2 and "not the one that is expected" in other.stderr
    save_file({"layer1.0.conv1.weight": torch.ones(2)}, tmp_path / "resnet.safetensors")
    foreign = spatial_fm("weights", "check", tmp_path / "resnet.safetensors")
    assert foreign.returncode == 0 and "a ResNet" in foreign.stdout and "no model of this package" in foreign.stdout


def test_check_refuses_in_a_sentence(base, spatial_fm, tmp_path):
    short = tmp_path / "model.safetensors"
    with base.open("rb") as whole:
        short.write_bytes(whole.read(100_000))
    cut = {name: shape for name, shape in shapes_of("small").items() if "cam_dec.fc_t" not in name}
    for path, words in (
        (short, "damaged or not whole"),
        (write_sparse(tmp_path / "cut.safetensors", cut), "model.cam_dec.fc_t.weight"),
        (tmp_path / "absent.pt", "does not exist"),
    ):
        done = spatial_fm("weights", "check", path)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_get_downloads_and_prints_the_place(tmp_path):
    """In processes of their own: HF_ENDPOINT and HF_HOME count when huggingface_hub is imported."""
    content = b"weights" * 100
    kept = {name: value for name, value in environment().items() if not name.startswith("HF_")}
    with SmallHub({"a/b": {"model.safetensors": content}}) as hub:
        here = {**kept, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path)}

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(command("weights", *words), capture_output=True, text=True, env=here, timeout=60)

        got = run("get", "a/b", "--sha256", hashlib.sha256(content).hexdigest())
        assert got.returncode == 0, got.stderr
        path = Path(got.stdout.strip())
        assert path.read_bytes() == content and tmp_path in path.parents and "downloading 700 B" in got.stderr
        refused = run("get", "a/nothing")
        assert refused.returncode == 2 and "no such repository" in refused.stderr and "Traceback" not in refused.stderr
    assert os.path.samefile(run("get", "a/b").stdout.strip(), path)  # the hub is gone, the cache is not


def test_ctrl_c_ends_a_download_that_drips(tmp_path):
    """And what has arrived is there for the next time."""
    ended = threading.Event()

    def drip():
        while not ended.wait(0.05):
            yield b"w"

    kept = {name: value for name, value in environment().items() if not name.startswith("HF_")}
    for action in ("get", "check"):
        with SmallHub({"a/b": {"model.safetensors": b"w" * 10_000}}) as hub:
            hub.lie = lambda _method, path: Lie(200, [], drip()) if path.startswith("/storage") else None
            here = {**kept, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path)}
            arguments = command("weights", action, "a/b")
            child = subprocess.Popen(arguments, env=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            deadline = time.monotonic() + 60
            while not any(path.stat().st_size > 10 for path in tmp_path.rglob("*.partial")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=10)
            assert child.returncode == 130 and "interrupted" in said and "Traceback" not in said, said
            ended.set()
            ended = threading.Event()
        (partial,) = tmp_path.rglob("*.partial")
        assert 10 < partial.stat().st_size < 10_000
        partial.unlink()
