"""Coloured clouds as PLY and PCD files: binary, x y z, red green blue, normal, confidence, source.

Files are written under a temporary name and then renamed, so that a file that is there is whole. The
formats are written directly from one structured array rather than through a library, because a disk
that runs full must be an error with its reason; tests read every file back through Open3D.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.core.io.writing import replacing
from spatial_fm_ros.core.types import PointCloud

#: One point in a PLY and in a PCD file. PCL keeps a colour as 0x00RRGGBB in four bytes.
PLY_NORMAL, PCD_NORMAL = ("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z")
PLY_POINT = np.dtype(
    [(n, "<f4") for n in "xyz"]
    + [(n, "u1") for n in ("red", "green", "blue")]
    + [(n, "<f4") for n in (*PLY_NORMAL, "confidence")]
    + [("source", "u1")]
)
PCD_POINT = np.dtype(
    [(n, "<f4") for n in "xyz"]
    + [("rgb", "<u4")]
    + [(n, "<f4") for n in (*PCD_NORMAL, "confidence")]
    + [("source", "u1")]
)

PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
#: A header longer than this is none.
MAX_HEADER_BYTES = 65536
#: Confidence of points from files that have none.
UNKNOWN_CONFIDENCE = 0.5


def write_cloud(path: Path, cloud: PointCloud, comment: str = "") -> None:
    """`write_ply` or `write_pcd`, by the file's ending. Raises OutputError for another one."""
    writers = {".ply": write_ply, ".pcd": write_pcd}
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise OutputError(f"A map is saved as .ply or .pcd, got '{path}'; name the file with one of these.")
    writers[suffix](path, cloud, comment)


def read_cloud(path: Path) -> PointCloud:
    """`read_ply` or `read_pcd`, by the file's ending. Raises InputError for another one."""
    readers = {".ply": read_ply, ".pcd": read_pcd}
    suffix = Path(path).suffix.lower()
    if suffix not in readers:
        raise InputError(f"A map is read from .ply or .pcd, got '{path}'.")
    return readers[suffix](path)


def write_ply(path: Path, cloud: PointCloud, comment: str = "") -> None:
    """Write a binary little-endian PLY. Raises OutputError with the reason when it cannot be written."""
    points = np.empty(len(cloud), PLY_POINT)
    _fill(points, cloud, PLY_NORMAL)
    for i, name in enumerate(("red", "green", "blue")):
        points[name] = cloud.colors[:, i]
    types = {name: "uchar" if PLY_POINT[name] == np.uint8 else "float" for name in PLY_POINT.names or ()}
    properties = [f"property {kind} {name}" for name, kind in types.items()]
    lines = ["ply", "format binary_little_endian 1.0", *_comments("comment", comment)]
    lines += [f"element vertex {len(points)}", *properties, "end_header"]
    write_atomically(path, "\n".join(lines) + "\n", points)


def write_pcd(path: Path, cloud: PointCloud, comment: str = "") -> None:
    """Write a binary PCD 0.7. Raises OutputError with the reason when it cannot be written."""
    points = np.empty(len(cloud), PCD_POINT)
    _fill(points, cloud, PCD_NORMAL)
    red, green, blue = cloud.colors.T.astype(np.uint32)
    points["rgb"] = red << 16 | green << 8 | blue
    n = len(points)
    lines = [
        "# .PCD v0.7 - Point Cloud Data file format",
        *_comments("#", comment),
        "VERSION 0.7",
        f"FIELDS {' '.join(PCD_POINT.names or ())}",
        "SIZE 4 4 4 4 4 4 4 4 1",
        "TYPE F F F U F F F F U",
        "COUNT 1 1 1 1 1 1 1 1 1",
        f"WIDTH {n}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {n}",
        "DATA binary",
    ]
    write_atomically(path, "\n".join(lines) + "\n", points)


def write_atomically(path: Path, header: str, data: NDArray[np.void]) -> None:
    """Write header and array by `replacing`. Raises OutputError."""
    with replacing(path, "map", data.nbytes + len(header)) as file:
        file.write(header.encode("ascii", "replace"))
        file.write(data.view(np.uint8).data)  # unlike tofile, it says why it cannot


def read_ply(path: Path) -> PointCloud:
    """Read the vertices of a PLY, binary or text, with any further scalar properties.

    Missing colours are grey, missing confidence is UNKNOWN_CONFIDENCE, missing normals are 0. Raises InputError.
    """
    content = _content(path)
    end = content.find(b"end_header", 0, MAX_HEADER_BYTES)
    start = content.find(b"\n", end) + 1
    if not content.startswith(b"ply") or end < 0 or start == 0:
        raise InputError(f"'{path}' is not a PLY file: its header is missing or has no end.")
    order, count, columns = _ply_header(path, content[:end].decode("ascii", "replace"))
    body = content[start:]
    dtype = np.dtype([(n, ("" if t in ("i1", "u1") else (order or "<")) + t) for n, t in columns])
    points = _text_rows(path, body, count, dtype) if order is None else _rows(path, body, count, dtype)
    names = points.dtype.names or ()
    if all(n in names for n in ("red", "green", "blue")):
        colors = np.stack([points[n] for n in ("red", "green", "blue")], axis=-1)
        if colors.dtype.kind == "f":
            colors = np.rint(colors * 255)
        colors = np.asarray(np.clip(colors, 0, 255), dtype=np.uint8)
    else:
        colors = _grey(count)
    return _cloud(path, points, colors)


def read_pcd(path: Path) -> PointCloud:
    """Read a PCD, binary or text (not binary_compressed), with any further fields.

    Missing colours are grey, missing confidence is UNKNOWN_CONFIDENCE, missing normals are 0. Raises InputError.
    """
    content = _content(path)
    at = content.find(b"DATA ", 0, MAX_HEADER_BYTES)
    start = content.find(b"\n", at) + 1
    if at < 0 or start == 0:
        raise InputError(f"'{path}' is not a PCD file: its header has no DATA line.")
    header = {}
    for line in content[:start].decode("ascii", "replace").splitlines():
        name, *values = line.split() or ["#"]
        header[name] = values
    try:
        kinds = {"F": "f", "U": "u", "I": "i"}
        sizes, counts = map(int, header["SIZE"]), map(int, header.get("COUNT") or ["1"] * len(header["SIZE"]))
        described = zip(header["FIELDS"], header["TYPE"], sizes, counts, strict=True)
        columns = [
            (f"{n}#{i}" if n == "_" else n, f"<{kinds[t]}{s}", (c,) if c > 1 else ())
            for i, (n, t, s, c) in enumerate(described)
        ]
        dtype, count, mode = np.dtype(columns), int(header["POINTS"][0]), header["DATA"][0]
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise InputError(f"'{path}' has a PCD header that cannot be read ({error}).") from error
    if mode not in ("binary", "ascii"):
        raise InputError(f"'{path}' holds {mode} data; save it as binary PCD or as PLY.")
    body = content[start:]
    points = _text_rows(path, body, count, dtype) if mode == "ascii" else _rows(path, body, count, dtype)
    packed = next((n for n in ("rgb", "rgba") if n in (points.dtype.names or ())), None)
    if packed is None:
        colors = _grey(count)
    else:
        bits = np.ascontiguousarray(points[packed]).view(np.uint32)
        colors = np.stack([(bits >> s & 255).astype(np.uint8) for s in (16, 8, 0)], axis=-1)
    return _cloud(path, points, colors)


# -- parts ------------------------------------------------------------------------------------


def _grey(count: int) -> NDArray[np.uint8]:
    return np.full((count, 3), 128, np.uint8)


def _fill(points: NDArray[np.void], cloud: PointCloud, normal: tuple[str, str, str]) -> None:
    for i, name in enumerate("xyz"):
        points[name] = cloud.points[:, i]
        points[normal[i]] = cloud.normals[:, i]
    points["confidence"], points["source"] = cloud.confidence, cloud.source


def _comments(word: str, comment: str) -> list[str]:
    return [f"{word} {line}" for line in comment.splitlines() if line.strip()]


def _content(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"The map '{path}' cannot be read ({error.strerror}).") from error


def _ply_header(path: Path, header: str) -> tuple[str | None, int, list[tuple[str, str]]]:
    """Byte order (None: text), number of vertices, and the name and type of their properties."""
    orders = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}
    order: str | None = "?"
    count, columns, element = -1, [], ""
    try:
        for line in header.splitlines():
            word, *rest = line.split() or ["comment"]
            if word == "format":
                order = orders[rest[0]]
            elif word == "element":
                element = rest[0]
                if element == "vertex":
                    count = int(rest[1])
                elif count < 0 and int(rest[1]) > 0:
                    raise InputError(f"'{path}' has '{element}' before its vertices; save it with vertices first.")
            elif word == "property" and element == "vertex":
                columns.append((rest[1], PLY_TYPES[rest[0]]))
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"'{path}' has a PLY header that cannot be read ({error}).") from error
    if order == "?" or count < 0 or len({n for n, _ in columns}) != len(columns):
        raise InputError(f"'{path}' has a PLY header without format or vertices, or with a name twice.")
    return order, count, columns


def _rows(path: Path, body: bytes, count: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    if count < 0 or len(body) < count * dtype.itemsize:
        raise InputError(f"'{path}' is cut short: {count} points of {dtype.itemsize} bytes, {len(body)} are there.")
    return np.frombuffer(body, dtype, count)


def _text_rows(path: Path, body: bytes, count: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    lines = body.decode("ascii", "replace").splitlines()[:count]
    try:
        rows = np.loadtxt(lines, dtype, ndmin=1) if lines else np.empty(0, dtype)
    except ValueError as error:
        raise InputError(f"'{path}' has a point that cannot be read ({error}).") from error
    if len(rows) != count:
        raise InputError(f"'{path}' is cut short: {count} points expected, {len(rows)} found.")
    return rows


def _cloud(path: Path, points: NDArray[np.void], colors: NDArray[np.uint8]) -> PointCloud:
    names = points.dtype.names or ()
    if not all(n in names for n in "xyz"):
        raise InputError(f"'{path}' has no x, y and z; it has {', '.join(names) or 'nothing'}.")
    xyz = np.stack([points[n] for n in "xyz"], axis=-1).astype(np.float32)
    if "confidence" in names:
        confidence = points["confidence"].astype(np.float32)
    else:
        confidence = np.full(len(points), UNKNOWN_CONFIDENCE, np.float32)
    axes = next((axes for axes in (PLY_NORMAL, PCD_NORMAL) if all(n in names for n in axes)), None)
    normals = np.zeros_like(xyz)
    if axes is not None:
        normals = np.nan_to_num(np.stack([points[n] for n in axes], axis=-1).astype(np.float32))
    source = points["source"].astype(np.uint8) if "source" in names else None
    cloud = PointCloud(xyz, colors, np.clip(confidence, 0.0, 1.0), normals, source)  # type: ignore[arg-type]
    return cloud[np.isfinite(xyz).all(axis=1) & np.isfinite(confidence)]
