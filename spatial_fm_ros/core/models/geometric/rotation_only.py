"""Orientations of a window whose camera only turned: no translation, no depth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from spatial_fm_ros.core.models.geometric.matching import PairGeometry
from spatial_fm_ros.core.types import Array


def chain_rotations(count: int, pairs: Mapping[tuple[int, int], PairGeometry]) -> tuple[Array, NDArray[np.bool_]]:
    """camera_from_world [count, 4, 4] with zero translation, along the pairs with the most matches.

    The world is the first view of the largest connected group; views outside it are not posed (second result).
    """
    poses = np.tile(np.eye(4), (count, 1, 1))
    posed = np.zeros(count, dtype=bool)
    edges = [(a, b, 1.0 / len(pair)) for (a, b), pair in pairs.items() if len(pair)]
    if not edges:
        return poses, posed
    a, b, cost = (np.array(column) for column in zip(*edges, strict=True))
    tree = minimum_spanning_tree(coo_matrix((cost, (a, b)), shape=(count, count)))
    order: list[int] = []
    parent = np.full(count, -9999)
    for root in range(count):
        reached, parents = breadth_first_order(tree, root, directed=False)
        if len(reached) > len(order):
            order, parent = [int(i) for i in reached], parents
    posed[order] = True
    for view in order[1:]:
        other = int(parent[view])
        if (other, view) in pairs:
            view_from_other = pairs[other, view].rotation
        else:
            view_from_other = pairs[view, other].rotation.T
        poses[view, :3, :3] = view_from_other @ poses[other, :3, :3]
    return poses, posed
