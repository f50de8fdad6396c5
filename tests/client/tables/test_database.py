"""A query as a whole: answers, parameters, and the bounds of time, memory and rows."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from itertools import count
from typing import Any

import apsw
import pytest

from tests.client.tables.reading import FakeReader, ask, content, message, topic
from tidings.client.tables import database
from tidings.client.tables.complaints import Source
from tidings.client.tables.database import Content, Query, Stopped
from tidings.errors import InvalidOption, QueryTooLarge

ORDERS = [{"status": ("new", "paid")[n % 2], "total": n} for n in range(100)]
READS = content(topic("orders", 100))
COUNTING = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


def run(text: str, *parameters: Any, **named: Any) -> list[tuple[Any, ...]]:
    reader = FakeReader(lambda: [message("orders", n, data) for n, data in enumerate(ORDERS)])
    return ask(text, READS, reader, named or parameters).rows


def test_aggregates() -> None:
    text = "SELECT data->>'status', count(*), sum(data->>'total') FROM orders GROUP BY 1 ORDER BY 1"
    assert run(text) == [("new", 50, 2450), ("paid", 50, 2500)]


def test_columns_are_known_without_rows() -> None:
    table = ask("SELECT _id, data->>'x' AS x FROM orders WHERE 0", READS)
    assert (table.columns, table.rows) == (("_id", "x"), [])


def test_notes_of_what_was_not_gathered_are_kept() -> None:
    assert ask("SELECT 1", Content(notes=("not all",))).notes == ("not all",)


# -- parameters


def test_parameters_by_place_and_by_name() -> None:
    assert run("SELECT count(*) FROM orders WHERE data->>'total' >= ? AND data->>'status' = ?", 90, "new") == [(5,)]
    assert run("SELECT count(*) FROM orders WHERE data->>'total' >= :least", least=90) == [(10,)]
    assert run("SELECT ?, ?, ?, ?, ?", None, True, 1.5, b"\xff", "é") == [(None, 1, 1.5, b"\xff", "é")]


def test_a_parameter_is_never_read_as_sql() -> None:
    assert run("SELECT ?", "1); DROP TABLE orders; --") == [("1); DROP TABLE orders; --",)]


def test_a_time_as_parameter() -> None:
    moment = datetime(2027, 1, 15, 8, 1, 30, tzinfo=UTC)
    assert run("SELECT count(*) FROM orders WHERE _published_at >= ?", moment) == [(10,)]


@pytest.mark.parametrize(
    ("text", "parameters", "reason"),
    [
        ("SELECT ?", (), "1"),
        ("SELECT ?, ?", (1,), "2"),
        ("SELECT ?", (1, 2), "2"),
        ("SELECT :a, :b", {"a": 1}, "give a value for :b"),
        ("SELECT ?", {"a": 1}, "name"),
        ("SELECT ?", ([1],), "give None, a bool, text"),
        ("SELECT ?", ({"a": 1},), "give None, a bool, text"),
        ("SELECT ?", (2**63,), "64 bits"),
        ("SELECT ?", ("\ud800",), "half of a character"),
        ("SELECT ?", "x", "give a list of the values"),
        ("SELECT ?", 7, "give a list of the values"),
    ],
)
def test_parameters_that_do_not_fit(text: str, parameters: Any, reason: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        ask(text, parameters=parameters)
    assert caught.value.name == "parameters"
    assert reason in caught.value.reason


# -- bounds


def test_an_endless_query_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "QUERY_SECONDS", 0.05)
    with pytest.raises(QueryTooLarge) as caught:
        run(f"{COUNTING} SELECT count(*) FROM n")
    assert caught.value.limit == "0.05 seconds"
    assert "WHERE" in caught.value.way_out


def test_an_endless_plan_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner is asked to stop, too."""
    monkeypatch.setattr(database, "QUERY_SECONDS", 0.05)
    joins = " ".join(f"JOIN orders o{n} ON o{n}._offset = o{n - 1}._offset" for n in range(1, 60))
    with pytest.raises(QueryTooLarge):
        run(f"{COUNTING} SELECT count(*) FROM n, orders o0 {joins}")


BOMBS = (
    f"{COUNTING} SELECT count(*) FROM (SELECT DISTINCT i FROM n)",
    f"{COUNTING} SELECT i FROM n ORDER BY i DESC",
    f"{COUNTING} SELECT printf('%.*c', 1000, 'x') || i AS x, count(*) FROM n GROUP BY x",
    "WITH RECURSIVE n(i, x) AS (SELECT 1, '' UNION SELECT i + 1, printf('%.*c', 100000, 'x') FROM n) SELECT i FROM n",
    f"{COUNTING}, m AS MATERIALIZED (SELECT i FROM n) SELECT count(*) FROM m a, m b",
)


@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_memory_is_bounded(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "QUERY_BYTES", 16 * 1024 * 1024)
    monkeypatch.setattr(database, "MAX_RESULT_ROWS", 10**9)
    before = apsw.memory_used()
    apsw.memory_high_water(True)
    with pytest.raises(QueryTooLarge, match="16777216 bytes of memory"):
        run(text)
    assert apsw.memory_high_water() - before < 48 * 1024 * 1024
    assert apsw.memory_used() - before < 1_000_000


def test_only_so_many_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MAX_RESULT_ROWS", 1234)
    table = ask(f"{COUNTING} SELECT i FROM n", READS)
    assert (len(table), table.rows[-1]) == (1234, (1234,))
    assert table.notes == ("only the first 1,234 rows are here; narrow it with WHERE, or aggregate",)
    assert ask(f"{COUNTING} SELECT i FROM n LIMIT 1234", READS).notes == ()


def test_only_so_many_bytes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "RESULT_BYTES", 10_000)
    table = ask(f"{COUNTING} SELECT printf('%.*c', 1000, 'x') FROM n", READS)
    assert (len(table), len(table.notes)) == (10, 1)
    assert len(ask("SELECT printf('%.*c', 20000, 'x')", READS)) == 1


def test_nothing_is_left_of_a_query() -> None:
    before = apsw.memory_used()
    for _ in range(20):
        run("SELECT _topic, count(*) FROM orders GROUP BY 1")
    assert apsw.memory_used() - before < 10_000


# -- stopping


def test_stopping_from_another_thread() -> None:
    text = f"{COUNTING} SELECT count(*) FROM n"
    query = Query(Source(text, text), (), READS)
    ended: list[BaseException] = []

    def work() -> None:
        try:
            query.run(FakeReader())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    query.stop()
    thread.join(10)
    assert [type(error) for error in ended] == [Stopped]


def test_stopping_before_it_begins() -> None:
    text = f"{COUNTING} SELECT count(*) FROM n"
    query = Query(Source(text, text), (), READS)
    query.stop()
    with pytest.raises(Stopped):
        query.run(FakeReader())


def test_stopping_while_it_reads() -> None:
    text = "SELECT count(*) FROM orders"
    query = Query(Source(text, text), (), content(topic("orders", 10**9)))
    reader = FakeReader(lambda: (message("orders", n, n) for n in count()))
    reader.before_fetch = lambda: query.stop() if reader.fetched > 1000 else None
    with pytest.raises(Stopped):
        query.run(reader)
    assert reader.pages[0].closed
