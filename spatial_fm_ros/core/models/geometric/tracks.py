"""Tracks: the features of several keyframes that see one point, from verified pairwise matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from spatial_fm_ros.core.models.geometric.features import Features
from spatial_fm_ros.core.types import Array

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tracks:
    """Observations sorted by track: view int64 [n], track int64 [n] (0 .. count-1), xy float64 [n, 2] pixels."""

    view: Indices
    track: Indices
    xy: Array
    count: int


def build_tracks(features: Sequence[Features], pairs: Mapping[tuple[int, int], Indices]) -> Tracks:
    """Joins matches {(view a, view b): [m, 2] feature indices} into tracks.

    A component with two features in one view holds a wrong match; of such features none is kept, the
    rest of the component stays (it is tested against geometry later).
    """
    start = np.concatenate(([0], np.cumsum([len(f) for f in features])))
    total = int(start[-1])
    edges = [m + (start[a], start[b]) for (a, b), m in pairs.items() if len(m)]
    if not edges:
        return Tracks(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)), 0)
    edge = np.concatenate(edges)
    graph = coo_matrix((np.ones(len(edge), np.int8), (edge[:, 0], edge[:, 1])), shape=(total, total))
    _, label = connected_components(graph, directed=False)
    node = np.unique(edge)
    view = np.searchsorted(start, node, side="right") - 1
    label = label[node].astype(np.int64)
    slot = label * len(features) + view
    _, inverse, copies = np.unique(slot, return_inverse=True, return_counts=True)
    return _compact(view, label, np.concatenate([f.xy for f in features])[node], copies[inverse] == 1)


def keep_observations(tracks: Tracks, keep: NDArray[np.bool_], min_length: int = 2) -> tuple[Tracks, Indices]:
    """The tracks with only the chosen observations [n], and the old number of each track that is left."""
    length = np.bincount(tracks.track[keep], minlength=tracks.count)
    left = np.flatnonzero(length >= min_length)
    return _compact(tracks.view, tracks.track, tracks.xy, keep, min_length), left


def _compact(view: Indices, label: Indices, xy: Array, keep: NDArray[np.bool_], min_length: int = 2) -> Tracks:
    view, label, xy = view[keep], label[keep], xy[keep]
    _, label, length = np.unique(label, return_inverse=True, return_counts=True)
    long = length[label] >= min_length
    view, xy = view[long], xy[long]
    _, label = np.unique(label[long], return_inverse=True)
    order = np.lexsort((view, label))
    count = int(label.max()) + 1 if len(label) else 0
    return Tracks(view[order], label[order], xy[order], count)
