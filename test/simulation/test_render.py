"""The fast paths of rendering against plain twins: ray casting, texture look-up, smooth edges."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from spatial_fm_ros.core.types import Camera
from spatial_fm_ros.simulation.__main__ import main
from spatial_fm_ros.simulation.atlas import Atlas
from spatial_fm_ros.simulation.camera import CameraModel, SimulatedCamera
from spatial_fm_ros.simulation.noise import dead_leaves, fractal
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.truth import Truth
from spatial_fm_ros.simulation.world import World
from spatial_fm_ros.simulation.worlds import build_world


def plain_cast(world: World, origin: np.ndarray, direction: np.ndarray) -> float:
    """Distance to the first of all triangles by the textbook (Moeller and Trumbore 1997)."""
    a, b, c = (world.triangles[:, i] for i in range(3))
    p = np.cross(direction, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / np.einsum("ij,ij->i", b - a, p)
        u = np.einsum("ij,ij->i", origin - a, p) * inverse
        q = np.cross(origin - a, b - a)
        v = q @ direction * inverse
        t = np.einsum("ij,ij->i", c - a, q) * inverse
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-6)
    return float(t[hit].min()) if hit.any() else np.inf


def test_cast_equals_the_plain_intersection() -> None:
    world = build_world("street", 0, 0.3)
    rng = np.random.default_rng(1)
    directions = rng.standard_normal((300, 3)).astype(np.float32)
    origin = np.array([20.0, 0.3, 1.2])
    hits = world.cast(origin, directions)
    plain = np.array([plain_cast(world, origin, d.astype(float)) for d in directions])
    assert np.array_equal(np.isinf(hits.distance), np.isinf(plain)) and np.isinf(plain).any()
    known = np.isfinite(plain)
    assert np.abs(hits.distance[known] - plain[known]).max() < 1e-3
    assert np.all((hits.uv >= -1e-4) & (hits.uv <= 1.8)) and np.all((hits.cosine >= 0) & (hits.cosine <= 1.001))


def test_atlas_lookup_equals_plain_bilinear_lookup() -> None:
    rng = np.random.default_rng(2)
    shapes = [(64, 48), (7, 200), (128, 128), (5, 5)]
    textures = [rng.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]
    atlas = Atlas(textures)
    which = rng.integers(0, 4, 3000)
    uv = rng.uniform(0, 1, (3000, 2)).astype(np.float32)
    found = atlas.sample(which, uv, np.zeros(3000, np.float32)).astype(float)
    for i, texture in enumerate(textures):
        h, w = texture.shape[:2]
        at = uv[which == i].astype(float) * (w, h) - 0.5
        x, y = np.clip(at[:, 0], 0, w - 1), np.clip(at[:, 1], 0, h - 1)
        x0, y0 = np.minimum(x.astype(int), w - 2), np.minimum(y.astype(int), h - 2)
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]
        t = texture.astype(float)
        above = t[y0, x0] * (1 - fx) + t[y0, x0 + 1] * fx
        below = t[y0 + 1, x0] * (1 - fx) + t[y0 + 1, x0 + 1] * fx
        # The look-up rounds places to 1/32 texel: up to 8 grey levels in white noise.
        error = np.abs(found[which == i] - (above * (1 - fy) + below * fy))
        assert error.max() < 10 and error.mean() < 2.5


def test_coarser_levels_are_means() -> None:
    texture = np.random.default_rng(3).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    centre = np.full((1, 2), 0.5, np.float32)
    found = Atlas([texture]).sample(np.zeros(1, np.int64), centre, np.full(1, 6.0, np.float32))
    assert np.abs(found[0].astype(float) - texture.mean((0, 1))).max() < 8


def test_smooth_edges_come_closer_to_a_finely_sampled_image() -> None:
    truth = Truth(get_scenario("room_drive", detail=0.3))
    pose = truth.world_from_camera(truth.scenario.start_ns + 20_000_000_000)
    K = np.array([[140.0, 0, 79.5], [0, 140.0, 59.5], [0, 0, 1]])
    small = Camera(160, 120, K)
    fine = SimulatedCamera(truth.world, small.resized(640, 480), CameraModel(antialias=False)).render(pose)
    reference = cv2.resize(fine, (160, 120), interpolation=cv2.INTER_AREA).astype(float)
    rough = SimulatedCamera(truth.world, small, CameraModel(antialias=False)).render(pose)
    smooth = SimulatedCamera(truth.world, small, CameraModel(antialias=True)).render(pose)
    worst = [np.percentile(np.abs(image - reference), 99) for image in (rough, smooth)]
    assert worst[1] < 0.8 * worst[0]


def test_fields_are_normal_and_repeatable() -> None:
    for height, width in ((100, 333), (1, 64), (40, 2)):
        field = fractal(np.random.default_rng(5), height, width)
        assert field.shape == (height, width) and abs(field.mean()) < 1e-4 and abs(field.std() - 1) < 1e-3
    one, two = (dead_leaves(np.random.default_rng(6), 80, 90, 2, 30) for _ in range(2))
    assert np.array_equal(one, two) and one.shape == (80, 90, 3)


def test_painting_in_threads_is_repeatable() -> None:
    build_world.cache_clear()
    first = build_world("room", 7, 0.15).paint.atlas.image
    build_world.cache_clear()
    assert np.array_equal(first, build_world("room", 7, 0.15).paint.atlas.image)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0 and "corridor_loop" in capsys.readouterr().out
    short = ["--duration", "0.5", "--width", "64"]
    assert main(["preview", str(tmp_path / "sheet.png"), *short]) == 0
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (2 * 2 * 48, 3 * 64, 3)
    assert main(["sequence", str(tmp_path / "seq"), *short]) == 0 and (tmp_path / "seq/truth/poses.tum").is_file()
    assert main(["bag", str(tmp_path / "bag"), *short]) == 0 and (tmp_path / "bag/metadata.yaml").is_file()
    assert main(["bag", str(tmp_path / "bag"), *short]) == 1
    assert "is there already" in capsys.readouterr().err
