"""A hash table from voxel keys to rows, vectorised: thousands of keys are looked up or added at once.

Open addressing with linear probing. All keys that still search take their step together, so the
number of numpy calls is that of the longest probe (some ten), not that of the keys.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]
Rows = NDArray[np.int64]

#: Voxel coordinates per axis are packed into so many bits each.
AXIS_BITS = 21
AXIS_LIMIT = 1 << (AXIS_BITS - 1)
EMPTY = np.int64(-1)  # packed keys are never negative
#: 2^64 / golden ratio, odd: spreads neighbouring keys (Knuth, TAOCP vol. 3, 6.4).
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MAX_LOAD = 0.6
MIN_SLOT_BITS = 10


def pack(coordinates: NDArray[np.int64]) -> Keys:
    """Keys [N] >= 0 of integer voxel coordinates [N, 3], each within +-AXIS_LIMIT."""
    shifted = coordinates + AXIS_LIMIT
    keys: Keys = (shifted[:, 0] << (2 * AXIS_BITS)) | (shifted[:, 1] << AXIS_BITS) | shifted[:, 2]
    return keys


class VoxelIndex:
    """Distinct keys, numbered in the order they came. Keys leave only by `rebuild`."""

    def __init__(self) -> None:
        self.rebuild(np.empty(0, np.int64))

    def __len__(self) -> int:
        return self._count

    def rebuild(self, keys: Keys) -> None:
        """Start anew with these distinct keys [N] >= 0 as rows 0 to N - 1."""
        self._allocate(len(keys))
        self._count = 0
        self._insert(keys)

    def rows(self, keys: Keys) -> Rows:
        """Rows [N] of distinct keys [N] >= 0; those not seen before get the next free rows, in order."""
        needed = self._count + len(keys)
        if needed > MAX_LOAD * len(self._keys):
            known = self.keys()
            self._allocate(needed)
            self._count = 0
            self._insert(known)
        return self._insert(keys)

    def find(self, keys: Keys) -> Rows:
        """Rows [N] of keys [N] >= 0, repeated ones too; -1 for those not known. Nothing is added."""
        slots = ((keys.view(np.uint64) * GOLDEN) >> self._shift).view(np.int64)
        searching = np.arange(len(keys))
        while len(searching):
            at = self._keys[slots[searching]]
            searching = searching[(at != keys[searching]) & (at != EMPTY)]
            slots[searching] = (slots[searching] + 1) & self._mask
        found = self._keys[slots] == keys
        return np.where(found, self._rows[slots], -1).astype(np.int64)

    def keys(self) -> Keys:
        """All keys, by row."""
        occupied = self._keys != EMPTY
        keys = np.empty(self._count, np.int64)
        keys[self._rows[occupied]] = self._keys[occupied]
        return keys

    def _insert(self, keys: Keys) -> Rows:
        slots = ((keys.view(np.uint64) * GOLDEN) >> self._shift).view(np.int64)
        searching = np.arange(len(keys))
        while len(searching):
            at, wanted = slots[searching], keys[searching]
            empty = self._keys[at] == EMPTY
            # Several keys may claim one slot: the last writer keeps it, the others see that and go on.
            self._keys[at[empty]] = wanted[empty]
            searching = searching[self._keys[at] != wanted]
            slots[searching] = (slots[searching] + 1) & self._mask
        new = slots[self._rows[slots] < 0]
        self._rows[new] = np.arange(self._count, self._count + len(new))
        self._count += len(new)
        return self._rows[slots].astype(np.int64)

    def _allocate(self, count: int) -> None:
        bits = max(MIN_SLOT_BITS, int(np.ceil(np.log2(max(count, 1) / MAX_LOAD))))
        self._keys = np.full(1 << bits, EMPTY)
        self._rows = np.full(1 << bits, -1, np.int32)
        self._mask = np.int64((1 << bits) - 1)
        self._shift = np.uint64(64 - bits)
