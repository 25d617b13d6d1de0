"""Maps set aside when time goes elsewhere: kept, bounded, joined again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spatial_fm_ros.core.config import Config, IntakeConfig, MapConfig, ModelConfig, OracleConfig, WindowConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Frame, PoseSample, Sample
from spatial_fm_ros.simulation.inertial import OdometryModel
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator


@pytest.fixture(scope="module")
def drive() -> tuple[Simulator, list[Sample]]:
    exact = OdometryModel(scale_error=0.0, yaw_walk=0.0, noise_m=0.0)
    scenario = get_scenario(
        "room_drive", duration_s=8.0, camera_hz=4.0, lidar_hz=0.0, imu_hz=0.0, odometry_model=exact
    ).with_size(120)
    simulator = Simulator(scenario)
    return simulator, list(simulator)


def pipeline_of(drive: tuple[Simulator, list[Sample]], max_voxels: int = 2_000_000) -> Pipeline:
    config = Config(
        intake=IntakeConfig(disparity_px=12.0),
        window=WindowConfig(size=4, overlap=2),
        model=ModelConfig(name="oracle", oracle=OracleConfig()),
        map=MapConfig(voxel_size=0.1, max_voxels=max_voxels),
    )
    pipeline = Pipeline(config, OracleModel(config.model, drive[0].truth))
    pipeline.load()
    pipeline.set_rig(drive[0].rig)
    return pipeline


def play(pipeline: Pipeline, samples: list[Sample]) -> None:
    for sample in samples:
        if isinstance(sample, PoseSample):
            pipeline.add_pose(sample)
        elif isinstance(sample, Frame):
            pipeline.add_frame(sample)
    while pipeline.finish() is not None:
        pass


def test_a_map_set_aside_stays_whole_and_is_joined_again(drive: tuple[Simulator, list[Sample]]) -> None:
    pipeline, half = pipeline_of(drive), len(drive[1]) // 2
    play(pipeline, drive[1][:half])
    first, poses = pipeline.map_size, pipeline.trajectories()
    assert not pipeline.set_aside("time went elsewhere", line=1, now=2)
    assert first > 0 and pipeline.map_size == 0 and pipeline.trajectories() == [] and pipeline.stats.resets == 1
    (aside,) = pipeline.maps_aside()
    assert (aside.number, aside.size, aside.why) == (1, first, "time went elsewhere")
    assert len(aside.saved().cloud) == first and len(aside.trajectories()) == len(poses)

    assert pipeline.set_aside("time came back", line=2, now=1)  # the world of line 2 is empty: not kept
    assert pipeline.map_size == first and pipeline.maps_aside() == []
    play(pipeline, drive[1][half:])
    assert pipeline.map_size > first
    # Odometry places what follows where it belongs.
    stamps = np.concatenate([t.stamps_ns for t in pipeline.trajectories()])
    centres = np.concatenate([t.world_from_camera for t in pipeline.trajectories()])[:, :3, 3]
    truth = drive[0].truth.world_from_cameras(stamps)[:, :3, 3]
    lengths = [np.linalg.norm(np.diff(each, axis=0), axis=1) for each in (centres, truth)]
    np.testing.assert_allclose(*lengths, atol=0.02)


def test_maps_aside_are_bounded_and_a_persons_reset_forgets_them(drive: tuple[Simulator, list[Sample]]) -> None:
    whole = pipeline_of(drive)
    play(whole, drive[1])
    pipeline = pipeline_of(drive, max_voxels=int(2.5 * whole.map_size))
    for line in range(4):
        play(pipeline, drive[1])
        assert pipeline.map_size == whole.map_size  # the map itself gives nothing up for those aside
        pipeline.set_aside("again", line=line, now=line + 1)
        assert sum(each.size for each in pipeline.maps_aside()) <= 2.5 * whole.map_size
    assert [each.number for each in pipeline.maps_aside()] == [3, 4]
    assert pipeline.aside_forgotten == 2 * whole.map_size
    pipeline.reset()
    assert pipeline.maps_aside() == []


@pytest.mark.parametrize("timed", [True, False])
def test_poisoned_samples_leave_the_map_as_it_would_be(drive: tuple[Simulator, list[Sample]], timed: bool) -> None:
    """Three of each kind in a row, an hour ahead and a day behind, all over the drive: refused, and that is all."""
    clean, poisoned = pipeline_of(drive), pipeline_of(drive)
    play(clean, drive[1])
    refused = 0
    for i, sample in enumerate(drive[1]):
        arrived = i * 10_000_000 if timed else None
        sample = replace(sample, arrived_ns=arrived)
        if i % 60 == 59:
            for offset_s in (3600, 3601, 3602, -86400, -86401, -86402):
                wrong = replace(sample, stamp_ns=sample.stamp_ns + offset_s * 10**9)
                try:
                    poisoned.add(wrong)
                except InputError as error:
                    refused += 1
                    assert "is stamped" in str(error)
        poisoned.add(sample)
        while poisoned.ready():
            poisoned.step()
    while poisoned.finish() is not None:
        pass
    assert refused > 6 and not poisoned.stats.resets
    for a, b in zip(clean.trajectories(), poisoned.trajectories(), strict=True):
        np.testing.assert_array_equal(a.stamps_ns, b.stamps_ns)
    assert poisoned.sensors.poses.latest_ns == clean.sensors.poses.latest_ns
