"""The hybrid on rendered windows with exact truth: never worse than the better of the two it joins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.align.world import World
from spatial_fm_ros.core.config import (
    Config,
    FoundationConfig,
    GeometricConfig,
    HybridConfig,
    ModelConfig,
    OracleConfig,
)
from spatial_fm_ros.core.errors import InputError, ModelError
from spatial_fm_ros.core.geometry.rotations import rotation_angle
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.create import create_observers
from spatial_fm_ros.core.models.geometric.dense_hint import DepthHint, search_around
from spatial_fm_ros.core.models.geometric.model import GeometricModel
from spatial_fm_ros.core.models.geometric.parallel import Tasks
from spatial_fm_ros.core.models.hybrid.model import HybridModel
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.models.registry import create_model
from spatial_fm_ros.core.types import Camera, Depth, Keyframe, Prediction, Window, WindowState
from spatial_fm_ros.evaluation.relative_pose import pair_errors
from spatial_fm_ros.simulation.camera import SimulatedCamera
from spatial_fm_ros.simulation.worlds import build_world

CAMERA = Camera(320, 240, np.array([[260.0, 0.0, 159.5], [0.0, 260.0, 119.5], [0.0, 0.0, 1.0]]))
OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
SMALL = GeometricConfig(dense_width=160)
NETWORK = OracleConfig(rotation_error_deg=1.0, direction_error_deg=5.0, warp=0.07, outliers=0.02)


def pose(x: float, y: float, yaw_deg: float) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3] = Rotation.from_euler("z", yaw_deg, degrees=True).as_matrix() @ OPTICAL
    result[:3, 3] = (x, y, 1.2)
    return result


#: Keyframes by number: seven sideways, then three that turn on the spot.
WAY = [pose(2.0 + 0.02 * i, 2.0 + 0.14 * i, -1.5 * i) for i in range(7)]
WAY += [pose(2.12, 2.84, -9.0 + 5.0 * i) for i in range(1, 4)]


class Room:
    """The truth at stamps that count the poses of WAY."""

    def __init__(self) -> None:
        self.world = build_world("room", detail=0.3)
        self.images = [SimulatedCamera(self.world, CAMERA).render(p) for p in WAY]

    def world_from_camera(self, stamp_ns: int, frame_id: str = "") -> np.ndarray:
        if not 0 <= stamp_ns < len(WAY):
            raise InputError("no truth")
        return WAY[stamp_ns]

    def depth(self, stamp_ns: int, camera: Camera, frame_id: str = "") -> Depth:
        return SimulatedCamera(self.world, camera).depth(self.world_from_camera(stamp_ns))


@pytest.fixture(scope="module")
def room() -> Room:
    return Room()


def window(room: Room, ids: Sequence[int], overlap: int = 0, blank: bool = False) -> Window:
    """`blank`: other keyframes, of the same time, that show nothing."""
    images = [np.full_like(image, 90) if blank else image for image in room.images]
    keyframes = (Keyframe(i + 100 * blank, i, images[i], CAMERA, "camera", 24.0, "disparity") for i in ids)
    return Window(0, tuple(keyframes), overlap)


def config(name: str = "hybrid", oracle: OracleConfig = NETWORK, prior: str = "oracle") -> ModelConfig:
    return ModelConfig(
        name=name, device="cpu", threads=2, geometric=SMALL, oracle=oracle, hybrid=HybridConfig(prior)
    )


def hybrid(room: Room, oracle: OracleConfig = NETWORK) -> HybridModel:
    model = create_model(config(oracle=oracle))
    assert isinstance(model, HybridModel) and isinstance(model.prior, OracleModel)
    model.prior.truth = room
    model.load()
    return model


def geometric() -> GeometricModel:
    model = GeometricModel(config("geometric"))
    model.load()
    return model


@pytest.fixture(scope="module")
def images_alone(room: Room) -> Prediction:
    """What the geometric model makes of the first five keyframes."""
    return geometric().infer(window(room, range(5)))


def judged(prediction: Prediction, room: Room, ids: Sequence[int]) -> tuple[float, float, float, float]:
    """Rotation and direction of neighbours (degrees, mean), AbsRel after one scale, share of pixels within 5 %."""
    height, width = prediction.depth.shape[1:]
    truth = np.stack([room.depth(i, CAMERA.resized(width, height)) for i in ids])
    rotation, direction = pair_errors(prediction.world_from_camera, np.array([WAY[i] for i in ids]), neighbours=True)
    known = np.isfinite(prediction.depth)
    ratio = prediction.depth[known].astype(np.float64) / truth[known]
    wrong = np.abs(ratio / np.median(ratio) - 1.0)
    within = float((wrong < 0.05).sum() / known.size)
    return float(rotation.mean()), float(direction.mean()), float(wrong.mean()), within


def test_a_solved_window_is_better_than_both(room: Room, images_alone: Prediction) -> None:
    ids = range(5)
    model = hybrid(room)
    mine = model.infer(window(room, ids))
    assert mine.state is WindowState.OK and mine.posed.all() and not mine.metric and mine.continues
    own, prior = images_alone, model.prior.infer(window(room, ids))
    assert mine.depth.shape == own.depth.shape and np.allclose(mine.K, own.K)
    by_both, by_images, by_prior = (judged(each, room, ids) for each in (mine, own, prior))
    assert by_both[0] < 0.3 * by_prior[0] and by_both[0] < by_images[0] + 0.02
    assert by_both[1] < 0.7 * by_prior[1] and by_both[1] < by_images[1] + 0.3
    assert by_both[2] < min(by_images[2], 0.7 * by_prior[2])
    assert by_both[3] > max(by_images[3], by_prior[3]) + 0.05
    assert 0.04 < mine.figures["prior_depth_sigma"] < 0.16
    sure = mine.confidence >= 0.5
    assert sure.mean() > 0.8 and (mine.confidence[~np.isfinite(mine.depth)] == 0).all()


def test_a_turn_has_the_images_rotations_and_the_depth_of_what_was_known(room: Room) -> None:
    model = hybrid(room)
    before = model.infer(window(room, range(3, 7)))
    model.geometric.reset()  # with its older keyframes it would see a way
    ids = range(6, 10)
    turn = model.infer(window(room, ids, overlap=1))
    assert turn.state is WindowState.NO_PARALLAX and turn.posed.all() and turn.has_depth
    assert "turn" in turn.note and "oracle" in turn.note
    rotation, _, absrel, within = judged(turn, room, ids)
    assert rotation < 0.15 and absrel < 0.06
    prior = judged(model.prior.infer(window(room, ids)), room, ids)
    assert absrel < 0.8 * prior[2] and within > prior[3]
    # The keyframe that both windows hold has the same depth in both: the scale goes on.
    ratio = turn.depth[0] / before.depth[3]
    assert np.nanmedian(np.abs(np.log(ratio))) < 0.02
    way = np.linalg.norm(np.ptp(turn.world_from_camera[:, :3, 3], axis=0))
    assert way < 0.02 * np.nanmedian(turn.depth)


def test_a_camera_that_only_turns_makes_one_map_with_depth(room: Room) -> None:
    """Windows of a turn hang together though each window's prior is bent in another way."""
    model = hybrid(room)
    whole = Config(model=model.config)
    seconds = [6, 6, 7, 7, 8, 8, 9, 9]
    keyframes = [Keyframe(i, t, room.images[t], CAMERA, "camera", 24.0, "disparity") for i, t in enumerate(seconds)]
    world, results = World(whole, create_observers(whole, Sensors(whole.intake))), []
    for start in (0, 2, 4):
        given = Window(start, tuple(keyframes[start : start + 4]), 2 if start else 0)
        results.append((given, world.integrate(given, model.infer(given))))
    assert len(world.submaps) == 1
    seams = [integrated.seam for _, integrated in results[1:]]
    assert all(seam is not None and seam.accepted and seam.residual < 0.01 for seam in seams)
    posed = [keyframe for _, integrated in results for keyframe in integrated.keyframes]
    assert len(posed) == len(keyframes)
    ratio = [np.nanmedian(k.depth / room.depth(k.stamp_ns, k.camera)) for k in posed]
    assert np.std(np.log(ratio)) < 0.12
    turned_by = rotation_angle(posed[0].world_from_camera[:3, :3].T @ posed[-1].world_from_camera[:3, :3])
    assert np.degrees(turned_by) == pytest.approx(15.0, abs=0.3)


def test_a_window_without_texture_is_the_priors(room: Room) -> None:
    ids = range(4)
    model = hybrid(room)
    mine = model.infer(window(room, ids, blank=True))
    prior = model.prior.infer(window(room, ids))
    assert mine.state is WindowState.OK and mine.posed.all() and not mine.continues
    assert np.allclose(mine.world_from_camera, prior.world_from_camera)
    assert np.median(np.abs(mine.depth / prior.depth[:, ::2, ::2] - 1.0)) < 0.01
    assert np.median(mine.confidence) == pytest.approx(np.median(prior.confidence), abs=0.05)
    assert "cameras and depth from oracle" in mine.note and "too few features" in mine.note


def test_a_search_around_a_bent_surface_finds_the_true_one(room: Room) -> None:
    ids, rng = range(4), np.random.default_rng(0)
    grid = CAMERA.resized(160, 120)
    truth = np.stack([room.depth(i, grid) for i in ids])
    K, poses = np.array([CAMERA.K] * 4), np.array(WAY[:4])
    rays = np.stack(np.meshgrid(np.arange(160), np.arange(120), [1.0]), -1)[::8, ::8, 0] @ np.linalg.inv(grid.K).T
    points = (rays * truth[0, ::8, ::8, None]).reshape(-1, 3) @ poses[0, :3, :3].T + poses[0, :3, 3]
    nodes = rng.normal(0, 0.04, (4, 12, 16)).astype(np.float32)
    bent = truth * np.exp(np.stack([cv2.resize(node, (160, 120), interpolation=cv2.INTER_CUBIC) for node in nodes]))
    bent[:, :10, :10] = np.nan
    sigma = torch.full((120, 160), 0.04)
    hints = {i: DepthHint(torch.from_numpy(np.nan_to_num(1.0 / bent[i])).float(), sigma) for i in (0, 1, 2)}
    images, seen = np.stack(room.images[:4]), np.ones((4, len(points)), bool)
    found = search_around(hints, images, K, poses, points, seen, SMALL, "cpu", Tasks(2))
    assert sorted(found) == [0, 1, 2]
    for i, depth in found.items():
        assert np.isnan(depth[:10, :10]).all() and np.isfinite(depth[10:]).all()
        before, after = (np.abs(each[12:] / truth[i, 12:] - 1.0).mean() for each in (bent[i], depth))
        assert after < 0.85 * before
    # What is said, is said of views that others see; a window whose points are too few has none.
    assert search_around(hints, images, K, poses, points[:5], seen[:, :5], SMALL, "cpu", Tasks()) == {}


def test_a_prior_that_is_far_off_changes_nothing(room: Room, images_alone: Prediction) -> None:
    ids = range(5)
    model = hybrid(room, OracleConfig(rotation_error_deg=40.0, direction_error_deg=60.0, warp=0.8))
    mine, own = model.infer(window(room, ids)), images_alone
    assert np.array_equal(mine.world_from_camera, own.world_from_camera)
    assert np.array_equal(mine.depth, own.depth, equal_nan=True) and np.array_equal(mine.confidence, own.confidence)
    assert mine.note.startswith("oracle is far off")
    blank = model.infer(window(room, ids, blank=True))
    assert blank.state is WindowState.NO_TEXTURE and not blank.posed.any()
    # The prior of another run is judged anew.
    model.reset()
    assert model.infer(window(room, ids, blank=True)).posed.all()


def test_keyframes_that_match_nothing_stand_where_the_prior_has_them(room: Room) -> None:
    ids = range(5)
    model = hybrid(room)
    given = window(room, ids)
    last = given.keyframes[-1]
    dark = replace(last, image=np.full_like(last.image, 60))
    mine = model.infer(replace(given, keyframes=(*given.keyframes[:-1], dark)))
    assert mine.posed.all() and "1 keyframes stand where oracle has them" in mine.note
    rotation, direction, _, _ = judged(mine, room, ids)
    assert rotation < 1.0 and direction < 6.0
    assert np.isfinite(mine.depth[-1]).mean() > 0.9 and mine.confidence[-1].max() < 0.9


def test_a_prior_that_says_nothing_or_fails_leaves_geometric_alone(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = range(3)
    lost = Window(0, tuple(replace(k, stamp_ns=k.stamp_ns + 100) for k in window(room, ids).keyframes), 0)
    model, own = hybrid(room), geometric().infer(window(room, ids))
    mine = model.infer(lost)
    assert np.allclose(mine.world_from_camera, own.world_from_camera) and "oracle says nothing" in mine.note
    no_camera = Window(0, tuple(replace(k, camera=None) for k in window(room, ids).keyframes), 0)
    uncalibrated = hybrid(room).infer(no_camera)
    assert uncalibrated.posed.all() and "needs the camera's calibration" in uncalibrated.note


def test_one_view_is_the_priors(room: Room) -> None:
    mine = hybrid(room).infer(window(room, [2]))
    assert mine.posed.tolist() == [True] and np.isfinite(mine.depth).mean() > 0.9


def test_metres_of_the_prior_stay_metres(room: Room) -> None:
    ids = range(4)
    mine = hybrid(room, replace(NETWORK, random_gauge=False)).infer(window(room, ids))
    assert mine.metric
    truth = np.stack([room.depth(i, CAMERA.resized(*mine.depth.shape[:0:-1])) for i in ids])
    assert np.nanmedian(mine.depth / truth) == pytest.approx(1.0, abs=0.1)
    steps = np.linalg.norm(np.diff(mine.world_from_camera[:, :3, 3], axis=0), axis=1)
    assert np.median(steps) == pytest.approx(np.hypot(0.02, 0.14), rel=0.12)


def test_random_weights_mark_everything(room: Room) -> None:
    small = FoundationConfig(image_width=112)
    model = create_model(replace(config(prior="nano"), checkpoint="random:tiny", foundation=small))
    model.load()
    assert model.random_weights and "RANDOM WEIGHTS" in model.weights
    for blank in (False, True):
        mine = model.infer(window(room, range(3), blank=blank))
        assert mine.note.startswith("RANDOM WEIGHTS") and mine.note.count("RANDOM") == 1 and not mine.metric


def test_a_prior_that_cannot_be_loaded_says_why() -> None:
    model = create_model(replace(config(prior="vggt"), checkpoint=str(Path("nowhere") / "weights.safetensors")))
    with pytest.raises(ModelError, match="nowhere"):
        model.load()
    with pytest.raises(ModelError, match="before load"):
        create_model(config()).infer(Window(0, (), 0))
    with pytest.raises(ModelError, match="its own prior"):
        create_model(config(prior="hybrid"))
    with pytest.raises(ModelError, match="Unknown model 'nobody'"):
        create_model(config(prior="nobody"))
