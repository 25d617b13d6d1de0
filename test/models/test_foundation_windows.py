"""Windows become as small as memory asks, the chain of shared keyframes holds, and offline maps come out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from foundation_models import SMALL
from foundation_scene import HIGH, LOW, pinhole, poses, room_depth, room_image
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from spatial_fm_ros.cli import app
from spatial_fm_ros.core.config import Config, IntakeConfig, ModelConfig, WindowConfig
from spatial_fm_ros.core.geometry.similarity import Sim3, umeyama
from spatial_fm_ros.core.intake.windows import WindowAssembler
from spatial_fm_ros.core.models.depth_anything_3.adapter import DepthAnything3Model
from spatial_fm_ros.core.models.foundation.output import NetworkOutput
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Camera, Frame, Keyframe, PoseSample, ScaleState


def plain_keyframe(i: int) -> Keyframe:
    return Keyframe(i, i, np.zeros((8, 8, 3), np.uint8), None, "camera", 10.0, "moved")


@given(st.integers(2, 9), st.integers(2, 8), st.lists(st.integers(0, 12), min_size=1, max_size=12))
def test_whatever_the_limits_every_keyframe_is_in_a_window_and_windows_overlap(size, overlap, limits) -> None:
    """While the limit goes up and down; what a sudden fall of it leaves out is counted."""
    assembler = WindowAssembler(WindowConfig(size=size, overlap=max(2, min(overlap, size - 1)), max_pending=2))
    seen, last, number = [], None, 0
    for limit in limits:
        assembler.limit(limit)
        assert assembler.size == max(2, min(size, limit)) and 1 <= assembler.overlap < assembler.size
        while not assembler.ready():
            assembler.push(plain_keyframe(number))
            number += 1
        while assembler.ready():
            window = assembler.take()
            assert window is not None and window.overlap < len(window.ids) == assembler.size
            if last is not None:
                assert window.overlap >= 1 and window.ids[: window.overlap] == last.ids[-window.overlap :]
            seen += window.ids[window.overlap :]
            last = window
    assert seen == sorted(set(seen)) and len(seen) + assembler.pending + assembler.thinned == number


class Hungry(DepthAnything3Model):
    """More than `most` views are too many for the allocator."""

    most = 4
    tried: list[int]

    def relate(self, network, features, canvas, keyframes):
        self.tried.append(len(keyframes))
        if len(keyframes) > self.most:
            torch.empty(1 << 50, dtype=torch.uint8)
        return super().relate(network, features, canvas, keyframes)


def test_a_pipeline_short_of_memory_maps_on_with_smaller_windows() -> None:
    config = Config(
        intake=IntakeConfig(disparity_px=0.0),
        window=WindowConfig(size=8, overlap=3),
        model=ModelConfig(name="depth_anything_3", checkpoint="random:tiny", threads=2, foundation=SMALL),
    )
    model = Hungry(config.model)
    model.tried = []
    pipeline = Pipeline(config, model)
    pipeline.load()
    model.tried.clear()
    assert pipeline.window_size == 8
    updates = []
    for i, pose in enumerate(poses("around", 20)):
        pipeline.add_pose(PoseSample(i * 10**8, pose))
        updates.append(pipeline.add_frame(Frame(i * 10**8, room_image(pose, pinhole()), pinhole())))
    updates = [update for update in updates if update is not None]
    assert model.tried[:3] == [8, 6, 4] and max(model.tried[3:]) <= 5
    assert pipeline.window_size == 4 and "memory holds 4 of 8" in updates[0].note
    assert len(updates) > 5 and pipeline.stats.failed_windows == 0
    assert all(update.note.startswith("RANDOM WEIGHTS") for update in updates)


class Knowing(DepthAnything3Model):
    """Says the truth of the room, in another gauge every window, with a focal length of its own that is wrong."""

    truth: np.ndarray

    def relate(self, network, features, canvas, keyframes):
        at = canvas.placements[0]
        K = np.stack([at.K_on_canvas(pinhole())] * len(keyframes))
        world_from_camera = self.truth[[round(k.stamp_ns / 1e8) for k in keyframes]]
        depth = np.stack([room_depth(pose, Camera(*canvas.size, K[0])) for pose in world_from_camera])
        rng = np.random.default_rng(abs(keyframes[-1].id))
        gauge = Sim3(float(np.exp(rng.normal())), Rotation.random(random_state=rng).as_matrix(), rng.normal(0, 5, 3))
        K[:, [0, 1], [0, 1]] *= 1.07
        poses_ = np.stack([gauge.apply_pose(pose) for pose in world_from_camera])
        depth = (depth * gauge.scale).astype(np.float32)
        return NetworkOutput(poses_, K, depth, np.full_like(depth, 9.0))


@pytest.mark.parametrize("odometry", [True, False])
def test_windows_in_any_gauge_become_one_true_room(odometry: bool) -> None:
    """Poses, rays and grids of the adapter through seams and scale: what a right network says becomes a right map."""
    truth = poses("around", 23)
    config = Config(
        intake=IntakeConfig(disparity_px=0.0),
        window=WindowConfig(size=6, overlap=2),
        model=ModelConfig(checkpoint="random:tiny", threads=2, foundation=replace(SMALL, image_width=112)),
    )
    model = Knowing(config.model)
    model.truth = truth
    pipeline = Pipeline(config, model)
    pipeline.load()
    for i, pose in enumerate(truth):
        if odometry:
            pipeline.add_pose(PoseSample(i * 10**8, pose))
        pipeline.add_frame(Frame(i * 10**8, room_image(pose, pinhole()), pinhole()))
    while pipeline.finish() is not None:
        pass
    (trajectory,) = pipeline.trajectories()
    assert len(trajectory.stamps_ns) == 23
    estimate, expected = trajectory.world_from_camera, truth
    true_from_map = umeyama(expected[:, :3, 3], estimate[:, :3, 3], with_scale=not odometry)
    assert np.abs(true_from_map.apply(estimate[:, :3, 3]) - expected[:, :3, 3]).max() < 2e-3
    points = true_from_map.apply(pipeline.map_cloud().points.astype(np.float64))
    assert len(points) > 5000
    off = np.minimum(np.abs(points - LOW), np.abs(points - HIGH)).min(axis=1)
    assert np.quantile(off, 0.99) < 0.02 and (pipeline.scale.state is ScaleState.METRIC) == odometry


def test_the_limit_follows_the_memory_that_is_free(monkeypatch) -> None:
    """The measured need of a view against what the system says is free."""
    from spatial_fm_ros.core.models.foundation import model as module

    model = DepthAnything3Model(ModelConfig(checkpoint="random:tiny", threads=2, foundation=SMALL))
    assert model.window_limit == model.supports.max_views  # before anything is measured
    model.load()
    a_view = model.budget.bytes_per_view
    assert a_view > 0
    for views, expected in ((40, 34), (10, 8), (3, 2), (0, 2)):
        monkeypatch.setattr(module, "available_bytes", lambda device, views=views: int(views * a_view) + 1)
        assert model.window_limit == expected


@pytest.mark.parametrize(("name", "checkpoint"), [("vggt", "vggt_tiny_a"), ("depth_anything_3", "da3_tiny_b")])
def test_spatial_fm_map_with_a_checkpoint(checkpoints: Path, tmp_path: Path, name: str, checkpoint: str) -> None:
    (tmp_path / "images").mkdir()
    for i, pose in enumerate(poses("around", 7)):
        cv2.imwrite(str(tmp_path / "images" / f"{i:03d}.png"), room_image(pose, pinhole())[..., ::-1])
    words = ["map", tmp_path / "images", "-o", tmp_path / "out"]
    words += ["--model", name, "--checkpoint", checkpoints / checkpoint / "model.safetensors"]
    for setting in ("intake.disparity_px=0", "model.threads=2", "model.foundation.image_width=84", "window.size=4"):
        words += ["--set", setting]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["model"]["name"] == name and "model.safetensors" in report["model"]["weights"]
    assert not report["model"]["random_weights"] and report["model"]["window_limit"] == 4
    assert report["counts"]["keyframes_posed"] >= 4 and report["counts"]["depth_images"] >= 4


def test_random_weights_are_named_in_the_report_and_the_map(tmp_path: Path, room) -> None:
    import cv2
    from rich.console import Console

    from spatial_fm_ros.offline.mapper import map_recording
    from spatial_fm_ros.sources.open_source import open_source

    (tmp_path / "images").mkdir()
    for keyframe in room[:5]:
        cv2.imwrite(str(tmp_path / "images" / f"{keyframe.id:03d}.png"), keyframe.image)
    config = Config(
        intake=IntakeConfig(disparity_px=0.0),
        window=WindowConfig(size=4, overlap=2),
        model=ModelConfig(name="vggt", checkpoint="random:tiny", threads=2, foundation=SMALL),
    )
    config = replace(config, map=replace(config.map, min_confidence=0.0))
    with open_source(tmp_path / "images") as source:
        map_recording(source, tmp_path / "out", config, Console(quiet=True))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["model"]["random_weights"] and report["notes"][0].startswith("RANDOM WEIGHTS")
    assert all(row["note"].startswith("RANDOM WEIGHTS") for row in report["windows"])
    assert b"comment RANDOM WEIGHTS" in (tmp_path / "out" / "map.ply").read_bytes()[:300]
    assert "RANDOM WEIGHTS" in (tmp_path / "out" / "report.html").read_text()
