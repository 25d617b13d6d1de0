"""Map files: exact round trips, read by another library, whole or not there, and clear refusals."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.core.mapping.export import (
    UNKNOWN_CONFIDENCE,
    read_cloud,
    read_pcd,
    read_ply,
    write_cloud,
)
from spatial_fm_ros.core.types import PointCloud

FORMATS = ("ply", "pcd")


def cloud(n=1000, seed=0):
    rng = np.random.default_rng(seed)
    return PointCloud(
        rng.normal(0, 100, (n, 3)).astype(np.float32),
        rng.integers(0, 256, (n, 3), dtype=np.uint8),
        rng.uniform(0, 1, n).astype(np.float32),
        rng.normal(0, 1, (n, 3)).astype(np.float32),
        rng.integers(0, 2, n, dtype=np.uint8),
    )


def same(a, b):
    names = ("points", "colors", "confidence", "normals", "source")
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_round_trip_is_exact(tmp_path, suffix, n):
    path = tmp_path / f"map.{suffix}"
    write_cloud(path, cloud(n), comment="scale state: metric\n\nvoxel size: 0.03")
    back = read_cloud(path)
    assert same(back, cloud(n))
    assert (back.points.dtype, back.colors.dtype, back.confidence.dtype) == (np.float32, np.uint8, np.float32)
    assert b"scale state: metric" in path.read_bytes()[:300]
    assert os.listdir(tmp_path) == [path.name]


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
    write_cloud(path, cloud(200), comment="one line")
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
    got = read_ply(path)
    np.testing.assert_array_equal(got.points, [[1, 2, 3]])  # the point with NaN is left out
    np.testing.assert_array_equal(got.colors, [[10, 20, 30]])
    np.testing.assert_array_equal(got.confidence, [UNKNOWN_CONFIDENCE])
    row = np.dtype([(n, ">f8") for n in "xyz"] + [("n", ">f4"), ("c", "u1", 4)])
    rows = np.array([(1, 2, 3, 0, (9, 8, 7, 6)), (4, 5, 6, 0, (3, 2, 1, 0))], row)
    path.write_bytes(head.format("binary_big_endian 1.0").replace("\n", "\r\n").encode() + rows.tobytes() + b"face")
    np.testing.assert_array_equal(read_ply(path).points, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(read_ply(path).colors, [[9, 8, 7], [3, 2, 1]])


def test_foreign_pcd_with_padding_and_no_colour(tmp_path):
    path = tmp_path / "a.pcd"
    row = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("pad", "u1", 4), ("i", "<u2")])
    rows = np.array([(1, 2, 3, (0, 0, 0, 0), 7)], row)
    path.write_bytes(
        b"VERSION .7\nFIELDS x y z _ intensity\nSIZE 4 4 4 1 2\nTYPE F F F U U\nCOUNT 1 1 1 4 1\nWIDTH 1\n"
        b"HEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 1\nDATA binary\n" + rows.tobytes()
    )
    got = read_pcd(path)
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
from spatial_fm_ros.core.mapping.export import write_cloud
from spatial_fm_ros.core.types import PointCloud
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
n = 5000
cloud = PointCloud(np.zeros((n, 3), "f4"), np.zeros((n, 3), "u1"), np.zeros(n, "f4"))
try:
    write_cloud(Path(sys.argv[1]), cloud)
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
    with pytest.raises(OutputError, match="ply or .pcd"):
        write_cloud(tmp_path / "map.obj", cloud(1))
    with pytest.raises(InputError, match="ply or .pcd"):
        read_cloud(tmp_path / "map.obj")


def test_what_is_no_cloud_is_refused(tmp_path):
    cases = {
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n": "no x, y and z",
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty list char int x\nend_header\n1\n": "be read",
        "ply\nformat strange 1.0\nelement vertex 1\nend_header\n": "cannot be read",
        "ply\nelement vertex 1\nend_header\n": "without format",
        "ply\nformat ascii 1.0\nelement camera 2\nelement vertex 1\nend_header\n": "vertices first",
        "hello": "not a PLY",
    }
    for i, (text, words) in enumerate(cases.items()):
        path = tmp_path / f"{i}.ply"
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_ply(path)
    compressed = tmp_path / "a.pcd"
    compressed.write_text("FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA binary_compressed\n")
    with pytest.raises(InputError, match="binary_compressed"):
        read_pcd(compressed)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_damaged_files_never_raise_anything_else(tmp_path_factory, data):
    suffix = data.draw(st.sampled_from(FORMATS))
    path = tmp_path_factory.mktemp("fuzz") / f"a.{suffix}"
    write_cloud(path, cloud(5))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        content = content or bytearray(b"x")
    path.write_bytes(bytes(content))
    try:
        got = read_cloud(path)
    except InputError:
        return
    assert np.isfinite(got.points).all() and len(got.points) == len(got.colors) == len(got.confidence)
