"""The transform tree of a recording: static extrinsics, and the robot's pose where TF carries it."""

from __future__ import annotations

from collections import deque

import numpy as np

from spatial_fm_ros.core.geometry.rotations import invert_pose
from spatial_fm_ros.core.types import Array


class TransformTree:
    """Latest transforms by (parent, child) frame, without leading slashes; metres."""

    def __init__(self) -> None:
        self._edges: dict[str, dict[str, Array]] = {}

    def set(self, parent: str, child: str, parent_from_child: Array) -> None:
        self._edges.setdefault(parent, {})[child] = parent_from_child
        self._edges.setdefault(child, {})[parent] = invert_pose(parent_from_child)

    @property
    def frames(self) -> list[str]:
        return sorted(self._edges)

    def find(self, target: str, source: str) -> Array | None:
        """target_from_source through known transforms (breadth first), or None when they do not connect."""
        if target == source:
            return np.eye(4)
        seen = {target}
        queue = deque([(target, np.eye(4))])
        while queue:
            frame, target_from_frame = queue.popleft()
            for neighbour, frame_from_neighbour in self._edges.get(frame, {}).items():
                if neighbour in seen:
                    continue
                target_from_neighbour = target_from_frame @ frame_from_neighbour
                if neighbour == source:
                    return target_from_neighbour
                seen.add(neighbour)
                queue.append((neighbour, target_from_neighbour))
        return None
