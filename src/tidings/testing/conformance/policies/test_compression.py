"""What compression is promised: whoever reads gets the data as it was, and it takes less room."""

from __future__ import annotations

from typing import Any

import pytest

from tidings import InvalidOption, MessageTooLarge, TopicOptions
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import expect_no_more, fill, manual, prepare
from tidings.testing.conformance.stage.place import SECONDS, Place, data, take
from tidings.testing.conformance.stage.worker import Worker

KINDS = ("lz4", "zstd", "gzip")

REDRIVE = (Capability.GROUPS, Capability.DEAD_LETTERS, Capability.TRANSACTIONS)
"""What it takes to send dead letters back."""

VALUES: list[Any] = [
    None,
    0,
    "",
    b"",
    "short",
    {"a": [1, 2.5, None, True], "ключ": "☃"},
    bytes(range(256)) * 8,
    "long text " * 20_000,
    [{"field": number} for number in range(2000)],
]
"""What travels: nothing, little, what does not get smaller, and what does."""


@pytest.mark.parametrize("kind", KINDS)
@case(Capability.COMPRESSION, Capability.REPLAY, Capability.GROUPS)
async def test_compressed_data_comes_back_as_it_went_in(place: Place, kind: str) -> None:
    """One by one and in a batch; live, from the beginning and in a group; between messages that are not compressed."""
    client = place.client()
    await prepare(place, client)
    async with client.subscribe(place.topic()) as live:
        for value in VALUES:
            await client.publish(place.topic(), value, compression=kind)
        await client.publish(place.topic(), "plain")
        await client.publish_batch(place.topic(), VALUES, compression=kind)
        wanted = [*VALUES, "plain", *VALUES]
        found = await take(live, len(wanted))
    async with (
        client.subscribe(place.topic(), from_beginning=True) as replay,
        manual(place, client) as group,
    ):
        again, theirs = await take(replay, len(wanted)), await take(group, len(wanted))
    for messages in (found, again, theirs):
        assert list(map(repr, data(messages))) == list(map(repr, wanted))
    assert found[5]["a"] == [1, 2.5, None, True]
    types = [message.content_type for message in found]
    assert types[: len(VALUES)] == types[len(VALUES) + 1 :]
    assert types[4] == types[len(VALUES)]


@pytest.mark.parametrize("kind", KINDS)
@case(Capability.COMPRESSION, Capability.OS_DURABILITY, Capability.OFFSETS)
async def test_it_takes_less_room(place: Place, kind: str) -> None:
    """Far less, for what repeats itself and is kept outside of the process."""
    client = place.client()
    value = "the same words again and again " * 5000
    for topic, compression in (("plain", None), ("small", kind)):
        await client.publish(place.topic(topic), value, compression=compression)
        await client.publish_batch(place.topic(topic), [value] * 3, compression=compression)
    plain, small = [await size(client, place.topic(topic)) for topic in ("plain", "small")]
    assert plain >= 4 * len(value)
    assert small < plain / 10


async def size(client: Any, topic: str) -> int:
    info = await client.describe_topic(topic)
    return sum(partition.bytes for partition in info.partitions)


@case(Capability.COMPRESSION, Capability.TOPICS)
async def test_a_topic_may_compress_by_itself(place: Place) -> None:
    """What is published without saying otherwise; a publish may choose another way."""
    client = place.client()
    value = "the same words again and again " * 5000
    for kind in KINDS:
        options = TopicOptions(compression=kind)
        await client.create_topic(place.topic(kind), options)
        async with client.subscribe(place.topic(kind)) as subscription:
            await client.publish(place.topic(kind), value)
            await client.publish_batch(place.topic(kind), [value, 7])
            await client.publish(place.topic(kind), value, compression="gzip")
            assert data(await take(subscription, 4)) == [value, value, 7, value]
        if Capability.OS_DURABILITY in place.subject.capabilities:
            assert await size(client, place.topic(kind)) < len(value)


@case(Capability.COMPRESSION)
async def test_the_limit_is_that_of_the_data(place: Place) -> None:
    """What is too large is refused however small it would become; the limit itself goes through."""
    client = place.client()
    limit = place.subject.max_message_bytes
    async with client.subscribe(place.topic()) as subscription:
        with pytest.raises(MessageTooLarge) as caught:
            await client.publish(place.topic(), bytes(limit + 1), compression="zstd")
        assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
        for kind in KINDS:
            await client.publish(place.topic(), bytes(limit), compression=kind)
            (message,) = await take(subscription, 1)
            assert message.data == bytes(limit)
        await expect_no_more(client, subscription, place.topic())


@case(Capability.PROCESSES, Capability.COMPRESSION)
async def test_another_process_reads_it(place: Place) -> None:
    """And writes it for others."""
    client = place.client()
    async with Worker(place.kind, place.url) as worker, client.subscribe(place.topic("back")) as back:
        await worker.ask("subscribe", place.topic())
        for number, kind in enumerate(KINDS):
            await client.publish(place.topic(), number, compression=kind)
            assert await worker.ask("take", 1, SECONDS) == [[number, 1]]
            await worker.ask("send", place.topic("back"), number, {"compression": kind})
        assert data(await take(back, 3)) == [0, 1, 2]


@case(Capability.COMPRESSION, Capability.DELAY, *REDRIVE)
async def test_it_survives_waiting_dying_and_being_sent_back(place: Place) -> None:
    """Compressed data that was delayed, given up and redriven is what it was."""
    client = place.client()
    await fill(place, client, [])
    value = {"text": "again " * 1000}
    await client.publish(place.topic(), value, compression="zstd", delay_seconds=0.02)
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        assert message.data == value
        await message.nack(requeue=False)
        (dead,) = await client.dead_letters(place.topic()).list()
        assert dead.message.data == value
        assert await client.dead_letters(place.topic()).redrive() == 1
        (message,) = await take(subscription, 1)
        assert message.data == value
        await message.ack()


@case()
async def test_what_is_no_compression_is_refused_by_name(place: Place) -> None:
    """Of a publish or a topic; nothing is stored, and no topic is made."""
    client = place.client()
    wrong: list[Any] = ["rar", "", "ZSTD", 3, True, b"gzip", ["gzip"]]
    async with client.subscribe(place.topic()) as subscription:
        for value in wrong:
            with pytest.raises(InvalidOption) as caught:
                await client.publish(place.topic(), 1, compression=value)
            assert caught.value.name == "compression"
            with pytest.raises(InvalidOption) as caught:
                await client.create_topic(place.topic("other"), TopicOptions(compression=value))
            assert caught.value.name == "compression"
        await client.publish(place.topic(), "sound")
        assert data(await take(subscription, 1)) == ["sound"]
    assert not await place.is_known(client, place.topic("other"))
