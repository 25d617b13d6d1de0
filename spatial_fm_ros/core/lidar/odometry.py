"""Metric poses from LiDAR scans alone: KISS-ICP between our motion compensation and a point-to-plane refinement.

Vizzo et al., 'KISS-ICP: In Defense of Point-to-Point ICP', RA-L 2023. Its parts (voxel map, registration,
adaptive threshold) are used one by one. Scans may be missing, so motion is predicted by time, not by scan. A
sweep is compensated to its middle, where an error of the predicted velocity cancels out. KISS-ICP finds the
place; what it leaves (about a centimetre in a room) a few point-to-plane steps on its own map take away, and
they show when a direction is not seen at all (a tunnel), where any ICP stands still and is sure of it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import LidarConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.robust import tukey_weights
from spatial_fm_ros.core.geometry.rotations import invert_pose, is_pose, move_points, pose_from
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.lidar.deskew import deskewed
from spatial_fm_ros.core.lidar.planes import PlaneCloud, normal_equations, stepped
from spatial_fm_ros.core.types import Array, LidarScan, PoseSample, Rig

#: Fewer usable returns than this are no scan to register.
MIN_POINTS = 100
#: More points of one sweep fall into cells that have theirs already.
MOST_POINTS = 40_000
#: The last motion is carried on for so long when scans are missing.
MAX_PREDICTION_NS = 500_000_000
#: A new scan must lie on what the scans before it saw, with this share of its points.
MIN_OVERLAP = 0.5
RECENT_SCANS = 5
#: Point-to-plane steps after KISS-ICP, on planes of its map within so many voxels.
REFINEMENTS, PLANE_REACH, MIN_PLANES = 3, 1.5, 20
#: Share of the planes that face the least seen direction: rooms 0.2, a wide road 0.03 to 0.06, a bare tunnel 0.01.
#: Below the first the motion along it is unknown, above the second it is known again.
BLIND, SEEING = 0.018, 0.025
#: Automatic voxel: this share of the distance within which nine tenths of the returns lie, between two bounds.
VOXEL_SHARE, VOXEL_SMALLEST, VOXEL_LARGEST = 0.05, 0.2, 1.0
#: KISS-ICP may iterate 500 times; a good scan takes about ten, and it holds Python's lock all the while.
MAX_ITERATIONS = 60
CONVERGED = 1e-4
#: Axes of a camera that is the body itself: the odometry frame then has x forward and z up (REP-103).
LEVEL_FROM_OPTICAL = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


def usable_points(scan: LidarScan, config: LidarConfig) -> NDArray[np.bool_]:
    """Which points [N] are finite and within the range limits. Raises InputError when too few are.

    The sentence names the likely cause: an empty scan, NaN only, millimetres, or a blocked sensor.
    """
    ranges = np.linalg.norm(scan.points, axis=1)
    good: NDArray[np.bool_] = (ranges >= config.min_range) & (ranges <= config.max_range)
    count = int(good.sum())
    if count >= MIN_POINTS:
        return good
    finite = ranges[np.isfinite(ranges)]
    if not len(scan.points):
        why = "it is empty"
    elif not len(finite):
        why = f"all of its {len(scan.points)} points are NaN"
    elif np.median(finite) > 3.0 * config.max_range:
        why = (
            f"it seems to be in millimetres (the median range of its {len(finite)} points is "
            f"{np.median(finite):.0f}), where metres are expected (REP-103)"
        )
    else:
        why = f"{count} of its {len(scan.points)} points lie between {config.min_range:g} and {config.max_range:g} m"
    raise InputError(f"A LiDAR scan needs at least {MIN_POINTS} usable points; {why}.")


class LidarOdometry:
    """Poses of the body from its LiDAR. One thread at a time.

    The odometry frame is the body's at the first scan (z up for a camera that is the body). A new frame
    begins, at the predicted pose and under another frame_id, when a scan does not lie on what was seen
    before (`restarts` counts that) and after a stretch where a direction was not seen. `problem` is a
    sentence while no poses come, else empty.
    """

    def __init__(self, config: LidarConfig) -> None:
        from kiss_icp.registration import get_registration  # costs 0.3 s, and only pose_source lidar needs it

        self.config = config
        self._settings = _settings(config, config.cell_size or VOXEL_LARGEST)
        self._registration = get_registration(self._settings)
        self.restarts = 0
        self._frame = 0
        self.reset()

    def reset(self) -> None:
        """Forget map and motion; the next frame is a new one."""
        self.problem = ""
        self._frame += 1
        self._stamp_ns: int | None = None
        self._motion = np.eye(4)  # of the last step, in the LiDAR's frame
        self._motion_ns = 0
        self._odom_from_lidar = np.eye(4)  # the odometry frame here is the LiDAR's at its first scan
        self._recent: deque[Array] = deque(maxlen=RECENT_SCANS)
        self._map: Any = None
        self._threshold: Any = None
        self._blind = False

    def add(self, scan: LidarScan, rig: Rig) -> PoseSample | None:
        """The body's pose in the middle of the sweep (at the stamp without point times).

        None while a direction is not seen (see `problem`), and while `rig` does not say where LiDAR and
        camera are; the scan is registered all the same. Raises InputError for a scan that cannot be used,
        that is not newer than the one before, and for an extrinsic that is no rigid transform.
        """
        good = usable_points(scan, self.config)
        stamp = scan.stamp_ns + _middle(scan, good)
        if self._stamp_ns is not None and stamp <= self._stamp_ns:
            raise InputError(
                f"The LiDAR scan at {scan.stamp_ns} ns is not newer than the one before: doubled or out of order; "
                "LiDAR odometry leaves it out."
            )
        self._register(scan, good, stamp)
        if rig.body_from_lidar is None or rig.body_from_camera is None:
            return None
        if not is_pose(rig.body_from_lidar):
            raise InputError(
                "The LiDAR's extrinsic body_from_lidar is no rigid transform (mirrored axes, a scale, or NaN); "
                "LiDAR odometry cannot be used with it. Give a rotation with determinant +1 and metres."
            )
        if self._blind:
            return None
        start = LEVEL_FROM_OPTICAL if np.allclose(rig.body_from_camera, np.eye(4)) else np.eye(4)
        pose = start @ rig.body_from_lidar @ self._odom_from_lidar @ invert_pose(rig.body_from_lidar)
        return PoseSample(stamp, pose, None, f"lidar_odometry_{self._frame}", "body")

    def _register(self, scan: LidarScan, good: NDArray[np.bool_], stamp: int) -> None:
        """One scan into pose, motion and map."""
        from kiss_icp.voxelization import voxel_down_sample

        predicted, step = self._predict(stamp)
        points = self._compensated(scan, good, stamp)
        if self._map is None:
            self._begin(points)
        voxel = float(self._settings.mapping.voxel_size)
        dense = voxel_down_sample(points, 0.5 * voxel)
        pose, span_ns = predicted, min(stamp - (self._stamp_ns or stamp), MAX_PREDICTION_NS)
        if self._recent:
            found = self._aligned(voxel_down_sample(dense, 1.5 * voxel), predicted)
            if found is None:
                self.restarts += 1
                self._frame += 1
                self._begin(points)
            else:
                pose, span_ns = found, stamp - (self._stamp_ns or 0)
                step = invert_pose(self._odom_from_lidar) @ pose
        if self._stamp_ns is not None:
            self._motion, self._motion_ns = step, span_ns
        self._map.update(dense, pose)
        self._recent.append(move_points(pose, dense))
        self._odom_from_lidar, self._stamp_ns = pose, stamp

    def _aligned(self, points: Array, predicted: Array) -> Array | None:
        """odom_from_lidar of a scan's points [M, 3], or None where it lies on nothing that was seen."""
        sigma = self._threshold.get_threshold()
        pose = self._registration.align_points_to_map(
            points=points,
            voxel_map=self._map,
            initial_guess=predicted,
            max_correspondance_distance=3 * sigma,
            kernel=sigma,
        )
        if not is_pose(pose, tolerance=1e-6) or self._overlap(points, pose) < MIN_OVERLAP:
            return None
        pose = self._refined(points, pose)
        self._threshold.update_model_deviation(invert_pose(predicted) @ pose)
        return pose

    def _refined(self, points: Array, pose: Array) -> Array:
        """The pose after a few point-to-plane steps; notes whether every direction is seen."""
        cloud = PlaneCloud(self._map.point_cloud(), PLANE_REACH * float(self._settings.mapping.voxel_size))
        sim = Sim3(1.0, pose[:3, :3], pose[:3, 3])
        facing = 0.0
        for _ in range(REFINEMENTS):
            moved = sim.apply(points)
            planes = cloud.planes_at(moved)
            if planes.flat.sum() < MIN_PLANES:
                break
            weights = np.where(planes.flat, tukey_weights(planes.distance(moved)), 0.0)
            pivot = moved.mean(axis=0)
            normal = normal_equations(moved, planes, weights, pivot)
            step = np.zeros(7)
            step[:6] = np.linalg.lstsq(normal.information[:6, :6], -normal.gradient[:6], rcond=1e-6)[0]
            sim = stepped(sim, step, pivot)
            facing = float(np.linalg.eigvalsh(normal.information[3:6, 3:6])[0] / max(weights.sum(), 1e-9))
        self._judge(facing)
        return pose_from(sim.R, sim.t)

    def _judge(self, facing: float) -> None:
        """Whether the least seen direction is seen at all; afterwards the way gone unseen parts two frames."""
        if self._blind and facing > SEEING:
            self._blind, self._frame = False, self._frame + 1
        elif facing < BLIND:
            self._blind = True
        self.problem = (
            "The LiDAR sees no surface across one direction (a bare tunnel, an open field): motion along it is "
            "unknown, and LiDAR odometry gives no poses."
            if self._blind
            else ""
        )

    def _begin(self, points: Array) -> None:
        """An empty map; the first one chooses the voxel, for a room needs a finer one than a road."""
        from kiss_icp.mapping import get_voxel_hash_map
        from kiss_icp.threshold import get_threshold_estimator

        if self._map is None and not self.config.cell_size:
            reach = float(np.quantile(np.linalg.norm(points, axis=1), 0.9))
            self._settings = _settings(self.config, float(np.clip(VOXEL_SHARE * reach, VOXEL_SMALLEST, VOXEL_LARGEST)))
        self._threshold = get_threshold_estimator(self._settings)
        self._map = get_voxel_hash_map(self._settings)
        self._recent.clear()

    def _predict(self, stamp: int) -> tuple[Array, Array]:
        """(predicted pose, predicted step) at a stamp, the last velocity carried on."""
        if self._stamp_ns is None or not self._motion_ns:
            return self._odom_from_lidar, np.eye(4)
        step = _share(self._motion, min(stamp - self._stamp_ns, MAX_PREDICTION_NS) / self._motion_ns)
        return self._odom_from_lidar @ step, step

    def _compensated(self, scan: LidarScan, good: NDArray[np.bool_], stamp: int) -> Array:
        """Usable points float64 [M, 3] as seen at `stamp`, by the last velocity."""
        rows = np.flatnonzero(good)
        if len(rows) > MOST_POINTS:
            rows = rows[np.random.default_rng(0).random(len(rows)) < MOST_POINTS / len(rows)]
        times = None if scan.point_times_ns is None else scan.point_times_ns[rows]
        kept = LidarScan(scan.stamp_ns, scan.points[rows], point_times_ns=times)
        if times is None or not self._motion_ns:
            return kept.points.astype(np.float64)
        moved = deskewed(kept, lambda t: _share(self._motion, (t - stamp) / self._motion_ns), np.eye(4), stamp)
        assert moved is not None  # the assumed motion reaches everywhere
        return moved.astype(np.float64)

    def _overlap(self, points: Array, pose: Array) -> float:
        """Share of points [M, 3] that lie within a voxel of what recent scans saw."""
        reach = float(self._settings.mapping.voxel_size)
        tree = cKDTree(np.concatenate(self._recent))
        distance, _ = tree.query(move_points(pose, points), distance_upper_bound=reach)
        return float(np.isfinite(distance).mean())


def _settings(config: LidarConfig, voxel: float) -> Any:
    """KISS-ICP's own configuration."""
    from kiss_icp.config import KISSConfig

    settings = KISSConfig()
    settings.data.max_range, settings.data.min_range = config.max_range, config.min_range
    settings.mapping.voxel_size, settings.mapping.max_points_per_voxel = voxel, 20
    settings.registration.max_num_iterations = MAX_ITERATIONS
    settings.registration.convergence_criterion = CONVERGED
    settings.registration.max_num_threads = config.threads
    return settings


def _middle(scan: LidarScan, good: NDArray[np.bool_]) -> int:
    """Mean point time in ns after the stamp: there an error of the velocity moves points both ways."""
    return 0 if scan.point_times_ns is None else int(scan.point_times_ns[good].mean())


def _share(motion: Array, share: float) -> Array:
    """A part (or a multiple) of a motion [4, 4]: of its rotation and of its translation."""
    turn = Rotation.from_matrix(motion[:3, :3]).as_rotvec()
    return pose_from(Rotation.from_rotvec(share * turn).as_matrix(), share * motion[:3, 3])
