"""The folder results go to: checked before the long work starts, so that it cannot end in nothing."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from spatial_fm_ros.core.errors import OutputError

#: A run needs at least this; less means that the map at the end would not fit.
LEAST_FREE_BYTES = 200 * 1024 * 1024
RESULTS = (
    "trajectory.tum", "trajectory_[0-9]*.tum", "trajectory_all.tum", "map.ply", "map_[0-9]*.ply",
    "report.json", "report.html", "views",
)  # fmt: skip


def prepare_output(folder: Path, overwrite: bool = False) -> Path:
    """Make the folder, or take an empty one; `overwrite` removes an earlier run's results from it first.

    Raises OutputError when it is a file, is not empty, cannot be written or its disk is full.
    """
    folder = Path(folder).expanduser()
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"The output {folder} is a file; name a folder.")
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            if not overwrite:
                raise OutputError(f"The output folder {folder} is not empty; name another one or add --overwrite.")
            _remove_results(folder)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"can it be written?")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"The output folder {folder} cannot be written: {error.strerror or error}.") from error
    if free < LEAST_FREE_BYTES:
        raise OutputError(
            f"The disk of {folder} is full: {free // 2**20} MB are free, at least {LEAST_FREE_BYTES // 2**20} MB "
            "are needed; make room or name a folder on another disk."
        )
    return folder


def _remove_results(folder: Path) -> None:
    """Remove what an earlier run wrote, and nothing else."""
    for pattern in RESULTS:
        for found in folder.glob(pattern):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    depth = folder / "depth"
    if (depth / "index.json").is_file() or (depth / "confidence").is_dir():
        shutil.rmtree(depth)
