"""Which files make up a recording: one file, the parts of a split rosbag2 folder, or a folder of split ROS 1 bags."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.structured import read_yaml
from spatial_fm_ros.sources.file_names import natural_key
from spatial_fm_ros.sources.images import IMAGE_SUFFIXES

STORAGE_SUFFIXES = (".mcap", ".db3")
PACKED_SUFFIXES = tuple(f"{suffix}{packed}" for suffix in STORAGE_SUFFIXES for packed in (".zstd", ".zst"))
ROS1_SUFFIX = ".bag"
_PART = re.compile(r"(.*)_([0-9]{1,6})")


@dataclass
class BagFiles:
    """The files of a recording in the order they were recorded; notes: sentences about what is missing or besides.

    told: how many messages its metadata speaks of, 0 = unknown.
    """

    files: list[Path]
    ros1: bool
    notes: list[str] = field(default_factory=list)
    told: int = 0


def holds_bag(path: Path) -> bool:
    """Whether a folder is a recording by its files."""
    return (path / "metadata.yaml").is_file() or any(_is_storage(file) or _is_ros1(file) for file in path.iterdir())


def bag_files(path: Path) -> BagFiles:
    """The files of the recording at `path`. Raises InputError for a folder that holds none, or different ones."""
    if not path.is_dir():
        return BagFiles([path], _is_ros1(path))
    entries = sorted(path.iterdir(), key=lambda file: natural_key(file.name))
    storage, ros1 = [file for file in entries if _is_storage(file)], [file for file in entries if _is_ros1(file)]
    listed, told, notes = _listed(path)
    if storage and ros1:
        raise InputError(
            f"The folder {shown(path)} holds rosbag2 files ({_names(storage)}) and ROS 1 bags ({_names(ros1)}): that "
            "is more than one recording; give one of the files, or a folder of its own for each recording."
        )
    if not storage and not ros1:
        raise InputError(
            f"The rosbag2 {shown(path)} cannot be read: it holds no storage file (.mcap, .db3, compressed .zstd); "
            "copy the whole folder again."
        )
    found = BagFiles(ros1 or _unpacked_once(storage), bool(ros1), notes, told)
    if listed is not None and not ros1:
        _apply_metadata(found, listed)
    if len({plain_suffix(file) for file in found.files}) > 1:
        raise InputError(
            f"The folder {shown(path)} holds mcap and sqlite3 files ({_names(found.files)}): that is more than one "
            "recording; give one of the files."
        )
    if listed is None:
        _note_gaps(found)
        if len(names := {_part(file)[0] for file in found.files}) > 1:
            found.notes.append(
                f"The folder {shown(path.name)} holds {len(found.files)} bag files of {len(names)} names "
                f"({_names(found.files)}); they are read as one recording, in the order of time."
            )
        if pictures := sum(file.suffix.lower() in IMAGE_SUFFIXES for file in entries):
            found.notes.append(f"The folder {shown(path.name)} holds {pictures} image files too; the bag is read.")
    return found


def _is_storage(file: Path) -> bool:
    return file.suffix.lower() in STORAGE_SUFFIXES or is_packed(file)


def _is_ros1(file: Path) -> bool:
    return file.suffix.lower() == ROS1_SUFFIX


def is_packed(file: Path) -> bool:
    return file.name.lower().endswith(PACKED_SUFFIXES)


def plain_suffix(file: Path) -> str:
    """The kind of a storage file, packed or not."""
    return (Path(file.stem).suffix if is_packed(file) else file.suffix).lower()


def _unpacked_once(files: list[Path]) -> list[Path]:
    """Without the packed twin of a file that lies there unpacked, too."""
    names = {file.name for file in files}
    return [file for file in files if not (is_packed(file) and file.stem in names)]


def _listed(path: Path) -> tuple[list[str] | None, int, list[str]]:
    """(files and number of messages that metadata.yaml lists, notes); None where there is none that can be used."""
    file = path / "metadata.yaml"
    if not file.is_file():
        return None, 0, []
    try:
        described = read_yaml(file, "metadata of a rosbag2")
        about = described["rosbag2_bagfile_information"]
        names, told = about["relative_file_paths"], about.get("message_count", 0)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError("relative_file_paths is no list of names")
    except (InputError, LookupError, TypeError) as error:
        words = shown(str(error).rstrip("."), 200)
        return (
            None,
            0,
            [f"The metadata.yaml of {shown(path.name)} cannot be used ({words}); the folder's files are read."],
        )
    inside, notes = [], []
    for name in dict.fromkeys(names):
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            notes.append(
                f"The metadata.yaml of {shown(path.name)} names '{shown(name)}', which lies outside of its folder; "
                "it is not read."
            )
        elif place.name:
            inside.append(place.name)  # the first rosbag2 wrote the folder before it
    return inside, told if isinstance(told, int) else 0, notes[:5]


def _apply_metadata(found: BagFiles, listed: list[str]) -> None:
    """Those of the files that belong to the recording, by its metadata."""
    there = {file.name: file for file in found.files}
    there |= {file.stem: file for file in found.files if is_packed(file)}
    missing = [name for name in listed if name not in there and name.removesuffix(".zstd") not in there]
    chosen = [file for file in found.files if file.name in listed or (is_packed(file) and file.stem in listed)]
    chosen += [there[name.removesuffix(".zstd")] for name in listed if name not in there and name not in missing]
    parts = {_part(file)[0] for file in chosen}
    # A recorder that was killed has written its last part, and not yet that it has.
    late = [file for file in found.files if file not in chosen and (not chosen or _part(file)[0] in parts)]
    beside = [file for file in found.files if file not in chosen and file not in late]
    if missing:
        found.notes.append(
            f"Of the recording's {len(listed)} files {len(missing)} are missing ({shown(', '.join(missing))}): what "
            "they held is left out; copy the whole folder again."
        )
    if late and chosen:
        found.notes.append(f"The metadata.yaml does not name {_names(late)}, which belong to the recording; read too.")
    if beside:
        found.notes.append(f"The metadata.yaml does not name {_names(beside)}; they are left out.")
    found.files = [file for file in found.files if file in chosen or file in late]


def _note_gaps(found: BagFiles) -> None:
    """A note where the numbers of a split recording's parts have a gap."""
    numbers: dict[str, set[int]] = {}
    for file in found.files:
        name, number = _part(file)
        if number is not None:
            numbers.setdefault(name, set()).add(number)
    for parts in numbers.values():
        if len(parts) > 1 and (gaps := max(parts) - min(parts) + 1 - len(parts)) > 0:
            missing = next(number for number in range(min(parts), max(parts)) if number not in parts)
            found.notes.append(
                f"Of the recording's parts {min(parts)} to {max(parts)} {gaps} are missing (first: part {missing}): "
                "what they held is left out."
            )


def _part(file: Path) -> tuple[str, int | None]:
    """(the recording's name, the part's number) of a file name such as drive_3.db3."""
    stem = file.name.split(".")[0] if is_packed(file) else file.stem
    match = _PART.fullmatch(stem)
    return (match[1], int(match[2])) if match else (stem, None)


def _names(files: list[Path]) -> str:
    names = ", ".join(file.name for file in files[:3])
    return shown(names if len(files) <= 3 else f"{names} and {len(files) - 3} more")
