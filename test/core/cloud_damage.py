"""Small PLY and PCD files, ways to damage them, and what must come of reading one."""

import random
from pathlib import Path

import numpy as np

from spatial_fm_ros.core.config import MapConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.cloud_files import SavedMap, read_map, write_map
from spatial_fm_ros.core.io.map_facts import MapFacts
from spatial_fm_ros.core.mapping.loaded_map import load
from spatial_fm_ros.core.types import PointCloud, ScaleState

NUMBERS = (b"0", b"2", b"-1", b"1e9", b"+7", b"1_0", b"10000000", b"9" * 30, b"nan", b"1e300", b"3.4e38", b"65536")
WORDS = (b"list", b"double", b"float", b"x", b"rgb", b"vertex", b"ascii", b"binary", b"#", b"\xff", b"F", b"U")
CONFIG = MapConfig(voxel_size=0.05, max_voxels=1000)


def small_clouds(folder: Path) -> dict[str, bytes]:
    """Whole files of every kind that is read, by their ending."""
    rng = np.random.default_rng(0)
    cloud = PointCloud(
        rng.normal(0, 5, (8, 3)).astype(np.float32), np.full((8, 3), 9, np.uint8), np.full(8, 0.5, np.float32)
    )
    found = []
    for form in ("ply", "pcd"):
        write_map(folder / f"whole.{form}", SavedMap(cloud, MapFacts(ScaleState.METRIC, 0.1, "map", 0.05)))
        found.append((form, (folder / f"whole.{form}").read_bytes()))
    properties = "".join(f"property {kind} {n}\n" for kind, n in zip(("double",) * 3 + ("uchar",) * 3, "xyzrgb"))
    head = "ply\nformat {} 1.0\ncomment c\nelement vertex 2\n" + properties + "element face 1\n"
    head += "property list uchar int vertex_indices\nend_header\n"
    found.append(("ply", (head.format("ascii") + "1 2 3 0 1 2\n4 5 6 3 4 5\n3 0 1 1\n").encode()))
    row = np.dtype([("xyz", ">f8", 3), ("rgb", "u1", 3)])
    found.append(("ply", head.format("binary_big_endian").encode() + np.ones(2, row).tobytes() + b"\x03"))
    text = "FIELDS x y z rgb _\nSIZE 4 4 4 4 1\nTYPE F F F F U\nCOUNT 1 1 1 1 3\n"
    text += "WIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA ascii\n"
    found.append(("pcd", (text + "1 2 3 4.2e6 0 0 0\n4 5 6 nan 1 2 3\n").encode()))
    return {f"{i}.{form}": content for i, (form, content) in enumerate(found)}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, inserted, cut out; words of the header replaced, doubled, left out; the file cut or longer."""
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(content) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            content = content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
        elif kind == 1:
            content = content[:at] + rng.randbytes(rng.randint(1, 9)) + content[at:]
        elif kind == 2:
            content = content[:at] + content[at + rng.randint(1, 9) :]
        elif kind == 3 and rng.random() < 0.3:
            content = content[:at]
        elif kind == 4:
            lines = content.split(b"\n")
            at = rng.randrange(len(lines))
            lines[at:at] = rng.choice(([], [lines[at]], [b""], [rng.choice(lines)]))
            if rng.random() < 0.3:
                lines.pop(at)
            content = b"\n".join(lines)
        else:
            words = content.split(b" ")
            at = rng.randrange(len(words))
            _, line, rest = words[at].partition(b"\n")
            words[at] = rng.choice((NUMBERS, WORDS)[rng.random() < 0.4]) + line + rest
            content = b" ".join(words)
    return content


def what_comes_of(path: Path) -> str:
    """"cloud" or "sentence"; raises for anything else, as for a cloud that is none."""
    try:
        read = read_map(path)
        loaded = load(read, CONFIG)
    except InputError as error:
        assert 10 < len(str(error)) < 1500 and str(error).isprintable(), error
        return "sentence"
    for cloud in (read.cloud, loaded.cloud):
        assert len(cloud) and np.isfinite(cloud.points).all() and np.isfinite(cloud.normals).all()
        assert ((cloud.confidence >= 0) & (cloud.confidence <= 1)).all() and (cloud.source <= 1).all()
        PointCloud.joined([cloud, PointCloud.empty()])
    assert len(loaded.cloud) <= CONFIG.max_voxels
    return "cloud"
