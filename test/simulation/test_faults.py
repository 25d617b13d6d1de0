"""Faults are as many as asked, counted, repeatable, and leave the order of arrival intact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Camera, Frame, ImuSample, LidarScan, PoseSample, Rig
from spatial_fm_ros.simulation.faults import DAMAGE, FaultInjector, FaultPlan
from spatial_fm_ros.simulation.message_fields import camera_info_fields, cloud_fields, image_fields
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Event

CAMERA = Camera(32, 24, np.array([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]]))
N = 600


def stream() -> Iterator[Event]:
    rng = np.random.default_rng(0)
    for i in range(N):
        stamp = 10_000_000 * i
        yield Event(stamp, ImuSample(stamp, np.zeros(3), np.array([0, 0, 9.81])))
        yield Event(stamp, PoseSample(stamp, np.eye(4), np.eye(6)))
        points = rng.uniform(1, 5, (30, 3)).astype(np.float32)
        ring, times = np.zeros(30, np.int32), np.arange(30, dtype=np.int64)
        yield Event(stamp, LidarScan(stamp, points, np.ones(30, np.float32), ring, times))
        yield Event(stamp, Frame(stamp, rng.integers(20, 200, (24, 32, 3)).astype(np.uint8), CAMERA))


def test_without_faults_nothing_changes() -> None:
    injector = FaultInjector(FaultPlan())
    for before, after in zip(stream(), injector.apply(stream()), strict=True):
        assert before.arrival_ns == after.arrival_ns and before.sample.stamp_ns == after.sample.stamp_ns
        assert not after.fault
    assert not injector.counts


def test_faults_are_counted_and_ordered() -> None:
    plan = FaultPlan(drop=0.1, late=0.05, duplicate=0.05, reorder=0.05, corrupt=0.1, seed=4)
    injector = FaultInjector(plan)
    events = list(injector.apply(stream()))
    assert [e.arrival_ns for e in events] == sorted(e.arrival_ns for e in events)
    total = Counter[str]()
    for key, count in injector.counts.items():
        name = key.split(":")[1]
        total[name if name in ("drop", "late", "duplicate", "reorder") else "corrupt"] += count
    assert len(events) == 4 * N - total["drop"] + total["duplicate"]
    assert abs(total["drop"] - 0.1 * 4 * N) < 50 and abs(total["corrupt"] - 0.1 * 0.9 * 4 * N) < 50
    late = [e for e in events if e.arrival_ns - e.sample.stamp_ns == 500_000_000]
    assert len(late) >= total["late"] > 0
    damaged = [e for e in events if e.fault]
    assert len(damaged) >= total["corrupt"]
    again = FaultInjector(plan)
    assert [(e.arrival_ns, e.fault) for e in again.apply(stream())] == [(e.arrival_ns, e.fault) for e in events]
    assert again.counts == injector.counts


def test_odometry_falls_silent_and_nothing_else() -> None:
    injector = FaultInjector(FaultPlan(odometry_until_s=2.0))
    after = list(injector.apply(stream()))
    poses = [e.sample.stamp_ns for e in after if isinstance(e.sample, PoseSample)]
    assert max(poses) == 1_990_000_000 and len(poses) == 200
    assert len(after) == 3 * N + 200 and injector.counts["odometry:silent"] == N - 200


def test_only_the_named_streams_suffer() -> None:
    injector = FaultInjector(FaultPlan(streams=("points",), drop=0.5))
    counts = Counter(type(e.sample) for e in injector.apply(stream()))
    assert counts[Frame] == counts[PoseSample] == counts[ImuSample] == N
    assert counts[LidarScan] == N - injector.counts["points:drop"] < N


@pytest.mark.parametrize(("name", "way"), [(n, w) for n, ways in DAMAGE.items() for w in ways])
def test_every_damage_reaches_sample_or_message(name: str, way: str) -> None:
    plan = FaultPlan(streams=(name,), corrupt=1.0, corrupt_as=way)
    event = next(e for e in FaultInjector(plan).apply(stream()) if e.fault)
    assert event.fault == way
    sample = event.sample
    if isinstance(sample, Frame):
        fields = image_fields(event)
        size = fields["step"] * fields["height"]
        whole = (
            fields["encoding"] == "rgb8" and size == len(fields["data"]) > 0 and fields["step"] == 3 * fields["width"]
        )
        assert (not whole) or sample.image.max() == 0 or sample.image.min() == 255
        assert isinstance(image_fields(event, "jpeg")["data"], np.ndarray)
    elif isinstance(sample, LidarScan):
        cloud = cloud_fields(event)
        names = [field[0] for field in cloud["fields"]]
        short = cloud["width"] * cloud["point_step"] != len(cloud["data"])
        assert short or not cloud["is_dense"] or "x" not in names
    elif isinstance(sample, PoseSample):
        assert not np.array_equal(sample.odom_from_body, np.eye(4))
    else:
        assert np.isnan(sample.linear_acceleration).all()


def test_offsets_and_calibration_errors() -> None:
    injector = FaultInjector(FaultPlan(image_offset_s=0.02, camera_info="focal", focal_error=0.2))
    frame = next(e.sample for e in injector.apply(stream()) if isinstance(e.sample, Frame))
    assert frame.stamp_ns == 20_000_000 and frame.camera is not None and np.isclose(frame.camera.K[0, 0], 36)
    rig = get_scenario("room_drive").rig()
    plan = FaultPlan(extrinsic_error_m=0.05, extrinsic_error_deg=2.0)
    wrong = FaultInjector(plan).rig(rig)
    error = np.linalg.inv(rig.body_from_camera) @ wrong.body_from_camera
    assert np.isclose(np.linalg.norm(error[:3, 3]), 0.05)
    assert np.isclose(np.degrees(np.arccos((np.trace(error[:3, :3]) - 1) / 2)), 2.0)
    assert np.allclose(error[:3, :3] @ error[:3, :3].T, np.eye(3))
    assert FaultInjector(FaultPlan()).rig(Rig()).body_from_camera is None


def test_camera_info_faults() -> None:
    assert np.all(camera_info_fields(CAMERA, "zero")["k"] == 0)
    assert np.isnan(camera_info_fields(CAMERA, "nan")["k"][0])
    assert camera_info_fields(CAMERA, "model")["distortion_model"] == "banana"
    assert FaultInjector(FaultPlan(camera_info="size")).camera(CAMERA).width == 64


def test_impossible_plans_are_sentences() -> None:
    with pytest.raises(InputError, match="share of 'drop'"):
        FaultPlan(drop=2.0)
    with pytest.raises(InputError, match="Unknown stream"):
        FaultPlan(streams=("sonar",))
    with pytest.raises(InputError, match="Unknown damage"):
        FaultPlan(corrupt_as="melted")
    with pytest.raises(InputError, match="camera_info fault"):
        FaultPlan(camera_info="upside_down")
