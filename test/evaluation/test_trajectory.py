"""ATE and RPE: the numbers of evo on the same files, exactness on constructed errors, sentences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.evaluation.scale import evaluate_scale
from spatial_fm_ros.evaluation.trajectory import associate, evaluate_trajectory, relative_pairs
from spatial_fm_ros.evaluation.tum import StampedPoses, format_stamp, parse_stamp, read_tum, write_tum

DATA = Path(__file__).parent / "data"
REFERENCE = json.loads((DATA / "evo_reference.json").read_text())["commands"]


@pytest.mark.parametrize("case", REFERENCE, ids=[case["command"].split("estimate.tum ")[1] for case in REFERENCE])
def test_numbers_of_evo(case):
    """The reference was made with the commands in evo_reference.json (evo is no dependency)."""
    names = {"delta": "delta", "unit": "delta_unit", "all_pairs": "all_pairs"}
    pairs = {option: case[name] for name, option in names.items() if name in case}
    errors = evaluate_trajectory(read_tum(DATA / "estimate.tum"), read_tum(DATA / "truth.tum"), **pairs)
    aligned = errors.sim3 if case["align"] == "sim3" else errors.se3
    suffix = "" if case["relation"] == "trans_part" else "_rotation_deg"
    got = getattr(aligned, case["error"] + suffix)
    for name in ("rmse", "mean", "median", "std", "min", "max"):
        assert getattr(got, name) == pytest.approx(case["stats"][name], rel=1e-6, abs=1e-7), name


def curve(n: int = 40, seed: int = 0) -> StampedPoses:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, 3] = np.cumsum(rng.normal(0, 0.3, (n, 3)), axis=0)
    poses[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 1, (n, 3))).as_matrix()
    return StampedPoses(np.arange(n, dtype=np.int64) * 10**8, poses, "truth")


@given(scale=st.floats(0.05, 20), seed=st.integers(0, 50))
def test_a_similarity_is_taken_out_exactly(scale, seed):
    truth = curve(seed=seed)
    gauge = Sim3(scale, Rotation.random(random_state=seed).as_matrix(), np.array([1.0, -2.0, 3.0]))
    estimate = StampedPoses(truth.stamps_ns, gauge.inverse().apply_pose(truth.poses), "estimate")
    errors = evaluate_trajectory(estimate, truth)
    assert errors.sim3.ate.max < 1e-9 and errors.sim3.rpe.max < 1e-9 and errors.sim3.rpe_rotation_deg.max < 1e-4
    assert errors.sim3.truth_from_estimate.scale == pytest.approx(scale)
    assert errors.se3.truth_from_estimate.scale == 1.0
    assert evaluate_scale(errors.estimate, errors.truth).scale == pytest.approx(1 / scale)


def test_scale_drift_is_seen():
    truth = curve(60)
    steps = np.diff(truth.positions, axis=0) * np.linspace(1.0, 1.3, 59)[:, None]
    poses = truth.poses.copy()
    poses[1:, :3, 3] = poses[0, :3, 3] + np.cumsum(steps, axis=0)
    drift = evaluate_scale(StampedPoses(truth.stamps_ns, poses), truth, window=10)
    assert 0.15 < drift.drift < 0.35 and drift.local[0] < drift.local[-1]


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=30, unique=True),
    st.lists(st.integers(0, 1000), min_size=1, max_size=30, unique=True),
    st.integers(0, 50),
)
def test_association_equals_its_plain_twin(a, b, tolerance):
    a_ns, b_ns = (np.array(sorted(stamps), dtype=np.int64) for stamps in (a, b))
    got_a, got_b = associate(a_ns, b_ns, tolerance / 1e9)
    short, long = (a_ns, b_ns) if len(a_ns) <= len(b_ns) else (b_ns, a_ns)
    gaps = [min(abs(int(s) - int(other)) for other in long) for s in short]
    assert len(got_a) == sum(gap <= tolerance for gap in gaps)
    assert sorted(np.abs(a_ns[got_a] - b_ns[got_b])) == sorted(gap for gap in gaps if gap <= tolerance)


@given(st.floats(0.3, 3), st.integers(0, 20))
def test_pairs_in_metres_equal_their_plain_twin(delta, seed):
    positions = curve(50, seed).positions
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    ends, walked = [0], 0.0
    for i, step in enumerate(steps, start=1):
        walked += step
        if walked >= delta:
            ends.append(i)
            walked = 0.0
    first, second = relative_pairs(positions, delta, "m")
    assert list(zip(first.tolist(), second.tolist())) == list(zip(ends, ends[1:]))


def test_offset_and_both_inputs_in_the_error():
    truth = curve()
    late = StampedPoses(truth.stamps_ns + 5 * 10**8, truth.poses, "late.tum")
    assert evaluate_trajectory(late, truth, offset_s=0.5).matched == len(truth)
    shifted = StampedPoses(truth.stamps_ns + 10**12, truth.poses, "late.tum")
    with pytest.raises(InputError, match=r"Only 0 poses of late.tum and truth lie within 0.01 s .* --tolerance"):
        evaluate_trajectory(shifted, truth)
    line = truth.poses.copy()
    line[:, 1:3, 3] = 0
    with pytest.raises(InputError, match="cannot be aligned: .*on one line"):
        evaluate_trajectory(StampedPoses(truth.stamps_ns, line), StampedPoses(truth.stamps_ns, line))


@given(st.integers(-(2**62), 2**62))
def test_stamps_survive_text_exactly(stamp):
    assert parse_stamp(format_stamp(stamp)) == stamp


def test_file_round_trip_and_sentences(tmp_path):
    truth = curve()
    stamps = truth.stamps_ns + 1_700_000_000_123_456_789
    write_tum(tmp_path / "t.tum", stamps, truth.poses)
    back = read_tum(tmp_path / "t.tum")
    assert (back.stamps_ns == stamps).all() and np.allclose(back.poses, truth.poses, atol=1e-7)
    with pytest.raises(OutputError, match="cannot be written"):
        write_tum(tmp_path / "none" / "t.tum", stamps, truth.poses)
    with pytest.raises(InputError, match="cannot be read"):
        read_tum(tmp_path / "nothing.tum")
    (tmp_path / "bad.tum").write_text("# comment\n0 0 0 0 0 0 0 1\n1 2 three\n")
    with pytest.raises(InputError, match="Line 3 of .*'1 2 three'"):
        read_tum(tmp_path / "bad.tum")
    (tmp_path / "empty.tum").write_text("# nothing\n")
    with pytest.raises(InputError, match="holds no pose"):
        read_tum(tmp_path / "empty.tum")
    (tmp_path / "zero.tum").write_text("0 0 0 0 0 0 0 0\n")
    with pytest.raises(InputError, match="all-zero orientation"):
        read_tum(tmp_path / "zero.tum")
