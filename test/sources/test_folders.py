"""Image folders, videos and sequence folders: stamps, order, calibration; ground truth stays shut."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.intake.stamps import TimeLine
from spatial_fm_ros.core.types import Frame, LidarScan
from spatial_fm_ros.sources.base import NS, SourceOptions
from spatial_fm_ros.sources.file_names import natural_key, stamps_from_names
from spatial_fm_ros.sources.open_source import open_source
from test.pictures.making import encoded, scene, with_frame_size


def write_images(folder: Path, names: list[str], size: tuple[int, int] = (48, 64)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        image = np.full((*size, 3), (0, 0, 10 * i), np.uint8)  # BGR: red = 10 i
        assert cv2.imwrite(str(folder / name), image)
    return folder


def write_sequence(folder: Path, frames: int = 6, **extra: object) -> Path:
    write_images(folder / "images", [f"{i:06d}.png" for i in range(frames)])
    described = {"rate_hz": 10.0, "width": 64, "height": 48, "K": [50, 0, 31.5, 0, 50, 23.5, 0, 0, 1], "distortion": []}
    (folder / "sequence.json").write_text(json.dumps({**described, **extra}))
    return folder


@pytest.mark.parametrize("gaps", [[1, 1, 7200], [86400], [0.1, 0.1, 1e5, 1e6, 3e7]])
def test_photos_of_any_times_apart_are_of_one_time(tmp_path: Path, gaps: list[float]) -> None:
    """Minutes, days and years between them are no wrong stamps: files are read in the order of their times."""
    times = np.cumsum([1_700_000_000, *gaps, *gaps])
    line: TimeLine[None] = TimeLine("An image")
    with open_source(write_images(tmp_path / "f", [f"{time:.3f}.png" for time in times]), SourceOptions()) as source:
        for sample in source:
            assert not line.admit(sample.stamp_ns, sample.arrived_ns, None).refused


def test_natural_order():
    names = ["img10", "img2", "Img1", "b", "img2a"]
    assert sorted(names, key=natural_key) == ["b", "Img1", "img2", "img2a", "img10"]
    assert sorted(["1", "-1", "0", "-2"], key=natural_key) == ["-2", "-1", "0", "1"]
    assert sorted(["\u00b23", "3", "\u2460"], key=natural_key)[0] == "3"  # what only looks like digits is letters


@pytest.mark.parametrize(
    ("names", "stamps"),
    [
        (["1700000000123456789", "1700000001000000001"], [1700000000123456789, 1700000001000000001]),
        (["1700000000.123456789", "1700000000.2"], [1700000000123456789, 1700000000200000000]),
        (["1700000000123", "1700000000456"], [1700000000123 * 10**6, 1700000000456 * 10**6]),
        (["000001", "000002"], None),
        (["1700000000", "cover"], None),
        (["1700000001", "1700000000"], [1700000001 * NS, 1700000000 * NS]),
        (["1714567890.0", "1714567890.05", "1714567890.1"], [1714567890 * NS + i * NS // 20 for i in range(3)]),
        (["-1.5", "-0.5", "0.25"], [-3 * NS // 2, -NS // 2, NS // 4]),
        (["1e-05", "0.0001", "2.5e-05"], [10_000, 100_000, 25_000]),
        (["1.714567890123e+18", "1.714567890223e+18"], [1714567890123 * 10**6, 1714567890223 * 10**6]),
        (["1714567890123.5", "1714567890124.25"], [1714567890123500000, 1714567890124250000]),
        (["frame_0001.5_left", "frame_0001.75_left"], [3 * NS // 2, 7 * NS // 4]),
        (["cam0_1714567890.5", "cam0_1714567890.25"], [1714567890 * NS + NS // 2, 1714567890 * NS + NS // 4]),
        (["000007_1714567890.5", "000008_1714567890.75"], [1714567890 * NS + NS // 2, 1714567890 * NS + 3 * NS // 4]),
        (["1403636579_763555584", "1403636579_813555456"], [1403636579763555584, 1403636579813555456]),
        (["1403636579-963555584", "1403636580-013555456"], [1403636579963555584, 1403636580013555456]),
        (["1e3", "2e3"], None),
        (["1.1", "1.2", "1.10"], None),  # chapters
        (["1.2.3", "1.2.4"], None),
        (["20240501_123456", "20240501_123457"], None),
        (["2024-05-01 12.34.56", "2024-05-01 12.35.02"], None),
        (["\u2460", "\u2461"], None),
        (["\u00b23", "\u00b24"], None),
        (["\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669\u0661", "1700000000"], None),
        (["9" * 200 + ".5", "9" * 201 + ".5"], None),
        ([], None),
    ],
)
def test_stamps_from_names(names, stamps):
    assert stamps_from_names(names) == stamps


def test_image_folder_is_natural_rgb_and_rated(tmp_path):
    folder = write_images(tmp_path / "f", ["a1.png", "a2.png", "a10.png"])
    with open_source(folder, SourceOptions(rate_hz=3)) as source:
        frames = list(source)
    assert [f.stamp_ns for f in frames] == [0, 333333333, 666666667]
    assert [int(f.image[0, 0, 0]) for f in frames] == [0, 10, 20]
    assert frames[0].camera is None and source.length == 3
    with open_source(folder) as source:
        list(source)
    assert any("--rate" in note for note in source.notes)


def test_broken_image_is_named_and_skipped(tmp_path):
    folder = write_images(tmp_path / "f", ["a1.png", "a2.png", "a3.png"])
    (folder / "a2.png").write_bytes(b"not an image")
    with open_source(folder) as source:
        assert len(list(source)) == 2
    assert any("a2.png" in sentence for sentence in source.summary())


def test_names_as_python_prints_floats_are_times(tmp_path):
    stamps = [1714567890 + i / 20 for i in range(12)]
    folder = write_images(tmp_path / "f", [f"{stamp}.png" for stamp in stamps])
    with open_source(folder) as source:
        frames = list(source)
    assert [f.stamp_ns for f in frames] == [1714567890 * NS + i * NS // 20 for i in range(12)]
    assert [int(f.image[0, 0, 0]) for f in frames] == [10 * i for i in range(12)] and not source.notes


def test_times_before_zero_and_times_that_come_twice(tmp_path):
    folder = write_images(tmp_path / "f", ["0.5.png", "-1.5.png", "-0.25.png", "2.5.png", "0.5.bmp"])
    with open_source(folder) as source:
        frames = list(source)
    assert [f.stamp_ns for f in frames] == [-3 * NS // 2, -NS // 4, NS // 2, 5 * NS // 2]
    assert [int(f.image[0, 0, 0]) for f in frames][:2] == [10, 20]
    assert any("times before 0" in note for note in source.notes)
    assert source.bad == {"an image has the same time as another (0.5.png)": 1}


def test_what_bears_an_images_name_and_is_none_is_named_and_left_out(tmp_path):
    folder = write_images(tmp_path / "f", ["1.png", "2.png", "3.png"])
    os.mkfifo(folder / "0.png")
    (folder / "4.png").mkdir()
    (folder / "5.png").symlink_to("5.png")
    (folder / "6.png").symlink_to("nowhere")
    (folder / "7.png").symlink_to("/dev/zero")
    (folder / "8.png").symlink_to("2.png")
    with open_source(folder) as source:
        assert len(list(source)) == 4
    said = " ".join(source.bad)
    assert len(source.bad) == 5 and all(f"{i}.png" in said for i in (0, 4, 5, 6, 7)) and "a FIFO" in said


@pytest.mark.parametrize(
    "names", [["\u2460.png", "\u2461.png"], ["\u00b23.png", "\u00b24.png"], [b"caf\xe9.png", "1.png"]]
)
def test_odd_names_are_read(tmp_path, names):
    folder = write_images(tmp_path / "f", ["a.png", "b.png"])
    for plain, name in zip(("a.png", "b.png"), names):
        os.rename(os.path.join(folder, plain), os.path.join(os.fsencode(folder), os.fsencode(name)))
    for odd in (tmp_path / "f", Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))):
        if odd.name != "f":
            os.rename(folder, odd)
        with open_source(odd) as source:
            assert len(list(source)) == 2
        assert all(line.isprintable() for line in source.summary())


def test_very_many_broken_images_are_counted_and_not_all_listed(tmp_path):
    folder = write_images(tmp_path / "f", ["0.png"])
    for i in range(1, 80):
        (folder / f"{i}.png").write_bytes(b"broken")
    with open_source(folder) as source:
        assert len(list(source)) == 1
    assert len(source.summary()) < 60 and "Skipped 29 times more for 29 other reasons" in source.summary()[-1]


def test_bombs_in_a_folder_are_named(tmp_path):
    folder = write_images(tmp_path / "f", ["1.png", "2.png"])
    (folder / "3.jpg").write_bytes(with_frame_size(encoded(scene(), "JPEG"), 20000, 20000))
    with open_source(folder) as source:
        assert len(list(source)) == 2
    assert any("3.jpg" in reason and "20000x20000 pixels" in reason for reason in source.bad)
    with open_source(folder, SourceOptions(max_pixels=64 * 48 - 1)) as source:
        assert not list(source)


def test_sequence_folder(tmp_path):
    folder = write_sequence(tmp_path / "s", distortion=[0.1, -0.05, 0, 0, 0])
    with open_source(folder, SourceOptions(every=2)) as source:
        frames = list(source)
    assert [f.stamp_ns for f in frames] == [0, 2 * NS // 10, 4 * NS // 10]
    assert frames[0].camera.distortion_model == "plumb_bob" and frames[0].camera.K[0, 0] == 50
    assert source.kind == "sequence folder"


def test_unknown_calibration_and_missing_frames(tmp_path):
    folder = write_sequence(tmp_path / "s", K=None, frames=6)
    (folder / "images" / "000003.png").unlink()
    with open_source(folder) as source:
        frames = list(source)
    assert all(f.camera is None for f in frames)
    assert [f.stamp_ns for f in frames] == [i * NS // 10 for i in (0, 1, 2, 4, 5)]


def test_lidar_of_a_sequence(tmp_path):
    extrinsic = np.eye(4)
    extrinsic[:3, 3] = (0.1, 0.2, 0.3)
    folder = write_sequence(tmp_path / "s", lidar_unit_m=0.01, camera_from_lidar=extrinsic.reshape(-1).tolist())
    (folder / "lidar").mkdir()
    np.savez(
        folder / "lidar" / "000001.npz", xyz=np.full((4, 3), 250, np.int16), intensity=np.arange(4, dtype=np.uint8)
    )
    (folder / "lidar" / "000002.npz").write_bytes(b"broken")
    with open_source(folder) as source:
        samples = list(source)
    scans = [s for s in samples if isinstance(s, LidarScan)]
    assert len(scans) == 1 and scans[0].stamp_ns == NS // 10
    assert np.allclose(scans[0].points, 2.5) and scans[0].intensity.tolist() == [0, 1, 2, 3]
    assert np.allclose(source.rig.body_from_lidar, extrinsic) and np.allclose(source.rig.body_from_camera, np.eye(4))
    assert any("000002.npz" in reason for reason in source.bad)
    assert sum(isinstance(s, Frame) for s in samples) == 6


def test_ground_truth_beside_the_input_is_never_opened(tmp_path):
    folder = write_sequence(tmp_path / "s", lidar_unit_m=0.01, camera_from_lidar=np.eye(4).reshape(-1).tolist())
    (folder / "lidar").mkdir()
    np.savez(folder / "lidar" / "000001.npz", xyz=np.zeros((4, 3), np.int16), intensity=np.zeros(4, np.uint8))
    for name in ("poses.txt", "lidar_poses.txt"):
        (folder / name).write_text("0 0 0 0 0 0 0 1\n")
    for name in ("depth", "truth"):
        (folder / name).mkdir()
        (folder / name / "000000.png").write_bytes(b"")
    # An audit hook cannot be taken off again, hence a process of its own.
    program = """
import sys
opened = []
kinds = ("open", "os.listdir", "os.scandir")
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in kinds else None)
from spatial_fm_ros.sources.open_source import open_source
with open_source(sys.argv[1]) as source:
    count = len(list(source))
inside = sorted({path[len(sys.argv[1]):] for path in opened if path.startswith(sys.argv[1])})
print(count)
print("\\n".join(inside))
"""
    run = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    count, *inside = run.stdout.splitlines()
    assert int(count) == 7
    assert "/sequence.json" in inside and "/images/000005.png" in inside and "/lidar/000001.npz" in inside
    assert not [path for path in inside if any(word in path for word in ("poses", "depth", "truth"))]


def test_video(tmp_path):
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for i in range(12):
        writer.write(np.full((48, 64, 3), (0, 0, 20 * i), np.uint8))
    writer.release()
    with open_source(path, SourceOptions(start_s=0.2, stop_s=0.9, every=3)) as source:
        frames = list(source)
        assert source.length == len(frames) == 3
    assert [f.stamp_ns for f in frames] == [2 * NS // 10, 5 * NS // 10, 8 * NS // 10]
    assert [round(int(f.image[0, 0, 0]) / 20) for f in frames] == [2, 5, 8]


def test_sentences_for_what_is_no_input(tmp_path):
    with pytest.raises(InputError, match="There is no input at"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        open_source(tmp_path / "empty")
    (tmp_path / "x.pdf").write_bytes(b"%PDF")
    with pytest.raises(InputError, match="nothing this program reads"):
        open_source(tmp_path / "x.pdf")
    (tmp_path / "x.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="cannot be opened"):
        open_source(tmp_path / "x.mp4")
    folder = write_sequence(tmp_path / "s", rate_hz=0)
    with pytest.raises(InputError, match="'rate_hz' must be images per second"):
        open_source(folder)
    with pytest.raises(InputError, match="No image .* between 100 and 200 s"):
        open_source(write_sequence(tmp_path / "t"), SourceOptions(start_s=100, stop_s=200))
    with pytest.raises(InputError, match="0 <= start < stop"):
        SourceOptions(start_s=3, stop_s=2)
    for rate in (-1, float("nan"), 1e-300, float("inf")):
        with pytest.raises(InputError, match="image rate must be positive"):
            SourceOptions(rate_hz=rate)
    for intrinsics in ("1,2,3", "nan,1,1,1", "0,1,1,1", "a,b,c,d", "1,1,1,1,inf,0,0,0"):
        with pytest.raises(InputError, match="Intrinsics are 'fx,fy,cx,cy'"):
            SourceOptions(intrinsics=intrinsics)
