"""Images that come in a frame which is no optical one: looked at in TF, decided by the motion."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.calibration.image_frame import BODY, INVERSE, OPTICAL, ImageFrameEvidence, image_frame_problem
from spatial_fm_ros.core.geometry.optical import BODY_FROM_OPTICAL, frame_doubt
from spatial_fm_ros.core.geometry.rotations import invert_pose, pose_from


def mount(roll=0.0, pitch=0.0, yaw=0.0, optical=False):
    """body_from_camera of a camera_link turned on the body, or of the optical frame on it; degrees."""
    turn = Rotation.from_euler("xyz", (roll, pitch, yaw), degrees=True).as_matrix()
    link = pose_from(turn, (0.3, 0.0, 0.5))
    return link @ BODY_FROM_OPTICAL if optical else link


@pytest.mark.parametrize(
    ("matrix", "camera", "doubted"),
    [
        (mount(), "camera_link", True),
        (mount(yaw=90), "left_camera", True),
        (mount(pitch=15, yaw=-120), "camera_link", True),
        (mount(), "camera_optical_frame", True),  # a static transform published without its rotation
        (mount(yaw=90), "camera_optical_frame", False),
        (mount(optical=True), "camera_link", False),
        (mount(optical=True, pitch=35), "camera_link", False),
        (mount(optical=True, pitch=90), "camera_optical_frame", False),  # looks down
        (mount(optical=True, pitch=-90), "camera_optical_frame", False),  # looks up, and says that it is optical
        (mount(optical=True, roll=90), "cam", False),  # portrait
    ],
)
def test_what_tf_lets_suspect(matrix, camera, doubted) -> None:
    said = frame_doubt(matrix, camera, "base_link")
    assert bool(said) == doubted
    if doubted:
        assert f"'{camera}'" in said and "ros.image_frame_is_body" in said and "looks straight up" in said
    assert not frame_doubt(matrix, camera, "other_camera_optical_frame")


def drive(body_from_told, body_from_true, straight=False, noise_deg=0.3):
    """(told, seen) poses of a planar drive: told by odometry and TF, seen by a model in a gauge of its own."""
    rng = np.random.default_rng(0)
    gauge = pose_from(Rotation.random(random_state=1).as_matrix(), (3.0, 1.0, -2.0))
    told, seen = [], []
    for i in range(8):
        yaw = 0.0 if straight else np.radians(7.0 * i)
        body = pose_from(Rotation.from_euler("z", yaw).as_matrix(), (0.3 * i, 0.05 * i * (not straight), 0.0))
        told.append(body @ body_from_told)
        shaken = pose_from(Rotation.from_rotvec(np.radians(noise_deg) * rng.normal(size=3)).as_matrix(), np.zeros(3))
        pose = gauge @ body @ body_from_true @ shaken
        pose[:3, 3] *= 2.5
        seen.append(pose)
    return told, seen


@pytest.mark.parametrize("straight", [False, True])
@pytest.mark.parametrize(
    ("told", "true", "verdict"),
    [
        (mount(), mount(optical=True), BODY),
        (mount(pitch=10, yaw=10), mount(pitch=10, yaw=10, optical=True), BODY),
        (mount(optical=True), mount(optical=True), OPTICAL),
        (mount(optical=True, pitch=-90), mount(optical=True, pitch=-90), OPTICAL),
        (mount() @ BODY_FROM_OPTICAL @ BODY_FROM_OPTICAL, mount(optical=True), INVERSE),
    ],
)
def test_the_motion_decides(told, true, verdict, straight) -> None:
    evidence = ImageFrameEvidence()
    evidence.observe(*drive(told, true, straight))
    assert evidence.verdict == verdict
    evidence.reset()
    assert not evidence.verdict


def test_little_motion_unposed_keyframes_and_missing_poses_decide_nothing() -> None:
    told, seen = drive(mount(), mount(optical=True))
    evidence = ImageFrameEvidence()
    evidence.observe(told[:2], seen[:2])
    evidence.observe([None] * 8, seen)
    evidence.observe(told, [np.full((4, 4), np.nan)] * 8)
    assert not evidence.verdict
    # A model that sees other turns than odometry is not asked.
    evidence.observe(told, [invert_pose(pose) for pose in seen[::-1]])
    assert evidence.verdict in ("", BODY)


def test_the_motion_takes_a_doubt_back_or_makes_it_certain() -> None:
    assert image_frame_problem("", "doubt", "camera_link", False) == "doubt"
    assert image_frame_problem(OPTICAL, "doubt", "camera_link", False) == ""
    assert "'camera_link' had x forward" in image_frame_problem(BODY, "doubt", "camera_link", False)
    assert "Set it to false" in image_frame_problem(INVERSE, "", "camera_link_optical", True)
    assert not image_frame_problem(INVERSE, "", "camera_optical_frame", False)
