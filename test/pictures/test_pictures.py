"""Pictures: sizes before memory, whole or refused, as stored; every accepted format, and hostile bytes."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.pictures.decode import decode_picture
from spatial_fm_ros.core.pictures.header import read_header
from test.pictures.making import bombs, encoded, exif, png, scene, with_scans, zeros

RGB = scene()
WHOLE = {
    "jpeg": encoded(RGB, "JPEG", quality=95),
    "progressive jpeg": encoded(RGB, "JPEG", progressive=True, quality=95),
    "grey jpeg": encoded(RGB[..., 0], "JPEG", quality=95),
    "png": encoded(RGB, "PNG"),
    "interlaced-free 16-bit png": encoded(RGB[..., 0].astype(np.uint16) * 257, "PNG"),
    "bmp": encoded(RGB, "BMP"),
    "tiff": encoded(RGB, "TIFF"),
    "tiff lzw": encoded(RGB, "TIFF", compression="tiff_lzw"),
    "tiff deflate": encoded(RGB, "TIFF", compression="tiff_adobe_deflate"),
    "webp": encoded(RGB, "WEBP", lossless=True),
    "lossy webp": encoded(RGB, "WEBP", quality=95),
    "ppm": encoded(RGB, "PPM"),
    "pgm": encoded(RGB[..., 0], "PPM"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_every_format_gives_its_pixels_also_with_bytes_behind_its_end(kind):
    want = np.dstack([RGB[..., 0]] * 3) if kind in ("grey jpeg", "pgm") or "16-bit" in kind else RGB
    lossy = 40 if "jpeg" in kind or "lossy" in kind else 0
    for content in (WHOLE[kind], WHOLE[kind] + bytes(5000), WHOLE[kind] + b"\xff\xd8 trailer \xff\xd9" * 9):
        assert read_header(content).size == (64, 48)
        assert np.abs(decode_picture(content).astype(int) - want).max() <= lossy


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_channels_become_rgb(mode):
    picture = PillowImage.fromarray(RGB).convert(mode)
    want = np.asarray(picture.convert("RGB"))
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(
            decode_picture(encoded(np.asarray(picture), kind) if mode != "P" else _saved(picture, kind)), want
        )


def _saved(picture, kind):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def test_cmyk_jpeg_is_read():
    picture = PillowImage.fromarray(RGB).convert("CMYK")
    assert np.abs(decode_picture(_saved(picture, "JPEG")).astype(int) - RGB).mean() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_the_first_of_several_is_taken(kind):
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    first, *others = (PillowImage.fromarray(np.roll(RGB, 9 * i, axis=1)) for i in range(3))
    first.save(file, kind, save_all=True, append_images=others, **options)
    assert read_header(file.getvalue()).frames > 1
    np.testing.assert_array_equal(decode_picture(file.getvalue()), RGB)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 5])
def test_pixels_are_as_stored_whatever_the_orientation(kind, orientation):
    content = encoded(RGB, kind, exif=exif(orientation), **({"lossless": True} if kind == "WEBP" else {}))
    assert read_header(content).orientation == orientation
    assert np.abs(decode_picture(content).astype(int) - RGB).max() <= (60 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_cut_off_is_refused(kind):
    content = WHOLE[kind]
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
        with pytest.raises(InputError, match="Truncated|Damaged|no readable"):
            decode_picture(content[: int(len(content) * share)])


def test_missing_jpeg_data_is_damage_and_a_byte_too_many_is_not():
    """libjpeg fills what is missing with grey and only warns."""
    content = encoded(scene(240, 320), "JPEG", restart_marker_blocks=4)
    with pytest.raises(InputError, match="Damaged JPEG: the decoder says 'Corrupt JPEG data"):
        decode_picture(content[: len(content) // 2] + b"\xff\xd9")
    at = content.index(b"\xff\xd4", 700)
    with pytest.raises(InputError, match="Damaged JPEG"):
        decode_picture(content[: at - 40] + content[at + 40 :])
    np.testing.assert_array_equal(decode_picture(content[:at] + b"\0" + content[at:]), decode_picture(content))


def test_limits_stand_where_they_are_said():
    content = WHOLE["png"]
    assert decode_picture(content, max_pixels=64 * 48).shape == (48, 64, 3)
    with pytest.raises(InputError, match=r"says that it has 64x48 pixels, more than intake.max_pixels = 3071"):
        decode_picture(content, max_pixels=64 * 48 - 1)
    progressive = WHOLE["progressive jpeg"]
    with pytest.raises(InputError, match="more than 100 scans"):
        decode_picture(with_scans(progressive, 100))
    assert decode_picture(png(1, 1, zeros(2))).shape == (1, 1, 3)
    for width, height in ((0, 48), (64, 0)):
        with pytest.raises(InputError, match="Damaged PNG: its header says"):
            decode_picture(png(width, height, zeros(999)))


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"GIF89a", "GIF"),
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x20ftypheic", "HEIC"),
        (b"\0\0\0\x20ftypisom", "A video"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x0a", "JPEG XL"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 20000 +X 20000\n", "Radiance HDR"),
        (b"v/1\x01", "OpenEXR"),
        (b"qoif", "QOI"),
        (b"II+\0", "BigTIFF"),
    ],
)
def test_other_formats_are_refused_by_name(start, name):
    with pytest.raises(InputError, match=f"{name}.* is not read; expected JPEG, PNG"):
        decode_picture(start + bytes(200))


def test_bombs_of_some_kb_cost_neither_memory_nor_time():
    """In a process that may take 200 MB more than it has, and less than the seconds one of them would need."""
    program = """
import pickle, resource, sys
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.pictures.decode import decode_picture
pictures = pickle.load(sys.stdin.buffer)
decode_picture(pictures.pop("warm"))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)
for name, content in pictures.items():
    try:
        print(name, "->", decode_picture(content).shape)
    except InputError as error:
        print(name, "->", error)
"""
    hostile = bombs()
    assert max(map(len, hostile.values())) < 1_000_000
    run = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps({"warm": WHOLE["jpeg"], **hostile}),
        capture_output=True,
        timeout=60,
    )
    said = run.stdout.decode().splitlines()
    assert run.returncode == 0 and len(said) == len(hostile), run.stderr.decode()[-2000:]
    harmless = ("png with a text of 100 MB", "png with a profile of 100 MB")
    for sentence in said:
        assert ("(48, 64, 3)" in sentence) == sentence.startswith(harmless), sentence


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    head=st.booleans(),
    cut=st.integers(0, 20_000),
)
def test_hostile_bytes_give_pixels_or_a_sentence(kind, changes, head, cut):
    content = bytearray(WHOLE[kind])
    for where, value in changes:
        content[where % (min(len(content), 120) if head else len(content))] = value
    for damaged in (bytes(content), bytes(content[: cut % (len(content) + 1)])):
        try:
            got = decode_picture(damaged, max_pixels=1_000_000)
        except InputError as error:
            assert str(error).isprintable()
            continue
        assert got.dtype == np.uint8 and got.ndim == 3 and got.shape[2] == 3


@settings(max_examples=200, deadline=None)
@given(
    start=st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"BM", b"P6 ", b"RIFF", b""]),
    rest=st.binary(max_size=300),
)
def test_bytes_of_any_kind_end_in_a_sentence(start, rest):
    try:
        decode_picture(start + rest, max_pixels=1_000_000)
    except InputError as error:
        assert str(error).endswith(".")
