"""The map on disk while it grows: what a crash or a power cut may cost is what came since the last save."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from rclpy.node import Node

from spatial_fm_ros.core.config import MapConfig
from spatial_fm_ros.core.errors import SpatialFMError
from spatial_fm_ros.core.io.cloud_files import write_map
from spatial_fm_ros.core.io.names import shown, user_path
from spatial_fm_ros.core.io.writing import make_folder, sweep_parts
from spatial_fm_ros.core.pipeline import Pipeline

#: A world of fewer windows is not worth to take the place of an earlier one's file.
MIN_WINDOWS = 3
#: Large maps are saved less often, so that no more than this is written for long: memory cards wear out.
BYTES_PER_S = 0.5e6
#: The last save, while the node ends, is waited for so long, seconds.
LAST_SAVE_S = 1.5


class Autosave:
    """Saves a map that has changed, in a thread of its own, and once more in the end.

    The file of an earlier run, or of the world before a reset, is kept beside it (NAME.1.ply) once the new world has
    MIN_WINDOWS windows. A file that somebody else has written since the last save is theirs: another name is taken.
    `problem`: why it cannot be saved; empty while it can. Nothing here disturbs the mapping.
    """

    def __init__(self, node: Node, pipeline: Pipeline, config: MapConfig) -> None:
        """Starts at once; does nothing where `config.autosave_s` is 0."""
        self.problem = ""
        self._log = node.get_logger()
        self._pipeline = pipeline
        self._period_s = config.autosave_s
        self._world = -1  # the world (number of resets) that the file is of; -1: none of this run
        self._windows = 0  # of that world, when it was saved
        self._saved_s = float("-inf")
        self._written: tuple[int, ...] | None = None  # what tells the file that was written last from another
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.path = Path()
        if config.autosave_s <= 0:
            return
        try:
            self.path = _path(node, config.autosave_path)
            self._tell_of_earlier()
        except (SpatialFMError, OSError) as error:
            self._fail(error)
            return
        self._thread = threading.Thread(target=self._run, name="reconstruct_autosave", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Save what has changed and end."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join(LAST_SAVE_S)
            self._thread = None

    @property
    def state(self) -> str:
        """For people: where the map was saved last and when."""
        if self._period_s <= 0:
            return "off (map.autosave_s)"
        if self._windows == 0:
            return self.problem or "nothing to save yet"
        return f"{shown(self.path)}, {time.monotonic() - self._saved_s:.0f} s ago, {self._windows} windows"

    def _run(self) -> None:
        wait_s = self._period_s
        while not self._stop.wait(max(wait_s, 0.1)):
            wait_s = max(self._period_s, self._save() / BYTES_PER_S)
        self._save()

    def _save(self) -> int:
        """Save the map where it has changed. Returns the bytes written."""
        stats = self._pipeline.stats
        world, windows = stats.resets, stats.windows
        if windows < MIN_WINDOWS or (world, windows) == (self._world, self._windows):
            return 0
        try:
            saved = self._pipeline.saved_map()
            if not len(saved.cloud) or self._pipeline.stats.resets != world:
                return 0
            make_folder(self.path.parent)
            if world != self._world:
                self._keep_earlier()
                self._world = world
            elif _identity(self.path) not in (None, self._written):
                self._yield_file()
            size = write_map(self.path, saved)
            self._written = _identity(self.path)
        except Exception as error:  # whatever it is, it costs the mapping nothing
            self._fail(error)
            return 0
        if self.problem:
            self._log.info(f"The map is saved again, to {shown(self.path)}.")
        self.problem, self._windows, self._saved_s = "", windows, time.monotonic()
        return size

    def _tell_of_earlier(self) -> None:
        sweep_parts(self.path.parent)
        if self.path.is_file():
            self._log.info(
                f"The map of an earlier run is in {shown(self.path)}: ~/load_map loads it. It is kept as "
                f"{self._earlier.name} once the new map has {MIN_WINDOWS} windows."
            )

    def _yield_file(self) -> None:
        """Another node of this name on this machine saves to the same file."""
        theirs, self.path = self.path, self.path.with_name(f"{self.path.stem}.{os.getpid()}{self.path.suffix}")
        self._log.warning(
            f"Somebody else has written {shown(theirs)}, another node of this name perhaps: this one's map goes to "
            f"{shown(self.path)}. Set map.autosave_path, or give each node its own name or namespace."
        )

    def _keep_earlier(self) -> None:
        """A second name for the file: what takes its place under the first leaves it alone."""
        if not self.path.is_file():
            return
        self._earlier.unlink(missing_ok=True)
        try:
            os.link(self.path, self._earlier)
        except OSError:  # a file system without links
            os.replace(self.path, self._earlier)

    @property
    def _earlier(self) -> Path:
        return self.path.with_name(f"{self.path.stem}.1{self.path.suffix}")

    def _fail(self, error: Exception) -> None:
        told, self.problem = bool(self.problem), f"The map is not saved by itself: {shown(error, 1000)}"
        if not told:
            self._log.warning(f"{self.problem} Mapping goes on; set map.autosave_path, or map.autosave_s to 0.")


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _path(node: Node, told: str) -> Path:
    if told:
        return user_path(told).absolute()
    name = node.get_fully_qualified_name().strip("/").replace("/", ".")
    home = user_path(os.environ.get("ROS_HOME") or "~/.ros")
    return home.absolute() / "spatial_fm_ros" / f"{name}.autosave.ply"
