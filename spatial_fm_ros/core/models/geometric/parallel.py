"""Independent work on several cores: one view or pair a task, one thread a task.

torch's own threads split single operations; at the sizes of this model they spend their time waiting
for each other. Whole views and pairs in threads of their own use both cores of a small computer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class Tasks:
    """Runs tasks on `threads` threads; the order of results is that of the items."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = max(1, threads)
        self._pool = ThreadPoolExecutor(self.threads, "geometric") if self.threads > 1 else None

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """[work(item) for item in items]; raises what a task raises."""

        def quietly(item: T) -> R:
            with torch.inference_mode():  # holds for one thread only
                return work(item)

        return [quietly(item) for item in items] if self._pool is None else list(self._pool.map(quietly, items))
