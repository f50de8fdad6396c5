"""The log of a topic as a table that is read while SQLite walks through it, a page of messages at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import apsw
from msgspec import Struct

from tidings.client.tables.columns import Column, data_of, declaration, json_of
from tidings.client.tables.times import COLLATION, seconds_of, text_of
from tidings.model.message import Message
from tidings.model.options import MAX_OFFSET, Start
from tidings.spi import TopicInfo

PAGE_MESSAGES = 1000
"""Most messages that a scan holds: enough that fetching them does not count."""

PAGE_BYTES = 4 * 1024 * 1024
"""Their data, about: the next page is as long as the one before says."""

FIRST_PAGE_MESSAGES = 16
"""The first page, whose messages may be of the largest kind. `LIMIT 10` reads no more."""

MAX_SCANNED_MESSAGES = 1_000_000
"""Messages that one query reads, from all its tables and however often: some seconds, and an end to joins that read a
log once for each row of another."""

TABLE_COLUMNS = 1000
"""Columns of schemas in one table: what one schema can have at most."""

CLOCK_SLACK = 1e-5
"""Seconds. A text has microseconds and a float about as many: reading begins so much earlier than asked for, and
SQLite compares again."""


class Scan(Struct, frozen=True):
    """What is to be read: the logs of a topic or of those that match, from `start` on, only these partitions (None:
    all), only this key."""

    pattern: str
    start: Start
    partitions: tuple[int, ...] | None
    key: str | None


class Pages(Protocol):
    """A scan under way."""

    def fetch(self, limit: int) -> Sequence[Message]:
        """Return up to `limit` messages, none at the end; those of a partition in the order of their publishing."""

    def close(self) -> None: ...


class Budget:
    """How many messages a query may still read."""

    def __init__(self, left: int = MAX_SCANNED_MESSAGES) -> None:
        self.left = left
        self.spent = False
        self.again = False
        self._begun: set[str] = set()

    def begin(self, log: str) -> None:
        """Note that a log is read from its beginning; `again` tells whether one was read twice, as joins do."""
        self.again = self.again or log in self._begun
        self._begun.add(log)

    def take(self, wanted: int) -> int:
        """Return how many to read now; `wanted` at most."""
        self.spent = self.spent or self.left <= 0
        return min(wanted, self.left)


class Log(Struct, frozen=True):
    """What a table reads: the topics of its name or pattern, as they stood when the query began, and the columns."""

    pattern: str
    topics: tuple[TopicInfo, ...]
    columns: tuple[Column, ...]

    @property
    def messages(self) -> int:
        return sum(topic.messages for topic in self.topics)


def log_of(pattern: str, topics: Sequence[TopicInfo]) -> Log:
    """Return the table of a topic, or of the topics that match."""
    columns = {column.name.lower(): column for column in LOG_COLUMNS}
    for topic in topics:
        for column in _schema_columns(topic):
            if len(columns) < len(LOG_COLUMNS) + TABLE_COLUMNS:
                columns.setdefault(column.name.lower(), column)
    return Log(pattern, tuple(topics), tuple(columns.values()))


def _schema_columns(topic: TopicInfo) -> Iterable[Column]:
    if topic.options.schema is None:
        return
    from tidings.model.schema import parse_schema  # slow to load, and most topics have none

    for column in parse_schema(topic.options.schema).columns:
        kind = _KIND_OF_TYPE.get(column.type, "ANY")
        yield Column(column.name, kind, _field(column.name), f"The field of the data, {column.type}.")


_KIND_OF_TYPE = {"STRING": "TEXT", "INT": "INTEGER", "FLOAT": "REAL", "BOOL": "INTEGER", "TIMESTAMP": "TIME"}
_KIND_OF_TYPE |= dict.fromkeys(("DATE", "UUID", "BYTES"), "TEXT")


def _field(name: str) -> Callable[[Message], Any]:
    """Return what gets a field of the data as SQLite can hold it."""

    def value(message: Message) -> Any:
        data = message.data
        found = data.get(name) if isinstance(data, dict) else None
        if isinstance(found, int) and not -(2**63) <= found < 2**63:
            return str(found)  # SQLite has no larger ones, and calculates with this as a float
        return json_of(found) if isinstance(found, (dict, list)) else found

    return value


LOG_COLUMNS = (
    Column("_topic", "TEXT", lambda message: message.topic, "The topic."),
    Column("_id", "TEXT", lambda message: message.id, "The id of the message."),
    Column("_key", "TEXT", lambda message: message.key, "Its partition key."),
    Column("_priority", "INTEGER", lambda message: message.priority, "Its priority, 0 to 9."),
    Column("_published_at", "TIME", lambda message: text_of(message.published_at), "When it was published."),
    Column("_expires_at", "TIME", lambda message: text_of(message.expires_at), "When it expires; NULL: never."),
    Column("_partition", "INTEGER", lambda message: message.partition, "Its partition."),
    Column("_offset", "INTEGER", lambda message: message.offset, "Its place there, from 0."),
    Column("_content_type", "TEXT", lambda message: message.content_type, "What its data is."),
    Column("headers", "JSON", lambda message: json_of(message.headers), "Its headers, as a JSON object."),
    Column("data", "JSON", data_of, "Its data, as JSON; NULL for bytes."),
    Column("_bytes", "BLOB", lambda message: message.record.data, "Its data as it is stored.", hidden=True),
)
"""What every topic has. The columns of its schema follow; where such a one has the same name, this one stays."""

_OPERATORS = {
    apsw.SQLITE_INDEX_CONSTRAINT_EQ: "=",
    apsw.SQLITE_INDEX_CONSTRAINT_GT: ">",
    apsw.SQLITE_INDEX_CONSTRAINT_GE: ">=",
    apsw.SQLITE_INDEX_CONSTRAINT_LT: "<",
    apsw.SQLITE_INDEX_CONSTRAINT_LE: "<=",
}


class Bounds:
    """Which part of a log can have what is asked for. SQLite looks at each row again, so it may be more."""

    def __init__(self) -> None:
        self.since = -math.inf
        self.first = 0
        self.partition: int | None = None
        self.key: str | None = None
        self.nothing = False

    def narrow(self, test: str, value: Any) -> None:
        """Take a condition into account, such as "_offset >" with its value."""
        self.nothing = self.nothing or value is None  # comparing with NULL lets nothing through
        kind, narrow = _NARROWING[test]
        if isinstance(value, kind):
            narrow(self, value)

    def _since(self, time: str) -> None:
        seconds = seconds_of(time)
        if seconds is not None:
            self.since = max(self.since, seconds - CLOCK_SLACK)

    def _from(self, offset: int) -> None:
        self.first = max(self.first, offset)

    def _after(self, offset: int) -> None:
        self._from(offset + 1)

    def _in(self, partition: int) -> None:
        self.nothing = self.nothing or self.partition not in (None, partition)
        self.partition = partition

    def _of(self, key: str) -> None:
        self.nothing = self.nothing or self.key not in (None, key)
        self.key = key

    def scan(self, log: Log) -> tuple[Scan, dict[tuple[str, int], int]] | None:
        """Return what to read, and up to which offset in each partition; None when there is nothing."""
        ends = {
            (topic.name, each.partition): each.next_offset
            for topic in log.topics
            for each in topic.partitions
            if self.partition in (None, each.partition)
            and (each.next_offset > max(self.first, each.first_offset) or each.next_offset < 0)  # -1: it is not known
        }
        if self.nothing or not ends:
            return None
        start: Start = "beginning"
        if self.since > 0:
            start = self.since
        if self.first > 0:
            start = min(self.first, MAX_OFFSET)
        partitions = None if self.partition is None else (self.partition,)
        return Scan(log.pattern, start, partitions, self.key), ends


_NARROWING: dict[str, tuple[type, Callable[[Bounds, Any], None]]] = {
    "_published_at =": (str, Bounds._since),
    "_published_at >": (str, Bounds._since),
    "_published_at >=": (str, Bounds._since),
    "_offset =": (int, Bounds._from),
    "_offset >": (int, Bounds._after),
    "_offset >=": (int, Bounds._from),
    "_partition =": (int, Bounds._in),
    "_key =": (str, Bounds._of),
}
"""The conditions that narrow what is read. An upper bound of the offsets does not: a partition has a log for each
priority, and nothing says whether another one has such an offset further on."""

_COLLATIONS = {"_published_at": COLLATION, "_key": "BINARY"}


class LogModule:
    """Gives SQLite its tables of logs. `logs` by the name of the table; `begin` begins to read."""

    def __init__(self, logs: Mapping[str, Log], begin: Callable[[Scan], Pages], budget: Budget) -> None:
        self._logs = logs
        self._begin = begin
        self._budget = budget

    def Create(  # noqa: N802  # the names of these methods are SQLite's
        self, connection: apsw.Connection, modulename: str, databasename: str, tablename: str, *args: Any
    ) -> tuple[str, LogTable]:
        log = self._logs[tablename]
        return declaration("log", log.columns), LogTable(log, self._begin, self._budget)

    Connect = Create


class LogTable:
    """One table."""

    def __init__(self, log: Log, begin: Callable[[Scan], Pages], budget: Budget) -> None:
        self._log = log
        self._begin = begin
        self._budget = budget

    def BestIndexObject(self, plan: apsw.IndexInfo) -> bool:  # noqa: N802
        """Say which of the conditions `Filter` shall be told the values of."""
        tests: list[str] = []
        for n in range(plan.nConstraint):
            test = self._test(plan, n)
            if test in _NARROWING:
                tests.append(test)
                plan.set_aConstraintUsage_argvIndex(n, len(tests))
        plan.idxStr = ",".join(tests)
        plan.estimatedRows = 1 + self._log.messages // 2 ** len(tests)
        plan.estimatedCost = float(plan.estimatedRows)
        return True

    def _test(self, plan: apsw.IndexInfo, n: int) -> str:
        """Return the condition as a name of `_NARROWING`; another text when it is none that can be used."""
        operator, column = _OPERATORS.get(plan.get_aConstraint_op(n)), plan.get_aConstraint_iColumn(n)
        if operator is None or column < 0 or not plan.get_aConstraint_usable(n):
            return ""
        name = self._log.columns[column].name
        collation = _COLLATIONS.get(name)
        return f"{name} {operator}" if collation in (None, plan.get_aConstraint_collation(n)) else ""

    def Open(self) -> LogCursor:  # noqa: N802
        return LogCursor(self._log, self._begin, self._budget)

    def Disconnect(self) -> None:  # noqa: N802
        """There is nothing to let go of."""

    Destroy = Disconnect


class LogCursor:
    """A walk through a table."""

    def __init__(self, log: Log, begin: Callable[[Scan], Pages], budget: Budget) -> None:
        self._log = log
        self._begin = begin
        self._budget = budget
        self._messages: Generator[Message, None, None] | None = None
        self._message: Message | None = None
        self._number = 0

    def Filter(self, number: int, tests: str, values: Sequence[Any] | None) -> None:  # noqa: N802
        """Begin again, where the conditions say."""
        self.Close()
        bounds = Bounds()
        for test, value in zip(tests.split(","), values or ()):
            bounds.narrow(test, value)
        found = bounds.scan(self._log)
        if found is not None:
            self._budget.begin(self._log.pattern)
            self._messages = self._read(*found)
            self.Next()

    def _read(self, scan: Scan, ends: dict[tuple[str, int], int]) -> Generator[Message, None, None]:
        pages = self._begin(scan)
        limit = FIRST_PAGE_MESSAGES
        try:
            while ends and (allowed := self._budget.take(limit)):
                count, size = yield from self._page(pages.fetch(allowed), ends)
                if not count:
                    break
                limit = max(1, min(PAGE_MESSAGES, 4 * limit, PAGE_BYTES * count // max(1, size)))
        finally:
            pages.close()

    def _page(
        self, page: Sequence[Message], ends: dict[tuple[str, int], int]
    ) -> Generator[Message, None, tuple[int, int]]:
        """Yield what was there when the query began, and forget the partitions that are read; return the messages and
        bytes of the page."""
        self._budget.left -= len(page)
        for message in page:
            place = message.topic, message.partition
            end = ends.get(place, 0)
            if message.offset < end:
                yield message
            if message.offset + 1 >= end:
                ends.pop(place, None)
        return len(page), sum(len(message.record.data) for message in page)

    def Next(self) -> None:  # noqa: N802
        self._message = next(self._messages, None) if self._messages is not None else None
        self._number += 1

    def Eof(self) -> bool:  # noqa: N802
        return self._message is None

    def Rowid(self) -> int:  # noqa: N802
        return self._number

    def Column(self, number: int) -> Any:  # noqa: N802
        return self._log.columns[number].value(self._message) if number >= 0 else self._number

    def Close(self) -> None:  # noqa: N802
        if self._messages is not None:
            self._messages.close()
        self._messages = self._message = None
