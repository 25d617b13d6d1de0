"""ROS 1 bags, as rosbags reads them, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rosbags.rosbag1 import Reader

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import regular_file
from spatial_fm_ros.sources.definitions import definition_problem
from spatial_fm_ros.sources.inflate import inflate
from spatial_fm_ros.sources.storage import ROS1, Channel, Raw


class Ros1Storage:
    """A Storage of a ROS 1 bag. Raises InputError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        regular_file(path, "bag file")
        self._reader = _BoundedReader(path)
        try:
            self._reader.open()
        except Exception as error:
            self._closed = True
            raise InputError(f"The ROS 1 bag {shown(path)} cannot be read: {_remedy(_words(error))}") from error
        self._closed = False
        self._connections = {connection.id: connection for connection in self._reader.connections}
        self.channels = [
            Channel(
                each.id,
                each.topic,
                each.msgtype,
                ROS1,
                each.msgcount,
                definition_problem("ros1msg", each.msgtype, each.msgdef.data.encode()),
            )
            for each in self._reader.connections
        ]
        any_messages = any(channel.count for channel in self.channels)
        self.start_ns, self.end_ns = (self._reader.start_time, self._reader.end_time) if any_messages else (0, 0)

    def messages(self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None) -> Iterator[Raw]:
        of = {channel.id: channel for channel in channels}
        wanted = [self._connections[number] for number in of]
        for connection, time_ns, data in self._reader.messages(wanted, start_ns, stop_ns):
            yield of[connection.id], time_ns, data

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._reader.close()


class _BoundedReader(Reader):
    """Chunks are unpacked within bounds, and none is told twice: a small index cannot ask for much work."""

    def read_chunk(self) -> Any:
        chunk = super().read_chunk()
        assert self.bio is not None
        packed = {entry: name for name, entry in _compressions().items()}[chunk.decompressor]
        return chunk._replace(decompressor=partial(_unpack, packed))

    def read_chunk_info(self) -> Any:
        info = super().read_chunk_info()
        told = self.__dict__.setdefault("_told", set())
        if info.pos in told:
            raise ValueError(f"its index tells the chunk at byte {info.pos} twice")
        told.add(info.pos)
        return info


def _compressions() -> dict[str, Callable[[bytes], bytes]]:
    from rosbags.rosbag1.reader import decompressors

    return decompressors


def _unpack(compression: str, data: bytes) -> bytes:
    return inflate(data, compression)


def _words(error: Exception) -> str:
    text = " ".join(str(part) for part in error.args) or type(error).__name__
    return shown(" ".join(text.split()).rstrip("."))


def _remedy(reason: str) -> str:
    """The reason with what helps against it: only what has no index, or a damaged one, can be indexed again."""
    if "magic" in reason or "empty" in reason or "version" in reason:
        return f"{reason}; it is no ROS 1 bag of version 2.0, or its copy is broken: copy it again."
    if "encryption" in reason or "Compression" in reason:
        return f"{reason}; write it again with 'rosbag decompress' or 'rosbag filter'."
    return f"{reason}; run 'rosbag reindex' on it."
