"""Structure on odometry's cameras, for windows whose images follow something that moves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.config import GeometricConfig
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.models.geometric.local_map import View
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.models.geometric.pose_priors import (
    CLEARLY,
    ENOUGH,
    KEPT,
    LEAST_TRAVEL_M,
    NEAREST_M,
    PutativeMatches,
    agree,
    explained_share,
    pairs_of_poses,
    prior_poses,
    putative_matches,
    travels_backwards,
)
from spatial_fm_ros.core.models.geometric.problem import Problem, believable, inside
from spatial_fm_ros.core.models.geometric.rotation_only import chain_rotations
from spatial_fm_ros.core.models.geometric.structure import Structure, StructureSolver
from spatial_fm_ros.core.types import Array

#: Points that given cameras see under less parallax are left out: half a pixel is then a tenth of their depth.
MIN_ANGLE_DEG = 0.3
LEAVING = 0.5  # of the usual limits must images keep to be followed again after odometry was
ANY_DEPTH = 1e-6  # in a gauge whose unit is unknown, points may be as near as they like


@dataclass(frozen=True, eq=False)
class Guided:
    """A window on odometry's cameras. structure None: they stood still, or only turned. The shares of matches
    that odometry and the images' own motion explain."""

    problem: Problem
    structure: Structure | None
    explained: float
    explained_by_images: float

    @property
    def note(self) -> str:
        return (
            f"cameras from odometry, which explains {self.explained:.0%} of the matches, "
            f"the images' own motion {self.explained_by_images:.0%}"
        )

    @property
    def figures(self) -> dict[str, float]:
        return {"explained_by_odometry": self.explained, "explained_by_images": self.explained_by_images}


class GuidedSolver:
    """Judges odometry by the images, and solves with it where it is the better of the two.

    Poses are odometry's, as they are: adjusting them to matches of which most move made them worse on a
    recorded drive, even with priors on position (1 to 10 cm) and rotation (0.3 to 1 degree).
    """

    def __init__(self, config: GeometricConfig, threads: int, tasks: Tasks) -> None:
        self.config = config
        self.tasks = tasks
        self.solver = StructureSolver(config, threads, MIN_ANGLE_DEG)

    def solve(
        self, support: Sequence[View], views: Sequence[View], problem: Problem, images: Structure | None, kept: bool
    ) -> Guided | None:
        """The window `views` on odometry's cameras, or None where the images' own solution stays.

        images: the solution of `problem`, None without parallax. kept: the window before was solved here,
        `support` are its newest keyframes; they join in.
        """
        odom = prior_poses(views)
        if odom is None:
            return None
        if images is not None and images.posed[problem.first :].all():
            seen = _inverse(images.camera_from_world[problem.first :])
            if agree(odom, seen, LEAVING if kept else 1.0):
                return None
        older = [view for view in support if kept and prior_poses([view, *views]) is not None]
        everything = [*older, *views]
        first = len(older)
        camera_from_odom = _inverse([view.keyframe.odom_from_camera for view in everything])
        K = np.array([view.keyframe.camera.K for view in everything if view.keyframe.camera is not None])
        focal = float(np.median(K[:, 0, 0]))
        tolerance = self.config.max_reprojection_px / focal
        matches = putative_matches(everything, K, first, self.tasks)
        own = {(a - first, b - first): pair for (a, b), pair in matches.items() if a >= first}
        everyone = np.ones(len(views), dtype=bool)
        by_odometry = explained_share(own, camera_from_odom[first:], everyone, tolerance, NEAREST_M)
        by_images = _explained_by_images(own, problem, images, tolerance)
        if by_odometry < max(ENOUGH, by_images + (-KEPT if kept else CLEARLY)):
            return None
        if travels_backwards(own, camera_from_odom[first:], tolerance):
            return None
        pairs = pairs_of_poses(matches, camera_from_odom, focal, self.config.max_reprojection_px)
        everyone = np.ones(len(everything), dtype=bool)
        structure = self.solver.extend(
            [view.features for view in everything], pairs, K, camera_from_odom, everyone, everyone
        )
        solved = Problem(everything, first, pairs)
        if believable(structure, first):
            return Guided(solved, structure, by_odometry, by_images)
        travel = float(np.ptp(odom[:, :3, 3], axis=0).max())
        stood = images is not None and travel < LEAST_TRAVEL_M
        return Guided(solved, None, by_odometry, by_images) if stood else None


def _inverse(poses: Iterable[Array | None]) -> Array:
    return np.array([invert_pose(pose) for pose in poses if pose is not None])


def _explained_by_images(
    matches: dict[tuple[int, int], PutativeMatches], problem: Problem, images: Structure | None, tolerance: float
) -> float:
    """Share of the window's matches that its own solution explains; without one, that its rotations explain."""
    if images is not None:
        poses, posed = images.camera_from_world[problem.first :], images.posed[problem.first :]
    else:
        poses, posed = chain_rotations(len(problem.views) - problem.first, inside(problem.pairs, problem.first))
    return explained_share(matches, poses, posed, tolerance, ANY_DEPTH)
