"""The one thread that owns the device: takes windows, runs the model, hands updates on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from spatial_fm_ros.core.memory import return_freed
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Update

#: How often the worker looks for a window, seconds: small beside the time a window takes.
POLL_S = 0.02
#: How long `stop` waits for the window in work, seconds: longer than one takes, unless the device hangs.
PATIENCE_S = 60.0


@dataclass(frozen=True)
class _Turn:
    """From one `start` to its `stop`. left: nobody waits for it any more."""

    stop: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Runs the pipeline's windows as they get ready, between `start` and `stop`."""

    def __init__(
        self,
        pipeline: Pipeline,
        on_update: Callable[[Update], None],
        on_error: Callable[[Exception], None],
        is_ready: Callable[[], bool],
        is_silent: Callable[[], bool],
    ) -> None:
        """`is_ready` tells that a whole window can be taken, `is_silent` that no images come any more: what
        is left is then mapped as a last, shorter window. `on_update` and `on_error` are called in the
        worker's thread."""
        self._pipeline = pipeline
        self._on_update = on_update
        self._on_error = on_error
        self._is_ready = is_ready
        self._is_silent = is_silent
        self._turn = _Turn()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None or self._turn.stop.is_set():
            self._turn = _Turn()
            arguments = (self._turn, self._thread)
            self._thread = threading.Thread(target=self._run, args=arguments, name="reconstruct_worker", daemon=True)
            self._thread.start()

    def stop(self, patience_s: float = PATIENCE_S) -> bool:
        """Returns when the window in work is done. False: it is not, after `patience_s`; then it is left.

        A window that is left still comes into the pipeline's map, but is not announced any more, and the next turn
        begins after it.
        """
        turn, thread = self._turn, self._thread
        if thread is None:
            return True
        turn.stop.set()
        thread.join(patience_s)
        if thread.is_alive():
            turn.left.set()
            return False
        return True

    def _run(self, turn: _Turn, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()  # the device has one owner
        while not turn.stop.wait(POLL_S):
            self._work(turn)

    def _work(self, turn: _Turn) -> None:
        """Everything that is ready now. A window that fails for an unforeseen reason costs itself only."""
        while not turn.stop.is_set():
            try:
                final = self._is_silent()
                if not (final or self._is_ready()):
                    return
                update = self._pipeline.finish() if final else self._pipeline.step()
                if update is not None and not turn.left.is_set():
                    self._on_update(update)
                    return_freed()
            except Exception as error:  # reported; the thread lives on
                if not turn.left.is_set():
                    self._on_error(error)
                return
            if update is None:
                return
