"""What is said of how well a pose is known: something to fuse in every case, never certainty."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.metric.pose_covariance import UNKNOWN_VARIANCE, covariance, pose_variances
from spatial_fm_ros.core.types import ScaleEstimate, ScaleState, SeamReport

METRIC = ScaleEstimate(ScaleState.METRIC, 1.0, 0.01)
NAN, INF = float("nan"), float("inf")


def seam(residual, accepted=True):
    return SeamReport(accepted, residual, 0.9, 1.0)


def test_no_window_is_certain():
    """The first window has no seam, and at the origin no scale error shows."""
    position, rotation = pose_variances(None, 0.08, 2.0, METRIC, 0.0)
    assert np.sqrt(rotation) == pytest.approx(0.02) and np.sqrt(position) == pytest.approx(0.04)
    position, rotation = pose_variances(seam(0.0), 0.08, 0.001, METRIC, 0.0)
    assert np.sqrt(rotation) >= 0.002 and np.sqrt(position) >= 0.002


@pytest.mark.parametrize("residual", [0.0, 0.004, 0.03, 0.3])
@pytest.mark.parametrize("distance", [0.0, 5.0, 300.0])
def test_variances_are_no_less_than_seam_and_scale_allow(residual, distance):
    position, rotation = pose_variances(seam(residual), 0.08, 3.0, METRIC, distance)
    assert 1.000001 * position >= (3.0 * residual) ** 2 + (0.01 * distance) ** 2 and 1.000001 * rotation >= residual**2
    position, rotation = pose_variances(seam(residual, accepted=False), 0.08, 3.0, METRIC, distance)
    assert rotation >= 0.08**2 and rotation >= residual**2


def test_what_is_not_known_is_said_to_be_unknown():
    for scale in (ScaleEstimate(), ScaleEstimate(ScaleState.METRIC, 1.0, NAN), ScaleEstimate(ScaleState.CONFLICT)):
        position, rotation = pose_variances(seam(0.01), 0.08, 3.0, scale, 1.0)
        assert position == UNKNOWN_VARIANCE and rotation == pytest.approx(1e-4)
    for depth in (NAN, INF):
        assert pose_variances(None, 0.08, depth, METRIC, 1.0)[0] == UNKNOWN_VARIANCE
    assert pose_variances(seam(NAN), 0.08, 2.0, METRIC, 0.0)[1] > 0
    assert pose_variances(seam(INF, accepted=False), 0.08, 2.0, METRIC, 0.0)[1] >= 0.08**2


@pytest.mark.parametrize("seed", range(30))
def test_covariances_are_symmetric_positive_definite_and_finite(seed):
    rng = np.random.default_rng(seed)
    variances = 10.0 ** rng.uniform(-6, 6), min(10.0 ** rng.uniform(-6, 6), 1e6)
    found = covariance(variances, rng.normal(size=3) * 10.0 ** rng.uniform(-3, 1))
    np.testing.assert_array_equal(found, found.T)
    assert np.isfinite(found).all() and np.linalg.eigvalsh(found).min() > 0
    np.linalg.cholesky(found)


def test_a_turn_of_the_camera_moves_the_base_on_its_lever():
    """Against many drawn poses: the camera is off by `shift`, and turned about itself by `turn`, in the map's axes."""
    rng = np.random.default_rng(0)
    position, rotation, lever = 0.02**2, 0.01**2, np.array([-0.8, 0.3, -1.1])
    shifts, turns = rng.normal(size=(2, 40_000, 3)) * np.sqrt([[[position]], [[rotation]]])
    moved = shifts + Rotation.from_rotvec(turns).apply(lever) - lever
    drawn = np.cov(np.hstack([moved, turns]).T)
    np.testing.assert_allclose(drawn, covariance((position, rotation), lever), atol=0.03 * position)
