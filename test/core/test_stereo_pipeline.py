"""A rig of two cameras through the whole pipeline: metres from its baseline, and a map of the first camera alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spatial_fm_ros.core.config import Config, IntakeConfig, MapConfig, ModelConfig, OracleConfig, WindowConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import CompanionFrame, Frame, PoseSample, ScaleState, Update, Window
from spatial_fm_ros.simulation.scenario import Mount, companion_frame, get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

FRAME = companion_frame(0)


class Watched(OracleModel):
    """Remembers what it was given, and may hold fewer views."""

    most = 64

    def load(self) -> None:
        super().load()
        self.windows: list[Window] = []

    @property
    def window_limit(self) -> int:
        return self.most

    def infer(self, window: Window):
        self.windows.append(window)
        return super().infer(window)


class Drive:
    """Images of two cameras, rendered once."""

    def __init__(self, scenario: str, seconds: float) -> None:
        settled = get_scenario(scenario, duration_s=seconds, camera_hz=4.0, lidar_hz=0.0, imu_hz=0.0, detail=0.25)
        self.simulator = Simulator(settled.with_stereo(0.12).with_size(160))
        self.samples = list(self.simulator)

    def play(self, *, odometry: bool = False, most: int = 64, change=lambda sample: sample, **window: int):
        """The pipeline afterwards, its updates, and what the model was given."""
        config = Config(
            intake=IntakeConfig(disparity_px=12.0, max_interval_s=0.5),
            window=WindowConfig(size=6, overlap=2, **window),
            model=ModelConfig(name="oracle", oracle=OracleConfig(noise=0.03, pose_noise=0.0005)),
            map=MapConfig(voxel_size=0.05),
        )
        model = Watched(config.model, self.simulator.truth)
        model.most = most
        pipeline = Pipeline(config, model)
        pipeline.load()
        pipeline.set_rig(self.simulator.rig)
        updates: list[Update | None] = []
        for sample in self.samples:
            changed = change(sample)
            if changed is None or (isinstance(sample, PoseSample) and not odometry):
                continue
            pipeline.add(changed)
            if pipeline.ready():
                updates.append(pipeline.step())
        while (last := pipeline.finish()) is not None:
            updates.append(last)
        return pipeline, [update for update in updates if update is not None], model.windows

    def depth_error(self, update: Update) -> float:
        errors = []
        for keyframe in update.keyframes:
            truth = self.simulator.truth.depth(keyframe.stamp_ns, keyframe.camera)
            errors.append(np.nanmedian(np.log(keyframe.depth / truth)))
        return float(np.median(errors))


@pytest.fixture(scope="module")
def still() -> Drive:
    return Drive("room_still", 6.0)


@pytest.fixture(scope="module")
def drive() -> Drive:
    return Drive("room_drive", 10.0)


def test_a_rig_that_stands_is_metric_from_the_first_window(still: Drive) -> None:
    pipeline, updates, _ = still.play()
    assert [update.scale.state for update in updates] == [ScaleState.METRIC] * len(updates)
    assert pipeline.scale.observers == ("baseline",) and pipeline.scale.sigma < 0.05
    assert max(abs(still.depth_error(update)) for update in updates) < 0.01


def test_without_the_second_camera_the_same_run_is_relative(still: Drive) -> None:
    pipeline, _, windows = still.play(change=lambda s: None if isinstance(s, CompanionFrame) else s)
    assert pipeline.scale.state is ScaleState.RELATIVE
    assert {len(window.keyframes) for window in windows} <= {3, 4, 5, 6}


def test_it_can_be_switched_off(still: Drive) -> None:
    pipeline, _, windows = still.play(companions=0)
    assert pipeline.scale.state is ScaleState.RELATIVE and max(len(w.keyframes) for w in windows) == 6


def test_a_driving_rig_has_metres_and_one_path(drive: Drive) -> None:
    pipeline, updates, windows = drive.play()
    assert pipeline.scale.state is ScaleState.METRIC and {update.submap for update in updates} == {0}
    assert max(abs(drive.depth_error(update)) for update in updates) < 0.03
    # The map is of the first camera: one pose a keyframe, none from the other camera.
    [trajectory] = pipeline.trajectories()
    assert len(trajectory.stamps_ns) == pipeline.stats.keyframes == len(set(trajectory.stamps_ns.tolist()))
    truth = drive.simulator.truth.world_from_cameras(trajectory.stamps_ns)[:, :3, 3]
    steps = np.linalg.norm(np.diff(trajectory.world_from_camera[:, :3, 3], axis=0), axis=1)
    assert steps == pytest.approx(np.linalg.norm(np.diff(truth, axis=0), axis=1), abs=0.03)
    assert {k.frame_id for update in updates for k in update.keyframes} == {"camera_optical_frame"}
    for window in windows:
        assert 0 < len(window.keyframes) - 6 <= 4 or len(window.keyframes) < 6
        assert len(set(window.ids)) == len(window.ids)
        first = [k.frame_id == FRAME for k in window.keyframes].index(True)
        assert all(k.frame_id == FRAME for k in window.keyframes[first:])


def test_odometry_and_baseline_agree_and_companions_carry_its_poses(drive: Drive) -> None:
    _, updates, windows = drive.play(odometry=True)
    for update in updates[1:-1]:  # the last window is short
        assert set(update.scale.observers) == {"poses", "baseline"} and update.scale.rejected == ()
    told = drive.simulator.rig.companions[FRAME]
    for window in windows[1:-1]:
        poses = {k.stamp_ns: k.odom_from_camera for k in window.keyframes if k.frame_id != FRAME}
        for view in (k for k in window.keyframes if k.frame_id == FRAME):
            np.testing.assert_allclose(view.odom_from_camera, poses[view.stamp_ns] @ told, atol=1e-9)


def test_a_model_with_little_memory_shares_it_between_the_cameras(drive: Drive) -> None:
    pipeline, _, windows = drive.play(most=6)
    assert max(len(window.keyframes) for window in windows) == 6
    assert all(sum(k.frame_id == FRAME for k in window.keyframes) <= 2 for window in windows)
    assert pipeline.scale.state is ScaleState.METRIC


def test_a_second_camera_on_another_clock_is_named(still: Drive) -> None:
    def late(sample):
        if isinstance(sample, CompanionFrame):
            stamp = sample.stamp_ns + 60_000_000
            return CompanionFrame(dataclasses.replace(sample.frame, stamp_ns=stamp))
        return sample

    pipeline, _, _ = still.play(change=late)
    assert pipeline.scale.state is ScaleState.UNOBSERVABLE
    assert any("triggered together" in text and FRAME in text for text in pipeline.scale.rejected)


def test_an_uncalibrated_second_camera_is_refused_and_the_map_goes_on(still: Drive) -> None:
    refused = []

    def uncalibrated(sample):
        return CompanionFrame(dataclasses.replace(sample.frame, camera=None)) if is_companion(sample) else sample

    def is_companion(sample):
        return isinstance(sample, CompanionFrame)

    pipeline = Pipeline(Config(model=ModelConfig(name="oracle")), OracleModel(ModelConfig(), still.simulator.truth))
    pipeline.load()
    for sample in (s for s in still.samples if not isinstance(s, PoseSample)):
        try:
            pipeline.add(uncalibrated(sample))
        except InputError as error:
            refused.append(str(error))
    assert len(refused) == len(still.simulator.frame_stamps_ns) and "CameraInfo" in refused[0]
    assert pipeline.finish() is not None and pipeline.scale.state is ScaleState.RELATIVE


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (lambda right: {FRAME: np.linalg.inv(right)}, "cameras swapped"),
        (lambda right: {}, "TF has no transform from the camera to the rig's camera"),
        (lambda right: {FRAME: right @ np.diag([-1.0, 1.0, 1.0, 1.0])}, "not a rigid transform"),
        (lambda right: {FRAME: np.eye(4)}, "in the same place"),
    ],
)
def test_a_second_camera_told_wrongly_or_not_at_all_is_named(still: Drive, told, words) -> None:
    rig = still.simulator.rig
    model = Watched(ModelConfig(), still.simulator.truth)
    pipeline = Pipeline(Config(model=ModelConfig(name="oracle")), model)
    pipeline.load()
    pipeline.set_rig(dataclasses.replace(rig, companions=told(rig.companions[FRAME])))
    for sample in still.samples:
        pipeline.add(sample)
    assert pipeline.finish() is not None
    assert any(words in text for text in pipeline.scale.rejected)
    # Without a place it is no view: models would lose the poses of all others.
    assert all(k.odom_from_camera is not None for k in model.windows[0].keyframes)


def test_a_reset_forgets_what_the_second_camera_saw(still: Drive) -> None:
    pipeline, _, _ = still.play()
    pipeline.reset()
    assert pipeline.sensors.companions.cameras == () and pipeline.scale.state is ScaleState.RELATIVE
    for sample in still.samples:
        if isinstance(sample, (Frame, CompanionFrame)):
            pipeline.add(sample)
            if pipeline.ready():
                pipeline.step()
    assert pipeline.scale.observers == ("baseline",)


def test_three_cameras_looking_apart_are_all_used() -> None:
    scenario = get_scenario("room_drive", duration_s=4.0, camera_hz=4.0, lidar_hz=0.0, imu_hz=0.0, detail=0.25)
    mounts = (Mount(0.15, -0.2, 0.55, yaw_deg=-20.0), Mount(0.1, 0.1, 0.85, pitch_deg=10.0))
    simulator = Simulator(dataclasses.replace(scenario, companion_mounts=mounts).with_size(160))
    config = Config(
        intake=IntakeConfig(max_interval_s=0.5), model=ModelConfig(oracle=OracleConfig(pose_noise=0.0005))
    )
    pipeline = Pipeline(config, OracleModel(config.model, simulator.truth))
    pipeline.load()
    pipeline.set_rig(simulator.rig)
    for sample in simulator:
        if isinstance(sample, (Frame, CompanionFrame)):
            pipeline.add(sample)
    update = pipeline.finish()
    assert update is not None and update.scale.state is ScaleState.METRIC
    assert set(simulator.rig.companions) == set(pipeline.sensors.companions.cameras)
    keyframe = update.keyframes[0]
    truth = simulator.truth.depth(keyframe.stamp_ns, keyframe.camera)
    assert abs(np.nanmedian(np.log(keyframe.depth / truth))) < 0.02
