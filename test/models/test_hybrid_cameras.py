"""Cameras from images and a prior: information against brute force, the weaker side following the stronger."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import GeometricConfig
from spatial_fm_ros.core.geometry.rotations import invert_pose, rotation_angle
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.models.geometric.features import Features
from spatial_fm_ros.core.models.geometric.information import LEAST_PX, LOSS_PX, camera_information
from spatial_fm_ros.core.models.geometric.local_map import LocalMap, View
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.models.geometric.problem import Problem
from spatial_fm_ros.core.models.geometric.structure import Structure, StructureSolver
from spatial_fm_ros.core.models.geometric.tracks import Tracks
from spatial_fm_ros.core.models.geometric.triangulation import reproject
from spatial_fm_ros.core.models.hybrid.alignment import align, completed
from spatial_fm_ros.core.models.hybrid.cameras import CameraSolver
from spatial_fm_ros.core.models.hybrid.prior import PriorWindow
from spatial_fm_ros.core.models.hybrid.trust import Trust
from spatial_fm_ros.core.types import Camera, Keyframe
from spatial_fm_ros.evaluation.relative_pose import pair_errors

CAMERA = Camera(320, 240, np.array([[260.0, 0.0, 159.5], [0.0, 260.0, 119.5], [0.0, 0.0, 1.0]]))
CONFIG = GeometricConfig()
GRID = (60, 80)
K_GRID = CAMERA.resized(GRID[1], GRID[0]).K
BLANK = np.zeros((240, 320, 3), np.uint8)


def poses(count: int, step: tuple[float, float, float], turn_deg: float = 1.0) -> np.ndarray:
    """world_from_camera [count, 4, 4]."""
    found = [np.eye(4)]
    ahead = np.eye(4)
    ahead[:3, :3] = Rotation.from_euler("y", turn_deg, degrees=True).as_matrix()
    ahead[:3, 3] = step
    for _ in range(count - 1):
        found.append(found[-1] @ ahead)
    return np.array(found)


class Scene:
    """Points on a bumpy wall about 5 m away, and the features that cameras see of them."""

    def __init__(self, truth: np.ndarray, count: int, seed: int, noise_px: float = 0.5) -> None:
        rng = np.random.default_rng(seed)
        self.truth = truth
        self.rng = rng
        self.points = np.column_stack([rng.uniform(-6, 6, count), rng.uniform(-3, 3, count), np.zeros(count)])
        self.points[:, 2] = self.height(self.points[:, 0], self.points[:, 1])
        descriptors = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(count, 64))).float(), dim=1)
        self.views = []
        for i, pose in enumerate(truth):
            local = (self.points - pose[:3, 3]) @ pose[:3, :3]
            pixel = local @ CAMERA.K.T
            xy = pixel[:, :2] / pixel[:, 2:] + rng.normal(0, noise_px, (count, 2))
            seen = (local[:, 2] > 0.5) & (xy >= 0).all(1) & (xy < (320, 240)).all(1)
            features = Features(xy[seen], descriptors[np.flatnonzero(seen)], (320, 240))
            self.views.append(View(Keyframe(i, i, BLANK, CAMERA, "camera", 9.0, "disparity"), features))

    @staticmethod
    def height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 5.0 + np.sin(1.3 * x) + 0.7 * np.cos(2.1 * y)

    def depth(self, pose: np.ndarray) -> np.ndarray:
        """Depth of the wall on the grid, by walking along the rays."""
        v, u = np.mgrid[: GRID[0], : GRID[1]]
        rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K_GRID).T @ pose[:3, :3].T
        z = np.full(GRID, 4.0)
        for _ in range(60):
            at = pose[:3, 3] + rays * z[..., None]
            z += 0.4 * (self.height(at[..., 0], at[..., 1]) - at[..., 2]) / np.maximum(rays[..., 2], 0.3)
        return z

    def prior(self, turn_deg: float, shift: float, bend: float = 0.0) -> PriorWindow:
        """The truth in another gauge, its cameras off by standard deviations about and along each axis."""
        count = len(self.truth)
        wrong = self.truth.copy()
        turns = Rotation.from_rotvec(np.radians(self.rng.normal(0, 1.0, (count, 3)) * turn_deg)).as_matrix()
        wrong[:, :3, :3] = wrong[:, :3, :3] @ turns
        wrong[:, :3, 3] += self.rng.normal(0, 1.0, (count, 3)) * shift
        gauge = Sim3(0.3, Rotation.from_euler("xyz", [20, -40, 70], degrees=True).as_matrix(), np.array([1.0, 2, 3]))
        depth = np.stack([self.depth(pose) for pose in self.truth]) * 0.3
        depth *= np.exp(self.rng.normal(0, bend, (count, 1, 1)))
        return PriorWindow(
            gauge.apply_pose(wrong), np.ones(count, bool), depth.astype(np.float32),
            np.ones((count, *GRID), np.float32), np.tile(K_GRID, (count, 1, 1)),
        )  # fmt: skip

    def problem(self) -> Problem:
        return Problem(self.views, 0, LocalMap(CONFIG).match(self.views, 0, lambda view: CAMERA.K))

    def images(self, problem: Problem) -> Structure | None:
        K = np.array([CAMERA.K] * len(self.views))
        return StructureSolver(CONFIG).initialise([view.features for view in self.views], problem.pairs, K)


def known(rotation_deg: float, position: float) -> Trust:
    """A trust that has learnt a prior's errors."""
    trust = Trust()
    for _ in range(9):
        trust.learn(depth=0.05, rotation=float(np.radians(rotation_deg)), position=position)
    return trust


def solver() -> CameraSolver:
    return CameraSolver(CONFIG, 1, Tasks())


def K_of(scene: Scene) -> np.ndarray:
    return np.array([CAMERA.K] * len(scene.views))


def errors(structure: Structure, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.where(structure.posed[:, None, None], invert_pose(structure.camera_from_world), np.nan)
    return pair_errors(found, truth, neighbours=True)


def test_information_is_the_schur_complement_of_numeric_derivatives() -> None:
    rng = np.random.default_rng(0)
    truth = invert_pose(poses(4, (0.3, 0.05, 0.1)))
    points = np.column_stack([rng.uniform(-1, 1, 15), rng.uniform(-1, 1, 15), rng.uniform(3, 6, 15)])
    view, track = (a.ravel() for a in np.meshgrid(np.arange(4), np.arange(15)))
    blind = Tracks(view, track, np.zeros((60, 2)), 15)
    K = np.array([CAMERA.K] * 4)

    def pixels(camera_from_world: np.ndarray, xyz: np.ndarray) -> np.ndarray:
        local = np.einsum("nij,nj->ni", camera_from_world[view, :3, :3], xyz[track]) + camera_from_world[view, :3, 3]
        image = local @ CAMERA.K.T
        return image[:, :2] / image[:, 2:]

    tracks = replace(blind, xy=pixels(truth, points) + rng.normal(0, 0.4, (60, 2)))
    error, _ = reproject(tracks, K, truth, points)
    structure = Structure(truth, np.ones(4, bool), K, tracks, points, error)
    noise = max(LEAST_PX, float(np.sqrt(np.median(error**2) / 1.3863)))
    weight = np.repeat(np.sqrt(1 / (1 + (error / LOSS_PX) ** 2)) / noise, 2)

    def residual(x: np.ndarray) -> np.ndarray:
        moved = truth.copy()
        for i, motion in enumerate(x[:24].reshape(4, 6)):
            step = np.eye(4)
            step[:3, :3], step[:3, 3] = Rotation.from_rotvec(motion[:3]).as_matrix(), motion[3:]
            moved[i] = step @ truth[i]
        return pixels(moved, points + x[24:].reshape(15, 3)).ravel() * weight

    steps = 1e-6 * np.eye(24 + 45)
    J = np.stack([(residual(s) - residual(-s)) / 2e-6 for s in steps], axis=1)
    H = J.T @ J
    expected = H[:24, :24] - H[:24, 24:] @ np.linalg.solve(H[24:, 24:], H[24:, :24])
    found = camera_information(structure)
    assert np.allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    # Seven motions of the whole gauge are free.
    assert (np.linalg.eigvalsh(found) < 1e-4 * np.trace(found) / 24).sum() == 7


def test_cameras_that_images_hold_are_hardly_moved() -> None:
    scene = Scene(poses(5, (0.3, 0.02, 0.1)), 900, 0)
    problem = scene.problem()
    images = scene.images(problem)
    assert images is not None and images.posed.all()
    done = solver().solve(problem, images, K_of(scene), scene.prior(1.0, 0.1), Trust())
    assert done.structure is not None and not done.new_gauge
    before, after = errors(images, scene.truth), errors(done.structure, scene.truth)
    assert np.abs(before[0] - after[0]).max() < 0.05 and np.abs(before[1] - after[1]).max() < 0.5


def test_what_images_leave_open_follows_a_good_prior_and_not_a_bad_one() -> None:
    """Three views a hand apart, some fifty points: their direction is open within many degrees."""
    better, ruined = [], []
    for seed in range(8):
        scene = Scene(poses(3, (0.12, 0.0, 0.04), 0.5), 120, seed, noise_px=0.7)
        problem = scene.problem()
        images = scene.images(problem)
        if images is None or not images.posed.all():
            continue
        good = solver().solve(problem, images, K_of(scene), scene.prior(0.05, 0.004), known(0.05, 0.001)).structure
        poor = solver().solve(problem, images, K_of(scene), scene.prior(6.0, 1.0), known(6.0, 0.3)).structure
        assert good is not None and poor is not None
        own = np.array(errors(images, scene.truth)).mean(1)
        better.append(np.array(errors(good, scene.truth)).mean(1) / own)
        ruined.append(np.array(errors(poor, scene.truth)).mean(1) / own)
    assert len(better) >= 5
    assert (np.median(better, axis=0) < 0.7).all()
    assert np.abs(np.median(ruined, axis=0) - 1.0).max() < 0.2


def test_a_prior_is_learnt_as_bad_as_it_is() -> None:
    found = []
    for seed in range(6):
        scene = Scene(poses(6, (0.3, 0.02, 0.1)), 600, seed)
        problem = scene.problem()
        trust = Trust()
        solver().solve(problem, scene.images(problem), K_of(scene), scene.prior(2.0, 0.15, 0.03), trust)
        assert trust.rotation is not None and trust.position is not None
        found.append((np.degrees(trust.rotation), trust.position * 5.0))
    # The common turn and shift of six views are taken out: somewhat less than each has.
    assert np.median(found, axis=0) == pytest.approx([1.8, 0.14], rel=0.3)


def test_images_that_went_wrong_are_solved_anew_from_the_prior_and_good_ones_are_not() -> None:
    scene = Scene(poses(5, (0.3, 0.02, 0.1)), 700, 4)
    problem = scene.problem()
    images = scene.images(problem)
    assert images is not None and images.posed.all()
    # Cameras as a second solution has them: turned against each other, with points of their own.
    shaken = images.camera_from_world.copy()
    shaken[1::2, :3, :3] = Rotation.from_euler("x", 8, degrees=True).as_matrix() @ shaken[1::2, :3, :3]
    wrong = StructureSolver(replace(CONFIG, max_reprojection_px=60.0)).with_poses(images, shaken)
    assert np.median(errors(wrong, scene.truth)[0]) > 5.0
    done = solver().solve(problem, wrong, K_of(scene), scene.prior(0.5, 0.05), Trust())
    assert done.structure is not None and done.new_gauge and done.structure.posed.all()
    rotation, direction = errors(done.structure, scene.truth)
    assert rotation.max() < 0.3 and direction.max() < 3.0
    # A prior that is far off itself ends where the images are, and they stay.
    kept = solver().solve(problem, images, K_of(scene), scene.prior(6.0, 0.6), Trust())
    assert not kept.new_gauge and kept.structure is not None
    assert errors(kept.structure, scene.truth)[0].max() < 0.3


def test_views_that_images_lost_are_found_from_the_prior() -> None:
    scene = Scene(poses(6, (0.25, 0.02, 0.1)), 700, 3)
    problem = scene.problem()
    # The last two views match each other only.
    pairs = {key: pair for key, pair in problem.pairs.items() if (key[0] < 4) == (key[1] < 4)}
    torn = Problem(problem.views, 0, pairs)
    images = scene.images(torn)
    assert images is not None and images.posed.sum() == 4
    done = solver().solve(torn, images, K_of(scene), scene.prior(1.0, 0.08), known(1.0, 0.02))
    assert done.structure is not None and done.structure.posed.all()
    rotation, direction = errors(done.structure, scene.truth)
    assert rotation.max() < 0.3 and direction.max() < 4.0
    # A prior that was found to be far off is not asked.
    bad = known(30.0, 1.0)
    alone = solver().solve(torn, images, K_of(scene), scene.prior(30.0, 2.0), bad)
    assert not bad.believed and alone.structure is images


def test_a_window_that_images_cannot_start_is_started_by_the_prior() -> None:
    """Too few matches for any pair to be verified by itself."""
    scene = Scene(poses(6, (0.2, 0.02, 0.05)), 170, 1)
    problem = Problem(scene.views, 0, {})
    prior = scene.prior(1.0, 0.05)
    done = solver().solve(problem, None, K_of(scene), prior, Trust())
    assert done.structure is not None and done.new_gauge and done.structure.posed.all()
    rotation, direction = errors(done.structure, scene.truth)
    before = pair_errors(prior.world_from_camera, scene.truth, neighbours=True)
    assert np.median(rotation) < 0.3 * np.median(before[0]) and np.median(direction) < 0.5 * np.median(before[1])
    assert solver().solve(problem, None, K_of(scene), prior, known(30.0, 1.0)).structure is None


def test_a_camera_that_only_turns_is_given_no_way() -> None:
    turning = poses(5, (0.0, 0.0, 0.0), 3.0)
    scene = Scene(turning, 900, 2, noise_px=0.3)
    problem = scene.problem()
    done = solver().solve(problem, None, K_of(scene), scene.prior(1.0, 0.05), Trust())
    assert done.structure is None and not done.new_gauge and done.problem is problem


def test_alignment_takes_the_prior_into_the_gauge_of_the_structure() -> None:
    scene = Scene(poses(5, (0.3, 0.02, 0.1)), 600, 0, noise_px=0.05)
    images = scene.images(scene.problem())
    assert images is not None
    aligned = align(images, 0, scene.prior(0.0, 0.0))
    assert aligned is not None
    gap = invert_pose(aligned.camera_from_world) @ images.camera_from_world
    assert np.degrees(rotation_angle(gap[:, :3, :3])).max() < 0.1
    assert np.linalg.norm(gap[:, :3, 3], axis=1).max() < 0.01 * aligned.depth
    nothing = replace(scene.prior(0.0, 0.0), posed=np.zeros(5, bool))
    assert align(images, 0, nothing) is None
    blind = scene.prior(0.0, 0.0)
    blind.depth[:] = np.nan
    assert align(images, 0, blind) is None


def test_completed_continues_from_the_nearest_view_that_is_posed() -> None:
    truth = poses(6, (0.3, 0.1, 0.2), 5.0)
    posed = np.array([True, True, True, False, False, False])
    told = Sim3(0.5, Rotation.from_euler("z", 30, degrees=True).as_matrix(), np.ones(3)).apply_pose(truth)
    told[5] = np.nan
    start = np.where(posed[:, None, None], truth, np.nan)
    found, known_ = completed(start, posed, told, 2.0)
    assert known_.tolist() == [True, True, True, True, True, False]
    assert np.allclose(found[:5], truth[:5]) and np.isnan(found[5]).all()
    nobody, none = completed(start, np.zeros(6, bool), told, 2.0)
    assert not none.any() and np.array_equal(nobody, start, equal_nan=True)
