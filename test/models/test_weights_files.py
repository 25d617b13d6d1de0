"""Checkpoint files: both forms, mapped and never changed; what is none is named by what it looks like."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import resource
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

sys.path.insert(0, str(Path(__file__).parent))
from damaged_checkpoints import attempt, damaged, whole_files
from other_user import not_root

from spatial_fm_ros.core.errors import ConfigError, ModelError
from spatial_fm_ros.core.models.weights import reporting
from spatial_fm_ros.core.models.weights.checksum import sha256_of, verify
from spatial_fm_ros.core.models.weights.choice import choose
from spatial_fm_ros.core.models.weights.files import read
from spatial_fm_ros.core.models.weights.source import resolve

TENSORS = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.tensor([1, 2], dtype=torch.bfloat16)}


def torch_file(path: Path, content: object, **options: bool) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_file(TENSORS, path),
        lambda path: torch_file(path, TENSORS),
        lambda path: torch_file(path, {"model": TENSORS, "epoch": 3}),
        lambda path: torch_file(path, {"state_dict": {"model": TENSORS}, "optimizer": {"lr": [0.1]}}),
        lambda path: torch_file(path, TENSORS, _use_new_zipfile_serialization=False),
    ],
    ids=["safetensors", "torch", "model", "state_dict", "old torch"],
)
def test_every_form_gives_the_same_tensors(write, tmp_path):
    path = tmp_path / "weights.whatever"  # the content decides, not the name
    write(path)
    before = path.read_bytes()
    held = read(path)
    assert held.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert held.tensors[name].dtype == tensor.dtype and torch.equal(held.tensors[name], tensor)
    assert held.shapes == {"a.weight": (3, 4), "b": (2,)} and held.parameters == 14
    assert held.dtypes == ["bfloat16", "float32"]
    held.tensors["a.weight"].fill_(7)
    assert path.read_bytes() == before


class Code:
    """What a pickle with code does when it is opened carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def zipped(**files: bytes) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return memory.getvalue()


def saved(content: object, **options: bool) -> bytes:
    memory = io.BytesIO()
    torch.save(content, memory, **options)
    return memory.getvalue()


def npz() -> bytes:
    memory = io.BytesIO()
    np.savez(memory, a=np.ones(3))
    return memory.getvalue()


WHOLE = save({"a": torch.ones(1000)})
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5026150064\n"


NO_CHECKPOINTS = {
    "empty": (b"", "an empty file"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
    "lfs": (LFS, "Git LFS pointer"),
    "text": (b"Repository not found", "a text file that begins with 'Repository not found'"),
    "config": (json.dumps({"model_name": "da3-base"}).encode(), "a text file that begins with"),
    "safetensors without its end": (WHOLE[:-1], "not whole"),
    "safetensors without its header": (WHOLE[:40], "not whole"),
    "safetensors and more": (WHOLE + b"more", "damaged"),
    "zeros": (bytes(5000), "begin with zeros"),
    "torch without its end": (saved(TENSORS)[:-100], "not wholly downloaded"),
    "torch damaged inside": (saved(TENSORS).replace(b"FloatStorage\nq", b"FloatStorage\n\xff"), "damaged"),
    "old torch without its end": (saved(TENSORS, _use_new_zipfile_serialization=False)[:-10], "not whole"),
    "old torch, its start": (saved(TENSORS, _use_new_zipfile_serialization=False)[:30], "not whole"),
    "npz": (npz(), "a zip archive without tensors (it holds a.npy)"),
    "zip": (zipped(readme=b"hello"), "a zip archive without tensors"),
    "pickle": (pickle.dumps({"a": np.ones(3)}), "a pickle that torch did not write"),
    "gguf": (b"GGUF\x03\x00\x00\x00", "GGUF"),
    "gzip": (gzip.compress(WHOLE), "neither a safetensors nor a torch file"),
    "safetensors without tensors": (struct.pack("<Q", 2) + b"{}", "no tensors"),
    "torch without tensors": (saved({}), "no tensors"),
    "list": (saved([1.0, 2.0]), "holds a list"),
    "numbers": (saved({"epoch": 3, "lr": 0.1}), "no tensors (epoch, lr)"),
}


@pytest.mark.parametrize("case", NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_named(case, tmp_path):
    content, words = NO_CHECKPOINTS[case]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError) as raised:
        read(path)
    assert words in str(raised.value) and str(path) in str(raised.value) and str(raised.value).endswith(".")


CYCLE: dict[str, object] = {}
CYCLE["model"] = CYCLE


def torch_zip(pickled: bytes, packing: int = zipfile.ZIP_STORED, data: bytes = b"") -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", packing) as archive:
        for name, content in (("data.pkl", pickled), ("version", b"3\n"), ("byteorder", b"little"), ("data/0", data)):
            archive.writestr(f"a/{name}", content)
    return memory.getvalue()


def overlapping() -> bytes:
    """An archive whose directory names one record four times."""
    whole = torch_zip(b"\x80\x02}.", data=bytes(10_000))
    start = whole.index(b"PK\x01\x02")
    end = whole.index(b"PK\x05\x06")
    entry = whole.rindex(b"PK\x01\x02")
    more = b"".join(whole[entry:end].replace(b"data/0", b"data/%d" % n) for n in range(1, 5))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 8, 8, end - start + len(more), start, 0)
    return whole[:end] + more + tail


ASK = b"\x80\x02%bJ\xff\xff\xff\x6f\x85R."
DEEP = b"}()" + b"\x85" * 300_000 + b"K\x01u."  # a key of tuples inside tuples: its hash ends the interpreter's stack
FORMS = whole_files()
OLD = saved({}, _use_new_zipfile_serialization=False)
BOMBS = {
    "itself": (saved(CYCLE), "state dicts inside each other, 8 deep or without end"),
    "deflated": (torch_zip(bytes(1 << 26), zipfile.ZIP_DEFLATED), "holds compressed records ('a/data.pkl' of 67108864"),
    "overlapping": (overlapping(), "records that lie over each other"),
    "bytearray": (torch_zip(ASK % b"c__builtin__\nbytearray\n"), "asks for '__builtin__.bytearray'"),
    "tensor": (torch_zip(ASK % b"ctorch\nTensor\n"), "asks for 'torch.Tensor'"),
    "tuples": (torch_zip(b"\x80\x02" + DEEP), "more than 50 tuples inside each other"),
    "old tuples": (OLD.replace(b"}q\x00.", DEEP), "old form that holds more than 50 tuples"),
    "steps": (torch_zip(b"\x80\x02" + b"]" * 10**6 + b"."), "takes more than 500000 steps"),
    "pickle": (torch_zip(b"\x80\x02B\xff\xff\xff\x7f" + bytes(5 << 20)), "has more than 4194304 bytes beside"),
    "expanded": (saved({"a": torch.zeros(1).expand(10**6, 10**6)}), "'a' would need 4000000000000 bytes"),
    "shared": (saved(dict.fromkeys(map(str, range(100)), torch.zeros(10_000))), "more than the file of"),
    "meta": (saved({"a": torch.empty(10**9, device="meta")}), "_rebuild_meta_tensor_no_storage', which no weights"),
    "header": (struct.pack("<Q", 90_000_000) + b"{" + bytes(1000), "neither a safetensors nor a torch file"),
    "nested header": (struct.pack("<Q", 100_000) + b'{"a":' * 20_000, "damaged or not whole"),
    "escapes": (saved({"a\x1b[2J": 3}), "no tensors (a\\x1b[2J)"),
    "no names": (saved({3: torch.ones(1)}), "a key that is no name"),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_a_file_costs_no_more_than_its_size(case, tmp_path):
    content, words = BOMBS[case]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError) as raised:
        read(path)
    assert words in str(raised.value) and str(raised.value).isprintable() and str(raised.value).endswith(".")
    assert time.process_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_damaged_files_are_read_or_named(seed, tmp_path_factory):
    """scripts/fuzz/checkpoints.py does so for as long as it is told to."""
    data = damaged(FORMS[seed % len(FORMS)], random.Random(seed))
    assert attempt(tmp_path_factory.getbasetemp() / "damaged.pt", data) == ""


def test_only_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "loop.pt").symlink_to(tmp_path / "loop.pt")
    for path, words in (
        (tmp_path / "pipe.safetensors", "is no regular file but a FIFO"),
        (Path("/dev/zero"), "is no regular file but a device"),
        (tmp_path / "loop.pt", "Too many levels of symbolic links"),
        ("~nosuchuser/model.pt", "cannot be used"),
        ("x" * 5000, "does not exist"),
        ("a\0b", "zero byte"),
    ):
        with pytest.raises(ModelError, match=words) as raised:
            read(resolve(str(path), "vggt").path)
        assert len(str(raised.value)) < 1000


def test_code_in_a_file_is_not_run(tmp_path):
    path = torch_file(tmp_path / "model.pt", {"model": TENSORS, "run": Code(tmp_path / "made")})
    with pytest.raises(ModelError, match="run code"):
        read(path)
    with pytest.raises(ModelError, match="run code"):
        read(torch_file(tmp_path / "old.pt", Code(tmp_path / "made"), _use_new_zipfile_serialization=False))
    assert not (tmp_path / "made").exists()


def test_a_torch_file_named_safetensors(tmp_path):
    with pytest.raises(ModelError, match="a torch file with the name of a safetensors file; name it .pt"):
        read(torch_file(tmp_path / "model.safetensors", TENSORS))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit")
def test_a_program_is_no_checkpoint(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "model.pt")
    with pytest.raises(ModelError, match="TorchScript program"):
        read(tmp_path / "model.pt")


@settings(max_examples=60, deadline=None)
@given(
    content=st.binary(max_size=200), start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", WHOLE[:60], b"\x80\x05"])
)
def test_bytes_of_any_kind_end_in_a_sentence(content, start, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "noise.bin"
    path.write_bytes(start + content)
    with pytest.raises(ModelError, match=str(path)):
        read(path)


@pytest.mark.parametrize("old", [False, True])
def test_what_cannot_be_looked_through_is_not_opened(old, tmp_path):
    """torch does not mind a checksum that is wrong; it would unpickle what nobody looked at."""
    path = tmp_path / "model.pt"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=not old)
    content = bytearray(path.read_bytes())
    if old:
        del content[-40:]  # within the names of the tensors
    else:
        with zipfile.ZipFile(path) as archive:
            checksum = next(entry.CRC for entry in archive.infolist() if "data.pkl" in entry.filename)
        content = content.replace(struct.pack("<I", checksum), struct.pack("<I", checksum ^ 1))
        assert torch.load(io.BytesIO(content), weights_only=True)
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or not whole"):
        read(path)


def test_unreadable_places(tmp_path):
    with pytest.raises(ModelError, match="it is a folder"):
        read(tmp_path)
    with pytest.raises(ModelError, match=r"cannot be read \(No such file"):
        read(tmp_path / "nothing")
    path = tmp_path / "model.safetensors"
    path.write_bytes(WHOLE)
    path.chmod(0)
    with not_root(), pytest.raises(ModelError, match=r"cannot be read \(Permission denied"):
        read(path)


def test_choice_of_the_weight_file():
    assert choose(["model.pt", "config.json", "model.safetensors", "other.safetensors"]) == "model.safetensors"
    assert choose(["README.md", "model.pt", "log.bin"]) == "model.pt"
    assert choose(["vggt_1B.pt", "config.json"]) == "vggt_1B.pt"
    assert choose(["a.pt", "weights.safetensors", "b.pt"]) == "weights.safetensors"
    assert choose(["a.pt", "b.pt"]) is None and choose(["README.md"]) is None


def test_local_sources(tmp_path, capfd):
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path)
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(path), "vggt").path == resolve(str(tmp_path), "vggt").path == path
    assert resolve(str(path), "vggt").licence is None and capfd.readouterr().err == ""
    path.rename(tmp_path / "mine.pt")
    (tmp_path / "other.pt").touch()
    for source, words in (
        (str(tmp_path), "several weight files (mine.pt, other.pt); name one"),
        (str(tmp_path / "nothing.pt"), "does not exist; expected a file, a folder"),
        ("/absent/folder", "model:=geometric needs no weights"),
        ("nothing.safetensors", "does not exist"),
        ("owner/nothing.safetensors", "does not exist"),
        ("./owner/name", "does not exist"),
    ):
        with pytest.raises(ModelError) as raised:
            resolve(source, "vggt")
        assert words in str(raised.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no weights; expected model.safetensors or"):
        resolve(str(tmp_path / "empty"), "vggt")
    with pytest.raises(ModelError, match="'geometric' has no default"):
        resolve("", "geometric")


def test_sha256(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert sha256_of(path) == known
    verify(path, known.upper())
    assert resolve(str(path), "vggt", known).path == path
    with pytest.raises(ModelError, match=f"SHA-256 is {known}, model.sha256 says 0000"):
        resolve(str(path), "vggt", "0" * 64)
    with pytest.raises(ConfigError, match="64 hexadecimal digits, got 'abc'"):
        resolve(str(path), "vggt", "abc")


def test_progress_in_a_log_is_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reporting, "LINE_EVERY_S", 0.0)
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(10_000_000))
    sha256_of(path)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[0].startswith("checking model.safetensors: 4.2 MB of 10.0 MB (42 %), ")
    assert lines[-1].startswith("checking model.safetensors: 10.0 MB of 10.0 MB (100 %), ") and lines[0].endswith("B/s")


def test_sizes_for_people():
    assert [reporting.size(n) for n in (0, 999, 1000, 137_197_852, 5_026_150_064)] == [
        "0 B", "999 B", "1.0 kB", "137.2 MB", "5.03 GB",
    ]  # fmt: skip
