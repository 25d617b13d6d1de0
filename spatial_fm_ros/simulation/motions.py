"""The named motions of the scenarios: where the robot goes in each world."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.simulation.trajectory import Array, Trajectory, follow, handheld, rotate, still, straight

#: (duration in seconds, seed, camera's place in the body [3]) -> trajectory
Motion = Callable[[float, int, Array], Trajectory]

#: Around the table, weaving a little, so that things at the walls are seen from several sides.
ROOM_ROUND = [(1.5, 1.3), (3.0, 1.25), (4.6, 1.4), (6.2, 1.35), (6.75, 2.4), (6.5, 3.6), (6.3, 4.7), (4.8, 4.75),
              (3.3, 4.55), (1.8, 4.65), (1.2, 3.8), (1.3, 2.4)]  # fmt: skip


def _room_drive(duration_s: float, seed: int, camera: Array) -> Trajectory:
    return follow(ROOM_ROUND, duration_s, loop=True, rounds=1.06)


def _room_oval(duration_s: float, seed: int, camera: Array) -> Trajectory:
    # Nowhere tighter than about 1 m: at every moment translation comes with rotation.
    angle = np.radians(np.arange(0, 360, 30.0) - 90)
    way = np.stack([4.0 + 2.6 * np.cos(angle), 3.0 + 1.75 * np.sin(angle)], 1)
    return follow([(float(x), float(y)) for x, y in way], duration_s, loop=True, rounds=1.06)


def _room_patrol(duration_s: float, seed: int, camera: Array) -> Trajectory:
    return follow(ROOM_ROUND, duration_s, loop=True, rounds=duration_s / 60.0)


def _corridor_loop(duration_s: float, seed: int, camera: Array) -> Trajectory:
    way = [(3.0, 1.25), (6.0, 1.05), (9.0, 1.3), (12.0, 1.1), (14.2, 1.45), (14.75, 3.2), (14.75, 6.0), (14.85, 8.6),
           (14.3, 10.6), (12.2, 10.75), (9.0, 10.9), (6.0, 10.7), (3.4, 10.85), (1.5, 10.3), (1.2, 8.2), (1.25, 5.8),
           (1.15, 3.4), (1.6, 1.6)]  # fmt: skip
    return follow(way, duration_s, loop=True, rounds=1.05)


def _hall_drive(duration_s: float, seed: int, camera: Array) -> Trajectory:
    way = [(2.4, 3.2), (6.5, 2.9), (11.0, 3.6), (15.5, 3.0), (20.0, 3.3), (21.2, 6.0), (21.4, 9.5), (20.2, 12.4),
           (15.8, 12.8), (11.5, 12.2), (7.2, 12.9), (3.2, 12.6), (2.3, 10.0), (2.3, 6.2)]  # fmt: skip
    return follow(way, duration_s, loop=True, rounds=1.04)


def _tunnel_straight(duration_s: float, seed: int, camera: Array) -> Trajectory:
    return straight((0.0, 0.25), 0.0, min(60.0, 1.2 * duration_s), duration_s)


def _street_drive(duration_s: float, seed: int, camera: Array) -> Trajectory:
    reach = min(78.0, 2.2 * duration_s)
    x = np.arange(0.0, reach + 12.0, 12.0)
    way = [(float(v), 0.55 * np.sin(0.11 * v) - 0.15) for v in x]
    return follow(way, duration_s, bumps=0.003)


def _room_still(duration_s: float, seed: int, camera: Array) -> Trajectory:
    return still((1.5, 1.4, 0.0), 0.6, duration_s)


def _room_rotation(duration_s: float, seed: int, camera: Array) -> Trajectory:
    # About the camera's own centre: no parallax at all.
    return rotate((1.6, 1.5, 0.0), 0.2, 2 * np.pi * min(1.0, duration_s / 30.0), duration_s, camera)


def _room_spin(duration_s: float, seed: int, camera: Array) -> Trajectory:
    return rotate((1.6, 1.5, 0.0), 0.2, 2 * np.pi * min(1.0, duration_s / 30.0), duration_s)


def _room_handheld(duration_s: float, seed: int, camera: Array) -> Trajectory:
    def path(share: Array) -> Array:
        angle = -0.35 + 1.75 * np.pi * share * min(1.0, duration_s / 40.0)
        return np.stack([4.0 - 2.55 * np.cos(angle), 3.0 - 1.75 * np.sin(angle), 0.75 + 0.15 * np.sin(3 * angle)], 1)

    def look(share: Array) -> Array:
        at = path(share)
        target = np.array([4.0, 3.0]) + 0.5 * np.stack([np.sin(9 * share), np.cos(7 * share)], 1)
        yaw = np.unwrap(np.arctan2(target[:, 1] - at[:, 1], target[:, 0] - at[:, 0]))
        return np.stack([yaw, 0.14 + 0.08 * np.sin(8 * share), 0.05 * np.sin(6 * share)], 1)

    return handheld(path, look, duration_s, seed)


def _hall_side(duration_s: float, seed: int, camera: Array) -> Trajectory:
    return straight((3.0, 3.2), 0.0, min(18.0, 0.8 * duration_s), duration_s)


MOTIONS: dict[str, Motion] = {
    "room_drive": _room_drive,
    "room_oval": _room_oval,
    "room_patrol": _room_patrol,
    "corridor_loop": _corridor_loop,
    "hall_drive": _hall_drive,
    "hall_side": _hall_side,
    "tunnel_straight": _tunnel_straight,
    "street_drive": _street_drive,
    "room_still": _room_still,
    "room_rotation": _room_rotation,
    "room_spin": _room_spin,
    "room_handheld": _room_handheld,
}


@lru_cache(maxsize=16)
def _build(name: str, duration_s: float, seed: int, camera: tuple[float, ...]) -> Trajectory:
    return MOTIONS[name](duration_s, seed, np.array(camera))


def build_motion(name: str, duration_s: float, seed: int, body_from_camera: Array) -> Trajectory:
    """The motion `name`. Raises InputError when it is unknown or shorter than half a second."""
    if name not in MOTIONS:
        raise InputError(f"Unknown motion '{name}'; expected one of {', '.join(MOTIONS)}.")
    if not duration_s >= 0.5:
        raise InputError(f"A motion needs at least 0.5 s, got {duration_s} s.")
    return _build(name, float(duration_s), seed, tuple(float(v) for v in body_from_camera[:3, 3]))
