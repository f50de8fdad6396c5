"""What is wrong with a SELECT: said with its place, and with the way out."""

from __future__ import annotations

import pytest

from tests.client.tables.reading import FakeReader, ask, content, message, topic
from tidings.client.tables.complaints import Source
from tidings.client.tables.database import Query, check_syntax
from tidings.errors import InvalidStatement

TOPICS = ["orders", "user_events", "orders/placed", "orders.paid", "topics_of_interest"]

READS = content(topic("orders", 1, schema=["status STRING"]), topic("orders/placed", 1), groups=[])
SYSTEM = content(groups=[], topics=[])

CASES = {
    # columns
    "SELECT total FROM orders": "no such column: total; a field of the data is data->>'total'",
    "SELECT details.total FROM orders": "a field of the data is data->>'$.details.total'",
    "SELECT orders.total FROM orders": "a field of the data is orders.data->>'total'",
    "SELECT ORDERS.details.total FROM orders": "a field of the data is ORDERS.data->>'$.details.total'",
    "SELECT headers.source FROM orders": "a header is headers->>'source'",
    "SELECT data.status FROM orders": "a field of the data is data->>'status'",
    "SELECT data.details.country FROM orders": "a field of the data is data->>'$.details.country'",
    "SELECT 1 FROM orders WHERE statsu = 'x'": "did you mean status?",
    "SELECT _publishd_at FROM orders": "did you mean _published_at?",
    'SELECT 1 FROM orders WHERE status = "new"': "should this be a string literal in single-quotes?",
    # tables
    "SELECT * FROM order": 'near "order": syntax error',
    "SELECT * FROM ordrs": "no such table: ordrs; did you mean orders?",
    "SELECT * FROM userevents": "did you mean user_events?",
    "SELECT * FROM order_placed": 'did you mean "orders/placed"?',
    "SELECT * FROM orders.paid": 'the topic is written "orders.paid"',
    "SELECT * FROM orders.placed": 'did you mean "orders/placed"?',
    "SELECT * FROM xyzzy": "there are the topics of the bus, and SYSTEM.topics, SYSTEM.subscribers, SYSTEM.groups",
    "SELECT * FROM SYSTEM.group": 'near "group": syntax error',
    "SELECT * FROM SYSTEM.gruops": "did you mean SYSTEM.groups?",
    "SELECT * FROM consumers": "did you mean SYSTEM.consumers?",
    "SELECT * FROM orders/placed": 'stands in double quotes: "orders/placed"',
    "SELECT * FROM orders:placed": "stands in double quotes",
    "SELECT * FROM orders-x": "stands in double quotes",
    "SELECT * FROM orders:*": "stands in double quotes",
    # functions and the rest
    "SELECT uper(_id) FROM orders": "no such function: uper; did you mean upper()?",
    "SELECT now() FROM orders": "there are the functions of SQLite that only compute",
    "SELECT json_extract('{', '$.a') FROM orders": "malformed JSON; leave out what is no JSON with WHERE json_valid",
    "SELECT abs(-9223372036854775808) FROM orders": "integer overflow",
    "SELECT count(*) FROM": "incomplete input",
    "SELECT 'x' COLLATE NICE = 'y'": "no such collation sequence: NICE",
    "SELECT CAST(x'ff' AS TEXT)": "a text of the result is no UTF-8",
}


@pytest.mark.parametrize("text", CASES)
def test_the_way_out(text: str) -> None:
    reader = FakeReader(lambda: [message("orders", 0, {})], TOPICS)
    with pytest.raises(InvalidStatement) as caught:
        ask(text, READS, reader)
    assert CASES[text] in caught.value.reason


def test_columns_of_system_tables() -> None:
    with pytest.raises(InvalidStatement, match=r"did you mean lag_messages\?"):
        ask("SELECT lag_mesages FROM SYSTEM.groups", SYSTEM)
    with pytest.raises(InvalidStatement, match=r"there are group_name, topic_name, lag_messages, .*publish_rate"):
        ask("SELECT xyzzy FROM SYSTEM.groups", SYSTEM)
    with pytest.raises(InvalidStatement, match=r"no such column: xyzzy\n"):
        ask("SELECT xyzzy")


def place(text: str, whole: str = "") -> tuple[int, int]:
    whole = whole or text
    with pytest.raises(InvalidStatement) as caught:
        Query(Source(text, whole, whole.index(text)), (), READS).run(FakeReader())
    assert caught.value.statement == whole
    return caught.value.line, caught.value.column


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("SELECT total FROM orders", 1, 8),
        ("SELECT 'é 🎉', total FROM orders", 1, 15),
        ("SELECT 1,\n  2,\n    total\nFROM orders", 3, 5),
        ("SELECT *\r\n  FROM orders/placed", 2, 14),
        ("SELECT *\n  FROM nowhere", 2, 8),
        ("SELECT * FROM orders\nWHERE load_extension('x') = 1", 2, 7),
        ("SELECT * FROM orders, sqlite_master", 1, 23),
        ("SELECT 'a\u2028b', total FROM orders", 2, 5),
    ],
)
def test_the_place(text: str, line: int, column: int) -> None:
    assert place(text) == (line, column)


def test_the_place_in_a_longer_text() -> None:
    select = "SELECT 1,\n total FROM orders"
    assert place(select, f"DROP TOPIC é;\nDROP TOPIC b; {select}; DROP TOPIC c") == (3, 2)
    assert place("SELECT total FROM orders", "/* é\n */ SELECT total FROM orders;") == (2, 12)


def test_a_caret() -> None:
    with pytest.raises(InvalidStatement) as caught:
        ask("SELECT 1,\n       total\nFROM orders", READS)
    assert str(caught.value).splitlines()[-2:] == ["           total", "           ^"]


@pytest.mark.parametrize(
    "text",
    ["SELECT * FRM t", "SELECT count(", "SELECT 'x", "SELECT now()", "SELECT load_extension('x')", "PRAGMA x"],
)
def test_syntax_is_wrong(text: str) -> None:
    with pytest.raises(InvalidStatement):
        check_syntax(Source(text, text))


@pytest.mark.parametrize(
    "text",
    ["SELECT a, b FROM t WHERE c > ?", "SELECT * FROM SYSTEM.topics", "SELECT * FROM a.b", "SELECT 1", "SELECT :a"],
)
def test_syntax_is_right(text: str) -> None:
    """Whether there are such tables is not asked yet."""
    check_syntax(Source(text, text))
