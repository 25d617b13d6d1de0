"""Videos: times of their container, whole files only, nothing else opened."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.sources.base import NS, SourceOptions
from spatial_fm_ros.sources.open_source import open_source
from test.sources.video_writing import set_durations, units_per_second, write_video


def greys(count):
    return [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(count)]


def frames_of(path, **options):
    with open_source(path, SourceOptions(**options)) as source:
        return list(source), source


@pytest.mark.parametrize("name", ["v.avi", "v.mp4", "v.mkv"])
def test_even_times_stay_exact(tmp_path, name):
    frames, source = frames_of(write_video(tmp_path / name, greys(12), 30.0))
    assert [f.stamp_ns for f in frames] == [round(i * NS / 30) for i in range(12)]
    assert not source.notes


def test_uneven_times_are_those_of_the_container(tmp_path):
    path = write_video(tmp_path / "v.mp4", greys(8), 10.0)
    unit = units_per_second(path)
    seconds = [0.1, 0.1, 0.5, 0.2, 0.1, 1.0, 0.1, 0.1]
    set_durations(path, [round(s * unit) for s in seconds])
    frames, source = frames_of(path)
    want = np.concatenate([[0], np.cumsum(seconds)[:-1]])
    np.testing.assert_allclose([f.stamp_ns / NS for f in frames], want, atol=0.003)
    assert any("times of its container" in note for note in source.notes)
    even, source = frames_of(path, rate_hz=4)
    assert [f.stamp_ns for f in even] == [i * NS // 4 for i in range(8)] and not source.notes
    part, _ = frames_of(path, start_s=0.65, stop_s=2.05, every=2)
    np.testing.assert_allclose([f.stamp_ns / NS for f in part], [0.7, 1.0], atol=0.003)


def test_names_of_any_bytes_work(tmp_path):
    plain = write_video(tmp_path / "v.avi", greys(3))
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9 %02d.avi")
    os.rename(plain, path)
    assert len(frames_of(os.fsdecode(path))[0]) == 3


def test_what_is_no_video_or_too_large_is_a_sentence(tmp_path):
    path = write_video(tmp_path / "v.avi", greys(3))
    with pytest.raises(InputError, match="frames of 64x48 pixels, more than intake.max_pixels = 3000"):
        open_source(path, SourceOptions(max_pixels=3000))
    os.mkfifo(tmp_path / "f.mp4")
    with pytest.raises(InputError, match="is no regular file but a FIFO"):
        open_source(tmp_path / "f.mp4")
    for playlist in (f"#EXTM3U\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile v.avi\n"):
        (tmp_path / "list.avi").write_text(playlist)
        with pytest.raises(InputError, match="a playlist is not followed"):
            open_source(tmp_path / "list.avi")
    (tmp_path / "cut.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    with pytest.raises(InputError, match="cannot be opened"):
        open_source(tmp_path / "cut.mp4")
    assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ


def test_frames_that_promise_more_than_the_video_are_not_decoded(tmp_path):
    path = write_video(tmp_path / "v.avi", greys(4))
    data = bytearray(path.read_bytes())
    at = 0
    while (at := data.find(b"\xff\xc0", at + 2)) > 0:
        data[at + 5 : at + 9] = (12000).to_bytes(2, "big") * 2
    path.write_bytes(data)
    frames, source = frames_of(path)
    assert not frames and any("after 0 of 4 frames" in note for note in source.notes)


def test_a_video_that_is_cut_off_says_so(tmp_path):
    path = write_video(tmp_path / "v.avi", [cv2.resize(image, (320, 240)) for image in greys(10)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, source = frames_of(path)
    assert len(frames) < 10 and any("cut off" in note for note in source.notes)
