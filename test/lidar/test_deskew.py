"""Motion compensation against a plain loop and against the exact truth of the simulated LiDAR."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.geometry.rotations import interpolate_pose, invert_pose, pose_from
from spatial_fm_ros.core.intake.poses import PoseBuffer
from spatial_fm_ros.core.lidar.deskew import KNOT_NS, MAX_EXTRAPOLATION_NS, deskewed
from spatial_fm_ros.core.types import LidarScan, PoseSample
from spatial_fm_ros.simulation.lidar import LidarModel
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

MS = 1_000_000
BODY_FROM_LIDAR = pose_from(Rotation.from_euler("zyx", [30, 5, -3], degrees=True).as_matrix(), [0.2, -0.1, 0.8])


def plain(scan, pose_at, body_from_lidar, at_ns):
    """One point after the other, by the poses at the knots around it."""
    times = scan.point_times_ns if scan.point_times_ns is not None else np.zeros(len(scan.points), np.int64)
    first, last = int(times.min()), int(times.max())
    count = max(1, -(-(last - first) // KNOT_NS))
    step = max(1, -(-(last - first) // count))
    at_from_odom = invert_pose(pose_at(at_ns) @ body_from_lidar)
    out = np.full(scan.points.shape, np.nan)
    for i, (point, time) in enumerate(zip(scan.points, times)):
        k = min((int(time) - first) // step, count - 1)
        before = scan.stamp_ns + first + k * step
        lidar = at_from_odom @ pose_at(before) @ body_from_lidar
        if first != last:
            after = at_from_odom @ pose_at(before + step) @ body_from_lidar
            lidar = interpolate_pose(lidar, after, (int(time) - first - k * step) / step)
        out[i] = lidar[:3, :3] @ point + lidar[:3, 3]
    return out


def turning(rate, speed, bend):
    """A body that drives a bend and tumbles: odom_from_body by stamp."""

    def pose_at(stamp_ns):
        t = stamp_ns * 1e-9
        rotation = Rotation.from_rotvec(np.asarray(rate) * t + [0, 0, bend * t * t]).as_matrix()
        return pose_from(rotation, np.asarray(speed) * t + [0.1 * t * t, 0, 0])

    return pose_at


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rate=st.tuples(*[st.floats(-6, 6)] * 3),
    speed=st.tuples(*[st.floats(-20, 20)] * 3),
    at_ms=st.integers(-100, 200),
    start_ms=st.integers(-100, 0),
)
def test_equals_the_plain_loop(seed, rate, speed, at_ms, start_ms):
    rng = np.random.default_rng(seed)
    times = rng.integers(start_ms * MS, 100 * MS, 40)  # unsorted, stamps at the start, middle or end of the sweep
    times[::7] = times[0]
    points = rng.uniform(-30, 30, (40, 3)).astype(np.float32)
    scan = LidarScan(5_000 * MS, points, point_times_ns=times)
    pose_at = turning(rate, speed, 0.5)
    at = scan.stamp_ns + at_ms * MS
    expected = plain(scan, pose_at, BODY_FROM_LIDAR, at)
    assert deskewed(scan, pose_at, BODY_FROM_LIDAR, at) == pytest.approx(expected, abs=2e-4)


def test_simulated_sweeps_become_exact():
    """A spinning LiDAR without noise on a walking, turning carrier: compensated points lie on the surfaces."""
    scenario = get_scenario(
        "room_handheld", detail=0.25, lidar_model=LidarModel(rings=16, columns=300, noise_m=0.0)
    )
    sim = Simulator(scenario)
    worst_raw = 0.0
    for index in (5, 17, 44, 80):
        scan = sim.scan(index)
        at = scan.stamp_ns + 50 * MS
        points = deskewed(scan, sim.truth.world_from_body, sim.rig.body_from_lidar, at)
        world_from_lidar = sim.truth.world_from_body(at) @ sim.rig.body_from_lidar

        def distance(p, pose=world_from_lidar):
            return np.abs(sim.truth.distance_to_surface(p @ pose[:3, :3].T + pose[:3, 3]))

        assert np.percentile(distance(points), 99) < 1e-3
        worst_raw = max(worst_raw, np.percentile(distance(scan.points), 99))
    assert worst_raw > 0.02  # there was something to compensate


def test_poses_of_odometry_compensate_too():
    """20 Hz poses, which end before the sweep does: carried on for the rest."""
    model = LidarModel(rings=8, columns=300, noise_m=0.0)
    sim = Simulator(get_scenario("room_handheld", detail=0.25, lidar_model=model))
    scan = sim.scan(20)
    buffer = PoseBuffer(0.5, 60.0)
    for ms in range(-200, 60, 50):
        stamp = scan.stamp_ns + ms * MS
        buffer.add(PoseSample(stamp, sim.truth.world_from_body(stamp)))
    points = deskewed(scan, buffer.at, sim.rig.body_from_lidar, scan.stamp_ns)
    exact = deskewed(scan, sim.truth.world_from_body, sim.rig.body_from_lidar, scan.stamp_ns)
    raw = np.linalg.norm(scan.points - exact, axis=1)
    left = np.linalg.norm(points - exact, axis=1)
    assert np.median(left) < 0.2 * np.median(raw)


def test_without_times_the_sweep_moves_as_one():
    pose_at = turning((0, 0, 1.0), (2.0, 0, 0), 0.0)
    points = np.random.default_rng(1).uniform(-9, 9, (40, 3)).astype(np.float32)
    scan = LidarScan(3_000 * MS, points)
    at = 3_080 * MS
    moved = deskewed(scan, pose_at, BODY_FROM_LIDAR, at)
    motion = invert_pose(pose_at(at) @ BODY_FROM_LIDAR) @ pose_at(scan.stamp_ns) @ BODY_FROM_LIDAR
    assert moved == pytest.approx(points @ motion[:3, :3].T + motion[:3, 3], abs=1e-5)
    # One time for all points is the same as none but for the time itself.
    late = dataclasses.replace(scan, point_times_ns=np.full(40, 80 * MS))
    assert deskewed(late, pose_at, BODY_FROM_LIDAR, at) == pytest.approx(points, abs=1e-5)


def test_nan_points_stay_and_harm_no_other():
    """An organised cloud given as rows, some without return."""
    rng = np.random.default_rng(2)
    points = rng.uniform(-9, 9, (300, 3)).astype(np.float32)
    times = rng.permutation(300) * MS // 3
    pose_at = turning((0, 1.0, 1.0), (2.0, 0, 0), 0.0)
    whole = deskewed(LidarScan(0, points, point_times_ns=times), pose_at, BODY_FROM_LIDAR, 0)
    holes = points.copy()
    holes[::5] = np.nan
    moved = deskewed(LidarScan(0, holes, point_times_ns=times), pose_at, BODY_FROM_LIDAR, 0)
    assert np.isnan(moved[::5]).all()
    kept = np.arange(300) % 5 != 0
    np.testing.assert_allclose(moved[kept], whole[kept], atol=1e-6)
    assert moved.dtype == np.float32


def test_an_empty_sweep_stays_empty():
    assert deskewed(LidarScan(0, np.zeros((0, 3), np.float32)), lambda _: None, np.eye(4), 0).shape == (0, 3)


def known_between(first_ms, last_ms):
    inner = turning((0, 0, 0.5), (3.0, 0, 0), 0.0)
    return lambda stamp: inner(stamp) if first_ms * MS <= stamp <= last_ms * MS else None


@pytest.mark.parametrize(
    ("first_ms", "last_ms", "at_ms", "reaches"),
    [
        (0, 100, 50, True),
        (0, 60, 0, True),  # the sweep's end is not known yet
        (0, 60, 90, True),  # nor is the time asked for
        (0, 60, 150, False),  # outside sweep and poses
        (30, 100, 50, True),
        (200, 300, 50, False),
    ],
)
def test_poses_must_reach(first_ms, last_ms, at_ms, reaches):
    times = np.linspace(0, 100 * MS, 50).astype(np.int64)
    scan = LidarScan(0, np.ones((50, 3), np.float32), point_times_ns=times)
    moved = deskewed(scan, known_between(first_ms, last_ms), BODY_FROM_LIDAR, at_ms * MS)
    assert (moved is not None) == reaches
    if reaches:
        truth = deskewed(scan, known_between(-999, 999), BODY_FROM_LIDAR, at_ms * MS)
        np.testing.assert_allclose(moved, truth, atol=2e-3)


def test_long_extrapolation_and_breaks_are_refused():
    slow = np.linspace(0, 3 * MAX_EXTRAPOLATION_NS, 50).astype(np.int64)
    scan = LidarScan(0, np.ones((50, 3), np.float32), point_times_ns=slow)
    assert deskewed(scan, known_between(0, 100), BODY_FROM_LIDAR, 0) is None
    inner = turning((0, 0, 0.5), (3.0, 0, 0), 0.0)
    broken = lambda stamp: None if 40 * MS < stamp < 60 * MS else inner(stamp)  # noqa: E731
    assert deskewed(scan, broken, BODY_FROM_LIDAR, 0) is None
