"""Bags of every kind behind one face: topics with types and counts, messages in recorded order.

rosbags reads rosbag2 (sqlite3, mcap, compressed) and ROS 1 bags. What it refuses because the end of
the file is missing is opened here once more, as far as it goes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_typestore

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.sources.base import NS
from spatial_fm_ros.sources.file_names import natural_key
from spatial_fm_ros.sources.truncated import CutMcap, CutSqlite, plain

STORAGE_SUFFIXES = (".mcap", ".db3")
Raw = tuple[str, str, int, bytes]  # topic, type, recording time ns, serialised message


@dataclass(frozen=True)
class TopicInfo:
    """What a bag holds of one topic. count 0 = unknown (the bag's index is lost)."""

    name: str
    type: str
    count: int


class BagFile:
    """An open bag. Raises InputError, naming the file and the remedy, when nothing of it can be read.

    topics: what it holds, by name. start_ns, end_ns: recording times, 0 where unknown. notes:
    sentences about what is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._ros1 = path.suffix == ".bag"
        self.start_ns = self.end_ns = 0
        self._reader: AnyReader | None = None
        self._cut_mcaps: list[CutMcap] = []
        self._cut_sqlite: CutSqlite | None = None
        self._decode: Callable[[bytes, str], object]
        self.topics: dict[str, TopicInfo] = {}
        self._open(path)

    def _open(self, path: Path) -> None:
        reason = ""
        for paths in self._attempts(path):
            reader = AnyReader(paths, default_typestore=get_typestore(Stores.ROS2_HUMBLE))
            try:
                reader.open()
            except Exception as error:
                reason = reason or _reason(error)
                continue
            self._take_reader(reader)
            self._cut_mcaps = [entry for entry in paths if isinstance(entry, CutMcap)]
            self.notes += [
                f"The bag file {cut.path.name} is cut off after {cut.end} of {cut.size} bytes; it is read up to there."
                for cut in self._cut_mcaps
                if cut.is_cut
            ]
            return
        self._cut_sqlite = _open_cut_sqlite(path)
        if self._cut_sqlite is None:
            kind, remedy = (
                ("ROS 1 bag", "run 'rosbag reindex' on it")
                if self._ros1
                else ("rosbag2", "copy it again, or run 'ros2 bag reindex' on its folder")
            )
            raise InputError(f"The {kind} {path} cannot be read: {reason or 'it holds no storage file'}; {remedy}.")
        self._decode = get_typestore(Stores.ROS2_HUMBLE).deserialize_cdr
        self.topics = {name: TopicInfo(name, kind, 0) for name, kind in self._cut_sqlite.topics.items()}

    def _attempts(self, path: Path) -> Iterator[list[Any]]:
        """Ways to open, best first: as it is, its storage files alone, mcap files up to where they end."""
        if self._ros1:
            yield [path]
            return
        if path.is_file() or (path / "metadata.yaml").is_file():
            yield [path]
        files = storage_files(path)
        if path.is_dir() and not files and list(path.glob("*.zstd")):
            raise InputError(
                f"The rosbag2 {path} is compressed by file and its metadata.yaml is missing or unreadable; "
                "decompress its files with 'zstd -d', or run 'ros2 bag reindex'."
            )
        if path.is_dir() and files:
            yield list(files)
        if files and all(file.suffix == ".mcap" for file in files):
            yield [CutMcap(file) for file in files]

    def _take_reader(self, reader: AnyReader) -> None:
        self._reader = reader
        self._decode = reader.deserialize
        counts: dict[tuple[str, str], int] = {}
        for connection in reader.connections:
            key = (connection.topic, connection.msgtype)
            counts[key] = counts.get(key, 0) + connection.msgcount
        self.topics = {topic: TopicInfo(topic, kind, n) for (topic, kind), n in sorted(counts.items())}
        if reader.message_count:
            self.start_ns, self.end_ns = reader.start_time, reader.end_time

    def messages(
        self, topics: Sequence[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, Any]]:
        """(topic, recording time ns, message); the message is an InputError where it cannot be decoded.

        A file that breaks off in its middle ends the iteration, with a sentence in `notes`.
        """
        wanted = {name for name in topics if name in self.topics}
        if not wanted:
            return
        count, last = 0, 0
        raw = self._raw(wanted, start_ns, stop_ns)
        while True:
            try:
                topic, kind, time_ns, data = next(raw)
            except StopIteration:
                return
            except Exception as error:
                self._ended(count, last, error)
                return
            count, last = count + 1, time_ns
            message: Any
            try:
                message = self._decode(data if self._ros1 else plain(data), kind)
            except Exception as error:
                message = InputError(f"a {kind} message is damaged ({_reason(error)})")
            yield topic, time_ns, message

    def _raw(self, wanted: set[str], start_ns: int | None, stop_ns: int | None) -> Iterator[Raw]:
        if self._cut_sqlite is not None:
            for topic, time_ns, data in self._cut_sqlite.messages(wanted):
                if _within(time_ns, start_ns, stop_ns):
                    yield topic, self._cut_sqlite.topics[topic], time_ns, data
            return
        assert self._reader is not None, "the bag is closed"
        if not self._cut_mcaps:
            connections = [c for c in self._reader.connections if c.topic in wanted]
            for connection, time_ns, data in self._reader.messages(connections, start=start_ns, stop=stop_ns):
                yield connection.topic, connection.msgtype, time_ns, data
            return
        readers: list[Any] = list(self._reader.readers)
        for cut, reader in zip(self._cut_mcaps, readers):
            # a storage reader's connections carry the channel ids of its file
            channels = {c.id: c for c in reader.connections if c.topic in wanted}
            for channel, time_ns, data in cut.messages():
                if channel in channels and _within(time_ns, start_ns, stop_ns):
                    yield channels[channel].topic, channels[channel].msgtype, time_ns, data

    def _ended(self, count: int, last_ns: int, error: Exception) -> None:
        note = (
            f"The bag {self.path.name} breaks off after {count} messages, at {last_ns / NS:.3f} s "
            f"({_reason(error)}); what came before is used."
        )
        if count and note not in self.notes:
            self.notes.append(note)

    def close(self) -> None:
        if self._reader is not None:
            with suppress(AnyReaderError):  # a reader that failed to open is closed already
                self._reader.close()
            self._reader = None
        if self._cut_sqlite is not None:
            self._cut_sqlite.close()


def storage_files(path: Path) -> list[Path]:
    """The storage files of a rosbag2 folder in the order they were recorded, or the file itself."""
    candidates = [path] if path.is_file() else list(path.iterdir())
    return sorted((f for f in candidates if f.suffix in STORAGE_SUFFIXES), key=lambda file: natural_key(file.name))


def _open_cut_sqlite(path: Path) -> CutSqlite | None:
    for file in storage_files(path):
        if file.suffix == ".db3":
            try:
                return CutSqlite(file)
            except (sqlite3.Error, InputError):
                continue
    return None


def _within(time_ns: int, start_ns: int | None, stop_ns: int | None) -> bool:
    return (start_ns is None or time_ns >= start_ns) and (stop_ns is None or time_ns < stop_ns)


def _reason(error: Exception) -> str:
    """The error's own words in one line, without a final full stop."""
    text = " ".join(str(part) for part in error.args) or type(error).__name__
    return " ".join(text.split()).rstrip(".")
