"""Local planes, thinning, and the similarity fit on clouds whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.lidar.local_map import one_per_cell
from spatial_fm_ros.core.lidar.planes import PlaneCloud, Planes, normal_equations, stepped
from spatial_fm_ros.core.lidar.similarity_fit import Priors, Source, box_ratio, fit, target_of

PRIORS = Priors(rotation=0.03, translation=0.05, box=0.15)


def room(count, seed):
    """Points evenly on four walls and the floor of a room of 6 x 4 x 2.5 m, and on a cupboard in it."""
    rng = np.random.default_rng(seed)
    sides = [(0, 0.0), (0, 6.0), (1, 0.0), (1, 4.0), (2, 0.0)]
    points = []
    for axis, value in sides:
        part = rng.uniform(0, 1, (count // 6, 3)) * (6.0, 4.0, 2.5)
        part[:, axis] = value
        points.append(part)
    cupboard = rng.uniform(0, 1, (count // 6, 3)) * (0.8, 0.8, 1.8) + (4.5, 0.5, 0.0)
    cupboard[:, 0] = np.where(rng.random(len(cupboard)) < 0.5, 4.5, cupboard[:, 0])
    cupboard[:, 1] = np.where(cupboard[:, 0] == 4.5, cupboard[:, 1], 1.3)
    return np.concatenate([*points, cupboard])


def seen_from(points, centre, truth, noise, seed):
    """The points as a network gives them: in its own units, noisy along the rays of three cameras at `centre`."""
    rng = np.random.default_rng(seed)
    arms = points - centre
    ranges = np.linalg.norm(arms, axis=1)
    noisy = centre + arms * np.exp(rng.normal(0, noise, (len(points), 1)))
    own = truth.inverse()
    return Source(
        own.apply(noisy),
        (arms / ranges[:, None]) @ own.R.T,
        ranges * own.scale,
        rng.integers(0, 3, len(points)),
        own.apply(centre),
    )


def test_planes_of_a_wall_have_its_normal():
    rng = np.random.default_rng(0)
    wall = rng.uniform(-2, 2, (2000, 3)) * (0.0, 1.0, 1.0) + rng.normal(0, 0.01, (2000, 3))
    places = rng.uniform(-1.5, 1.5, (50, 3)) * (0.05, 1.0, 1.0)
    planes = PlaneCloud(wall, 0.4).planes_at(places)
    assert planes.flat.all()
    assert np.abs(planes.normal[:, 0]).min() > 0.9
    assert planes.distance(places) == pytest.approx(np.abs(places[:, 0]), abs=0.03)


def test_no_plane_where_there_is_none():
    rng = np.random.default_rng(1)
    cube = rng.uniform(-1, 1, (3000, 3))
    inside = PlaneCloud(cube, 0.5).planes_at(rng.uniform(-0.5, 0.5, (200, 3)))
    assert inside.flat.mean() < 0.4
    away = PlaneCloud(cube, 0.5).planes_at(np.full((5, 3), 9.0))
    assert not away.flat.any() and np.isfinite(away.normal).all() and np.isfinite(away.centre).all()
    few = PlaneCloud(cube[:3], 5.0).planes_at(cube[:3])
    assert not few.flat.any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_normal_equations_are_the_derivative(seed):
    rng = np.random.default_rng(seed)
    points, centres, weights = rng.normal(0, 3, (40, 3)), rng.normal(0, 3, (40, 3)), rng.uniform(0, 2, 40)
    normals = rng.normal(0, 1, (40, 3))
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    planes, pivot = Planes(centres, normals, np.ones(40, bool)), rng.normal(0, 1, 3)
    exact = normal_equations(points, planes, weights, pivot)

    def residuals(step):
        moved = stepped(Sim3.identity(), step, pivot).apply(points)
        return np.einsum("mi,mi->m", normals, moved - centres)

    J = np.stack([(residuals(e) - residuals(-e)) / 2e-6 for e in 1e-6 * np.eye(7)], axis=1)
    np.testing.assert_allclose(exact.information, J.T @ (weights[:, None] * J), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(exact.gradient, J.T @ (weights * residuals(np.zeros(7))), rtol=1e-5, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(0.05, 1.0))
def test_one_point_of_every_cell(seed, size):
    points = np.random.default_rng(seed).uniform(-2, 2, (300, 3))
    kept = one_per_cell(points, size)
    cells = {tuple(c) for c in np.floor((points - points.min(axis=0)) / size).astype(int)}
    of_kept = [tuple(c) for c in np.floor((kept - points.min(axis=0)) / size).astype(int)]
    assert len(of_kept) == len(set(of_kept)) and set(of_kept) == cells
    assert {tuple(p) for p in kept} <= {tuple(p) for p in points}


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_room_is_fitted_to_its_scale(seed):
    """From a beginning 4 % and 1 degree off; noise of 2 % along the rays."""
    rng = np.random.default_rng(seed)
    truth = Sim3(np.exp(rng.uniform(-2, 2)), Rotation.random(random_state=rng).as_matrix(), rng.normal(0, 5, 3))
    centre = np.array([2.0, 2.0, 1.2])
    source = seen_from(room(1500, seed), centre, truth, 0.02, seed)
    target = target_of(one_per_cell(room(12_000, seed + 1), 0.06), 0.1)
    wrong = np.concatenate([rng.normal(0, 0.01, 3), rng.normal(0, 0.02, 3), [rng.uniform(-0.04, 0.04)]])
    found = fit(source, target, stepped(truth, wrong, centre), 0.4, PRIORS)
    error = found.sim.log_scale - truth.log_scale
    assert abs(error) < 0.006
    assert abs(error) < 4 * np.hypot(found.sigma, found.systematic)
    assert found.after_m <= found.before_m + 1e-3 and found.inlier_share > 0.5
    assert np.linalg.norm(found.sim.apply(source.centre) - centre) < 0.05


def test_a_single_wall_does_not_swallow_the_cloud():
    """Shrunk onto the wall, every residual would vanish; cameras' place and boxes hold against that."""
    rng = np.random.default_rng(4)
    wall = rng.uniform(-1, 1, (9000, 3)) * (0.0, 2.0, 1.5) + (3.0, 0.0, 0.0)
    truth = Sim3(2.0, np.eye(3), np.zeros(3))
    source = seen_from(wall[:900], np.zeros(3), truth, 0.02, 4)
    target = target_of(one_per_cell(wall[900:] + rng.normal(0, 0.005, (8100, 3)), 0.08), 0.12)
    start = Sim3(2.1, np.eye(3), np.zeros(3))
    found = fit(source, target, start, 0.4, PRIORS)
    assert abs(found.sim.log_scale - truth.log_scale) < 0.03
    assert found.systematic > 0.01  # 5 cm of place over 3 m: it knows that it does not know


def test_boxes_tell_the_size_roughly():
    source = seen_from(room(3000, 5), np.array([2.0, 2.0, 1.2]), Sim3.identity(), 0.02, 5)
    target = target_of(one_per_cell(room(12_000, 6), 0.06), 0.1)
    centre = source.centre
    for factor in (0.7, 1.0, 1.4):
        start = Sim3(factor, np.eye(3), (1 - factor) * centre)
        assert box_ratio(source, target, start) == pytest.approx(-np.log(factor), abs=0.1)


def test_nothing_in_common_is_no_fit():
    source = seen_from(room(900, 7), np.array([2.0, 2.0, 1.2]), Sim3.identity(), 0.0, 7)
    target = target_of(one_per_cell(room(6000, 8), 0.06) + 50.0, 0.1)
    assert fit(source, target, Sim3.identity(), 0.5, PRIORS) is None
    assert box_ratio(source, target, Sim3.identity()) == 0.0
