"""What queries read in these tests: topics and messages that are nowhere stored, and a reader that writes down what it
was asked for."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tidings.client.tables.complaints import Source
from tidings.client.tables.database import Content, Parameters, Query
from tidings.client.tables.logs import Scan, log_of
from tidings.client.tables.table import Table
from tidings.model.codec import encode
from tidings.model.message import Message, StoredRecord
from tidings.model.options import TopicOptions
from tidings.spi import PartitionInfo, TopicInfo

NOON = 1_800_000_000.0
"""Seconds since the epoch: 2027-01-15 08:00:00, when offset 0 of each partition was published. Each later one is a
second younger."""


class Fleeting(Message, eq=False, gc=True, weakref=True):
    """A message that a test can see go."""


def message(
    topic: str,
    offset: int,
    data: Any,
    *,
    partition: int = 0,
    priority: int = 5,
    key: str | None = None,
    headers: dict[str, str] | None = None,
    expires: float | None = None,
) -> Message:
    extra = None if expires is None else {"expires": expires}
    record = StoredRecord(f"{topic}-{partition}-{offset}", *encode(data), key, headers, extra)
    return Fleeting(record, topic, partition, offset, NOON + offset, 1, 0, priority)


def topic(name: str, *lengths: int, schema: Any = None, first: int = 0) -> TopicInfo:
    """Return a topic whose partitions hold the offsets `first` to these."""
    partitions = tuple(PartitionInfo(n, first, length, 10 * length) for n, length in enumerate(lengths or (0,)))
    return TopicInfo(name, TopicOptions(partitions=len(partitions), schema=schema), partitions)


class FakePages:
    """Hands out what is left of the messages."""

    def __init__(self, left: Iterable[Message], reader: FakeReader) -> None:
        self._left = iter(left)
        self._reader = reader
        self.closed = False

    def fetch(self, limit: int) -> Sequence[Message]:
        reader = self._reader
        reader.before_fetch()
        page = list(itertools.islice(self._left, limit))
        reader.asked.append(limit)
        reader.fetched += len(page)
        reader.alive.update(page)
        reader.most_alive = max(reader.most_alive, len(reader.alive))
        return page

    def close(self) -> None:
        self.closed = True


class FakeReader:
    """A bus of these messages. Of a scan it gives what a subscription would: as asked for, and whatever comes after.

    `most_alive` is the largest number of messages handed out that somebody had at the same time.
    """

    def __init__(self, messages: Callable[[], Iterable[Message]] = tuple, topics: Sequence[str] = ()) -> None:
        self._messages = messages
        self._topics = topics
        self.scans: list[Scan] = []
        self.pages: list[FakePages] = []
        self.asked: list[int] = []
        self.fetched = 0
        self.alive: weakref.WeakSet[Message] = weakref.WeakSet()
        self.most_alive = 0
        self.before_fetch: Callable[[], object] = lambda: None

    def begin(self, scan: Scan) -> FakePages:
        self.scans.append(scan)
        self.pages.append(FakePages(filter(lambda found: _is_wanted(scan, found), self._messages()), self))
        return self.pages[-1]

    def topics(self) -> Sequence[str]:
        return self._topics


def _is_wanted(scan: Scan, found: Message) -> bool:
    if isinstance(scan.start, float) and found.published_at < scan.start:
        return False
    if isinstance(scan.start, int) and found.offset < scan.start:
        return False
    return (scan.partitions is None or found.partition in scan.partitions) and scan.key in (None, found.key)


def content(*topics: TopicInfo, **snapshots: Any) -> Content:
    """Return what a query reads: each topic as a table of its name."""
    return Content({info.name: log_of(info.name, [info]) for info in topics}, snapshots)


def ask(
    text: str, reads: Content | None = None, reader: FakeReader | None = None, parameters: Parameters = ()
) -> Table:
    """Run a SELECT and see that everything was closed."""
    reader = reader or FakeReader()
    try:
        return Query(Source(text, text), parameters, reads or Content()).run(reader)
    finally:
        assert all(pages.closed for pages in reader.pages)
