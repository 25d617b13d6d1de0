"""The simulated IMU and wheel odometry, both from the trajectory's exact derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.types import Array
from spatial_fm_ros.simulation.trajectory import Trajectory, rotation

GRAVITY = np.array([0.0, 0.0, -9.81])


@dataclass(frozen=True)
class ImuModel:
    """Noise and bias, standard deviations in rad/s and m/s^2 for one sample."""

    gyro_noise: float = 0.002
    accel_noise: float = 0.03
    gyro_bias: float = 0.002
    accel_bias: float = 0.02


@dataclass(frozen=True)
class OdometryModel:
    """How wheel odometry errs: distances are too long by the share `scale_error`; heading walks by
    `yaw_walk` radians per root metre (and by `yaw_walk` times a tenth per radian turned); every pose
    jitters by `noise_m`, which does not add up."""

    scale_error: float = 0.003
    yaw_walk: float = 0.0015
    noise_m: float = 0.0005


def imu_samples(
    trajectory: Trajectory, body_from_imu: Array, times_s: Array, model: ImuModel, seed: int
) -> tuple[Array, Array]:
    """Angular velocity [N, 3] rad/s and specific force [N, 3] m/s^2 in IMU axes at times [N]."""
    rng = np.random.default_rng([seed, 10])
    rates = trajectory.angular_velocity(times_s)
    change = trajectory.angular_acceleration(times_s)
    world_from_body = trajectory.world_from_body(times_s)[:, :3, :3]
    force = np.einsum("nji,nj->ni", world_from_body, trajectory.acceleration(times_s) - GRAVITY)
    arm = body_from_imu[:3, 3]
    force = force + np.cross(change, arm) + np.cross(rates, np.cross(rates, arm))
    turn = body_from_imu[:3, :3]
    gyro, accel = rates @ turn, force @ turn
    gyro = gyro + model.gyro_bias * rng.standard_normal(3) + model.gyro_noise * rng.standard_normal(gyro.shape)
    accel = accel + model.accel_bias * rng.standard_normal(3) + model.accel_noise * rng.standard_normal(accel.shape)
    return gyro, accel


def odometry_poses(trajectory: Trajectory, times_s: Array, model: OdometryModel, seed: int) -> tuple[Array, Array]:
    """Drifting odom_from_body [N, 4, 4] at times [N] (the first is the identity but for jitter) and
    covariances [N, 6, 6] (x, y, z, roll, pitch, yaw) that grow with the way driven."""
    rng = np.random.default_rng([seed, 11])
    truth = trajectory.world_from_body(times_s)
    steps = np.linalg.inv(truth[:-1]) @ truth[1:]
    way = np.linalg.norm(steps[:, :3, 3], axis=1)
    turned = np.abs(np.arctan2(steps[:, 1, 0], steps[:, 0, 0]))
    sigma = model.yaw_walk * np.sqrt(way + 0.01 * turned**2)
    errors = np.zeros((len(steps), 3))
    errors[:, 0] = sigma * rng.standard_normal(len(steps))
    steps[:, :3, 3] *= 1 + model.scale_error
    steps[:, :3, :3] = steps[:, :3, :3] @ rotation(errors)
    poses = np.empty_like(truth)
    pose = np.eye(4)
    poses[0] = pose
    for i, step in enumerate(steps):  # a chain: each pose needs the one before
        pose = pose @ step
        poses[i + 1] = pose
    poses[:, :3, 3] += model.noise_m * rng.standard_normal((len(poses), 3))
    driven = np.concatenate([[0.0], np.cumsum(way)])
    yaw = model.yaw_walk * np.sqrt(driven)
    place = model.noise_m + np.hypot(model.scale_error * driven, driven * yaw / np.sqrt(3))
    covariances = np.zeros((len(poses), 6, 6))
    for axis, spread in enumerate((place, place, np.full_like(place, 0.005), np.full_like(place, 0.005),
                                   np.full_like(place, 0.005), yaw + 1e-3)):  # fmt: skip
        covariances[:, axis, axis] = spread**2
    return poses, covariances
