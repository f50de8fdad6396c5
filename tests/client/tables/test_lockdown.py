"""A query can only read, and only what it was given: attacks, each refused before it does anything."""

from __future__ import annotations

import apsw
import pytest

from tests.client.tables.reading import FakeReader, ask, content, message, topic
from tidings.client.tables import lockdown
from tidings.client.tables.lockdown import FUNCTIONS, STATEMENT_BYTES, Warden, lock
from tidings.errors import InvalidStatement, QueryTooLarge, UsageError

READS = content(topic("t", 3), groups=[])


def run(text: str) -> list[tuple[object, ...]]:
    return ask(text, READS, FakeReader(lambda: [message("t", n, {"n": n}) for n in range(3)])).rows


FORBIDDEN = {
    # writing, and changing what there is
    "INSERT INTO t VALUES (1)": "INSERT",
    "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x": "t",
    "WITH x AS (SELECT 1) DELETE FROM SYSTEM.groups": "DELETE",
    "WITH x AS (SELECT 1) DELETE FROM t": "t may not be modified",
    "WITH x AS (SELECT 1) UPDATE SYSTEM.groups SET group_name = 'x'": "UPDATE",
    "WITH x AS (SELECT 1) REPLACE INTO SYSTEM.groups SELECT * FROM x": "",
    "DROP TABLE t": "",
    "CREATE TABLE x(a)": "INSERT",
    "CREATE TEMP VIEW x AS SELECT 1": "INSERT",
    "CREATE VIRTUAL TABLE x USING log": "",
    "ALTER TABLE SYSTEM.groups RENAME TO x": "",
    "ANALYZE": "",
    "VACUUM": "",
    "VACUUM INTO '/tmp/x'": "",
    "BEGIN": "TRANSACTION",
    "SAVEPOINT x": "SAVEPOINT",
    # files and settings
    "ATTACH '/etc/passwd' AS x": "",
    "ATTACH ':memory:' AS x": "",
    "DETACH SYSTEM": "DETACH",
    "PRAGMA journal_mode": "PRAGMA",
    "PRAGMA writable_schema = 1": "PRAGMA",
    "PRAGMA temp_store = file": "PRAGMA",
    "SELECT * FROM pragma_database_list": "the table pragma_database_list",
    "SELECT * FROM pragma_table_info('t')": "the table pragma_table_info",
    "SELECT load_extension('/tmp/x.so')": "the function load_extension()",
    "SELECT readfile('/etc/passwd')": "no such function",
    "SELECT writefile('/tmp/x', 'y')": "no such function",
    "SELECT edit('x')": "no such function",
    "SELECT fts3_tokenizer('x', 'y')": "fts3_tokenizer",
    # what else SQLite keeps
    "SELECT * FROM sqlite_master": "the table sqlite_master",
    "SELECT * FROM sqlite_schema": "the table sqlite_master",
    "SELECT name FROM SYSTEM.sqlite_master": "the table sqlite_master",
    "SELECT name FROM t JOIN sqlite_temp_master": "the table sqlite_temp_master",
    "SELECT (SELECT sql FROM sqlite_master LIMIT 1) FROM t": "the table sqlite_master",
    "SELECT * FROM dbstat": "the table dbstat",
    "SELECT * FROM sqlite_stmt": "",
    "SELECT randomblob(1e9)": "the function randomblob()",
    "SELECT zeroblob(1e9)": "the function zeroblob()",
    "SELECT sqlite_compileoption_get(1)": "the function sqlite_compileoption_get()",
    "SELECT last_insert_rowid()": "the function last_insert_rowid()",
}


@pytest.mark.parametrize("text", FORBIDDEN)
def test_forbidden(text: str) -> None:
    with pytest.raises(InvalidStatement) as caught:
        run(text)
    assert FORBIDDEN[text] in caught.value.reason
    assert caught.value.line == 1


def test_nothing_was_changed_by_any_of_them() -> None:
    """The authorizer is the last of several walls; with it alone, on an open database."""
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
    lock(connection, Warden({("main", "t")}), 0)
    for text in FORBIDDEN:
        with pytest.raises(apsw.Error):
            connection.execute(text)
    assert connection.execute("SELECT * FROM t").fetchall() == [(1,)]
    assert connection.total_changes() == 1
    connection.close()


def test_what_a_query_needs_is_allowed() -> None:
    assert run("SELECT count(*), max(_offset) FROM t") == [(3, 2)]
    assert run("WITH x(n) AS (SELECT data->>'n' FROM t) SELECT sum(n) FROM x") == [(3,)]
    assert run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT count(*) FROM n"
    ) == [(5,)]
    assert run("SELECT value FROM t, json_each(t.data) WHERE key = 'n' ORDER BY 1 DESC LIMIT 1") == [(2,)]
    assert run("SELECT _offset, sum(_offset) OVER (ORDER BY _offset) FROM t") == [(0, 0), (1, 1), (2, 3)]
    assert run("SELECT 1 FROM t WHERE _id LIKE 't%' AND _id GLOB 't*' AND data ->> '$.n' IN (1)") == [(1,)]
    assert run("SELECT * FROM (SELECT 1 UNION SELECT 2) EXCEPT SELECT 2") == [(1,)]


@pytest.mark.parametrize("name", sorted(FUNCTIONS - {"->", "->>"}))
def test_each_function_is_sqlites(name: str) -> None:
    """Nothing in the list is a slip of the pen."""
    connection = apsw.Connection(":memory:")
    known = {row[0] for row in connection.execute("SELECT name FROM pragma_function_list")}
    connection.close()
    assert name in known | {"if", "current_date", "current_time", "current_timestamp"}


HUGE = (
    "SELECT printf('%.*c', 1000000000, 'x')",
    "SELECT format('%1000000000d', 1)",
    "SELECT hex(printf('%.*c', 10000000, 'x'))",
    "SELECT replace(printf('%.*c', 10000000, 'x'), 'x', 'yyy')",
    "SELECT x || x FROM (SELECT printf('%.*c', 10000000, 'x') AS x)",
    "WITH RECURSIVE n(x) AS (SELECT 'x' UNION ALL SELECT x || x FROM n) SELECT count(x) FROM n",
    "SELECT group_concat(printf('%.*c', 10000000, 'x')) FROM t",
    "SELECT json_group_array(printf('%.*c', 10000000, 'x')) FROM t",
)


@pytest.mark.parametrize("text", HUGE)
def test_a_single_value_does_not_eat_the_memory(text: str) -> None:
    before = apsw.memory_used()
    apsw.memory_high_water(True)
    with pytest.raises(QueryTooLarge, match="of one value or row"):
        run(text)
    assert apsw.memory_high_water() - before < 5 * lockdown.VALUE_BYTES
    assert apsw.memory_used() - before < 1_000_000


LONG = {
    f"SELECT {'1' * 1000}{' ' * STATEMENT_BYTES}": "bytes of SQL",
    f"SELECT {'+'.join('1' * 1000)}": "Expression tree is too large",
    f"SELECT {'- ' * 1000}1": "Expression tree is too large",
    f"SELECT {' UNION ALL SELECT '.join('1' * 100)}": "too many terms in compound SELECT",
    f"SELECT {', '.join('1' * 200)}": "too many columns",
    f"SELECT max({', '.join('1' * 200)})": "too many arguments",
    f"SELECT {'(' * 5000}1{')' * 5000}": "stack overflow|Recursion limit",
    f"SELECT 1 FROM {', '.join(f't t{n}' for n in range(100))}": "at most 64 tables",
    f"SELECT 'x' LIKE '{'%_' * 1000}'": "pattern too complex",
    f"SELECT {'(SELECT ' * 300}1{')' * 300}": "Expression tree is too large",
}


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_long_statements(text: str) -> None:
    with pytest.raises((InvalidStatement, QueryTooLarge), match=LONG[text]) as caught:
        run(text)
    assert isinstance(caught.value, UsageError)


def test_wide_tables_can_be_selected_whole() -> None:
    wide = topic("wide", 1, schema=[f"c{n} INT" for n in range(500)])
    table = ask("SELECT * FROM wide", content(wide), FakeReader(lambda: [message("wide", 0, {"c499": 7})]))
    assert (len(table.columns), table.rows[0][-1]) == (511, 7)
