"""The rig's other cameras in a bag: where they sit, which of their images can be of use, which are there unused."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.intake.companions import LEAST_BASELINE_M
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.types import Array
from spatial_fm_ros.sources.base import NS
from spatial_fm_ros.sources.topics import option
from spatial_fm_ros.sources.transforms import TransformTree, known_frames

#: Images of two cameras this near in time were triggered together.
TOGETHER_NS = NS // 500
#: Images whose companions may still be undecided: a second of a fast camera.
REMEMBERED = 1024


@dataclass(frozen=True)
class Seen:
    """The first image of a topic: its stamp and its frame."""

    topic: str
    stamp_ns: int
    frame: str


class KeptFrames:
    """Every n-th frame of a camera, and which images beside them are worth decoding."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._count = 0
        self._stamps: deque[tuple[int, bool]] = deque(maxlen=REMEMBERED)

    def take(self, stamp_ns: int) -> bool:
        """The camera's next frame: whether it is one of those kept."""
        kept = self._count % self._every == 0
        self._count += 1
        self._stamps.append((stamp_ns, kept))
        return kept

    def beside(self, stamp_ns: int) -> bool:
        """Whether the frame nearest to a stamp is kept."""
        if self._every == 1 or not self._stamps:
            return True
        return min(self._stamps, key=lambda frame: abs(frame[0] - stamp_ns))[1]


def placed(
    tree: TransformTree, camera_frame: str, frames: Mapping[str, str]
) -> tuple[dict[str, Array], list[str], list[str]]:
    """(camera_from_companion by frame, topics that cannot be used, notes) for the frames of companion topics."""
    found: dict[str, Array] = {}
    unusable: list[str] = []
    notes: list[str] = []
    topic_of = {camera_frame: "the first camera"}
    for topic, frame in frames.items():
        if frame in topic_of:
            unusable.append(topic)
            notes.append(
                f"The images of '{shown(topic)}' come in the frame '{shown(frame)}', as those of {topic_of[frame]} do: "
                "nothing says where this camera sits, and they are left out. Give each camera a frame of its own in TF."
            )
            continue
        topic_of[frame] = f"'{shown(topic)}'"
        pose = tree.find(camera_frame, frame)
        if pose is not None:
            found[frame] = pose
            continue
        notes.append(
            f"No static transform connects '{shown(camera_frame)}' with '{shown(frame)}' (frames known: "
            f"{known_frames(tree)}); the images of '{shown(topic)}' give no metres. Record /tf_static with the bag."
        )
    return found, unusable, notes


def could_come_along(tree: TransformTree, camera: Seen, others: Iterable[Seen]) -> Sequence[str]:
    """Notes on calibrated cameras that nobody asked for, triggered with the camera and placed beside it in TF."""
    notes = []
    for other in others:
        pose = tree.find(camera.frame, other.frame)
        if pose is None or abs(other.stamp_ns - camera.stamp_ns) > TOGETHER_NS:
            continue
        baseline = float(np.linalg.norm(pose[:3, 3]))
        if baseline >= LEAST_BASELINE_M:
            notes.append(
                f"'{shown(other.topic)}' is a calibrated camera {baseline:.2f} m beside that of "
                f"'{shown(camera.topic)}', triggered together with it; named with {option('companion_image')}, it "
                "gives metres."
            )
    return notes
