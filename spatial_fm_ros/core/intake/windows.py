"""Windows of keyframes with an overlap, from a stream that may be faster than the model."""

from __future__ import annotations

from threading import Lock

from spatial_fm_ros.core.config import WindowConfig
from spatial_fm_ros.core.types import Keyframe, Window


class WindowAssembler:
    """Collects keyframes and hands out windows. Thread-safe: one thread pushes, another takes.

    A window holds the last `overlap` keyframes of the one before and then new ones, oldest first, up to
    `size`. It always reaches to the newest keyframe, so that a slow model never falls behind: when more
    wait than fit in, or more than `max_pending` (never fewer than one whole window), one between two
    others is left out: the one whose neighbours are then least far apart in disparity, in time where
    disparity does not tell. The newest and the overlap are always kept. `thinned` counts them.
    `size` and `overlap` are those of the configuration, or smaller where the model's memory sets a limit.
    """

    def __init__(self, config: WindowConfig) -> None:
        self.config = config
        self.size, self.overlap = config.size, config.overlap
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all keyframes and start counting windows at 0 again."""
        with self._lock:
            self._pending: list[Keyframe] = []
            self._steps: list[float] = []  # disparity from the keyframe before, those left out included
            self._overlap: tuple[Keyframe, ...] = ()
            self._index = 0
            self.thinned = 0

    @property
    def pending(self) -> int:
        """Keyframes that wait to be in a window."""
        return len(self._pending)

    def limit(self, most: int) -> None:
        """Let windows hold at most `most` keyframes, two at least, from the next one on; one of them is new."""
        with self._lock:
            self.size = max(2, min(self.config.size, most))
            self.overlap = min(self.config.overlap, self.size - 1)
            self._overlap = self._overlap[-self.overlap :]

    def push(self, keyframe: Keyframe) -> None:
        """Queue the newest keyframe, and thin out when too many wait."""
        with self._lock:
            self._pending.append(keyframe)
            self._steps.append(keyframe.disparity_px)
            while len(self._pending) > max(self.config.max_pending, self.size):
                self._thin()

    def ready(self) -> bool:
        """A full window can be taken."""
        with self._lock:
            return self._is_ready()

    def take(self, final: bool = False) -> Window | None:
        """The next window; None while there are too few keyframes for a full one.

        With `final`, what is left becomes a shorter window: at least one new keyframe, two in all. More
        than one window may be waiting then: take until None.
        """
        with self._lock:
            room = self.size - len(self._overlap)
            while len(self._pending) > room and not final:
                self._thin()
            new = self._pending[:room]
            if not self._is_ready() and not (final and new and len(self._overlap) + len(new) >= 2):
                return None
            window = Window(self._index, (*self._overlap, *new), len(self._overlap))
            del self._pending[:room], self._steps[:room]
            self._overlap = window.keyframes[-self.overlap :]
            self._index += 1
            return window

    def hold(self, window: Window) -> None:
        """Let the next window start with the overlap `window` had, as if its new keyframes had not come.

        For a window that gave no depth: the next one can still hang on keyframes that have some. To be
        called by the thread that takes, before it takes the next.
        """
        with self._lock:
            self._overlap = window.keyframes[: window.overlap][-self.overlap :]

    def _is_ready(self) -> bool:
        return len(self._pending) >= self.size - len(self._overlap)

    def _thin(self) -> None:
        # The first of a stream has no neighbour before it, and starts the map: it stays.
        first = 0 if self._overlap else 1
        previous = [*self._overlap[-1:], *self._pending]
        shift = len(previous) - len(self._pending)

        def gap(i: int) -> tuple[float, int]:
            stamps = previous[i - 1 + shift].stamp_ns, previous[i + 1 + shift].stamp_ns
            return round(self._steps[i] + self._steps[i + 1], 1), stamps[1] - stamps[0]

        i = min(range(first, len(self._pending) - 1), key=gap)
        self._steps[i + 1] += self._steps[i]
        del self._pending[i], self._steps[i]
        self.thinned += 1
