"""What can go wrong with a foundation model's images, memory and checkpoint, and what is said then."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from foundation_models import MODELS, SMALL, TINY, loaded, window

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.registry import create_model
from spatial_fm_ros.core.types import WindowState


def test_nan_pixels_are_a_failed_window_and_no_error(model, room) -> None:
    image = room[1].image.astype(np.float32) / 255
    image[30:40, 50:60] = np.nan
    prediction = model.infer(window((room[0], replace(room[1], image=image), room[2])))
    assert prediction.state is WindowState.FAILED and not prediction.posed.any()
    assert "no finite" in prediction.note and np.isfinite(prediction.K).all()
    assert model.infer(window(room[3:6], 1)).state is WindowState.OK  # and the next one is fine


@pytest.mark.parametrize(
    ("name", "key"), [("vggt_tiny_a", "aggregator.camera_token"), ("da3_tiny_a", "model.cam_dec.fc_t.bias")]
)
def test_weights_of_nan_are_failed_windows(checkpoints, tmp_path, room, name: str, key: str) -> None:
    tensors = load_file(checkpoints / name / "model.safetensors")
    tensors[key] = torch.full_like(tensors[key], torch.nan)
    save_file(tensors, tmp_path / "model.safetensors")
    shutil.copy(checkpoints / name / "config.json", tmp_path)
    prediction = loaded(TINY[name], tmp_path).infer(window(room[:2]))
    assert prediction.state is WindowState.FAILED and not prediction.posed.any()


def hungry(model, most: int, monkeypatch) -> list[int]:
    """Let the allocator refuse passes of more than `most` views; returns the sizes that are tried."""
    tried: list[int] = []
    relate = type(model).relate

    def with_appetite(self, network, features, canvas, frames):
        tried.append(len(frames))
        if len(frames) > most:
            torch.empty(1 << 50, dtype=torch.uint8)
        return relate(self, network, features, canvas, frames)

    monkeypatch.setattr(type(model), "relate", with_appetite)
    return tried


@pytest.mark.parametrize("name", MODELS)
def test_out_of_memory_makes_windows_smaller_and_is_remembered(checkpoints, name, room, monkeypatch) -> None:
    model = loaded(name, "random:tiny")
    tried = hungry(model, 3, monkeypatch)
    prediction = model.infer(window(room))
    assert tried == [7, 5, 3]
    assert prediction.posed.tolist() == [True, False, False, True, False, False, True]
    assert "memory holds 3 of 7" in prediction.note and len(prediction.depth) == len(prediction.K) == 7
    assert model.window_limit == 3 + 1  # five did not fit; four were not tried
    model.infer(window(room[:4], 1))
    assert model.window_limit == 3
    model.infer(window(room, 2))
    assert tried == [7, 5, 3, 4, 3, 3]


def test_memory_for_not_even_one_view_is_a_sentence(room, monkeypatch) -> None:
    model = loaded("vggt", "random:tiny")
    hungry(model, 0, monkeypatch)
    with pytest.raises(ModelError, match="not enough for a single image of 'vggt'"):
        model.infer(window(room[:2]))
    with pytest.raises(ModelError, match="not enough for a single image"):
        model.load()


def test_other_failures_of_the_network_are_sentences(model, room, monkeypatch) -> None:
    monkeypatch.setattr(type(model), "relate", lambda *_: torch.zeros(2) + torch.zeros(3))
    with pytest.raises(ModelError, match="failed on 2 images"):
        model.infer(window(room[:2]))
    with pytest.raises(ModelError, match="without keyframes"):
        model.infer(window(()))
    grey = replace(room[0], image=room[0].image[..., 0])
    with pytest.raises(ModelError, match="RGB images"):
        model.infer(window((grey,)))


@pytest.mark.parametrize("name", MODELS)
def test_random_weights_mark_everything(name: str, room) -> None:
    model = loaded(name, "random:tiny")
    assert model.random_weights and model.weights.startswith("RANDOM WEIGHTS")
    prediction = model.infer(window(room[:3]))
    assert prediction.note.startswith("RANDOM WEIGHTS") and not prediction.metric
    with pytest.raises(ModelError, match="cannot be built: Unknown"):
        loaded(name, "random:enormous")


@pytest.mark.parametrize(
    ("name", "checkpoint", "words"),
    [
        ("vggt", "da3_tiny_a", "use model:=depth_anything_3"),
        ("depth_anything_3", "vggt_tiny_a", "use model:=vggt"),
        ("depth_anything_3", "da3_tiny_m", "hold the same tensors"),
        ("vggt", "nowhere", "does not exist"),
    ],
)
def test_wrong_checkpoints_are_named(checkpoints, name: str, checkpoint: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        loaded(name, checkpoints / checkpoint)


def test_settings_beside_a_checkpoint_decide_its_size(checkpoints, tmp_path) -> None:
    shutil.copy(checkpoints / "vggt_tiny_a" / "model.safetensors", tmp_path)
    with pytest.raises(ModelError, match="does not fit|another size"):
        loaded("vggt", tmp_path)  # without settings it is taken for VGGT-1B
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(ModelError, match=r"config\.json.*cannot be read"):
        loaded("vggt", tmp_path)
    settings = json.loads((checkpoints / "vggt_tiny_a" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"enable_track": True}))  # foreign keys do no harm
    assert loaded("vggt", tmp_path).weights.endswith("(licence not known)")
    (tmp_path / "config.json").write_text(json.dumps(settings | {"aa_depth": 0}))
    with pytest.raises(ModelError, match="cannot be built: .*aa_depth"):
        loaded("vggt", tmp_path)
    for content, words in (
        (json.dumps(settings | {"aa_depth": 10**9}), "give 'aa_depth' as 1000000000, but with"),
        (json.dumps(settings | {"embed_dim": 2**80}), "give 'embed_dim' as"),
        (json.dumps(settings | {"embed_dim": "wide"}), "embed_dim"),
        ("[" * 100_000, "cannot be read"),
        ("1" * 100_000, "cannot be read"),
        ('{"a": "' + "b" * 2**20 + '"}', "has at most 1048576"),
    ):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ModelError, match=words):
            loaded("vggt", tmp_path)
    (tmp_path / "config.json").unlink()
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ModelError, match="no regular file but a FIFO"):
        loaded("vggt", tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_misuse_is_a_sentence(name: str, room) -> None:
    config = ModelConfig(name=name, checkpoint="random:tiny", foundation=SMALL)
    with pytest.raises(ModelError, match="before load"):
        create_model(config).infer(window(room[:2]))
    for device in ("cuda:99", "mps", "warp-drive"):
        with pytest.raises(ModelError, match="device"):
            create_model(replace(config, device=device)).load()
