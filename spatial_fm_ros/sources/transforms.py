"""The transform tree of a recording: static extrinsics, and the robot's pose where TF carries it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from spatial_fm_ros.bridge.decode import decode_transform
from spatial_fm_ros.core.geometry.optical import BODY_FROM_OPTICAL, optical_frame
from spatial_fm_ros.core.geometry.rotations import invert_pose, quaternion_from_matrix
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.types import Array

Values = tuple[float, float, float, float, float, float, float]  # x, y, z metres; quaternion x, y, z, w
#: Frames of which two parents are remembered.
_REMEMBERED = 20


@dataclass
class Edge:
    """A frame's place in its parent, as it was sent last."""

    parent: str
    values: Values
    transform: Any
    has_moved: bool = False
    _matrix: Array | None = None

    @property
    def matrix(self) -> Array:
        """parent_from_child 4x4."""
        if self._matrix is None:
            self._matrix = decode_transform(self.transform)
        return self._matrix


@dataclass
class _Way:
    """A way through the tree that was found, and the pose along it with the edges as they were then."""

    topology: int
    up: list[Edge]  # from the target's frame to the common ancestor
    down: list[Edge]  # from the source's frame to it
    children: frozenset[str]
    connected: bool
    values: list[Values] = field(default_factory=list)
    pose: Array | None = None


class TransformTree:
    """Latest transforms, as TF keeps them: every frame has one parent, the one it was sent with last. Metres.

    Frames are any strings, without leading slashes. A lookup costs the length of its way, and nothing more until a
    frame comes or goes elsewhere. reparented: frames that came with several parents, and these.
    """

    def __init__(self) -> None:
        self._edges: dict[str, Edge] = {}
        self._ways: dict[tuple[str, str], _Way] = {}
        self._topology = 0
        self.reparented: dict[str, list[str]] = {}

    def set(self, parent: str, child: str, transform: Any) -> None:
        """`transform`: a geometry_msgs/Transform. Raises InputError for numbers that are none (as decode_transform)."""
        values = transform_values(transform)
        edge = self._edges.get(child)
        if edge is None or edge.parent != parent:
            self._topology += 1
            if edge is not None:
                self._remember(child, edge.parent, parent)
            self._edges[child] = Edge(parent, values, transform)
        elif edge.values != values:
            edge.values, edge.transform, edge._matrix, edge.has_moved = values, transform, None, True

    def set_optical(self, frame: str) -> None:
        """Know the optical frame that `ros.image_frame_is_body` adds to a body-like frame of images."""
        x, y, z, w = quaternion_from_matrix(BODY_FROM_OPTICAL[:3, :3]).tolist()
        place, turn = SimpleNamespace(x=0.0, y=0.0, z=0.0), SimpleNamespace(x=x, y=y, z=z, w=w)
        self.set(frame, optical_frame(frame), SimpleNamespace(translation=place, rotation=turn))

    def _remember(self, child: str, *parents: str) -> None:
        if child in self.reparented or len(self.reparented) < _REMEMBERED:
            seen = self.reparented.setdefault(child, [])
            seen += [parent for parent in parents if parent not in seen and len(seen) < _REMEMBERED]

    def copy_to(self, other: TransformTree) -> None:
        """Give another tree the edges of this one."""
        for child, edge in self._edges.items():
            other.set(edge.parent, child, edge.transform)

    def holds(self, child: str) -> bool:
        """Whether a frame has a parent."""
        return child in self._edges

    @property
    def frames(self) -> list[str]:
        return sorted(self._edges.keys() | {edge.parent for edge in self._edges.values()})

    def find(self, target: str, source: str) -> Array | None:
        """target_from_source through known transforms, or None when they do not connect."""
        way = self._way(target, source)
        if not way.connected:
            return None
        edges = [*way.up, *way.down]
        values = [edge.values for edge in edges]
        if way.pose is None or any(now is not then for now, then in zip(values, way.values)):
            root_from_target, root_from_source = np.eye(4), np.eye(4)
            for edge in way.up:
                root_from_target = edge.matrix @ root_from_target
            for edge in way.down:
                root_from_source = edge.matrix @ root_from_source
            way.values, way.pose = values, invert_pose(root_from_target) @ root_from_source
        return way.pose

    def between(self, target: str, source: str) -> frozenset[str]:
        """The frames whose edges to their parents tie two frames; empty where they do not connect."""
        return self._way(target, source).children

    def movers(self, target: str, source: str) -> frozenset[str]:
        """Of those, the ones that have moved so far; before any has, the one nearest to the target."""
        way = self._way(target, source)
        moved = frozenset(child for child in way.children if self._edges[child].has_moved)
        return (
            moved or frozenset(child for child in way.children if self._edges[child].parent == target) or way.children
        )

    def _way(self, target: str, source: str) -> _Way:
        way = self._ways.get((target, source))
        if way is None or way.topology != self._topology:
            way = self._ways[target, source] = self._search(target, source)
        return way

    def _search(self, target: str, source: str) -> _Way:
        line = self._ancestors(target)
        depth = {frame: i for i, frame in enumerate(line)}
        down: list[str] = []
        frame, seen = source, set()
        while frame not in depth:
            if frame in seen or frame not in self._edges:
                return _Way(self._topology, [], [], frozenset(), connected=False)
            seen.add(frame)
            down.append(frame)
            frame = self._edges[frame].parent
        up = line[: depth[frame]]
        edges = self._edges
        children = frozenset((*up, *down))
        return _Way(
            self._topology, [edges[child] for child in up], [edges[child] for child in down], children, connected=True
        )

    def _ancestors(self, frame: str) -> list[str]:
        """A frame, its parent, and so on to the root, or around a circle once."""
        line, seen = [frame], {frame}
        while frame in self._edges and (frame := self._edges[frame].parent) not in seen:
            line.append(frame)
            seen.add(frame)
        return line


def transform_values(transform: Any) -> Values:
    """The numbers of a geometry_msgs/Transform. Raises InputError where they are no transform."""
    t, q = transform.translation, transform.rotation
    values = (float(t.x), float(t.y), float(t.z), float(q.x), float(q.y), float(q.z), float(q.w))
    norm = math.sqrt(sum(value * value for value in values[3:]))
    if not math.isfinite(sum(values)) or not 0.995 < norm < 1.005:
        decode_transform(transform)  # says what is wrong
    return values


def known_frames(tree: TransformTree, most: int = 20) -> str:
    """The frames of a tree for a sentence."""
    frames = tree.frames
    more = f" and {len(frames) - most} more" if len(frames) > most else ""
    return (", ".join(shown(frame, 60) for frame in frames[:most]) or "none") + more
