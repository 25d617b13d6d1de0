"""Recordings as they are in the world: killed recorders, topics without messages or stamps, foreign types, parts."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer

sys.path.insert(0, str(Path(__file__).parent))
import bag_writing as bw

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Frame, ImuSample, LidarScan, PoseSample, Sample
from spatial_fm_ros.sources.base import NS, SourceOptions
from spatial_fm_ros.sources.open_source import open_source

START = 1_700_000_000 * NS
STEP = NS // 10


def read(path: Path, **options: Any) -> tuple[list[Sample], Any]:
    with open_source(path, SourceOptions(**options)) as source:
        return list(source), source


def frames(samples: list[Sample]) -> list[Frame]:
    return [sample for sample in samples if isinstance(sample, Frame)]


def images(count: int = 5, topic: str = "/cam/image_raw", frame: str = "cam", first: int = 0) -> list[bw.Message]:
    stamps = [START + i * STEP for i in range(first, first + count)]
    return [(topic, t, bw.image(t, bw.picture(i % 256), frame=frame)) for i, t in enumerate(stamps)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# -- recorders that were killed ---------------------------------------------------------------


def killed(folder: Path, journal: str, written_back: int) -> Path:
    """A sqlite3 bag of 20 images as a killed recorder leaves it, `written_back` of them in the file itself."""
    whole = sqlite3.connect(bw.write_bag(folder / "whole", images(20)) / "whole.db3")
    live = folder / "live" / "bag_0.db3"
    live.parent.mkdir()
    db = sqlite3.connect(live, isolation_level=None)
    db.execute(f"PRAGMA journal_mode={journal}")
    db.execute("PRAGMA wal_autocheckpoint=0")
    db.execute("PRAGMA cache_size=1")
    for (sql,) in whole.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"):
        db.execute(sql)
    for table in ("schema", "topics", "message_definitions", "messages"):
        for number, row in enumerate(whole.execute(f"SELECT * FROM {table}").fetchall()):
            if table == "messages" and number == written_back:
                db.executescript(
                    "PRAGMA wal_checkpoint" if journal == "WAL" else "BEGIN; DELETE FROM messages WHERE id<6"
                )
            db.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
    shutil.copytree(live.parent, folder / "bag")
    db.close()
    return folder / "bag"


@pytest.mark.parametrize("written_back", [0, 10])
def test_what_lies_in_the_write_ahead_log_is_read(tmp_path: Path, written_back: int) -> None:
    bag = killed(tmp_path, "WAL", written_back)
    before = files_of(bag)
    assert "bag_0.db3-wal" in before
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "LINK.DB3").symlink_to(bag / "bag_0.db3")
    for path in (bag, bag / "bag_0.db3", tmp_path / "link"):
        samples, source = read(path)
        assert [f.stamp_ns for f in frames(samples)] == [START + i * STEP for i in range(20)]
        assert source.length == 20 and not source.summary()
    assert files_of(bag) == before  # SQLite would write the log back and delete it


def test_what_is_no_file_beside_a_bag_is_left_alone(tmp_path: Path) -> None:
    """A FIFO in a journal's place would wait for ever."""
    bag = killed(tmp_path, "WAL", 10)
    os.mkfifo(bag / "bag_0.db3-journal")
    samples, source = read(bag)
    assert len(frames(samples)) == 10 and any("bag_0.db3-wal holds cannot be read" in note for note in source.notes)


def test_a_damaged_log_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    bag = killed(tmp_path, "WAL", 10)
    log = bag / "bag_0.db3-wal"
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    assert 10 < len(frames(read(bag)[0])) < 20
    (bag / "bag_0.db3").write_bytes(b"")
    with pytest.raises(InputError, match="its journal bag_0.db3-wal lies beside it"):
        read(bag)


def test_a_transaction_that_was_cut_short_is_rolled_back_in_a_copy(tmp_path: Path) -> None:
    bag = killed(tmp_path, "DELETE", 10)
    before = files_of(bag)
    assert len(before["bag_0.db3-journal"]) > 512
    assert len(frames(read(bag)[0])) == 10
    assert files_of(bag) == before


def test_a_journal_cannot_have_another_file_deleted(tmp_path: Path) -> None:
    """SQLite deletes the file that a journal of several databases names, once it was applied."""
    bag = killed(tmp_path, "DELETE", 10)
    victim = tmp_path / "diary.txt"
    victim.write_text("dear diary\n" * 50)
    name = str(victim).encode()
    journal = (bag / "bag_0.db3-journal").read_bytes()
    page = struct.pack(">I", 2**30 // 4096 + 1)
    mark = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
    end = page + name + struct.pack(">II", len(name), sum(name) & 0xFFFFFFFF) + mark
    shutil.copytree(bag, tmp_path / "proof")
    for folder in (bag, tmp_path / "proof"):
        (folder / "bag_0.db3-journal").write_bytes(journal + end)
    assert len(frames(read(bag)[0])) > 0
    assert victim.exists()
    sqlite3.connect(tmp_path / "proof" / "bag_0.db3").execute("SELECT count(*) FROM messages").fetchall()
    assert not victim.exists()  # so SQLite does


# -- stamps -----------------------------------------------------------------------------------


def unstamped(message: Any) -> Any:
    for header in [message.header] if hasattr(message, "header") else [t.header for t in message.transforms]:
        header.stamp.sec = header.stamp.nanosec = 0
    return message


def test_the_time_of_recording_stands_for_stamps_of_zero(tmp_path: Path) -> None:
    wrong = [(topic, at, unstamped(message)) for topic, at, message in bw.robot_messages()]
    right, _ = read(bw.write_bag(tmp_path / "right", bw.robot_messages()))
    samples, source = read(bw.write_bag(tmp_path / "wrong", wrong))
    for kind in (Frame, PoseSample, ImuSample, LidarScan):
        assert [s.stamp_ns for s in samples if isinstance(s, kind)] == [
            s.stamp_ns for s in right if isinstance(s, kind)
        ]
    for topic, count in (("/camera/image_raw", 10), ("/odom", 20), ("/imu", 20), ("/lidar/points", 5)):
        assert any(f"'{topic}' are 0 in {count} of {count} messages" in note for note in source.notes)


def test_poses_of_tf_without_stamps_have_the_time_of_recording(tmp_path: Path) -> None:
    messages = images(3)
    for i in range(6):
        at = START + i * STEP // 2
        messages.append(("/tf", at, unstamped(bw.transforms(at, ("odom", "base_link", 0.1 * (i // 2))))))
    bag = bw.write_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[1]))
    samples, source = read(bag, pose_source="tf")
    # A robot that stands still says where it is, too.
    poses = [s for s in samples if isinstance(s, PoseSample)]
    assert [p.stamp_ns for p in poses] == [START + i * STEP // 2 for i in range(6)]
    assert any("'/tf' are 0 in 6 of 6 messages" in note for note in source.notes)


def test_some_stamps_of_zero_and_one_stamp_for_all_are_named(tmp_path: Path) -> None:
    messages = images(6)
    unstamped(messages[3][2])
    stuck = [("/imu", START + i, bw.imu(START)) for i in range(4)]
    bag = bw.write_bag(tmp_path / "bag", sorted([*messages, *stuck], key=lambda m: m[1]))
    samples, source = read(bag)
    assert [f.stamp_ns for f in frames(samples)] == [START + i * STEP for i in range(6)]
    assert any("'/cam/image_raw' are 0 in 1 of 6 messages" in note for note in source.notes)
    assert any("All 4 messages of '/imu' carry the same stamp, 1700000000.000 s" in note for note in source.notes)


def test_stamps_of_zero_among_those_of_another_clock_are_put_on_it(tmp_path: Path) -> None:
    since_boot = START - 100 * NS
    messages = [(topic, at, bw.image(at - since_boot, bw.picture(i))) for i, (topic, at, _) in enumerate(images(6))]
    unstamped(messages[3][2])
    samples, _ = read(bw.write_bag(tmp_path / "bag", messages))
    assert [f.stamp_ns for f in frames(samples)] == [100 * NS + i * STEP for i in range(6)]


# -- topics without messages ------------------------------------------------------------------


def with_empty(path: Path, messages: list[bw.Message], *empty: tuple[str, str]) -> Path:
    writer = Writer(path, version=8, storage_plugin=StoragePlugin.MCAP)
    with writer:
        connections = {topic: writer.add_connection(topic, kind, typestore=bw.STORE) for topic, kind in empty}
        for topic, at, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=bw.STORE)
            writer.write(connections[topic], at, bw.STORE.serialize_cdr(message, message.__msgtype__))
    return path


def test_topics_without_messages_are_left_aside(tmp_path: Path) -> None:
    image, info = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
    packed = [("/cam/image_raw/compressed", START + i, bw.compressed(START + i, bw.picture(i))) for i in range(3)]
    _, source = read(with_empty(tmp_path / "twin", packed, ("/cam/image_raw", image)))
    assert source.topics.camera.image == "/cam/image_raw/compressed" and source.length == 3
    messages = [
        *images(3),
        ("/odometry/filtered", START, bw.odometry(START, 0.0)),
        ("/info", START, bw.camera_info(START)),
    ]
    bag = with_empty(
        tmp_path / "second",
        messages,
        ("/cam2/image_raw", image),
        ("/odom", "nav_msgs/msg/Odometry"),
        ("/cam/camera_info", info),
    )
    samples, source = read(bag)
    assert source.topics.camera.image == "/cam/image_raw" and source.topics.odometry == "/odometry/filtered"
    assert source.topics.camera.camera_info == "/info" and frames(samples)[0].camera is not None
    for option in ("image_topic", "companion_image_topics"):
        with pytest.raises(InputError, match=r"'/cam2/image_raw' given for --.* holds no message .*: /cam/image_raw"):
            read(bag, **{option: "cam2/image_raw"})
    with pytest.raises(InputError, match="holds no camera images .*; /cam/image_raw would be, but hold no message"):
        read(with_empty(tmp_path / "none", messages[-1:], ("/cam/image_raw", image)))


# -- foreign types ----------------------------------------------------------------------------


def record(opcode: int, body: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(body)) + body


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def mcap(path: Path, channels: list[tuple[str, str, str, str, str]], messages: list[tuple[int, int, bytes]]) -> Path:
    """Channels (topic, type, schema encoding, definition, message encoding), messages (channel from 1, time, data)."""
    body = record(1, text("") + text("test"))
    for i, (topic, kind, encoding, definition, message_encoding) in enumerate(channels, 1):
        body += record(3, struct.pack("<H", i) + text(kind) + text(encoding) + text(definition))
        body += record(4, struct.pack("<HH", i, i) + text(topic) + text(message_encoding) + text(b""))
    body += b"".join(record(5, struct.pack("<HIQQ", c, 0, t, t) + data) for c, t, data in messages)
    path.write_bytes(b"\x89MCAP0\r\n" + body + record(15, bytes(4)) + record(2, bytes(20)) + b"\x89MCAP0\r\n")
    return path


def test_what_is_in_no_encoding_of_ros_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    """Also the other way: messages of ROS 1 in an mcap file are read."""
    kind = "sensor_msgs/msg/Image"
    message = bw.image(START, bw.picture(1), store=bw.STORE1)
    channels = [
        ("/cam/ros2", kind, "ros2msg", "no definition", "cdr"),
        ("/cam/ros1", "sensor_msgs/Image", "ros1msg", "Header header", "ros1"),
        ("/json", "note", "jsonschema", "{}", "json"),
        ("/proto", "foxglove.CompressedImage", "protobuf", "\x01", "protobuf"),
        ("/ctrl", "my_pkg/msg/Ctrl", "ros2msg", "my_pkg/msg/Ctrl", "cdr"),
        ("/fine", "my_pkg/msg/Fine", "ros2msg", "# words\nfloat64[3] x\nstring<=5 A = 'b'\nmy_pkg/Part[<=2] p\n===\n"
         "MSG: my_pkg/Part\nint8 y 3\n", "cdr"),
    ]  # fmt: skip
    data = [
        (1, START, bytes(bw.STORE.serialize_cdr(bw.image(START, bw.picture(0)), kind))),
        (2, START, bytes(bw.STORE1.serialize_ros1(message, kind))),
        *((number, START, b"{}") for number in (3, 4, 5, 6)),
    ]
    bag = mcap(tmp_path / "x.mcap", channels, data)
    for topic, picture in (("/cam/ros2", 0), ("/cam/ros1", 1)):
        samples, source = read(bag, image_topic=topic)
        assert (frames(samples)[0].image == bw.picture(picture)).all()
    with pytest.raises(InputError, match=r"no topic '/proto' for --image-topic .* /proto \(foxglove.* is left aside"):
        read(bag, image_topic="/proto")
    told = " ".join(source.notes)
    assert "/json (note) is left aside: its messages are 'json'" in told
    assert "/proto (foxglove.CompressedImage) is left aside" in told
    assert "/ctrl (my_pkg/msg/Ctrl) is left aside: line 1 of its definition is no field: 'my_pkg/msg/Ctrl'" in told
    assert "/fine" not in told and "/cam" not in told


def test_definitions_of_a_bag_are_never_run(tmp_path: Path) -> None:
    """Types become classes by their names elsewhere; here a name that is a program is a name."""
    proof = tmp_path / "proof"
    evil = f"a/msg/B:\n    open({str(proof)!r}, 'w')\nclass C"
    kind = "sensor_msgs/msg/Image"
    channels = [
        ("/cam", kind, "ros2msg", "", "cdr"),
        ("/x", evil, "ros2idl", "module a { struct B { int32 x; }; };", "cdr"),
    ]
    image = bytes(bw.STORE.serialize_cdr(bw.image(START, bw.picture(0)), kind))
    samples, _ = read(mcap(tmp_path / "x.mcap", channels, [(1, START, image), (2, START, b"\0\1\0\0\1\0\0\0")]))
    assert len(frames(samples)) == 1 and not proof.exists()


def test_a_topic_of_two_types_is_that_of_more_messages(tmp_path: Path) -> None:
    kinds = ("sensor_msgs/msg/Imu", "sensor_msgs/msg/Image")
    channels = [("/\x1b[31m[red]", kind, "ros2msg", "", "cdr") for kind in kinds]
    image = bytes(bw.STORE.serialize_cdr(bw.image(START, bw.picture(0)), kinds[1]))
    imu = bytes(bw.STORE.serialize_cdr(bw.imu(START), kinds[0]))
    bag = mcap(tmp_path / "x.mcap", channels, [(1, START, imu), (2, START, image), (2, START + 1, image)])
    samples, source = read(bag)
    assert len(frames(samples)) == 2
    assert any("/\\x1b[31m[red] as sensor_msgs/msg/Imu is left aside" in note for note in source.notes)


# -- transforms -------------------------------------------------------------------------------


def on_tf(*edges: tuple[str, str, float], count: int = 10) -> list[bw.Message]:
    """Images, odometry and /tf; an edge whose number is negative moves by it."""
    messages = images(count)
    for i in range(count):
        at = START + i * STEP
        messages.append(("/odom", at, bw.odometry(at, 0.1 * i)))
        moved = [(parent, child, x if x >= 0 else x * i) for parent, child, x in edges]
        messages.append(("/tf", at, bw.transforms(at, ("odom", "base", 0.1 * i), *moved)))
    return sorted(messages, key=lambda m: m[1])


@pytest.mark.parametrize("pose_source", ["odometry", "tf"])
def test_edges_of_tf_that_stand_still_tie_the_sensors(tmp_path: Path, pose_source: str) -> None:
    bag = bw.write_bag(tmp_path / "bag", on_tf(("base", "mount", 0.1), ("mount", "cam", 0.2)))
    samples, source = read(bag, pose_source=pose_source, base_frame="base")
    assert np.allclose(source.rig.body_from_camera[:3, 3], (0.3, 0, 0))
    assert sum(isinstance(s, PoseSample) for s in samples) == 10
    assert any("Taken from /tf, where they stand still: mount -> cam, base -> mount" in note for note in source.notes)


def test_an_edge_that_was_set_right_counts_and_one_that_moves_does_not(tmp_path: Path) -> None:
    messages = on_tf(("base", "cam", 0.2))
    first = next(i for i, m in enumerate(messages) if m[0] == "/tf")
    messages[first] = ("/tf", START, bw.transforms(START, ("base", "cam", 9.0)))
    _, source = read(bw.write_bag(tmp_path / "right", messages))
    assert np.allclose(source.rig.body_from_camera[:3, 3], (0.2, 0, 0))
    assert any("base -> cam of /tf was changed 1 times; the newest is used" in note for note in source.notes)
    _, source = read(bw.write_bag(tmp_path / "moves", on_tf(("base", "head", -0.1), ("head", "cam", 0.2))))
    assert source.rig.body_from_camera is None
    assert any("move (base -> head) and are no place for a sensor" in note for note in source.notes)
    assert any("No static transform connects 'base' with 'cam'" in note for note in source.notes)


def test_frames_have_any_names_and_one_parent(tmp_path: Path) -> None:
    odd = ["*gripper", "tag #3", "1", "no", "{ns}/base", "[/b]"]
    edges = [("base", odd[0], 0.1), *zip(odd, odd[1:], [0.1] * 9, strict=False), (odd[-1], "cam", 0.1), ("", "x", 1.0)]
    static = [
        ("/tf_static", START, bw.transforms(START, ("old", "1", 5.0), ("cam", "cam", 1.0))),
        ("/tf_static", START, bw.transforms(START, *edges)),
    ]
    messages = [*static, *images(3), ("/odom", START, bw.odometry(START, 0.0))]
    _, source = read(bw.write_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[1])))
    assert np.allclose(source.rig.body_from_camera[:3, 3], (0.7, 0, 0))
    assert any("The frame '1' has several parents in TF (old, tag #3)" in note for note in source.notes)
    assert sum(count for reason, count in source.bad.items() if "does not tie two frames" in reason) == 2


def test_ros1s_older_tf_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.bag"
    store = bw.STORE1
    edge = bw.transforms(START, ("/base", "/cam", 0.4)).transforms[0]
    made = store.types["geometry_msgs/msg/TransformStamped"](bw.header(START, "/base", store), "/cam", edge.transform)
    raw = store.serialize_ros1(store.types["tf2_msgs/msg/TFMessage"]([made]), "tf2_msgs/msg/TFMessage")
    odometry = bw.odometry(START, 0.0)
    odometry.header = bw.header(START, "odom", store)
    with Writer1(path) as writer:
        for topic, kind, message in (
            ("/cam/image", "sensor_msgs/msg/Image", bw.image(START, bw.picture(0), store=bw.STORE1)),
            ("/odom", "nav_msgs/msg/Odometry", odometry),
        ):
            connection = writer.add_connection(topic, kind, typestore=store)
            writer.write(connection, START, store.serialize_ros1(message, kind))
        definition = store.generate_msgdef("tf2_msgs/msg/TFMessage")
        old = writer.add_connection("/tf", "tf/msg/tfMessage", msgdef=definition[0], md5sum=definition[1])
        writer.write(old, START, raw)
    _, source = read(path)
    assert np.allclose(source.rig.body_from_camera[:3, 3], (0.4, 0, 0))


# -- parts ------------------------------------------------------------------------------------


def images1(first: int, count: int) -> list[bw.Message]:
    stamps = [START + i * STEP for i in range(first, first + count)]
    return [("/cam/image", t, bw.image(t, bw.picture(0), store=bw.STORE1)) for t in stamps]


def test_the_ros1_bags_of_a_folder_are_one_recording(tmp_path: Path) -> None:
    for number in (0, 1, 2, 10):
        bw.write_bag1(tmp_path / f"run_{number}.bag", images1(3 * min(number, 3), 4))  # they overlap by one
    samples, source = read(tmp_path)
    stamps = [frame.stamp_ns for frame in frames(samples)]
    assert source.kind == "ROS 1 bag" and len(stamps) == 16 and stamps == sorted(stamps)
    assert any("Of the recording's parts 0 to 10 7 are missing (first: part 3)" in note for note in source.notes)
    bw.write_bag(tmp_path / "other", images())
    shutil.copy(tmp_path / "other" / "other.db3", tmp_path)
    with pytest.raises(
        InputError, match=r"holds rosbag2 files \(other.db3\) and ROS 1 bags \(run_0.bag, run_1.bag, .*\)"
    ):
        read(tmp_path)


def split(folder: Path, listed: list[str], parts: int = 3) -> Path:
    """A split rosbag2 of 3 images a part, whose metadata.yaml lists these files."""
    folder.mkdir()
    for number in range(parts):
        one = bw.write_bag(folder.parent / f"{folder.name}{number}", images(3, first=3 * number))
        shutil.move(one / f"{one.name}.db3", folder / f"drive_{number}.db3")
    names = "".join(f"\n    - '{name}'" for name in listed)
    (folder / "metadata.yaml").write_text(f"rosbag2_bagfile_information:\n  relative_file_paths:{names or ' []'}\n")
    return folder


def test_parts_that_are_missing_or_not_listed_are_named(tmp_path: Path) -> None:
    names = [f"drive_{number}.db3" for number in range(3)]
    assert len(frames(read(split(tmp_path / "whole", names))[0])) == 9
    (tmp_path / "whole" / "drive_1.db3").unlink()
    samples, source = read(tmp_path / "whole")
    assert len(frames(samples)) == 6
    assert any("Of the recording's 3 files 1 are missing (drive_1.db3)" in note for note in source.notes)
    samples, source = read(split(tmp_path / "late", names[:2]))
    assert len(frames(samples)) == 9 and any("does not name drive_2.db3, which belong" in n for n in source.notes)
    (tmp_path / "late" / "drive_0.db3").rename(tmp_path / "late" / "other.db3")
    samples, source = read(tmp_path / "late")
    assert any("does not name other.db3; they are left out" in note for note in source.notes)


def test_messages_that_were_lost_are_missed(tmp_path: Path) -> None:
    bag = bw.write_bag(tmp_path / "bag", images(5))
    db = sqlite3.connect(bag / "bag.db3")
    db.execute("DELETE FROM messages WHERE id > 3")
    db.commit()
    db.close()
    _, source = read(bag)
    assert any("metadata.yaml of bag speaks of 5 messages, 3 are there" in note for note in source.notes)


def test_one_damaged_part_costs_no_other(tmp_path: Path) -> None:
    bag = split(tmp_path / "bag", [f"drive_{number}.db3" for number in range(3)])
    (bag / "drive_1.db3").write_bytes(b"nothing of a bag")
    samples, source = read(bag)
    assert len(frames(samples)) == 6 and any("drive_1.db3 is no sqlite3 bag" in note for note in source.notes)


# -- parts of the time, and reasons -----------------------------------------------------------


def test_a_part_that_holds_nothing_says_what_there_is(tmp_path: Path) -> None:
    late = [("/imu", START, bw.imu(START)), *images(5, first=50)]
    bag = bw.write_bag(tmp_path / "bag", late)
    with pytest.raises(InputError, match=r"is 5.400 s long \(recorded from .*\); --start 50 lies beyond its end"):
        read(bag, start_s=50.0)
    samples, source = read(bag, stop_s=2.0)
    assert not frames(samples)
    told = "None of the messages of '/cam/image_raw' lies in the part that was read: they were recorded from 5.000 to"
    assert any(told in note for note in source.notes)
    broken = [(t, at, bw.image(at, bw.picture(0), "yuv12345")) for t, at, _ in images(3)]
    _, source = read(bw.write_bag(tmp_path / "broken", broken))
    assert any("None of the 3 messages of '/cam/image_raw' could be used" in note for note in source.notes)


def test_calibration_and_places_sent_before_the_start_hold(tmp_path: Path) -> None:
    once = [("/cam/camera_info", START + i, bw.camera_info(START + i, fx=50.0 + i)) for i in range(2)]
    static = [("/tf_static", START, bw.transforms(START, ("base", "cam", 0.3)))]
    odometry = [("/odom", START + 290 * STEP, bw.odometry(START + 290 * STEP, 0.0))]
    messages = [*static, *once, *images(300), *odometry]
    bag = bw.write_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[1]), StoragePlugin.MCAP)
    samples, source = read(bag, start_s=25.0)
    assert {frame.camera.K[0, 0] for frame in frames(samples)} == {51.0}
    assert np.allclose(source.rig.body_from_camera[:3, 3], (0.3, 0, 0))


# -- one camera a topic -----------------------------------------------------------------------


def test_two_frames_or_sizes_on_one_topic(tmp_path: Path) -> None:
    mixed = []
    for i in range(6):
        at = START + i * STEP
        size, frame = ((32, 24), "b") if i % 2 else ((64, 48), "a")
        info = bw.camera_info(at, *size)
        info.header.frame_id = frame
        mixed += [("/cam/camera_info", at, info), ("/cam/image", at, bw.image(at, bw.picture(i, *size), frame=frame))]
    samples, source = read(bw.write_bag(tmp_path / "frames", mixed))
    assert {(f.frame_id, f.image.shape[1]) for f in frames(samples)} == {("a", 64)} and len(frames(samples)) == 3
    assert all(f.camera is not None for f in frames(samples)) and not source.bad
    assert (
        "Images of '/cam/image' come in two frames ('a' and 'b'); those of 'b' (3) are left out. "
        "Give each camera its own topic."
    ) in source.notes
    for topic, _, message in mixed:
        if topic == "/cam/image":
            message.header.frame_id = "a"
    samples, source = read(bw.write_bag(tmp_path / "sizes", mixed))
    assert len(frames(samples)) == 3
    assert any("two sizes (64x48 and 32x24); those of 32x24 (3) are left out" in note for note in source.notes)


def test_two_sensors_on_one_topic(tmp_path: Path) -> None:
    messages = images(3)
    for i in range(6):
        scan = bw.points(START + i, np.full((5, 3), i + 1.0))
        scan.header.frame_id = "rear" if i % 3 == 2 else "front"
        messages.append(("/points", START + i, scan))
    samples, source = read(bw.write_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[1])))
    assert {scan.frame_id for scan in samples if isinstance(scan, LidarScan)} == {"front"}
    assert any("'/points' come in two frames ('front' and 'rear'); those of 'rear' (2)" in n for n in source.notes)


def test_two_odometries_of_one_body_on_one_topic(tmp_path: Path) -> None:
    """Of one body, but each in a frame of its own: their poses do not fit together."""
    messages = images(3)
    for i in range(6):
        pose = bw.odometry(START + i, float(i))
        pose.header.frame_id = "/visual" if i % 3 == 2 else "wheels"
        messages.append(("/odom", START + i, pose))
    samples, source = read(bw.write_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[1])))
    assert {pose.frame_id for pose in samples if isinstance(pose, PoseSample)} <= {"wheels"}
    words = "'/odom' come in two frames ('base in wheels' and 'base in visual'); those of 'base in visual' (2)"
    assert any(words in note for note in source.notes), source.notes


def test_poses_of_tf_that_never_come_are_missed(tmp_path: Path) -> None:
    bag = bw.write_bag(tmp_path / "bag", [*images(3), ("/tf", START + NS, bw.transforms(START, ("map", "robot", 0.1)))])
    _, source = read(bag, pose_source="tf")
    assert any("TF never tied 'odom' to 'base_link' (frames known: map, robot)" in note for note in source.notes)
