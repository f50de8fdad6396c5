"""Logs as tables: what is in the rows, how much is read for them, and how much of it is held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.tables.reading import NOON, FakeReader, ask, content, message, topic
from tidings import QueryTooLarge
from tidings.client.tables import database, logs
from tidings.client.tables.database import Content
from tidings.client.tables.logs import LOG_COLUMNS, PAGE_BYTES, PAGE_MESSAGES, log_of
from tidings.model.message import Message


def test_the_columns_of_a_message() -> None:
    sent = message("t", 3, {"a": 1}, key="k", priority=8, headers={"x": "y"}, expires=NOON + 60)
    table = ask("SELECT *, _bytes FROM t", content(topic("t", 4)), FakeReader(lambda: [sent]))
    assert table.dicts() == [
        {
            "_topic": "t",
            "_id": "t-0-3",
            "_key": "k",
            "_priority": 8,
            "_published_at": "2027-01-15 08:00:03.000000",
            "_expires_at": "2027-01-15 08:01:00.000000",
            "_partition": 0,
            "_offset": 3,
            "_content_type": "application/json",
            "headers": '{"x":"y"}',
            "data": '{"a":1}',
            "_bytes": b'{"a":1}',
        }
    ]


def test_every_column_is_explained() -> None:
    assert all(column.doc.endswith(".") for column in LOG_COLUMNS)


SCHEMA = [
    "order_id STRING NOT NULL",
    "total FLOAT",
    "many INT",
    "paid BOOL",
    "at TIMESTAMP",
    "tags LIST<STRING>",
    "details MAP<STRING, ANY>",
    "data STRING",
    "_ID STRING",
    "Total STRING",
]


def test_the_columns_of_a_schema() -> None:
    data = {
        "order_id": "7",
        "total": 1.5,
        "many": 2**70,
        "paid": True,
        "at": "2027-01-15T10:00:00+02:00",
        "tags": ["a", "é"],
        "details": {"x": None},
        "data": "hidden by the column of that name",
        "_ID": "hidden too",
    }
    reads = content(topic("t", 2, schema=SCHEMA))
    reader = FakeReader(lambda: [message("t", 0, data), message("t", 1, "no object")])
    first, second = ask("SELECT * FROM t", reads, reader).dicts()
    assert {name: first[name] for name in ("order_id", "total", "many", "paid", "at", "tags", "details")} == {
        "order_id": "7",
        "total": 1.5,
        "many": str(2**70),
        "paid": 1,
        "at": "2027-01-15T10:00:00+02:00",
        "tags": '["a","é"]',
        "details": '{"x":null}',
    }
    assert (first["_id"], first["data"].startswith("{")) == ("t-0-0", True)
    assert second["order_id"] is None
    assert ask("SELECT 1 FROM t WHERE at = '2027-01-15 08:00:00'", reads, reader).rows == [(1,)]
    assert ask("SELECT 1 FROM t WHERE order_id = 7 AND many > 1e20", reads, reader).rows == [(1,)]


def test_the_columns_of_several_topics() -> None:
    one, other = topic("a/1", 1, schema=["x INT"]), topic("a/2", 1, schema=["x STRING", "y INT"])
    messages = [message("a/1", 0, {"x": 1}), message("a/2", 0, {"x": "s", "y": 2})]
    reads = Content({"a/*": log_of("a/*", [one, other])})
    assert ask('SELECT _topic, x, y FROM "a/*"', reads, FakeReader(lambda: messages)).rows == [
        ("a/1", 1, None),
        ("a/2", "s", 2),
    ]


def test_a_pattern_that_nothing_matches_has_no_rows() -> None:
    reader = FakeReader()
    assert ask('SELECT * FROM "a/*"', Content({"a/*": log_of("a/*", [])}), reader).rows == []
    assert reader.scans == []


# -- what is read

LENGTHS = (100, 50, 0)


STORED = [
    message("t", offset, offset, partition=partition, key=f"k{offset % 10}")
    for partition, length in enumerate(LENGTHS)
    for offset in range(length)
]


def stored() -> list[Message]:
    return STORED


def read(where: str, *parameters: object) -> tuple[list[tuple[int, int]], int, int]:
    """Return the places of the rows, and how many scans and messages it took."""
    reader = FakeReader(stored)
    table = ask(f"SELECT _partition, _offset FROM t WHERE {where}", content(topic("t", *LENGTHS)), reader, parameters)
    return table.rows, len(reader.scans), reader.fetched


def every(*wanted: tuple[int, range]) -> list[tuple[int, int]]:
    return [(partition, offset) for partition, offsets in wanted for offset in offsets]


@pytest.mark.parametrize(
    ("where", "places", "scans", "fetched"),
    [
        ("1", every((0, range(100)), (1, range(50))), 1, 150),
        ("_partition = 1", every((1, range(50))), 1, 50),
        ("_partition IN (1, 0)", every((0, range(100)), (1, range(50))), 2, 150),
        ("_partition = 1 AND _partition = 0", [], 0, 0),
        ("_partition = 2", [], 0, 0),
        ("_partition = 7", [], 0, 0),
        ("_partition = NULL", [], 0, 0),
        ("_partition = '1'", every((1, range(50))), 1, 150),
        ("_partition = 1.0", every((1, range(50))), 1, 150),
        ("_offset = 49", [(0, 49), (1, 49)], 1, 52),
        ("_offset > 97", every((0, range(98, 100))), 1, 2),
        ("_offset >= 98", every((0, range(98, 100))), 1, 2),
        ("98 <= _offset", every((0, range(98, 100))), 1, 2),
        ("_offset >= 98 AND _offset >= 99", [(0, 99)], 1, 1),
        ("_offset >= 100", [], 0, 0),
        ("_offset > 9e18", [], 1, 150),
        ("_offset >= -5 AND _partition = 1", every((1, range(50))), 1, 50),
        ("_offset < 3 AND _partition = 1", every((1, range(3))), 1, 50),
        ("_key = 'k9' AND _partition = 1", every((1, range(9, 50, 10))), 1, 5),
        ("_key = 'K9' COLLATE NOCASE AND _partition = 1", every((1, range(9, 50, 10))), 1, 50),
        ("_key = 'k1' AND _key = 'k2'", [], 0, 0),
        ("_key IN ('k8', 'k9') AND _partition = 1", every((1, range(8, 50, 10)), (1, range(9, 50, 10))), 2, 10),
        ("_published_at >= '2027-01-15 08:01:38'", every((0, range(98, 100))), 1, 2),
        ("_published_at > '2027-01-15T10:01:38+02:00'", [(0, 99)], 1, 2),
        ("_published_at = '2027-01-15T08:00:49Z'", [(0, 49), (1, 49)], 1, 52),
        ("_published_at > 'yesterday'", [], 1, 150),
        ("_published_at > '2027-01-15 08:01:38' COLLATE BINARY", every((0, range(98, 100))), 1, 150),
        ("_published_at > '2027-01-15 08:01:30' AND _offset > 97", every((0, range(98, 100))), 1, 2),
        ("_published_at BETWEEN '2027-01-15 08:01:30' AND '2027-01-15 08:01:31'", every((0, range(90, 92))), 1, 10),
        ("_offset = 3 OR _partition = 1", [*every((0, range(3, 4))), *every((1, range(50)))], None, None),
    ],
)
def test_what_is_asked_for_is_read(
    where: str, places: list[tuple[int, int]], scans: int | None, fetched: int | None
) -> None:
    found = read(where)
    assert sorted(found[0]) == sorted(places)
    assert scans is None or found[1:] == (scans, fetched)


def test_parameters_narrow_too() -> None:
    assert read("_offset >= ? AND _partition = ?", 48, 1) == ([(1, 48), (1, 49)], 1, 2)


def test_what_is_read_again_for_each_row() -> None:
    """SQLite takes the condition of a join to the inner table; every row comes out right."""
    reader = FakeReader(stored)
    text = "SELECT a._offset, count(*) FROM t a JOIN t b ON a._offset = b._offset AND a._partition = 1 GROUP BY 1"
    rows = ask(text, content(topic("t", *LENGTHS)), reader).rows
    assert rows == [(offset, 2) for offset in range(50)]


def test_only_what_is_looked_at_is_read() -> None:
    reader = FakeReader(lambda: (message("t", n, n) for n in range(10**6)))
    assert len(ask("SELECT * FROM t LIMIT 10", content(topic("t", 10**6)), reader)) == 10
    assert reader.fetched == logs.FIRST_PAGE_MESSAGES


# -- how much is held


def test_no_more_than_a_page_is_held() -> None:
    reader = FakeReader(lambda: (message("t", n, n) for n in range(20_000)))
    assert ask("SELECT count(*), sum(data) FROM t", content(topic("t", 20_000)), reader).rows == [(20_000, 199990000)]
    assert max(reader.asked) == PAGE_MESSAGES
    assert reader.most_alive <= PAGE_MESSAGES + 1


def test_pages_of_large_messages_are_short() -> None:
    data = "x" * 1_000_000
    reader = FakeReader(lambda: (message("t", n, data) for n in range(40)))
    assert ask("SELECT sum(length(data)) FROM t", content(topic("t", 40)), reader).rows == [(40 * 1_000_002,)]
    assert reader.asked[0] == logs.FIRST_PAGE_MESSAGES
    assert set(reader.asked[1:]) == {PAGE_BYTES // 1_000_000}


def test_an_end_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MAX_SCANNED_MESSAGES", 120)
    reads = content(topic("t", *LENGTHS))
    reader = FakeReader(stored)
    table = ask("SELECT count(*) FROM t", reads, reader)
    assert (table.rows, reader.fetched) == ([(120,)], 120)
    assert table.notes == ("only the first 120 messages were read; narrow it with _published_at",)
    joined = FakeReader(stored)
    with pytest.raises(QueryTooLarge, match=r"as a join reads a topic again.* WITH name AS MATERIALIZED"):
        ask("SELECT count(*) FROM t a, t b", reads, joined)  # a part of a join is no part of its answer
    assert joined.fetched == 120
    monkeypatch.setattr(database, "MAX_SCANNED_MESSAGES", 150)
    assert ask("SELECT count(*) FROM t", reads, FakeReader(stored)).notes == ()


# -- where it ends


def test_what_is_published_meanwhile_is_not_read() -> None:
    """A topic to which somebody publishes all the time has an end, too."""

    def busy() -> Iterator[Message]:
        for n in range(10**6):
            yield message("t", n, n, partition=0)
            yield message("t", n, n, partition=1)

    reader = FakeReader(busy)
    rows = ask("SELECT _partition, count(*) FROM t GROUP BY 1", content(topic("t", 100, 300)), reader).rows
    assert rows == [(0, 100), (1, 300)]
    assert reader.fetched < 2 * PAGE_MESSAGES


def test_other_topics_that_match_by_now_are_not_read() -> None:
    messages = [message("a/2", 0, 0), message("a/1", 0, 1)]
    reads = Content({"a/*": log_of("a/*", [topic("a/1", 1)])})
    assert ask('SELECT _topic FROM "a/*"', reads, FakeReader(lambda: messages)).rows == [("a/1",)]


def test_logs_of_several_priorities() -> None:
    """Their offsets overlap, and the end of a partition is the sum of theirs: the reader says when there is no more."""
    messages = [message("t", n // 2, n, priority=(1, 8)[n % 2]) for n in range(200)]
    reader = FakeReader(lambda: messages)
    assert ask("SELECT count(*), max(_offset) FROM t", content(topic("t", 200)), reader).rows == [(200, 99)]
    assert len(ask("SELECT 1 FROM t WHERE _offset = 3", content(topic("t", 200)), FakeReader(lambda: messages))) == 2


def test_an_error_of_the_bus_comes_through() -> None:
    reader = FakeReader(stored)
    reader.before_fetch = lambda: (_ for _ in ()).throw(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        ask("SELECT * FROM t", content(topic("t", *LENGTHS)), reader)


OPERATORS = st.sampled_from(["=", "<", "<=", ">", ">=", "<>"])
TIMES = st.sampled_from(["2027-01-15 08:00:30", "2027-01-15T08:00:49Z", "2027-01-15T10:01:10.5+02:00", "1999-01-01"])
CONDITIONS = st.one_of(
    st.tuples(st.just("_offset"), OPERATORS, st.integers(-5, 120) | st.just(2**63 - 1)),
    st.tuples(st.just("_partition"), OPERATORS, st.integers(-1, 3)),
    st.tuples(st.just("_key"), OPERATORS | st.just("IS"), st.sampled_from(["k1", "k9", "", None])),
    st.tuples(st.just("_published_at"), OPERATORS, TIMES | st.sampled_from(["yesterday", None])),
)


@settings(deadline=None)
@given(st.lists(CONDITIONS, min_size=1, max_size=4), st.sampled_from([" AND ", " OR "]))
def test_reading_less_changes_no_answer(conditions: list[tuple[str, str, Any]], glue: str) -> None:
    """A `+` before a column keeps its condition from being used to narrow what is read."""
    values = [value for _, _, value in conditions]
    narrowed, whole = (
        read(glue.join(f"{sign}{column} {operator} ?" for column, operator, _ in conditions), *values)
        for sign in ("", "+")
    )
    assert sorted(narrowed[0]) == sorted(whole[0])
    assert whole[2] == 150


def test_a_page_that_came_too_late_is_not_taken_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that looked through too much gives up with nothing, as at the end: the query has no answer then."""

    def never() -> Iterator[Message]:
        monkeypatch.setattr(database, "time", Clock())  # a minute passes in the first fetch
        yield from ()

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return 1e12

    with pytest.raises(QueryTooLarge, match="60 seconds"):
        ask("SELECT count(*) FROM t", content(topic("t", 3)), FakeReader(never))
