"""The folder results go to: checked before the long work starts, so that it cannot end in nothing."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from spatial_fm_ros.core.errors import OutputError
from spatial_fm_ros.core.io.names import shown, user_path
from spatial_fm_ros.core.io.writing import sweep_parts
from spatial_fm_ros.offline.result_list import FOLDERS, LIST, ResultList

#: A run needs at least this; less means that the map at the end would not fit.
LEAST_FREE_BYTES = 200 * 1024 * 1024
#: Names of what a run may write.
RESULT = re.compile(
    r"map(_[0-9]+)?\.ply|trajectory(_[0-9]+|_all)?\.tum|report\.(json|html)|views/[a-z_0-9]+\.png"
    r"|depth/index\.json|depth/(confidence/)?[0-9]{6,}\.png",
    re.ASCII,
)


def prepare_output(folder: Path, overwrite: bool = False, sources: Iterable[Path] = ()) -> Path:
    """Make the folder, or take an empty one; with `overwrite` also one with results, which stay until others come.

    `sources`: what is mapped; they and the output must not lie in each other. Raises OutputError when they do, when the
    folder is a file, is not empty, holds something else where a result would go, cannot be written or has no room.
    """
    folder = user_path(folder, OutputError)
    try:
        for source in sources:
            _keep_apart(folder, source)
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"The output '{shown(folder)}' is a file; name a folder.")
        folder.mkdir(parents=True, exist_ok=True)
        for each in (folder, *(folder / name for name in FOLDERS)):
            sweep_parts(each)
        if any(entry.name != LIST for entry in folder.iterdir()):
            if not overwrite:
                raise OutputError(
                    f"The output folder '{shown(folder)}' is not empty; name another one or add --overwrite."
                )
            _refuse_foreign(folder)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"can it be written?")
        free = shutil.disk_usage(folder).free
    except (OSError, ValueError) as error:
        raise OutputError(
            f"The output folder '{shown(folder)}' cannot be written: {getattr(error, 'strerror', None) or error}."
        ) from error
    if free < LEAST_FREE_BYTES:
        raise OutputError(
            f"The disk of '{shown(folder)}' is full: {free // 2**20} MB are free, at least "
            f"{LEAST_FREE_BYTES // 2**20} MB are needed; make room or name a folder on another disk."
        )
    return folder


def _keep_apart(folder: Path, source: Path) -> None:
    """Refuse an output in the input, and an input folder in the output. Files (videos, bags) may lie beside results."""
    if not source.is_dir():
        if not (source.parent / "metadata.yaml").is_file():
            return
        source = source.parent  # a file of a rosbag2 stands for all of it
    if _identity(source) in _with_those_above(folder):
        raise OutputError(
            f"The output '{shown(folder)}' lies in the input '{shown(source)}'; name a folder outside of it."
        )
    if folder.is_dir() and _identity(folder) in _with_those_above(source):
        raise OutputError(f"The input '{shown(source)}' lies in the output '{shown(folder)}'; name a folder beside it.")


def _with_those_above(place: Path) -> set[tuple[int, int]]:
    """Identities of a place and of all folders above it that exist, links followed."""
    real = Path(os.path.realpath(place))
    return {identity for each in (real, *real.parents) if (identity := _identity(each)) is not None}


def _identity(place: Path) -> tuple[int, int] | None:
    try:
        status = place.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder where something that no run wrote lies where a result would go."""
    with ResultList(folder) as results:
        ours = set(results.ours())
    foreign = [name for name in _in_the_way(folder) if name not in ours]
    if not foreign:
        return
    more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
    raise OutputError(
        f"'{shown(foreign[0])}'{more} in the output folder '{shown(folder)}' would be replaced, and is not as a run of "
        f"this version wrote it: somebody else's, changed since, or of version 0.1, which kept no list ({LIST}). "
        "Name another folder, or move it away."
    )


def _in_the_way(folder: Path) -> Iterator[str]:
    """Names below the folder that results have, or that stand where their folders belong."""
    for name in ("", *FOLDERS):
        place = folder / name
        if name and os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
            yield name
        elif place.is_dir():
            for entry in sorted(os.listdir(place)):
                found = f"{name}/{entry}" if name else entry
                if RESULT.fullmatch(found):
                    yield found
