"""The geometric model with odometry: it takes over where images follow what moves, and changes nothing elsewhere."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import GeometricConfig, ModelConfig
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.metric.pose_alignment import align_poses
from spatial_fm_ros.core.models.geometric.features import Features
from spatial_fm_ros.core.models.geometric.guided import Guided, GuidedSolver
from spatial_fm_ros.core.models.geometric.local_map import LocalMap, View
from spatial_fm_ros.core.models.geometric.model import GeometricModel
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.models.geometric.pose_priors import agree, explained, prior_poses
from spatial_fm_ros.core.models.geometric.problem import Problem
from spatial_fm_ros.core.models.geometric.structure import Structure, StructureSolver
from spatial_fm_ros.core.types import Camera, Keyframe, Window
from spatial_fm_ros.evaluation.tum import read_tum
from spatial_fm_ros.simulation.camera import SimulatedCamera
from spatial_fm_ros.simulation.worlds import build_world
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.sequence import SequenceFolder

CAMERA = Camera(640, 240, np.array([[400.0, 0.0, 319.5], [0.0, 400.0, 119.5], [0.0, 0.0, 1.0]]))
CONFIG = GeometricConfig()
VIEWS, POINTS, STEP_M, PERIOD_NS = 7, 500, 0.5, 2 * 10**8


def turned(axis: str, degrees: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    return pose


def forward(step: float = STEP_M) -> np.ndarray:
    """odom_from_camera [VIEWS, 4, 4] of a car: along its optical axis, in a slight bend."""
    poses = [np.eye(4)]
    for _ in range(VIEWS - 1):
        ahead = turned("y", 0.4)
        ahead[2, 3] = step
        poses.append(poses[-1] @ ahead)
    return np.array(poses)


class Traffic:
    """Points as features of a drive: a share of them, close by on the right, moves a step every view."""

    def __init__(self, poses: np.ndarray, moving: float, body_step: tuple[float, float, float], seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        count = round(moving * POINTS)
        static = rng.uniform((-6, -2.5, 5.5), (5, 1.5, 22), (POINTS - count, 3))
        body = rng.uniform((1.0, -1.5, 6), (4.0, 1.5, 14), (count, 3))
        self.points = np.concatenate([static, body])
        self.static = np.arange(POINTS) < len(static)
        descriptors = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(POINTS, 64))).float(), dim=1)
        self.views = []
        for i, pose in enumerate(poses):
            xyz = self.points + np.where(self.static[:, None], 0.0, i * np.array(body_step))
            local = (xyz - pose[:3, 3]) @ pose[:3, :3]
            pixel = local @ CAMERA.K.T
            xy = pixel[:, :2] / pixel[:, 2:] + rng.normal(0, 0.3, (POINTS, 2))
            seen = (local[:, 2] > 1) & (xy >= 0).all(1) & (xy < (CAMERA.width, CAMERA.height)).all(1)
            features = Features(xy[seen], descriptors[np.flatnonzero(seen)], (CAMERA.width, CAMERA.height))
            blank = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
            keyframe = Keyframe(i, i * PERIOD_NS, blank, CAMERA, "camera", 9.0, "disparity", pose)
            self.views.append(View(keyframe, features))

    def with_odometry(self, poses: np.ndarray) -> list[View]:
        return [View(replace(v.keyframe, odom_from_camera=p), v.features) for v, p in zip(self.views, poses)]


def solved(views: list[View]) -> tuple[Structure | None, Guided | None]:
    """What the images alone give, and what odometry makes of it."""
    memory = LocalMap(CONFIG)
    K = np.array([CAMERA.K] * len(views))
    pairs = memory.match(views, 0, lambda view: CAMERA.K)
    images = StructureSolver(CONFIG).initialise([view.features for view in views], pairs, K)
    return images, GuidedSolver(CONFIG, 1, Tasks()).solve([], views, Problem(views, 0, pairs), images, False)


#: What the body does every view: changes lane while it pulls away, overtakes in parallel. (One that falls back in
#: parallel at a constant share of the camera's speed is, in images, a nearer world: nothing tells it apart.)
BODIES = {"lane": (-0.12, 0.0, 0.5), "faster": (0.0, 0.0, 0.8)}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_odometry_takes_over_where_most_matches_move(body: str, seed: int) -> None:
    truth = forward()
    traffic = Traffic(truth, 0.6, BODIES[body], seed)
    noisy = truth.copy()
    noisy[:, :3, 3] += np.random.default_rng(seed).normal(0, 0.005, (VIEWS, 3))
    images, guided = solved(traffic.with_odometry(noisy))
    assert images is not None and not agree(truth, np.linalg.inv(images.camera_from_world))
    assert guided is not None and guided.structure is not None and guided.structure.posed.all()
    found = np.linalg.inv(guided.structure.camera_from_world)
    assert np.allclose(found, noisy, atol=1e-9)
    # The static points are where they are: each by its nearest true point, relative to its distance.
    points = guided.structure.points
    gap = np.linalg.norm(points[:, None] - traffic.points[traffic.static], axis=2).min(1) / points[:, 2]
    static = gap < 0.1
    assert static.sum() > 80 and np.median(gap[static]) < 0.03


def test_images_keep_their_cameras_in_a_static_world() -> None:
    truth = forward()
    traffic = Traffic(truth, 0.0, (0.0, 0.0, 0.0))
    images, guided = solved(traffic.views)
    assert images is not None and guided is None
    alignment = align_poses(truth, np.linalg.inv(images.camera_from_world), 0.1)
    assert alignment.rotation_gap_deg < 0.2 and alignment.inliers.all()


def wrong(kind: str) -> np.ndarray:
    truth = forward()
    bad = truth.copy()
    rng = np.random.default_rng(3)
    if kind == "jump":
        bad[4:, :3, 3] += (0.0, 0.0, 1.0)
    elif kind == "slip":  # the wheels turn on the spot for half of the way
        bad[3:, :3, 3] -= (truth[3:, :3, 3] - truth[3, :3, 3]) * 0.7
    elif kind == "noise":
        bad[:, :3, 3] += rng.normal(0, 0.15, (VIEWS, 3))
    elif kind == "turned":
        bad = bad @ turned("x", 25.0)
    elif kind == "shaken":
        bad = np.array([pose @ turned("xyz"[i % 3], 1.5 * (-1) ** i) for i, pose in enumerate(bad)])
    elif kind == "stale":
        bad[:] = bad[0]
    elif kind == "backwards":
        bad[:, :3, 3] *= -1
    return bad


@pytest.mark.parametrize("kind", ["jump", "slip", "noise", "turned", "shaken", "stale", "backwards"])
@pytest.mark.parametrize("moving", [0.0, 0.3])
def test_wrong_odometry_is_refused(kind: str, moving: float) -> None:
    images, guided = solved(Traffic(forward(), moving, BODIES["lane"]).with_odometry(wrong(kind)))
    assert guided is None
    if moving == 0.0:
        assert images is not None and images.posed.all()


@pytest.mark.parametrize("kind", ["jump", "noise", "turned", "shaken", "stale", "backwards"])
def test_wrong_odometry_is_refused_in_traffic(kind: str) -> None:
    assert solved(Traffic(forward(), 0.6, BODIES["lane"]).with_odometry(wrong(kind)))[1] is None


def test_odometry_carries_the_window_over_a_gap_in_the_matches() -> None:
    truth = forward()
    before, after = (Traffic(truth, 0.0, (0.0, 0.0, 0.0), seed) for seed in (0, 5))
    views = [*before.views[:4], *after.views[4:]]  # nothing that was seen before is seen after
    images, guided = solved(views)
    assert images is None or not images.posed.all()
    assert guided is not None and guided.structure is not None
    assert np.allclose(np.linalg.inv(guided.structure.camera_from_world), truth, atol=1e-9)
    assert set(guided.structure.tracks.view) == set(range(VIEWS))
    shaken = wrong("shaken")
    lost = [View(replace(v.keyframe, odom_from_camera=p), v.features) for v, p in zip(views, shaken)]
    assert solved(lost)[1] is None


def test_a_standing_camera_is_not_moved_by_what_passes_it() -> None:
    standing = np.tile(np.eye(4), (VIEWS, 1, 1))
    images, guided = solved(Traffic(standing, 0.45, (0.25, 0.0, 0.3)).views)
    if images is None:
        assert guided is None  # the images said themselves that there is no parallax
    else:
        assert guided is not None and guided.structure is None


def test_poses_that_no_camera_can_make_are_no_prior() -> None:
    truth = forward()
    views = Traffic(truth, 0.0, (0.0, 0.0, 0.0)).views
    assert np.array_equal(prior_poses(views), truth)
    unknown = [*views[:3], View(replace(views[3].keyframe, odom_from_camera=None), views[3].features), *views[4:]]
    assert prior_poses(unknown) is None
    blind = [*views[:3], View(replace(views[3].keyframe, camera=None), views[3].features), *views[4:]]
    assert prior_poses(blind) is None
    assert prior_poses(views[:2]) is None
    jumped = truth.copy()
    jumped[4:, :3, 3] += (0.0, 0.0, 1.0)
    traffic = Traffic(truth, 0.0, (0.0, 0.0, 0.0))
    assert prior_poses(traffic.with_odometry(jumped)) is None
    assert prior_poses([*views, views[0]]) is None  # time runs backwards


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_matches_of_points_are_explained_and_others_are_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform((-3, -2, 3), (3, 2, 30), (50, 3))
    b_from_a = np.eye(4)
    b_from_a[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.1, 3)).as_matrix()
    b_from_a[:3, 3] = rng.normal(0, 0.5, 3)
    there = points @ b_from_a[:3, :3].T + b_from_a[:3, 3]
    there = there[points[:, 2] > 0]
    ahead = there[:, 2] > 0.5
    a, b = points[ahead], there[ahead]
    rays_a, rays_b = (p / np.linalg.norm(p, axis=1, keepdims=True) for p in (a, b))
    assert explained(rays_a, rays_b, b_from_a, 1e-6, 0.5).all()
    # Off the epipolar line by a hundredth: not explained; the same distance along it, past infinity: only by motion.
    infinite = rays_a @ b_from_a[:3, :3].T
    infinite = infinite[:, :2] / infinite[:, 2:]
    way = b[:, :2] / b[:, 2:] - infinite
    way /= np.linalg.norm(way, axis=1, keepdims=True)

    def as_rays(xy: np.ndarray) -> np.ndarray:
        rays = np.column_stack([xy, np.ones(len(xy))])
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    off = as_rays(b[:, :2] / b[:, 2:] + 0.01 * way[:, ::-1] * (-1, 1))
    assert not explained(rays_a, off, b_from_a, 0.009, 0.5, moving=True).any()
    behind = as_rays(infinite - 0.002 * way)
    assert not explained(rays_a, behind, b_from_a, 0.001, 0.5).any()
    assert explained(rays_a, behind, b_from_a, 0.001, 0.5, moving=True).all()


ROOM = Camera(320, 240, np.array([[260.0, 0.0, 159.5], [0.0, 260.0, 119.5], [0.0, 0.0, 1.0]]))
OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def test_predictions_are_the_same_to_the_bit_where_images_can_be_trusted() -> None:
    eye = SimulatedCamera(build_world("room", detail=0.3), ROOM)
    poses = []
    for i in range(4):
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("z", -1.5 * i, degrees=True).as_matrix() @ OPTICAL
        pose[:3, 3] = (2.0 + 0.02 * i, 2.0 + 0.14 * i, 1.2)
        poses.append(pose)
    images = [eye.render(pose) for pose in poses]
    off = np.array(poses)
    off[:, :3, 3] += np.random.default_rng(0).normal(0, 0.2, (4, 3))
    results = []
    for odometry in ([None] * 4, poses, list(off)):
        small = GeometricConfig(dense_width=160)
        model = GeometricModel(ModelConfig(device="cpu", threads=1, geometric=small))
        model.load()
        keyframes = [
            Keyframe(i, i * 2 * 10**8, image, ROOM, "camera", 24.0, "disparity", prior)
            for i, (image, prior) in enumerate(zip(images, odometry))
        ]
        windows = [Window(0, tuple(keyframes[:3]), 0), Window(1, tuple(keyframes[1:]), 2)]
        results.append([model.infer(window) for window in windows])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert a.posed.all() and np.array_equal(a.world_from_camera, b.world_from_camera)
            assert np.array_equal(a.depth, b.depth, equal_nan=True) and np.array_equal(a.confidence, b.confidence)
            assert a.figures == b.figures and a.note == b.note


def test_a_recorded_drive_in_traffic_follows_its_odometry() -> None:
    root = Path(os.environ.get("SPATIAL_FM_DATA", Path(__file__).parents[3] / "shared" / "data")) / "road"
    if not root.is_dir():
        pytest.skip(f"no recorded sequence at {root}; set SPATIAL_FM_DATA")
    frames = [s for s in SequenceFolder(root, SourceOptions()) if type(s).__name__ == "Frame"]
    poses = read_tum(root / "poses.txt")
    at = {int(stamp): pose for stamp, pose in zip(poses.stamps_ns, poses.poses)}
    keyframes = []
    for i in range(8, 20, 2):
        frame = frames[i]
        assert frame.camera is not None
        keyframes.append(
            Keyframe(i, frame.stamp_ns, frame.image, frame.camera, "camera", 9.0, "disparity", at[frame.stamp_ns])
        )
    small = GeometricConfig(dense_width=160)
    model = GeometricModel(ModelConfig(device="cpu", threads=2, geometric=small))
    model.load()
    prediction = model.infer(Window(0, tuple(keyframes), 0))
    assert "odometry" in prediction.note and prediction.posed.all()
    assert prediction.figures["explained_by_odometry"] > prediction.figures["explained_by_images"] + 0.05
    odom = np.array([keyframe.odom_from_camera for keyframe in keyframes])
    relative = invert_pose(odom[0]) @ odom
    scale = np.linalg.norm(relative[-1, :3, 3]) / np.linalg.norm(prediction.world_from_camera[-1, :3, 3])
    assert np.allclose(prediction.world_from_camera[:, :3, 3] * scale, relative[:, :3, 3], atol=1e-6)
    assert prediction.has_depth
