"""The tables of control.db: what the rest relies on without saying so."""

from __future__ import annotations

import apsw
import pytest

from tidings.engines.embedded.control.schema import DDL, SCHEMA_VERSION

TABLES = [
    *("meta", "topics", "levels", "schemas", "groups", "bindings"),
    *("cursors", "pending", "consumers", "places", "assignments", "staged"),
]


@pytest.fixture
def database() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(DDL)
    return connection


def rows(database: apsw.Connection, query: str) -> list[tuple[object, ...]]:
    return list(database.execute(query))


def test_all_tables_are_strict(database: apsw.Connection) -> None:
    tables = rows(
        database, "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite%'"
    )
    assert dict(tables) == dict.fromkeys(TABLES, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("table", ["topics", "groups", "consumers", "staged"])
def test_numbers_are_never_used_again(database: apsw.Connection, table: str) -> None:
    """A log, a lease, a cursor or a record that was moved may still be known under an old number."""
    columns = {
        "topics": "(name, options, changed) VALUES (?1, '', 0)",
        "groups": "(name) VALUES (?1)",
        "consumers": "(name, slot, pid, patterns, ordering, since, until) VALUES (?1, 1, 1, '[]', 0, 0.0, 0.0)",
        "staged": "(topic, message_id, priority, record, due) VALUES (?1, 'm', 5, x'90', 0.0)",
    }[table]
    for name in ("one", "two"):
        database.execute(f"INSERT INTO {table} {columns}", (name,))
    database.execute(f"DELETE FROM {table}")
    database.execute(f"INSERT INTO {table} {columns}", ("three",))
    assert rows(database, f"SELECT id FROM {table}") == [(3,)]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT 1 FROM pending WHERE group_id = 1 AND due <= 5", "pending_due"),
        ("SELECT min(due) FROM pending WHERE group_id = 1", "pending_due"),
        ("SELECT 1 FROM pending WHERE group_id = 1 AND shard = 2 AND first <= 3 ORDER BY first DESC", "pending_place"),
        ("UPDATE pending SET due = 1 WHERE consumer = 4", "pending_consumer"),
        ("SELECT id FROM topics WHERE changed > 7 ORDER BY changed", "topics_changed"),
        ("SELECT min(due) FROM staged WHERE mover IS NULL", "staged_due"),
        ("SELECT 1 FROM staged WHERE mover IS NULL AND due <= 5 ORDER BY due, id LIMIT 9", "staged_due"),
        ("DELETE FROM staged WHERE topic = 'a'", "staged_message"),
        ("SELECT id FROM staged WHERE topic = 'a' AND message_id = 'm' AND due > 0 LIMIT 1", "staged_message"),
        ("SELECT 1 FROM consumers WHERE group_id = 1 AND ordering <> 1", "consumers_group"),
    ],
)
def test_frequent_questions_do_not_read_the_whole_table(database: apsw.Connection, query: str, index: str) -> None:
    (plan,) = rows(database, f"EXPLAIN QUERY PLAN {query}")
    assert index in str(plan[3])
    assert "SEARCH" in str(plan[3])


def test_a_wrong_type_is_refused(database: apsw.Connection) -> None:
    with pytest.raises(apsw.ConstraintError):
        database.execute("INSERT INTO cursors (group_id, shard, next) VALUES (1, 1, 'soon')")


def test_the_version_is_what_it_was() -> None:
    """Change it together with the tables, and bring a way to migrate."""
    assert SCHEMA_VERSION == 3
