"""The whole pipeline behind an exact model: a simulated drive in random gauges must come back whole."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spatial_fm_ros.core.config import Config, IntakeConfig, MapConfig, ModelConfig, OracleConfig, WindowConfig
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.geometry.similarity import umeyama
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import (
    Frame,
    PoseSample,
    Prediction,
    Rig,
    Sample,
    ScaleState,
    Update,
    Window,
    WindowState,
)
from spatial_fm_ros.simulation.inertial import OdometryModel
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

EXACT = OdometryModel(scale_error=0.0, yaw_walk=0.0, noise_m=0.0)


class Drive:
    """A short drive, rendered once."""

    def __init__(self) -> None:
        scenario = get_scenario(
            "room_drive", duration_s=14.0, camera_hz=4.0, lidar_hz=0.0, imu_hz=0.0, odometry_model=EXACT
        ).with_size(160)
        self.simulator = Simulator(scenario)
        self.samples: list[Sample] = list(self.simulator)

    def play(self, pipeline: Pipeline, odometry: bool = True) -> list[Update]:
        pipeline.load()
        pipeline.set_rig(self.simulator.rig)
        updates = []
        for sample in self.samples:
            if isinstance(sample, PoseSample) and odometry:
                pipeline.add_pose(sample)
            elif isinstance(sample, Frame):
                updates.append(pipeline.add_frame(sample))
        while (last := pipeline.finish()) is not None:
            updates.append(last)
        return [update for update in updates if update is not None]

    def pipeline(self, model: type[OracleModel] = OracleModel, **oracle: float) -> Pipeline:
        config = Config(
            intake=IntakeConfig(disparity_px=12.0),
            window=WindowConfig(size=6, overlap=2),
            model=ModelConfig(name="oracle", oracle=OracleConfig(**oracle)),
            map=MapConfig(voxel_size=0.05),
        )
        return Pipeline(config, model(config.model, self.simulator.truth))

    def errors_m(self, pipeline: Pipeline, submap: int = 0, with_scale: bool = False) -> np.ndarray:
        """Position errors of a submap's keyframes after alignment with the truth."""
        trajectory = pipeline.trajectories()[submap]
        truth = self.simulator.truth.world_from_cameras(trajectory.stamps_ns)[:, :3, 3]
        estimate = trajectory.world_from_camera[:, :3, 3]
        moved = umeyama(truth, estimate, with_scale=with_scale).apply(estimate)
        return np.linalg.norm(moved - truth, axis=1)


@pytest.fixture(scope="module")
def drive() -> Drive:
    return Drive()


def test_random_gauges_become_one_metric_world(drive: Drive) -> None:
    pipeline = drive.pipeline()
    updates = drive.play(pipeline)
    assert {update.submap for update in updates} == {0}
    assert pipeline.scale.state is ScaleState.METRIC and pipeline.scale.observers == ("poses",)
    assert len(pipeline.trajectories()[0].stamps_ns) == pipeline.stats.keyframes
    assert drive.errors_m(pipeline).max() < 0.01
    for update in updates:
        assert update.seam is None or update.seam.accepted
        for keyframe in update.keyframes:
            truth = drive.simulator.truth.depth(keyframe.stamp_ns, keyframe.camera)
            relative = np.abs(keyframe.depth - truth) / truth
            assert np.nanmedian(relative) < 0.01
    distance = drive.simulator.truth.distance_to_surface(_in_true_world(drive, pipeline))
    assert np.median(np.asarray(distance)) < 0.05


def _in_true_world(drive: Drive, pipeline: Pipeline) -> np.ndarray:
    """Map points moved by the first keyframe's pose: no fit, the odometry frame is a known one."""
    trajectory = pipeline.trajectories()[0]
    truth = drive.simulator.truth.world_from_camera(int(trajectory.stamps_ns[0]))
    true_from_world = truth @ np.linalg.inv(trajectory.world_from_camera[0])
    return pipeline.map_cloud().points @ true_from_world[:3, :3].T + true_from_world[:3, 3]


def test_camera_alone_is_relative_and_right_up_to_scale(drive: Drive) -> None:
    pipeline = drive.pipeline()
    drive.play(pipeline, odometry=False)
    assert pipeline.scale.state is ScaleState.RELATIVE and pipeline.scale.value == 1.0
    assert drive.errors_m(pipeline, with_scale=True).max() < 0.01
    first = pipeline.trajectories()[0].world_from_camera[0]
    np.testing.assert_allclose(first[:3, 3], 0, atol=1e-9)
    np.testing.assert_allclose(first[:3, 2], [1, 0, 0], atol=1e-9)  # looks along x
    np.testing.assert_allclose(first[:3, 1], [0, 0, -1], atol=1e-9)  # image down is -z


def test_noise_outliers_and_bad_poses_are_survived(drive: Drive) -> None:
    pipeline = drive.pipeline(noise=0.02, outliers=0.1, pose_noise=0.005)
    drive.play(pipeline)
    assert len(pipeline.trajectories()) == 1
    assert np.sqrt(np.mean(drive.errors_m(pipeline) ** 2)) < 0.08


class BreaksOnce(OracleModel):
    """Window 2 shows depth that has nothing to do with the scene."""

    def infer(self, window: Window) -> Prediction:
        prediction = super().infer(window)
        if window.index != 2:
            return prediction
        noise = np.random.default_rng(0).uniform(0.1, 30.0, prediction.depth.shape).astype(np.float32)
        return dataclasses.replace(prediction, depth=noise)


def test_a_failed_seam_starts_a_submap_and_bends_nothing(drive: Drive) -> None:
    pipeline = drive.pipeline(BreaksOnce)
    updates = drive.play(pipeline)
    refused = updates[2].seam
    assert refused is not None and not refused.accepted and refused.reason
    assert updates[2].submap == 1
    assert drive.errors_m(pipeline, submap=0).max() < 0.01
    assert len(pipeline.map_cloud(0)) > 0  # what was mapped stays
    assert not pipeline._world.submaps[0].tail  # but not the images of a submap that is done
    all_ids = np.concatenate([t.keyframe_ids for t in pipeline.trajectories()])
    assert sorted(all_ids) == list(range(pipeline.stats.keyframes))


class RefusesOnce(OracleModel):
    def infer(self, window: Window) -> Prediction:
        if window.index == 1:
            raise ModelError("This window is beyond me.")
        return super().infer(window)


def test_a_window_the_model_refuses_is_counted_and_the_rest_goes_on(drive: Drive) -> None:
    pipeline = drive.pipeline(RefusesOnce)
    updates = drive.play(pipeline)
    assert updates[1].state is WindowState.FAILED and "beyond me" in updates[1].note
    assert pipeline.stats.failed_windows == 1
    assert len(pipeline.trajectories()) == 2
    for submap in range(2):
        assert drive.errors_m(pipeline, submap).max() < 0.01
    # Odometry carries the second submap to where it belongs.
    ends = [t.world_from_camera for t in pipeline.trajectories()]
    stamps = [t.stamps_ns for t in pipeline.trajectories()]
    truth = drive.simulator.truth.world_from_cameras(np.array([stamps[0][0], stamps[1][0]]))
    true_step = np.linalg.norm(truth[1, :3, 3] - truth[0, :3, 3])
    assert np.linalg.norm(ends[1][0, :3, 3] - ends[0][0, :3, 3]) == pytest.approx(true_step, abs=0.02)


class Halts(OracleModel):
    """Windows 2 and 3 come without parallax, as from a camera that stands: poses of the anchor, no depth."""

    def infer(self, window: Window) -> Prediction:
        prediction = super().infer(window)
        if window.index not in (2, 3):
            return prediction
        poses = prediction.world_from_camera.copy()
        poses[:] = poses[window.overlap - 1]
        return dataclasses.replace(
            prediction,
            world_from_camera=poses,
            depth=np.full_like(prediction.depth, np.nan),
            confidence=np.zeros_like(prediction.confidence),
            state=WindowState.NO_PARALLAX,
        )


def test_a_halt_keeps_the_scale_and_the_submap(drive: Drive) -> None:
    """Camera only: after two windows without parallax the next one still hangs on known depth."""
    pipeline = drive.pipeline(Halts)
    pipeline.load()
    frames = [s for s in drive.samples if isinstance(s, Frame)]
    standing = frames[14]
    late = iter(range(1, 100))
    updates = []
    for frame in frames:
        updates.append(pipeline.add_frame(frame))
        if frame is standing:
            break
    moving_from = pipeline.stats.windows
    assert moving_from >= 2
    held = pipeline._windows._overlap  # what the next window hangs on is the subject here
    while pipeline.stats.windows < 4:
        again = dataclasses.replace(standing, stamp_ns=standing.stamp_ns + next(late) * 2_100_000_000)
        updates.append(pipeline.add_frame(dataclasses.replace(again, camera=standing.camera)))
        if pipeline.stats.windows == 3:
            assert pipeline._windows._overlap == held
    assert len(pipeline.trajectories()) == 1


def test_reset_forgets_everything_but_the_model(drive: Drive) -> None:
    pipeline = drive.pipeline()
    drive.play(pipeline)
    assert pipeline.map_size > 0
    pipeline.reset()
    assert pipeline.map_size == 0 and pipeline.trajectories() == [] and not pipeline.ready()
    assert pipeline.scale.state is ScaleState.RELATIVE and pipeline.stats.resets == 1
    drive.play(pipeline)
    assert drive.errors_m(pipeline).max() < 0.01


def test_a_reset_during_inference_drops_that_window(drive: Drive) -> None:
    class ResetInside(OracleModel):
        def infer(self, window: Window) -> Prediction:
            pipeline.reset()
            return super().infer(window)

    pipeline = drive.pipeline(ResetInside)
    updates = drive.play(pipeline)
    assert updates == [] and pipeline.map_size == 0


def test_a_slow_model_thins_keyframes_and_keeps_the_chain(drive: Drive) -> None:
    pipeline = drive.pipeline()
    pipeline.load()
    pipeline.set_rig(drive.simulator.rig)
    config = pipeline.config.window
    for i, sample in enumerate(drive.samples):
        if isinstance(sample, PoseSample):
            pipeline.add_pose(sample)
        elif isinstance(sample, Frame):
            pipeline.offer(sample)
        if i % 400 == 399:  # the worker comes round rarely
            pipeline.step()
    while pipeline.finish() is not None:
        pass
    assert pipeline.thinned > 0
    assert len(pipeline.trajectories()) == 1
    posed = len(pipeline.trajectories()[0].stamps_ns)
    assert posed == pipeline.stats.keyframes - pipeline.thinned
    assert config.max_pending >= config.size
    assert drive.errors_m(pipeline).max() < 0.02


def test_the_run_ends_with_its_last_frame(drive: Drive) -> None:
    pipeline = drive.pipeline()
    drive.play(pipeline)
    last = max(s.stamp_ns for s in drive.samples if isinstance(s, Frame))
    assert pipeline.trajectories()[0].stamps_ns[-1] == last
    stats = pipeline.stats
    assert stats.keyframes + sum(stats.rejected.values()) == stats.frames


def test_poses_of_a_body_are_left_out_while_the_cameras_place_on_it_is_unknown(drive: Drive) -> None:
    """Taken for the camera's own they would bend the map and give it wrong metres, without a word."""
    pipeline = drive.pipeline()
    pipeline.load()
    pipeline.set_rig(Rig())
    for sample in drive.samples:
        pipeline.add(sample)
        if pipeline.ready():
            pipeline.step()
    assert pipeline.scale.state is ScaleState.RELATIVE and pipeline.sensors.poses.latest_ns is None
