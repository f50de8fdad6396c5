"""The metadata: where each value comes from, and how a text beside a time or a priority is read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.predicate.predicate_cases import HEADERS, message
from tidings.model.message import ROUTING_KEY
from tidings.model.options import PRIORITIES
from tidings.model.predicate.fields import FIELDS, read_priority, read_time

EXPECTED = {
    "_topic": "orders",
    "_key": "key",
    "_priority": 8,
    "_published_at": 1000.25,
    "_expires_at": 2000.5,
    "_attempt": 3,
    "_id": "id-1",
    "_partition": 2,
    "_offset": 41,
    "_content_type": "application/json",
    "_routing_key": {"tags": ["a", "b"], "n": 1},
}


def test_every_field() -> None:
    assert {name: field.read(message()) for name, field in FIELDS.items()} == EXPECTED
    assert [name for name, field in FIELDS.items() if not field.description.endswith(".")] == []


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("null", None), ("{", None), ('"a"', "a"), ("[1]", [1])])
def test_routing_keys(text: str | None, expected: Any) -> None:
    sent = message()
    sent.record.headers = None if text is None else {**HEADERS, ROUTING_KEY: text}
    assert FIELDS["_routing_key"].read(sent) == expected


def test_what_a_message_does_not_have_is_null() -> None:
    sent = message()
    sent.record.key = sent.record.extra = None
    assert FIELDS["_key"].read(sent) is None
    assert FIELDS["_expires_at"].read(sent) is None


def test_which_texts_are_read() -> None:
    readers = {name: field.literal for name, field in FIELDS.items() if field.literal is not None}
    assert readers == {"_priority": read_priority, "_published_at": read_time, "_expires_at": read_time}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01", 0.0),
        (" 1970-01-02 ", 86400.0),
        ("1970-01-01T00:00:01", 1.0),
        ("1970-01-01 00:00:01.5", 1.5),
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1969-12-31T23:59:59Z", -1.0),
        ("0001-01-01T00:00:00+23:59", -62135683140.0),
        ("19700102", 86400.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert read_time(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1970", "1970-13-01", "1970-01-01T25:00", "12:00", "1e9", "\ud800", "\0"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="it is no time; write it as '2026-01-31'"):
        read_time(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_any_time_that_python_writes(moment: datetime) -> None:
    assert read_time(moment.isoformat()) == read_time(moment.replace(tzinfo=None).isoformat()) == moment.timestamp()


def test_priorities() -> None:
    assert {name: read_priority(name) for name in PRIORITIES} == PRIORITIES


@pytest.mark.parametrize("text", ["", "High", "urgent", "5"])
def test_what_is_no_priority(text: str) -> None:
    with pytest.raises(ValueError, match="write 'low', 'normal', 'high'"):
        read_priority(text)
