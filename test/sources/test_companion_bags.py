"""Bags of rigs with several cameras: the others' images, their places, and what is said where something is wrong."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import bag_writing as bw

from spatial_fm_ros.core.config_files import load_config
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import CompanionFrame, Frame, ImuSample, LidarScan, PoseSample, Sample
from spatial_fm_ros.simulation.recording import write_bag
from spatial_fm_ros.simulation.scenario import Mount, get_scenario
from spatial_fm_ros.simulation.simulator import Simulator
from spatial_fm_ros.sources.base import NS, SourceOptions
from spatial_fm_ros.sources.open_source import open_source

START = 1_700_000_000 * NS
STEP = NS // 10
LEFT, RIGHT = {"image_topic": "/left/image"}, {"companion_image_topics": "/right/image"}


def samples_of(path: Path, **options: object) -> tuple[list[Sample], object]:
    with open_source(path, SourceOptions(**options)) as source:  # type: ignore[arg-type]
        return list(source), source


def frames_of(samples: list[Sample]) -> list[Frame]:
    return [s for s in samples if isinstance(s, Frame)]


def companions_of(samples: list[Sample]) -> list[Frame]:
    return [s.frame for s in samples if isinstance(s, CompanionFrame)]


def stereo_messages(images: int = 10, right: str = "right_cam", edges: bool = True, infos: bool = True) -> list:
    """Two cameras, the right one's images 1 ms later and 12 cm beside; pictures 0, 1, ... and 100, 101, ..."""
    found = [("/tf_static", START, bw.transforms(START, ("base", "cam", 0.3), ("base", right, 0.42)))] if edges else []
    for i in range(images):
        for side, frame, late, number in (("left", "cam", 0, i), ("right", right, NS // 1000, 100 + i)):
            at = START + i * STEP + late
            if infos:
                found.append((f"/{side}/camera_info", at, bw.camera_info(at, fx=50.0 if side == "left" else 60.0)))
            found.append((f"/{side}/image", at, bw.image(at, bw.picture(number), frame=frame)))
    return found


@pytest.fixture(scope="module")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With odometry, LiDAR and IMU of another writer on topics of their own."""
    others = [m for m in bw.robot_messages() if m[0] in ("/odom", "/imu", "/lidar/points")]
    messages = sorted([*stereo_messages(), *others], key=lambda m: m[1])
    return bw.write_bag(tmp_path_factory.mktemp("stereo") / "bag", messages)


@pytest.mark.parametrize("compressed", ["", "png"])
def test_a_simulated_rig_is_read_back_as_it_was(tmp_path: Path, compressed: str) -> None:
    """Three cameras, one of them looking aside."""
    scenario = get_scenario("room_drive", duration_s=0.5, detail=0.2, lidar_hz=0.0).with_size(96).with_stereo(0.12)
    aside = Mount(0.1, 0.2, 0.5, yaw_deg=40.0)
    run = Simulator(replace(scenario, companion_mounts=(*scenario.companion_mounts, aside)))
    write_bag(run, tmp_path / "bag", compressed=compressed)
    end = "/image/compressed" if compressed else "/image"
    topics = f"/camera_3{end}, camera_2{end}"  # in any order; a missing leading slash is forgiven
    samples, source = samples_of(tmp_path / "bag", image_topic=end, companion_image_topics=topics)
    assert not source.summary()
    frames, companions = frames_of(samples), companions_of(samples)
    assert [f.stamp_ns for f in frames] == run.frame_stamps_ns
    for number in range(2):
        frame_id = f"camera_{number + 2}_optical_frame"
        mine = [c for c in companions if c.frame_id == frame_id]
        assert [c.stamp_ns for c in mine] == run.frame_stamps_ns
        for i, companion in enumerate(mine):
            sent = run.companion(i, number).frame
            assert np.array_equal(companion.image, sent.image)
            assert np.array_equal(companion.camera.K, sent.camera.K)
            assert companion.camera.distortion == sent.camera.distortion
        assert np.allclose(source.rig.companions[frame_id], run.rig.companions[frame_id], atol=1e-9)
    assert np.allclose(source.rig.body_from_camera, run.rig.body_from_camera, atol=1e-9)


def test_each_camera_has_its_own_calibration_and_place(stereo: Path) -> None:
    samples, source = samples_of(stereo, **LEFT, **RIGHT)
    assert {f.camera.K[0, 0] for f in frames_of(samples)} == {50.0}
    for i, companion in enumerate(companions_of(samples)):
        assert companion.camera.K[0, 0] == 60.0 and companion.frame_id == "right_cam"
        assert companion.stamp_ns == START + i * STEP + NS // 1000
        assert np.array_equal(companion.image, bw.picture(100 + i))
    assert list(source.rig.companions) == ["right_cam"]
    assert np.allclose(source.rig.companions["right_cam"][:3, 3], (0.12, 0, 0))
    assert source.length == 10 and not source.bad
    # Intrinsics that are given are those of the first camera.
    samples, _ = samples_of(stereo, **LEFT, **RIGHT, intrinsics="70,71,30,20")
    assert frames_of(samples)[0].camera.K[0, 0] == 70 and companions_of(samples)[0].camera.K[0, 0] == 60


def test_a_companion_comes_before_the_frame_of_its_time(stereo: Path) -> None:
    """Also where it was taken and recorded a little later, and after the poses around it."""
    samples, _ = samples_of(stereo, **LEFT, **RIGHT)
    poses, companions = 0, 0
    for sample in samples:
        if isinstance(sample, PoseSample):
            poses = max(poses, sample.stamp_ns)
        elif isinstance(sample, CompanionFrame):
            companions = max(companions, sample.stamp_ns)
        elif isinstance(sample, Frame):
            assert companions >= sample.stamp_ns
            assert poses >= min(sample.stamp_ns, START + 19 * STEP // 2)


def key(sample: Sample) -> tuple:
    """What a sample is, comparable."""
    if isinstance(sample, Frame):
        camera = None if sample.camera is None else sample.camera.K.tobytes()
        return ("frame", sample.stamp_ns, sample.image.tobytes(), camera, sample.frame_id)
    values = {PoseSample: "odom_from_body", LidarScan: "points", ImuSample: "angular_velocity"}
    return (type(sample).__name__, sample.stamp_ns, getattr(sample, values[type(sample)]).tobytes())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    every=st.integers(1, 5),
    start=st.sampled_from([0.0, 0.15, 0.4]),
    stop=st.sampled_from([0.65, 0.9, float("inf")]),
    pose_source=st.sampled_from(["odometry", "none"]),
    side=st.sampled_from(["left", "right"]),
)
def test_all_else_is_as_without_companions(stereo, every, start, stop, pose_source, side) -> None:
    other = "right" if side == "left" else "left"
    part = {"every": every, "start_s": start, "stop_s": stop, "pose_source": pose_source}
    alone, without = samples_of(stereo, image_topic=f"/{side}/image", **part)
    # The camera that is left over is the one to map with.
    samples, source = samples_of(stereo, companion_image_topics=f"/{other}/image", **part)
    assert [key(s) for s in samples if not isinstance(s, CompanionFrame)] == [key(s) for s in alone]
    assert source.length == without.length and not without.rig.companions
    # Of the companions, those beside the frames; one may miss at the ends, where the part cuts between the two.
    frames, companions = frames_of(samples), companions_of(samples)
    assert all(min(abs(c.stamp_ns - f.stamp_ns) for f in frames) <= STEP for c in companions)
    beside = [any(abs(c.stamp_ns - f.stamp_ns) <= NS // 1000 for c in companions) for f in frames]
    assert sum(beside) >= len(frames) - 1 and len(companions) <= len(frames) + 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({**LEFT, "companion_image_topics": "/right"},
         r"no topic '/right' for --companion-image-topics \(ros.companion_image_topics\); .*/left/image, /right/image"),
        ({**LEFT, "companion_image_topics": "/odom"},
         r"'/odom' given for --companion-image-topics .* is a nav_msgs/msg/Odometry, expected sensor_msgs/msg/Image"),
        ({**LEFT, **RIGHT, "companion_camera_info_topics": "/imu"},
         r"'/imu' given for --companion-camera-info-topics .* is a sensor_msgs/msg/Imu, expected"),
        ({**LEFT, **RIGHT, "companion_camera_info_topics": "/left/camera_info,/right/camera_info"},
         r"--companion-image-topics .* names 1 topics and --companion-camera-info-topics .* names 2"),
        ({**LEFT, "companion_image_topics": "/right/image,right/image"}, r"'/right/image' is given twice"),
        ({**LEFT, "companion_image_topics": "/left/image"}, r"'/left/image' is given for --image-topic .* too"),
        ({}, r"/left/image, /right/image; choose one with --image-topic .* come along with --companion-image-topics"),
    ],
)  # fmt: skip
def test_wrong_topics_are_sentences(stereo: Path, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        open_source(stereo, SourceOptions(**options))  # type: ignore[arg-type]


def test_camera_info_elsewhere_is_named_or_missed(tmp_path: Path) -> None:
    messages = [m for m in stereo_messages() if m[0] != "/right/camera_info"]
    messages += [("/right_info", m[1], m[2]) for m in stereo_messages() if m[0] == "/right/camera_info"]
    bag = bw.write_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[1]))
    with pytest.raises(InputError, match=r"has no '/right/camera_info'.* --companion-camera-info-topics .*/right_info"):
        open_source(bag, SourceOptions(**LEFT, **RIGHT))
    samples, _ = samples_of(bag, **LEFT, **RIGHT, companion_camera_info_topics="/right_info")
    assert {c.camera.K[0, 0] for c in companions_of(samples)} == {60.0}
    # The calibration of the companion is not a candidate for that of the camera.
    bag = bw.write_bag(
        tmp_path / "other", [(t.replace("/left/camera_info", "/left_info"), a, m) for t, a, m in messages]
    )
    samples, _ = samples_of(bag, **LEFT, **RIGHT, companion_camera_info_topics="/right_info")
    assert {f.camera.K[0, 0] for f in frames_of(samples)} == {50.0}


def test_damaged_images_and_calibration_are_counted(tmp_path: Path) -> None:
    broken = []
    for topic, at, message in stereo_messages(6):
        if topic == "/right/image" and at == START + 2 * STEP + NS // 1000:
            message = bw.image(at, bw.picture(102), "yuv12345", frame="right_cam")
        if topic == "/right/camera_info" and at > START + 4 * STEP:
            message = bw.camera_info(at, width=1, height=1)
        broken.append((topic, at, message))
    samples, source = samples_of(bw.write_bag(tmp_path / "bag", broken), **LEFT, **RIGHT)
    assert len(frames_of(samples)) == 6
    assert [c.camera is None for c in companions_of(samples)] == [False, False, False, True, True]
    assert sorted(key.partition(":")[0] for key in source.bad) == ["/right/camera_info", "/right/image"]


def test_a_place_that_is_not_known_is_noted(tmp_path: Path) -> None:
    loose = bw.write_bag(tmp_path / "loose", stereo_messages(edges=False))
    samples, source = samples_of(loose, **LEFT, **RIGHT)
    assert len(companions_of(samples)) == 10 and not source.rig.companions
    assert any("connects 'cam' with 'right_cam'" in note and "give no metres" in note for note in source.notes)
    # Two cameras in one frame cannot be told apart.
    same = bw.write_bag(tmp_path / "same", stereo_messages(right="cam"))
    samples, source = samples_of(same, **LEFT, **RIGHT)
    assert len(frames_of(samples)) == 10 and not companions_of(samples) and not source.rig.companions
    assert any("come in the frame 'cam', as those of the first camera" in note for note in source.notes)


@pytest.mark.parametrize(
    ("changes", "options", "named"),
    [
        ({}, LEFT, True),
        ({}, {**LEFT, **RIGHT}, False),
        ({}, {**LEFT, "companion_image_topics": "none"}, False),
        ({"edges": False}, LEFT, False),
        ({"infos": False}, LEFT, False),
        ({"right": "cam"}, LEFT, False),
    ],
)
def test_a_camera_that_could_help_is_named(tmp_path: Path, changes: dict, options: dict, named: bool) -> None:
    _, source = samples_of(bw.write_bag(tmp_path / "bag", stereo_messages(3, **changes)), **options)
    sentence = "'/right/image' is a calibrated camera 0.12 m beside that of '/left/image'"
    assert any(sentence in note and "--companion-image-topics" in note for note in source.notes) is named


def test_one_that_is_not_triggered_together_is_not_named(tmp_path: Path) -> None:
    messages = [m for m in stereo_messages(3) if not m[0].startswith("/right")]
    for i in range(3):
        at = START + i * STEP + STEP // 2
        messages.append(("/right/camera_info", at, bw.camera_info(at)))
        messages.append(("/right/image", at, bw.image(at, bw.picture(i), frame="right_cam")))
    _, source = samples_of(bw.write_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[1])), **LEFT)
    assert not source.notes


def test_other_recordings_have_one_camera(tmp_path: Path) -> None:
    import cv2

    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), bw.picture(i))
    with open_source(tmp_path, SourceOptions(**RIGHT)) as source:
        assert any("one camera" in note and "/right/image" in note for note in source.notes)


def test_parameters_name_them_too(stereo: Path) -> None:
    settings = load_config([], {"ros.image_topic": "/left/image", "ros.companion_image_topics": "/right/image"})
    with open_source(stereo, SourceOptions.from_ros(settings.ros)) as source:
        assert len(companions_of(list(source))) == 10
    with open_source(stereo, SourceOptions.from_ros(settings.ros, companion_image_topics="none")) as source:
        assert not companions_of(list(source))
