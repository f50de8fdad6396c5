"""Records as messages of AMQP and back; and what other programs send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from tidings.brokers.feed import Delivery
from tidings.engines.rabbitmq.channel import Arrival
from tidings.engines.rabbitmq.messages import (
    COUNT,
    DELAY,
    FAILURES,
    OFFSET,
    again,
    count,
    delivery_of,
    properties_of,
    topic_of,
)
from tidings.engines.rabbitmq.options import routing_key
from tidings.model.codec import BYTES, JSON, TEXT, decode, encode
from tidings.model.compression import Compression
from tidings.model.message import Record

NOW = 1_700_000_000.25
LIMIT = 1_000_000
TEXTS = st.text(max_size=20).filter(str.isprintable)
HEADERS = st.none() | st.dictionaries(TEXTS.filter(bool), TEXTS, min_size=1, max_size=5)


def arrival(properties: commands.Basic.Properties, body: bytes, key: str = "orders") -> Arrival:
    """The message as it comes back from the broker, through the bytes of AMQP."""
    read = commands.Basic.Properties()
    data = properties.marshal()
    flags = int.from_bytes(data[:2], "big")
    read.unmarshal(flags, data[2:])
    return Arrival("c", 1, key, read, body)


def sent(record: Record, topic: str = "orders", compression: Compression | None = None, **way: Any) -> Delivery:
    properties, body = properties_of(record, topic, compression, NOW, True, way)
    found = arrival(properties, body, routing_key(topic))
    return delivery_of(found, topic_of(found, None), None, LIMIT, 0.0)


@st.composite
def records(draw: st.DrawFn) -> Record:
    kinds = st.one_of(st.none(), st.integers(-(2**60), 2**60), st.text(), st.binary(), st.dictionaries(TEXTS, TEXTS))
    content_type, body = encode(draw(kinds))
    expires = draw(st.none() | st.floats(0, 2e9))
    extra = None if expires is None else {"expires": expires}
    return Record(
        draw(TEXTS.filter(bool)), content_type, body, draw(st.none() | st.text(min_size=1)), draw(HEADERS), extra
    )


def parts(record: Record) -> tuple[Any, ...]:
    return record.id, record.content_type, record.data, record.key, record.headers or None, record.expires_at


@given(records(), st.sampled_from([None, *Compression]))
def test_what_goes_in_comes_out(record: Record, compression: Compression | None) -> None:
    found = sent(record, compression=compression)
    assert parts(found.record) == parts(record)
    assert (found.topic, found.attempt, found.published_at, found.offset) == ("orders", 1, NOW, -1)


@pytest.mark.parametrize(
    "name", ["CC", "BCC", "x-death", COUNT, OFFSET, FAILURES, f"{DELAY}3", "Tidings-Key", "Content-Type", "n" * 300]
)
def test_a_users_header_of_a_name_that_is_taken_is_the_users(name: str) -> None:
    found = sent(Record("id", JSON, b"1", None, {name: "mine"}))
    assert found.record.headers == {name: "mine"}
    assert (found.attempt, found.offset, found.record.key) == (1, -1, None)


@pytest.mark.parametrize(
    "topic", ["orders", "orders/placed", "a.b:c/d", "x" * 255, "/".join("y" * 20 for _ in range(12))]
)
def test_the_topic_comes_along(topic: str) -> None:
    assert sent(Record("id", JSON, b"1"), topic).topic == topic


def test_a_plain_program_sees_what_it_knows() -> None:
    properties, body = properties_of(Record("id", JSON, b'{"a":1}'), "orders", None, NOW, True, {})
    assert (properties.content_type, properties.message_id, properties.delivery_mode) == (JSON, "id", 2)
    assert properties.timestamp == datetime.fromtimestamp(NOW, UTC)
    assert body == b'{"a":1}'
    assert properties_of(Record("id", JSON, b"1"), "orders", None, NOW, False, {})[0].delivery_mode == 1


@pytest.mark.parametrize(
    ("properties", "body", "data", "content_type"),
    [
        ({}, b'{"a": 1}', {"a": 1}, JSON),
        ({}, b"Hello World!", "Hello World!", TEXT),
        ({}, b"\xff\xfe", b"\xff\xfe", BYTES),
        ({"content_type": "application/json"}, b"no json", b"no json", JSON),
        ({"content_type": "text/plain"}, b"7", "7", "text/plain"),
        ({"content_encoding": "br"}, b"\x01", "\x01", TEXT),
        ({"content_encoding": "gzip", "content_type": JSON}, b"no gzip", b"no gzip", JSON),
    ],
)
def test_messages_of_other_programs_are_data(
    properties: dict[str, Any], body: bytes, data: Any, content_type: str
) -> None:
    found = delivery_of(arrival(commands.Basic.Properties(**properties), body), "orders", None, LIMIT, 17.0)
    assert (decode(found.record.content_type, found.record.data), found.record.content_type) == (data, content_type)
    assert (found.published_at, found.attempt) == (17.0, 1)
    assert found.record.id


@pytest.mark.parametrize(
    "headers",
    [
        {"Tidings-Published": "soon"},
        {"Tidings-Published": "nan"},
        {"Tidings-Expires": "never"},
        {FAILURES: "many"},
        {FAILURES: -3},
        {OFFSET: "x"},
        {"Tidings-Headers": "no json"},
        {"nested": {"a": [1]}, "list": [1], "none": None},
    ],
)
def test_odd_headers_raise_nothing(headers: dict[str, Any]) -> None:
    found = delivery_of(arrival(commands.Basic.Properties(headers=headers), b"1"), "orders", None, LIMIT, 17.0)
    assert (found.attempt, found.published_at, found.record.expires_at, found.offset) == (1, 17.0, None, -1)


def test_where_an_exchange_knows_no_topics_the_reader_does() -> None:
    foreign = arrival(commands.Basic.Properties(), b"1", "")
    assert topic_of(foreign, "logs") == "logs"
    properties, body = properties_of(Record("id", JSON, b"1"), "orders/placed", None, NOW, True, {})
    assert topic_of(arrival(properties, body, "orders./placed"), "logs") == "orders/placed"


def test_what_goes_back_keeps_what_it_was_and_counts() -> None:
    properties, body = properties_of(
        Record("id", JSON, b"1", "k", {"trace": "7"}), "orders/placed", Compression.GZIP, NOW, True, {f"{DELAY}3": 1}
    )
    properties.headers = {**(properties.headers or {}), COUNT: 4, "x-death": []}
    back = again(arrival(properties, body, "orders./placed"), "orders/placed", 2, False, {f"{DELAY}5": 1})
    assert f"{DELAY}5" in (back.headers or {})
    assert not {f"{DELAY}3", COUNT, "x-death"} & set(back.headers or {})
    found = arrival(back, body, "elsewhere")
    delivery = delivery_of(found, topic_of(found, None), None, LIMIT, 0.0)
    assert parts(delivery.record) == ("id", JSON, b"1", "k", {"trace": "7"}, None)
    assert (delivery.topic, delivery.attempt, delivery.published_at) == ("orders/placed", 3, NOW)
    assert count(back.headers, FAILURES) == 2
