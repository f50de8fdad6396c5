"""The SYSTEM tables: their columns, each with the figure it is named after."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.client.tables.reading import NOON, ask, message, topic
from tidings.client.tables.columns import KINDS
from tidings.client.tables.database import Content
from tidings.client.tables.snapshots import (
    SYSTEM_TABLES,
    Consumer,
    Dead,
    Subscriber,
    TopicState,
    described,
    shown,
)
from tidings.model.dead_letter import bury, story_of
from tidings.model.message import Message, StoredRecord
from tidings.model.options import TopicOptions
from tidings.spi import ConsumerInfo, GroupInfo, SubscriberInfo, TopicStatistics

CONSUMER = ConsumerInfo("w1", 42, 3)

GROUP = GroupInfo(
    group="billing",
    topic="orders",
    lag=1,
    held=2,
    retrying=3,
    acked=4,
    dead=5,
    expired=6,
    skipped=7,
    filtered=8,
    redelivered=9,
    failed=10,
    lag_seconds=11.5,
    consumers=(CONSUMER,),
    filter="total > 40",
)

SUBSCRIBER = SubscriberInfo("w1", "billing", 42, NOON, 1, 2.5, NOON + 1)

STATISTICS = TopicStatistics(
    topic="orders",
    window=60,
    published=1,
    consumed=2,
    pending=3,
    scheduled=4,
    expired=5,
    dead=6,
    skipped=7,
    redelivered=8,
    lag_seconds=9.5,
    publish_rate=10.5,
    consume_rate=11.5,
    error_rate=0.5,
    subscribers=(SUBSCRIBER,),
    groups=(GROUP,),
)


def dead() -> Dead:
    lived = message("orders", 7, {"a": 1}, partition=2, key="k", headers={"x": "y"})
    record = bury(lived, "billing", "no good", "Boom", 3, NOON + 60)
    letter = Message(StoredRecord(*msgspec.structs.astuple(record)), "dead-letters/orders", 0, 0, NOON + 60, 1, 0, 8)
    story = story_of(letter)
    assert story is not None
    return Dead(letter, story)


OPTIONS = TopicOptions(max_retries=3, schema="a INT")

THINGS: dict[str, Any] = {
    "topics": TopicState(msgspec.structs.replace(topic("orders", 5, 6), options=OPTIONS), STATISTICS),
    "subscribers": Subscriber("orders", SUBSCRIBER),
    "groups": GROUP,
    "consumers": Consumer(GROUP, CONSUMER),
    "dead_letters": dead(),
}

ROWS: dict[str, dict[str, Any]] = {
    "topics": {
        "topic_name": "orders",
        "messages_published": 1,
        "messages_consumed": 2,
        "pending_messages": 3,
        "subscriber_count": 1,
        "publish_rate": 10.5,
        "consume_rate": 11.5,
        "error_rate": 0.5,
        "messages": 11,
        "bytes": 110,
        "partitions": 2,
        "scheduled_messages": 4,
        "expired_messages": 5,
        "dead_messages": 6,
        "skipped_messages": 7,
        "redelivered_messages": 8,
        "lag_seconds": 9.5,
        "delivery": "at_least_once",
        "schema": "a INT",
    },
    "subscribers": {
        "subscriber_id": "w1",
        "topic_name": "orders",
        "group_name": "billing",
        "pid": 42,
        "since": "2027-01-15 08:00:00.000000",
        "lag_messages": 1,
        "lag_seconds": 2.5,
        "last_message_time": "2027-01-15 08:00:01.000000",
    },
    "groups": {
        "group_name": "billing",
        "topic_name": "orders",
        "lag_messages": 1,
        "lag_seconds": 11.5,
        "held_messages": 2,
        "retrying_messages": 3,
        "acked_messages": 4,
        "dead_messages": 5,
        "expired_messages": 6,
        "skipped_messages": 7,
        "filtered_messages": 8,
        "redelivered_messages": 9,
        "failed_messages": 10,
        "consumers": 1,
        "filter": "total > 40",
    },
    "consumers": {
        "consumer_id": "w1",
        "group_name": "billing",
        "topic_name": "orders",
        "pid": 42,
        "held_messages": 3,
    },
    "dead_letters": {
        "message_id": "orders-2-7",
        "dead_letter_topic": "dead-letters/orders",
        "topic_name": "orders",
        "partition": 2,
        "offset": 7,
        "group_name": "billing",
        "reason": "no good",
        "error": "Boom",
        "attempts": 3,
        "published_at": "2027-01-15 08:00:07.000000",
        "died_at": "2027-01-15 08:01:00.000000",
        "key": "k",
        "priority": 8,
        "headers": '{"x":"y"}',
        "data": '{"a":1}',
    },
}


def read(name: str, things: list[Any], columns: str = "*") -> list[dict[str, Any]]:
    content = Content(snapshots={name: SYSTEM_TABLES[name].rows(things)})
    return ask(f"SELECT {columns} FROM system.{name}", content).dicts()


@pytest.mark.parametrize("name", SYSTEM_TABLES)
def test_rows(name: str) -> None:
    (row,) = read(name, [THINGS[name]])
    options = row.pop("options", None)
    assert row == ROWS[name]
    if options is not None:
        assert msgspec.json.decode(options)["max_retries"] == 3
        assert "schema" not in options


@pytest.mark.parametrize("name", SYSTEM_TABLES)
def test_no_rows(name: str) -> None:
    assert read(name, []) == []


@pytest.mark.parametrize("name", SYSTEM_TABLES)
def test_every_table_and_column_is_explained(name: str) -> None:
    table = SYSTEM_TABLES[name]
    assert table.doc.endswith(".")
    assert all(len(column.doc) > 5 and column.doc.endswith(".") for column in table.columns)
    assert {column.kind for column in table.columns} <= KINDS.keys()
    assert len(set(table.names)) == len(table.names)


def test_times_compare_in_any_writing() -> None:
    content = Content(snapshots={"subscribers": SYSTEM_TABLES["subscribers"].rows([THINGS["subscribers"]])})
    text = "SELECT pid FROM SYSTEM.subscribers WHERE since = '2027-01-15T10:00:00+02:00' AND last_message_time > since"
    assert ask(text, content).rows == [(42,)]


def test_what_is_not_known_is_null() -> None:
    lonely = msgspec.structs.replace(SUBSCRIBER, group=None, last_message_time=None)
    (row,) = read("subscribers", [Subscriber("orders", lonely)])
    assert (row["group_name"], row["last_message_time"]) == (None, None)
    nobody = msgspec.structs.replace(THINGS["dead_letters"].story, group="")
    assert read("dead_letters", [Dead(THINGS["dead_letters"].message, nobody)], "group_name") == [{"group_name": None}]


def test_what_a_broker_does_not_count_is_null() -> None:
    (row,) = shown("groups", SYSTEM_TABLES["groups"].names, [GroupInfo(group="billing", topic="orders", lag=3)])
    found = dict(zip(SYSTEM_TABLES["groups"].names, row, strict=True))
    assert {name for name, value in found.items() if value is not None} == {
        "group_name",
        "topic_name",
        "lag_messages",
        "consumers",
    }
    assert found["lag_messages"] == 3


def test_shown() -> None:
    table = shown("groups", ("group_name", "lag_messages"), [GROUP])
    assert (table.columns, table.rows) == (("group_name", "lag_messages"), [("billing", 1)])
    names = ("topic_name", "messages", "bytes", "partitions", "delivery", "schema")
    assert shown("topics", names, [TopicState(topic("a", 1))]).rows == [("a", 1, 10, 1, "at_least_once", None)]


def test_described() -> None:
    told = dict(described(topic("a", 3)).rows)
    assert (told["topic_name"], told["messages"], told["max_retries"]) == ("a", 3, 10)
    assert told.keys() >= set(TopicOptions.__struct_fields__)
    assert type(told["delivery"]) is str
