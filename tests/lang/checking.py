"""What must hold for every text: it is read or refused by the one typed error, and what was read evaluates to JSON."""

from __future__ import annotations

import json
from typing import Any

from tidings.errors import InvalidFilter, InvalidStatement
from tidings.lang import parse_filter, parse_statements
from tidings.lang.statements import CreateGroup, Select, Statement, Subscribe
from tidings.model.message import Message, StoredRecord
from tidings.model.predicate import Predicate
from tidings.model.predicate.compiling import compile_value


def message(data: Any, **headers: str) -> Message:
    record = StoredRecord("id-1", "application/json", b"", "key-1", headers, {"expires": 1_777_890_600.5})
    record.value = data
    return Message(record, "orders/placed", 0, 41, published_at=1_777_890_000.25, attempt=1, priority=8)


SAMPLES = [
    message({"a": 1, "b": [1, "x", None, {"c": True}], "c": {"d": "text", "e": 1.5}, "headers": 2}, x="1", y="'"),
    message({"a": "2026-05-04T10:30:00Z", "b": "[1, {}]", "c": False, "d": -(2**63), "e": 1e308}),
    message(["a", 2, [], {}]),
    message("just a text"),
    message(b"bytes \xff"),
    message(None),
]

_PIECES = """\
AND OR NOT IN IS NULL LIKE ILIKE BETWEEN ESCAPE CONTAINS REGEXP TRUE FALSE = <> != < > <= >= == ~ ~* !~ !~* + - * / % ||
( ) , . [ ] a b c d e headers.x _topic _priority _published_at _data _routing_key a.b b[3].c b[-1] c['d'] "a_b" 'x' ''
'%' 'a_\\%' '(x|y)+' '2026-05-04' 'high' '[1,{"a":2}]' JSON 0 1 -1 2.5 1e300 9223372036854775807 lower upper length trim
substr replace starts_with ends_with contains contains_any abs round coalesce timestamp json CREATE ALTER DROP TOPIC
GROUP TOPICS GROUPS IF EXISTS WITH WITHOUT SCHEMA DELIVERY OPTIONS SUBSCRIBE TO ON FROM BEGINNING WHERE SHOW DESCRIBE
SELECT ; : INT STRING LIST MAP STRUCT ANY max_retries retention_period '7days' at_least_once -- /* */ " '"""

VOCABULARY = (*_PIECES.split(), "\n")
"""Pieces that texts are put together from, so that many of them are right, or nearly."""


def check_filter(text: str) -> Predicate | None:
    """Return what was read, None when the text was refused; fail on anything else."""
    try:
        predicate = parse_filter(text)
    except InvalidFilter as error:
        check_place(text, error)
        return None
    check_predicate(predicate)
    return predicate


def check_statements(text: str) -> list[Statement]:
    """Return what was read, nothing when the text was refused; fail on anything else."""
    try:
        found = parse_statements(text)
    except InvalidStatement as error:
        check_place(text, error)
        return []
    assert found, "a text has at least one statement"
    for statement in found:
        if isinstance(statement, (CreateGroup, Subscribe)) and statement.filter is not None:
            check_predicate(statement.filter)
        if isinstance(statement, Select):
            assert statement.text in text
    return found


def check_place(text: str, error: InvalidFilter | InvalidStatement) -> None:
    """The error points into the text, or just behind it, and can be shown."""
    lines = (text + "^").splitlines()
    if error.line:
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    assert error.reason
    assert "lark" not in str(error).lower().replace(text.lower(), "")


def check_predicate(predicate: Predicate) -> None:
    """It is the same after printing and after storing, and evaluates to what JSON has."""
    assert parse_filter(str(predicate)) == predicate
    assert Predicate.from_stored(predicate.stored()) == predicate
    value = compile_value(predicate.root)
    for sample in SAMPLES:
        assert isinstance(predicate.matches(sample), bool)
        check_json(value(sample.data, sample), sample)


def check_json(value: object, sample: Message) -> None:
    """It is JSON; only data that is no JSON itself may come out as it went in."""
    if value is not sample.data:
        json.dumps(value, allow_nan=False)
        assert type(value) in (type(None), bool, int, float, str, list, dict)
