"""Finds out what a path is and opens it."""

from __future__ import annotations

import os
from pathlib import Path

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown, user_path
from spatial_fm_ros.sources.base import Source, SourceOptions

ACCEPTED = (
    "a rosbag2 folder, an .mcap or .db3 file, a ROS 1 .bag or a folder of its parts, an image folder, a video or a "
    "sequence folder"
)


def open_source(path: str | Path, options: SourceOptions | None = None) -> Source:
    """The recording at `path`, opened. Raises InputError when there is none or it cannot be read."""
    path = user_path(path)
    options = options or SourceOptions()
    try:
        return _open(path, options)
    except OSError as error:
        raise InputError(f"The input {shown(path)} cannot be read: {error.strerror or error}.") from error


def _open(path: Path, options: SourceOptions) -> Source:
    from spatial_fm_ros.sources.bag_folder import holds_bag, is_packed
    from spatial_fm_ros.sources.file_names import holds_files
    from spatial_fm_ros.sources.images import IMAGE_SUFFIXES, ImageFolder
    from spatial_fm_ros.sources.video import VIDEO_SUFFIXES, Video

    if not path.exists():
        raise InputError(f"There is no input at {shown(path)}; expected {ACCEPTED}.")
    if path.is_dir():
        if os.path.lexists(path / "sequence.json"):
            from spatial_fm_ros.sources.sequence import SequenceFolder

            return SequenceFolder(path, options)
        if holds_bag(path):
            return _bag(path, options)
        if not holds_files(path, IMAGE_SUFFIXES) and (path / "images").is_dir():
            path = path / "images"
        return ImageFolder(path, options)
    suffix = path.suffix.lower()
    if suffix in (".mcap", ".db3", ".bag") or is_packed(path):
        return _bag(path, options)
    if suffix in VIDEO_SUFFIXES:
        return Video(path, options)
    if path.name.endswith(".bag.active"):
        raise InputError(
            f"The ROS 1 bag {shown(path)} was never closed; run 'rosbag reindex {shown(path.name)}' and rename it to "
            ".bag."
        )
    if suffix in (".zstd", ".zst"):
        raise InputError(f"{shown(path)} is compressed; of those only .mcap and .db3 files of a rosbag2 are read.")
    if suffix in IMAGE_SUFFIXES:
        raise InputError(f"{shown(path)} is a single image; a map needs several: give the folder that holds them.")
    raise InputError(f"{shown(path)} is nothing this program reads; expected {ACCEPTED}.")


def _bag(path: Path, options: SourceOptions) -> Source:
    from spatial_fm_ros.sources.bag import BagSource

    return BagSource(path, options)
