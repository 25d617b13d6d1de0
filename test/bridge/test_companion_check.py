"""What is said of a rig whose cameras are, or are not, triggered together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from spatial_fm_ros.bridge.companion_check import of_clocks, of_stamps
from spatial_fm_ros.bridge.companion_mounts import place_in_words
from spatial_fm_ros.core.geometry.rotations import pose_from

PERIOD = 100_000_000
STAMPS = 7 + PERIOD * np.arange(40)


@given(st.integers(-49_000_000, 49_000_000), st.permutations(range(40)))
def test_the_distance_of_stamps_is_found_in_any_order(offset, order):
    finding = of_stamps("companion_1", STAMPS, STAMPS[order] + offset, 0.01)
    assert finding.wrong == (abs(offset) > 10_000_000)
    assert ("for 0 % of" if finding.wrong else "for 100 % of") in finding.sentence
    side = "earlier" if offset < 0 else "later"
    assert f"usually {abs(offset) * 1e-6:.1f} ms {side}" in finding.sentence
    assert ("trigger the rig's cameras together" in finding.sentence) == finding.wrong


def test_lost_images_and_other_rates_are_told_from_other_times():
    rng = np.random.default_rng(0)
    most = STAMPS[rng.random(40) > 0.2]
    assert not of_stamps("c", STAMPS, most, 0.01).wrong
    twice = np.arange(STAMPS[0], STAMPS[-1] + 1, PERIOD // 2)
    assert "for 100 %" in of_stamps("c", STAMPS, twice, 0.01).sentence
    running_free = 7 + np.arange(38) * 103_000_000
    assert of_stamps("c", STAMPS, running_free, 0.01).wrong


def test_what_was_heard_of_one_camera_alone_does_not_count():
    assert "for 100 %" in of_stamps("c", STAMPS, STAMPS[30:], 0.01).sentence
    assert of_stamps("c", STAMPS, STAMPS[:3], 0.01) is None
    assert of_stamps("c", STAMPS, STAMPS + 10**12, 0.01) is None
    assert of_stamps("c", [], STAMPS, 0.01) is None


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        ((0.12, 0, 0), "0.120 m to the right"),
        ((-0.1, 0.001, -0.03), "0.100 m to the left and 0.030 m back"),
        ((0, -0.2, 0.02), "0.200 m up and 0.020 m forward"),
        ((0.0, 0.0004, 0.0), "in the same place"),
    ],
)
def test_places_in_words(offset, words):
    turned = Rotation.from_rotvec([0.1, -0.3, 0.2]).as_matrix()
    assert place_in_words(pose_from(turned, np.array(offset, float))) == words


def test_a_camera_on_another_clock_is_told():
    finding = of_clocks("companion_1", 0.12, 37.1)
    assert finding.wrong and "about 37.0 s earlier" in finding.sentence
    assert of_clocks("companion_1", 0.1, 0.2) is None and of_clocks("companion_1", None, 0.2) is None
