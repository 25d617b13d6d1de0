"""Errors of relative poses: free of scale and world, exact for known turns; AUC against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.evaluation.relative_pose import WORST, auc, pair_errors


def poses(count, seed=0):
    rng = np.random.default_rng(seed)
    made = np.tile(np.eye(4), (count, 1, 1))
    made[:, :3, :3] = Rotation.random(count, random_state=seed).as_matrix()
    made[:, :3, 3] = rng.normal(size=(count, 3))
    return made


def test_another_world_and_scale_change_nothing():
    truth = poses(5)
    moved = poses(1, 9)[0] @ truth
    moved[:, :3, 3] *= 3.7
    rotation, direction = pair_errors(moved, truth)
    assert rotation.shape == (10,) and pair_errors(moved, truth, neighbours=True)[0].shape == (4,)
    assert rotation.max() < 1e-5 and direction.max() < 1e-4


def test_a_turned_camera_is_off_by_its_turn():
    truth = poses(3)
    found = truth.copy()
    found[1, :3, :3] = found[1, :3, :3] @ Rotation.from_euler("y", 7, degrees=True).as_matrix()
    rotation, direction = pair_errors(found, truth)
    np.testing.assert_allclose(rotation, [7, 0, 7], atol=1e-6)
    # Its neighbours' place is seen in another direction from it, not its own place from them.
    assert direction[0] < 1e-4 and direction[1] < 1e-4 and 0 < direction[2] <= 7 + 1e-6


def test_cameras_that_are_not_posed_count_as_wrong_as_can_be():
    found = poses(3)
    found[2] = np.nan
    rotation, direction = pair_errors(found, poses(3))
    np.testing.assert_array_equal(rotation == WORST, [False, True, True])
    np.testing.assert_array_equal(direction == WORST, [False, True, True])


def test_auc_is_the_area_under_the_share_below_a_threshold():
    errors = np.random.default_rng(0).gamma(2.0, 8.0, 400)
    t = np.linspace(0, 30, 30001)
    expected = np.mean([(errors <= x).mean() for x in t[::10]])
    assert auc(errors, 30.0) == pytest.approx(expected, abs=1e-3)
    assert auc(np.zeros(4), 30.0) == 1.0 and auc(np.full(4, 31.0), 30.0) == 0.0 and np.isnan(auc(np.zeros(0), 30.0))


def test_sets_that_do_not_belong_together_are_refused():
    with pytest.raises(InputError, match="two equal sets"):
        pair_errors(poses(3), poses(2))
