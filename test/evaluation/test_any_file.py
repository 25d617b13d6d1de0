"""Trajectories and depth from anywhere: figures or one sentence; nothing is read that is no file, or too large."""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.errors import InputError, SpatialFMError
from spatial_fm_ros.evaluation.depth import matched_pairs
from spatial_fm_ros.evaluation.depth_files import DepthEntry, open_depth, read_confidence, read_depth
from spatial_fm_ros.evaluation.html_page import Page
from spatial_fm_ros.evaluation.plots import figure_png, plot_trajectories
from spatial_fm_ros.evaluation.trajectory import associate
from spatial_fm_ros.evaluation.tum import read_tum

LINE = "1.5 1 2 3 0 0 0 1\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1e999999999 0 0 0 0 0 0 1", "is no (time|number)"),
        ("nan 0 0 0 0 0 0 1", "is no (time|number)"),
        ("1e11 0 0 0 0 0 0 1", "is no (time|number)"),
        ("1 1e300 0 0 0 0 0 1", "numbers beyond 1e"),
        ("1 inf 0 0 0 0 0 1", "not finite"),
        ("1 0 0 0 0 0 0 0", "all-zero orientation"),
        ("1 0 0 0 0 0 0 １", "other signs than those of numbers"),
        ("1_0 0 0 0 0 0 0 1", "other signs than those of numbers"),
        ("\x1b[2J" * 30, r"Line 2 .*\\x1b\[2J"),
    ],
)
def test_lines_that_are_no_poses_are_named(tmp_path, text, words):
    (tmp_path / "t.tum").write_text(LINE + text + "\n")
    with pytest.raises(InputError, match=words) as told:
        read_tum(tmp_path / "t.tum")
    assert "Line 2 " in str(told.value) and "\x1b" not in str(told.value) and len(str(told.value)) < 500


def item(**changes: object) -> dict[str, object]:
    usual = {"file": "000001.png", "confidence": "confidence/000001.png", "unit": 0.001, "metric": True,
             "stamp_ns": 10**9, "submap": 0, "K": [100.0, 0, 16, 0, 100, 12, 0, 0, 1]}  # fmt: skip
    return {**usual, **changes}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"file": "../../secret.png"}, "file"),
        ({"file": "/etc/passwd"}, "file"),
        ({"confidence": 3}, "confidence"),
        ({"K": [1] * 8}, "K"),
        ({"K": [0.0] * 9}, "K"),
        ({"K": "abcdefghi"}, "K"),
        ({"unit": 0}, "unit"),
        ({"unit": None}, "unit"),
        ({"stamp_ns": 1.5}, "stamp_ns"),
        ({"stamp_ns": 2**64 - 1}, "stamp_ns"),
        ({"submap": True}, "submap"),
    ],
)
def test_an_index_is_refused_by_key(tmp_path, change, key):
    (tmp_path / "index.json").write_text(json.dumps({"images": [item(), item(**change)]}))
    with pytest.raises(InputError, match=rf"'images\[1\].{key}'"):
        open_depth(tmp_path)


def test_depth_that_is_no_file_or_unpacks_to_gigabytes(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    chunk = struct.pack(">IIBBBBB", 60_000, 60_000, 16, 0, 0, 0, 0)
    ihdr = b"IHDR" + chunk
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + bytes(200)
    )
    for name, words in (("fifo", "a FIFO"), ("zero", "a device"), ("bomb", "pixels|cannot be read")):
        with pytest.raises(InputError, match=words):
            read_depth(DepthEntry(tmp_path / f"{name}.png", 0.001))
        with pytest.raises(InputError, match=words):
            read_confidence(DepthEntry(tmp_path / "x.png", 0.001, confidence=tmp_path / f"{name}.png"))
    np.save(tmp_path / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        read_depth(DepthEntry(tmp_path / "objects.npy", 1.0))


def test_names_of_any_bytes_in_reports_and_plots(tmp_path):
    name = os.fsdecode(b"caf\xe9 <b> $x^ \x1b[31m")
    page = Page(name)
    page.note(name)
    page.details(name, f"{name}\nsecond line")
    page.picture(figure_png(plot_trajectories([(name, np.zeros((2, 3))), ("_x", np.zeros((2, 3)))], "m")), name)
    page.write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_bytes().decode("utf-8")
    assert r"caf\xe9 &lt;b&gt; $x^ \x1b[31m" in text and "\x1b" not in text and "\nsecond line" in text


CUTS = st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=4)), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=CUTS,
    key=st.sampled_from([*item(), "images"]),
    value=st.none() | st.floats() | st.text() | st.lists(st.floats()),
)
def test_any_bytes_are_read_or_end_in_a_sentence(tmp_path: Path, cuts, key, value):
    def damaged(content: bytes) -> bytes:
        changed = bytearray(content)
        for at, new in cuts:
            changed[at % (len(changed) + 1) : at % (len(changed) + 1) + len(new)] = new
        return bytes(changed)

    (tmp_path / "t.tum").write_bytes(damaged((LINE * 40).encode()))
    image = np.arange(32 * 24, dtype=np.uint16).reshape(24, 32)
    (tmp_path / "confidence").mkdir(exist_ok=True)
    (tmp_path / "000001.png").write_bytes(damaged(cv2.imencode(".png", image)[1].tobytes()))
    (tmp_path / "confidence" / "000001.png").write_bytes(
        damaged(cv2.imencode(".png", image.astype(np.uint8))[1].tobytes())
    )
    index = {"images": value} if key == "images" else {"images": [item(**{key: value})]}
    indices = (json.dumps(index).encode(), damaged(json.dumps({"images": [item()]}).encode()))

    def depth(content: bytes) -> None:
        (tmp_path / "index.json").write_bytes(content)
        for entry in open_depth(tmp_path):
            assert read_depth(entry).dtype == np.float32
            read_confidence(entry)

    for read in (
        lambda: read_tum(tmp_path / "t.tum"),
        *(lambda content=content: depth(content) for content in indices),
    ):
        try:
            read()
        except SpatialFMError as told:
            assert len(str(told)) < 2000


@pytest.mark.parametrize("options", [{"tolerance_s": math.inf}, {"tolerance_s": math.nan}, {"offset_s": math.nan},
                                     {"offset_s": 1e300}, {"tolerance_s": -1.0}])  # fmt: skip
def test_times_that_are_none_are_refused(options):
    stamps = np.arange(5) * 10**9
    with pytest.raises(InputError, match="tolerance is 0 s or above, an offset any number"):
        associate(stamps, stamps, **{"tolerance_s": 0.1, **options})


def test_stamps_whose_difference_has_no_64_bits_are_refused():
    ends = np.array([-(2**63) + 1, 2**63 - 1])
    with pytest.raises(InputError, match="cannot be compared"):
        associate(ends, ends[::-1] + 0, 1.0)


def test_depth_of_unpadded_numbers_and_capital_endings(tmp_path):
    """Frames 0 to 11 as '2.PNG', '10.PNG': each is compared with its own truth, in millimetres."""
    for name in ("a", "b"):
        (tmp_path / name / "depth").mkdir(parents=True)
        description = '{"rate_hz": 10, "depth_unit_m": 0.001, "intrinsics": {"fx": 9, "fy": 9, "cx": 4, "cy": 4}}'
        (tmp_path / name / "sequence.json").write_text(description)
        for i in range(12):
            data = cv2.imencode(".png", np.full((8, 8), 1000 + 100 * i, np.uint16))[1].tobytes()
            (tmp_path / name / "depth" / f"{i}.PNG").write_bytes(data)
    pairs = [make() for make in matched_pairs(tmp_path / "a", tmp_path / "b")]
    assert len(pairs) == 12 and all((pair.estimate == pair.truth).all() for pair in pairs)
    (tmp_path / "a" / "sequence.json").unlink()
    assert read_depth(open_depth(tmp_path / "a")[0])[0, 0] == 1.0
    with pytest.raises(InputError, match="unit of depth images must be above 0"):
        open_depth(tmp_path / "a", 0.0)
    cv2.imwrite(str(tmp_path / "a" / "depth" / "0.PNG"), np.full((8, 8), 200, np.uint8))
    with pytest.raises(InputError, match="no depth image"):
        read_depth(open_depth(tmp_path / "a")[0])
