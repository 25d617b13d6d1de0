"""The pose observer against known scales."""

import numpy as np
import pytest

from spatial_fm_ros.core.config import ScaleConfig
from spatial_fm_ros.core.metric.observers import PlacedWindow
from spatial_fm_ros.core.metric.pose_ratio import PoseRatioObserver
from spatial_fm_ros.core.types import Camera, PosedKeyframe

CONFIG = ScaleConfig()
CAMERA = Camera(2, 2, np.eye(3))


def drive(scale: float, step: float = 0.2, noise: float = 0.0, count: int = 8, seed: int = 0) -> list[PosedKeyframe]:
    """Keyframes on an arc; odometry in metres, world in units of `scale` metres."""
    rng = np.random.default_rng(seed)
    result = []
    for i in range(count):
        metres = np.array([i * step, 0.1 * np.sin(i), 0.0])
        odom, world = np.eye(4), np.eye(4)
        odom[:3, 3] = metres + rng.normal(0, noise, 3)
        world[:3, 3] = metres / scale
        blank = np.zeros((2, 2), np.float32)
        result.append(
            PosedKeyframe(i, i, "c", world, CAMERA, blank, blank, np.zeros((2, 2, 3), np.uint8), 0, odom)
        )
    return result


@pytest.mark.parametrize("scale", [0.02, 1.0, 37.0])
def test_exact_odometry_gives_the_exact_scale(scale: float) -> None:
    seen = PoseRatioObserver(CONFIG).observe(PlacedWindow(tuple(drive(scale))))
    assert seen is not None and seen.usable
    assert seen.log_scale == pytest.approx(np.log(scale), abs=1e-9)


def test_its_sigma_covers_its_error() -> None:
    """Over many noisy drives, the error over sigma stays near one."""
    errors = []
    for seed in range(200):
        seen = PoseRatioObserver(CONFIG).observe(PlacedWindow(tuple(drive(2.0, noise=0.01, seed=seed))))
        assert seen is not None and seen.usable
        errors.append((seen.log_scale - np.log(2.0)) / seen.sigma)
    assert 0.3 < np.sqrt(np.mean(np.square(errors))) < 2.0


def test_standing_still_is_unobservable() -> None:
    seen = PoseRatioObserver(CONFIG).observe(PlacedWindow(tuple(drive(2.0, step=0.0, noise=0.001))))
    assert seen is not None and not seen.usable and "travelled" in seen.reason


def test_no_odometry_is_no_observer() -> None:
    keyframes = [
        PosedKeyframe(**{**vars(k), "odom_from_camera": None}) for k in drive(1.0)
    ]  # fmt: skip
    assert PoseRatioObserver(CONFIG).observe(PlacedWindow(tuple(keyframes))) is None


def test_slipping_odometry_is_refused() -> None:
    keyframes = drive(1.0, noise=0.5)
    seen = PoseRatioObserver(CONFIG).observe(PlacedWindow(tuple(keyframes)))
    assert seen is not None and not seen.usable and "disagree" in seen.reason
