"""Cameras from images and a prior: whoever knows more of a direction decides about it.

The prior gives cameras to start from where the images alone find none. Where they do, its cameras are
observations beside the features: their weights are learnt from how far they were off where images could
tell, and reprojection has to agree with the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spatial_fm_ros.core.config import GeometricConfig
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.models.geometric.assistance import Assisted
from spatial_fm_ros.core.models.geometric.information import camera_information
from spatial_fm_ros.core.models.geometric.local_map import View
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.models.geometric.pose_priors import (
    CLEARLY,
    explained_share,
    pairs_of_poses,
    putative_matches,
)
from spatial_fm_ros.core.models.geometric.problem import Problem, believable, inside
from spatial_fm_ros.core.models.geometric.rotation_only import chain_rotations
from spatial_fm_ros.core.models.geometric.structure import Mask, Pairs, Structure, StructureSolver
from spatial_fm_ros.core.models.hybrid.alignment import Aligned, align, apart, completed, moved_by
from spatial_fm_ros.core.models.hybrid.prior import PriorWindow
from spatial_fm_ros.core.models.hybrid.trust import MEDIAN_LENGTH, Trust
from spatial_fm_ros.core.types import Array

#: Points that start from given cameras take part from this parallax on.
MIN_ANGLE_DEG = 0.3
#: Reprojection limits, in multiples of the usual one, under which the prior's cameras settle.
SETTLING = (4.0, 2.0, 1.0)
#: A match may lie this far off the epipolar segment of the prior's cameras: three deviations of their rotation, at
#: most this share of the image; the deviation until one was learnt.
WIDEST_BAND, FIRST_ROTATION = 0.04, 0.015
#: The same of positions, as a share of the median depth; and how many deviations from the prior are too far.
FIRST_POSITION, FAR_SIGMAS = 0.05, 3.5
#: Depth of the nearest points expected, as a share of the median.
NEAREST_SHARE = 0.1
#: The least deviations a prior is given: radians about each axis, share of the median depth along each.
LEAST_ROTATION, LEAST_POSITION = 1e-3, 3e-3
#: A solution from the prior is a rival of the images' own with this share of its observations.
RIVAL = 0.9
#: Reprojection agrees with moved cameras that keep this share of the observations and let the error grow this much.
KEPT, GROWN = 0.95, 1.05


class CameraSolver:
    """Solves windows with the help of a prior; nothing is kept between calls but what `Trust` learns."""

    def __init__(self, config: GeometricConfig, threads: int, tasks: Tasks) -> None:
        self.config = config
        self.tasks = tasks
        self.settling = [
            StructureSolver(
                replace(config, max_reprojection_px=factor * config.max_reprojection_px), threads, MIN_ANGLE_DEG
            )
            for factor in SETTLING
        ]

    def solve(self, problem: Problem, images: Structure | None, K: Array, prior: PriorWindow, trust: Trust) -> Assisted:
        """The window with the prior's help; K [N, 3, 3] of its views, where it is started from the prior's cameras."""
        if images is None:
            return self._afresh(problem, K, prior, trust) if trust.believed else Assisted(problem, None)
        aligned = align(images, problem.first, prior)
        if aligned is None:
            return Assisted(problem, images)
        if trust.believed and not self._near(images, problem.first, aligned, trust):
            rival = self._rival(problem, images, K, prior, trust)
            if rival is not None:
                return rival
        self._learn(images, problem.first, aligned, trust)
        if not trust.believed:
            return Assisted(problem, images)
        if not images.posed[problem.first :].all():
            problem, images = self._completed(problem, images, aligned, trust)
        return Assisted(problem, self._pulled(problem, images, aligned, trust))

    def _near(self, structure: Structure, first: int, aligned: Aligned, trust: Trust) -> bool:
        """Whether most cameras are where the prior has them, as far as it is known to err."""
        turn, shift = _reach(aligned, trust)
        turns, shifts = apart(structure.camera_from_world[first:], aligned.camera_from_world)
        both = structure.posed[first:] & np.isfinite(turns).all(axis=1)
        if not both.any():
            return True
        turned, shifted = (float(np.median(np.linalg.norm(each[both], axis=1))) for each in (turns, shifts))
        return turned < turn and shifted < shift

    def _rival(
        self, problem: Problem, images: Structure, K: Array, prior: PriorWindow, trust: Trust
    ) -> Assisted | None:
        """The window solved from the prior's cameras, where the images' own are elsewhere: a scene that is nearly flat
        has two solutions that explain it as well. None unless it ends where the prior is and explains as much."""
        found = self._started(problem.views[problem.first :], inside(problem.pairs, problem.first), K, prior, trust)
        if found is None or not believable(found[1], 0):
            return None
        pairs, structure = found
        aligned = align(structure, 0, prior)
        if aligned is None or not self._near(structure, 0, aligned, trust):
            return None
        own = int((images.tracks.view >= problem.first).sum())
        if structure.posed.sum() < images.posed[problem.first :].sum() or len(structure.error_px) < RIVAL * own:
            return None
        self._learn(structure, 0, aligned, trust)
        return Assisted(Problem(problem.views[problem.first :], 0, pairs), structure, new_gauge=True)

    def _learn(self, images: Structure, first: int, aligned: Aligned, trust: Trust) -> None:
        turns, shifts = apart(images.camera_from_world[first:], aligned.camera_from_world)
        both = images.posed[first:] & np.isfinite(turns).all(axis=1)
        if both.sum() >= 3:
            trust.learn(
                rotation=float(np.median(np.linalg.norm(turns[both], axis=1))) / MEDIAN_LENGTH,
                position=float(np.median(np.linalg.norm(shifts[both], axis=1))) / MEDIAN_LENGTH / aligned.depth,
            )

    def _pulled(self, problem: Problem, images: Structure, aligned: Aligned, trust: Trust) -> Structure:
        """The images' cameras, drawn to the prior's as far as the images leave them open."""
        first = problem.first
        turns, shifts = apart(images.camera_from_world[first:], aligned.camera_from_world)
        told = images.posed[first:] & np.isfinite(turns).all(axis=1)
        if not told.any() or trust.rotation is None or trust.position is None:
            return images
        sigma_turn = max(LEAST_ROTATION, trust.rotation)
        sigma_shift = max(LEAST_POSITION, trust.position) * aligned.depth
        free = np.flatnonzero(images.posed[first:]) + first
        rows = (6 * free[:, None] + np.arange(6)).ravel()
        information = camera_information(images)[np.ix_(rows, rows)]
        wanted = np.where(told[:, None], np.concatenate((turns, shifts), axis=1), 0.0)[free - first].ravel()
        precise = np.where(told[:, None], [sigma_turn**-2] * 3 + [sigma_shift**-2] * 3, 0.0)[free - first].ravel()
        # A view the prior does not tell still has to be held where its images do not hold it.
        motion = np.linalg.lstsq(information + np.diag(precise), precise * wanted, rcond=1e-12)[0].reshape(-1, 6)
        poses = images.camera_from_world.copy()
        poses[free] = moved_by(poses[free], motion)
        moved = self.settling[-1].with_poses(images, poses)
        if len(moved.error_px) < KEPT * len(images.error_px):
            return images
        grown = np.sqrt(np.mean(moved.error_px**2)) > GROWN * np.sqrt(np.mean(images.error_px**2))
        return images if grown else moved

    def _completed(
        self, problem: Problem, images: Structure, aligned: Aligned, trust: Trust
    ) -> tuple[Problem, Structure]:
        """Adds views that the images did not pose, from where the prior has them; only if points then hold them."""
        first, poses = problem.first, images.camera_from_world.copy()
        guess, known = completed(
            invert_pose(poses[first:]), images.posed[first:], invert_pose(aligned.camera_from_world), 1.0
        )
        poses[first:][known] = invert_pose(guess[known])
        posed = images.posed.copy()
        posed[first:] |= known
        nearest = NEAREST_SHARE * aligned.depth
        pairs = self._pairs(problem.views, images.K, first, poses, posed, trust, nearest)
        pairs = {**pairs, **{key: pair for key, pair in problem.pairs.items() if len(pair)}}
        found = self._settled(problem.views, pairs, images.K, poses, posed, images.posed)
        if found is None or not believable(found, first):
            return problem, images
        found = self._agreeing(found, first, aligned, images.posed, trust)
        more = found.posed.sum() > images.posed.sum()
        return (Problem(problem.views, first, pairs), found) if more else (problem, images)

    def _agreeing(self, found: Structure, first: int, aligned: Aligned, sure: Mask, trust: Trust) -> Structure:
        """Without the views, other than those `sure` [N], that ended farther from the prior than it usually errs:
        a few matches near epipolar lines fit any camera."""
        turn, shift = _reach(aligned, trust)
        turns, shifts = apart(found.camera_from_world[first:], aligned.camera_from_world)
        far = (np.linalg.norm(turns, axis=1) > turn) | (np.linalg.norm(shifts, axis=1) > shift)
        posed = found.posed.copy()
        posed[first:] &= ~far | sure[first:]
        return self.settling[-1].with_poses(replace(found, posed=posed), found.camera_from_world)

    def _afresh(self, problem: Problem, K: Array, prior: PriorWindow, trust: Trust) -> Assisted:
        """A window that the images cannot start, from the prior's cameras; none where only a turn is seen."""
        nothing = Assisted(problem, None)
        first, views = problem.first, problem.views[problem.first :]
        started = self._started(views, {}, K, prior, trust)
        if started is None or not believable(started[1], 0):
            return nothing
        pairs, found = started
        tolerance = self.config.max_reprojection_px / float(np.median(K[:, 0, 0]))
        matches = putative_matches(views, K, 0, self.tasks)
        turned, known = chain_rotations(len(views), inside(problem.pairs, first))
        by_turn = explained_share(matches, turned, known, tolerance, NEAREST_SHARE, moving=False)
        by_way = explained_share(
            matches, found.camera_from_world, found.posed, tolerance, NEAREST_SHARE, moving=False
        )
        if by_way < by_turn + CLEARLY:
            return nothing
        return Assisted(Problem(views, 0, pairs), found, new_gauge=True)

    def _started(
        self, views: Sequence[View], verified: Pairs, K: Array, prior: PriorWindow, trust: Trust
    ) -> tuple[Pairs, Structure] | None:
        """Pairs and structure of a window's views from the prior's cameras, in a gauge of its own. `verified`: pairs
        that are taken as they are."""
        depth = float(np.nanmedian(prior.depth)) if np.isfinite(prior.depth).any() else float("nan")
        if prior.posed.sum() < 2 or not depth > 0:
            return None
        poses = np.tile(np.eye(4), (len(views), 1, 1))
        poses[prior.posed] = invert_pose(prior.world_from_camera[prior.posed])
        poses[:, :3, 3] /= depth
        pairs = {**self._pairs(views, K, 0, poses, prior.posed, trust, NEAREST_SHARE), **verified}
        nothing = np.zeros(len(views), dtype=bool)
        found = self._settled(views, pairs, K, poses, prior.posed, nothing)
        return None if found is None else (pairs, found)

    def _pairs(
        self, views: Sequence[View], K: Array, first: int, poses: Array, posed: Mask, trust: Trust, nearest: float
    ) -> Pairs:
        """Matches that lie near the epipolar segments of given cameras."""
        focal = float(np.median(K[:, 0, 0]))
        band = 3.0 * focal * (trust.rotation or FIRST_ROTATION)
        band = float(np.clip(band, SETTLING[0] * self.config.max_reprojection_px, WIDEST_BAND * 2 * K[:, 0, 2].max()))
        matches = putative_matches(views, K, first, self.tasks)
        known = {key: pair for key, pair in matches.items() if posed[key[0]] and posed[key[1]]}
        return pairs_of_poses(known, poses, focal, band, nearest)

    def _settled(
        self, views: Sequence[View], pairs: Pairs, K: Array, poses: Array, posed: Mask, fixed: Mask
    ) -> Structure | None:
        """Adjusts from given cameras under narrowing limits; None when fewer than two views remain."""
        found: Structure | None = None
        for solver in self.settling:
            found = solver.extend([view.features for view in views], pairs, K, poses, posed, fixed)
            poses, posed = found.camera_from_world, found.posed
            if posed.sum() < 2:
                return None
        return found


def _reach(aligned: Aligned, trust: Trust) -> tuple[float, float]:
    """The farthest (radians, gauge units) that a camera may be from the prior's for both to mean the same."""
    turn = FAR_SIGMAS * max(LEAST_ROTATION, trust.rotation or FIRST_ROTATION)
    return turn, FAR_SIGMAS * max(LEAST_POSITION, trust.position or FIRST_POSITION) * aligned.depth
