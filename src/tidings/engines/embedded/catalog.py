"""The topics of a bus as this process knows them, with an open log for each shard that is in use."""

from __future__ import annotations

import functools
import itertools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from tidings.engines.embedded.control.database import Control
from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS
from tidings.engines.embedded.disk.place import sync_folder
from tidings.engines.embedded.log.filelog import FileLog
from tidings.engines.embedded.log.frame import Batch
from tidings.engines.embedded.log.memorylog import MemoryLog
from tidings.engines.embedded.log.recovery import Floor
from tidings.engines.embedded.log.segments import LogGone, LogLimits
from tidings.engines.embedded.log.stamps import Stamps
from tidings.engines.embedded.log.syncing import Point
from tidings.engines.embedded.waking.board import Board
from tidings.errors import InvalidOption, TopicExists, TopicNotFound
from tidings.model.clock import Clock
from tidings.model.compression import Compression
from tidings.model.message import Record, partition_of
from tidings.model.options import NORMAL_PRIORITY, Guarantee, Overflow, TopicOptions, default_options, difference
from tidings.model.topics import validate_topic
from tidings.spi import SchemaVersion

OPEN_LOGS = 200
"""Logs with open files, two descriptors each: stays below the usual limit of 1024 with room for the program's own."""

GLANCE_SECONDS = 0.001
"""A publisher looks for changed topics this often, so that what others alter holds for it within a millisecond."""

SEGMENT_BYTES = 64 * 1024 * 1024
"""Where a new segment begins, at most; a tenth of a smaller retention, as retention removes whole segments."""

MEMORY_BYTES = 256 * 1024 * 1024
"""What a partition keeps in memory when no retention is set: a bus without a disk must end somewhere."""

Execute = Callable[..., Any]


class Log(Protocol):
    """What a shard needs of a log; `FileLog` and `MemoryLog` are the two."""

    def append(
        self, records: Sequence[Record], wait: float = LOCK_WAIT_SECONDS, compression: Compression | None = None
    ) -> tuple[int, Point]: ...
    def append_once(
        self, records: Sequence[Record], window: float, wait: float, compression: Compression | None = None
    ) -> tuple[list[tuple[int, bool]], Point]: ...
    def sync(self, point: Point) -> None: ...
    def secure(self) -> None: ...
    def end(self) -> int: ...
    def point(self) -> Point: ...
    def span(self) -> tuple[int, int]: ...
    def read(self, offset: int) -> list[Batch]: ...
    def find_time(self, time_ns: int) -> int: ...
    def extent(self) -> tuple[int, int, int]: ...
    def trim(self) -> None: ...
    def limit(self, limits: LogLimits) -> None: ...
    def drop(self) -> None: ...
    def close(self) -> bool: ...


class Place(Struct, frozen=True):
    """Which shard of a topic it is. `home` is the number of the partition's shard of normal priority."""

    topic: str
    partition: int
    priority: int
    home: int


class Shard:
    """One partition of a topic, for one priority; `id` is its number in the whole bus."""

    __slots__ = ("_log", "_make", "home", "id", "partition", "priority", "topic")

    def __init__(self, id: int, place: Place, make: Callable[[Shard], Log]) -> None:
        self.id = id
        self.topic = place.topic
        self.partition = place.partition
        self.priority = place.priority
        self.home = place.home
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

    def limit(self, limits: LogLimits) -> None:
        """Keep other limits from now on."""
        if self._log is not None:
            self._log.limit(limits)

    def close(self) -> bool:
        """Close the files; False when a sync is under way."""
        return self._log is None or self._log.close()


_making = threading.Lock()


def _after_fork() -> None:
    global _making
    _making = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class Topic:
    """A topic that exists. `levels`: the shards of each priority that it has been published with, by partition."""

    def __init__(self, id: int, name: str, options: TopicOptions) -> None:
        self.id = id
        self.name = name
        self.options = options
        self.levels: dict[int, list[Shard]] = {}
        self.shards: list[Shard] = []
        self.is_plain = is_plain(options)
        self._turn = itertools.count()

    def add_level(self, priority: int, shards: list[Shard]) -> None:
        self.levels[priority] = shards
        self.shards = [shard for level in sorted(self.levels, reverse=True) for shard in self.levels[level]]

    def partition_for(self, key: str | None) -> int:
        """Return the partition of a key; without a key they take turns."""
        partitions = self.options.partitions
        return next(self._turn) % partitions if key is None else partition_of(key, partitions)


def is_plain(options: TopicOptions) -> bool:
    """Whether a publish has nothing to do but to append, as far as the topic's options go."""
    asked = (options.message_ttl, options.compression, options.schema, options.max_length)
    return options.delivery is not Guarantee.EXACTLY_ONCE and asked == (None, None, None, None)


class Catalog:
    """Topics by name. Safe to share between threads. `blocking` names those whose publishers may wait for room,
    `unleased` those that deliver at most once."""

    def __init__(
        self, control: Control, folder: Path | None, clock: Clock, board: Board | None, segment_bytes: int
    ) -> None:
        self._control = control
        self._folder = folder
        self._stamps = Stamps(clock)
        self._board = board
        self._seen = b""
        self._segment_bytes = segment_bytes
        self._mutex = threading.RLock()
        self._used: OrderedDict[int, Shard] = OrderedDict()
        self._newest = -1
        self._changed = 0
        self._glanced = 0.0
        self.topics: dict[str, Topic] = {}
        self.blocking: set[str] = set()
        self.unleased: set[str] = set()
        self.on_new: Callable[[list[Topic]], None] = lambda topics: None
        self.on_gone: Callable[[Topic], None] = lambda topic: None

    def refresh(self) -> None:
        """Learn what others created and dropped, if the board says that they did."""
        word = self._board.topics_word() if self._board is not None else b""
        if word != self._seen:
            self.load()
            self._seen = word

    def glance(self) -> None:
        """Refresh, unless that was done a moment ago: publishers that read nothing have to learn, too."""
        if self._board is not None and (now := time.monotonic()) - self._glanced > GLANCE_SECONDS:
            self._glanced = now
            self.refresh()

    def load(self) -> None:
        """Learn which topics there are: forget those that were dropped, and show those that are new to `on_new`."""
        with self._mutex:
            living = {row[0] for row in self._control.read("SELECT id FROM topics")}
            for topic in [topic for topic in self.topics.values() if topic.id not in living]:
                self._forget(topic)
            self.learn()

    def learn(self) -> None:
        """Learn of the topics that were made or changed since the last time."""
        with self._mutex:
            query = "SELECT id, name, options, changed FROM topics WHERE changed > ? ORDER BY changed"
            fresh = [self._learn(*row) for row in self._control.read(query, (self._changed,))]
        if fresh:
            self.on_new(fresh)

    def _learn(self, id: int, name: str, stored: str, changed: int) -> Topic:
        known, options = self.topics.get(name), _read_options(stored)
        if known is None or known.id != id:
            if known is not None:
                self._forget(known)
            known = Topic(id, name, options)
        elif known.options != options:
            self._adopt(known, options)
        first = dict(self._control.read("SELECT priority, first_shard FROM levels WHERE topic_id = ?", (id,)))
        for priority in first.keys() - known.levels.keys():
            known.add_level(priority, self._make_level(known, priority, first))
        self.topics[name] = known
        _keep(self.blocking, name, options.max_length is not None and options.overflow is Overflow.BLOCK)
        _keep(self.unleased, name, options.delivery is Guarantee.AT_MOST_ONCE)
        self._changed = changed
        return known

    def _adopt(self, topic: Topic, options: TopicOptions) -> None:
        """Let a topic have other options from now on."""
        topic.options, topic.is_plain = options, is_plain(options)
        for shard in topic.shards:
            shard.limit(self._limits(options))

    def _limits(self, options: TopicOptions) -> LogLimits:
        if self._folder is None:
            return _limits(options, MEMORY_BYTES, keep_bytes=MEMORY_BYTES)
        return _limits(options, self._segment_bytes)

    def _make_level(self, topic: Topic, priority: int, first: dict[int, int]) -> list[Shard]:
        def make(shard: Shard) -> Log:
            limits = self._limits(topic.options)
            if self._folder is None:
                return MemoryLog(limits, self._stamps)
            folder = shard_folder(self._folder, topic.id, shard.partition, priority)
            return FileLog(
                folder, limits, self._stamps, lambda: self._floor(shard.id), lambda end: self._post(shard.id, end)
            )

        return [
            Shard(first[priority] + number, Place(topic.name, number, priority, first[NORMAL_PRIORITY] + number), make)
            for number in range(topic.options.partitions)
        ]

    def _floor(self, shard: int) -> Floor:
        given = self._control.read("SELECT max(next) FROM cursors WHERE shard = ?", (shard,))[0][0]
        return Floor(given or 0, self._board.written(shard) if self._board is not None else 0)

    def _post(self, shard: int, end: int) -> None:
        if self._board is not None:
            self._board.post(shard, end)

    def _forget(self, topic: Topic) -> None:
        with self._mutex:
            self.topics.pop(topic.name, None)
            self.blocking.discard(topic.name)
            self.unleased.discard(topic.name)
            for shard in topic.shards:
                self._used.pop(shard.id, None)
                shard.close()
            self.on_gone(topic)

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
                self._insert(run, name, options or default_options(name))
                made = True
        self.learn()
        topic = self.find(name)
        if options is not None and topic.options != options:
            raise TopicExists(name, difference(topic.options, options))
        return topic, made

    def _insert(self, run: Execute, name: str, options: TopicOptions) -> None:
        stored = msgspec.json.encode(options).decode()
        run("INSERT INTO topics (name, options, changed) VALUES (?, ?, ?)", (name, stored, _count(run, "changes", 1)))
        topic_id = run("SELECT last_insert_rowid()").fetchall()[0][0]
        self._insert_schema(run, topic_id, options, None)
        self._insert_level(run, topic_id, NORMAL_PRIORITY, options.partitions)
        if self._folder is not None:
            sync_folder(self._folder / "topics")

    def _insert_schema(self, run: Execute, topic_id: int, options: TopicOptions, before: str | None) -> None:
        if options.schema != before:
            version = "SELECT coalesce(max(version), 0) + 1 FROM schemas WHERE topic_id = ?1"
            query = f"INSERT INTO schemas VALUES (?1, ({version}), ?2, ?3)"
            run(query, (topic_id, options.schema, self._stamps.now_ns() / 1e9))

    def schemas(self) -> dict[int, list[SchemaVersion]]:
        """Return the versions of the schemas of all topics that have one."""
        found: dict[int, list[SchemaVersion]] = {}
        for id, *row in self._control.read("SELECT topic_id, version, text, since FROM schemas ORDER BY version"):
            found.setdefault(id, []).append(SchemaVersion(*row))
        return found

    def _insert_level(self, run: Execute, topic_id: int, priority: int, partitions: int) -> None:
        first = _count(run, "shards", partitions) - partitions
        run("INSERT INTO levels VALUES (?, ?, ?)", (topic_id, priority, first))
        if self._folder is not None:
            for partition in range(partitions):
                folder = shard_folder(self._folder, topic_id, partition, priority)
                folder.mkdir(0o700, parents=True, exist_ok=True)
            sync_folder(folder.parent)

    def add_level(self, topic: Topic, priority: int) -> None:
        """Have shards for messages of a priority that this process has not published the topic with. Raises
        `TopicNotFound` when the topic was dropped."""
        with self._control.write(durable=True) as run:
            if not run("SELECT 1 FROM topics WHERE id = ?", (topic.id,)).fetchall():
                raise TopicNotFound(topic.name)
            known = run("SELECT 1 FROM levels WHERE topic_id = ? AND priority = ?", (topic.id, priority)).fetchall()
            if not known:
                self._insert_level(run, topic.id, priority, topic.options.partitions)
                run("UPDATE topics SET changed = ? WHERE id = ?", (_count(run, "changes", 1), topic.id))
        self.learn()

    def alter(self, name: str, options: TopicOptions) -> Topic:
        """Give a topic other options. Raises `TopicNotFound`, and `InvalidOption` for another number of partitions."""
        topic = self.find(name)
        if options.partitions != topic.options.partitions:
            way = f"topic {name!r} has {topic.options.partitions}, for good; create another topic and move the messages"
            raise InvalidOption("partitions", options.partitions, way)
        stored = msgspec.json.encode(options).decode()
        with self._control.write(durable=True) as run:
            query = "UPDATE topics SET options = ?, changed = ? WHERE id = ?"
            run(query, (stored, _count(run, "changes", 1), topic.id))
            self._insert_schema(run, topic.id, options, topic.options.schema)
        self.learn()
        return topic

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
                for table in ("cursors", "pending", "places"):
                    run(f"DELETE FROM {table} WHERE shard = ?", (shard.id,))
                run("DELETE FROM assignments WHERE partition = ?", (shard.id,))
            for table in ("levels", "schemas"):
                run(f"DELETE FROM {table} WHERE topic_id = ?", (topic.id,))
            run("DELETE FROM staged WHERE topic = ?", (name,))
        self._forget(topic)
        if self._folder is not None:
            import shutil  # slow to load, and few programs drop topics

            shutil.rmtree(self._folder / "topics" / str(topic.id), ignore_errors=True)
        return topic

    def close(self) -> None:
        for topic in self.topics.values():
            for shard in topic.shards:
                shard.close()


@functools.lru_cache(maxsize=128)
def _read_options(stored: str) -> TopicOptions:
    """Most topics have the same options; 128 kinds of them are plenty."""
    return msgspec.json.decode(stored, type=TopicOptions)


def shard_folder(bus: Path, topic_id: int, partition: int, priority: int = NORMAL_PRIORITY) -> Path:
    return bus / "topics" / str(topic_id) / f"{partition}-{priority}"


def _keep(names: set[str], name: str, belongs: bool) -> None:
    if belongs:
        names.add(name)
    else:
        names.discard(name)


def _count(run: Execute, name: str, by: int) -> int:
    """Count on a number of the whole bus, as part of a transaction; return it."""
    query = "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value RETURNING value"
    return int(run(query, (name, by)).fetchall()[0][0])


def _limits(options: TopicOptions, segment_bytes: int, keep_bytes: int | None = None) -> LogLimits:
    """Return the limits of a log: a tenth of what is kept makes a segment, so that trimming is that precise."""
    keep_bytes = options.retention_bytes or keep_bytes
    messages = options.retention_messages
    seconds = None if options.retention_period is None else options.period("retention_period")
    return LogLimits(
        segment_bytes=min(segment_bytes, max(4096, keep_bytes // 10)) if keep_bytes else segment_bytes,
        segment_messages=max(1, messages // 10) if messages else None,
        segment_seconds=seconds / 10 if seconds else None,
        keep_bytes=keep_bytes,
        keep_messages=messages,
        keep_seconds=seconds,
    )
