"""One simulated drive for the metric benchmark: a seed, a case, and how far its scale is from the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.config_files import load_config
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.lidar.odometry import LidarOdometry
from spatial_fm_ros.core.models.base import SpatialModel
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Frame, LidarScan, PoseSample, Rig, ScaleState, Update
from spatial_fm_ros.evaluation.trajectory import evaluate_trajectory
from spatial_fm_ros.evaluation.tum import StampedPoses
from spatial_fm_ros.simulation.faults import FaultInjector, FaultPlan
from spatial_fm_ros.simulation.inertial import OdometryModel
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Event, Simulator

#: Walk of the heading, rad per root metre, with which odometry ends about 1 % of its way off.
DRIFT_YAW = 0.01


@dataclass(frozen=True)
class Case:
    """What is driven and which sensors may be used. Fields not named are the scenario's."""

    scenario: str
    title: str
    duration_s: float = 30.0
    camera_hz: float = 4.0
    width: int = 160
    detail: float = 0.25
    model: str = "oracle"
    odometry: bool = True
    lidar: bool = False
    imu: bool = False
    baseline_m: float = 0.0  # of a stereo camera; 0 = there is but one camera
    faults: FaultPlan = FaultPlan()
    jump_m: float = 0.0  # odometry is off by this from the middle of the run on
    population: bool = False  # each seed is another robot, its calibration as wrong as the configuration expects
    settings: tuple[str, ...] = ()


@dataclass
class Outcome:
    """One run. scale: estimated units per metre over the whole trajectory (NaN where it does not move);
    depth_errors: per window, log(true depth / published depth); sigmas: as published beside; states."""

    seed: int
    scale: float = float("nan")
    ate_ratio: float = float("nan")
    depth_errors: list[float] = field(default_factory=list)
    sigmas: list[float] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    turned_over: bool = False
    jumps: int = 0
    submaps: int = 0
    drift: float = float("nan")  # of odometry at the end of the run, over the way

    @property
    def scale_error(self) -> float:
        """Of the trajectory where it moves, else of the depth of the windows called metric."""
        if np.isfinite(self.scale):
            return abs(float(np.log(self.scale)))
        return float(np.median(np.abs(self.depth_errors))) if self.depth_errors else float("nan")


def run(case: Case, seed: int, settings: dict[str, str]) -> Outcome:
    """Drive it and compare with the truth."""
    return driven(case, seed, settings)[0]


def driven(case: Case, seed: int, settings: dict[str, str]) -> tuple[Outcome, Pipeline, Simulator]:
    """The same, with the pipeline as it is in the end and the simulator that knows the truth."""
    config = _config(case, seed, settings)
    rng = np.random.default_rng([seed, 99])
    wheels = config.scale.odometry_sigma * rng.standard_normal() if case.population else 0.0
    simulator = _simulator(case, seed, wheels)
    injector = FaultInjector(replace(case.faults, seed=seed))
    model: SpatialModel | None = OracleModel(config.model, simulator.truth) if case.model == "oracle" else None
    pipeline = Pipeline(config, model)
    pipeline.load()
    rig = injector.rig(simulator.rig)
    pipeline.set_rig(_miscalibrated(rig, config, rng) if case.population else rig)
    outcome = Outcome(seed)
    odometry = LidarOdometry(config.lidar) if config.ros.pose_source == "lidar" else None
    for event in _jumped(injector.apply(simulator.events(0)), case, simulator):
        _feed(pipeline, event, simulator, outcome)
        if odometry is not None and isinstance(event.sample, LidarScan):
            pose = odometry.add(event.sample, rig)
            if pose is not None:
                pipeline.sensors.add_lidar_pose(pose)
    while (update := pipeline.finish()) is not None:
        _note(update, simulator, outcome)
    outcome.jumps, outcome.submaps = pipeline.pose_jumps, pipeline.stats.submaps
    _compare(pipeline, simulator, outcome)
    outcome.drift = _drift(simulator)
    return outcome, pipeline, simulator


def _drift(simulator: Simulator) -> float:
    """How far off odometry ends, as a share of the way driven."""
    if not simulator.odometry:
        return float("nan")
    truth = simulator.truth.trajectory.world_from_body(np.arange(0.0, simulator.scenario.duration_s, 0.1))
    way = float(np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).sum())
    last = simulator.truth.trajectory.world_from_body(np.array([simulator.scenario.duration_s]))[0]
    moved = np.linalg.inv(truth[0]) @ last
    return float(np.linalg.norm(simulator.odometry[-1].odom_from_body[:3, 3] - moved[:3, 3])) / max(way, 1e-9)


def _miscalibrated(rig: Rig, config: Config, rng: np.random.Generator) -> Rig:
    """The reported mounts of LiDAR and companion cameras, off by what the configuration takes their uncertainty to
    be."""
    scale = config.scale

    def turned(sigma_deg: float) -> np.ndarray:
        error = np.eye(4)
        error[:3, :3] = Rotation.from_rotvec(np.radians(sigma_deg) * rng.standard_normal(3)).as_matrix()
        return error

    error = turned(scale.lidar.extrinsic_sigma_deg)
    error[:3, 3] = scale.lidar.extrinsic_sigma_m * rng.standard_normal(3)
    companions = {}
    for frame, mount in rig.companions.items():
        companions[frame] = mount @ turned(scale.baseline_turn_sigma_deg)
        companions[frame][:3, 3] *= np.exp(scale.baseline_sigma * rng.standard_normal())
    return replace(rig, body_from_lidar=rig.body_from_lidar @ error, companions=companions)


def _simulator(case: Case, seed: int, wheels: float) -> Simulator:
    scenario = get_scenario(
        case.scenario,
        seed=seed,
        duration_s=case.duration_s,
        camera_hz=case.camera_hz,
        detail=case.detail,
        lidar_hz=10.0 if case.lidar else 0.0,
        imu_hz=200.0 if case.imu else 0.0,
        odometry_hz=50.0 if case.odometry else 0.0,
        odometry_model=OdometryModel(scale_error=wheels, yaw_walk=DRIFT_YAW),
    )
    if case.baseline_m:
        scenario = scenario.with_stereo(case.baseline_m)
    return Simulator(scenario.with_size(case.width))


def _config(case: Case, seed: int, settings: dict[str, str]) -> Config:
    values = {
        "model.name": case.model,
        "model.oracle.noise": "0.05",
        "model.oracle.outliers": "0.1",
        "model.oracle.seed": str(seed),
        "intake.max_interval_s": "0.5",
        **dict(text.split("=", 1) for text in case.settings),
        **settings,
    }
    return load_config(overrides=values)


def _jumped(events: Iterator[Event], case: Case, simulator: Simulator) -> Iterator[Event]:
    """Odometry after the middle of the run lies `jump_m` to the side."""
    middle = simulator.scenario.start_ns + round(0.5e9 * case.duration_s)
    for event in events:
        if case.jump_m and isinstance(event.sample, PoseSample) and event.sample.stamp_ns > middle:
            pose = event.sample.odom_from_body.copy()
            pose[1, 3] += case.jump_m
            event = replace(event, sample=replace(event.sample, odom_from_body=pose))
        yield event


def _feed(pipeline: Pipeline, event: Event, simulator: Simulator, outcome: Outcome) -> None:
    pipeline.add(event.sample)
    if isinstance(event.sample, Frame) and pipeline.ready() and (update := pipeline.step()) is not None:
        _note(update, simulator, outcome)


def _note(update: Update, simulator: Simulator, outcome: Outcome) -> None:
    outcome.states.append(update.scale.state.value)
    outcome.rejected.update(text.split(":")[0] for text in update.scale.rejected)
    errors = []
    for keyframe in update.keyframes:
        truth = simulator.truth.depth(keyframe.stamp_ns, keyframe.camera)
        use = np.isfinite(truth) & np.isfinite(keyframe.depth) & (keyframe.confidence > 0.5)
        if use.sum() > 100:
            errors.append(float(np.median(np.log(truth[use] / keyframe.depth[use]))))
    if errors and update.scale.state in (ScaleState.METRIC, ScaleState.CONFLICT):
        outcome.depth_errors.append(float(np.median(errors)))
        outcome.sigmas.append(update.scale.sigma)


def _compare(pipeline: Pipeline, simulator: Simulator, outcome: Outcome) -> None:
    maps = pipeline.trajectories()
    largest = max(maps, key=lambda each: len(each.stamps_ns), default=None)
    if largest is None or len(largest.stamps_ns) < 3:
        return
    truth = simulator.truth.world_from_cameras(largest.stamps_ns)
    if np.ptp(truth[:, :3, 3], axis=0).max() < 0.5:
        return  # it stood or turned: a trajectory has no scale
    try:
        errors = evaluate_trajectory(
            StampedPoses(largest.stamps_ns, largest.world_from_camera, "the map"),
            StampedPoses(largest.stamps_ns, truth, "the truth"),
        )
        outcome.scale = 1.0 / errors.sim3.truth_from_estimate.scale
        outcome.ate_ratio = errors.se3.ate.rmse / max(errors.sim3.ate.rmse, 1e-9)
    except InputError:  # a straight path: positions do not fix a rotation, lengths fix the scale
        seen, true = largest.world_from_camera[:, :3, 3], truth[:, :3, 3]
        outcome.scale = float(np.linalg.norm(seen - seen.mean(0)) / np.linalg.norm(true - true.mean(0)))
    turn = np.einsum("nij,nkj->nik", largest.world_from_camera[:, :3, :3], truth[:, :3, :3])
    spread = np.einsum("nij,kj->nik", turn, turn[0])
    outcome.turned_over = bool((np.trace(spread, axis1=1, axis2=2) < 0).any())
