"""What schemas are promised: what does not fit is never stored, changes break nobody, and data comes typed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest
from msgspec import Struct

from tidings import AsyncClient, InvalidOption, TopicOptions
from tidings.errors import IncompatibleSchema, SchemaMismatch
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import expect_no_more, fill, manual, prepare, standing
from tidings.testing.conformance.stage.place import Place, data, take, until
from tidings.testing.conformance.stage.worker import Worker

ORDER = ["order_id STRING NOT NULL", "total FLOAT", "lines LIST<STRUCT<name STRING NOT NULL, count INT>>"]


@dataclass
class Line:
    """A part of an order."""

    name: str
    count: int | None = None


@dataclass
class Order:
    """The same as a class."""

    order_id: str
    total: float | None = None
    lines: list[Line] = field(default_factory=list)


class OrderStruct(Struct):
    """The same for msgspec, as far as a reader wants it."""

    order_id: str
    total: float | None = None


class OrderDict(TypedDict):
    """The same as a typed dict, as far as a reader wants it."""

    order_id: str


GOOD: list[Any] = [
    {"order_id": "a", "total": 1.5, "lines": [{"name": "tea", "count": 2}, {"name": "milk"}]},
    {"order_id": ""},
    {"order_id": "a", "total": None, "lines": None},
    {"order_id": "a", "total": 7},
    Order("b", 2.0, [Line("tea", 1)]),
]

BAD: list[tuple[Any, str]] = [
    ({}, ""),
    ({"order_id": None}, "order_id"),
    ({"order_id": 7}, "order_id"),
    ({"order_id": "a", "total": "1.5"}, "total"),
    ({"order_id": "a", "total": True}, "total"),
    ({"order_id": "a", "lines": {}}, "lines"),
    ({"order_id": "a", "lines": [{"name": "tea"}, {"name": "milk", "count": 1.5}]}, "lines[1].count"),
    ({"order_id": "a", "lines": [None]}, "lines[0]"),
    ({"order_id": "a", "more": 1}, ""),
    ([], ""),
    (None, ""),
    (7, ""),
    ("text", ""),
    (b"{}", ""),
]
"""What does not fit, and where it is wrong; an empty path where the whole is."""


async def with_schema(place: Place, client: AsyncClient, schema: Any = ORDER) -> None:
    await client.create_topic(place.topic(), TopicOptions(schema=schema))


@case(Capability.SCHEMA)
async def test_what_fits_is_stored(place: Place) -> None:
    """One by one, or in a batch; it comes back as it went in."""
    client = place.client()
    await with_schema(place, client)
    async with client.subscribe(place.topic()) as subscription:
        for value in GOOD:
            await client.publish(place.topic(), value)
        await client.publish_batch(place.topic(), GOOD)
        found = data(await take(subscription, 2 * len(GOOD)))
    assert found[: len(GOOD)] == found[len(GOOD) :]
    assert found[: len(GOOD) - 1] == GOOD[:-1]
    assert found[len(GOOD) - 1]["lines"] == [{"name": "tea", "count": 1}]


@case(Capability.SCHEMA)
async def test_what_does_not_fit_is_refused_whole(place: Place) -> None:
    """With the topic, the place in the data and the reason; nothing is stored, also of a batch with one of them."""
    client = place.client()
    await with_schema(place, client)
    async with client.subscribe(place.topic()) as subscription:
        for value, path in BAD:
            with pytest.raises(SchemaMismatch) as caught:
                await client.publish(place.topic(), value)
            error = caught.value
            assert error.topic == place.topic()
            assert error.reason
            if path:
                assert error.path == path, value
            with pytest.raises(SchemaMismatch):
                await client.publish_batch(place.topic(), [*GOOD, value], batch_size=100)
        assert (await client.describe_topic(place.topic())).messages == place.messages(0)
        await expect_no_more(client, subscription, place.topic(), GOOD[0])


@case(Capability.SCHEMA)
async def test_a_batch_with_one_that_does_not_fit_stores_nothing(place: Place) -> None:
    """Also of the parts that would have been stored before."""
    client = place.client()
    await with_schema(place, client)
    with pytest.raises(SchemaMismatch):
        await client.publish_batch(place.topic(), [*GOOD, {}], batch_size=1)
    assert (await client.describe_topic(place.topic())).messages == place.messages(0)


@case(Capability.SCHEMA)
@pytest.mark.parametrize("schema", [ORDER, ", ".join(ORDER), Order, {"order_id": "STRING", "total": float}])
async def test_a_schema_may_be_given_in_many_forms(place: Place, schema: Any) -> None:
    """As lines of text, as a class, or as names with types; it is shown as text, from which it can be made again."""
    client = place.client()
    await with_schema(place, client, schema)
    shown = (await client.describe_topic(place.topic())).options.schema
    assert isinstance(shown, str)
    assert "order_id" in shown
    assert "total" in shown
    await client.create_topic(place.topic(), TopicOptions(schema=shown))
    await client.create_topic(place.topic("again"), TopicOptions(schema=shown))
    for topic in ("topic", "again"):
        await client.publish(place.topic(topic), {"order_id": "a", "total": 1.5})
        with pytest.raises(SchemaMismatch):
            await client.publish(place.topic(topic), {"order_id": "a", "total": "much"})


@case(Capability.SCHEMA, Capability.ALTER)
async def test_a_change_that_breaks_nobody_is_made(place: Place) -> None:
    """A column that may be missing, a type that takes more; each version is kept, with its number."""
    client, other = place.client(), place.client()
    await with_schema(place, client, "id INT NOT NULL, note STRING NOT NULL")
    await client.publish(place.topic(), {"id": 1, "note": "x"})
    changes = ["id INT NOT NULL, note STRING", "id FLOAT NOT NULL, note STRING, more LIST<INT>"]
    for schema in changes:
        assert (await client.alter_topic(place.topic(), schema=schema)).options.schema == schema
    await other.publish(place.topic(), {"id": 1.5, "more": [1, 2]})
    versions = (await other.describe_topic(place.topic())).schemas
    assert [each.version for each in versions] == [1, 2, 3]
    assert [each.schema for each in versions] == ["id INT NOT NULL, note STRING NOT NULL", *changes]
    assert [each.since for each in versions] == sorted(each.since for each in versions)


@case(Capability.SCHEMA, Capability.ALTER, Capability.REPLAY)
async def test_a_change_that_breaks_somebody_is_refused(place: Place) -> None:
    """`IncompatibleSchema` says what would break, and nothing is changed; with `force` it is made all the same."""
    client = place.client()
    await with_schema(place, client, "id INT NOT NULL, note STRING")
    await client.publish(place.topic(), {"id": 1, "note": "x"})
    breaking = [
        ("id INT NOT NULL", "note"),
        ("id STRING NOT NULL, note STRING", "id"),
        ("id INT NOT NULL, note STRING NOT NULL", "note"),
        ("id INT NOT NULL, note STRING, more INT NOT NULL", "more"),
        (None, "schema"),
    ]
    for schema, name in breaking:
        with pytest.raises(IncompatibleSchema) as caught:
            await client.alter_topic(place.topic(), schema=schema)
        assert caught.value.topic == place.topic()
        assert name in caught.value.difference
    info = await client.describe_topic(place.topic())
    assert info.options.schema == "id INT NOT NULL, note STRING"
    assert len(info.schemas) == 1
    await client.publish(place.topic(), {"id": 2, "note": "y"})
    await client.alter_topic(place.topic(), force=True, schema="id STRING NOT NULL")
    await client.publish(place.topic(), {"id": "3"})
    await client.alter_topic(place.topic(), force=True, schema=None)
    await client.publish(place.topic(), "anything")
    async with client.subscribe(place.topic(), from_beginning=True) as subscription:
        wanted = [{"id": 1, "note": "x"}, {"id": 2, "note": "y"}, {"id": "3"}, "anything"]
        assert data(await take(subscription, 4)) == wanted


@case(Capability.SCHEMA, Capability.ALTER, Capability.OFFSETS)
async def test_a_topic_may_get_its_schema_later(place: Place) -> None:
    """While it is empty; with messages of any kind in it only by force."""
    client = place.client()
    await client.create_topic(place.topic())
    await client.alter_topic(place.topic(), schema="id INT")
    with pytest.raises(SchemaMismatch):
        await client.publish(place.topic(), "text")
    await client.publish(place.topic("used"), "text")
    with pytest.raises(IncompatibleSchema):
        await client.alter_topic(place.topic("used"), schema="id INT")
    await client.publish(place.topic("used"), "text")
    await client.alter_topic(place.topic("used"), force=True, schema="id INT")
    with pytest.raises(SchemaMismatch):
        await client.publish(place.topic("used"), "text")


@case(Capability.PROCESSES, Capability.SCHEMA, Capability.ALTER, Capability.OFFSETS)
async def test_a_schema_holds_in_all_processes(place: Place) -> None:
    """Also in one that published before it was there, from the moment that it is."""
    client = place.client()
    async with Worker(place.kind, place.url) as worker:
        assert await worker.ask("publish", place.topic(), 0, 1) == place.offsets([0])
        await client.alter_topic(place.topic(), force=True, schema="id INT")
        assert await worker.ask("publish", place.topic(), 0, 1) == {"error": "SchemaMismatch"}
        await client.alter_topic(place.topic(), force=True, schema=None)
        assert await worker.ask("publish", place.topic(), 0, 1) == [1]


@case(Capability.SCHEMA, Capability.GROUPS, Capability.TRANSACTIONS)
async def test_a_transaction_keeps_to_the_schema(place: Place) -> None:
    """What does not fit undoes it, at the latest at its end."""
    client = place.client()
    await fill(place, client, ["in"])
    await client.create_topic(place.topic("out"), TopicOptions(schema="id INT NOT NULL"))
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        with pytest.raises(SchemaMismatch):
            await publish_in(message, place.topic("out"), [{"id": 1}, {"id": "x"}])
        assert (await client.describe_topic(place.topic("out"))).messages == place.messages(0)
        assert (await standing(place, client)).lag == 1
        await publish_in(message, place.topic("out"), [{"id": 1}])
        assert (await client.describe_topic(place.topic("out"))).messages == place.messages(1)
        assert (await standing(place, client)).lag == 0


async def publish_in(message: Any, topic: str, values: list[Any]) -> None:
    async with message.transaction() as transaction:
        for value in values:
            await transaction.publish(topic, value)
        await transaction.ack()


@case(Capability.SCHEMA, Capability.DELAY)
async def test_what_is_delayed_is_looked_at_when_it_is_published(place: Place) -> None:
    """The publisher hears of it, and not whoever reads."""
    client = place.client()
    await with_schema(place, client, "id INT NOT NULL")
    async with client.subscribe(place.topic()) as subscription:
        with pytest.raises(SchemaMismatch):
            await client.publish(place.topic(), {"id": "x"}, delay_seconds=0.01)
        await client.publish(place.topic(), {"id": 1}, delay_seconds=0.02)
        assert data(await take(subscription, 1)) == [{"id": 1}]
        await expect_no_more(client, subscription, place.topic(), {"id": 2})


@case(Capability.SCHEMA)
async def test_what_is_no_schema_is_refused_by_name(place: Place) -> None:
    """And no topic is made."""
    client = place.client()
    wrong: list[Any] = ["", "id", "id BIG", "id INT, id INT", [], {}, 7, int, "id LIST<", {"id": 7}]
    for schema in wrong:
        with pytest.raises(InvalidOption) as caught:
            await client.create_topic(place.topic(), TopicOptions(schema=schema))
        assert caught.value.name == "schema", schema
    assert place.topic() not in [info.name for info in await client.topics()]


@case()
async def test_data_may_come_typed(place: Place) -> None:
    """As a dataclass, a Struct or a TypedDict, to whoever asks; others get it as it is."""
    client = place.client()
    value = {"order_id": "a", "total": 1.5, "lines": [{"name": "tea", "count": 2}]}
    types: list[tuple[Any, Any]] = [
        (Order, Order("a", 1.5, [Line("tea", 2)])),
        (OrderStruct, OrderStruct("a", 1.5)),
        (None, value),
    ]
    for data_type, wanted in types:
        async with client.subscribe(place.topic(), data_type=data_type) as subscription:
            await client.publish(place.topic(), value)
            (message,) = await take(subscription, 1)
            assert message.data == wanted
            assert message["order_id"] == "a"
    async with client.subscribe(place.topic(), data_type=OrderDict) as subscription:
        await client.publish(place.topic(), {"order_id": "b"})
        (message,) = await take(subscription, 1)
        assert message.data == {"order_id": "b"}


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_data_that_is_of_another_type_is_told(place: Place) -> None:
    """When it is looked at; the message can be given up, and what comes behind it is read."""
    client = place.client()
    await fill(place, client, [{"order_id": 7}, "text", {"order_id": "a"}])
    async with manual(place, client, data_type=OrderStruct) as subscription:
        for message in await take(subscription, 2):
            with pytest.raises(SchemaMismatch) as caught:
                _ = message.data
            assert caught.value.topic == place.topic()
            await message.nack(requeue=False, reason=str(caught.value))
        (message,) = await take(subscription, 1)
        assert message.data == OrderStruct("a")
        await message.ack()
    assert (await standing(place, client)).dead == 2


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_a_listener_gets_typed_data(place: Place) -> None:
    """Its handler's data is the object; a message of another type is a failure of that message alone."""
    client = place.client()
    await prepare(place, client, max_retries=0)
    seen: list[Any] = []
    listener = await client.listen(
        place.topic(), lambda topic, order: seen.append(order), consumer_group=place.group(), data_type=OrderStruct
    )
    await client.publish_batch(place.topic(), ["text", {"order_id": "a"}])
    await until(lambda: seen)
    await listener.stop()
    assert seen == [OrderStruct("a")]
    found = await standing(place, client)
    assert (found.acked, found.dead) == (1, 1)


@case()
async def test_what_is_no_type_is_refused_by_name(place: Place) -> None:
    """When the subscription is asked for."""
    client = place.client()
    wrong: list[Any] = [7, "Order", object()]
    for data_type in wrong:
        with pytest.raises(InvalidOption) as caught:
            client.subscribe(place.topic(), data_type=data_type)
        assert caught.value.name == "data_type"
