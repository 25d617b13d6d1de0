"""Counts of what was skipped, by reason; however many reasons an input makes up."""

from __future__ import annotations

from collections import Counter

_OTHERS = "for other reasons"


class Reasons(Counter[str]):
    """Counts by reason. Beyond a hundred reasons the rest is counted as one: some quote what a message says."""

    most = 100

    def __setitem__(self, reason: str, count: int) -> None:
        if reason in self or len(self) < self.most:
            super().__setitem__(reason, count)
        else:
            super().__setitem__(_OTHERS, self[_OTHERS] + 1)
