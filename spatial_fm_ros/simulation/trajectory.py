"""Smooth motions with analytic derivatives: quintic splines of position and roll, pitch, yaw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from spatial_fm_ros.core.errors import InputError

Array = NDArray[np.float64]

_KNOT_S = 0.1


class Trajectory:
    """world_from_body over time 0..duration_s. Positions in metres and angles in radians (yaw,
    pitch, roll: R = Rz Ry Rx) are quintic splines, so velocity, acceleration and angular
    acceleration are exact and continuous."""

    def __init__(self, times_s: Array, positions: Array, angles: Array) -> None:
        """times float64 [N], positions [N, 3], angles [N, 3] (yaw, pitch, roll), unwrapped."""
        if len(times_s) < 6:
            raise InputError(f"A trajectory needs at least 6 knots, got {len(times_s)}; lengthen its duration.")
        self.duration_s = float(times_s[-1])
        self._position = make_interp_spline(times_s, positions, k=5)
        self._angles = make_interp_spline(times_s, angles, k=5)

    def _clip(self, times_s: Array) -> Array:
        return np.clip(np.asarray(times_s, np.float64), 0.0, self.duration_s)

    def world_from_body(self, times_s: Array) -> Array:
        """Poses float64 [N, 4, 4] at times [N] (clamped to the trajectory's ends)."""
        t = self._clip(times_s)
        poses = np.tile(np.eye(4), (len(t), 1, 1))
        poses[:, :3, :3] = rotation(self._angles(t))
        poses[:, :3, 3] = self._position(t)
        return poses

    def velocity(self, times_s: Array) -> Array:
        """World velocity float64 [N, 3] in m/s."""
        return np.asarray(self._position(self._clip(times_s), nu=1))

    def acceleration(self, times_s: Array) -> Array:
        """World acceleration float64 [N, 3] in m/s^2, gravity not included."""
        return np.asarray(self._position(self._clip(times_s), nu=2))

    def angular_velocity(self, times_s: Array) -> Array:
        """Angular velocity in body axes float64 [N, 3] in rad/s."""
        t = self._clip(times_s)
        return np.asarray(np.einsum("nij,nj->ni", _rates(self._angles(t)), self._angles(t, nu=1)))

    def angular_acceleration(self, times_s: Array) -> Array:
        """Angular acceleration in body axes float64 [N, 3] in rad/s^2."""
        t = self._clip(times_s)
        angles, first, second = self._angles(t), self._angles(t, nu=1), self._angles(t, nu=2)
        change = np.einsum("nij,nj->ni", _rates_change(angles, first), first)
        return np.asarray(change + np.einsum("nij,nj->ni", _rates(angles), second))

    def length(self) -> float:
        """Path length in metres."""
        t = np.arange(0.0, self.duration_s, 0.02).astype(np.float64)
        return float(np.linalg.norm(self.velocity(t), axis=1).sum() * 0.02)


def rotation(angles: Array) -> Array:
    """Rotations float64 [N, 3, 3] = Rz(yaw) Ry(pitch) Rx(roll) of angles [N, 3]."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(angles).T, np.sin(angles).T
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _rates(angles: Array) -> Array:
    """Takes the rates of (yaw, pitch, roll) to the body's angular velocity: [N, 3, 3]."""
    _, pitch, roll = angles.T
    sp, cp, sr, cr = np.sin(pitch), np.cos(pitch), np.sin(roll), np.cos(roll)
    zero, one = np.zeros_like(pitch), np.ones_like(pitch)
    return np.moveaxis(np.array([[-sp, zero, one], [cp * sr, cr, zero], [cp * cr, -sr, zero]]), 2, 0)


def _rates_change(angles: Array, first: Array) -> Array:
    """Time derivative of `_rates`."""
    _, pitch, roll = angles.T
    _, dp, dr = first.T
    sp, cp, sr, cr = np.sin(pitch), np.cos(pitch), np.sin(roll), np.cos(roll)
    zero = np.zeros_like(pitch)
    rows = [
        [-cp * dp, zero, zero],
        [-sp * dp * sr + cp * cr * dr, -sr * dr, zero],
        [-sp * dp * cr - cp * sr * dr, -cr * dr, zero],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _knots(duration_s: float) -> Array:
    count = max(6, int(np.ceil(duration_s / _KNOT_S)) + 1)
    return np.linspace(0.0, duration_s, count).astype(np.float64)


def _ease(times_s: Array, duration_s: float, ramp_s: float) -> Array:
    """Share of a way covered at each time: speeds up and slows down over `ramp_s`, even in between."""
    fine = np.linspace(0.0, duration_s, max(4000, int(20 * duration_s)))
    ramp = min(ramp_s, duration_s / 2)
    up = np.clip(np.minimum(fine, duration_s - fine) / ramp, 0, 1)
    speed = up**3 * (10 - 15 * up + 6 * up**2)
    covered = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2)])
    return np.asarray(make_interp_spline(fine, covered / covered[-1], k=5)(times_s))


def follow(
    waypoints: list[tuple[float, float]],
    duration_s: float,
    loop: bool = False,
    rounds: float = 1.0,
    ramp_s: float = 2.0,
    bumps: float = 0.002,
) -> Trajectory:
    """A ground robot along a smooth curve through `waypoints` (x, y), heading where it drives,
    starting and ending at rest. `loop` closes the curve and `rounds` says how often it is driven;
    `bumps` is how far the floor shakes the body (metres)."""
    points = np.array(waypoints, np.float64)
    if loop:
        points = np.concatenate([points, points[:1]])
    chord = np.concatenate([[0.0], np.cumsum(np.sqrt(np.linalg.norm(np.diff(points, axis=0), axis=1)))])
    if loop:
        # Periodic by repeating the way on both sides: quintic and as smooth at the join as elsewhere.
        span, n = chord[-1], len(points) - 1
        many = np.concatenate([points[:-1]] * 4 + [points[:1]])
        at = np.concatenate([chord[:-1] + k * span for k in range(4)] + [[4 * span]])
        curve = make_interp_spline(at, many, k=min(5, n))
        fine = np.linspace(span, 2 * span, 6000)
    else:
        curve = make_interp_spline(chord, points, k=min(5, len(points) - 1))
        fine = np.linspace(0, chord[-1], 6000)
    way = np.asarray(curve(fine))
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
    tangent = np.asarray(curve(fine, nu=1))
    heading = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    times = _knots(duration_s)
    distance = _ease(times, duration_s, ramp_s) * arc[-1] * (rounds if loop else 1.0)
    turns, rest = np.divmod(distance, arc[-1]) if loop else (np.zeros_like(distance), distance)
    xy = np.stack([np.interp(rest, arc, way[:, i]) for i in (0, 1)], 1)
    yaw = np.interp(rest, arc, heading) + turns * (heading[-1] - heading[0])
    moving = np.gradient(distance, times)
    shake = np.clip(moving / 0.3, 0, 1) * bumps
    z = shake * (np.sin(9.1 * distance) + 0.6 * np.sin(17.3 * distance + 1))
    pitch = shake * 1.5 * np.sin(11.7 * distance + 0.5)
    roll = shake * 1.5 * np.sin(8.3 * distance + 2.0)
    return Trajectory(times, np.column_stack([xy, z]), np.column_stack([yaw, pitch, roll]))


def straight(start: tuple[float, float], yaw: float, length_m: float, duration_s: float) -> Trajectory:
    """Straight ahead without any turn, at rest at both ends."""
    times = _knots(duration_s)
    distance = _ease(times, duration_s, 2.0)[:, None] * length_m
    way = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    angles = np.tile([yaw, 0.0, 0.0], (len(times), 1))
    return Trajectory(times, np.array([*start, 0.0]) + distance * way, angles)


def still(position: tuple[float, float, float], yaw: float, duration_s: float) -> Trajectory:
    """Standing still."""
    times = _knots(duration_s)
    return Trajectory(times, np.tile(np.array(position), (len(times), 1)), np.tile([yaw, 0.0, 0.0], (len(times), 1)))


def rotate(
    position: tuple[float, float, float],
    yaw: float,
    turn: float,
    duration_s: float,
    pivot_from_body: Array | None = None,
) -> Trajectory:
    """Turning by `turn` radians about the vertical axis through the body frame, or through the point
    `pivot_from_body` [3] of the body (for a camera that truly only rotates)."""
    times = _knots(duration_s)
    yaws = yaw + turn * _ease(times, duration_s, 1.5)
    angles = np.column_stack([yaws, np.zeros((len(times), 2))])
    arm = np.zeros(3) if pivot_from_body is None else np.asarray(pivot_from_body, np.float64)
    pivot = np.array(position) + rotation(angles[:1])[0] @ arm
    return Trajectory(times, pivot - rotation(angles) @ arm, angles)


def handheld(
    path: Callable[[Array], Array], look: Callable[[Array], Array], duration_s: float, seed: int, shake: float = 1.0
) -> Trajectory:
    """A person's hand: position path(share) [N, 3] and yaw, pitch, roll look(share) [N, 3] for share
    0..1 of the way, with the smooth sway of a walking hand on top."""
    times = _knots(duration_s)
    share = _ease(times, duration_s, 1.5)
    rng = np.random.default_rng([seed, 7])
    sway, turn = np.zeros((len(times), 3)), np.zeros((len(times), 3))
    for _ in range(5):
        frequency = rng.uniform(0.15, 1.8, (2, 3))
        phase = rng.uniform(0, 2 * np.pi, (2, 3))
        sway += 0.012 / (0.5 + frequency[0]) * np.sin(2 * np.pi * frequency[0] * times[:, None] + phase[0])
        turn += 0.02 / (0.5 + frequency[1]) * np.sin(2 * np.pi * frequency[1] * times[:, None] + phase[1])
    return Trajectory(times, path(share) + shake * sway, look(share) + shake * turn)
