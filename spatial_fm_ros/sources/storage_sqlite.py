"""rosbag2's sqlite3 files, whole, cut off, or left by a recorder that was killed with its journal beside them.

Nothing is ever written: not to the file, and not to the journal. SQLite would write a journal back and delete it, and
so take from the user what another tool may still need.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import open_regular
from spatial_fm_ros.sources.definitions import definition_problem
from spatial_fm_ros.sources.inflate import SPARE_BYTES
from spatial_fm_ros.sources.storage import Channel, Raw, full_type

_MARK = b"SQLite format 3\0"
#: What a rollback journal begins with while it is needed.
_HOT_MARK = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
_VFS, _COPIES_VFS = "spatial_fm_reads_only", "spatial_fm_in_copies"
#: A row takes this many bytes of the file at least.
_LEAST_ROW = 8
#: Instructions of SQLite's machine between two looks at whether a file keeps it busy for nothing.
_STEPS = 100_000


class SqliteStorage:
    """A Storage of a .db3 file. Raises InputError when not even its table of topics can be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._real = path.resolve()  # journals lie beside the file, not beside a link to it
        self.notes: list[str] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        with open_regular(path, "bag file") as file:
            mark = file.read(len(_MARK))
            self._size = file.seek(0, 2) + _size(_beside(self._real, "-wal"))
        if mark != _MARK:
            raise InputError(
                f"The file {shown(path)} is no sqlite3 bag: its first bytes are not the format's mark"
                f"{_lone_wal(self._real)}."
            )
        self._steps = 0
        self._db = self._open()
        try:
            self._look()
        except apsw.Error as error:
            self.close()
            raise InputError(f"The bag file {shown(path)} cannot be read: {error}.") from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> apsw.Connection:
        """The file with what its journal adds."""
        if _size(_beside(self._real, "-wal")):
            try:
                db = _connect(self._real, immutable=False)
                db.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()  # keeps the journal's index in memory
                db.execute("SELECT count(*) FROM sqlite_master").fetchall()
                return db
            except apsw.Error as error:
                self.notes.append(
                    f"What the journal {shown(_beside(self._real, '-wal').name)} holds cannot be read ({error}): the "
                    "recording's last messages are missing. Open a copy of both files with sqlite3 to repair them."
                )
        path = self._real
        if _begins_with(_beside(path, "-journal"), _HOT_MARK):
            path = self._rolled_back()
        db = _connect(path, immutable=True)
        # Lets SQLite open a file whose table of contents speaks of pages that are not there any more.
        db.execute("PRAGMA writable_schema=ON")
        return db

    def _rolled_back(self) -> Path:
        """A copy without the transaction that was cut short; the file itself, with a note, where there is no room."""
        journal = _beside(self._real, "-journal")
        self._folder = tempfile.TemporaryDirectory(prefix="spatial_fm_bag_")
        copy = Path(self._folder.name) / "copy.db3"
        try:
            if shutil.disk_usage(copy.parent).free < self.path.stat().st_size + _size(journal) + SPARE_BYTES:
                raise OSError(f"no room in {copy.parent}; TMPDIR sets another folder")
            shutil.copyfile(self.path, copy)
            shutil.copyfile(journal, _beside(copy, "-journal"))
            _IN_COPIES.folders.add(os.path.realpath(copy.parent))
            db = apsw.Connection(str(copy), vfs=_COPIES_VFS)
            db.execute("SELECT count(*) FROM sqlite_master").fetchall()
            db.close()
            return copy
        except (OSError, apsw.Error) as error:
            self.notes.append(
                f"The bag file {shown(self.path.name)} was being written when its recorder ended, and its journal "
                f"cannot be applied ({shown(error)}): some of its last messages may be damaged."
            )
            return self._real

    def _look(self) -> None:
        self._db.set_progress_handler(self._is_too_busy, _STEPS)
        self._db.limit(apsw.SQLITE_LIMIT_LENGTH, min(2**30, max(self._size, 2**20)))
        found = self._db.execute("SELECT name FROM sqlite_master WHERE type='table' AND rootpage>0")
        tables = {_text(name).lower() for (name,) in found}
        if missing := {"topics", "messages"} - tables:
            raise InputError(
                f"The file {shown(self.path)} is no bag: it has no table {' and '.join(sorted(missing))}; "
                "a rosbag2 has both."
            )
        for table in ("topics", "messages"):
            if any(column[6] > 1 for column in self._db.execute(f"PRAGMA table_xinfo({table})")):
                raise InputError(f"The file {shown(self.path)} is no bag: its tables are computed, not recorded.")
        definitions = self._definitions(tables)
        counts = self._counts()
        self.channels = [
            Channel(int(number), _text(name), kind, _text(encoding), counts.get(number, 0), definitions.get(kind, ""))
            for number, name, kind, encoding in self._topics()
        ]
        if not self.channels:
            raise InputError(f"The bag file {shown(self.path)} names no topics.")

    def _topics(self) -> Iterator[tuple[int, Any, str, Any]]:
        for number, name, kind, encoding in self._db.execute(
            "SELECT id, name, type, serialization_format FROM topics ORDER BY id"
        ):
            yield number, name, full_type(_text(kind)), encoding

    def _definitions(self, tables: Collection[str]) -> dict[str, str]:
        """What is wrong with the definitions of types, where a bag has them and something is."""
        found = {}
        if "message_definitions" in tables:
            with suppress(apsw.Error):
                for kind, encoding, text in self._db.execute(
                    "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
                ):
                    name = full_type(_text(kind))
                    found[name] = definition_problem(_text(encoding), name, _text(text).encode())
        return found

    def _counts(self) -> dict[int, int]:
        """Messages by topic; those up to the damage where the file is damaged, with a note."""
        self.start_ns = self.end_ns = 0
        self._damaged = False
        counts: dict[int, int] = {}
        try:
            for topic, number, first, last in self._db.execute(
                "SELECT topic_id, count(*), min(timestamp), max(timestamp) FROM messages GROUP BY topic_id"
            ):
                counts[topic] = number
                self._spans(first, last)
            return counts
        except apsw.InterruptError:
            raise
        except apsw.Error as error:
            self._damaged = True
            self.notes.append(
                f"The bag file {shown(self.path.name)} is cut off or damaged ({error}); it is read up to there."
            )
        counts.clear()
        self.start_ns = self.end_ns = 0
        with suppress(apsw.Error):
            for topic, time_ns in self._db.execute("SELECT topic_id, timestamp FROM messages NOT INDEXED ORDER BY id"):
                counts[topic] = counts.get(topic, 0) + 1
                self._spans(time_ns, time_ns)
        return counts

    def _spans(self, first: Any, last: Any) -> None:
        if isinstance(first, int) and isinstance(last, int):
            self.start_ns = min(self.start_ns, first) if self.end_ns else first
            self.end_ns = max(self.end_ns, last + 1)

    def messages(self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None) -> Iterator[Raw]:
        wanted = {channel.id: channel for channel in channels}
        places = ",".join("?" for _ in wanted)
        part = f"topic_id IN ({places}) AND timestamp >= ? AND timestamp < ?"
        span = (-(2**63) if start_ns is None else start_ns, 2**63 - 1 if stop_ns is None else stop_ns)
        # A damaged file is read in the order it was written, without its index. Where there is no index, the numbers
        # of the rows are sorted, not the rows.
        order = "NOT INDEXED WHERE {} ORDER BY id" if self._damaged else "WHERE {} ORDER BY timestamp, id"
        self._steps = 0
        rows = self._db.execute(f"SELECT id, topic_id, timestamp FROM messages {order.format(part)}", (*wanted, *span))
        for row, topic, time_ns in rows:
            for (data,) in self._db.execute("SELECT data FROM messages WHERE id = ?", (row,)):
                if topic in wanted and isinstance(time_ns, int):
                    yield wanted[topic], time_ns, data if isinstance(data, bytes) else b""

    def _is_too_busy(self) -> bool:
        """Whether more was done than a file of this size can need; pages that lead in circles never end."""
        self._steps += _STEPS
        return self._steps > 10 * _STEPS + 100 * self._size // _LEAST_ROW

    def close(self) -> None:
        self._db.close()
        if self._folder is not None:
            _IN_COPIES.folders.discard(os.path.realpath(self._folder.name))
            self._folder.cleanup()


class _ReadsOnly(apsw.VFS):
    """Regular files, opened for reading whatever SQLite asks for; nothing is deleted, nothing locked."""

    def __init__(self) -> None:
        super().__init__(_VFS, "unix-none")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        if name is not None:
            path = name.filename() if isinstance(name, apsw.URIFilename) else name
            if os.path.exists(path) and not os.path.isfile(path):
                raise apsw.CantOpenError(f"{shown(path)} is no regular file")  # a FIFO would wait for ever
            flags[0] = flags[0] & ~(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE) | apsw.SQLITE_OPEN_READONLY
        return super().xOpen(name, flags)

    def xDelete(self, name: str, sync: bool) -> None:
        return None


class _InCopies(apsw.VFS):
    """Files in the folders of copies alone: a journal may name another file, which SQLite would delete after it."""

    def __init__(self) -> None:
        super().__init__(_COPIES_VFS, "")
        self.folders: set[str] = set()

    def _holds(self, name: Any) -> bool:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return os.path.dirname(os.path.realpath(path)) in self.folders

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        if name is not None and not self._holds(name):
            raise apsw.CantOpenError("a file beside the copy")
        return super().xOpen(name, flags)

    def xAccess(self, name: str, flags: int) -> bool:
        return self._holds(name) and super().xAccess(name, flags)

    def xDelete(self, name: str, sync: bool) -> None:
        if self._holds(name):
            super().xDelete(name, sync)


_READS_ONLY, _IN_COPIES = _ReadsOnly(), _InCopies()


def _connect(path: Path, immutable: bool) -> apsw.Connection:
    uri = f"file:{quote(str(path.absolute()), errors='surrogateescape')}?mode=ro{'&immutable=1' if immutable else ''}"
    db = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, vfs=None if immutable else _VFS)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    return db


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _begins_with(path: Path, mark: bytes) -> bool:
    if not _size(path):
        return False
    with open_regular(path, "bag journal") as file:
        return file.read(len(mark)) == mark


def _lone_wal(path: Path) -> str:
    """What to say where all of a recording is in the journal, and the file itself was lost."""
    return (
        f" (its journal {shown(path.name)}-wal lies beside it: copy both again)" if _size(_beside(path, "-wal")) else ""
    )


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
