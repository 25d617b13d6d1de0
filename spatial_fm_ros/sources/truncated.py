"""Bags whose end is missing (power cut, full disk, broken copy): as much as is whole, without copying."""

from __future__ import annotations

import io
import sqlite3
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import lz4.frame  # type: ignore[import-untyped]

from spatial_fm_ros.core.errors import InputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Names and layouts of the MCAP specification, version 0.
_MAGIC = b"\x89MCAP0\r\n"
_HEADER = struct.Struct("<BQ")  # opcode, length
_MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK = struct.Struct("<QQQI")  # start, end, uncompressed size, CRC; then compression, length, data
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_OP_FOOTER, _OP_MESSAGE, _OP_CHUNK, _OP_DATA_END = 0x02, 0x05, 0x06, 0x0F
# A footer without summary (summary start, offset start and CRC 0), then the magic.
_TAIL = _HEADER.pack(_OP_FOOTER, 20) + struct.pack("<QQI", 0, 0, 0) + _MAGIC


class CutMcap:
    """A path-like view of an mcap file up to its last whole record, closed with a footer of its own.

    rosbags opens any object with `open`, `exists`, `suffix` and `is_dir` and learns the topics from it.
    `messages` reads in the order of the file, which rosbags insists to be the order of time.
    Raises InputError when the file is no mcap at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suffix = path.suffix
        self.size = path.stat().st_size
        self.end, self.is_cut = self._last_whole_record()

    def _records(self) -> Iterator[tuple[int, int, int, BinaryIO]]:
        """(opcode, offset, length, file at its content) of the whole records of the data section."""
        with self.path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise InputError(f"The file {self.path} is no mcap file: its first bytes are not the format's mark.")
            position = len(_MAGIC)
            while position + _HEADER.size <= self.size:
                file.seek(position)
                opcode, length = _HEADER.unpack(file.read(_HEADER.size))
                if opcode == 0 or position + _HEADER.size + length > self.size:
                    return
                yield opcode, position, length, file
                if opcode in (_OP_DATA_END, _OP_FOOTER):
                    return
                position += _HEADER.size + length

    def _last_whole_record(self) -> tuple[int, bool]:
        """(offset after the last whole data record, whether the file's own end is missing)."""
        end = len(_MAGIC)
        for opcode, offset, length, _ in self._records():
            if opcode in (_OP_DATA_END, _OP_FOOTER):
                return offset, False
            end = offset + _HEADER.size + length
        return end, True

    def messages(self) -> Iterator[tuple[int, int, bytes]]:
        """(channel id, log time ns, serialised message) in the order of the file; broken chunks are left out."""
        for opcode, _, length, file in self._records():
            if opcode == _OP_MESSAGE:
                yield _message(file.read(length))
            elif opcode == _OP_CHUNK:
                try:
                    content = _decompressed(file.read(length))
                except (RuntimeError, ValueError, struct.error, zstd.ZstdError):
                    continue
                yield from _messages_inside(content)

    def exists(self) -> bool:
        return self.path.exists()

    def is_dir(self) -> bool:
        return False

    def open(self, mode: str = "rb") -> BinaryIO:
        return io.BufferedReader(_WithTail(self.path.open("rb"), self.end, _TAIL))

    def __str__(self) -> str:
        return str(self.path)


def plain(data: bytes) -> bytes:
    """A serialised message, decompressed where the recorder compressed every message by itself.

    The folder's metadata says so, but may be lost. CDR begins with a zero byte, zstd never does.
    """
    return bytes(zstd.decompress(data)) if data[:4] == _ZSTD_MAGIC else data


def _message(record: bytes) -> tuple[int, int, bytes]:
    channel, _, log_time, _ = _MESSAGE.unpack_from(record)
    return channel, log_time, record[_MESSAGE.size :]


def _decompressed(chunk: bytes) -> bytes:
    (name_length,) = struct.unpack_from("<I", chunk, _CHUNK.size)
    name_at = _CHUNK.size + 4
    compression = chunk[name_at : name_at + name_length].decode()
    data = chunk[name_at + name_length + 8 :]
    if compression == "zstd":
        return bytes(zstd.decompress(data))
    if compression == "lz4":
        return bytes(lz4.frame.decompress(data))
    if compression:
        raise ValueError(f"unknown chunk compression '{compression}'")
    return data


def _messages_inside(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    position = 0
    while position + _HEADER.size <= len(content):
        opcode, length = _HEADER.unpack_from(content, position)
        position += _HEADER.size
        if opcode == _OP_MESSAGE and position + length <= len(content):
            yield _message(content[position : position + length])
        position += length


class _WithTail(io.RawIOBase):
    """The first `end` bytes of a file followed by `tail`."""

    def __init__(self, file: BinaryIO, end: int, tail: bytes) -> None:
        super().__init__()
        self._file, self._end, self._tail = file, end, tail
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end + len(self._tail)}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._position < self._end:
            self._file.seek(self._position)
            data = self._file.read(min(len(buffer), self._end - self._position))
        else:
            offset = self._position - self._end
            data = self._tail[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class CutSqlite:
    """A rosbag2 sqlite3 file that rosbags refuses, read row by row in insertion order without its index.

    Raises sqlite3.Error when not even its table of topics is there.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        # Lets SQLite open a file whose table of contents speaks of pages that are not there any more.
        self._db.execute("PRAGMA writable_schema=ON")
        rows = self._db.execute("SELECT id, name, type FROM topics").fetchall()
        self._names = {row[0]: row[1] for row in rows}
        self.topics: dict[str, str] = {row[1]: row[2] for row in rows}
        if not rows:
            raise InputError(f"The bag file {path} names no topics.")

    def messages(self, wanted: set[str]) -> Iterator[tuple[str, int, bytes]]:
        """(topic, recording time ns, serialised message). Raises sqlite3.Error where the file breaks off."""
        rows = self._db.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY id")
        for topic_id, time_ns, data in rows:
            name = self._names.get(topic_id, "")
            if name in wanted:
                yield name, time_ns, data

    def close(self) -> None:
        self._db.close()
