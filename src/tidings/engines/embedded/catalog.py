"""The topics of a bus as this process knows them, with an open log for each shard that is in use."""

from __future__ import annotations

import functools
import itertools
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from tidings.engines.embedded.control import Control
from tidings.engines.embedded.locks import LOCK_WAIT_SECONDS
from tidings.engines.embedded.log.filelog import FileLog
from tidings.engines.embedded.log.frame import Batch
from tidings.engines.embedded.log.memorylog import MemoryLog
from tidings.engines.embedded.log.recovery import Floor
from tidings.engines.embedded.log.segments import LogGone, LogLimits, sync_folder
from tidings.engines.embedded.log.syncing import Point
from tidings.engines.embedded.waking.board import Board
from tidings.errors import TopicExists, TopicNotFound
from tidings.model.clock import Clock
from tidings.model.message import Record
from tidings.model.options import TopicOptions
from tidings.model.topics import validate_topic

OPEN_LOGS = 200
"""Logs with open files, two descriptors each: stays below the usual limit of 1024 with room for the program's own."""

SEGMENT_BYTES = 64 * 1024 * 1024
"""Where a new segment begins, at most; a tenth of a smaller retention, as retention removes whole segments."""

MEMORY_BYTES = 256 * 1024 * 1024
"""What a partition keeps in memory when no retention is set: a bus without a disk must end somewhere."""

NORMAL_PRIORITY = 5


class Log(Protocol):
    """What a shard needs of a log; `FileLog` and `MemoryLog` are the two."""

    def append(self, records: Sequence[Record], wait: float = LOCK_WAIT_SECONDS) -> tuple[int, Point]: ...
    def sync(self, point: Point) -> None: ...
    def end(self) -> int: ...
    def span(self) -> tuple[int, int]: ...
    def read(self, offset: int) -> list[Batch]: ...
    def find_time(self, time_ns: int) -> int: ...
    def extent(self) -> tuple[int, int, int]: ...
    def trim(self) -> None: ...
    def drop(self) -> None: ...
    def close(self) -> bool: ...


class Shard:
    """One partition of a topic; `id` is its number in the whole bus."""

    __slots__ = ("_log", "_make", "id", "partition", "topic")

    def __init__(self, id: int, topic: str, partition: int, make: Callable[[Shard], Log]) -> None:
        self.id = id
        self.topic = topic
        self.partition = partition
        self._make = make
        self._log: Log | None = None

    @property
    def log(self) -> Log:
        """The log, made when first asked for: most of ten thousand topics never are."""
        if self._log is None:
            with _making:
                if self._log is None:
                    self._log = self._make(self)
        return self._log

    def close(self) -> bool:
        """Close the files; False when a sync is under way."""
        return self._log is None or self._log.close()


_making = threading.Lock()


def _after_fork() -> None:
    global _making
    _making = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class Topic:
    """A topic that exists."""

    def __init__(self, id: int, name: str, options: TopicOptions, shards: list[Shard]) -> None:
        self.id = id
        self.name = name
        self.options = options
        self.shards = shards
        self._turn = itertools.count()

    def shard_for(self, key: str | None) -> Shard:
        """Return the shard of a key; without a key they take turns."""
        number = next(self._turn) if key is None else zlib.crc32(key.encode())
        return self.shards[number % len(self.shards)]


class Catalog:
    """Topics by name. Safe to share between threads."""

    def __init__(
        self, control: Control, folder: Path | None, clock: Clock, board: Board | None, segment_bytes: int
    ) -> None:
        self._control = control
        self._folder = folder
        self._clock = clock
        self._board = board
        self._seen = b""
        self._segment_bytes = segment_bytes
        self._mutex = threading.RLock()
        self._used: OrderedDict[int, Shard] = OrderedDict()
        self._newest = -1
        self._newest_id = 0
        self.topics: dict[str, Topic] = {}
        self.on_new: Callable[[list[Topic]], None] = lambda topics: None

    def refresh(self) -> None:
        """Learn what others created and dropped, if the board says that they did."""
        word = self._board.topics_word() if self._board is not None else b""
        if word != self._seen:
            self.load()
            self._seen = word

    def load(self) -> None:
        """Learn which topics there are: forget those that were dropped, and show those that are new to `on_new`."""
        with self._mutex:
            living = {row[0] for row in self._control.read("SELECT id FROM topics")}
            for topic in [topic for topic in self.topics.values() if topic.id not in living]:
                self._forget(topic)
            self.learn()

    def learn(self) -> None:
        """Learn of the topics that were made since the last time; numbers are given once, and upwards."""
        with self._mutex:
            query = "SELECT id, name, options, first_shard FROM topics WHERE id > ? ORDER BY id"
            fresh = [self._make(*row) for row in self._control.read(query, (self._newest_id,))]
            for topic in fresh:
                if topic.name in self.topics:
                    self._forget(self.topics[topic.name])
                self.topics[topic.name] = topic
            if fresh:
                self._newest_id = fresh[-1].id
        if fresh:
            self.on_new(fresh)

    def _make(self, id: int, name: str, stored: str, first_shard: int) -> Topic:
        options = _read_options(stored)

        def make(shard: Shard) -> Log:
            if self._folder is None:
                return MemoryLog(_limits(options, MEMORY_BYTES, keep_bytes=MEMORY_BYTES), self._clock)
            folder = shard_folder(self._folder, id, shard.partition)
            limits = _limits(options, self._segment_bytes)
            return FileLog(
                folder, limits, self._clock, lambda: self._floor(shard.id), lambda end: self._post(shard.id, end)
            )

        shards = [Shard(first_shard + number, name, number, make) for number in range(options.partitions)]
        return Topic(id, name, options, shards)

    def _floor(self, shard: int) -> Floor:
        given = self._control.read("SELECT max(next) FROM cursors WHERE shard = ?", (shard,))[0][0]
        return Floor(given or 0, self._board.written(shard) if self._board is not None else 0)

    def _post(self, shard: int, end: int) -> None:
        if self._board is not None:
            self._board.post(shard, end)

    def _forget(self, topic: Topic) -> None:
        with self._mutex:
            self.topics.pop(topic.name, None)
            for shard in topic.shards:
                self._used.pop(shard.id, None)
                shard.close()

    def use(self, shard: Shard) -> None:
        """Note that the files of a shard are (to be) open, and close those of the shard that was longest not used."""
        if self._newest == shard.id:
            return
        with self._mutex:
            self._newest = shard.id
            self._used[shard.id] = shard
            self._used.move_to_end(shard.id)
            if len(self._used) > OPEN_LOGS:
                oldest = self._used.popitem(last=False)[1]
                if not oldest.close():
                    self._used[oldest.id] = oldest

    def find(self, name: str) -> Topic:
        """Return the topic of this name. Raises `TopicNotFound`."""
        topic = self.topics.get(name)
        if topic is None:
            self.load()
            topic = self.topics.get(name)
        if topic is None:
            raise TopicNotFound(name)
        return topic

    def create(self, name: str, options: TopicOptions | None) -> tuple[Topic, bool]:
        """Return the topic, and whether it was made; with options other than it has raises `TopicExists`."""
        validate_topic(name)
        made = False
        with self._control.write(durable=True) as run:
            row = run("SELECT options FROM topics WHERE name = ?", (name,)).fetchall()
            if not row:
                self._insert(run, name, options or TopicOptions())
                made = True
        self.learn()
        topic = self.find(name)
        if options is not None and topic.options != options:
            raise TopicExists(name, f"it has {topic.options}")
        return topic, made

    def _insert(self, run: Callable[..., object], name: str, options: TopicOptions) -> None:
        stored = msgspec.json.encode(options).decode()
        query = "SELECT coalesce(max(value), 0) FROM meta WHERE name = 'next_shard'"
        first = self._control.read(query)[0][0]
        run("INSERT OR REPLACE INTO meta VALUES ('next_shard', ?)", (first + options.partitions,))
        run("INSERT INTO topics (name, options, first_shard) VALUES (?, ?, ?)", (name, stored, first))
        topic_id = self._control.read("SELECT id FROM topics WHERE name = ?", (name,))[0][0]
        if self._folder is not None:
            for partition in range(options.partitions):
                shard_folder(self._folder, topic_id, partition).mkdir(0o700, parents=True, exist_ok=True)
            sync_folder(shard_folder(self._folder, topic_id, 0).parent)
            sync_folder(self._folder / "topics")

    def drop(self, name: str) -> Topic:
        """Remove the topic, its messages and its place in every group. Raises `TopicNotFound`."""
        self.load()
        topic = self.find(name)
        for shard in topic.shards:
            with suppress(LogGone):
                shard.log.drop()  # first, so that nobody gets a receipt for a topic that is not listed any more
        with self._control.write(durable=True) as run:
            run("DELETE FROM topics WHERE id = ?", (topic.id,))
            for shard in topic.shards:
                run("DELETE FROM cursors WHERE shard = ?", (shard.id,))
                run("DELETE FROM pending WHERE shard = ?", (shard.id,))
        self._forget(topic)
        if self._folder is not None:
            import shutil  # slow to load, and few programs drop topics

            shutil.rmtree(shard_folder(self._folder, topic.id, 0).parent, ignore_errors=True)
        return topic

    def close(self) -> None:
        for topic in self.topics.values():
            for shard in topic.shards:
                shard.close()


@functools.lru_cache(maxsize=128)
def _read_options(stored: str) -> TopicOptions:
    """Most topics have the same options; 128 kinds of them are plenty."""
    return msgspec.json.decode(stored, type=TopicOptions)


def shard_folder(bus: Path, topic_id: int, partition: int) -> Path:
    return bus / "topics" / str(topic_id) / f"{partition}-{NORMAL_PRIORITY}"


def _limits(options: TopicOptions, segment_bytes: int, keep_bytes: int | None = None) -> LogLimits:
    """Return the limits of a log: a tenth of what is kept makes a segment, so that trimming is that precise."""
    keep_bytes = options.retention_bytes or keep_bytes
    messages, seconds = options.retention_messages, options.retention_seconds
    return LogLimits(
        segment_bytes=min(segment_bytes, max(4096, keep_bytes // 10)) if keep_bytes else segment_bytes,
        segment_messages=max(1, messages // 10) if messages else None,
        segment_seconds=seconds / 10 if seconds else None,
        keep_bytes=keep_bytes,
        keep_messages=messages,
        keep_seconds=seconds,
    )
