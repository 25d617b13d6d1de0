"""The one thread that owns the device: takes windows, runs the model, hands updates on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from spatial_fm_ros.core.memory import return_freed
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import Update

#: How often the worker looks for a window, seconds: small beside the time a window takes.
POLL_S = 0.02


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
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="reconstruct_worker", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Returns when the window in work is done."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            self._work()

    def _work(self) -> None:
        """Everything that is ready now. A window that fails for an unforeseen reason costs itself only."""
        while not self._stop.is_set():
            final = self._is_silent()
            if not (final or self._is_ready()):
                return
            try:
                update = self._pipeline.finish() if final else self._pipeline.step()
                if update is not None:
                    self._on_update(update)
                    return_freed()
            except Exception as error:  # reported; the thread lives on
                self._on_error(error)
                continue
            if update is None:
                return
