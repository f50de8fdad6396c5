"""A query: an SQLite in memory that is filled with what the query reads, answers it within bounds, and is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import apsw
from msgspec import Struct

from tidings.client.tables.columns import declaration, quoted
from tidings.client.tables.complaints import Scope, Source, complaint
from tidings.client.tables.lockdown import Warden, lock
from tidings.client.tables.logs import MAX_SCANNED_MESSAGES, TABLE_COLUMNS, Budget, Log, LogModule, Pages, Scan
from tidings.client.tables.snapshots import SCHEMA, SYSTEM_TABLES
from tidings.client.tables.table import Table
from tidings.client.tables.times import COLLATION, compare, text_of
from tidings.errors import InvalidOption, QueryTooLarge

QUERY_SECONDS = 60.0
"""How long one query may take: all messages that it may read pass by in a fraction of that."""

QUERY_BYTES = 256 * 1024 * 1024
"""How much SQLite's memory may grow meanwhile, in the whole process: sorting and grouping happen there. Queries that
run at once share it. It is looked at between rows."""

MAX_RESULT_ROWS = 100_000
"""Rows that a table keeps: more is no answer, but an export, for which there are subscriptions."""

RESULT_BYTES = 64 * 1024 * 1024
"""Bytes of texts and blobs that a table keeps, for the same reason: messages may have megabytes."""

LOOK_EVERY = 1000
"""Steps of SQLite, a few microseconds, between two looks at the time and the memory."""

Parameters = Sequence[Any] | Mapping[str, Any]
"""The values of `?` in their order, or those of `:name` by name."""


class Reader(Protocol):
    """What a query reads from, called in its thread."""

    def begin(self, scan: Scan) -> Pages:
        """Begin to read messages."""

    def topics(self) -> Sequence[str]:
        """Return the names of all topics."""


class Stopped(Exception):  # never seen by anybody
    """Ends a query whose caller has gone."""


class Content(Struct, frozen=True):
    """What a query reads: logs and the rows of SYSTEM tables, by their names in it."""

    logs: Mapping[str, Log] = {}
    snapshots: Mapping[str, Sequence[tuple[Any, ...]]] = {}
    notes: tuple[str, ...] = ()


class Query:
    """One SELECT. It is run once, in a thread; `stop` is safe from any."""

    def __init__(self, source: Source, parameters: Parameters, content: Content) -> None:
        self._source = source
        self._parameters = check_parameters(parameters)
        self._content = content
        self._budget = Budget(MAX_SCANNED_MESSAGES)
        self._stopped = False

    def stop(self) -> None:
        """Let `run` end soon, with an error that nobody is told of."""
        self._stopped = True

    def run(self, reader: Reader) -> Table:
        """Return the answer. Raises `InvalidStatement`, `QueryTooLarge`, `InvalidOption` for the parameters, and what
        the reader raises."""
        content = self._content
        warden = Warden({("main", name) for name in content.logs} | {(SCHEMA, name) for name in content.snapshots})
        connection = apsw.Connection(":memory:")
        try:
            look = self._watch()
            connection.set_progress_handler(look, LOOK_EVERY)
            self._fill(connection, reader.begin)
            lock(connection, warden, max((len(log.columns) for log in content.logs.values()), default=0))
            table = self._answer(connection.cursor())
            look()  # a fetch that took too long ends as if there were no more
            return table
        except apsw.BindingsError as error:
            raise InvalidOption("parameters", self._parameters, str(error)) from None
        except UnicodeDecodeError:
            raise self._source.refuse("a text of the result is no UTF-8; select hex() of it, or a BLOB") from None
        except apsw.Error as error:
            raise complaint(error, self._source, warden, self._scope(reader)) from error
        finally:
            connection.close(True)

    def _fill(self, connection: apsw.Connection, begin: Callable[[Scan], Pages]) -> None:
        content = self._content
        connection.create_collation(COLLATION, compare)
        connection.execute(f"ATTACH ':memory:' AS {SCHEMA}")
        for name, rows in content.snapshots.items():
            columns = SYSTEM_TABLES[name].columns
            connection.execute(declaration(f"{SCHEMA}.{name}", columns))
            places = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {SCHEMA}.{name} VALUES ({places})", rows)
        module: Any = LogModule(content.logs, begin, self._budget)  # its type asks for methods that SQLite does not
        connection.create_module("log", module, use_bestindex_object=True, iVersion=3, read_only=True)
        for name in content.logs:
            connection.execute(f"CREATE VIRTUAL TABLE main.{quoted(name)} USING log")

    def _answer(self, cursor: apsw.Cursor) -> Table:
        columns: list[str] = []

        def describe(cursor: apsw.Cursor, text: str, bindings: object) -> bool:
            columns.extend(name for name, *_ in cursor.get_description())
            return True

        cursor.exec_trace = describe  # where there are no rows, only this is told what columns they would have
        rows, note = _kept(cursor.execute(self._source.text, self._parameters))
        notes = [*self._content.notes, *note]
        if self._budget.spent and self._budget.again:
            raise QueryTooLarge(
                f"{MAX_SCANNED_MESSAGES:,} messages, as a join reads a topic again for each row of the other",
                "put WITH name AS MATERIALIZED (SELECT ... FROM topic), for each topic, before it and join these",
            )
        if self._budget.spent:
            notes.append(f"only the first {MAX_SCANNED_MESSAGES:,} messages were read; narrow it with _published_at")
        return Table(tuple(columns), rows, tuple(notes))

    def _watch(self) -> Callable[[], bool]:
        """Return what SQLite asks again and again whether to go on."""
        deadline, memory = time.monotonic() + QUERY_SECONDS, apsw.memory_used() + QUERY_BYTES

        def look() -> bool:
            if self._stopped:
                raise Stopped
            if time.monotonic() > deadline:
                raise QueryTooLarge(f"{QUERY_SECONDS:g} seconds", "narrow it with WHERE, best by _published_at")
            if apsw.memory_used() > memory:
                raise QueryTooLarge(f"{QUERY_BYTES} bytes of memory", "narrow it with WHERE, or sort and group less")
            return False

        return look

    def _scope(self, reader: Reader) -> Scope:
        content = self._content
        columns = [column.name for log in content.logs.values() for column in log.columns]
        columns += [name for table in content.snapshots for name in SYSTEM_TABLES[table].names]
        return Scope(tuple(content.logs), tuple(dict.fromkeys(columns)), SYSTEM_TABLES, reader.topics)


def check_syntax(source: Source) -> None:
    """Raise `InvalidStatement` when the text is no SELECT, as far as that can be said without its tables."""
    warden = Warden(())
    connection = apsw.Connection(":memory:")
    try:
        lock(connection, warden, TABLE_COLUMNS)
        cursor = connection.cursor()
        cursor.exec_trace = lambda *_: False
        cursor.execute(source.text)
    except (apsw.ExecTraceAbort, apsw.BindingsError):
        return  # SQLite has read it to its end
    except apsw.Error as error:
        if not str(error).startswith("no such table"):
            raise complaint(error, source, warden, Scope((), (), SYSTEM_TABLES, tuple)) from error
    finally:
        connection.close(True)


def _kept(found: Iterable[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Return the rows that a table has room for, and a note when there are more."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    for row in found:
        size += sum(len(cell) for cell in row if isinstance(cell, (str, bytes)))
        if len(rows) == MAX_RESULT_ROWS or (size > RESULT_BYTES and rows):
            return rows, [f"only the first {len(rows):,} rows are here; narrow it with WHERE, or aggregate"]
        rows.append(row)
    return rows, []


class Named(dict[str, Any]):
    """Parameters by name."""

    def __missing__(self, name: str) -> Any:
        raise InvalidOption("parameters", dict(self), f"give a value for :{name}")


def check_parameters(parameters: Parameters) -> Parameters:
    """Return the parameters as SQLite takes them, times as text. Raises `InvalidOption`."""
    if isinstance(parameters, Mapping):
        return Named({name: _value(value) for name, value in parameters.items()})
    if isinstance(parameters, (str, bytes)) or not isinstance(parameters, Sequence):
        raise InvalidOption("parameters", parameters, "give a list of the values of ?, or a dict of those of :name")
    return [_value(value) for value in parameters]


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return text_of(value.timestamp())
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidOption("parameters", value, "there is half of a character in it; leave it out")
    fits = not isinstance(value, int) or -(2**63) <= value < 2**63
    if value is None or (fits and isinstance(value, (int, float, str, bytes))):
        return value
    raise InvalidOption("parameters", value, "give None, a bool, text, bytes, a datetime, or a number of 64 bits")
