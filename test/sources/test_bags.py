"""Bags of every storage and compression give the same samples; faults are sentences."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionMode, StoragePlugin

sys.path.insert(0, str(Path(__file__).parent))
import bag_writing as bw

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Frame, ImuSample, LidarScan, PoseSample
from spatial_fm_ros.sources.base import NS, SourceOptions
from spatial_fm_ros.sources.open_source import open_source

START = 1_700_000_000 * NS


def samples_of(path: Path, **options: object):
    with open_source(path, SourceOptions(**options)) as source:  # type: ignore[arg-type]
        return list(source), source


def frames_of(samples: list) -> list[Frame]:
    return [s for s in samples if isinstance(s, Frame)]


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        (StoragePlugin.SQLITE3, CompressionMode.NONE),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
        (StoragePlugin.MCAP, CompressionMode.NONE),
        (StoragePlugin.MCAP, CompressionMode.MESSAGE),
        (StoragePlugin.MCAP, CompressionMode.FILE),
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
    ],
)
def test_every_storage_gives_the_same_samples(tmp_path, storage, compression):
    bag = bw.write_bag(tmp_path / "bag", bw.robot_messages(), storage, compression)
    samples, source = samples_of(bag)
    frames = frames_of(samples)
    assert [f.stamp_ns for f in frames] == [START + i * NS // 10 for i in range(10)]
    for i, frame in enumerate(frames):
        assert (frame.image == bw.picture(i)).all()
        assert frame.frame_id == "cam"
        assert frame.camera is not None and frame.camera.K[0, 0] == 50.0
    assert sum(isinstance(s, PoseSample) for s in samples) == 20
    assert sum(isinstance(s, ImuSample) for s in samples) == 20
    scans = [s for s in samples if isinstance(s, LidarScan)]
    assert [float(s.points[0, 0]) for s in scans] == [1, 3, 5, 7, 9]
    assert source.length == 10 and not source.bad and not source.summary()


def test_rig_comes_from_static_transforms(tmp_path):
    _, source = samples_of(bw.write_bag(tmp_path / "bag", bw.robot_messages()))
    assert np.allclose(source.rig.body_from_camera[:3, 3], [0.3, 0, 0])  # base -> mount -> cam
    assert np.allclose(source.rig.body_from_lidar[:3, 3], [-0.3, 0, 0])
    assert source.rig.body_from_imu is None


def test_missing_extrinsics_are_named(tmp_path):
    messages = [m for m in bw.robot_messages() if m[0] != "/tf_static"]
    _, source = samples_of(bw.write_bag(tmp_path / "bag", messages))
    assert source.rig.body_from_camera is None
    assert any("'base' with 'cam'" in note and "/tf_static" in note for note in source.notes)


def test_poses_around_a_frame_come_before_it(tmp_path):
    samples, _ = samples_of(bw.write_bag(tmp_path / "bag", bw.robot_messages(30)))
    newest_pose = 0
    for sample in samples:
        if isinstance(sample, PoseSample):
            newest_pose = max(newest_pose, sample.stamp_ns)
        if isinstance(sample, Frame) and sample.stamp_ns < START + 2 * NS:
            assert newest_pose >= sample.stamp_ns


def test_shuffled_recording_order_is_mended(tmp_path):
    messages = bw.robot_messages(20)
    rng = np.random.default_rng(0)
    shuffled = sorted(messages[1:], key=lambda m: m[1] + rng.uniform(0, 0.3) * NS)
    delayed = [(topic, START + i * 1000, message) for i, (topic, _, message) in enumerate([messages[0], *shuffled])]
    samples, _ = samples_of(bw.write_bag(tmp_path / "bag", delayed))
    for kind in (Frame, PoseSample, LidarScan):
        stamps = [s.stamp_ns for s in samples if isinstance(s, kind)]
        assert stamps == sorted(stamps) and stamps


def test_poses_from_tf(tmp_path):
    messages = [m for m in bw.robot_messages() if m[0] != "/odom"]
    for i in range(20):
        at = START + i * NS // 20
        messages.append(("/tf", at, bw.transforms(at, ("odom", "base_link", i / 20))))
    samples, _ = samples_of(bw.write_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[1])), pose_source="tf")
    poses = [s for s in samples if isinstance(s, PoseSample)]
    assert [round(float(p.odom_from_body[0, 3]), 6) for p in poses] == [i / 20 for i in range(20)]


def test_compressed_images_and_raw_twin(tmp_path):
    messages = [("/cam/image/compressed", START + i, bw.compressed(START + i, bw.picture(i))) for i in range(3)]
    samples, source = samples_of(bw.write_bag(tmp_path / "only", messages))
    assert source.topics.camera.compressed and (samples[2].image == bw.picture(2)).all()
    both = messages + [("/cam/image", START + i, bw.image(START + i, bw.picture(i))) for i in range(3)]
    _, source = samples_of(bw.write_bag(tmp_path / "both", both))
    assert source.topics.camera.image == "/cam/image"


def test_depth_topics_are_not_candidates(tmp_path):
    depth = bw.image(START, np.zeros((48, 64), np.uint16), "16UC1")
    colour = bw.image(START, bw.picture(1))
    bag = bw.write_bag(tmp_path / "bag", [("/cam/depth", START, depth), ("/cam/color", START, colour)])
    _, source = samples_of(bag)
    assert source.topics.camera.image == "/cam/color"


def test_several_cameras_are_named_in_the_error(tmp_path):
    both = [(f"/{side}/image", START, bw.image(START, bw.picture(1))) for side in ("left", "right")]
    bag = bw.write_bag(tmp_path / "bag", both)
    with pytest.raises(InputError, match=r"/left/image, /right/image; choose one with --image-topic"):
        open_source(bag)
    _, source = samples_of(bag, image_topic="right/image")  # a missing leading slash is forgiven
    assert source.topics.camera.image == "/right/image"


def test_camera_info_of_the_images_namespace_is_taken(tmp_path):
    messages = []
    for side, fx in (("left", 50.0), ("right", 60.0)):
        messages.append((f"/{side}/camera_info", START, bw.camera_info(START, fx=fx)))
        messages.append((f"/{side}/image", START, bw.image(START, bw.picture(1))))
    samples, _ = samples_of(bw.write_bag(tmp_path / "bag", messages), image_topic="/right/image")
    assert samples[0].camera.K[0, 0] == 60.0


def test_wrong_type_absent_topic_and_no_images(tmp_path):
    bag = bw.write_bag(tmp_path / "bag", bw.robot_messages(2))
    with pytest.raises(InputError, match=r"'/odom' given for --image-topic .* is a nav_msgs/msg/Odometry, expected"):
        open_source(bag, SourceOptions(image_topic="/odom"))
    with pytest.raises(InputError, match=r"no topic '/nothing' for --points-topic .*; .*/lidar/points"):
        open_source(bag, SourceOptions(points_topic="/nothing"))
    blind = bw.write_bag(tmp_path / "blind", [m for m in bw.robot_messages(2) if "image" not in m[0]])
    with pytest.raises(InputError, match="holds no camera images .*; its topics are .*/odom"):
        open_source(blind)


def test_damaged_messages_are_counted_and_skipped(tmp_path):
    messages = bw.robot_messages(6)
    broken = []
    for topic, at, message in messages:
        if topic == "/camera/image_raw" and at == START + 2 * NS // 10:
            message = bw.STORE.serialize_cdr(message, message.__msgtype__)[:500]
        elif topic == "/camera/image_raw" and at == START + 3 * NS // 10:
            message = bw.image(at, bw.picture(3), "yuv12345")
        broken.append((topic, at, bytes(message) if isinstance(message, memoryview) else message))
    samples, source = samples_of(bw.write_bag(tmp_path / "bag", broken))
    assert len(frames_of(samples)) == 4
    assert sum(source.bad.values()) == 2
    assert all("/camera/image_raw" in reason for reason in source.bad)
    assert any("yuv12345" in sentence for sentence in source.summary())


def test_camera_info_of_another_size_is_counted_and_not_used(tmp_path):
    messages = [
        ("/cam/camera_info", START, bw.camera_info(START, 32, 24)),
        ("/cam/image", START, bw.image(START, bw.picture(1))),
    ]
    samples, source = samples_of(bw.write_bag(tmp_path / "bag", messages))
    assert samples[0].camera is None
    assert any("32x24" in reason and "64x48" in reason for reason in source.bad)


def test_one_frame_bag_says_so(tmp_path):
    _, source = samples_of(bw.write_bag(tmp_path / "bag", bw.robot_messages(1)))
    assert any("one image only" in note for note in source.notes)


def test_start_stop_and_every(tmp_path):
    bag = bw.write_bag(tmp_path / "bag", bw.robot_messages(30))
    samples, source = samples_of(bag, start_s=1.0, stop_s=2.0, every=2)
    assert [(f.stamp_ns - START) // (NS // 10) for f in frames_of(samples)] == [10, 12, 14, 16, 18]
    assert source.length == 5


def test_intrinsics_option_overrides_and_removes(tmp_path):
    bag = bw.write_bag(tmp_path / "bag", bw.robot_messages(2))
    samples, _ = samples_of(bag, intrinsics="70,71,30,20")
    assert frames_of(samples)[0].camera.K.tolist() == [[70, 0, 30], [0, 71, 20], [0, 0, 1]]
    samples, _ = samples_of(bag, intrinsics="none")
    assert frames_of(samples)[0].camera is None
    with pytest.raises(InputError, match="fx,fy,cx,cy"):
        samples_of(bag, intrinsics="70,71")


def test_single_storage_files_open(tmp_path):
    for storage, suffix in ((StoragePlugin.MCAP, "mcap"), (StoragePlugin.SQLITE3, "db3")):
        bag = bw.write_bag(tmp_path / suffix, bw.robot_messages(4), storage)
        samples, _ = samples_of(bag / f"{suffix}.{suffix}")
        assert len(frames_of(samples)) == 4
        (bag / "metadata.yaml").unlink()  # the recorder was killed
        samples, _ = samples_of(bag)
        assert len(frames_of(samples)) == 4
        packed = bw.write_bag(tmp_path / f"z{suffix}", bw.robot_messages(4), storage, CompressionMode.MESSAGE)
        (packed / "metadata.yaml").unlink()
        assert len(frames_of(samples_of(packed)[0])) == 4


def test_truncated_bags_are_read_as_far_as_they_go(tmp_path):
    for storage, suffix, compression in (
        (StoragePlugin.MCAP, "mcap", CompressionMode.NONE),
        (StoragePlugin.MCAP, "mcap", CompressionMode.STORAGE),
        (StoragePlugin.SQLITE3, "db3", CompressionMode.NONE),
    ):
        name = f"{suffix}{compression.name}"
        bag = bw.write_bag(tmp_path / name, bw.robot_messages(250), storage, compression)
        file = bag / f"{name}.{suffix}"
        data = file.read_bytes()
        file.write_bytes(data[: len(data) * 7 // 10])
        for with_metadata in (True, False):
            if not with_metadata:
                (bag / "metadata.yaml").unlink()
            samples, source = samples_of(bag)
            frames = frames_of(samples)
            assert 60 < len(frames) < 250, (name, with_metadata)
            for i, frame in enumerate(frames):
                assert (frame.image == bw.picture(i)).all()
            assert any("cut off" in note or "breaks off" in note for note in source.notes), source.notes


def test_hopeless_bags_are_one_sentence(tmp_path):
    for name in ("a.mcap", "a.db3", "a.bag"):
        (tmp_path / name).write_bytes(b"nothing of a bag" * 10)
        with pytest.raises(InputError, match=name):
            open_source(tmp_path / name)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match=name):
            open_source(tmp_path / name)
    empty = tmp_path / "folder"
    empty.mkdir()
    (empty / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 8}")
    with pytest.raises(InputError, match="folder cannot be read"):
        open_source(empty)


def test_ros1_bag(tmp_path):
    messages = [
        ("/cam/image_raw", START + i * NS // 10, bw.image(START + i * NS // 10, bw.picture(i), store=bw.STORE1))
        for i in range(5)
    ]
    samples, source = samples_of(bw.write_bag1(tmp_path / "old.bag", messages))
    assert source.kind == "ROS 1 bag" and source.length == 5
    assert [f.stamp_ns for f in samples] == [START + i * NS // 10 for i in range(5)]
    assert (samples[3].image == bw.picture(3)).all()
    with pytest.raises(InputError, match="never closed; run 'rosbag reindex"):
        (tmp_path / "x.bag.active").write_bytes(b"#ROSBAG V2.0\n")
        open_source(tmp_path / "x.bag.active")
