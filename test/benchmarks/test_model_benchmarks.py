"""What the benchmark of foundation models computes, on passes small enough for a test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("psutil")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.append(str(SCRIPTS))

from benchmarks import model_run, models  # noqa: E402


def test_a_pass_of_each_variant_measures_and_gives_the_same_depth(tmp_path):
    depth = {}
    for variant in model_run.VARIANTS:
        words = ["--network", "da3-small", "--variant", variant, "--views", "2", "--size", "84x56"]
        command = [sys.executable, SCRIPTS / "benchmarks" / "model_run.py", *words, "--output", tmp_path / "out.npz"]
        environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
        subprocess.run(command, check=True, capture_output=True, env=environment, timeout=120)
        with np.load(tmp_path / "out.npz") as content:
            figures, depth[variant] = json.loads(str(content["figures"])), content["depth"].astype(float)
        assert 0 < figures["cpu_s"] < 60 and 0.2 < figures["peak_gb"] < 4
    assert depth["plain"].shape == (1, 2, 56, 84)
    np.testing.assert_allclose(depth["fast"], depth["plain"], rtol=1e-4)
    assert 0 < models.depth_error(depth["bfloat16"], depth["fast"]) < 0.05


def test_depth_error_is_that_of_a_scene_with_a_known_spread():
    rng = np.random.default_rng(0)
    truth = np.exp(rng.normal(0.0, 0.05, 100_000))
    assert models.depth_error(truth, truth) == 0.0
    off = truth * np.exp(0.001)  # a fiftieth of the spread
    assert models.depth_error(off, truth) == pytest.approx(0.01, rel=0.02)


def test_pose_error_is_relative_to_what_the_views_differ_by():
    exact = np.random.default_rng(0).normal(size=(1, 200, 9))
    found = {"fast": {"pose": 5 + 3 * exact}, "bfloat16": {"pose": 5 + 3 * exact + 0.03}}
    assert models.pose_error(found) == pytest.approx(0.01, rel=0.05)


def test_live_bytes_follow_tensors_as_they_come_and_go():
    with model_run.LiveBytes() as live:
        kept = torch.empty(1000, device="meta")
        view = kept[10:]
        assert live.now == 4000, "a view holds nothing of its own"
        passing = kept * 2 + 1  # two new tensors, one of them gone again
        assert (live.now, live.most) == (8000, 12000)
        del kept, view, passing
        assert live.now == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens without a GPU")
def test_without_a_gpu_a_sweep_says_so(tmp_path):
    result = models.measure_gpu("vggt-gpu", tmp_path, 2, True, [])
    assert "not measured" in result.problem and result.passed
