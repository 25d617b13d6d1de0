"""mcap files, whole or cut off (power cut, full disk, broken copy), of any profile and with any kind of channels."""

from __future__ import annotations

import heapq
import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from zlib import crc32

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import open_regular
from spatial_fm_ros.sources.definitions import definition_problem
from spatial_fm_ros.sources.inflate import inflate
from spatial_fm_ros.sources.storage import Channel, Raw, full_type, within

# Names and layouts of the MCAP specification, version 0.
_MAGIC = b"\x89MCAP0\r\n"
_HEADER = struct.Struct("<BQ")  # opcode, length
_MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK = struct.Struct("<QQQI")  # start, end, uncompressed size, CRC; then compression, length, data
_INDEX = struct.Struct("<QQQQ")  # start, end, offset of the chunk record, its length
_STATISTICS = struct.Struct("<QHIIIIQQ")
_FOOTER_SIZE = _HEADER.size + 20 + len(_MAGIC)
_OP_FOOTER, _OP_SCHEMA, _OP_CHANNEL, _OP_MESSAGE, _OP_CHUNK, _OP_CHUNK_INDEX = 0x02, 0x03, 0x04, 0x05, 0x06, 0x08
_OP_STATISTICS, _OP_DATA_END = 0x0B, 0x0F
#: Messages of overlapping chunks that wait for their turn; beyond it they come in the order of their chunks.
_WAITING_BYTES = 2**29
#: Damaged chunks that are named one by one.
_NAMED_CHUNKS = 5


@dataclass
class _ChunkAt:
    """A chunk record and what is known of it. channels: those it holds, empty = unknown. end: of its indexes too."""

    start: int
    stop: int
    offset: int
    length: int
    end: int
    channels: set[int] = field(default_factory=set)


@dataclass
class _Contents:
    """What a file holds, from its summary or from all its records."""

    schemas: dict[int, tuple[str, str, bytes]] = field(default_factory=dict)  # name, encoding, definition
    channels: dict[int, tuple[int, str, str]] = field(default_factory=dict)  # schema, topic, message encoding
    counts: dict[int, int] | None = field(default_factory=dict)  # None = not told
    chunks: list[_ChunkAt] = field(default_factory=list)
    loose: bool = False  # messages lie outside of chunks
    start: int | None = None
    last: int = 0

    def take_definition(self, opcode: int, record: bytes) -> None:
        if opcode == _OP_SCHEMA:
            (number,) = struct.unpack_from("<H", record)
            name, at = _string(record, 2)
            encoding, at = _string(record, at)
            data, _ = _sized(record, at)
            self.schemas.setdefault(number, (name, encoding, data))
        elif opcode == _OP_CHANNEL:
            number, schema = struct.unpack_from("<HH", record)
            topic, at = _string(record, 4)
            encoding, _ = _string(record, at)
            self.channels.setdefault(number, (schema, topic, encoding))

    def take_message(self, channel: int, time_ns: int) -> None:
        assert self.counts is not None
        self.counts[channel] = self.counts.get(channel, 0) + 1
        self.start = time_ns if self.start is None else min(self.start, time_ns)
        self.last = max(self.last, time_ns)


class McapStorage:
    """A Storage of an mcap file. What it says of itself at its end is used where it is whole, else all is looked at.

    Raises InputError when the file is no mcap or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._broken: set[int] = set()
        self._file = open_regular(path, "bag file")
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            if self._at(0, len(_MAGIC)) != _MAGIC:
                raise InputError(f"The file {shown(path)} is no mcap file: its first bytes are not the format's mark.")
            self._contents = self._summary() or self._all_records()
        except BaseException:
            self._file.close()
            raise
        self.channels = [self._channel(number, *channel) for number, channel in sorted(self._contents.channels.items())]
        self.start_ns = self._contents.start or 0
        self.end_ns = self._contents.last + 1 if self._contents.start is not None else 0

    def _channel(self, number: int, schema: int, topic: str, encoding: str) -> Channel:
        name, kind, definition = self._contents.schemas.get(schema, ("", "", b""))
        counts = self._contents.counts
        return Channel(
            number,
            topic,
            full_type(name),
            encoding,
            None if counts is None else counts.get(number, 0),
            definition_problem(kind, full_type(name), definition),
        )

    def messages(self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None) -> Iterator[Raw]:
        wanted = {channel.id: channel for channel in channels}
        found = self._in_file_order(wanted) if self._contents.loose else self._by_chunks(wanted, start_ns, stop_ns)
        for number, time_ns, data in found:
            if number in wanted and within(time_ns, start_ns, stop_ns):
                yield wanted[number], time_ns, data

    def _in_file_order(self, wanted: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
        for opcode, offset, length in self._records():
            if opcode == _OP_MESSAGE and length >= _MESSAGE.size:
                # The channel first: pictures that nobody wants are not read.
                if struct.unpack("<H", self._at(offset, 2))[0] in wanted:
                    yield _message(self._at(offset, length))
            elif opcode == _OP_CHUNK:
                yield from _messages_inside(self._content(offset, length), wanted)

    def _by_chunks(
        self, wanted: Collection[int], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[int, int, bytes]]:
        chunks = [
            chunk
            for chunk in self._contents.chunks
            if (not chunk.channels or not chunk.channels.isdisjoint(wanted))
            and (start_ns is None or chunk.stop >= start_ns)
            and (stop_ns is None or chunk.start < stop_ns)
        ]
        waiting: list[tuple[int, int, int, bytes]] = []  # time, order of the file, channel, data
        held, order = 0, count()
        for chunk in sorted(chunks, key=lambda chunk: (chunk.start, chunk.offset)):
            while waiting and (waiting[0][0] < chunk.start or held > _WAITING_BYTES):
                time_ns, _, number, data = heapq.heappop(waiting)
                held -= len(data)
                yield number, time_ns, data
            for number, time_ns, data in _messages_inside(self._content(chunk.offset, chunk.length), wanted):
                held += len(data)
                heapq.heappush(waiting, (time_ns, next(order), number, data))
        while waiting:
            time_ns, _, number, data = heapq.heappop(waiting)
            yield number, time_ns, data

    def _content(self, offset: int, length: int) -> bytes:
        """What a chunk record holds; nothing, with a note, where it is damaged."""
        try:
            return _unpacked(self._at(offset, length))
        except (ValueError, struct.error) as error:
            note = f"A chunk of the bag file {shown(self.path.name)}, at byte {offset}, is damaged ({error})"
            if offset not in self._broken:
                self._broken.add(offset)
                if len(self._broken) <= _NAMED_CHUNKS:
                    self.notes.append(f"{note}; its messages are left out.")
            return b""

    def _summary(self) -> _Contents | None:
        """What the file says of itself at its end; None where that is missing, damaged or not enough."""
        if self._size < len(_MAGIC) + _FOOTER_SIZE:
            return None
        footer = self._at(self._size - _FOOTER_SIZE, _FOOTER_SIZE)
        opcode, length, start = struct.unpack_from("<BQQ", footer)
        end = self._size - _FOOTER_SIZE
        if footer[-len(_MAGIC) :] != _MAGIC or (opcode, length) != (_OP_FOOTER, 20):
            return None
        if not len(_MAGIC) <= start < end:
            return None
        try:
            return self._read_summary(start, self._at(start, end - start))
        except (ValueError, struct.error):
            return None

    def _read_summary(self, start: int, records: bytes) -> _Contents | None:
        contents = _Contents()
        statistics: tuple[int, ...] | None = None
        for opcode, at, length in _records_inside(records):
            record = records[at : at + length]
            contents.take_definition(opcode, record)
            if opcode == _OP_CHUNK_INDEX:
                contents.chunks.append(_chunk_index(record))
            elif opcode == _OP_STATISTICS:
                statistics = _STATISTICS.unpack_from(record)
                told, _ = _sized(record, _STATISTICS.size)
                contents.counts = dict(struct.iter_unpack("<HQ", told))
        if statistics is None or not self._tiled(contents.chunks, start):
            return None
        messages, _, channels, _, _, chunks, first, last = statistics
        known = all(schema == 0 or schema in contents.schemas for schema, _, _ in contents.channels.values())
        if not known or len(contents.channels) != channels or len(contents.chunks) != chunks:
            return None
        if messages and not contents.counts:
            contents.counts = None
        contents.start, contents.last = (first, last) if messages else (None, 0)
        contents.loose = contents.loose or not contents.chunks
        return contents

    def _tiled(self, chunks: list[_ChunkAt], end: int) -> bool:
        """Whether the chunks of a summary are the file's records, all of them, and no message lies outside."""
        at = {chunk.offset - _HEADER.size: chunk for chunk in chunks}
        if len(at) != len(chunks):
            return False
        position, met = len(_MAGIC), 0
        while chunks and position + _HEADER.size <= end:
            if chunk := at.get(position):
                met += 1
                if chunk.end <= position:
                    return False
                position = chunk.end
                continue
            opcode, length = _HEADER.unpack(self._at(position, _HEADER.size))
            if opcode == _OP_DATA_END:
                break
            if opcode in (0, _OP_MESSAGE, _OP_CHUNK):
                return False
            position += _HEADER.size + length
        return met == len(chunks)

    def _all_records(self) -> _Contents:
        """What the file holds by looking at all of it; a note where its end is missing."""
        contents = _Contents()
        end, whole = len(_MAGIC), False
        for opcode, offset, length in self._records():
            end = offset + length
            whole = opcode in (_OP_DATA_END, _OP_FOOTER)
            if opcode == _OP_MESSAGE and length >= _MESSAGE.size:
                channel, _, time_ns, _ = _MESSAGE.unpack(self._at(offset, _MESSAGE.size))
                contents.take_message(channel, time_ns)
                contents.loose = True
            elif opcode == _OP_CHUNK:
                self._look_into(contents, offset, length)
            elif opcode in (_OP_SCHEMA, _OP_CHANNEL):
                _take(contents, opcode, self._at(offset, length))
        if not whole:
            self.notes.append(
                f"The bag file {shown(self.path.name)} is cut off after {end} of {self._size} bytes; it is read up to "
                "there."
            )
        return contents

    def _look_into(self, contents: _Contents, offset: int, length: int) -> None:
        content = self._content(offset, length)
        start, last, channels = 2**64, 0, set()
        for opcode, at, size in _records_inside(content):
            if opcode == _OP_MESSAGE and size >= _MESSAGE.size:
                channel, _, time_ns, _ = _MESSAGE.unpack_from(content, at)
                contents.take_message(channel, time_ns)
                start, last = min(start, time_ns), max(last, time_ns)
                channels.add(channel)
            elif opcode in (_OP_SCHEMA, _OP_CHANNEL):
                _take(contents, opcode, content[at : at + size])
        if channels:
            contents.chunks.append(_ChunkAt(start, last, offset, length, offset + length, channels))

    def _records(self) -> Iterator[tuple[int, int, int]]:
        """(opcode, offset of the content, its length) of the whole records of the data section."""
        position = len(_MAGIC)
        while position + _HEADER.size <= self._size:
            opcode, length = _HEADER.unpack(self._at(position, _HEADER.size))
            position += _HEADER.size
            if opcode == 0 or position + length > self._size:
                return
            yield opcode, position, length
            if opcode in (_OP_DATA_END, _OP_FOOTER):
                return
            position += length

    def _at(self, offset: int, length: int) -> bytes:
        """Bytes of the file, never more than it has. Raises ValueError where they are not all there."""
        if offset < 0 or length < 0 or offset + length > self._size:
            raise ValueError(f"{length} bytes at {offset} of a file of {self._size}")
        pieces = []
        while length:  # one call reads 2 GiB at most
            piece = os.pread(self._file.fileno(), length, offset)
            if not piece:
                raise ValueError("the file became shorter")
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        self._file.close()


def _take(contents: _Contents, opcode: int, record: bytes) -> None:
    """A schema or channel; a damaged one is none, and its messages are those of no topic."""
    try:
        contents.take_definition(opcode, record)
    except (ValueError, struct.error):
        return


def _chunk_index(record: bytes) -> _ChunkAt:
    start, stop, offset, length = _INDEX.unpack_from(record)
    offsets, at = _sized(record, _INDEX.size)
    (indexes,) = struct.unpack_from("<Q", record, at)
    channels = {channel for channel, _ in struct.iter_unpack("<HQ", offsets)}
    if length < _HEADER.size:
        raise ValueError("a chunk without content")
    return _ChunkAt(start, stop, offset + _HEADER.size, length - _HEADER.size, offset + length + indexes, channels)


def _unpacked(record: bytes) -> bytes:
    """The content of a chunk record. Raises ValueError or struct.error where it is damaged."""
    _, _, size, crc = _CHUNK.unpack_from(record)
    compression, at = _string(record, _CHUNK.size)
    (length,) = struct.unpack_from("<Q", record, at)
    if length > len(record) - at - 8:
        raise ValueError(f"{len(record) - at - 8} of {length} bytes")
    content = inflate(record[at + 8 : at + 8 + length], compression, size)
    if crc and crc32(content) != crc:
        raise ValueError("its checksum is wrong")
    return content


def _messages_inside(content: bytes, wanted: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
    for opcode, at, length in _records_inside(content):
        if opcode == _OP_MESSAGE and length >= _MESSAGE.size:
            channel, _, time_ns, _ = _MESSAGE.unpack_from(content, at)
            if channel in wanted:
                yield channel, time_ns, content[at + _MESSAGE.size : at + length]


def _records_inside(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(opcode, offset of the content, its length) of whole records in memory."""
    position = 0
    while position + _HEADER.size <= len(content):
        opcode, length = _HEADER.unpack_from(content, position)
        position += _HEADER.size
        if position + length > len(content):
            return
        yield opcode, position, length
        position += length


def _message(record: bytes) -> tuple[int, int, bytes]:
    channel, _, time_ns, _ = _MESSAGE.unpack_from(record)
    return channel, time_ns, record[_MESSAGE.size :]


def _sized(record: bytes, at: int) -> tuple[bytes, int]:
    """Bytes with their length before them, and where they end. Raises ValueError where they are cut off."""
    (length,) = struct.unpack_from("<I", record, at)
    if at + 4 + length > len(record):
        raise ValueError("a record that is cut off")
    return record[at + 4 : at + 4 + length], at + 4 + length


def _string(record: bytes, at: int) -> tuple[str, int]:
    data, at = _sized(record, at)
    return data.decode("utf-8", "backslashreplace"), at
