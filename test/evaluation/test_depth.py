"""Depth errors against hand-made ones; depth folders round-trip; matching by stamp, name and K."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.core.types import Camera, PosedKeyframe
from spatial_fm_ros.evaluation.depth import DepthPair, evaluate_depth, matched_pairs, on_grid
from spatial_fm_ros.evaluation.depth_files import DepthEntry, DepthWriter, open_depth, read_confidence, read_depth

K = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1.0]])


def keyframe(index: int, depth: np.ndarray, submap: int = 0, confidence: float = 0.8) -> PosedKeyframe:
    height, width = depth.shape
    return PosedKeyframe(
        id=index,
        stamp_ns=index * 10**8,
        frame_id="cam",
        world_from_camera=np.eye(4),
        camera=Camera(width, height, K),
        depth=depth.astype(np.float32),
        confidence=np.full(depth.shape, confidence, np.float32),
        image=np.zeros((height, width, 3), np.uint8),
        submap=submap,
    )


def test_figures_of_a_known_error():
    truth = np.full((10, 10), 2.0, np.float32)
    estimate = truth.copy()
    estimate[:5] *= 1.1
    estimate[5:8] *= 1.5
    estimate[9] = np.nan
    truth[0] = np.nan
    errors = evaluate_depth([DepthPair("a", estimate, truth)])
    # 40 pixels 10 % off, 30 pixels 50 % off, 10 exact, of 90 with truth
    assert errors.pixels == 80 and errors.share == pytest.approx(80 / 90)
    assert errors.abs_rel == pytest.approx((40 * 0.1 + 30 * 0.5) / 80, rel=1e-5)
    assert errors.rmse == pytest.approx(np.sqrt((40 * 0.2**2 + 30 * 1.0**2) / 80), rel=1e-5)
    assert errors.delta_125 == pytest.approx(50 / 80) and errors.within_5 == pytest.approx(10 / 80)


def test_scaling_and_confidence():
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 5, (2, 20, 20)).astype(np.float32)
    confidence = np.zeros((20, 20), np.float32)
    confidence[:10] = 0.95
    pairs = []
    for i, factor in enumerate((0.5, 0.25)):
        estimate = truth[i] * factor
        estimate[10:] = 0.7
        pairs.append(DepthPair(str(i), estimate, truth[i], confidence))
    errors = evaluate_depth(pairs, scaling="image", min_confidence=0.5)
    assert errors.abs_rel < 1e-6 and errors.share == 0.5 and errors.scale == pytest.approx(3.0)
    assert errors.reliability[9][2:] == (400, 1.0) and errors.reliability[0][2] == 400
    assert evaluate_depth(pairs[:1], scaling="global", min_confidence=0.5).scale == pytest.approx(2.0)
    assert evaluate_depth(pairs, min_confidence=0.5).abs_rel == pytest.approx(0.625, rel=1e-5)
    with pytest.raises(InputError, match="No pixel can be compared: 2 image pairs"):
        evaluate_depth(pairs, min_confidence=0.99)


def test_truth_is_looked_up_along_the_same_rays():
    truth_K = np.array([[100.0, 0, 63.0], [0, 100.0, 47.0], [0, 0, 1.0]])
    v, u = np.mgrid[:96, :128]
    truth = (u + 1000.0 * v).astype(np.float32)
    found = on_grid(truth, truth_K, (48, 64), K)
    assert found[23, 31] == truth[46, 62] and found[10, 5] == truth[20, 10]
    wide = np.array([[20.0, 0, 31.5], [0, 20.0, 23.5], [0, 0, 1.0]])
    assert np.isnan(on_grid(truth, truth_K, (48, 64), wide)[0, 0])  # outside the truth's view
    assert on_grid(truth, None, (48, 64), None).shape == (48, 64)


def test_writer_round_trip_with_rescaling(tmp_path):
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.02, 0.08, (48, 64))  # a relative world far from metres
    depth[:5] = np.nan
    writer = DepthWriter(tmp_path / "depth")
    writer.add(keyframe(0, depth))
    writer.add(keyframe(1, depth, submap=1))
    writer.rescale(0, 50.0)
    writer.add(keyframe(2, depth * 50.0))
    assert list(writer.close({0}))[-1] == 1.0
    entries = open_depth(tmp_path)
    assert [entry.stamp_ns for entry in entries] == [0, 10**8, 2 * 10**8]
    assert entries[0].unit == entries[2].unit == 0.001
    for entry, factor in zip(entries, (50.0, 1.0, 50.0)):
        back = read_depth(entry)
        assert (np.isnan(back) == np.isnan(depth)).all()
        assert np.nanmax(np.abs(back / (depth * factor) - 1)) < 1e-3
        assert np.allclose(read_confidence(entry), 0.8, atol=1 / 255)
    index = json.loads((tmp_path / "depth" / "index.json").read_text())
    assert [item["metric"] for item in index["images"]] == [True, False, True]


def test_writer_refines_single_keyframes(tmp_path):
    depth = np.full((4, 4), 2.0)
    writer = DepthWriter(tmp_path / "depth")
    writer.add(keyframe(0, depth))
    writer.add(keyframe(1, depth))
    writer.refine({1: 1.05})
    list(writer.close({0}))
    first, second = (read_depth(entry) for entry in open_depth(tmp_path))
    assert np.allclose(first, 2.0) and np.allclose(second, 2.1)


def test_depth_beyond_the_range_is_unknown(tmp_path):
    depth = np.full((4, 4), 10.0)
    depth[0, 0] = 500.0
    writer = DepthWriter(tmp_path / "depth")
    writer.add(keyframe(0, depth))
    list(writer.close({0}))
    back = read_depth(open_depth(tmp_path)[0])
    assert np.isnan(back[0, 0]) and back[1, 1] == pytest.approx(10.0)


def test_matching_own_folder_with_a_sequence(tmp_path):
    depth = np.tile(np.linspace(1, 3, 64), (48, 1))
    writer = DepthWriter(tmp_path / "run" / "depth")
    for i in range(3):
        writer.add(keyframe(i, depth))
    list(writer.close({0}))
    truth = tmp_path / "sequence"
    (truth / "depth").mkdir(parents=True)
    described = {"rate_hz": 10, "width": 64, "height": 48, "K": K.reshape(-1).tolist(), "depth_unit_m": 0.002}
    (truth / "sequence.json").write_text(json.dumps(described))
    for i in (1, 2, 7):
        raw = np.round(depth * 1.02 / 0.002).astype(np.uint16)
        raw[0] = 65535
        cv2.imwrite(str(truth / "depth" / f"{i:06d}.png"), raw)
    pairs = matched_pairs(tmp_path / "run", truth)
    errors = evaluate_depth(make() for make in pairs)
    assert errors.images == 2 and errors.pixels == 2 * 47 * 64
    assert errors.abs_rel == pytest.approx(0.02 / 1.02, abs=1e-3)


def test_plain_folders_match_by_name(tmp_path):
    for name, factor in (("a", 1.0), ("b", 1.5)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x1.npy", np.full((4, 4), 2.0 * factor))
        np.savez(tmp_path / name / "x2.npz", depth=np.full((4, 4), 3.0 * factor))
        cv2.imwrite(str(tmp_path / name / "x3.tif"), np.full((4, 4), 4.0 * factor, np.float32))
    errors = evaluate_depth(make() for make in matched_pairs(tmp_path / "b", tmp_path / "a"))
    assert errors.images == 3 and errors.abs_rel == pytest.approx(0.5)
    np.save(tmp_path / "b" / "y.npy", np.zeros((4, 4)))
    assert len(matched_pairs(tmp_path / "b", tmp_path / "a")) == 3
    writer = DepthWriter(tmp_path / "own")
    writer.add(keyframe(0, np.full((4, 4), 2.0)))
    list(writer.close({0}))
    with pytest.raises(InputError, match="Only one of .* tells when"):
        matched_pairs(tmp_path / "own", tmp_path / "a")


def test_sentences(tmp_path):
    with pytest.raises(InputError, match="no folder of depth images"):
        open_depth(tmp_path / "none")
    with pytest.raises(InputError, match="holds no depth images"):
        open_depth(tmp_path)
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="x.png"):
        read_depth(DepthEntry(tmp_path / "x.png", 0.001))
    cv2.imwrite(str(tmp_path / "rgb.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="one channel"):
        read_depth(DepthEntry(tmp_path / "rgb.png", 0.001))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        DepthWriter(tmp_path / "file" / "depth")
