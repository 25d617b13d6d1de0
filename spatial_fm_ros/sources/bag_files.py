"""Bags of every kind behind one face: topics with types and counts, messages in recorded order.

Messages are decoded with the definitions of the types that this program knows, never with those of the bag: a
recording cannot bring code along, and a type that nobody can parse does not matter to the others.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.sources.bag_folder import bag_files, is_packed, plain_suffix
from spatial_fm_ros.sources.base import NS
from spatial_fm_ros.sources.inflate import inflate_file, plain
from spatial_fm_ros.sources.storage import CDR, ROS1, Channel, Raw, Storage

#: ROS 1's older name of a type, of the same layout.
_OLD_NAMES = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}
#: Topics that are left aside and named one by one.
_NAMED = 5


@dataclass(frozen=True)
class TopicInfo:
    """What a bag holds of one topic. count: its messages, None = unknown."""

    name: str
    type: str
    count: int | None


class BagFile:
    """An open bag. Raises InputError, naming the file and the remedy, when nothing of it can be read.

    topics: what it holds, by name. start_ns, end_ns: first and after the last recording time, both 0 without messages.
    notes: sentences about what is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unpacked: tempfile.TemporaryDirectory[str] | None = None
        self._storages: list[Storage] = []
        try:
            found = bag_files(path)
            self.is_ros1 = found.ros1
            self.notes = found.notes
            self._open(found.files)
        except BaseException:
            self.close()
            raise
        self.topics: dict[str, TopicInfo] = {}
        self._find_topics()
        counts = [channel.count for storage in self._storages for channel in storage.channels]
        if None not in counts and (there := sum(count or 0 for count in counts)) < found.told:
            self.notes.append(
                f"The metadata.yaml of {shown(path.name)} speaks of {found.told} messages, {there} are there: the rest "
                "was lost; copy all files of the recording again, journals (-wal) too."
            )
        for name, info in self.topics.items():
            if info.count is None and next(self.raw([name]), None) is None:
                self.topics[name] = replace(info, count=0)
        spans = [(storage.start_ns, storage.end_ns) for storage in self._storages if storage.end_ns]
        self.start_ns = min((start for start, _ in spans), default=0)
        self.end_ns = max((end for _, end in spans), default=0)

    def _open(self, files: Sequence[Path]) -> None:
        """Every file that can be opened; the others are named, and raised where it is all of them."""
        faults: list[InputError] = []
        for file in files:
            try:
                self._storages.append(_storage(self._plain_file(file)))
            except InputError as error:
                faults.append(error)
            except Exception as error:  # whatever a damaged file makes a library say
                faults.append(
                    InputError(f"The bag file {shown(file)} cannot be read: {_reason(error)}; copy it again.")
                )
        if not self._storages:
            others = f" None of its {len(files)} files can be." if len(files) > 1 else ""
            raise InputError(f"{faults[0]}{others}" if faults else f"The bag {shown(self.path)} holds no files.")
        self.notes += [f"{fault} The rest of the recording is read." for fault in faults[:_NAMED]]
        for storage in self._storages:
            self.notes += storage.notes
            storage.notes = self.notes  # what comes up while reading is told here, too

    def _plain_file(self, file: Path) -> Path:
        if not is_packed(file):
            return file
        if self._unpacked is None:
            self._unpacked = tempfile.TemporaryDirectory(prefix="spatial_fm_bag_")
        target = Path(self._unpacked.name) / file.stem
        inflate_file(file, target)
        return target

    def _find_topics(self) -> None:
        """Topics by name; where one comes in several types, that of most messages, and a note."""
        by_topic: dict[str, dict[str, list[Channel]]] = {}
        for storage in self._storages:
            for channel in storage.channels:
                kinds = by_topic.setdefault(channel.topic, {})
                kinds.setdefault(_OLD_NAMES.get(channel.type, channel.type), []).append(channel)
        aside: dict[str, str] = {}
        for topic, kinds in sorted(by_topic.items()):
            readable = {kind: [c for c in channels if c.encoding in (CDR, ROS1)] for kind, channels in kinds.items()}
            infos = [TopicInfo(topic, kind, _total(channels)) for kind, channels in readable.items() if channels]
            if infos:
                chosen = max(infos, key=lambda info: (info.count != 0, _is_known(info.type), info.count or 0))
                self.topics[topic] = chosen
                aside.update(
                    (f"{topic} as {info.type}", f"the topic is mostly {shown(chosen.type)}")
                    for info in infos
                    if info is not chosen and info.count != 0
                )
            for kind, channels in kinds.items():
                name = f"{topic} ({kind})" if kind else topic
                for channel in channels:
                    if channel.encoding not in (CDR, ROS1):
                        aside[name] = f"its messages are '{shown(channel.encoding, 40)}', read are cdr and ros1"
                    elif channel.problem and not _is_known(kind):
                        aside[name] = channel.problem
        named = [f"The topic {shown(name)} is left aside: {reason}." for name, reason in list(aside.items())[:_NAMED]]
        if len(aside) > _NAMED:
            named.append(f"{len(aside) - _NAMED} more topics are left aside for such reasons.")
        self.notes += named

    def count_between(self, topic: str, start_ns: int | None, stop_ns: int | None) -> tuple[int, int, int]:
        """(messages of a topic in a part of the recording, first and last recording time of all of them, 0 = none)."""
        inside, first, last = 0, 0, 0
        for _, time_ns, _ in self.raw([topic]):
            first = first or time_ns
            last = time_ns
            inside += (start_ns is None or time_ns >= start_ns) and (stop_ns is None or time_ns < stop_ns)
        return inside, first, last

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, Any]]:
        """(topic, recording time ns, message); the message is an InputError where it cannot be decoded.

        A file that breaks off in its middle ends there, with a sentence in `notes`.
        """
        for channel, time_ns, data in self.raw(topics, start_ns, stop_ns):
            yield channel.topic, time_ns, decoded(channel, data)

    def raw(self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None) -> Iterator[Raw]:
        """Messages as `messages`, serialised as they lie in the file (`decoded` takes them)."""
        wanted = {topic: self.topics[topic].type for topic in topics if topic in self.topics}
        parts = []
        for storage in self._storages:
            channels = [
                channel
                for channel in storage.channels
                if _OLD_NAMES.get(channel.type, channel.type) == wanted.get(channel.topic)
                and channel.encoding in (CDR, ROS1)
                and channel.count != 0
            ]
            after = start_ns is not None and storage.end_ns and storage.end_ns <= start_ns
            before = stop_ns is not None and storage.end_ns and storage.start_ns >= stop_ns
            if channels and not after and not before:
                parts.append((storage.start_ns, self._guarded(storage, channels, start_ns, stop_ns)))
        return _merged(parts)

    def _guarded(
        self, storage: Storage, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[Raw]:
        """The messages of one file up to where it breaks off."""
        number, last = 0, 0
        raw = storage.messages(channels, start_ns, stop_ns)
        while True:
            try:
                message = next(raw)
            except StopIteration:
                return
            except Exception as error:
                note = (
                    f"The bag {shown(storage.path.name)} breaks off after {number} messages, at {last / NS:.3f} s "
                    f"({_reason(error)}); what came before is used."
                )
                if not any(each.startswith(note.partition(" after ")[0]) for each in self.notes):
                    self.notes.append(note)
                return
            number, last = number + 1, message[1]
            yield message

    def close(self) -> None:
        """Give the files back. Safe to call twice."""
        for storage in self._storages:
            storage.close()
        if self._unpacked is not None:
            self._unpacked.cleanup()
            self._unpacked = None


def decoded(channel: Channel, data: bytes) -> Any:
    """A message, or an InputError where it is damaged."""
    try:
        return _decoder(channel.encoding)(data, _OLD_NAMES.get(channel.type, channel.type))
    except Exception as error:  # whatever wrong bytes make a deserialiser say
        return InputError(f"a {shown(channel.type)} message is damaged ({_reason(error)})")


@cache
def _decoder(encoding: str) -> Callable[[bytes, str], object]:
    if encoding == ROS1:
        store = get_typestore(Stores.ROS1_NOETIC)
        store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage"))
        return store.deserialize_ros1
    deserialize = get_typestore(Stores.ROS2_HUMBLE).deserialize_cdr
    return lambda data, kind: deserialize(plain(data), kind)


@cache
def _is_known(kind: str) -> bool:
    return kind in get_typestore(Stores.ROS2_HUMBLE).types


def _storage(file: Path) -> Storage:
    if plain_suffix(file) == ".mcap":
        from spatial_fm_ros.sources.storage_mcap import McapStorage

        return McapStorage(file)
    if plain_suffix(file) == ".db3":
        from spatial_fm_ros.sources.storage_sqlite import SqliteStorage

        return SqliteStorage(file)
    from spatial_fm_ros.sources.storage_ros1 import Ros1Storage

    return Ros1Storage(file)


def _merged(parts: Sequence[tuple[int, Iterator[Raw]]]) -> Iterator[Raw]:
    """Messages of several files in the order of time; a file is only begun when its time has come."""
    order = count()
    waiting = sorted(((start, next(order), iterator) for start, iterator in parts), key=lambda part: part[:2])
    running: list[tuple[int, int, Raw, Iterator[Raw]]] = []
    while waiting or running:
        while waiting and (not running or waiting[0][0] <= running[0][0]):
            _, number, iterator = waiting.pop(0)
            for message in iterator:
                heapq.heappush(running, (message[1], number, message, iterator))
                break
        if running:
            _, number, message, iterator = running[0]
            yield message
            following = next(iterator, None)
            if following is None:
                heapq.heappop(running)
            else:
                heapq.heapreplace(running, (following[1], number, following, iterator))


def _total(channels: Sequence[Channel]) -> int | None:
    counts = [channel.count for channel in channels]
    return None if None in counts else sum(count or 0 for count in counts)


def _reason(error: Exception) -> str:
    """The error's own words in one line, without a final full stop."""
    text = " ".join(str(part) for part in error.args) or type(error).__name__
    return shown(" ".join(text.split()).rstrip("."))
