"""The parts of the plane sweep against plain twins: loops a reader can check by hand."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.models.geometric.dense_aggregate import best_plane, semi_global
from spatial_fm_ros.core.models.geometric.dense_confidence import FEATURES, WEIGHTS, calibrated, design
from spatial_fm_ros.core.models.geometric.dense_consistency import cross_view
from spatial_fm_ros.core.models.geometric.dense_surface import enlarge, smooth_planar
from spatial_fm_ros.core.models.geometric.dense_sweep import (
    ENERGY_FLOOR,
    PRODUCT_BOUNDS,
    agreement,
    box_mean,
    pair_warp,
    whiten,
)
from spatial_fm_ros.core.models.geometric.dense_views import parallax_deg, plan_views

HEIGHT, WIDTH = 14, 18
K = np.array([[20.0, 0.0, 8.7], [0.0, 21.0, 6.4], [0.0, 0.0, 1.0]])


def pose(rotation_deg: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def bilinear(image: np.ndarray, u: float, v: float) -> float:
    """Value at column u, row v; pixels outside count as zero."""
    total = 0.0
    for row in (int(np.floor(v)), int(np.floor(v)) + 1):
        for column in (int(np.floor(u)), int(np.floor(u)) + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                total += image[row, column] * (1 - abs(u - column)) * (1 - abs(v - row))
    return total


def plain_agreement(reference, sources, poses, inverse_depth, radius):
    """Pixel by pixel: lift to the hypothesis, move to the source, project, look up, correlate in windows."""
    product, energy = np.zeros((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH))
    for source, source_from_ref in zip(sources, poses, strict=True):
        for v in range(HEIGHT):
            for u in range(WIDTH):
                point = np.linalg.inv(K) @ [u, v, 1.0] / inverse_depth
                there = K @ (source_from_ref[:3, :3] @ point + source_from_ref[:3, 3])
                value = bilinear(source, there[0] / there[2], there[1] / there[2])
                product[v, u] += np.clip(value * reference[v, u], *PRODUCT_BOUNDS) / len(sources)
                energy[v, u] += value**2 / len(sources)
    return plain_box(product, radius) / np.sqrt(plain_box(energy, radius) + ENERGY_FLOOR)


def plain_box(values: np.ndarray, radius: int) -> np.ndarray:
    padded = np.pad(values, radius)
    size = 2 * radius + 1
    return np.array([[padded[v : v + size, u : u + size].sum() / size**2 for u in range(WIDTH)] for v in range(HEIGHT)])


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    turn=st.tuples(*[st.floats(-6, 6)] * 3),
    shift=st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    inverse_depth=st.floats(0.1, 1.0),
    seed=st.integers(0, 99),
)
def test_sweep_equals_its_plain_twin(turn, shift, inverse_depth: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, sources = rng.standard_normal((HEIGHT, WIDTH)), rng.standard_normal((2, HEIGHT, WIDTH))
    poses = [pose(turn, shift), pose((0, 3, 0), (0.2, 0, 0))]
    Kt = torch.as_tensor(K)
    warps = [pair_warp(Kt, Kt, torch.as_tensor(p), (HEIGHT, WIDTH)) for p in poses]
    planes = torch.tensor([0.5 * inverse_depth, inverse_depth], dtype=torch.float32)[:, None, None]
    fast = agreement(torch.as_tensor(reference).float(), torch.as_tensor(sources).float(), warps, planes, (1,), chunk=1)
    assert np.allclose(fast[1].numpy(), plain_agreement(reference, sources, poses, inverse_depth, 1), atol=2e-3)


def test_planes_and_surfaces_of_one_depth_agree() -> None:
    rng = np.random.default_rng(0)
    image = torch.as_tensor(rng.standard_normal((3, HEIGHT, WIDTH))).float()
    Kt = torch.as_tensor(K)
    warps = [pair_warp(Kt, Kt, torch.as_tensor(pose((1, 2, 3), (0.1 * s, 0.1, 0))), (HEIGHT, WIDTH)) for s in (1, 2)]
    planes = torch.linspace(0.2, 0.6, 5)[:, None, None]
    as_planes = agreement(image[0], image[1:], warps, planes, (2, 1))
    as_surfaces = agreement(image[0], image[1:], warps, planes.expand(-1, HEIGHT, WIDTH).contiguous(), (2, 1))
    assert torch.allclose(as_planes, as_surfaces, atol=1e-5)


def test_whitening_ignores_gain_and_offset_and_gives_nothing_on_blank_images() -> None:
    rng = np.random.default_rng(0)
    grey = torch.as_tensor(rng.uniform(20, 120, (1, HEIGHT, WIDTH))).float()
    white, contrast = whiten(grey, 2)
    assert torch.allclose(white, whiten(1.7 * grey + 10.0, 2)[0], atol=0.01)
    assert (contrast > 5).all()
    blank, none = whiten(torch.full((1, HEIGHT, WIDTH), 255.0), 2)
    assert blank.abs().max() < 1e-3 and none.max() < 0.1


@given(radius=st.integers(0, 3))
@settings(max_examples=4, deadline=None, derandomize=True)
def test_box_mean_equals_its_plain_twin(radius: int) -> None:
    values = np.random.default_rng(radius).standard_normal((HEIGHT, WIDTH))
    assert np.allclose(box_mean(torch.as_tensor(values), radius).numpy(), plain_box(values, radius))


def test_semi_global_equals_its_plain_twin() -> None:
    rng = np.random.default_rng(3)
    planes, height, width = 6, 5, 7
    cost, guide = rng.random((planes, height, width)), rng.uniform(0, 60, (height, width))
    small, large = 0.05, 0.5
    total = np.zeros_like(cost)
    for dv, du in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        path = np.zeros_like(cost)
        for v in range(height)[:: dv or 1]:
            for u in range(width)[:: du or 1]:
                path[:, v, u] = cost[:, v, u]
                if 0 <= v - dv < height and 0 <= u - du < width:
                    before = path[:, v - dv, u - du]
                    jump = max(large / (1 + abs(guide[v, u] - guide[v - dv, u - du]) / 10), 2 * small)
                    for d in range(planes):
                        ways = [before[d], before.min() + jump]
                        ways += [before[n] + small for n in (d - 1, d + 1) if 0 <= n < planes]
                        path[d, v, u] += min(ways) - before.min()
        total += path
    fast = semi_global(torch.as_tensor(cost), torch.as_tensor(guide), small, large)
    assert np.allclose(fast.numpy(), total / 4)


@given(peak=st.floats(1.0, 8.0))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_best_plane_finds_the_vertex_of_a_parabola(peak: float) -> None:
    cost = (torch.arange(10.0) - peak).square()[:, None, None].expand(10, 2, 3).contiguous()
    position, lowest, second = best_plane(cost)
    assert torch.allclose(position, torch.full((2, 3), peak), atol=1e-4)
    assert (second > lowest).all()


def test_smoothing_keeps_slopes_and_steps() -> None:
    v, u = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    plane = 3.0 + 0.8 * v - 0.3 * u
    terraces = torch.round(plane)
    smoothed = smooth_planar(terraces, 3, 2.0, passes=2)
    inner = (slice(6, -6), slice(6, -6))
    assert (smoothed - plane)[inner].abs().mean() < 0.4 * (terraces - plane)[inner].abs().mean()
    step = torch.where(u < 25, 10.0, 30.0)
    assert torch.allclose(smooth_planar(step, 3, 2.0), step)
    assert set(enlarge(step, 5.0, (80, 100)).unique().tolist()) == {10.0, 30.0}


def test_cross_view_counts_agreement_and_contradiction() -> None:
    """A wall at 2 seen by three views; one of them claims 4, so it looks through the others' wall."""
    poses = torch.as_tensor(np.stack([pose((0, 0, 0), (x, 0, 0)) for x in (0.0, 0.1, 0.2)]))
    inverse = torch.full((3, HEIGHT, WIDTH), 0.5)
    inverse[2] = 0.25
    told = cross_view(0, inverse, torch.as_tensor(np.stack([K] * 3)), poses)
    middle = (slice(3, -3), slice(4, -4))
    assert (told.same[middle] == 1).all() and (told.close[middle] == 1).all()
    assert (told.through[middle] == 1).all() and (told.seen[middle] == 2).all()
    assert torch.allclose(told.inverse_depth[middle], torch.tensor(0.5))


@given(angle=st.floats(1e-6, 179.0))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_parallax_is_exact_for_tiny_and_wide_angles(angle: float) -> None:
    half = np.radians(angle) / 2
    centres = np.array([[np.sin(half), 0, -np.cos(half)], [-np.sin(half), 0, -np.cos(half)]])
    assert np.isclose(parallax_deg(np.zeros((1, 3)), centres)[0, 1, 0], angle, rtol=1e-6)


def test_sources_with_parallax_are_preferred_and_the_range_covers_the_points() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -1, 3], [1, 1, 6], (200, 3))
    poses = np.stack([pose((0, 0, 0), (x, 0, 0)) for x in (0.0, 0.001, 0.5, 0.02)])
    plans = plan_views(points, np.ones((4, 200), bool), poses, np.stack([K] * 4), (HEIGHT, WIDTH), 2)
    assert plans[0] is not None and plans[0].sources[0] == 2 and 1 not in plans[0].sources
    assert plans[0].near > 1 / points[:, 2].min() and plans[0].far < 1 / points[:, 2].max()


def test_confidence_needs_another_view_and_grows_with_evidence() -> None:
    weak, strong = torch.zeros(1, len(FEATURES), 1, 1), torch.zeros(1, len(FEATURES), 1, 1)
    seen = {"score": 0.9, "coarse": 0.9, "margin": 0.3, "contrast": 4.0, "sensitivity": 3.0, "around": 1.0}
    for name, value in {**seen, "same": 6.0, "close": 6.0, "seen": 6.0, "sparse": 0.95}.items():
        strong[0, FEATURES.index(name)] = value
    weak[0, FEATURES.index("seen")] = 6
    assert design(strong).shape[1] == len(WEIGHTS)
    assert calibrated(strong) > 0.9 and calibrated(weak) < 0.3
    strong[0, FEATURES.index("seen")] = 0
    assert calibrated(strong) == 0.0
