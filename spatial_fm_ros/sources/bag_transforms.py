"""Transforms of a bag: those of /tf_static, and those of /tf that never change, as ROS 1 and simulators send them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from spatial_fm_ros.bridge.decode import frame_name
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.sources.bag_files import BagFile, decoded
from spatial_fm_ros.sources.transforms import TransformTree, Values, transform_values

#: Messages of /tf that are looked at for edges that never change, spread over the recording.
LOOKED_AT = 20_000
#: All messages up to this one are: what is sent once is sent at the beginning.
FIRST = 1_000
#: An edge that differs by less than this has not moved: noise of encoders, rounding.
STILL_M = 1e-3
STILL_DOT = 1.0 - 4e-7  # between quaternions: 0.1 degrees
#: An edge that changed this often, or in this share of its messages, has been set right; more is a motion.
SET_RIGHT, SET_RIGHT_SHARE = 3, 0.01


def child_name(transform: Any) -> str:
    """child_frame_id without the leading slash of ROS 1."""
    return str(transform.child_frame_id).strip().lstrip("/")


def edges_of(message: Any, bad: Counter[str]) -> Iterator[tuple[str, str, Any]]:
    """(parent, child, TransformStamped) of a TFMessage; what names no two frames is counted."""
    for transform in message.transforms:
        parent, child = frame_name(transform.header, ""), child_name(transform)
        if parent and child and parent != child:
            yield parent, child, transform
        else:
            names = f"'{shown(parent, 60)}' -> '{shown(child, 60)}'"
            bad[f"transform {names} does not tie two frames; TF leaves it out, too"] += 1


@dataclass
class _History:
    """What was seen of an edge of /tf. changes: how often it differed from what it was before."""

    parent: str
    values: Values
    transform: Any
    count: int = 1
    changes: int = 0

    @property
    def moves(self) -> bool:
        return self.changes > max(SET_RIGHT, SET_RIGHT_SHARE * self.count)

    def add(self, parent: str, values: Values, transform: Any) -> None:
        self.count += 1
        if parent != self.parent or _moved(self.values, values):
            self.changes += 1
            self.parent, self.values, self.transform = parent, values, transform


class StillEdges:
    """The edges of a bag's /tf. `tie` puts those that stand still into a tree where two frames need them."""

    def __init__(self, bag: BagFile, topics: Collection[str]) -> None:
        self._bag = bag
        self._topics = topics
        self._found: dict[str, _History] | None = None

    def tie(self, tree: TransformTree, pairs: Collection[tuple[str, str]]) -> list[str]:
        """Notes on the edges that were taken, and on those that could not be as they move."""
        open_pairs = [pair for pair in pairs if tree.find(*pair) is None]
        if not open_pairs or not self._topics:
            return []
        if self._found is None:
            self._found = self._histories()
        still, every = TransformTree(), TransformTree()
        for candidate in (still, every):
            tree.copy_to(candidate)
            for child, history in self._found.items():
                if not tree.holds(child) and (candidate is every or not history.moves):
                    candidate.set(history.parent, child, history.transform)
        used: set[str] = set()
        moving: set[str] = set()
        for pair in open_pairs:
            used |= {child for child in still.between(*pair) if not tree.holds(child)}
            if still.find(*pair) is None:
                moving |= {child for child in every.between(*pair) if not tree.holds(child)}
        for child in used:
            tree.set(self._found[child].parent, child, self._found[child].transform)
        return self._notes(sorted(used), sorted(child for child in moving if self._found[child].moves))

    def _notes(self, used: list[str], moving: list[str]) -> list[str]:
        assert self._found is not None
        notes = []
        if used:
            told = ", ".join(self._edge(child) for child in used[:10])
            notes.append(f"Taken from /tf, where they stand still: {told}. Record /tf_static where there is one.")
        for child in used[:10]:
            if changes := self._found[child].changes:
                notes.append(f"The edge {self._edge(child)} of /tf was changed {changes} times; the newest is used.")
        if moving:
            told = ", ".join(self._edge(child) for child in moving[:5])
            notes.append(f"The frames of /tf that could tie the sensors move ({told}) and are no place for a sensor.")
        return notes

    def _edge(self, child: str) -> str:
        assert self._found is not None
        return f"{shown(self._found[child].parent, 60)} -> {shown(child, 60)}"

    def _histories(self) -> dict[str, _History]:
        found: dict[str, _History] = {}
        total = sum(self._bag.topics[topic].count or 0 for topic in self._topics)
        share = LOOKED_AT / max(total, 1)
        chosen = random.Random(0)  # not every n-th: senders take turns
        for number, (channel, _, data) in enumerate(self._bag.raw(self._topics)):
            if number >= FIRST and chosen.random() > share:
                continue
            message = decoded(channel, data)
            if isinstance(message, InputError):
                continue  # counted where poses are read from it
            for parent, child, transform in edges_of(message, Counter()):
                try:
                    values = transform_values(transform.transform)
                except InputError:
                    continue
                if child in found:
                    found[child].add(parent, values, transform.transform)
                else:
                    found[child] = _History(parent, values, transform.transform)
        return found


def _moved(a: Values, b: Values) -> bool:
    if a == b:
        return False
    return (
        max(abs(x - y) for x, y in zip(a[:3], b[:3])) > STILL_M
        or abs(sum(x * y for x, y in zip(a[3:], b[3:]))) < STILL_DOT
    )
