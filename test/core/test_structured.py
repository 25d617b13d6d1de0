"""JSON, YAML and NumPy files from anywhere are values or one sentence; their size is known before memory is spent."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.errors import ConfigError, SpatialFMError
from spatial_fm_ros.core.io.arrays import read_npy, read_npz
from spatial_fm_ros.core.io.structured import read_json, read_yaml

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "\n".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]" for before, name in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    "text, words",
    [
        ("[" * 50_000, "nested deeper than 64"),
        ("[" * 80 + "]" * 80, "nested deeper than 64"),
        ('{"a": {"b": [1, NaN]}}', "not finite at 'a.b[1]'"),
        ('{"a": 1e999}', "not finite at 'a'"),
        ('{"a": %s}' % ("9" * 5000), "more than 64 bits at 'a'"),
        ('{"a": -99999999999999999999}', "more than 64 bits at 'a'"),
        ('{"rate": 1, "rate": 2}', "has the key 'rate' twice"),
        ('{"a": 1,}', "is no JSON"),
        ("", "is no JSON"),
    ],
)
def test_json_that_cannot_be_used_is_one_sentence(tmp_path, text, words):
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(ConfigError) as told:
        read_json(file, "description", ConfigError)
    assert words in str(told.value) and str(file) in str(told.value) and len(str(told.value)) < 1000


@pytest.mark.parametrize(
    "text, words",
    [
        ("[" * 200_000, "nested deeper than 64"),  # the composer of libyaml ends the process here
        ("- " * 200_000, "nested deeper than 64"),
        (BOMB, "more than 200000 values in line"),
        ("a: &a\n  b: *a", "holds itself: alias '*a' in line 2"),
        ("a: {b: 1}\na: 2", "has the key 'a' twice in line 2"),
        ("a: !!python/object/apply:os.system ['true']", "tag:yaml.org,2002:python/object/apply:os.system"),
        ("a: 0x" + "f" * 100, "more than 64 bits at 'a'"),
        ("a: " + "1" * 9000, "bare value of 9000 letters"),
        ("a: 2001-13-45", "cannot be read: month must be"),
        ("? [1, 2]\n: x", "found unhashable key"),
        ("a: 1\n---\na: 2", "document"),
        ("a: [1", "is no YAML"),
        ("a: \x1b[31m", "is no YAML"),
    ],
    ids=lambda text: text[:12],
)
def test_yaml_that_cannot_be_used_is_one_sentence(tmp_path, text, words):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as told:
        read_yaml(file, "parameter file", ConfigError)
    assert words in str(told.value) and str(file) in str(told.value) and len(str(told.value)) < 1000
    assert "\x1b" not in str(told.value)


def test_what_is_well_formed_is_read(tmp_path):
    (tmp_path / "x.json").write_bytes(
        b'\xef\xbb\xbf{"a": [1, 2.5, true, null, "\xc3\xa9"], "stamp": 18446744073709551615}'
    )
    assert read_json(tmp_path / "x.json", "file") == {"a": [1, 2.5, True, None, "é"], "stamp": 2**64 - 1}
    (tmp_path / "x.yaml").write_text("base: &b {x: 1, y: .inf}\nown: {<<: *b, x: 2}\nlist: [*b, *b]\n")
    assert read_yaml(tmp_path / "x.yaml", "file")["own"] == {"x": 2, "y": float("inf")}
    (tmp_path / "x.yaml").write_text("")
    assert read_yaml(tmp_path / "x.yaml", "file") is None
    (tmp_path / "x.npy").write_bytes(b"")
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(2, 3).T)
    assert (read_npy(tmp_path / "x.npy", "array") == np.arange(6.0).reshape(2, 3).T).all()
    np.savez_compressed(tmp_path / "x.npz", depth=np.ones((2, 3), np.float32), other=np.zeros(0))
    found = read_npz(tmp_path / "x.npz", "depth image", ("depth", "other", "absent"))
    assert sorted(found) == ["depth", "other"] and found["depth"].sum() == 6 and found["other"].shape == (0,)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "absent"])
def test_only_regular_files_are_read(tmp_path, kind):
    place = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "folder":
        place.mkdir()
    for read in (read_json, read_yaml, read_npy, lambda path, what: read_npz(path, what, ("depth",))):
        with pytest.raises(SpatialFMError, match="no regular file|cannot be read"):
            read(place, "file")


def header(shape: str, dtype: str = "'<f8'") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content, words",
    [
        (header("(1000000, 1000000)"), "at most 268435456 are taken"),
        (header("(-1, 4)"), "negative"),
        (header("(2, 3)") + b"\0" * 40, "ends after 40 of 48 bytes"),
        (header("(1,)", "'|O'") + b"\0" * 8, "Python objects"),
        (header("(" * 3000), "Cannot parse header|cannot be used"),
        (b"", "cannot be used"),
    ],
    ids=range(6),
)
def test_arrays_are_bounded_by_what_they_declare(tmp_path, content, words):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(SpatialFMError, match=words):
        read_npy(tmp_path / "x.npy", "depth image")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("depth.npy", content)
    with pytest.raises(SpatialFMError, match=words):
        read_npz(tmp_path / "x.npz", "depth image", ("depth",))


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("depth.npy", header("(4000000,)") + bytes(32_000_000))
    with pytest.raises(SpatialFMError, match="at most 1000000 are taken"):
        read_npz(tmp_path / "x.npz", "depth image", ("depth",), most_bytes=1_000_000)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    at = content.rindex(b"PK\x01\x02") + 24  # the size as the directory states it: a lie
    content[at : at + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(SpatialFMError):
        read_npz(tmp_path / "x.npz", "depth image", ("depth",), most_bytes=1_000_000)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, cuts=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), max_size=3))
def test_any_bytes_are_values_or_a_sentence(tmp_path: Path, tree, cuts):
    packed = io.BytesIO()
    np.savez_compressed(packed, depth=np.arange(12.0).reshape(3, 4))
    plain = io.BytesIO()
    np.save(plain, np.arange(12.0))
    for number, (content, read) in enumerate(
        (
            (json.dumps(tree).encode(), read_json),
            (yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"), read_yaml),
            (plain.getvalue(), read_npy),
            (packed.getvalue(), lambda path, what: read_npz(path, what, ("depth",))),
        )
    ):
        damaged = bytearray(content)
        for at, new in cuts:
            damaged[at % (len(damaged) + 1) : at % (len(damaged) + 1) + len(new)] = new
        file = tmp_path / str(number)
        file.write_bytes(damaged)
        try:
            read(file, "file")
        except SpatialFMError as told:
            assert str(file) in str(told) and len(str(told)) < 1000
