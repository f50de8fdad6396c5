"""What the parser refuses is told with line, column, what could stand there, and what was probably meant."""

from __future__ import annotations

import pytest

from tidings.errors import InvalidFilter, InvalidStatement
from tidings.lang import parse_filter, parse_statements
from tidings.lang.complaints import MAX_SHOWN

VALUE = ("a name", "a text in '...'", "a number", "'('")
AFTER = ("AND", "OR", "an operator such as +", "the end of the text")
AFTER_NAME = (
    *("AND", "BETWEEN", "CONTAINS", "ILIKE", "IN", "IS", "LIKE", "NOT", "OR"),
    *("a comparison such as =", "an operator such as +", "the end of the text"),
)
STATEMENT = ("ALTER", "CREATE", "DESCRIBE", "DROP", "SELECT", "SHOW", "SUBSCRIBE")


@pytest.mark.parametrize(
    ("text", "place", "reason", "expected"),
    [
        ("", (1, 1), "it ends too early", VALUE),
        ("   ", (1, 1), "it ends too early", VALUE),
        ("-- nothing", (1, 11), "it ends too early", VALUE),
        ("total >", (1, 8), "it ends too early", VALUE),
        ("total >  \n ", (1, 8), "it ends too early", VALUE),
        ("(a = 1", (1, 7), "it ends too early", ("AND", "OR", "an operator such as +", "')'")),
        ("a = 1)", (1, 6), ") cannot stand here", AFTER),
        ("a = 1 ADN b", (1, 7), "ADN cannot stand here; did you mean AND?", AFTER),
        ("a = 1 adn b", (1, 7), "adn cannot stand here; did you mean AND?", AFTER),
        ("a LIEK 'x'", (1, 3), "LIEK cannot stand here; did you mean LIKE?", AFTER_NAME),
        ("a BETWEN 1 AND 2", (1, 3), "BETWEN cannot stand here; did you mean BETWEEN?", AFTER_NAME),
        ("a BETWEEN 1 OR 2", (1, 13), "OR cannot stand here", ("AND", "an operator such as +")),
        ("a IS 5", (1, 6), "5 cannot stand here", ("NOT", "NULL")),
        ("a NOT 5", (1, 7), "5 cannot stand here", ("BETWEEN", "CONTAINS", "ILIKE", "IN", "LIKE", "~")),
        ("a IN 5", (1, 6), "5 cannot stand here", ("a name", "'('")),
        ("a IN ()", (1, 7), ") cannot stand here", VALUE),
        ("a IN (1, )", (1, 10), ") cannot stand here", VALUE),
        ("a = 1 = b", (1, 7), "= cannot stand here", AFTER),
        ("AND", (1, 1), "AND cannot stand here", VALUE),
        ("x = AND", (1, 5), "AND cannot stand here", VALUE),
        ("a.5", (1, 3), "5 cannot stand here", ("a name", 'a name in "..."')),
        ("a[b]", (1, 3), "b cannot stand here", ("a text in '...'", "a whole number")),
        ("a[1.5]", (1, 4), ". cannot stand here", ("']'",)),
        ("a[0", (1, 4), "it ends too early", ("']'",)),
        ("a && b", (1, 3), "& cannot stand here; write AND", AFTER_NAME),
        ("!a", (1, 1), "! cannot stand here; write NOT", VALUE),
        ("a | b", (1, 3), "| cannot stand here; write OR (|| joins texts)", AFTER_NAME),
        ("a = 'x", (1, 5), "' cannot stand here; this quote is not closed", VALUE),
        ('"a = 1', (1, 1), '" cannot stand here; this quote is not closed', VALUE),
        ("a = `b`", (1, 5), "` cannot stand here; names stand in double quotes", VALUE),
        ("a /* b", (1, 3), "/* cannot stand here; this comment is not closed", AFTER_NAME),
        ("a = [1]", (1, 5), "[ cannot stand here; a list is written JSON '[...]'", VALUE),
        ("a = {}", (1, 5), "{ cannot stand here; an object is written JSON '{...}'", VALUE),
        ("a = 1;", (1, 6), "; cannot stand here", AFTER),
        ("a = 12abc", (1, 7), "abc cannot stand here", AFTER),
        ("a = ?", (1, 5), "? cannot stand here", VALUE),
        ("a\n =\r\n  b c", (3, 5), "c cannot stand here", AFTER),
        ("a =\u2028 b c", (2, 4), "c cannot stand here", AFTER),
        ("a\x0b= 1 1", (2, 5), "1 cannot stand here", AFTER),
    ],
)
def test_filter(text: str, place: tuple[int, int], reason: str, expected: tuple[str, ...]) -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(text)
    error = caught.value
    assert (error.filter, (error.line, error.column), error.reason, error.expected) == (text, place, reason, expected)
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("text", "place", "reason", "expected"),
    [
        ("", (1, 1), "it ends too early", STATEMENT),
        (" ;; ", (1, 4), "it ends too early", STATEMENT),
        ("CRAETE TOPIC a", (1, 1), "CRAETE cannot stand here; did you mean CREATE?", STATEMENT),
        ("INSERT INTO a", (1, 1), "INSERT cannot stand here; messages are published, not inserted", STATEMENT),
        ("DROP TOPIC a; delete", (1, 15), "delete cannot stand here; messages are acked, or expire", None),
        ("CREATE TOPC a", (1, 8), "TOPC cannot stand here; did you mean TOPIC?", ("GROUP", "TOPIC")),
        ("CREATE TOPIC", (1, 13), "it ends too early", ("IF", "a name", 'a name in "..."')),
        ("CREATE TOPIC IF EXISTS a", (1, 17), "EXISTS cannot stand here", ("NOT",)),
        (
            "CREATE TOPIC 'a'",
            (1, 14),
            "'a' cannot stand here; names stand in double quotes",
            ("IF", "a name", 'a name in "..."'),
        ),
        ("CREATE TOPIC a WIHT", (1, 16), "WIHT cannot stand here; did you mean WITH?", None),
        ("CREATE TOPIC a WITH OPTION (x: 1)", (1, 21), "OPTION cannot stand here; did you mean OPTIONS?", None),
        (
            "CREATE TOPIC a WITH OPTIONS (x: y)",
            (1, 33),
            "y cannot stand here",
            ("FALSE", "NULL", "TRUE", "a text in '...'", "a number"),
        ),
        ("CREATE TOPIC a WITH OPTIONS (x 1)", (1, 32), "1 cannot stand here", ("':'", "'='")),
        ("CREATE TOPIC a WITH OPTIONS ()", (1, 30), ") cannot stand here", ("a name",)),
        ("CREATE TOPIC a SCHEMA (x INT NULL)", (1, 30), "NULL cannot stand here", None),
        ("ALTER TOPIC a", (1, 14), "it ends too early", ("SCHEMA", "WITH", "WITHOUT")),
        ("SUBSCRIBE orders", (1, 11), "orders cannot stand here", ("TO",)),
        ("SUBSCRIBE TO orders WEHRE x", (1, 21), "WEHRE cannot stand here; did you mean WHERE?", None),
        ("SUBSCRIBE TO a WHERE x = 1 adn y", (1, 28), "adn cannot stand here; did you mean AND?", None),
        ("SHOW TOPIC", (1, 6), "TOPIC cannot stand here; did you mean TOPICS?", ("GROUPS", "TOPICS")),
        ("DROP TOPIC a DROP TOPIC b", (1, 14), "DROP cannot stand here", ("';'", "the end of the text")),
        ("SELECT 'abc", (1, 8), "' cannot stand here; this quote is not closed", ("';'", "the end of the text")),
        ("SELECT /* abc", (1, 8), "/* cannot stand here; this comment is not closed", None),
    ],
)
def test_statement(text: str, place: tuple[int, int], reason: str, expected: tuple[str, ...] | None) -> None:
    with pytest.raises(InvalidStatement) as caught:
        parse_statements(text)
    error = caught.value
    assert (error.statement, (error.line, error.column), error.reason) == (text, place, reason)
    assert expected is None or error.expected == expected


def test_the_message_shows_the_line_and_a_caret() -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_filter("a = 1\nADN b = 2")
    assert str(caught.value) == (
        "filter, line 2, column 1: ADN cannot stand here; did you mean AND?; "
        "expected AND, OR, an operator such as +, the end of the text\n"
        "    ADN b = 2\n"
        "    ^"
    )


def test_a_long_constant_is_shown_in_part() -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(f"a '{'x' * 1000}'")
    assert caught.value.reason == f"'{'x' * (MAX_SHOWN - 1)}... cannot stand here"
