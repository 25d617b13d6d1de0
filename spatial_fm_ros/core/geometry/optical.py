"""Optical frames (x right, y down, z forward) and body-like ones (x forward, y left, z up; REP-103)."""

from __future__ import annotations

import numpy as np

from spatial_fm_ros.core.geometry.rotations import rotation_angle
from spatial_fm_ros.core.types import Array

#: body_from_camera [4, 4] of a camera that looks along the body's x: x = optical z, y = -x, z = -y. As a quaternion
#: (x y z w): -0.5 0.5 -0.5 0.5.
BODY_FROM_OPTICAL = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
#: A z axis this near to the body's is that of a body-like frame, or of a camera that looks straight up.
UPRIGHT = np.radians(30.0)
#: A frame that is called optical is doubted only where its rotation was left out: nearer to none than this.
UNTURNED = np.radians(15.0)
#: What is to be done about images that do not come in an optical frame.
MEND = "Set frame_id of the images to the camera's optical frame, or ros.image_frame_is_body to true."


def optical_frame(frame: str) -> str:
    """Name of the optical frame that `ros.image_frame_is_body` adds to a body-like frame of images."""
    return f"{frame}_optical"


def frame_doubt(body_from_camera: Array, camera: str, body: str) -> str:
    """A sentence where the frame `camera` of the images looks by its place on the frame `body` as if it were no optical
    one, empty where it does not. body_from_camera [4, 4] as TF has it.

    Only looks: a camera that points straight up is mounted just so (core/calibration/image_frame.py asks the images).
    """
    rotation = body_from_camera[:3, :3]
    if "optical" in body.lower() or np.arccos(np.clip(rotation[2, 2], -1.0, 1.0)) > UPRIGHT:
        return ""
    if "optical" in camera.lower() and float(rotation_angle(rotation)) > UNTURNED:
        return ""
    ahead = "forward" if rotation[0, 0] > np.cos(UPRIGHT) else "level"
    return (
        f"The frame '{camera}' of the images looks as if it were no optical frame: on '{body}' its z axis points up "
        f"and its x axis {ahead}, where images need x right, y down, z forward (REP-103). {MEND} Where the camera "
        "really looks straight up, all is well."
    )
