"""What the client makes of its arguments, and how it lets go: against an engine that tells what it was asked."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.client.conftest import Bus
from tests.client.fakes import FakeEngine, nothing
from tidings import (
    AsyncClient,
    Closed,
    Durability,
    InvalidOption,
    Message,
    MessageTooLarge,
    TopicOptions,
    UsageError,
)
from tidings.errors import EngineError, InvalidTopic, SchemaMismatch, StorageFull, UnsupportedFeature
from tidings.model.capability import Capability
from tidings.model.compression import Compression
from tidings.model.options import MAX_BATCH_MESSAGES, MAX_PREFETCH, PublishOptions

# -- publishing


async def test_publish_asks_for_one_record_at_the_right_level(client: AsyncClient, engine: FakeEngine) -> None:
    receipt = await client.publish("a", [1], partition_key="k", headers={"h": "v"}, message_id="id")
    await client.publish("b", 2, durability="disk")
    (topic, (record,), options), (_, _, other) = engine.published
    assert (topic, record.data, record.key, record.headers, record.id) == ("a", b"[1]", "k", {"h": "v"}, "id")
    assert (options, other) == (PublishOptions(engine.default_durability), PublishOptions(Durability.DISK))
    assert (receipt.message_id, receipt.topic) == ("id", "a")


async def test_a_batch_is_stored_in_parts_and_in_order(client: AsyncClient, engine: FakeEngine) -> None:
    receipts = await client.publish_batch("a", iter(range(5)), batch_size=2, headers={"h": "v"})
    assert [[record.data for record in part] for _, part, _ in engine.published] == [[b"0", b"1"], [b"2", b"3"], [b"4"]]
    stored = [record for _, part, _ in engine.published for record in part]
    assert [receipt.message_id for receipt in receipts] == [record.id for record in stored]
    assert all(record.headers == {"h": "v"} for record in stored)


@pytest.mark.parametrize(
    ("messages", "options", "clue"),
    [
        ([1, object()], {}, "^data: object"),
        ([1, b"x" * 101], {}, "101 bytes encoded, the limit is 100"),
        ([1], {"batch_size": 0}, "^batch_size="),
        ([1], {"batch_size": MAX_BATCH_MESSAGES + 1}, "^batch_size="),
        ([1], {"durability": "fsync"}, "^durability="),
        ([1], {"partition_key": ""}, "^partition_key="),
        ([1], {"headers": {"a": 1}}, "^headers"),
    ],
)
async def test_a_refused_batch_names_the_argument_and_stores_nothing(
    client: AsyncClient, engine: FakeEngine, messages: list[Any], options: dict[str, Any], clue: str
) -> None:
    with pytest.raises(UsageError, match=clue):
        await client.publish_batch("a", messages, **options)
    with pytest.raises(InvalidTopic):
        await client.publish_batch("a//b", [1])
    assert engine.published == []


async def test_a_batch_that_fails_in_the_middle_says_how_far_it_came(client: AsyncClient, engine: FakeEngine) -> None:
    engine.failures.extend([None, StorageFull("no room")])
    with pytest.raises(StorageFull, match="no room") as told:
        await client.publish_batch("a", range(5), batch_size=2)
    assert told.value.__notes__ == ["2 of 5 messages of this publish_batch were stored before"]
    assert len(engine.published) == 1


async def test_the_limit_is_the_engine_s(client: AsyncClient, engine: FakeEngine) -> None:
    await client.publish("a", b"x" * 100)
    with pytest.raises(MessageTooLarge):
        await client.publish("a", b"x" * 101)
    engine.max_message_bytes = 1000
    await client.publish("a", b"x" * 101)
    assert [len(part[0].data) for _, part, _ in engine.published] == [100, 101]


@pytest.mark.parametrize(
    "terms",
    [
        {"priority": "urgent"},
        {"ttl_seconds": -1},
        {"ttl_seconds": 0},
        {"delay_seconds": "soon"},
        {"delay_seconds": -1},
        {"deliver_at": "soon"},
        {"compression": "rar"},
        {"compression": ""},
        {"durability": "fsync"},
    ],
)
async def test_bad_terms_are_told_by_name(client: AsyncClient, engine: FakeEngine, terms: dict[str, Any]) -> None:
    """Each alone, by all three ways of publishing; nothing is stored."""
    (name,) = terms
    engine.feed.put(0)
    subscription = client.subscribe("b", consumer_group="g", auto_ack=False)
    (message,) = await subscription.fetch(1)
    async with message.transaction() as transaction:
        for call in (client.publish("a", 1, **terms), client.publish_batch("a", [1], **terms)):
            with pytest.raises(InvalidOption, match=f"^{name}="):
                await call
        with pytest.raises(InvalidOption, match=f"^{name}="):
            await transaction.publish("a", 1, **terms)
    assert (engine.published, engine.feed.commits) == ([], [])


async def test_the_terms_reach_the_engine(client: AsyncClient, engine: FakeEngine) -> None:
    """By one and by many, the same."""
    now = engine.hands.now()
    terms: dict[str, Any] = {"priority": 9, "ttl_seconds": 5, "delay_seconds": 60, "compression": "lz4"}
    await client.publish("a", 1, durability="disk", **terms)
    await client.publish_batch("a", [1, 2], durability="disk", **terms)
    at = datetime.fromtimestamp(now + 60, UTC)
    await client.publish("a", 1, deliver_at=at, priority=9, ttl_seconds=5, compression="lz4", durability="disk")
    for _, records, options in engine.published:
        assert options == PublishOptions(Durability.DISK, 9, now + 60, Compression.LZ4)
        assert [record.expires_at for record in records] == [now + 65] * len(records)


async def test_one_term_alone_is_enough(client: AsyncClient, engine: FakeEngine) -> None:
    """None of them is taken for a plain publish."""
    terms: list[dict[str, Any]] = [{"priority": 0}, {"ttl_seconds": 1}, {"delay_seconds": 1}, {"compression": "gzip"}]
    for each in terms:
        await client.publish("a", 1, **each)
    plain = PublishOptions(engine.default_durability)
    seen = [(options != plain, records[0].expires_at is not None) for _, records, options in engine.published]
    assert seen == [(True, False), (False, True), (True, False), (True, False)]
    await client.publish("a", 1, priority=5, delay_seconds=0)
    assert engine.published[-1][2] == plain


async def test_a_batch_is_admitted_as_a_whole(client: AsyncClient, engine: FakeEngine) -> None:
    """When it is stored in parts: a message that does not fit must not leave the parts before it behind."""
    await client.publish_batch("a", range(2), batch_size=2)
    assert engine.admitted == []
    engine.refusal = SchemaMismatch("a", "", "the last one")
    with pytest.raises(SchemaMismatch):
        await client.publish_batch("a", range(3), batch_size=2)
    assert [(topic, len(records)) for topic, records in engine.admitted] == [("a", 3)]
    assert len(engine.published) == 1
    engine.capabilities -= {Capability.SCHEMA}
    await client.publish_batch("a", range(3), batch_size=2)
    assert len(engine.admitted) == 1


async def test_a_batch_has_ids_of_its_own(client: AsyncClient, engine: FakeEngine) -> None:
    receipts = await client.publish_batch("a", range(3), batch_size=2, message_ids=["x", "y", "z"])
    assert [receipt.message_id for receipt in receipts] == ["x", "y", "z"]
    wrong: list[dict[str, Any]] = [{"message_ids": ["x"]}, {"message_id": "x"}, {"prioritty": "high"}]
    for options in wrong:
        with pytest.raises(InvalidOption, match=f"^{next(iter(options))}="):
            await client.publish_batch("a", range(3), **options)
    assert len(engine.published) == 2


async def test_what_is_to_be_delivered_later_does_not_linger(engine: FakeEngine) -> None:
    """It waits anyway, and is not stored by an append that could be shared."""
    async with AsyncClient("fake:", linger_seconds=0.01) as client:
        await asyncio.gather(*[client.publish("a", number, delay_seconds=5) for number in range(2)])
        await asyncio.gather(*[client.publish("a", number) for number in range(2)])
    assert [len(records) for _, records, _ in engine.published] == [1, 1, 2]


# -- subscribing


async def test_subscribe_says_what_it_wants(client: AsyncClient, engine: FakeEngine) -> None:
    async with client.subscribe(["a", "b/*"], consumer_group="g", consumer_id="me", from_offset=7, prefetch=3):
        spec = engine.specs[0]
    assert [str(pattern) for pattern in spec.patterns] == ["a", "b/*"]
    assert (spec.group, spec.consumer, spec.start, spec.prefetch) == ("g", "me", 7, 3)
    async with client.subscribe("a"), client.subscribe("a"):
        _, one, other = engine.specs
    assert (one.group, one.start) == (None, "end")
    assert one.consumer != other.consumer


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"prefetch": 0}, "prefetch"),
        ({"prefetch": MAX_PREFETCH + 1}, "prefetch"),
        ({"prefetch": "9"}, "prefetch"),
        ({"consumer_group": ""}, "consumer_group"),
        ({"consumer_group": " g"}, "consumer_group"),
        ({"consumer_group": 5}, "consumer_group"),
        ({"consumer_id": "c\n"}, "consumer_id"),
        ({"from_offset": -1}, "from_offset"),
        ({"from_offset": True}, "from_offset"),
        ({"from_offset": 1, "from_beginning": True}, "from_offset"),
        ({"since": timedelta(1), "from_offset": 1}, "from_offset"),
        ({"since": 123.0}, "since"),
        ({"partition": -1}, "partition"),
        ({"partition": 256}, "partition"),
        ({"partition": "0"}, "partition"),
        ({"partition": []}, "partition"),
        ({"partition": [0, "1"]}, "partition"),
        ({"partition": True}, "partition"),
        ({"partition": 1.5}, "partition"),
        ({"partition_key_filter": ""}, "partition_key_filter"),
        ({"partition_key_filter": 7}, "partition_key_filter"),
        ({"data_type": "Order"}, "data_type"),
    ],
)
async def test_a_bad_subscription_names_the_argument(
    client: AsyncClient, engine: FakeEngine, options: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidOption) as told:
        client.subscribe("a", **options)
    assert told.value.name == name
    with pytest.raises(InvalidOption):
        await client.listen("a", print, **options)
    assert engine.specs == []


async def test_subscribe_says_in_which_order_and_what(client: AsyncClient, engine: FakeEngine) -> None:
    async with client.subscribe("a", partition=[3, 1, 3], partition_key_filter="k", priority_order=True):
        spec = engine.specs[0]
        assert (spec.partitions, spec.key, spec.priority_order, spec.ordering) == ((1, 3), "k", True, False)
    listener = await client.listen("a", print, workers=2, consumer_group="g", ordering=True, partition=0)
    spec = engine.specs[1]
    assert (spec.partitions, spec.key, spec.priority_order, spec.ordering) == ((0,), None, False, True)
    await listener.stop()


async def test_a_while_ago_is_counted_from_the_clock_of_the_engine(client: AsyncClient, engine: FakeEngine) -> None:
    async with client.subscribe("a", since=timedelta(minutes=1)):
        assert engine.specs[0].start == engine.hands.now() - 60


@pytest.mark.parametrize(
    ("options", "capability"),
    [
        ({"consumer_group": "g"}, Capability.GROUPS),
        ({"ordering": True}, Capability.ORDERING),
        ({"partition": 0}, Capability.PARTITIONS),
        ({"priority_order": True}, Capability.PRIORITY),
    ],
)
async def test_subscribing_asks_what_the_engine_can_do(
    client: AsyncClient, engine: FakeEngine, options: dict[str, Any], capability: Capability
) -> None:
    engine.capabilities -= {capability}
    with pytest.raises(UnsupportedFeature) as told:
        client.subscribe("a", **options)
    assert told.value.feature == capability.value
    assert engine.specs == []


async def test_a_handler_is_looked_at_before_anything_is_opened(client: AsyncClient, engine: FakeEngine) -> None:
    with pytest.raises(InvalidOption, match=r"^handler="):
        await client.listen("a", lambda: None)
    assert engine.specs == []


# -- letting go


async def test_closing_goes_from_the_readers_to_the_engine(client: AsyncClient, engine: FakeEngine) -> None:
    engine.feed.put(0)
    subscription = client.subscribe("a", consumer_group="g")
    await subscription.fetch(1)
    handled = asyncio.Event()
    await client.listen("a", lambda message: handled.set(), consumer_group="g")
    engine.feed.put(1)
    await asyncio.wait_for(handled.wait(), 5)
    await client.close()
    assert [feed.acked for feed in engine.feeds] == [[], [0]], "what is in hand goes back, what was handled is acked"
    assert (engine.closed, engine.left_open) == (1, [])
    with pytest.raises(Closed):
        client.subscribe("a")
    with pytest.raises(Closed):
        await client.listen("a", print)
    await client.close()


async def test_an_exception_out_of_the_block_of_the_client_nacks_what_was_in_hand(engine: FakeEngine) -> None:
    """Also when the subscription has no block of its own."""
    engine.feed.put(0, 1)

    async def fail() -> None:
        async with AsyncClient("fake:") as client:
            async for _ in client.subscribe("a", consumer_group="g"):
                raise ValueError("body")

    with pytest.raises(ValueError, match="body"):
        await fail()
    assert [(action, offset) for call in engine.feed.settled for action, offset, _ in call] == [("nack", 0)]
    assert (engine.closed, engine.left_open) == (1, [])


async def test_one_that_cannot_be_closed_keeps_no_other_open(client: AsyncClient, engine: FakeEngine) -> None:
    """All are closed, then the engine, and then the error is told."""
    subscriptions = [client.subscribe("a", consumer_group="g") for _ in range(4)]

    async def refuse() -> None:
        raise EngineError("the disk is gone")

    for subscription in subscriptions:
        await subscription.open()
        engine.feed.put(0)
        (message,) = await subscription.fetch(1)
        subscription.done(message)
        engine.feed.before_settle = refuse
    with pytest.raises(EngineError, match="disk"):
        await client.close()
    assert (engine.closed, engine.left_open) == (1, [])
    for feed in engine.feeds:
        feed.before_settle = nothing


async def test_what_was_closed_is_forgotten(client: AsyncClient, engine: FakeEngine) -> None:
    """A program that subscribes again and again keeps no trail of old subscriptions."""
    engine.feed.renew_every = 1.0
    engine.feed.put(0)
    known = []
    for group in ("g", None):
        async with client.subscribe("a", consumer_group=group) as subscription:
            known.append(weakref.ref(subscription))
            await subscription.fetch(1, timeout=0)
    del subscription
    await asyncio.wait([asyncio.ensure_future(nothing())])
    gc.collect()
    assert [each() for each in known] == [None, None]


async def test_entering_connects(engine: FakeEngine) -> None:
    """So that a broker that is away is told at once, and not by the first publish."""
    client = AsyncClient("fake:")
    assert engine.opened == 0
    async with client:
        assert engine.opened == 1


# -- forwarding


@pytest.fixture
async def memory() -> AsyncIterator[AsyncClient]:
    async with AsyncClient("memory:") as client:
        yield client


async def received(client: AsyncClient, topic: str, count: int) -> list[Message]:
    async with client.subscribe(topic, from_beginning=True, auto_ack=False) as subscription:
        return list(await subscription.fetch(count, timeout=10))


async def test_messages_are_forwarded_as_they_are(memory: AsyncClient) -> None:
    """To another topic or bus; the receipts come in the order of the messages, whatever their priorities."""
    await memory.publish("a", b"\xff", message_id="i0", partition_key="k", headers={"h": "v"}, ttl_seconds=60)
    await memory.publish("a", "text", message_id="i1", priority="high", compression="zstd")
    await memory.publish_batch("a", [{"n": 2}, None], message_ids=["i2", "i3"])
    messages = await received(memory, "a", 4)
    async with AsyncClient("memory:") as other:
        receipts = await other.forward("b", messages)
        assert [receipt.message_id for receipt in receipts] == [message.id for message in messages]
        found = {message.id: message for message in await received(other, "b", 4)}
        for message in messages:
            copy = found[message.id]
            assert (copy.record.data, copy.content_type, copy.data) == (
                message.record.data,
                message.content_type,
                message.data,
            )
            assert (copy.key, copy.headers, copy.priority) == (message.key, message.headers, message.priority)
            assert copy.expires_at == message.expires_at
        (one,) = await other.forward("once", found["i0"], durability="memory")
        assert (one.message_id, one.topic) == ("i0", "once")
        assert await other.forward("b", []) == []


async def test_what_is_forwarded_again_is_stored_once_where_it_is_asked_for(bus: Bus) -> None:
    client, _ = bus
    await client.publish_batch("a", range(3))
    messages = await received(client, "a", 3)
    await client.create_topic("once", TopicOptions(delivery="exactly_once"))
    for duplicate in (False, True):
        receipts = await client.forward("once", messages)
        assert [receipt.duplicate for receipt in receipts] == [duplicate] * 3


async def test_what_the_engine_cannot_take_is_refused_whole(memory: AsyncClient) -> None:
    await memory.publish("a", b"x" * 200)
    await memory.publish("a", 1, priority="low")
    await memory.publish("a", 1, ttl_seconds=5)
    large, urgent, short = await received(memory, "a", 3)
    engine = FakeEngine()
    target = AsyncClient(engine)
    engine.capabilities -= {Capability.PRIORITY, Capability.EXPIRY}
    for message, error, said in (
        (large, MessageTooLarge, "200 bytes encoded, the limit is 100"),
        (urgent, UnsupportedFeature, "priorities"),
        (short, UnsupportedFeature, "expiry"),
    ):
        with pytest.raises(error, match=said):
            await target.forward("b", [message])
    with pytest.raises(InvalidTopic):
        await target.forward("a//b", [])
    with pytest.raises(InvalidOption, match="messages"):
        await target.forward("b", ["no message"])  # type: ignore[list-item]
    assert engine.published == []


async def test_a_forward_that_fails_says_how_far_it_came(memory: AsyncClient) -> None:
    await memory.publish("a", 1)
    await memory.publish("a", 2, priority="high")
    messages = await received(memory, "a", 2)
    engine = FakeEngine()
    engine.failures.extend([None, StorageFull("full")])
    with pytest.raises(StorageFull) as failed:
        await AsyncClient(engine).forward("b", messages)
    assert failed.value.__notes__ == ["1 of 2 messages of this forward were stored before"]


def test_what_the_engine_can_do_is_told() -> None:
    engine = FakeEngine()
    assert AsyncClient(engine).capabilities == engine.capabilities


async def test_a_bus_that_does_not_open_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else could: the program has no client."""
    engine = FakeEngine()

    async def fail() -> None:
        raise EngineError("away")

    monkeypatch.setattr(engine, "open", fail)
    with pytest.raises(EngineError, match="away"):
        async with AsyncClient(engine):
            pass
    assert engine.closed == 1
