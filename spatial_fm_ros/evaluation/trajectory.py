"""Errors of an estimated trajectory: absolute (ATE) after Sim(3) and after SE(3), and relative (RPE).

Sturm et al., 'A Benchmark for the Evaluation of RGB-D SLAM Systems', IROS 2012. The conventions are
those of the evo tool, whose numbers a test compares: matching by nearest stamp, least-squares
alignment of positions, E = (Q_i^-1 Q_j)^-1 (P_i^-1 P_j) for relative errors.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import invert_pose, rotation_angle
from spatial_fm_ros.core.geometry.similarity import Sim3, umeyama
from spatial_fm_ros.core.types import Array
from spatial_fm_ros.evaluation.tum import NS, StampedPoses

DEFAULT_TOLERANCE_S = 0.01
#: Stamps, offsets and tolerances are below this, seconds (95 years): sums and differences fit into 64 bits of ns.
_MOST_S = 3e9


@dataclass(frozen=True)
class Statistics:
    """Of a set of errors, in their own unit."""

    rmse: float
    mean: float
    median: float
    std: float
    min: float
    max: float
    count: int

    @staticmethod
    def of(errors: Array) -> Statistics:
        if not len(errors):
            nan = float("nan")
            return Statistics(nan, nan, nan, nan, nan, nan, 0)
        return Statistics(
            rmse=float(np.sqrt(np.mean(errors**2))),
            mean=float(errors.mean()),
            median=float(np.median(errors)),
            std=float(errors.std()),
            min=float(errors.min()),
            max=float(errors.max()),
            count=len(errors),
        )


@dataclass(frozen=True, eq=False)
class Aligned:
    """Errors after one kind of alignment. `truth_from_estimate` brought the estimate onto the truth.

    ate in the truth's unit, ate_rotation in degrees, rpe in the truth's unit and degrees per pair.
    """

    kind: str
    truth_from_estimate: Sim3
    poses: Array
    ate: Statistics
    ate_rotation_deg: Statistics
    rpe: Statistics
    rpe_rotation_deg: Statistics

    def as_dict(self) -> dict[str, Any]:
        return {
            "scale": self.truth_from_estimate.scale,
            "truth_from_estimate": self.truth_from_estimate.matrix.tolist(),
            "ate": asdict(self.ate),
            "ate_rotation_deg": asdict(self.ate_rotation_deg),
            "rpe": asdict(self.rpe),
            "rpe_rotation_deg": asdict(self.rpe_rotation_deg),
        }


@dataclass(frozen=True, eq=False)
class TrajectoryErrors:
    """Both alignments of the same matched poses. estimate, truth: the matched parts."""

    estimate: StampedPoses
    truth: StampedPoses
    sim3: Aligned
    se3: Aligned
    estimate_poses: int
    truth_poses: int
    truth_path: float
    delta: float
    delta_unit: str

    @property
    def matched(self) -> int:
        return len(self.estimate)

    def as_dict(self) -> dict[str, Any]:
        return {
            "matched": self.matched,
            "estimate_poses": self.estimate_poses,
            "truth_poses": self.truth_poses,
            "truth_path": self.truth_path,
            "rpe_delta": self.delta,
            "rpe_delta_unit": self.delta_unit,
            "sim3": self.sim3.as_dict(),
            "se3": self.se3.as_dict(),
        }


def associate(
    a_ns: NDArray[np.int64], b_ns: NDArray[np.int64], tolerance_s: float, offset_s: float = 0.0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices (into a, into b) of matched stamps: each of the shorter one with the nearest of the longer.

    b_ns are first shifted by `offset_s`. Pairs further apart than the tolerance are left out.
    Both inputs must rise. Raises InputError for a tolerance or an offset that is none, and for stamps so far from 1970
    that their differences do not fit into 64 bits.
    """
    if not 0 <= tolerance_s < _MOST_S or not abs(offset_s) < _MOST_S:
        raise InputError(
            f"A tolerance is 0 s or above, an offset any number of seconds, both below {_MOST_S:g}; got "
            f"{tolerance_s:g} and {offset_s:g}."
        )
    for stamps in (a_ns, b_ns):
        if len(stamps) and not (stamps[0] > -_MOST_S * NS and stamps[-1] < _MOST_S * NS):
            raise InputError(
                f"Stamps of {stamps[0] / NS:g} to {stamps[-1] / NS:g} s cannot be compared; expected less than "
                f"{_MOST_S:g} s before or after 1970."
            )
    b_ns = b_ns + round(offset_s * NS)
    if len(a_ns) > len(b_ns):
        index_b, index_a = _nearest(b_ns, a_ns, round(tolerance_s * NS))
        return index_a, index_b
    return _nearest(a_ns, b_ns, round(tolerance_s * NS))


def _nearest(
    a_ns: NDArray[np.int64], b_ns: NDArray[np.int64], tolerance_ns: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if not len(a_ns):
        empty = np.zeros(0, dtype=np.intp)
        return empty, empty
    right = np.clip(np.searchsorted(b_ns, a_ns), 1, len(b_ns) - 1) if len(b_ns) > 1 else np.zeros(len(a_ns), np.intp)
    left = np.maximum(right - 1, 0)
    nearest = np.where(np.abs(b_ns[left] - a_ns) <= np.abs(b_ns[right] - a_ns), left, right)
    close = np.abs(b_ns[nearest] - a_ns) <= tolerance_ns
    return np.flatnonzero(close), nearest[close].astype(np.intp)


def relative_pairs(
    positions: Array, delta: float, unit: str, all_pairs: bool = False, tolerance: float = 0.1
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs (i, j) that are `delta` apart along positions [n, 3]: unit 'frames' or 'm' of path.

    Without `all_pairs` one pair begins where the last ended, the first at the start. With it every
    i has a pair where one exists; in metres it may miss the distance by `tolerance` * delta.
    Raises InputError for a bad delta.
    """
    n = len(positions)
    if not delta > 0 or unit not in ("frames", "m") or (unit == "frames" and delta != int(delta)):
        raise InputError(
            f"A relative error needs a distance above 0 in whole 'frames' or in 'm', got {delta:g} {unit}."
        )
    if unit == "frames":
        step = int(delta)
        first = np.arange(0, n - step, 1 if all_pairs else step)
        return first.astype(np.intp), (first + step).astype(np.intp)
    path = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(positions, axis=0), axis=1))])
    if all_pairs:
        first = np.arange(max(0, n - 1))
        target = path[first] + delta
        right = np.clip(np.searchsorted(path, target), first + 1, n - 1)
        left = np.maximum(right - 1, first + 1)
        second = np.where(np.abs(path[left] - target) <= np.abs(path[right] - target), left, right)
        good = np.abs(path[second] - target) <= tolerance * delta
        return first[good].astype(np.intp), second[good].astype(np.intp)
    ends = [0]
    since = 0.0
    while True:  # one step per pair, not per pose
        reached = int(np.searchsorted(path, since + delta))
        if reached >= n:
            break
        ends.append(reached)
        since = float(path[reached])
    return np.array(ends[:-1], dtype=np.intp), np.array(ends[1:], dtype=np.intp)


def evaluate_trajectory(
    estimate: StampedPoses,
    truth: StampedPoses,
    *,
    tolerance_s: float = DEFAULT_TOLERANCE_S,
    offset_s: float = 0.0,
    delta: float = 1.0,
    delta_unit: str = "frames",
    all_pairs: bool = False,
) -> TrajectoryErrors:
    """Match, align by Sim(3) and by SE(3), and take the errors of each.

    Pairs of the relative error are `delta` apart along the truth. Raises InputError, naming both
    inputs and the tolerance, when fewer than three poses match or they lie on one line.
    """
    index_e, index_t = associate(estimate.stamps_ns, truth.stamps_ns, tolerance_s, offset_s)
    names = f"{estimate.name or 'the estimate'} and {truth.name or 'the truth'}"
    if len(index_e) < 3:
        raise InputError(
            f"Only {len(index_e)} poses of {names} lie within {tolerance_s:g} s of each other, at least 3 are needed; "
            f"their stamps span {_span(estimate)} and {_span(truth)} s. Raise --tolerance or set --offset."
        )
    matched_e, matched_t = estimate.part(index_e), truth.part(index_t)
    pairs = relative_pairs(matched_t.positions, delta, delta_unit, all_pairs)
    try:
        sim3 = umeyama(matched_t.positions, matched_e.positions)
        se3 = umeyama(matched_t.positions, matched_e.positions, with_scale=False)
    except InputError as error:
        raise InputError(f"The trajectories {names} cannot be aligned: {error}") from error
    return TrajectoryErrors(
        estimate=matched_e,
        truth=matched_t,
        sim3=_errors("sim3", sim3, matched_e, matched_t, pairs),
        se3=_errors("se3", se3, matched_e, matched_t, pairs),
        estimate_poses=len(estimate),
        truth_poses=len(truth),
        truth_path=truth.path_length,
        delta=delta,
        delta_unit=delta_unit,
    )


def _errors(
    kind: str,
    truth_from_estimate: Sim3,
    estimate: StampedPoses,
    truth: StampedPoses,
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> Aligned:
    poses = truth_from_estimate.apply_pose(estimate.poses)
    first, second = pairs
    estimated_motion = invert_pose(poses[first]) @ poses[second]
    true_motion = invert_pose(truth.poses[first]) @ truth.poses[second]
    relative = invert_pose(true_motion) @ estimated_motion
    absolute = np.swapaxes(truth.poses[:, :3, :3], -1, -2) @ poses[:, :3, :3]
    return Aligned(
        kind=kind,
        truth_from_estimate=truth_from_estimate,
        poses=poses,
        ate=Statistics.of(np.linalg.norm(poses[:, :3, 3] - truth.positions, axis=1)),
        ate_rotation_deg=Statistics.of(np.degrees(rotation_angle(absolute))),
        rpe=Statistics.of(np.linalg.norm(relative[:, :3, 3], axis=1)),
        rpe_rotation_deg=Statistics.of(np.degrees(rotation_angle(relative[:, :3, :3]))),
    )


def _span(poses: StampedPoses) -> str:
    return f"{poses.stamps_ns[0] / NS:.3f} to {poses.stamps_ns[-1] / NS:.3f}"
