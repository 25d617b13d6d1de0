"""Whether the images come in an optical frame, by how the camera turned and moved.

Poses tell how the camera moved in the axes TF gives it, the model how it moved in those of its images. Where the axes
are the same, so are the vectors; where TF has a body-like frame for the camera (x forward), they differ by the fixed
turn between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.geometry.optical import BODY_FROM_OPTICAL, MEND
from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.types import Array

OPTICAL, BODY, INVERSE = "optical", "body", "inverse"
#: Takes a vector in the axes of TF to those of the images: they are the same; TF's are body-like; or
#: ros.image_frame_is_body has turned what was optical.
TURNS = {
    OPTICAL: np.eye(3),
    BODY: BODY_FROM_OPTICAL[:3, :3].T,
    INVERSE: BODY_FROM_OPTICAL[:3, :3],
}
#: Turns and steps between two keyframes that say something, rad and metres.
LEAST_TURN, MOST_TURN, LEAST_STEP_M = np.radians(1.0), np.radians(100.0), 0.03
#: Angle and way altogether before there is a verdict, rad and metres.
ENOUGH_TURN, ENOUGH_WAY_M = np.radians(20.0), 0.5
#: The mean cosine between what TF says and the images show that the right axes reach, and how far above the others'.
LEAST_COSINE, AHEAD = 0.7, 0.5


class ImageFrameEvidence:
    """Collects what windows show. Not thread-safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing is known."""
        self._turned = dict.fromkeys(TURNS, 0.0)  # sums of cosines, weighted by angle or way
        self._moved = dict(self._turned)
        self._angle = self._way = 0.0

    def observe(self, told: Sequence[Array | None], seen: Sequence[Array]) -> None:
        """Poses of the same keyframes in order: odom_from_camera [4, 4] by odometry and TF (None: unknown), and
        world_from_camera [4, 4] by the model in any gauge (NaN where not posed)."""
        known = [(a, b) for a, b in zip(told, seen, strict=True) if a is not None and np.isfinite(b).all()]
        for (told_a, seen_a), (told_b, seen_b) in pairwise(known):
            step_told, step_seen = invert_pose(told_a) @ told_b, invert_pose(seen_a) @ seen_b
            self._turn(*(Rotation.from_matrix(step[:3, :3]).as_rotvec() for step in (step_told, step_seen)))
            self._move(step_told[:3, 3], step_seen[:3, 3])

    @property
    def verdict(self) -> str:
        """OPTICAL, BODY or INVERSE, empty while the motion does not tell them apart."""
        found = {
            _winner(sums, total)
            for sums, total, enough in (
                (self._turned, self._angle, ENOUGH_TURN),
                (self._moved, self._way, ENOUGH_WAY_M),
            )
            if total >= enough
        } - {""}
        return found.pop() if len(found) == 1 else ""

    def _turn(self, told: Array, seen: Array) -> None:
        angles = np.linalg.norm(told), np.linalg.norm(seen)
        # Turns of different size are of a clock that is off, or of a window gone wrong.
        if not LEAST_TURN < min(angles) < max(angles) < min(MOST_TURN, 2 * min(angles)):
            return
        self._angle += float(angles[0])
        for name, turn in TURNS.items():
            self._turned[name] += float(angles[0] * (turn @ told) @ seen / (angles[0] * angles[1]))

    def _move(self, told: Array, seen: Array) -> None:
        way, length = float(np.linalg.norm(told)), float(np.linalg.norm(seen))
        if way < LEAST_STEP_M or length < 1e-9:
            return
        self._way += way
        for name, turn in TURNS.items():
            self._moved[name] += float((turn @ told) @ seen / length)


def _winner(sums: dict[str, float], total: float) -> str:
    best, second = sorted(sums, key=lambda name: sums[name], reverse=True)[:2]
    return best if sums[best] > LEAST_COSINE * total and sums[best] - sums[second] > AHEAD * total else ""


def image_frame_problem(verdict: str, doubt: str, frame: str, is_body: bool) -> str:
    """What is wrong with the frame of the images, empty where nothing is. `doubt`: what TF lets suspect; `is_body`:
    ros.image_frame_is_body is set."""
    if verdict == OPTICAL:
        return ""
    if verdict == BODY and not is_body:
        return (
            f"By the images the camera turns and moves as if its frame '{frame}' had x forward in TF, where images "
            f"need an optical frame with z forward (REP-103): the map lies on its side. {MEND}"
        )
    if verdict == INVERSE and is_body:
        return (
            "By the images the camera turns and moves as if its frame in TF were an optical one already, but "
            "ros.image_frame_is_body is set: the map lies on its side. Set it to false."
        )
    return doubt
