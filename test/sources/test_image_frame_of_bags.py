"""Recorded images whose frame is no optical one."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from bag_writing import robot_messages, write_bag

from spatial_fm_ros.core.geometry.optical import BODY_FROM_OPTICAL
from spatial_fm_ros.core.types import Frame
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.open_source import open_source


def test_a_frame_that_looks_body_like_is_doubted_and_can_be_told(tmp_path) -> None:
    """TF has 'cam' without any rotation; with the option, images come in the optical frame beneath it."""
    bag = write_bag(tmp_path / "bag", robot_messages())
    with open_source(bag) as source:
        assert "'cam'" in source.rig.frame_doubt and "'base'" in source.rig.frame_doubt
        np.testing.assert_array_equal(source.rig.body_from_camera[:3, :3], np.eye(3))
    with open_source(bag, SourceOptions(image_frame_is_body=True)) as source:
        assert not source.rig.frame_doubt
        expected = BODY_FROM_OPTICAL.copy()
        expected[0, 3] = 0.3
        np.testing.assert_allclose(source.rig.body_from_camera, expected, atol=1e-9)
        frames = [sample for sample in source if isinstance(sample, Frame)]
        assert len(frames) == 10 and {frame.frame_id for frame in frames} == {"cam_optical"}
        assert not source.bad
