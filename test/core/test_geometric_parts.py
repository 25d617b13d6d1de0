"""Parts of the geometric model against exact geometry and plain twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.core.models.geometric.bundle import bundle_adjust
from spatial_fm_ros.core.models.geometric.features import Features, create_extractor
from spatial_fm_ros.core.models.geometric.matching import (
    PairGeometry,
    bearings,
    mutual_matches,
    rotation_between,
    verify,
)
from spatial_fm_ros.core.models.geometric.rotation_only import chain_rotations
from spatial_fm_ros.core.models.geometric.tracks import Tracks, build_tracks, keep_observations
from spatial_fm_ros.core.models.geometric.triangulation import parallax_angles, reproject, triangulate
from spatial_fm_ros.core.models.geometric.wide_baseline import likeness

K = np.array([[520.0, 0.0, 319.5], [0.0, 515.0, 239.5], [0.0, 0.0, 1.0]])
CPU = torch.device("cpu")


def blank_features(count: int) -> Features:
    return Features(np.arange(2.0 * count).reshape(-1, 2), torch.zeros((count, 4)), (640, 480))


def scene(seed: int, views: int = 5, points: int = 120) -> tuple[np.ndarray, np.ndarray, Tracks]:
    """camera_from_world [views, 4, 4], points [points, 3] and their exact observations."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform((-3, -2, 4), (3, 2, 9), (points, 3))
    poses = np.tile(np.eye(4), (views, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.05, (views, 3))).as_matrix()
    poses[:, :3, 3] = rng.normal(0, 0.1, (views, 3)) + np.arange(views)[:, None] * (0.3, 0.02, 0.0)
    local = np.einsum("vij,pj->pvi", poses[:, :3, :3], xyz) + poses[:, :3, 3]
    pixel = local @ K.T
    xy = (pixel[..., :2] / pixel[..., 2:]).reshape(-1, 2)
    view = np.tile(np.arange(views), points)
    return poses, xyz, Tracks(view, np.repeat(np.arange(points), views), xy, points)


def plain_tracks(counts: list[int], pairs: dict[tuple[int, int], np.ndarray]) -> set[frozenset[tuple[int, int]]]:
    """Union by repeated merging; drops features that share a view inside a component."""
    groups: list[set[tuple[int, int]]] = []
    for (a, b), matches in pairs.items():
        for i, j in matches.tolist():
            touched = [g for g in groups if (a, i) in g or (b, j) in g]
            merged = {(a, i), (b, j)}.union(*touched)
            groups = [g for g in groups if g not in touched] + [merged]
    result = set()
    for group in groups:
        views = [v for v, _ in group]
        clean = frozenset(node for node in group if views.count(node[0]) == 1)
        if len(clean) >= 2:
            result.add(clean)
    return result


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_tracks_equal_plain_union(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    pairs = {}
    for a in range(len(counts)):
        for b in range(a + 1, len(counts)):
            size = data.draw(st.integers(0, min(counts[a], counts[b])))
            left = data.draw(st.permutations(range(counts[a])))[:size]
            right = data.draw(st.permutations(range(counts[b])))[:size]
            pairs[a, b] = np.array(list(zip(left, right)), dtype=np.int64).reshape(-1, 2)
    tracks = build_tracks([blank_features(n) for n in counts], pairs)
    feature = (tracks.xy[:, 0] / 2).astype(int)
    found = {
        frozenset(zip(tracks.view[tracks.track == t].tolist(), feature[tracks.track == t].tolist()))
        for t in range(tracks.count)
    }
    assert found == plain_tracks(counts, pairs)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_exact_observations_triangulate_exactly(seed: int) -> None:
    poses, xyz, tracks = scene(seed)
    all_K = np.tile(K, (len(poses), 1, 1))
    points = triangulate(tracks, all_K, poses, np.ones(len(tracks.view), dtype=bool))
    assert np.allclose(points, xyz, atol=1e-6)
    error, depth = reproject(tracks, all_K, poses, points)
    assert error.max() < 1e-6 and (depth > 0).all()


def test_triangulation_without_two_views_is_unknown() -> None:
    poses, _, tracks = scene(1)
    points = triangulate(tracks, np.tile(K, (5, 1, 1)), poses, tracks.view == 2)
    assert np.isnan(points).all()
    assert np.isinf(reproject(tracks, np.tile(K, (5, 1, 1)), poses, points)[0]).all()


def test_parallax_angle_of_two_views_is_the_angle_between_their_rays() -> None:
    poses, xyz, tracks = scene(2, views=2)
    centre = np.linalg.inv(poses)[:, :3, 3]
    rays = xyz[:, None] - centre
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    truth = np.degrees(np.arccos((rays[:, 0] * rays[:, 1]).sum(1)))
    found = parallax_angles(tracks, poses, xyz, np.ones(len(tracks.view), dtype=bool))
    assert np.allclose(found, truth, atol=1e-6)


def test_keeping_observations_renumbers_tracks() -> None:
    _, _, tracks = scene(3, views=3, points=6)
    kept, old = keep_observations(tracks, (tracks.track % 2 == 0) & (tracks.view != 1))
    assert kept.count == 3 and old.tolist() == [0, 2, 4]
    assert np.allclose(kept.xy, tracks.xy[(tracks.track % 2 == 0) & (tracks.view != 1)])


@pytest.mark.parametrize("refine_focal", [False, True])
def test_bundle_adjustment_recovers_disturbed_views(refine_focal: bool) -> None:
    poses, xyz, tracks = scene(4, points=300)
    rng = np.random.default_rng(0)
    square = np.array([[520.0, 0, 319.5], [0, 520.0, 239.5], [0, 0, 1]])
    local = np.einsum("nij,nj->ni", poses[tracks.view, :3, :3], xyz[tracks.track]) + poses[tracks.view, :3, 3]
    pixel = local @ square.T
    tracks = Tracks(tracks.view, tracks.track, pixel[:, :2] / pixel[:, 2:], tracks.count)
    start = poses.copy()
    start[2:, :3, 3] += rng.normal(0, 0.02, (3, 3))
    guess = square.copy()
    if refine_focal:
        guess[0, 0] = guess[1, 1] = 540.0
    fixed = np.array([True, True, False, False, False])
    done = bundle_adjust(
        tracks,
        xyz + rng.normal(0, 0.02, xyz.shape),
        start,
        np.tile(guess, (5, 1, 1)),
        fixed,
        refine_focal=refine_focal,
        iterations=100,
    )
    assert np.allclose(done.K[:, 0, 0], 520.0, atol=0.5)
    assert np.allclose(done.camera_from_world[:2], start[:2], atol=1e-12)
    assert np.allclose(done.camera_from_world, poses, atol=2e-3)
    assert np.allclose(done.points, xyz, atol=2e-2)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_rotation_is_found_among_outliers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = Rotation.from_rotvec(rng.normal(0, 0.3, 3)).as_matrix()
    rays = bearings(rng.uniform((0, 0), (640, 480), (200, 2)), K)
    turned = rays @ truth.T
    turned[:40] = bearings(rng.uniform((0, 0), (640, 480), (40, 2)), K)
    found, left = rotation_between(rays, turned, 0.002)
    assert np.degrees(Rotation.from_matrix(found.T @ truth).magnitude()) < 0.3
    assert np.linalg.det(found) == pytest.approx(1.0)
    assert np.median(left[40:]) < 0.005


def two_views(translation: tuple[float, float, float], seed: int = 0) -> tuple[Features, Features, np.ndarray]:
    rng = np.random.default_rng(seed)
    xyz = rng.uniform((-3, -2, 4), (3, 2, 9), (400, 3))
    b_from_a = np.eye(4)
    b_from_a[:3, :3] = Rotation.from_rotvec((0.02, 0.1, -0.01)).as_matrix()
    b_from_a[:3, 3] = translation
    pixel_a, pixel_b = xyz @ K.T, (xyz @ b_from_a[:3, :3].T + b_from_a[:3, 3]) @ K.T
    xy_a = pixel_a[:, :2] / pixel_a[:, 2:] + rng.normal(0, 0.4, (400, 2))
    xy_b = pixel_b[:, :2] / pixel_b[:, 2:] + rng.normal(0, 0.4, (400, 2))
    xy_b[:80] = rng.uniform((0, 0), (640, 480), (80, 2))
    empty = torch.zeros((400, 4))
    return Features(xy_a, empty, (640, 480)), Features(xy_b, empty, (640, 480)), b_from_a


def test_verification_separates_parallax_from_rotation() -> None:
    identity = np.stack((np.arange(400), np.arange(400)), 1)
    a, b, truth = two_views((0.5, 0.0, 0.1))
    moved = verify(a, b, K, K, identity, 1.5, 20)
    assert len(moved) > 280 and (moved.matches[:, 0] >= 80).mean() > 0.97
    direction = truth[:3, 3] / np.linalg.norm(truth[:3, 3])
    found = moved.b_from_a[:3, 3] / np.linalg.norm(moved.b_from_a[:3, 3])
    assert np.degrees(np.arccos(found @ direction)) < 2.0
    assert moved.parallax_px > 4.0 and moved.parallax_deg > 2.0

    a, b, truth = two_views((0.0, 0.0, 0.0))
    turned = verify(a, b, K, K, identity, 1.5, 20)
    assert turned.parallax_px < 1.5
    assert np.degrees(Rotation.from_matrix(turned.rotation.T @ truth[:3, :3]).magnitude()) < 0.1
    assert len(verify(a, b, K, K, identity[:10], 1.5, 20)) == 0


def test_rotations_are_chained_within_the_largest_group() -> None:
    rng = np.random.default_rng(5)
    world = Rotation.from_rotvec(rng.normal(0, 0.3, (5, 3))).as_matrix()  # camera from world

    def pair(a: int, b: int) -> PairGeometry:
        return PairGeometry(np.zeros((50, 2), np.int64), np.eye(4), world[b] @ world[a].T, 0.0, 0.0, 60)

    poses, posed = chain_rotations(5, {(0, 1): pair(0, 1), (1, 3): pair(1, 3), (2, 4): pair(2, 4), (0, 3): pair(0, 3)})
    assert posed.tolist() == [True, True, False, True, False]
    assert np.allclose(poses[[0, 1, 3], :3, :3] @ world[0], world[[0, 1, 3]])
    assert np.allclose(poses[:, :3, 3], 0.0)


def test_mutual_matches_equal_plain_search() -> None:
    rng = np.random.default_rng(6)

    def features(count: int) -> Features:
        values = rng.normal(size=(count, 16))
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        return Features(np.zeros((count, 2)), torch.from_numpy(values.astype(np.float32)), (640, 480))

    a, b = features(50), features(40)
    table = a.descriptors.numpy() @ b.descriptors.numpy().T
    plain = [
        [i, j]
        for i in range(50)
        for j in range(40)
        if table[i, j] == table[i].max() == table[:, j].max() and table[i, j] > 0.3
    ]
    assert mutual_matches(a, b, 0.3).tolist() == plain
    assert likeness(a, [a, b])[0] == 1.0 and likeness(a, [a, b])[1] < 0.2
    nothing = Features(np.zeros((0, 2)), torch.zeros((0, 16)), (640, 480))
    assert mutual_matches(a, nothing, 0.0).shape == (0, 2)
    assert likeness(nothing, [a]).tolist() == [0.0] and likeness(a, [nothing]).tolist() == [0.0]


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random image with corners at many scales."""
    import cv2

    rng = np.random.default_rng(seed)
    image = np.zeros((height, width), np.float32)
    for size in (4, 8, 16, 40):
        noise = (rng.random((height // size + 2, width // size + 2)) > 0.5).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST) * size**0.5
    image = cv2.GaussianBlur(image, (0, 0), 1.0)
    return np.repeat((255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)[..., None], 3, 2)


@pytest.mark.parametrize("name", ["xfeat", "sift"])
def test_features_follow_a_shift(name: str) -> None:
    extract = create_extractor(name, 600, CPU)
    image = textured(250, 341)  # no multiple of the network's stride
    a, b = extract(image[:240, :330]), extract(image[5:245, 9:339])
    assert a.size == (330, 240) and 100 < len(a) <= 600
    assert (a.xy >= -0.5).all() and (a.xy <= (329.5, 239.5)).all()
    assert torch.allclose(a.descriptors.norm(dim=1), torch.ones(len(a)), atol=1e-4)
    matches = mutual_matches(a, b, 0.8)
    shift = a.xy[matches[:, 0]] - b.xy[matches[:, 1]]
    assert len(matches) > 80
    assert np.median(np.linalg.norm(shift - (9.0, 5.0), axis=1)) < (0.8 if name == "xfeat" else 0.1)
    again = extract(image[:240, :330])
    assert np.array_equal(a.xy, again.xy) and torch.equal(a.descriptors, again.descriptors)


@pytest.mark.parametrize("name", ["xfeat", "sift"])
@pytest.mark.parametrize("level", [0, 255])
def test_blank_images_have_no_features(name: str, level: int) -> None:
    assert len(create_extractor(name, 600, CPU)(np.full((96, 128, 3), level, np.uint8))) < 20


def test_unknown_features_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected xfeat or sift"):
        create_extractor("orb", 100, CPU)
