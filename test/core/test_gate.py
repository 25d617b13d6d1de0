"""The keyframe gate on images with exactly known motion, and on a real sequence."""

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from spatial_fm_ros.core.config import IntakeConfig
from spatial_fm_ros.core.intake.gate import BLUR_PATIENCE, KeyframeGate

SECOND = 1_000_000_000
BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
DATA = Path(os.environ.get("SPATIAL_FM_DATA", BESIDE))


def texture(seed=0, size=(900, 1600)):
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(size=(size[0] // s, size[1] // s, 3)), size[::-1]) for s in (4, 12, 40)]
    image = sum(layers)
    return np.clip(128 + 40 * image, 0, 255).astype(np.uint8)


WORLD = texture()


def view(shift=0.0, size=(480, 640)):
    """A window on the texture moved by `shift` pixels to the right, sub-pixel exact."""
    move = np.array([[1, 0, -200.0 - shift], [0, 1, -200.0]])
    return cv2.warpAffine(WORLD, move, size[::-1], flags=cv2.INTER_LINEAR)


def gate(**changes):
    return KeyframeGate(replace(IntakeConfig(), **{"max_interval_s": 100.0, **changes}))


def run(gate, shifts, rate=30):
    return [gate.consider(i * SECOND // rate, view(s)) for i, s in enumerate(shifts)]


@pytest.mark.parametrize("speed", [1.0, 4.0, 11.0])
def test_disparity_is_measured_in_pixels_of_a_640_wide_image(speed):
    decisions = run(gate(disparity_px=1000.0), np.arange(12) * speed)
    assert [d.reason for d in decisions] == ["first"] + ["still"] * 11
    got = [d.disparity_px for d in decisions]
    np.testing.assert_allclose(got, np.arange(12) * speed, atol=0.6)


def test_keyframes_come_at_the_threshold_and_the_count_starts_again():
    decisions = run(gate(disparity_px=24.0), np.arange(31) * 5.0)
    kept = [i for i, d in enumerate(decisions) if d.kept]
    assert kept == [0, 5, 10, 15, 20, 25, 30]
    assert all(decisions[i].reason == "disparity" for i in kept[1:])


@pytest.mark.parametrize("size", [(240, 320), (480, 640), (960, 1280)])
def test_disparity_does_not_depend_on_image_size(size):
    scale = size[1] / 640
    g = gate(disparity_px=1000.0)
    big = cv2.resize(WORLD, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)

    def shifted(s):
        x, y = round((200 + s) * scale), round(100 * scale)
        return big[y : y + size[0], x : x + size[1]]

    for i, s in enumerate((0, 6, 12, 18)):
        last = g.consider(i, shifted(s))
    assert abs(last.disparity_px - 18) < 1.0


def test_driving_forward_counts_what_leaves_the_view():
    g = gate(disparity_px=150.0)
    u, v = np.meshgrid(np.arange(640) - 319.5, np.arange(480) - 239.5)
    radius = float(np.median(np.hypot(u, v)))
    for i in range(8):
        zoom = 1.05**i
        move = np.array([[zoom, 0, 320 - 800 * zoom], [0, zoom, 240 - 450 * zoom]])
        decision = g.consider(i, cv2.warpAffine(WORLD, move, (640, 480)))
        # The outer corners are gone by now; of those that are left the flow would be much smaller.
        assert abs(decision.disparity_px - (zoom - 1) * radius) <= 0.2 * (zoom - 1) * radius + 0.5


def test_another_view_is_motion():
    g = gate()
    g.consider(0, view())
    other = g.consider(1, np.ascontiguousarray(texture(7)[:480, :640]))
    assert other.kept and other.reason == "disparity" and other.disparity_px >= 24
    assert g.consider(2, np.ascontiguousarray(texture(7)[:480, :640])).reason == "still"


def test_blank_wall_then_texture():
    g = gate(max_interval_s=1.0)
    rng = np.random.default_rng(0)

    def wall():
        return np.clip(128 + rng.normal(0, 3, (480, 640, 3)), 0, 255).astype(np.uint8)

    assert g.consider(0, wall()).reason == "first"
    assert g.consider(SECOND // 2, wall()).reason == "still"
    assert g.consider(SECOND, wall()).reason == "time"
    assert g.consider(SECOND + 1, view()).reason == "disparity"


def test_time_limit_and_minimum_interval():
    reasons = [d.reason for d in run(gate(max_interval_s=0.5), np.zeros(31))]
    assert [i for i, r in enumerate(reasons) if r == "time"] == [15, 30]
    decisions = run(gate(min_interval_s=0.3, disparity_px=5.0), np.arange(20) * 6.0)
    assert [i for i, d in enumerate(decisions) if d.kept] == [0, 9, 18]
    assert {d.reason for d in decisions if not d.kept} == {"interval"}


@pytest.mark.parametrize("level, reason", [(0, "dark"), (255, "bright")])
def test_black_and_white_frames_are_never_keyframes(level, reason):
    g = gate(max_interval_s=0.1)
    flat = np.full((480, 640, 3), level, np.uint8)
    assert g.consider(0, flat).reason == reason
    assert g.consider(SECOND, view()).reason == "first"
    decision = g.consider(2 * SECOND, flat)
    assert not decision.kept and decision.reason == reason
    assert g.consider(3 * SECOND, view(3)).reason == "time"


def test_stale_stamps_change_nothing():
    g = gate()
    g.consider(10 * SECOND, view())
    for stamp in (10 * SECOND, 9 * SECOND):
        decision = g.consider(stamp, view(300))
        assert not decision.kept and decision.reason == "stale"
    assert g.consider(11 * SECOND, view()).reason == "still"
    g.reset()
    assert g.consider(0, view()).reason == "first"


def test_blurred_frames_wait_for_a_sharper_one_but_not_for_ever():
    g = gate(disparity_px=10.0)
    for i in range(5):
        g.consider(i, view())
    blurred = g.consider(5, cv2.GaussianBlur(view(15), (0, 0), 4))
    assert not blurred.kept and blurred.reason == "blur"
    sharp = g.consider(6, view(16))
    assert sharp.kept and abs(sharp.disparity_px - 16) < 1
    soft = [g.consider(7 + i, cv2.GaussianBlur(view(40), (0, 0), 4)) for i in range(BLUR_PATIENCE + 1)]
    assert [d.kept for d in soft] == [False] * BLUR_PATIENCE + [True]


def test_a_scene_that_is_soft_by_itself_is_not_blur_for_long():
    g = gate()
    for i in range(20):
        g.consider(i, view())
    soft = cv2.GaussianBlur(view(), (0, 0), 4)
    reasons = [g.consider(20 + i, soft).reason for i in range(20)]
    assert reasons[0] == "blur" and reasons[-1] == "still"


def test_change_of_image_size_starts_anew():
    g = gate()
    g.consider(0, view())
    assert g.consider(1, view(size=(240, 640))).reason == "first"
    portrait = g.consider(2, np.ascontiguousarray(view(size=(640, 360))))
    assert portrait.reason == "first"


def test_keyframes_of_a_real_handheld_sequence():
    images = sorted((DATA / "kitchen" / "images").glob("*.jpg"))[:240:2]
    if not images:
        pytest.skip("no recorded sequences: set SPATIAL_FM_DATA")
    g = KeyframeGate(IntakeConfig(disparity_px=24.0))
    kept = []
    for i, path in enumerate(images):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        decision = g.consider(i * SECOND // 15, image)
        if decision.kept:
            kept.append((i, decision))
    # Steady motion of about 5 px a frame: a keyframe every 4 to 5 frames, none of them far beyond the threshold.
    assert 20 <= len(kept) <= 45
    assert all(d.reason == "disparity" and 24 <= d.disparity_px < 60 for _, d in kept[1:])
    assert max(np.diff([i for i, _ in kept])) <= 15


def test_small_images_work():
    g = gate()
    assert g.consider(0, view(size=(48, 64))).kept
    assert not g.consider(1, view(size=(48, 64))).kept
    assert g.consider(2, np.full((8, 8, 3), 100, np.uint8)).reason in ("first", "still")
