"""Rays against the drawn worlds: the CPU ray caster of the simulation, on meshes of the same bodies, is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatial_fm_ros.simulation.lighting import Lighting
from spatial_fm_ros.simulation.materials import plaster
from spatial_fm_ros.simulation.mesh import Patch
from spatial_fm_ros.simulation.world import World as MeshWorld
from spatial_fm_ros.training.worlds.casting import GROUND, SKY, World, cast, pixel_grid, view_rays
from spatial_fm_ros.training.worlds.generator import FARTHEST, cleared
from spatial_fm_ros.training.worlds.ground import HORIZON
from spatial_fm_ros.training.worlds.materials import dress
from spatial_fm_ros.training.worlds.paths import draw_intrinsics, draw_motion
from spatial_fm_ros.training.worlds.random import Draw
from spatial_fm_ros.training.worlds.scenes import SCENES, draw_layout
from spatial_fm_ros.training.worlds.solids import SLOTS, kind_slices

SIZE = (60, 80)
MATERIAL = plaster((0.5, 0.5, 0.5))
#: Facets around a cylinder or ball: 2e-4 of the radius off at most.
FACETS = 160


def box_grids() -> list[np.ndarray]:
    """Six faces of the unit cube, [2, 2, 3] each."""
    corners = np.array([[[-1.0, -1], [1, -1]], [[-1, 1], [1, 1]]])
    return [np.insert(corners, axis, side, axis=2) for axis in range(3) for side in (-1.0, 1.0)]


def cylinder_grids() -> list[np.ndarray]:
    angle = np.linspace(0, 2 * np.pi, FACETS + 1)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    side = np.stack([np.insert(ring, 2, z, axis=1) for z in (1.0, -1.0)])
    caps = [np.stack([0 * side[0] + [0, 0, z], np.insert(ring, 2, z, axis=1)]) for z in (1.0, -1.0)]
    return [side, *caps]


def ball_grids() -> list[np.ndarray]:
    around, up = np.meshgrid(np.linspace(0, 2 * np.pi, FACETS + 1), np.linspace(-np.pi / 2, np.pi / 2, FACETS // 2 + 1))
    return [np.stack([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)], axis=-1)]


GRIDS = {"box": box_grids, "room": box_grids, "cylinder": cylinder_grids, "ball": ball_grids}


def as_mesh(world: World, scene: int, time: float) -> MeshWorld:
    """The bodies and the ground of one scene at a time, as patches of the simulation's worlds."""
    patches, solids, ground = [], world.solids, world.ground
    for kind, where in kind_slices(SLOTS).items():
        for slot in range(where.start, where.stop):
            if solids.present[scene, slot]:
                half, turn = solids.half[scene, slot].double().numpy(), solids.rotation[scene, slot].double().numpy()
                center = (solids.center[scene, slot] + time * solids.velocity[scene, slot]).double().numpy()
                patches += [Patch(grid * half @ turn.T + center, MATERIAL, 1.0) for grid in GRIDS[kind]()]
    if ground.present[scene]:
        reach = HORIZON if ground.flat[scene] else 3 * float(ground.extent[scene])
        cells = 1 if ground.flat[scene] else 9 * (ground.heights.shape[-1] - 1)
        at = torch.linspace(-reach, reach, cells + 1)
        y, x = torch.meshgrid(at, at, indexing="ij")
        places = torch.stack([x, y], dim=-1)
        z = ground.only(torch.tensor([scene])).height_at(places.view(1, -1, 2)).view_as(x)
        patches.append(Patch(torch.cat([places, z[..., None]], dim=-1).double().numpy(), MATERIAL, 1.0))
    return MeshWorld(patches, Lighting(), seed=0)


@pytest.fixture(scope="module")
def drawn():
    """16 scenes of all kinds with 2 views each, moving bodies included."""
    draw = Draw(11, "cpu")
    layout, kind = draw_layout(draw, 16)
    assert set(kind.tolist()) == set(range(len(SCENES)))
    motion = draw_motion(draw, layout, kind, 2)
    step = 0.3 * layout.step
    poses = motion.poses(step[:, None])[:, 0]
    world = cleared(dress(draw, layout, kind, 8, step), poses, motion.when, step)
    return world, poses, draw_intrinsics(draw, 16, 2, *SIZE), motion.when, kind


def test_depth_agrees_with_the_ray_caster_of_the_simulation(drawn):
    world, poses, K, when, kind = drawn
    rays = view_rays(K, poses, pixel_grid(*SIZE, torch.device("cpu")))
    hits = cast(world, poses[..., :3, 3], rays, when)
    shares, missed = [], []
    for scene in range(len(kind)):
        mesh = as_mesh(world, scene, float(when[scene, 1]))
        expected = mesh.cast(poses[scene, 1, :3, 3].numpy(), rays[scene, 1].numpy()).distance
        found = hits.distance[scene, 1].numpy()
        # The ground ends somewhere, and its mesh somewhere else.
        end = FARTHEST if world.ground.flat[scene] else 1.9 * float(world.ground.extent[scene])
        seen, expected_seen = found < end, expected < end
        missed.append((seen != expected_seen).mean())
        both = seen & expected_seen
        off = np.abs(found[both] - expected[both]) / expected[both]
        shares.append((off < 1e-3).mean() if both.any() else 1.0)
    # Rays along an edge go to one or the other body; hills are cut by steps here and by triangles there.
    assert np.median(shares) > 0.9999 and np.mean(shares) > 0.9995 and np.min(shares) > 0.997
    assert np.mean(missed) < 2e-4 and np.max(missed) < 2e-3


def test_every_kind_of_body_is_hit_and_named(drawn):
    world, poses, K, when, _ = drawn
    rays = view_rays(K, poses, pixel_grid(*SIZE, torch.device("cpu")))
    slot = cast(world, poses[..., :3, 3], rays, when).slot
    for where in kind_slices(SLOTS).values():
        assert ((slot >= where.start) & (slot < where.stop)).any()
    assert (slot == GROUND).any() and (slot == SKY).any()


def test_pieces_of_pixels_change_nothing(drawn, monkeypatch):
    world, poses, K, when, _ = drawn
    rays = view_rays(K, poses, pixel_grid(*SIZE, torch.device("cpu")))
    whole = cast(world, poses[..., :3, 3], rays, when)
    monkeypatch.setitem(cast.__globals__["PIECE"], "cpu", 1 << 14)
    pieces = cast(world, poses[..., :3, 3], rays, when)
    torch.testing.assert_close(pieces.distance, whole.distance)
    own_origins = cast(world, poses[:, :, None, :3, 3].expand_as(rays).contiguous(), rays, when)
    torch.testing.assert_close(own_origins.distance, whole.distance)


def test_a_thin_body_far_away_keeps_its_thickness():
    """5 mm across at 50 m: what float32 leaves of it after a naive discriminant is nothing."""
    draw = Draw(0, "cpu")
    layout, kind = draw_layout(draw, 1)
    world = dress(draw, layout, kind, 8, torch.zeros(1))
    solids, rod = world.solids, kind_slices(SLOTS)["cylinder"].start
    solids.present[:] = False
    world.ground.present[:] = False
    solids.present[0, rod] = True
    solids.center[0, rod], solids.half[0, rod] = torch.tensor([50.0, 0, 0]), torch.tensor([0.005, 0.005, 5.0])
    solids.rotation[0, rod], solids.velocity[0, rod] = torch.eye(3), torch.zeros(3)
    across = torch.linspace(-0.01, 0.01, 2001)
    rays = torch.stack([torch.full_like(across, 50.0), across, torch.zeros_like(across)], dim=-1)[None, None]
    hits = cast(world, torch.zeros(1, 1, 3), rays, torch.zeros(1, 1))
    inside = across.abs() < 0.0049
    outside = across.abs() > 0.0051
    assert (hits.slot[0, 0, inside] == rod).all() and (hits.slot[0, 0, outside] == SKY).all()
