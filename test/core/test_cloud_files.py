"""Map files: exact round trips, read by another library, whole or not there, and clear refusals."""

import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from cloud_damage import damaged, small_clouds, what_comes_of
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.core.io.cloud_columns import MAX_HEADER_BYTES, UNKNOWN_CONFIDENCE
from spatial_fm_ros.core.io.cloud_files import SavedMap, read_cloud, read_map, write_map
from spatial_fm_ros.core.io.map_facts import MapFacts
from spatial_fm_ros.core.types import PointCloud, PointSource, ScaleState

FORMATS = ("ply", "pcd")


def cloud(n=1000, seed=0):
    rng = np.random.default_rng(seed)
    normals = rng.normal(0, 1, (n, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return PointCloud(
        rng.normal(0, 100, (n, 3)).astype(np.float32),
        rng.integers(0, 256, (n, 3), dtype=np.uint8),
        rng.uniform(0, 1, n).astype(np.float32),
        normals.astype(np.float32),
        rng.integers(0, 2, n, dtype=np.uint8),
    )


FACTS = MapFacts(ScaleState.METRIC, 0.0125, "map", 0.03)


def write_cloud(path, cloud, facts=FACTS):
    return write_map(path, SavedMap(cloud, facts))


def same(a, b):
    names = ("points", "colors", "confidence", "normals", "source")
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("n", [1, 1000])
def test_round_trip_is_exact(tmp_path, suffix, n):
    path = tmp_path / f"map.{suffix}"
    assert write_cloud(path, cloud(n)) == path.stat().st_size
    back = read_map(path)
    assert same(back.cloud, cloud(n)) and back.facts == FACTS and back.left_out == 0
    assert b"lengths are metres" in path.read_bytes()[:300]
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "facts",
    [
        MapFacts(ScaleState.RELATIVE, float("inf"), "map", 0.03),
        MapFacts(ScaleState.UNOBSERVABLE, 0.5, "", 0.03, "RANDOM WEIGHTS of a model"),
        MapFacts(None, float("inf"), "a frame with blanks", 0.0),
    ],
)
def test_facts_come_back_and_nothing_unknown_passes_for_metres(tmp_path, suffix, facts):
    path = tmp_path / f"map.{suffix}"
    write_cloud(path, cloud(2), facts)
    back = read_map(path).facts
    assert back == facts and not back.metric
    assert b"lengths are metres" not in path.read_bytes()


def test_a_frame_of_any_name_stays_in_its_line(tmp_path):
    path = tmp_path / "map.ply"
    write_cloud(path, cloud(2), MapFacts(frame_id="a\nend_header\nk\u00e4se\x1b[2J"))
    back = read_map(path)
    assert same(back.cloud, cloud(2)) and "\n" not in back.facts.frame_id and "\x1b" not in back.facts.frame_id


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (["lengths are metres"], ScaleState.METRIC),  # version 0.1
        (["lengths are world units of unknown size (scale not metric)"], None),
        (["spatial_fm_ros scale_state metric", "spatial_fm_ros scale_state relative", "lengths are metres"], None),
        (["spatial_fm_ros scale_state furlongs"], None),
        (["made elsewhere"], None),
    ],
)
def test_a_unit_is_known_only_where_the_file_says_it(said, state):
    assert MapFacts.from_lines(said).scale_state is state


OPEN3D = """
import sys, numpy as np, open3d as o3d
source, out, out_text = sys.argv[1:]
cloud = o3d.t.io.read_point_cloud(source)
np.savez(out + ".npz", points=cloud.point.positions.numpy(), colors=cloud.point.colors.numpy(),
         confidence=cloud.point.confidence.numpy()[:, 0])
o3d.t.io.write_point_cloud(out, cloud)
o3d.t.io.write_point_cloud(out_text, cloud, write_ascii=True)
"""


@pytest.mark.parametrize("suffix", FORMATS)
def test_open3d_reads_ours_and_we_read_open3d(tmp_path, suffix):
    pytest.importorskip("open3d")
    path, theirs, text = (tmp_path / f"{n}.{suffix}" for n in ("ours", "theirs", "text"))
    write_cloud(path, cloud(200))
    subprocess.run([sys.executable, "-c", OPEN3D, str(path), str(theirs), str(text)], check=True)
    read = np.load(f"{theirs}.npz")
    for name in ("points", "colors", "confidence"):
        np.testing.assert_array_equal(read[name], getattr(cloud(200), name))
    assert same(read_cloud(theirs), cloud(200))
    from_text = read_cloud(text)
    np.testing.assert_allclose(from_text.points, cloud(200).points, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(from_text.colors, cloud(200).colors)


def test_foreign_ply(tmp_path):
    path = tmp_path / "a.ply"
    head = "ply\nformat {}\ncomment made elsewhere\nelement vertex 2\nproperty double x\nproperty double y\n"
    head += "property double z\nproperty float nx\nproperty uchar red\nproperty uchar green\n"
    head += "property uchar blue\n"
    head += "property uchar alpha\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    path.write_text(head.format("ascii 1.0") + "1 2 3 0.5 10 20 30 255\n4 5 nan 0 1 2 3 4\n3 0 0 1\n")
    got = read_cloud(path)
    np.testing.assert_array_equal(got.points, [[1, 2, 3]])  # the point with NaN is left out
    np.testing.assert_array_equal(got.colors, [[10, 20, 30]])
    np.testing.assert_array_equal(got.confidence, [UNKNOWN_CONFIDENCE])
    row = np.dtype([(n, ">f8") for n in "xyz"] + [("n", ">f4"), ("c", "u1", 4)])
    rows = np.array([(1, 2, 3, 0, (9, 8, 7, 6)), (4, 5, 6, 0, (3, 2, 1, 0))], row)
    path.write_bytes(head.format("binary_big_endian 1.0").replace("\n", "\r\n").encode() + rows.tobytes() + b"face")
    np.testing.assert_array_equal(read_cloud(path).points, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(read_cloud(path).colors, [[9, 8, 7], [3, 2, 1]])


def test_foreign_pcd_with_padding_and_no_colour(tmp_path):
    path = tmp_path / "a.pcd"
    row = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("pad", "u1", 4), ("i", "<u2")])
    rows = np.array([(1, 2, 3, (0, 0, 0, 0), 7)], row)
    path.write_bytes(
        b"VERSION .7\nFIELDS x y z _ intensity\nSIZE 4 4 4 1 2\nTYPE F F F U U\nCOUNT 1 1 1 4 1\nWIDTH 1\n"
        b"HEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 1\nDATA binary\n" + rows.tobytes()
    )
    got = read_cloud(path)
    np.testing.assert_array_equal(got.points, [[1, 2, 3]])
    np.testing.assert_array_equal(got.colors, [[128, 128, 128]])


@pytest.mark.parametrize("suffix", FORMATS)
def test_unwritable_places_are_named_and_leave_nothing(tmp_path, suffix):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "missing" / f"a.{suffix}", tmp_path / "file" / f"a.{suffix}"):
        with pytest.raises(OutputError, match=f"a.{suffix}.*give an existing, writable folder"):
            write_cloud(path, cloud(10))
    folder = tmp_path / f"folder.{suffix}"
    folder.mkdir()
    with pytest.raises(OutputError):
        write_cloud(folder, cloud(10))
    assert sorted(os.listdir(tmp_path)) == ["file", folder.name] and not os.listdir(folder)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from spatial_fm_ros.core.errors import OutputError
from spatial_fm_ros.core.io.cloud_files import SavedMap, write_map
from spatial_fm_ros.core.io.map_facts import MapFacts
from spatial_fm_ros.core.types import PointCloud
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
n = 5000
cloud = PointCloud(np.zeros((n, 3), "f4"), np.zeros((n, 3), "u1"), np.zeros(n, "f4"))
try:
    write_map(Path(sys.argv[1]), SavedMap(cloud, MapFacts()))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_disk_that_runs_full_keeps_the_old_file(tmp_path, suffix):
    """A file size limit of the process stands in for the disk: both end a write in its middle."""
    path = tmp_path / f"map.{suffix}"
    write_cloud(path, cloud(50))
    got = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True)
    assert got.returncode == 0, got.stderr
    assert "cannot be written" in got.stdout and "(File too large)" in got.stdout
    assert same(read_cloud(path), cloud(50)) and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
def test_cut_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"map.{suffix}"
    write_cloud(path, cloud(50))
    whole = path.read_bytes()
    for cut in (0, 2, 30, 200, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=f"map.{suffix}"):
            read_cloud(path)
    with pytest.raises(InputError, match="No such file"):
        read_cloud(tmp_path / f"gone.{suffix}")


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(OutputError, match="ply or pcd"):
        write_cloud(tmp_path / "map.obj", cloud(1))
    with pytest.raises(InputError, match="ply or .pcd"):
        read_cloud(tmp_path / "map.obj")


def test_special_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.ply")
    (tmp_path / "zero.pcd").symlink_to("/dev/zero")
    (tmp_path / "folder.ply").mkdir()
    for name in ("pipe.ply", "zero.pcd", "folder.ply"):
        with pytest.raises(InputError, match="no regular file"):
            read_cloud(tmp_path / name)


XYZ = "property float x\nproperty float y\nproperty float z\n"


def ply(count="1", properties=XYZ, form="binary_little_endian", body=bytes(12)):
    head = f"ply\nformat {form} 1.0\nelement vertex {count}\n{properties}end_header\n"
    return head.encode() + (body if isinstance(body, bytes) else body.encode())


def pcd(points="1", fields="x y z", size="4 4 4", kind="F F F", count="1 1 1", data="binary", body=bytes(64), head=""):
    text = f"VERSION 0.7\nFIELDS {fields}\nSIZE {size}\nTYPE {kind}\nCOUNT {count}\nWIDTH 1\nHEIGHT 1\n{head}"
    return f"{text}POINTS {points}\nDATA {data}\n".encode() + body


def colored(size="4", kind="U", count="1", name="rgb"):
    return pcd(fields=f"x y z {name}", size=f"4 4 4 {size}", kind=f"F F F {kind}", count=f"1 1 1 {count}")


HUGE = "1000000000000"
REFUSED = {
    "no_axes.ply": (ply(properties="property float x\n", form="ascii", body="1\n"), "no x, y and z"),
    "list.ply": (ply(properties=XYZ + "property list char int x\n"), "list for each vertex \\('x'\\)"),
    "list_word.ply": (ply(properties=XYZ + "property list\n"), "a list for each vertex"),
    "type.ply": (ply(properties=XYZ + "property quad w\n"), "quad w"),
    "twice.ply": (ply(properties=XYZ + "property float x\n"), "2 times a point for 'x'"),
    "two_colours.ply": (ply(properties=XYZ + "property uchar red\n" * 2), "for 'red'"),
    "form.ply": (ply(form="strange"), "without a known format"),
    "formless.ply": (b"ply\nelement vertex 1\nend_header\n", "without a known format"),
    "camera_first.ply": (b"ply\nformat ascii 1.0\nelement camera 2\nelement vertex 1\nend_header\n", "vertices first"),
    "hello.ply": (b"hello", "header has no end"),
    "hello_lines.ply": (b"hello\nend_header\n", "not a PLY"),
    "empty.ply": (b"", "header has no end"),
    "no_point.ply": (ply("0"), "holds no point"),
    "nan.ply": (ply(body=np.full(3, np.nan, "<f4").tobytes()), "holds no point.*1 points are not finite"),
    "huge_without_properties.ply": (ply(HUGE, ""), "no x, y and z"),
    "huge.ply": (ply(HUGE), "cut short: 1000000000000 points"),
    "huge_text.ply": (ply(HUGE, form="ascii", body="0 0 0\n"), "cut short: 1000000000000 points"),
    "signed.ply": (ply("+1"), "'\\+1' for the number of 'vertex'"),
    "negative.ply": (ply("-1"), "'-1' for the number"),
    "underscore.ply": (ply("1_0", body=bytes(120)), "'1_0' for the number"),
    "other_digits.ply": (ply("\u0661"), "for the number of 'vertex'"),
    "five_thousand_digits.ply": (ply("9" * 5000), "for the number of 'vertex'"),
    "faces.ply": (b"ply\nformat ascii 1.0\nelement face 9e9\nelement vertex 1\nend_header\n", "number of 'face'"),
    "one_line.ply": (b"ply\ncomment " + b"x" * 3_000_000, f"no end in {MAX_HEADER_BYTES} bytes"),
    "many_lines.ply": (b"ply\n" + b"comment x\n" * 300_000, f"no end in {MAX_HEADER_BYTES} bytes"),
    "words.ply": (ply(form="ascii", body="one two three\n"), "cannot be read"),
    "few_numbers.ply": (ply("2", form="ascii", body="1 2 3\n4 5\n "), "cannot be read"),
    "more_numbers.ply": (ply(form="ascii", body="1 2 3 4\n"), "4 numbers a point; its header announces 3"),
    "few_lines.ply": (ply("3", form="ascii", body="1 2 3\n" + " " * 60), "3 points are announced, 1 are there"),
    "long_line.ply": (ply(form="ascii", body="1 " * 3_000_000), "a line of more than"),
    "digits.ply": (ply(form="ascii", body="1_0 \u0662 3\n".encode()), "cannot be read"),
    "compressed.pcd": (pcd(data="binary_compressed"), "binary_compressed"),
    "huge.pcd": (pcd(HUGE), "cut short: 1000000000000 points"),
    "negative.pcd": (pcd("-5"), "'-5' for POINTS"),
    "no_point.pcd": (pcd("0"), "holds no point"),
    "no_fields.pcd": (b"POINTS 1\nDATA binary\n", "no FIELDS and no SIZE and no TYPE"),
    "no_data.pcd": (b"VERSION 0.7\n", "header has no end"),
    "short.pcd": (pcd(size="4 4"), "3 FIELDS, 2 SIZE"),
    "x_three.pcd": (pcd(count="3 1 1"), "3 numbers a point for 'x'"),
    "count_huge.pcd": (pcd(fields="x y z a", size="4 4 4 4", kind="F F F F", count=f"1 1 1 {HUGE}"), "bytes a point"),
    "count_none.pcd": (pcd(count="1 1 0"), "COUNT 0 for 'z'"),
    "count_signed.pcd": (pcd(count="1 1 +1"), "the COUNT of 'z'"),
    "rgb_1.pcd": (colored("1"), "1 bytes for 'rgb'"),
    "rgb_2.pcd": (colored("2"), "2 bytes for 'rgb'"),
    "rgb_8.pcd": (colored("8"), "8 bytes for 'rgb'"),
    "rgba_8f.pcd": (colored("8", "F", name="rgba"), "8 bytes for 'rgba'"),
    "rgb_twice.pcd": (colored(count="2"), "2 numbers a point for 'rgb'"),
    "normal_twice.pcd": (colored(kind="F", count="2", name="normal_x"), "2 numbers a point for 'normal_x'"),
    "confidence_twice.pcd": (colored(kind="F", count="2", name="confidence"), "2 numbers a point for 'confidence'"),
    "x_again.pcd": (colored(kind="F", name="x"), "2 times a point for 'x'"),
    "size.pcd": (pcd(size="3 4 4"), "size 3"),
    "kind.pcd": (pcd(kind="C F F"), "type C"),
    "points_again.pcd": (pcd(head="POINTS 7\n"), "'POINTS' twice"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_no_cloud_is_refused_before_memory_is_spent(tmp_path, name):
    content, words = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=words) as caught:
            read_cloud(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert name in str(caught.value) and len(str(caught.value)) < 1000


def test_large_files_are_refused_by_size(tmp_path):
    """Sparse files: they announce what they hold, and hold too much."""
    for name, head, size, words in (
        ("many.ply", ply("40000000"), 12 * 40_001_000, "at most 32000000 are read"),
        ("long.ply", ply("1000", form="ascii"), 2**29, "save it as binary"),
        ("longer.ply", ply("1"), 2**31, "has at most"),
    ):
        (tmp_path / name).write_bytes(head)
        os.truncate(tmp_path / name, size)
        with pytest.raises(InputError, match=words):
            read_cloud(tmp_path / name)


def test_values_are_brought_into_their_ranges(tmp_path):
    path = tmp_path / "a.ply"
    kinds = ["double", "double", "double", "float", "float", "float", "float", "float", "double", "double", "double"]
    names = ["x", "y", "z", "red", "green", "blue", "confidence", "source", "nx", "ny", "nz"]
    properties = "".join(f"property {kind} {name}\n" for kind, name in zip(kinds, names, strict=True))
    rows = [
        "1e300 0 0 0 0 0 1 0 0 0 1",  # beyond float32: left out
        "inf 0 0 0 0 0 1 0 0 0 1",
        "0 0 0 0 0 0 nan 0 0 0 1",
        "1 2 3 1.0 0.5 nan 7 1 0 0 9",
        "4 5 6 -1 0 0.2 -3 77 nan 0 0",
        "7 8 9 0 0 0 0.25 nan 1e200 1e200 0",
    ]
    path.write_bytes(ply(str(len(rows)), properties, "ascii", "\r\n".join(rows) + "\nand then more\n"))
    got = read_map(path)
    np.testing.assert_array_equal(got.cloud.points, [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    np.testing.assert_array_equal(got.cloud.colors, [[255, 128, 0], [0, 0, 51], [0, 0, 0]])
    np.testing.assert_array_equal(got.cloud.confidence, np.float32([1, 0, 0.25]))
    np.testing.assert_array_equal(got.cloud.source, [PointSource.LIDAR, PointSource.IMAGES, PointSource.IMAGES])
    np.testing.assert_array_equal(got.cloud.normals, [[0, 0, 1], [0, 0, 0], [0, 0, 0]])
    assert got.left_out == 3 and got.facts.scale_state is None


@pytest.mark.parametrize(
    ("kind", "text"), [("F", np.uint32(0x102030).view(np.float32)), ("U", 0x102030), ("I", 0x102030)]
)
def test_packed_colours_of_any_kind(tmp_path, kind, text):
    path = tmp_path / "a.pcd"
    path.write_bytes(
        pcd(fields="x y z rgb", size="4 4 4 4", kind=f"F F F {kind}", count="1 1 1 1", data="ascii",
            body=f"1 2 3 {text:.9g}\n".encode() if kind == "F" else f"1 2 3 {text}\n".encode())
    )  # fmt: skip
    np.testing.assert_array_equal(read_cloud(path).colors, [[0x10, 0x20, 0x30]])


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32))
def test_damaged_files_are_a_valid_cloud_or_a_sentence(tmp_path_factory, seed):
    """The longer run of it is scripts/fuzz/clouds.py."""
    rng, folder = random.Random(seed), tmp_path_factory.getbasetemp()
    name, content = rng.choice(sorted(small_clouds(folder).items()))
    path = folder / f"damaged{Path(name).suffix}"
    path.write_bytes(damaged(content, rng))
    tracemalloc.start()
    try:
        what_comes_of(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_clouds_check_themselves():
    points, colors, confidence = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8), np.zeros(2, np.float32)
    for wrong in (
        (points[:, :2], colors, confidence),
        (points.astype(np.int32), colors, confidence),
        (points, np.zeros((2, 2, 3), np.uint8), confidence),
        (points, colors.astype(np.float32), confidence),
        (points, colors[:1], confidence),
        (points, colors, confidence[:1]),
        (points, colors, confidence, points[:1]),
        (points, colors, confidence, points, np.zeros((2, 2), np.uint8)),
    ):
        with pytest.raises(InputError, match="A cloud takes"):
            PointCloud(*wrong)
    assert PointCloud(points.astype(np.float64), colors, confidence).points.dtype == np.float32
