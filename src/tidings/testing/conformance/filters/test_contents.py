"""What a filter sees of a message: its data of every kind, its headers, and what the bus knows of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tidings import AsyncClient, Receipt, TopicOptions
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.place import Place, data, take

FILTERS = Capability.FILTERS

MESSAGES: dict[str, Any] = {
    "plain": {"total": 50, "status": "new", "paid": True},
    "small": {"total": 7.5, "status": "paid", "paid": False},
    "text total": {"total": "50", "status": "new"},
    "nulls": {"total": None, "status": None, "paid": None},
    "nested": {
        "total": 1,
        "user": {"name": "Ada", "zip": {"code": [1, 2, 3]}},
        "items": [{"sku": "a"}, {"sku": "b"}],
    },
    "odd": {"odd name": 1, "headers": {"x": "data"}, "_key": "data", "a.b": 5},
    "list": [10, 20, [30]],
    "text": "hello world",
    "empty": {},
    "number": 42,
    "false": False,
    "null": None,
    "bytes": b"\x00hello",
}
"""One message of each kind, by name."""

CONTENTS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("total > 40", lambda m: m["total"] > 40, "plain"),
    ("NOT total > 40", lambda m: ~(m["total"] > 40), "small, nested"),
    ("total = 50 OR total = '50'", lambda m: (m["total"] == 50) | (m["total"] == "50"), "plain, text total"),
    ("total BETWEEN 1 AND 7.5", lambda m: m["total"].between(1, 7.5), "small, nested"),
    ("status IN ('new', 'old')", lambda m: m["status"].is_in(["new", "old"]), "plain, text total"),
    ("status NOT IN ('new', 'old')", lambda m: ~m["status"].is_in(["new", "old"]), "small"),
    ("status IS NOT NULL", lambda m: m["status"] != None, "plain, small, text total"),  # noqa: E711
    ("total IS NULL AND \"odd name\" = 1", lambda m: (m["total"] == None) & (m["odd name"] == 1), "odd"),  # noqa: E711
    ("paid", lambda m: m["paid"], "plain"),
    ("NOT paid", lambda m: ~m["paid"], "small"),
    ("user.name = 'Ada'", lambda m: m["user"]["name"] == "Ada", "nested"),
    ("user.zip.code[-1] = 3", lambda m: m["user"]["zip"]["code"][-1] == 3, "nested"),
    ("items[1].sku = 'b'", lambda m: m["items"][1]["sku"] == "b", "nested"),
    ("items[2].sku = 'b'", lambda m: m["items"][2]["sku"] == "b", ""),
    ("2 IN user.zip.code", lambda m: m["user"]["zip"]["code"].contains(2), "nested"),
    ("user.name ILIKE 'a%'", lambda m: m["user"]["name"].ilike("a%"), "nested"),
    ("upper(user.name) ~ '^AD.$'", lambda m: m["user"]["name"].upper().match("^AD.$"), "nested"),
    ("total * 2 + 1 = 101", lambda m: m["total"] * 2 + 1 == 101, "plain"),
    ("coalesce(user, 9) = 9 AND total = 50", lambda m: (m["user"].default(9) == 9) & (m["total"] == 50), "plain"),
    ("\"headers\".x = 'data'", lambda m: m["headers"]["x"] == "data", "odd"),
    ("\"_key\" = 'data'", lambda m: m["_key"] == "data", "odd"),
    ("\"a.b\" = 5", lambda m: m["a.b"] == 5, "odd"),
    ("_data[0] = 10", lambda m: m.data[0] == 10, "list"),
    ("_data[2][0] = 30", lambda m: m.data[2][0] == 30, "list"),
    ("_data CONTAINS 20", lambda m: m.data.contains(20), "list"),
    ("_data = 'hello world'", lambda m: m.data == "hello world", "text"),
    ("_data LIKE 'hello%'", lambda m: m.data.like("hello%"), "text"),
    ("_data = 42", lambda m: m.data == 42, "number"),
    ("_data = FALSE", lambda m: m.data == False, "false"),  # noqa: E712
    ("length(_data) = 0", lambda m: m.data.length() == 0, "empty"),
    ("_content_type LIKE 'text%'", lambda m: m.content_type.like("text%"), "text"),
    ("_content_type ~ 'octet'", lambda m: m.content_type.match("octet"), "bytes"),
]  # fmt: skip
"""Conditions in both notations, and the names of the messages that they match."""


@pytest.mark.parametrize(("sql", "function", "names"), CONTENTS, ids=[sql for sql, _, _ in CONTENTS])
@case(FILTERS, Capability.REPLAY)
async def test_data_of_every_kind_is_seen(place: Place, sql: str, function: Callable[[Any], Any], names: str) -> None:
    """What is missing, or of another kind than what it is compared with, matches nothing and stops nothing."""
    client = place.client()
    for name, value in MESSAGES.items():
        await client.publish(place.topic(), value, headers={"name": name}, durability=None)
    expected = names.split(", ") if names else []
    for each in (sql, function):
        async with client.subscribe(place.topic(), filter=each, from_beginning=True) as subscription:
            found = await subscription.fetch(len(MESSAGES), timeout=0)
            assert [message.headers["name"] for message in found] == expected, each


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


async def published_in_many_ways(client: AsyncClient, topics: list[str]) -> list[Receipt]:
    """Publish 0 to 7, each with other properties."""
    for topic in topics:
        await client.create_topic(topic, TopicOptions(partitions=2))
    return [
        await client.publish(
            topics[number % 2],
            number,
            partition_key=("k1", "k2", None)[number % 3],
            priority=("normal", "high")[number // 4 % 2],
            ttl_seconds=(None, 3600)[number // 2 % 2],
            headers={"Lang": ("en", "de")[number % 2], "odd name": str(number)} if number < 6 else None,
            message_id=f"id-{number}",
        )
        for number in range(8)
    ]


@case(FILTERS, Capability.REPLAY, Capability.PRIORITY, Capability.EXPIRY, Capability.PARTITIONS)
async def test_what_the_bus_knows_is_seen(place: Place) -> None:
    """Topic, key, priority, times, id, place and headers."""
    client = place.client()
    topics = [place.topic("a"), place.topic("b")]
    begun = time.time()
    receipts = await published_in_many_ways(client, topics)
    sixth = receipts[6]
    later, earlier = iso(begun + 60), iso(begun - 60)
    questions: list[tuple[str, Callable[[Any], Any], list[int]]] = [
        (f"_topic = '{topics[1]}'", lambda m: m.topic == topics[1], [1, 3, 5, 7]),
        ("_topic LIKE '%/a'", lambda m: m.topic.endswith("/a"), [0, 2, 4, 6]),
        ("_key = 'k2'", lambda m: m.key == "k2", [1, 4, 7]),
        ("_key IS NULL", lambda m: m.key.is_null(), [2, 5]),
        ("_priority > 5", lambda m: m.priority > 5, [4, 5, 6, 7]),
        ("_priority = 'high'", lambda m: m.priority == "high", [4, 5, 6, 7]),
        (f"_published_at > '{earlier}'", lambda m: m.published_at > datetime.now(UTC) - timedelta(1), [*range(8)]),
        (f"_published_at >= '{later}'", lambda m: m.published_at >= time.time() + 60, []),
        (f"_expires_at > '{later}'", lambda m: m.expires_at > time.time() + 60, [2, 3, 6, 7]),
        ("_expires_at IS NULL", lambda m: m.expires_at == None, [0, 1, 4, 5]),  # noqa: E711
        ("_id = 'id-3'", lambda m: m.id == "id-3", [3]),
        ("_attempt = 1", lambda m: m.attempt == 1, [*range(8)]),
        ("headers.Lang = 'de'", lambda m: m.headers["Lang"] == "de", [1, 3, 5]),
        ("headers['odd name'] = '4'", lambda m: m.headers["odd name"] == "4", [4]),
        ("headers.Lang IS NULL", lambda m: m.headers["Lang"].is_null(), [6, 7]),
        (
            f"_partition = {sixth.partition} AND _offset = {sixth.offset} AND _topic LIKE '%/a' AND _priority = 8",
            lambda m: (m.partition == sixth.partition) & (m.offset == sixth.offset) & (m.id == "id-6"),
            [6],
        ),
        ("headers.Lang = 'de' AND _data > 2", lambda m: (m.headers["Lang"] == "de") & (m.data > 2), [3, 5]),
    ]  # fmt: skip
    for sql, function, expected in questions:
        for each in (sql, function):
            async with client.subscribe(topics, filter=each, from_beginning=True) as subscription:
                assert sorted(data(await subscription.fetch(8, timeout=0))) == expected, sql


@case(FILTERS)
async def test_conditions_on_headers_and_keys_wait_like_others(place: Place) -> None:
    """What comes while the subscriber waits is found by them, too."""
    client = place.client()
    filters: list[Any] = ["headers.lang = 'de'", "_key = 'k2'", lambda m: m.data.contains(7), "_data % 2 = 0"]
    filters += ["_data CONTAINS 'ell'", lambda m: m.data.contains("a"), "_data = 1.0"]
    subscriptions = [client.subscribe(place.topic(), filter=each) for each in filters]
    for subscription in subscriptions:
        assert await subscription.fetch(1, timeout=0) == []
    await client.publish(place.topic(), 1, headers={"lang": "en"}, partition_key="k1")
    await client.publish(place.topic(), 3, headers={"lang": "de"})
    await client.publish(place.topic(), 5, partition_key="k2")
    await client.publish(place.topic(), [7])
    await client.publish(place.topic(), 8)
    await client.publish(place.topic(), "hello")
    await client.publish(place.topic(), {"a": None})
    for subscription, expected in zip(subscriptions, (3, 5, [7], 8, "hello", {"a": None}, 1)):
        assert data(await take(subscription, 1)) == [expected]
        assert await subscription.fetch(1, timeout=0) == []


class Order(msgspec.Struct):
    """A type that the data is decoded into."""

    total: int
    note: str = "none"


@case(FILTERS)
async def test_a_filter_sees_the_data_as_it_was_published(place: Place) -> None:
    """Whatever type the subscriber has it decoded into, and however it was compressed; what does not match is never
    decoded into it."""
    client = place.client()
    async with client.subscribe(place.topic(), filter="note IS NULL AND total > 1", data_type=Order) as subscription:
        await client.publish(place.topic(), {"total": "no number"})
        await client.publish(place.topic(), Order(5, "a note"))
        await client.publish(place.topic(), {"total": 2, "text": "x" * 5000}, compression="gzip")
        await client.publish(place.topic(), {"total": 3})
        assert data(await take(subscription, 2)) == [Order(2), Order(3)]


@case(FILTERS, Capability.SCHEMA, Capability.COMPRESSION)
async def test_topics_with_a_schema_or_compression_are_filtered(place: Place) -> None:
    """As they are."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(schema="id INT NOT NULL, at TIMESTAMP", compression="zstd"))
    async with client.subscribe(place.topic(), filter=lambda m: m["id"] > 95) as subscription:
        await client.publish_batch(
            place.topic(), [{"id": number, "at": "2026-01-01T00:00:00Z"} for number in range(99)]
        )
        assert [message["id"] for message in await take(subscription, 3)] == [96, 97, 98]
