"""Where TF has the rig's other cameras, seen from the first one."""

from __future__ import annotations

from collections import Counter

import numpy as np

from spatial_fm_ros.bridge.frames import TransformTree
from spatial_fm_ros.core.types import Array

#: Words for the axes of an optical frame, positive first.
_SIDES = (("to the right", "to the left"), ("down", "up"), ("forward", "back"))
#: Parts of an offset smaller than this share of it go without saying.
_WORTH_SAYING = 0.05


class CompanionMounts:
    """Looks camera_from_companion up until it is known, and anew when a camera changes its frame. Not thread-safe."""

    def __init__(self, tree: TransformTree) -> None:
        self._tree = tree
        self._camera = ""
        self._frames: dict[str, str] = {}  # role of each companion -> the frame it sends in
        self._known: dict[str, Array] = {}  # frame -> camera_from_companion
        self._changed = False

    def camera_is(self, frame: str) -> None:
        """The first camera sends in this frame."""
        if frame != self._camera:
            self._camera = frame
            self._changed = self._changed or bool(self._known)
            self._known = {}

    def companion_is(self, role: str, frame: str) -> None:
        """The companion `role` sends in this frame."""
        before = self._frames.get(role)
        if frame != before:
            self._frames[role] = frame
            self._changed = self._known.pop(before or "", None) is not None or self._changed

    @property
    def known(self) -> dict[str, Array]:
        """camera_from_companion [4, 4] in metres by the companion's frame."""
        return dict(self._known)

    @property
    def complete(self) -> bool:
        """All companions that send have their place."""
        return all(frame in self._known for frame in self._frames.values())

    def resolve(self) -> bool:
        """Look up what is unknown; True when `known` is not what it was at the call before."""
        for frame in self._frames.values() if self._camera else ():
            if frame not in self._known:
                matrix = np.eye(4) if frame == self._camera else self._tree.lookup(self._camera, frame)
                if matrix is not None:
                    self._known[frame] = matrix
                    self._changed = True
        changed, self._changed = self._changed, False
        return changed

    @property
    def problem(self) -> str:
        """Why a companion's place gives no metres, empty when all do."""
        if not self._camera:
            return ""
        shared = Counter((self._camera, *self._frames.values()))
        for role, frame in sorted(self._frames.items()):
            if shared[frame] > 1:
                return f"'{role}' sends in the frame '{frame}' as another camera does: give each its own."
            if frame not in self._known:
                return (
                    f"TF has no transform from the camera frame '{self._camera}' to '{frame}' ('{role}'); its images "
                    "wait for it. Publish the robot's description or a static transform."
                )
        return ""

    def in_words(self) -> list[tuple[str, str]]:
        """(role, place) of each companion that is known."""
        return [(role, place_in_words(self._known[f])) for role, f in sorted(self._frames.items()) if f in self._known]


def place_in_words(camera_from_companion: Array) -> str:
    """As '0.120 m to the right and 0.020 m up' of the camera, along the axes of its optical frame."""
    offset = camera_from_companion[:3, 3]
    least = max(5e-4, _WORTH_SAYING * float(np.linalg.norm(offset)))
    said = [
        f"{abs(part):.3f} m {sides[int(part < 0)]}"
        for part, sides in zip(offset, _SIDES, strict=True)
        if abs(part) >= least
    ]
    return " and ".join(said) or "in the same place"
