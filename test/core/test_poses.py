"""Pose and sample buffers: order of arrival does not matter, gaps and jumps are not bridged."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import interpolate_pose, pose_from
from spatial_fm_ros.core.intake import poses
from spatial_fm_ros.core.intake.poses import PoseBuffer
from spatial_fm_ros.core.intake.scans import ImuBuffer, ScanBuffer
from spatial_fm_ros.core.types import ImuSample, LidarScan, PoseSample

MS = 1_000_000


def pose(x, yaw=0.0):
    return pose_from(Rotation.from_rotvec([0, 0, yaw]).as_matrix(), np.array([x, 0.0, 0.0]))


def sample(stamp_ns, matrix):
    return PoseSample(stamp_ns, matrix)


def drive(buffer, stamps_ms, speed=1.0, offset=0.0):
    for ms in stamps_ms:
        buffer.add(sample(ms * MS, pose(offset + speed * ms / 1000, 0.5 * ms / 1000)))


def test_interpolation_is_exact_between_neighbours():
    buffer = PoseBuffer(0.5, 60.0)
    drive(buffer, range(0, 1000, 20))
    np.testing.assert_allclose(buffer.at(333 * MS), pose(0.333, 0.1665), atol=1e-12)
    np.testing.assert_allclose(buffer.at(340 * MS), pose(0.340, 0.170), atol=1e-12)
    assert buffer.at(-1) is None and buffer.at(981 * MS) is None
    assert buffer.latest_ns == 980 * MS and buffer.jumps == 0
    buffer.clear()
    assert buffer.latest_ns is None and buffer.at(0) is None


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(0, 300, 20)))
def test_order_of_arrival_does_not_matter(stamps):
    buffer, sorted_buffer = PoseBuffer(0.5, 60.0), PoseBuffer(0.5, 60.0)
    drive(buffer, stamps)
    drive(sorted_buffer, sorted(stamps))
    for ms in range(0, 281, 7):
        np.testing.assert_array_equal(buffer.at(ms * MS), sorted_buffer.at(ms * MS))
    assert buffer.jumps == sorted_buffer.jumps == 0


def test_gaps_are_not_bridged():
    buffer = PoseBuffer(0.5, 60.0)
    drive(buffer, [0, 100, 700, 800])
    assert buffer.at(50 * MS) is not None and buffer.at(400 * MS) is None
    np.testing.assert_allclose(buffer.at(100 * MS), pose(0.1, 0.05))


def test_duplicates_are_replaced_and_old_ones_dropped():
    buffer = PoseBuffer(0.5, 1.0)
    drive(buffer, range(0, 5000, 10))
    assert len(buffer) <= 112 and buffer.at(3000 * MS) is None and buffer.at(4500 * MS) is not None
    buffer.add(sample(4500 * MS, pose(4.51)))
    np.testing.assert_allclose(buffer.at(4500 * MS), pose(4.51))
    before = len(buffer)
    buffer.add(sample(0, pose(0)))
    assert len(buffer) == before and buffer.dropped == 1


@pytest.mark.parametrize("wrong_ns", [0, 10**18, -(10**15)])
def test_one_wrong_stamp_does_not_shut_out_the_rest(wrong_ns):
    start = 1000 * 1000
    buffer, scans = PoseBuffer(0.5, 60.0), ScanBuffer(60.0)
    for ms in range(start, start + 2000, 20):
        if ms == start + 1000:
            buffer.add(sample(wrong_ns, pose(0)))
            scans.add(scan(wrong_ns))
        drive(buffer, [ms])
        scans.add(scan(ms * MS))
    assert buffer.dropped == scans.dropped == 1 and buffer.jumps == 0
    assert len(buffer) == len(scans) == 100
    assert buffer.at((start + 1010) * MS) is not None


@pytest.mark.parametrize("then_ms", [0, 10**7])
def test_time_that_goes_elsewhere_starts_the_buffers_anew(then_ms):
    start = 1000 * 1000
    buffer, scans = PoseBuffer(0.5, 60.0), ScanBuffer(60.0)
    for ms in [*range(start, start + 3000, 20), *range(then_ms, then_ms + 3000, 20)]:
        drive(buffer, [ms])
        scans.add(scan(ms * MS))
    assert buffer.latest_ns == scans.latest_ns == (then_ms + 2980) * MS
    assert len(buffer) == 150 and len(scans) == 69 and buffer.dropped == scans.dropped == 100  # poses waited
    first = sample(then_ms * MS, pose(then_ms / 1000))
    late = PoseBuffer(0.5, 60.0)
    late.add(sample(10**18, pose(0)))  # the very first one is wrong
    late.add(first)
    drive(late, range(then_ms + 20, then_ms + 200, 20))
    assert late.at((then_ms + 50) * MS) is not None


def test_a_sender_that_is_too_fast_costs_bounded_memory(monkeypatch):
    monkeypatch.setattr(poses, "MOST_POSES", 2000)
    buffer, imu = PoseBuffer(0.5, 60.0), ImuBuffer(60.0, max_bytes=500 * 2000)
    matrix = pose(0.0)
    for i in range(5000):  # 10 kHz
        buffer.add(sample(i * MS // 10, matrix))
        imu.add(ImuSample(i * MS // 10, np.zeros(3), np.zeros(3)))
    assert 1800 <= len(buffer) <= 2000 and buffer.at(499 * MS) is not None
    assert len(imu) == 2000 and imu.nearest(499 * MS, MS) is not None


def test_jumps_are_counted_and_not_bridged():
    buffer = PoseBuffer(0.5, 60.0)
    drive(buffer, range(0, 1000, 20))
    drive(buffer, range(1000, 2000, 20), offset=2.0)
    assert buffer.jumps == 1
    assert buffer.at(990 * MS) is None and buffer.at(970 * MS) is not None and buffer.at(1010 * MS) is not None
    assert buffer.jumped_between(0, 1500 * MS) and not buffer.jumped_between(0, 900 * MS)
    assert not buffer.jumped_between(1000 * MS, 1900 * MS)
    buffer.add(sample(2000 * MS, pose(4.0, 1.0 + 1.5)))  # a sudden turn
    assert buffer.jumps == 2


@pytest.mark.parametrize("rate_ms, speed", [(5, 2.0), (20, 40.0), (100, 30.0), (1000, 10.0)])
def test_honest_driving_has_no_jumps(rate_ms, speed):
    """Standing, accelerating with 6 m/s^2, driving, braking; 5 mm noise."""
    rng = np.random.default_rng(0)
    buffer, x, v = PoseBuffer(2.0, 600.0), 0.0, 0.0
    for i in range(400):
        target = speed if 100 < i < 300 else 0.0
        v += np.clip(target - v, -6 * rate_ms / 1000, 6 * rate_ms / 1000)
        x += v * rate_ms / 1000
        buffer.add(sample(i * rate_ms * MS, pose(x + rng.normal(0, 0.005))))
    assert buffer.jumps == 0


def test_a_late_sample_that_explains_a_step_takes_the_jump_back():
    buffer = PoseBuffer(2.0, 60.0)
    drive(buffer, range(0, 500, 100))
    buffer.add(sample(600 * MS, pose(1.6, 0.3)))
    assert buffer.jumps == 1
    buffer.add(sample(600 * MS, pose(0.6, 0.3)))
    assert buffer.jumps == 0


@pytest.mark.parametrize("matrix", [np.full((4, 4), np.nan), np.zeros((4, 4)), np.diag([1.0, 1, -1, 1])])
def test_bad_poses_are_refused(matrix):
    buffer = PoseBuffer(0.5, 60.0)
    with pytest.raises(InputError, match="'base_link' in 'odom'"):
        buffer.add(sample(0, matrix))
    assert len(buffer) == 0


def test_slightly_skewed_rotations_are_straightened():
    buffer = PoseBuffer(0.5, 60.0)
    buffer.add(sample(0, pose(0, 0.3) + 1e-4 * np.diag([1, 1, 1, 0])))
    R = buffer.at(0)[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)


def test_reading_while_writing():
    buffer = PoseBuffer(0.5, 0.5)
    errors = []

    def read():
        for _ in range(3000):
            latest = buffer.latest_ns
            if latest is not None:
                got = buffer.at(latest - 15 * MS)
                if got is not None and not np.allclose(got[0, 3], (latest / MS - 15) / 1000):
                    errors.append(got)

    thread = threading.Thread(target=read)
    thread.start()
    drive(buffer, range(0, 20000, 10))
    thread.join()
    assert not errors


def scan(stamp_ns, n=10):
    return LidarScan(stamp_ns, np.zeros((n, 3), np.float32))


def test_scans_are_found_by_time():
    buffer = ScanBuffer(60.0)
    for ms in (300, 100, 200, 200):
        buffer.add(scan(ms * MS))
    assert len(buffer) == 3 and buffer.latest_ns == 300 * MS
    assert buffer.nearest(140 * MS, 50 * MS).stamp_ns == 100 * MS
    assert buffer.nearest(150 * MS, 50 * MS).stamp_ns == 100 * MS
    assert buffer.nearest(400 * MS, 50 * MS) is None and buffer.nearest(350 * MS, 50 * MS) is not None
    assert [s.stamp_ns // MS for s in buffer.between(100 * MS, 200 * MS)] == [100, 200]
    assert buffer.between(301 * MS, 900 * MS) == []
    buffer.clear()
    assert buffer.nearest(100 * MS, 10**12) is None and buffer.latest_ns is None


def test_scans_are_bounded_in_time_and_memory():
    buffer = ScanBuffer(1.0)
    for i in range(100):
        buffer.add(scan(i * 100 * MS))
    assert len(buffer) <= 12 and buffer.dropped == 0
    buffer.add(scan(0))
    assert buffer.dropped == 1
    small = ScanBuffer(60.0, max_bytes=50_000)
    for i in range(20):
        small.add(scan(i * MS, n=1000))
    assert len(small) == 4 and small.dropped == 16 and small.nearest(19 * MS, 0) is not None
    small.add(scan(20 * MS, n=100_000))  # one that is larger than the whole buffer is still there
    assert len(small) == 1


def test_imu_samples():
    buffer = ImuBuffer(10.0)
    for i in range(5000):
        buffer.add(ImuSample(i * 5 * MS, np.zeros(3), np.array([0, 0, 9.81])))
    assert 2000 <= len(buffer) <= 2202
    assert len(buffer.between(24_000 * MS, 24_100 * MS)) == 21


def test_interpolated_pose_is_the_same_as_the_function():
    a, b = pose(0.0, 0.0), pose(0.05, 0.2)
    buffer = PoseBuffer(1.0, 60.0)
    buffer.add(sample(0, a))
    buffer.add(sample(100, b))
    np.testing.assert_allclose(buffer.at(30), interpolate_pose(a, b, 0.3), atol=1e-12)
