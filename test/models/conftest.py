"""Tiny checkpoints of the foundation models as folders, and models that have loaded them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from foundation_models import MODELS, TINY, loaded, source
from foundation_scene import keyframes, pinhole, poses

from spatial_fm_ros.core.types import Keyframe


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    """torch on two threads for the time of a module."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders laid out as the hub's: config.json and model.safetensors. `nested` is da3_tiny_b with the metric one."""
    root = tmp_path_factory.mktemp("checkpoints")
    for name in (*TINY, "da3_tiny_m"):
        (root / name).mkdir()
        weights, settings = source(name)
        shutil.copy(weights, root / name / "model.safetensors")
        shutil.copy(settings, root / name / "config.json")
    parts = {"da3": "da3_tiny_b", "da3_metric": "da3_tiny_m"}
    tensors = {
        key.replace("model.", f"model.{branch}.", 1): tensor
        for branch, name in parts.items()
        for key, tensor in load_file(source(name)[0]).items()
    }
    anyview, metric = (json.loads(source(name)[1].read_text()) for name in parts.values())
    (root / "nested").mkdir()
    save_file(tensors, root / "nested" / "model.safetensors")
    settings = {"kind": "nested", "anyview": anyview, "metric": metric}
    (root / "nested" / "config.json").write_text(json.dumps(settings))
    return root


@pytest.fixture(scope="module")
def vggt_model(checkpoints: Path):
    return loaded("vggt", checkpoints / "vggt_tiny_a")


@pytest.fixture(scope="module")
def da3_model(checkpoints: Path):
    return loaded("depth_anything_3", checkpoints / "da3_tiny_a")


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest):
    found = request.getfixturevalue("vggt_model" if request.param == "vggt" else "da3_model")
    found.reset()
    return found


@pytest.fixture(scope="module")
def room() -> tuple[Keyframe, ...]:
    return keyframes(poses("around", 7), pinhole())
