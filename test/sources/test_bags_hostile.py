"""Bags that ask for much: what is packed has an end, what is told is checked, and only files are read."""

from __future__ import annotations

import bz2
import os
import random
import resource
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import bag_damage
import bag_writing as bw
from bag_damage import START, what_comes_of

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Frame, PoseSample
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.inflate import inflate
from spatial_fm_ros.sources.open_source import open_source
from spatial_fm_ros.sources.transforms import TransformTree

IMAGE = "sensor_msgs/msg/Image"
#: Peak memory that reading something small may add.
MOST_KB = 700_000


def record(opcode: int, body: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(body)) + body


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def mcap(path: Path, *records: bytes) -> Path:
    schema = record(3, struct.pack("<H", 1) + text(IMAGE) + text("ros2msg") + text(""))
    channel = record(4, struct.pack("<HH", 1, 1) + text("/cam") + text("cdr") + text(b""))
    head = b"\x89MCAP0\r\n" + record(1, text("ros2") + text("x")) + schema + channel
    path.write_bytes(head + b"".join(records) + record(15, bytes(4)) + record(2, bytes(20)) + b"\x89MCAP0\r\n")
    return path


def message(data: bytes, number: int = 0) -> bytes:
    return record(5, struct.pack("<HIQQ", 1, number, START + number, START + number) + data)


def chunk(packed: bytes, compression: str, size: int) -> bytes:
    return record(
        6, struct.pack("<QQQI", START, START, size, 0) + text(compression) + struct.pack("<Q", len(packed)) + packed
    )


def image(number: int = 0) -> bytes:
    return bytes(bw.STORE.serialize_cdr(bw.image(START + number, bw.picture(number)), IMAGE))


@pytest.fixture
def frugal() -> Iterator[None]:
    """Nothing in the test takes much memory or time."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KB
    assert time.monotonic() - began < 30


PACKERS: dict[str, Callable[[bytes], bytes]] = {"zstd": zstd.compress, "lz4": lz4.frame.compress, "bz2": bz2.compress}


@pytest.mark.parametrize("compression", sorted(PACKERS))
def test_what_is_packed_has_an_end(compression: str, frugal: None) -> None:
    pack = PACKERS[compression]
    assert inflate(pack(b"ab" * 5000), compression, 10_000) == b"ab" * 5000
    assert inflate(pack(b"ab") + pack(b"c"), compression) == b"abc"
    for declared in (9_999, 10_001):
        with pytest.raises(ValueError, match="more than 9999 bytes|of 10000 bytes instead"):
            inflate(pack(b"ab" * 5000), compression, declared)
    with pytest.raises(ValueError, match="claim to hold"):
        inflate(pack(b"ab"), compression, 2**40)
    if compression == "zstd":  # lz4 packs 255 times at most, and bz2 is as slow as it packs well
        with pytest.raises(ValueError, match="more than .* bytes come out"):
            inflate(pack(bytes(2**27)), compression)
    for broken in (pack(b"ab" * 5000)[:-6], pack(b"ab") + b"rubbish"):
        with pytest.raises(ValueError):
            inflate(broken, compression)


def test_bombs_in_bags_are_named_and_the_rest_is_read(tmp_path: Path, frugal: None) -> None:
    bomb = zstd.compress(message(bytes(2**28)))  # 256 MiB in some kilobytes
    assert len(bomb) < 30_000
    for name, evil in (
        ("claims", chunk(bomb, "zstd", 2**28 + 31)),
        ("lies", chunk(bomb, "zstd", 1000)),
        ("lz4", chunk(lz4.frame.compress(bytes(2**24)), "lz4", 2**62)),
        ("nonsense", chunk(b"x", "\x1b[31mrar", 1)),
        ("alone", message(bomb[:4] and zstd.compress(bytes(2**28)), 7)),
    ):
        with open_source(mcap(tmp_path / f"{name}.mcap", message(image(1), 1), evil, message(image(2), 2))) as source:
            assert sum(isinstance(sample, Frame) for sample in source) == 2
            told = source.summary()
        assert len(told) == 1 and ("damaged" in told[0]) and "\x1b" not in told[0], told
    packed = bw.write_bag(tmp_path / "bag", [("/cam", START, bw.image(START, bw.picture(0)))]) / "bag.db3"
    packed.unlink()
    (packed.parent / "bag.db3.zstd").write_bytes(zstd.compress(bytes(2**28)))
    with pytest.raises(InputError, match=r"has \d+ bytes and holds more than \d+: no recording packs that well"):
        open_source(packed.parent)


@pytest.mark.parametrize("length", [2**31, 2**40, 2**63, 2**64 - 10])
def test_lengths_that_are_not_there(tmp_path: Path, length: int, frugal: None) -> None:
    for evil in (struct.pack("<BQ", 5, length), struct.pack("<BQ", 6, length), struct.pack("<BQ", 3, length)):
        with open_source(mcap(tmp_path / "x.mcap", message(image()), evil)) as source:
            assert sum(isinstance(sample, Frame) for sample in source) == 1
            assert any("cut off" in note for note in source.notes)
    counts = bytearray(image())
    at = len(counts) - 64 * 48 * 3 - 4  # the count of the image's bytes
    counts[at : at + 4] = struct.pack("<I", length % 2**32 or 2**31)
    with open_source(mcap(tmp_path / "x.mcap", message(bytes(counts)), message(image(1), 1))) as source:
        assert sum(isinstance(sample, Frame) for sample in source) == 1 and sum(source.bad.values()) == 1


@pytest.mark.parametrize("name", ["x.mcap", "x.db3", "x.bag"])
def test_only_files_are_read(tmp_path: Path, name: str) -> None:
    """A FIFO would wait for ever, a device has no end."""
    os.mkfifo(tmp_path / name)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).symlink_to("/dev/zero")
    program = (
        "import sys; from spatial_fm_ros.sources.open_source import open_source\n"
        "for path in sys.argv[1:]:\n"
        "    try: open_source(path)\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    paths = [str(tmp_path / name), str(tmp_path), str(tmp_path / "other" / name)]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, timeout=60)
    assert done.stdout.count("InputError") == 3 and done.stdout.count("is no regular file") == 3, (
        done.stdout + done.stderr
    )


def test_metadata_names_only_files_of_its_folder(tmp_path: Path) -> None:
    bag = bw.write_bag(tmp_path / "bag", [("/cam", START, bw.image(START, bw.picture(0)))])
    secret = bw.write_bag(tmp_path / "secret", [("/secret", START, bw.image(START, bw.picture(9)))]) / "secret.db3"
    start = "rosbag2_bagfile_information:\n  relative_file_paths:"
    for names in ("[../secret/secret.db3, bag.db3]", f"[{secret}, bag/bag.db3]"):
        (bag / "metadata.yaml").write_text(f"{start} {names}\n")
        with open_source(bag) as source:
            assert source.topics.camera.image == "/cam"
            assert any("which lies outside of its folder; it is not read" in note for note in source.notes)
    deep = "[" * 30_000
    bombs = "a: &a [x]\n" + "".join(
        f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefghijk", "bcdefghijkl")
    )
    for content in (
        deep,
        f"{start} {deep}",
        bombs,
        f"{start} {{a: b}}",
        "\0",
        "&a [*a]",
        "rosbag2_bagfile_information: 3",
    ):
        (bag / "metadata.yaml").write_text(content)
        with open_source(bag) as source:
            assert sum(isinstance(sample, Frame) for sample in source) == 1
            assert any("metadata.yaml of bag cannot be used" in note for note in source.notes)


SCHEMA = "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT);"
TOPIC = f"INSERT INTO topics VALUES(1, '/cam', '{IMAGE}', 'cdr');"
ENDLESS = (
    "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) "
    "SELECT id, 1 topic_id, id timestamp, x'00' data FROM n"
)
TABLE = "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB"


@pytest.mark.parametrize(
    "script",
    [
        f"{SCHEMA}{TOPIC}CREATE VIEW messages AS {ENDLESS};",
        f"{SCHEMA}{TOPIC}{TABLE}, big BLOB AS (zeroblob(900000000))); INSERT INTO messages VALUES(1, 1, 1, x'00');",
        f"{SCHEMA}{TOPIC}CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data AS (zeroblob(9e8)));"
        "INSERT INTO messages VALUES(1, 1, 1);",
        f"CREATE VIEW topics AS {ENDLESS}; {TABLE});",
        f"{SCHEMA}{TOPIC}{TABLE}); INSERT INTO messages VALUES(1, 'a', 'b', 'c'), (2, 1, NULL, NULL), (3, 1, 1.5, 7);",
    ],
    ids=["view", "computed column", "computed data", "view of topics", "values of other kinds"],
)
def test_databases_that_compute(tmp_path: Path, script: str, frugal: None) -> None:
    db = sqlite3.connect(tmp_path / "x.db3")
    db.executescript(script)
    db.close()
    sentence = what_comes_of(tmp_path / "x.db3")
    assert "is no bag" in sentence or sentence == "samples" or "holds no camera images" in sentence, sentence


def test_pages_that_lead_in_circles(tmp_path: Path, frugal: None) -> None:
    """A tree of pages whose inner pages all name the same children has more rows than anything can count."""
    db = sqlite3.connect(tmp_path / "x.db3", isolation_level=None)
    db.execute("PRAGMA page_size=512")
    db.executescript(f"{SCHEMA}{TOPIC}{TABLE});")
    db.execute("BEGIN")
    for i in range(30_000):
        db.execute("INSERT INTO messages VALUES(?, 1, ?, ?)", (i + 1, START + i, b"\0" * 40))
    db.execute("COMMIT")
    db.close()
    data = bytearray((tmp_path / "x.db3").read_bytes())
    inner = [at for at in range(512, len(data), 512) if data[at] == 5]
    assert len(inner) > 3
    deepest = next(at for at in inner if data[struct.unpack(">I", data[at + 8 : at + 12])[0] * 512 - 512] == 13)
    for at in inner:
        for i in range(struct.unpack(">H", data[at + 3 : at + 5])[0]):
            cell = at + struct.unpack(">H", data[at + 12 + 2 * i : at + 14 + 2 * i])[0]
            if at != deepest and data[struct.unpack(">I", data[cell : cell + 4])[0] * 512 - 512] == 5:
                data[cell : cell + 4] = struct.pack(">I", deepest // 512 + 1)
    (tmp_path / "x.db3").write_bytes(data)
    what_comes_of(tmp_path / "x.db3")


def test_an_index_that_tells_a_chunk_again_and_again(tmp_path: Path) -> None:
    path = bw.write_bag1(tmp_path / "x.bag", bag_damage.ros1_messages())
    data = bytearray(path.read_bytes())
    info = data.rindex(b"op=\x06") - 4  # begins with the header's length, which begins with the first field's
    while data[info - 4 : info + 4].find(b"ver=") < 0 and not _is_header(data, info):
        info -= 1
    told = bytes(data[info:])
    chunks = data.index(b"chunk_count=") + 12
    data[chunks : chunks + 4] = struct.pack("<I", 3)
    path.write_bytes(bytes(data) + told * 2)
    with pytest.raises(InputError, match="twice"):
        open_source(path)


def _is_header(data: bytearray, at: int) -> bool:
    """Whether a record's header that ends with its last field begins here."""
    (size,) = struct.unpack_from("<I", data, at)
    position, end = at + 4, at + 4 + size
    while position + 4 <= min(end, len(data)):
        (field,) = struct.unpack_from("<I", data, position)
        position += 4 + field
    return size < 200 and position == end and b"op=\x06" in data[at:end]


def test_five_thousand_frames_and_their_poses_take_no_time() -> None:
    """A lookup costs the length of its way, whatever else is in the tree."""
    tree = TransformTree()
    edge = bw.transforms(START, ("a", "b", 0.1)).transforms[0].transform
    began = time.monotonic()
    for i in range(5_000):
        tree.set("base" if i % 2 else f"frame {i - 1}", f"frame {i}", edge)
        tree.set("odom", "base", edge)
        assert tree.find("odom", "base") is not None and tree.find("odom", "nowhere") is None
    for _ in range(100_000):
        tree.set("odom", "base", edge)
        tree.find("odom", "base")
    assert np.allclose(tree.find("odom", "frame 4999")[:3, 3], (0.2, 0, 0))
    assert time.monotonic() - began < 20


def test_many_frames_in_a_bag_are_few_sentences(tmp_path: Path) -> None:
    messages = [("/cam", START + i, bw.image(START + i, bw.picture(i))) for i in range(2)]
    for i in range(300):
        message = bw.transforms(START + i, (f"\x1b[31m{i}", f"b{i}", 1.0), ("odom", "base_link", 0.1 * i))
        message.transforms[0].transform.rotation.w = 7.0 + i
        messages.append(("/tf", START + i, message))
    bag = bw.write_bag(tmp_path / "bag", messages)
    with open_source(bag, SourceOptions(pose_source="tf")) as source:
        assert sum(isinstance(sample, PoseSample) for sample in source) == 300
        told = source.summary()
    assert len(source.bad) <= 101 and sum(source.bad.values()) == 300
    assert not any("\x1b" in sentence or len(sentence) > 2000 for sentence in told)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, bytes]]:
    bags = bag_damage.small_bags(tmp_path_factory.mktemp("small"))
    assert all(what_comes_of(path) == "samples" for path in bags.values())
    return {name: (path.suffix, path.read_bytes()) for name, path in bags.items()}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), which=st.integers(0, 7), tf=st.booleans())
def test_damaged_bags_give_samples_or_one_sentence(small, tmp_path, frugal, seed, which, tf) -> None:
    """scripts/fuzz/bags.py does the same for as long as one likes."""
    suffix, data = small[sorted(small)[which]]
    path = tmp_path / f"bag{suffix}"
    path.write_bytes(bag_damage.damaged(data, random.Random(seed)))
    sentence = what_comes_of(path, "tf" if tf else "odometry")
    assert sentence == "samples" or (sentence.endswith(".") and "\n" not in sentence)
