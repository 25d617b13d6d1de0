"""Opening and writing files whose names come from outside, and showing such names."""

import os
import stat
import subprocess
import sys

import pytest

from spatial_fm_ros.core.errors import ConfigError, InputError, OutputError
from spatial_fm_ros.core.io.names import shown, shown_address, user_path
from spatial_fm_ros.core.io.reading import open_regular, read_bytes, read_text, regular_file
from spatial_fm_ros.core.io.writing import part_name, replacing, sweep_parts, write_bytes, write_text


def test_only_regular_files_are_read_and_nothing_blocks(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    for name, words in (("fifo", "a FIFO"), ("zero", "a device"), (".", "a folder"), ("none", "No such file")):
        with pytest.raises(InputError, match=f"The map .*{words}"):
            open_regular(tmp_path / name, "map")
    assert read_bytes(tmp_path / "link", "map", 5) == b"12345"
    assert regular_file(tmp_path / "link", "map", 5) == tmp_path / "link"
    with pytest.raises(ConfigError, match="5 bytes or more, a parameter file has at most 4"):
        read_bytes(tmp_path / "file", "parameter file", 4, ConfigError)


def test_files_that_state_no_size_are_bounded_while_reading():
    with pytest.raises(InputError, match="at most 10"):
        read_bytes("/proc/self/status", "map", 10)


def test_text_is_utf8_with_or_without_a_mark(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffä".encode())
    (tmp_path / "b").write_bytes(b"ok \xff")
    assert read_text(tmp_path / "a", "note") == "ä"
    with pytest.raises(InputError, match="byte 3 is not UTF-8"):
        read_text(tmp_path / "b", "note")


def test_a_file_is_replaced_whole_through_its_link_with_its_mode(tmp_path):
    real = tmp_path / "real"
    real.write_text("old")
    real.chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "new \udcff", "map")
    assert (tmp_path / "link").is_symlink()
    assert real.read_text() == "new \\udcff"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    with pytest.raises(RuntimeError), replacing(real, "map") as file:
        file.write(b"half")
        raise RuntimeError
    assert real.read_text() == "new \\udcff"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]


def test_what_is_no_regular_file_is_not_written_to(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for path, words in (
        (tmp_path / "fifo", "no regular file"),
        ("/dev/full", "no regular file"),
        (tmp_path, "a folder"),
        (tmp_path / "loop", "symbolic links"),
        (tmp_path / "absent" / "map.ply", "No such file"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(OutputError, match=f"The map cannot be written .*{words}"):
            write_bytes(path, b"x", "map")


def test_parts_of_dead_writers_are_swept_and_no_others(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from spatial_fm_ros.core.io.writing import part_name\n"
        "Path(sys.argv[1], part_name('map.ply')).touch()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    mine = tmp_path / part_name("x" * 255)
    mine.touch()
    others = [".map.ply.123.part", "a.part", ".map.0000dead-1-1-1.sfm-part"]
    for name in others:
        (tmp_path / name).touch()
    assert sweep_parts(tmp_path) == 1
    assert {p.name for p in tmp_path.iterdir()} == {mine.name, *others}


def test_names_are_shown_without_escapes_and_in_any_encoding():
    assert shown("a\x1b[31mb\n") == "a\\x1b[31mb\\x0a"
    assert shown(os.fsdecode(b"\xff\xc3\xa4")) == "\\xffä"
    assert shown("x" * 400) == "x" * 299 + "…"
    shown("\ud800\u202e").encode("ascii", "backslashreplace")


def test_addresses_are_shown_without_what_opens_them():
    assert shown_address("https://me:secret@hub.example:8443/a/b?X-Signature=12#x") == "https://hub.example:8443/a/b"
    assert shown_address("https://hub.example/a@b") == "https://hub.example/a@b"


def test_paths_of_users(tmp_path):
    with pytest.raises(OutputError, match="nosuchuser_"):
        user_path("~nosuchuser_/map.ply", OutputError)
    with pytest.raises(InputError, match="zero byte"):
        user_path("a\0b")
    assert user_path("~") == user_path(os.path.expanduser("~"))
