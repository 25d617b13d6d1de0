"""sequence.json: its form and its sense, told by the key; changed at random it opens or is one sentence."""

from __future__ import annotations

import importlib.util
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.sequence_description import read_description
from spatial_fm_ros.core.types import LidarScan
from spatial_fm_ros.sources.open_source import open_source

_spec = importlib.util.spec_from_file_location("fuzz_sequence", Path(__file__).parents[2] / "scripts/fuzz/sequence.py")
fuzz = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz)


def described(**changes):
    return json.dumps({**fuzz.DESCRIBED, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate_hz": "10"}, "'rate_hz' must be images per second"),
        ({"rate_hz": True}, "'rate_hz' must be images per second"),
        ({"rate_hz": 0}, "'rate_hz' must be images per second"),
        ({"rate_hz": 1e308}, "'rate_hz' must be images per second"),
        ({"width": 64.5}, "'width' must be columns of the images"),
        ({"width": None}, "'K' needs 'width' and 'height'"),
        ({"K": [1, 2, 3]}, "'K' must be 9 numbers"),
        ({"K": "unknown"}, "'K' must be 9 numbers"),
        ({"K": [0, 0, 31, 0, 50, 23, 0, 0, 1]}, "cannot be used: A camera matrix K needs 3x3 finite values"),
        ({"K": [50, 0, 31, 0, 50, 23, 0, 0, 2]}, "'K' must be fx s cx, 0 fy cy, 0 0 1"),
        ({"distortion": -1}, "'distortion' must be up to 14 coefficients"),
        ({"distortion": [0, 0, None, 0, 0]}, r"'distortion\[2\]' must be"),
        ({"distortion": [0.1, 0.2]}, "Distortion model 'plumb_bob' takes 4 or 5"),
        ({"distortion_model": "\x1b[2J"}, r"'distortion_model' must be .* got '\\x1b\[2J'"),
        ({"camera_from_lidar": [1.0] * 16}, "'camera_from_lidar' is no rigid transform"),
        ({"camera_from_lidar": np.diag([1.0, 1, -1, 1]).ravel().tolist()}, "no rigid transform"),
        ({"lidar_unit_m": -1}, "'lidar_unit_m' must be metres"),
        ({"frames": "many"}, "'frames' must be how many"),
    ],
)
def test_a_fault_is_told_by_its_key(tmp_path, changes, words):
    (tmp_path / "sequence.json").write_text(described(**changes))
    with pytest.raises(InputError, match=words):
        read_description(tmp_path / "sequence.json")


def test_customary_forms_are_read(tmp_path):
    path = tmp_path / "sequence.json"
    path.write_text(described(K=[[50, 0, 31.5], [0, 50, 23.5], [0, 0, 1]], width=64.0, distortion=None, frames=None))
    read = read_description(path)
    assert (read.camera.width, read.camera.distortion_model, read.frames) == (64, "none", 0)
    path.write_text(described(K=None, width=None, camera_from_lidar=np.eye(4).tolist(), licence=["any", {"note": 1}]))
    read = read_description(path)
    assert read.camera is None and read.camera_from_lidar.shape == (4, 4)


def test_changed_descriptions_open_or_are_one_sentence(tmp_path):
    folder = fuzz.write_folder(tmp_path / "s")
    rng = random.Random(0)
    said = [fuzz.outcome(folder, fuzz.mutated(rng)) for _ in range(150)]
    assert said.count("refused") > 50 and said.count("read") > 5


def test_scans_that_are_none_are_named_and_the_rest_is_read(tmp_path):
    folder = fuzz.write_folder(tmp_path / "s")
    (folder / "sequence.json").write_text(described())
    np.savez(folder / "lidar" / "000000.npz", xyz=np.array([object()], dtype=object))
    np.savez(folder / "lidar" / "000001.npz", xyz=np.zeros((4, 2)))
    os.remove(folder / "lidar" / "000002.npz")
    os.mkfifo(folder / "lidar" / "000002.npz")
    with open_source(folder) as source:
        samples = list(source)
    assert len(samples) == 3 and not any(isinstance(sample, LidarScan) for sample in samples)
    said = " ".join(source.bad)
    assert all(f"00000{i}.npz" in said for i in range(3)) and "a FIFO" in said and "shape [N, 3]" in said


def test_a_description_that_is_no_file_is_named(tmp_path):
    folder = fuzz.write_folder(tmp_path / "s")
    os.mkfifo(folder / "sequence.json")
    with pytest.raises(InputError, match="is no regular file but a FIFO"):
        open_source(folder)
