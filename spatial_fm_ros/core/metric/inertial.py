"""Scale, gravity and a check of rotations from the IMU."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.config import InertialConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rotations import invert_pose, is_pose
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.gravity import GravityEstimate
from spatial_fm_ros.core.metric.gyro_check import RotationCheck, check_rotations
from spatial_fm_ros.core.metric.inertial_start import Views
from spatial_fm_ros.core.metric.inertial_window import InertialSolution, PoseNoise, solve_window
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation, unusable
from spatial_fm_ros.core.metric.preintegration import Steps, imu_track, preintegrate, reaches
from spatial_fm_ros.core.types import Array, PosedKeyframe

#: Keyframes that a scale needs; gravity and rotations are content with FEWEST.
MIN_KEYFRAMES, FEWEST = 4, 2
#: A log-scale less certain than this is no scale: the motion hardly accelerates.
LARGEST_SIGMA = 0.15
#: Biases change little from window to window, but what they do to the scale depends on the motion: so much of their
#: part in its variance is taken to last.
LASTING = 0.25
#: What a window before counts less than this one, when their units per metre are averaged.
FORGETTING = 0.9
#: Biases wander, per root second (consumer MEMS), and windows share a part of their samples.
FORCE_WALK, GYRO_WALK, SHARED = 2e-3, 1e-4, 1.4
#: What is learnt of the biases is never believed to be better than this: m/s^2 and rad/s.
LEAST_FORCE_BIAS, LEAST_GYRO_BIAS = 0.01, 0.0005


class InertialObserver:
    """Needs the transform between camera and IMU. What it learns of biases and of the images' noise it keeps from
    window to window.

    `gravity` is the newest window's, None where the IMU did not reach or disagrees about rotations.
    """

    name = "imu"

    def __init__(self, config: InertialConfig, sensors: Sensors) -> None:
        self.config = config
        self.sensors = sensors
        self.reset()

    def reset(self) -> None:
        """Forget biases and gravity."""
        self.gravity: GravityEstimate | None = None
        self._bias: Array = np.zeros(6)
        self._covariance = self._prior()
        self._learnt_ns: int | None = None
        self._noise = PoseNoise()
        self._forget_units()

    def _forget_units(self) -> None:
        self._submap = -1
        self._units = self._weight = 0.0
        self._windows = 0

    def rescaled(self, factor: float) -> None:
        """World units were multiplied by `factor`."""
        self._units *= factor
        self._weight /= factor**2

    def observe(self, window: PlacedWindow) -> ScaleObservation | None:
        """Scale of the window where its motion accelerates enough; None without any IMU sample."""
        self.gravity = None
        if not len(self.sensors.imu):
            return None
        rig = self.sensors.rig
        if rig.body_from_camera is None or rig.body_from_imu is None:
            return unusable(self.name, "the transform between camera and IMU is not known")
        if not is_pose(rig.body_from_camera) or not is_pose(rig.body_from_imu):
            return unusable(self.name, "the transform between camera and IMU is not rigid or left-handed; check TF")
        try:
            keyframes, steps = self._steps(window)
        except InputError as error:
            return unusable(self.name, self.sensors.clock_problem("imu") or str(error))
        camera_from_imu = invert_pose(rig.body_from_camera) @ rig.body_from_imu
        views = _views(keyframes, camera_from_imu)
        check = check_rotations(views.world_from_imu, steps, self._covariance, self.config.max_rotation_error_deg)
        if check.reason:
            return unusable(self.name, check.reason)
        solution = self._solve(views, steps, keyframes[-1].stamp_ns)
        if solution is None:
            return unusable(self.name, "the window's poses and the IMU do not fit together")
        return self._judged(solution, self._relative_sigma(solution, keyframes[-1].submap), check, len(keyframes))

    def _steps(self, window: PlacedWindow) -> tuple[list[PosedKeyframe], Steps]:
        """Keyframes that the IMU reaches, and its steps between them. Raises InputError where there are too few."""
        first, last = window.keyframes[0].stamp_ns, window.keyframes[-1].stamp_ns
        samples = self.sensors.imu.between(first - 50_000_000, last + 50_000_000)
        track = imu_track(samples)
        keyframes = list(window.keyframes)
        while len(keyframes) >= FEWEST and not reaches(track, keyframes[0].stamp_ns, keyframes[0].stamp_ns):
            keyframes.pop(0)
        while len(keyframes) >= FEWEST and not reaches(track, keyframes[0].stamp_ns, keyframes[-1].stamp_ns):
            keyframes.pop()
        if len(keyframes) < FEWEST:
            raise InputError("IMU samples do not cover the window without holes; check its rate, stamps and clock")
        return keyframes, preintegrate(track, [k.stamp_ns for k in keyframes], self._bias)

    def _solve(self, views: Views, steps: Steps, stamp_ns: int) -> InertialSolution | None:
        """Solve, keep gravity and biases. None where no solution is finite."""
        covariance = self._aged(stamp_ns)
        try:
            solution = solve_window(views, steps, self._bias, covariance, self._noise)
        except np.linalg.LinAlgError:
            return None
        if not (np.isfinite(solution.bias).all() and np.isfinite(solution.down).all() and solution.units_sigma > 0):
            return None
        self.gravity = GravityEstimate(solution.down, solution.down_sigma)
        self._bias, self._covariance, self._learnt_ns = solution.bias, SHARED * solution.bias_covariance, stamp_ns
        self._noise = _blended(self._noise, solution.noise)
        return solution

    def _relative_sigma(self, solution: InertialSolution, submap: int) -> float:
        """Standard deviation of units per metre as a share of their mean over this and recent windows.

        As a share of the window's own value it would be small whenever the value happens to be large: windows
        chosen and weighed by it would make the scale too small.
        """
        if submap != self._submap:
            self._forget_units()
            self._submap = submap
        self._windows += 1
        sigma, weight = solution.units_sigma, FORGETTING * self._weight
        self._weight = weight + sigma**-2
        self._units = (weight * self._units + solution.units_per_metre * sigma**-2) / self._weight
        return sigma / self._units

    def _judged(self, solution: InertialSolution, sigma: float, check: RotationCheck, count: int) -> ScaleObservation:
        figures = {
            "gyro_disagreement_deg": float(np.degrees(check.angles.max())),
            "gravity_sigma_deg": float(np.degrees(solution.down_sigma)),
            "gyro_bias_deg_s": float(np.degrees(np.linalg.norm(solution.bias[3:]))),
            "force_bias": float(np.linalg.norm(solution.bias[:3])),
        }
        lasting = LASTING * solution.bias_share
        reason = ""
        if count < MIN_KEYFRAMES:
            reason = f"the IMU reaches {count} keyframes of the window, {MIN_KEYFRAMES} needed"
        elif sigma > LARGEST_SIGMA * (0.5 if self._windows == 1 else 1.0):  # nothing to compare the first one with
            reason = "the camera accelerates too little to feel its scale"
        return ScaleObservation(
            name=self.name,
            log_scale=-float(np.log(solution.units_per_metre)) if not reason else 0.0,
            sigma=sigma * (1.0 - lasting) ** 0.5 if not reason else float("inf"),
            usable=not reason,
            reason=reason,
            systematic=float(np.hypot(self.config.systematic, sigma * lasting**0.5)),
            figures=figures,
        )

    def _prior(self) -> Array:
        force, gyro = self.config.force_bias, self.config.gyro_bias
        return np.diag(np.square([force] * 3 + [gyro] * 3))

    def _aged(self, stamp_ns: int) -> Array:
        """Covariance of the biases now: what was learnt, wandered since, no better and no worse than is possible."""
        seconds = 0.0 if self._learnt_ns is None else abs(stamp_ns - self._learnt_ns) * 1e-9
        walk = np.square([FORCE_WALK] * 3 + [GYRO_WALK] * 3) * seconds
        least = np.square([LEAST_FORCE_BIAS] * 3 + [LEAST_GYRO_BIAS] * 3)
        worn = self._covariance + np.diag(walk + least)
        # Two sources of knowledge: what was learnt, and what such a sensor's bias can be.
        return np.asarray(np.linalg.inv(np.linalg.inv(worn) + 0.1 * np.linalg.inv(self._prior())))


def _blended(before: PoseNoise, found: PoseNoise) -> PoseNoise:
    """Running mean of the images' noise, trusted more the more windows it comes from."""
    share = 1.0 / min(6.0, before.weight)

    def mean(a: float, b: float) -> float:
        return float(np.sqrt((1.0 - share) * a**2 + share * b**2))

    return PoseNoise(
        mean(before.rotation, found.rotation), mean(before.position, found.position), min(12.0, before.weight + 1.0)
    )


def _views(keyframes: list[PosedKeyframe], camera_from_imu: Array) -> Views:
    poses = np.stack([k.world_from_camera for k in keyframes])
    depths = [d for d in (k.depth[::4, ::4] for k in keyframes) if np.isfinite(d).any()]
    depth = float(np.median([np.nanmedian(d) for d in depths])) if depths else float("nan")
    camera_in_imu = invert_pose(camera_from_imu)[:3, 3]
    return Views(poses[:, :3, :3] @ camera_from_imu[:3, :3], poses[:, :3, 3], camera_in_imu, depth)
