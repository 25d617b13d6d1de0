"""Every model takes a window with views of a second camera, and its keyframes come back as without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from foundation_models import SMALL, loaded

from spatial_fm_ros.core.config import Config, GeometricConfig, HybridConfig, IntakeConfig, ModelConfig, OracleConfig
from spatial_fm_ros.core.models.hybrid.model import HybridModel
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.models.registry import create_model
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Prediction, ScaleState, Window, WindowState
from spatial_fm_ros.simulation.scenario import companion_frame, get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

NETWORKS = {"vggt": "vggt_tiny_a", "depth_anything_3": "da3_tiny_a"}


@pytest.fixture(scope="module")
def stereo() -> Simulator:
    scenario = get_scenario(
        "room_still", duration_s=3.0, camera_hz=2.0, lidar_hz=0.0, imu_hz=0.0, odometry_hz=0.0, detail=0.5
    )
    return Simulator(scenario.with_stereo(0.2).with_size(320))


class Keeping(OracleModel):
    """Remembers the window it was given."""

    def infer(self, window: Window) -> Prediction:
        self.window = window
        return super().infer(window)


def config(model: ModelConfig) -> Config:
    window = replace(Config().window, companions=2)
    return Config(intake=IntakeConfig(max_interval_s=0.4), window=window, model=model)


@pytest.fixture(scope="module")
def window(stereo: Simulator) -> Window:
    """What a pipeline gives its model: keyframes, and two views of the second camera."""
    settings = config(ModelConfig(name="oracle"))
    model = Keeping(settings.model, stereo.truth)
    pipeline = Pipeline(settings, model)
    pipeline.set_rig(stereo.rig)
    for sample in stereo:
        pipeline.add(sample)
    assert pipeline.finish() is not None
    return model.window


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_every_view_its_camera_and_depth(name, checkpoints, window) -> None:
    model = loaded(name, checkpoints / NETWORKS[name], replace(SMALL, image_width=84))
    count = len(window.keyframes)
    found = model.infer(window)
    assert found.posed.all() and found.depth.shape[0] == count and found.K.shape == (count, 3, 3)
    assert [k.frame_id for k in window.keyframes].count(companion_frame(0)) == 2
    own = found.of_first(count - 2)
    assert own.world_from_camera.shape[0] == len(own.depth) == len(own.posed) == count - 2
    np.testing.assert_array_equal(own.depth, found.depth[:-2])
    assert own.state is found.state and own.figures == found.figures


@pytest.mark.parametrize("name", ["geometric", "hybrid"])
def test_standing_models_that_match_images_see_depth_by_the_second_camera(name, stereo) -> None:
    small = GeometricConfig(dense_width=160)
    settings = ModelConfig(
        name=name, device="cpu", threads=2, geometric=small, hybrid=HybridConfig(prior="oracle"),
        oracle=OracleConfig(rotation_error_deg=1.0, direction_error_deg=5.0, warp=0.05),
    )  # fmt: skip
    model = create_model(settings)
    if isinstance(model, HybridModel):
        model.prior.truth = stereo.truth  # type: ignore[attr-defined]
    pipeline = Pipeline(config(settings), model)
    pipeline.load()
    pipeline.set_rig(stereo.rig)
    for sample in stereo:
        pipeline.add(sample)
    update = pipeline.finish()
    assert update is not None and update.state is WindowState.OK
    assert update.scale.state is ScaleState.METRIC and "baseline" in update.scale.observers
    errors = []
    for keyframe in update.keyframes:
        assert keyframe.frame_id == "camera_optical_frame"
        truth = stereo.truth.depth(keyframe.stamp_ns, keyframe.camera)
        use = np.isfinite(keyframe.depth) & np.isfinite(truth) & (keyframe.confidence > 0.5)
        assert use.sum() > 500
        errors.append(float(np.median(np.log(keyframe.depth[use] / truth[use]))))
    assert abs(np.median(errors)) < 3 * update.scale.sigma
    alone = Pipeline(replace(config(settings), window=replace(Config().window, companions=0)), pipeline.model)
    pipeline.model.reset()
    for sample in stereo:
        alone.add(sample)
    without = alone.finish()
    assert name == "hybrid" or (without is not None and without.state is WindowState.NO_PARALLAX)
