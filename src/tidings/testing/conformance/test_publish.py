"""What a publisher is promised: data comes back as it went in, receipts tell the truth, a refusal stores nothing."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidings import Durability, InvalidOption, InvalidTopic, MessageTooLarge, TopicOptions, UnencodableData, UsageError
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.place import Place, data, expect_nothing, take

VALUES: list[Any] = [
    0,
    True,
    False,
    None,
    -1,
    1.5,
    5e-324,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    "",
    "naïve ☃ \N{GRINNING FACE}\r\n\0",
    b"",
    bytes(range(256)),
    [],
    {},
    [0, True, None, "", [[]], {"a": {"b": [1.5, -2]}}],
    {"": 0, "ключ": "значение", "nested": {"deep": [{"er": None}]}},
]

NESTED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@dataclass
class Order:
    """A typed object."""

    number: int
    lines: list[str]


@case()
async def test_data_comes_back_as_it_went_in(place: Place) -> None:
    """Value and type: 0 stays 0, True stays True, text is text and bytes are bytes."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        for value in VALUES:
            await client.publish(place.topic(), value)
        found = data(await take(subscription, len(VALUES)))
    assert list(map(repr, found)) == list(map(repr, VALUES))


@settings(max_examples=15, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(NESTED | st.binary(), min_size=1, max_size=20))
@case()
async def test_whatever_can_travel_arrives(place: Place, values: list[Any]) -> None:
    """Any nesting of JSON's values, any text and any bytes arrive as they were, in order."""
    place.fork()
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        await client.publish_batch(place.topic(), values)
        found = data(await take(subscription, len(values)))
    assert list(map(repr, found)) == list(map(repr, values))


@case()
async def test_typed_objects_arrive_as_their_fields(place: Place) -> None:
    """A dataclass travels as the JSON of its fields, and `message[field]` reads one of them."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        await client.publish(place.topic(), Order(7, ["tea"]))
        (message,) = await take(subscription, 1)
    assert message.data == {"number": 7, "lines": ["tea"]}
    assert message["number"] == 7
    assert message.content_type == "application/json"


@case()
async def test_metadata_comes_along(place: Place) -> None:
    """Id, headers, key, topic and time of a message arrive as they were given."""
    client = place.client()
    headers = {"source": "web", "Ünïcode": "☃", "empty": ""}
    async with client.subscribe(place.topic()) as subscription:
        before = time.time()
        await client.publish(place.topic(), b"x", headers=headers, partition_key="user 1", message_id="id-1")
        await client.publish(place.topic(), "y")
        dressed, plain = await take(subscription, 2)
    assert (dressed.id, dressed.key, dict(dressed.headers)) == ("id-1", "user 1", headers)
    assert (dressed.topic, dressed.attempt) == (place.topic(), 1)
    assert before - 1 <= dressed.published_at <= time.time() + 1
    assert (plain.key, dict(plain.headers)) == (None, {})
    assert plain.id != dressed.id


@case()
async def test_a_receipt_says_where_the_message_is(place: Place) -> None:
    """Offsets of a partition are 0, 1, 2, ids are the messages' own, the durability is the default or above."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        receipts = [await client.publish(place.topic(), number) for number in range(5)]
        receipts += await client.publish_batch(place.topic(), range(5, 12), batch_size=3)
        found = await take(subscription, 12)
    assert [receipt.offset for receipt in receipts] == place.offsets(range(12))
    assert [receipt.message_id for receipt in receipts] == [message.id for message in found]
    assert [receipt.offset for receipt in receipts] == [message.offset for message in found]
    assert len({receipt.message_id for receipt in receipts}) == 12
    assert {(receipt.topic, receipt.partition) for receipt in receipts} == {(place.topic(), 0)}
    levels = {receipt.durability for receipt in receipts}
    assert len(levels) == 1
    assert [*Durability].index(levels.pop()) >= [*Durability].index(place.subject.default_durability)


@case()
async def test_a_batch_arrives_whole_and_in_order(place: Place) -> None:
    """However it is parted for storing, `publish_batch` keeps the order, and an empty one is nothing."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        assert await client.publish_batch(place.topic(), []) == []
        receipts = await client.publish_batch(place.topic(), iter(range(1000)), batch_size=64)
        found = await take(subscription, 1000)
        await expect_nothing(subscription)
    assert len(receipts) == 1000
    assert data(found) == list(range(1000))


@case(Capability.PARTITIONS)
async def test_equal_keys_share_a_partition_in_order(place: Place) -> None:
    """Messages with one key go to one partition, whoever publishes them, and arrive in order."""
    clients = [place.client(), place.client()]
    await clients[0].create_topic(place.topic(), TopicOptions(partitions=4))
    keys = [f"key{number}" for number in range(20)]
    async with clients[0].subscribe(place.topic()) as subscription:
        for turn in range(6):
            for key in keys:
                await clients[turn % 2].publish(place.topic(), turn, partition_key=key)
        found = await take(subscription, 6 * len(keys))
    for key in keys:
        assert [message.data for message in found if message.key == key] == list(range(6))
        assert len({message.partition for message in found if message.key == key}) == 1
    assert {message.partition for message in found} == set(range(4))


@case()
async def test_concurrent_publishers_lose_nothing(place: Place) -> None:
    """Many tasks and several clients on one topic: everything arrives once, each publisher's in its order."""
    clients = [place.client() for _ in range(3)]

    async def publish(who: int) -> list[int]:
        client = clients[who % 3]
        return [(await client.publish(place.topic(), [who, number])).offset for number in range(15)]

    async with clients[0].subscribe(place.topic()) as subscription:
        offsets = await asyncio.gather(*map(publish, range(12)))
        found = data(await take(subscription, 12 * 15))
        await expect_nothing(subscription)
    assert sorted(itertools.chain(*offsets)) == place.offsets(range(12 * 15))
    for who in range(12):
        assert [number for publisher, number in found if publisher == who] == list(range(15))


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@case()
async def test_what_cannot_travel_is_refused_whole(place: Place) -> None:
    """Unencodable data, NaN, bad headers, keys and ids raise a typed error, and nothing is stored."""
    client = place.client()
    unencodable = [object(), math.nan, [1.0, -math.inf], "\ud800", CIRCLE, {"x": object()}]
    headers: list[Any] = [{"a": 1}, {1: "a"}, {"": "a"}, {"a": "b\r\nc"}, {"a": "x" * 10_000}]
    async with client.subscribe(place.topic()) as subscription:
        for value in unencodable:
            with pytest.raises(UnencodableData):
                await client.publish(place.topic(), value)
            with pytest.raises(UnencodableData):
                await client.publish_batch(place.topic(), [1, value, 2], batch_size=1)
        for each in headers:
            with pytest.raises(UnencodableData):
                await client.publish(place.topic(), 1, headers=each)
        wrong: dict[str, Any]
        for wrong in ({"partition_key": 1}, {"partition_key": "k" * 2000}, {"message_id": ""}, {"durability": "?"}):
            with pytest.raises(InvalidOption):
                await client.publish(place.topic(), 1, **wrong)
        await expect_nothing(subscription)
        assert [(await client.publish(place.topic(), "sound")).offset] == place.offsets([0])


@case()
async def test_what_is_too_large_is_refused_whole(place: Place) -> None:
    """The limit itself goes through, one byte more raises `MessageTooLarge` with both numbers."""
    client = place.client()
    limit = place.subject.max_message_bytes
    async with client.subscribe(place.topic()) as subscription:
        with pytest.raises(MessageTooLarge) as caught:
            await client.publish_batch(place.topic(), [b"", bytes(limit + 1)])
        assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
        await client.publish(place.topic(), bytes(limit))
        (found,) = await take(subscription, 1)
        await expect_nothing(subscription)
    assert found.data == bytes(limit)


@case()
@pytest.mark.parametrize("name", ["", " a", "a//b", "/a", "a.", "a/*", "a.#", "a\nb", "x" * 300, 7, None, ["a"]])
async def test_what_is_no_topic_name_is_refused(place: Place, name: Any) -> None:
    """A bad topic raises `InvalidTopic` from every call that takes one."""
    client = place.client()
    with pytest.raises(InvalidTopic):
        await client.publish(name, 1)
    with pytest.raises(InvalidTopic):
        await client.publish_batch(name, [1])
    with pytest.raises(InvalidTopic):
        await client.create_topic(name)
    with pytest.raises(UsageError):
        await client.describe_topic(name)
