"""The simulated spinning LiDAR: rings, a time for every point, dropouts, noise, motion in a sweep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.types import Array, LidarScan
from spatial_fm_ros.simulation.trajectory import Trajectory
from spatial_fm_ros.simulation.world import World


@dataclass(frozen=True)
class LidarModel:
    """Beams evenly between two elevations; one sweep takes a period and starts behind the robot.
    Noise in metres (standard deviation along the beam); dropouts as a share of all beams, more of
    them on dark and slanted surfaces."""

    rings: int = 32
    columns: int = 900
    low_deg: float = -24.0
    high_deg: float = 16.0
    min_range_m: float = 0.3
    max_range_m: float = 60.0
    noise_m: float = 0.01
    dropout: float = 0.02
    beam_rad: float = 0.003


def sweep(
    world: World,
    model: LidarModel,
    trajectory: Trajectory,
    body_from_lidar: Array,
    start_s: float,
    period_s: float,
    stamp_ns: int,
    seed: tuple[int, ...],
) -> LidarScan:
    """One sweep that begins at `start_s` of the trajectory. As from a real sensor, each point is in
    the LiDAR frame at the moment its own beam was fired: the sweep is not corrected for motion."""
    rng = np.random.default_rng(seed)
    column_times = np.arange(model.columns) / model.columns * period_s
    poses = trajectory.world_from_body(start_s + column_times) @ body_from_lidar
    azimuth = np.pi - 2 * np.pi * np.arange(model.columns) / model.columns
    elevation = np.radians(np.linspace(model.low_deg, model.high_deg, model.rings))
    level = np.stack([np.cos(azimuth), np.sin(azimuth)], 1)
    beams = np.concatenate(
        [
            level[:, None] * np.cos(elevation)[None, :, None],
            np.broadcast_to(np.sin(elevation)[None, :, None], (model.columns, model.rings, 1)),
        ],
        axis=2,
    )
    directions = np.einsum("cij,crj->cri", poses[:, :3, :3], beams).reshape(-1, 3).astype(np.float32)
    origins = np.repeat(poses[:, :3, 3], model.rings, axis=0).astype(np.float32)
    hits = world.cast(origins, directions)
    color = world.colors(hits, model.beam_rad).astype(np.float32)
    brightness = color @ np.array([0.3, 0.6, 0.1], np.float32) / 255
    chance = model.dropout * (1 + 3 * (brightness < 0.12) + 4 * (hits.cosine < 0.1))
    measured = hits.distance + (model.noise_m * rng.standard_normal(len(directions))).astype(np.float32)
    kept = (rng.uniform(size=len(directions)) >= chance) & np.isfinite(hits.distance)
    kept &= (hits.distance >= model.min_range_m) & (hits.distance <= model.max_range_m)
    points = beams.reshape(-1, 3)[kept] * measured[kept, None].astype(np.float64)
    ring = np.tile(np.arange(model.rings, dtype=np.int32), model.columns)
    times = np.repeat(np.round(column_times * 1e9).astype(np.int64), model.rings)
    intensity = 255 * brightness * np.sqrt(hits.cosine)
    return LidarScan(
        stamp_ns=stamp_ns,
        points=points.astype(np.float32),
        intensity=intensity[kept].astype(np.float32),
        ring=ring[kept],
        point_times_ns=times[kept],
        frame_id="lidar",
    )
