"""Structure on odometry's cameras, for windows whose images follow something that moves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spatial_fm_ros.core.config import GeometricConfig
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.models.geometric.local_map import View
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.models.geometric.pose_priors import (
    CLEARLY,
    ENOUGH,
    LEAST_TRAVEL_M,
    NEAREST_M,
    PutativeMatches,
    agree,
    explained_share,
    pairs_of_poses,
    prior_poses,
    putative_matches,
)
from spatial_fm_ros.core.models.geometric.problem import Problem, believable, inside
from spatial_fm_ros.core.models.geometric.rotation_only import chain_rotations
from spatial_fm_ros.core.models.geometric.structure import Structure, StructureSolver
from spatial_fm_ros.core.models.geometric.tracks import keep_observations
from spatial_fm_ros.core.models.geometric.triangulation import reproject, triangulate
from spatial_fm_ros.core.types import Array

#: Points that given cameras see under less parallax are left out: half a pixel is then a tenth of their depth.
MIN_ANGLE_DEG = 0.3
LEAVING = 0.5  # of the usual limits must images keep to be followed again after odometry was
#: Points of odometry's structure that the images' own cameras cannot explain, from which on the images followed
#: something else: their number, their share of that structure, and, where the images explain about as many
#: matches as odometry does, their number over that of the images' own points.
FEWEST_HIDDEN, HIDDEN_SHARE, HIDDEN_TO_IMAGES = 30, 0.2, 0.1
SURELY_WRONG = 1.5  # times the usual reprojection error is not explained
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
        if by_odometry < ENOUGH:
            return None
        if images is None:
            # The images have no motion of their own to compare with: odometry's way must explain more than turning.
            forward = explained_share(own, camera_from_odom[first:], everyone, tolerance, NEAREST_M, moving=False)
            if forward < by_images + CLEARLY:
                return None
        pairs = pairs_of_poses(matches, camera_from_odom, focal, self.config.max_reprojection_px)
        everyone = np.ones(len(everything), dtype=bool)
        structure = self.solver.extend(
            [view.features for view in everything], pairs, K, camera_from_odom, everyone, everyone
        )
        if images is not None:
            hidden, share = self._hidden(structure, first, images, problem.first)
            clearly = by_odometry >= by_images + (0.0 if kept else CLEARLY)
            needed = FEWEST_HIDDEN if clearly else max(FEWEST_HIDDEN, HIDDEN_TO_IMAGES * images.tracks.count)
            if hidden < needed or share < HIDDEN_SHARE * (LEAVING if kept else 1.0):
                return None
        solved = Problem(everything, first, pairs)
        if believable(structure, first):
            return Guided(solved, structure, by_odometry, by_images)
        travel = float(np.ptp(odom[:, :3, 3], axis=0).max())
        stood = images is not None and travel < LEAST_TRAVEL_M
        return Guided(solved, None, by_odometry, by_images) if stood else None


    def _hidden(self, structure: Structure, first: int, images: Structure, images_first: int) -> tuple[int, float]:
        """How many points of `structure`, seen in three views or more of the window, fit no place under the
        images' own cameras or are seen by views that have none, and their share of all such points.

        What drives along the camera's way shares its epipolar lines: pairs of views do not tell the two
        motions apart, but there are points that only the true one explains. A jump or a slip of odometry
        leaves points that both explain.
        """
        tracks, _ = keep_observations(structure.tracks, structure.tracks.view >= first, min_length=3)
        window = replace(tracks, view=tracks.view - first)
        poses, posed, K = images.camera_from_world[images_first:], images.posed[images_first:], images.K[images_first:]
        seen = posed[window.view]
        error, _ = reproject(window, K, poses, triangulate(window, K, poses, seen))
        misfit = ~seen | (error > SURELY_WRONG * self.config.max_reprojection_px)
        hidden = int(np.count_nonzero(np.bincount(window.track[misfit], minlength=window.count)))
        return hidden, hidden / max(window.count, 1)


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
