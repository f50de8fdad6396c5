"""Publishing and acking together: what is committed when, what is dropped, and what a transaction refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.client.conftest import Bus
from tests.client.fakes import FakeEngine, FakeFeed
from tidings import AsyncClient, AsyncSubscription, Closed, Durability, InvalidOption, MessageTooLarge
from tidings.client.aio.delivery import AsyncDelivery
from tidings.client.aio.transaction import AsyncTransaction
from tidings.errors import EngineError, InvalidTopic, LeaseLost, UnencodableData, UnsupportedFeature
from tidings.model.capability import Capability
from tidings.model.options import PublishOptions


def consumer(client: AsyncClient, **options: Any) -> AsyncSubscription:
    return client.subscribe("topic", consumer_group="group", **options)


async def take(client: AsyncClient, feed: FakeFeed, count: int = 1) -> tuple[AsyncSubscription, list[AsyncDelivery]]:
    """Return a subscription without automatic acks, and so many of its messages."""
    feed.put(*range(count))
    subscription = consumer(client, auto_ack=False)
    return subscription, await subscription.fetch(count)


async def carry_out(transaction: AsyncTransaction, error: BaseException | None = None, acked: Any = None) -> None:
    """Publish and ack in a transaction; raise the error before its end."""
    async with transaction:
        await transaction.publish("out", "x")
        await transaction.ack(acked)
        if error is not None:
            raise error


async def test_all_of_it_is_one_commit(client: AsyncClient, engine: FakeEngine, feed: FakeFeed) -> None:
    """At the end of the block and not before, in the order of publishing, and not through the engine's publish."""
    subscription, (message,) = await take(client, feed)
    async with message.transaction() as transaction:
        first = await transaction.publish("b", {"n": 1}, partition_key="k", headers={"h": "v"}, message_id="mine")
        await transaction.ack()
        second = await transaction.publish("a", "text")
        assert (feed.commits, feed.settled, message.settled) == ([], [], False)
    ((acked, outputs, durability),) = feed.commits
    assert acked == [("ack", 0)]
    assert [(output.topic, output.record.data) for output in outputs] == [("b", b'{"n":1}'), ("a", b"text")]
    record = outputs[0].record
    assert (record.id, record.key, record.headers) == ("mine", "k", {"h": "v"})
    assert (first, second) == ("mine", outputs[1].record.id)
    assert (durability, engine.published, feed.settled) == (engine.default_durability, [], [])
    counts = subscription.statistics()
    assert (message.settled, counts.acked, counts.held) == (True, 1, 0)


async def test_the_terms_are_those_of_publish(client: AsyncClient, engine: FakeEngine, feed: FakeFeed) -> None:
    _, (message,) = await take(client, feed)
    now = engine.hands.now()
    async with message.transaction("disk") as transaction:
        await transaction.publish("a", 1, priority="high", ttl_seconds=5, delay_seconds=60, compression="gzip")
        await transaction.publish("a", 2)
    ((_, (first, second), durability),) = feed.commits
    level = engine.default_durability
    assert durability is Durability.DISK
    assert first.options == PublishOptions(level, 8, now + 60, first.options.compression)
    assert (str(first.options.compression), first.record.expires_at) == ("gzip", now + 65)
    assert (second.options, second.record.expires_at) == (PublishOptions(level), None)


@pytest.mark.parametrize(
    ("publish", "error", "clue"),
    [
        (("a//b", 1, {}), InvalidTopic, "a//b"),
        (("a/*", 1, {}), InvalidTopic, "wildcard"),
        (("a", object(), {}), UnencodableData, "^data"),
        (("a", b"x" * 101, {}), MessageTooLarge, "101 bytes"),
        (("a", 1, {"priority": "urgent"}), InvalidOption, "^priority="),
        (("a", 1, {"ttl_seconds": -1}), InvalidOption, "^ttl_seconds="),
        (("a", 1, {"delay_seconds": "soon"}), InvalidOption, "^delay_seconds="),
        (("a", 1, {"compression": "rar"}), InvalidOption, "^compression="),
        (("a", 1, {"partition_key": ""}), InvalidOption, "^partition_key="),
        (("a", 1, {"message_id": ""}), InvalidOption, "^message_id="),
        (("a", 1, {"headers": {"a": 1}}), UnencodableData, "^headers"),
        (("a", 1, {"durability": "fsync"}), InvalidOption, "^durability="),
        (("a", 1, {"prioritty": "high"}), InvalidOption, "^prioritty="),
    ],
)
async def test_what_is_wrong_is_told_at_once(
    client: AsyncClient, feed: FakeFeed, publish: tuple[str, Any, dict[str, Any]], error: Any, clue: str
) -> None:
    """By the publish itself, by its name; the transaction can go on without it."""
    topic, data, terms = publish
    _, (message,) = await take(client, feed)
    async with message.transaction() as transaction:
        with pytest.raises(error, match=clue):
            await transaction.publish(topic, data, **terms)
        await transaction.ack()
    assert [(acked, outputs) for acked, outputs, _ in feed.commits] == [([("ack", 0)], [])]


async def test_an_exception_drops_all_of_it(client: AsyncClient, feed: FakeFeed) -> None:
    """The message stays its consumer's, who may do it in another transaction."""
    subscription, (message,) = await take(client, feed)
    for error in (ValueError("body"), asyncio.CancelledError("body"), KeyboardInterrupt("body")):
        with pytest.raises(type(error), match="body"):
            await carry_out(message.transaction(), error)
    assert (feed.commits, message.settled, subscription.statistics().held) == ([], False, 1)
    async with message.transaction() as transaction:
        await transaction.ack()
    assert [acked for acked, _, _ in feed.commits] == [[("ack", 0)]]


async def test_nothing_is_no_commit(client: AsyncClient, feed: FakeFeed) -> None:
    _, (message,) = await take(client, feed)
    async with message.transaction():
        pass
    assert feed.commits == []


@pytest.mark.parametrize("error", [LeaseLost, EngineError])
async def test_a_commit_that_fails_has_done_nothing(client: AsyncClient, feed: FakeFeed, error: Any) -> None:
    """It is told, the message is not taken for done, and the same can be tried again."""
    subscription, (message, other) = await take(client, feed, 2)

    async def refuse() -> None:
        raise EngineError("the disk is gone")

    if error is LeaseLost:
        feed.lost = {1}
    else:
        feed.before_commit = refuse
    with pytest.raises(error):
        await carry_out(subscription.transaction([message, other]))
    assert (message.settled, other.settled) == (False, False)
    counts = subscription.statistics()
    assert (feed.commits, counts.held, counts.acked) == ([], 2, 0)


async def test_a_commit_that_is_cancelled_says_so(client: AsyncClient, feed: FakeFeed) -> None:
    """Which of the two it was, is open; the message is not taken for settled."""
    _, (message,) = await take(client, feed)
    begun = asyncio.Event()

    async def take_long() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def commit() -> None:
        async with message.transaction() as transaction:
            await transaction.publish("a", 1)
            await transaction.ack()

    feed.before_commit = take_long
    committing = asyncio.ensure_future(commit())
    await asyncio.wait_for(begun.wait(), 5)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    assert not message.settled


async def test_after_its_end_it_takes_nothing(client: AsyncClient, feed: FakeFeed) -> None:
    _, (message,) = await take(client, feed)
    async with message.transaction() as transaction:
        await transaction.ack()
    uses = (transaction.publish("a", 1), transaction.ack(), transaction.forward("a", message, headers={}))
    for use in uses:
        with pytest.raises(Closed, match="transaction has ended"):
            await use
    with pytest.raises(Closed, match="begun before"):
        await carry_out(transaction)
    assert len(feed.commits) == 1


async def test_it_is_entered_once(client: AsyncClient, feed: FakeFeed) -> None:
    """Entered within itself it would publish everything twice."""
    _, (message,) = await take(client, feed)
    async with message.transaction() as transaction:
        await transaction.publish("a", 1)
        with pytest.raises(Closed, match="begun before"):
            await carry_out(transaction)
    assert [len(outputs) for _, outputs, _ in feed.commits] == [1]


async def test_some_of_a_batch(client: AsyncClient, feed: FakeFeed) -> None:
    """Acked once however often it is said; the others stay in hand. One alone needs no list."""
    subscription, messages = await take(client, feed, 4)
    async with subscription.transaction(messages) as transaction:
        await transaction.ack(messages[:1])
        await transaction.ack([messages[2], messages[0]])
        await transaction.ack(messages[3])
    assert [acked for acked, _, _ in feed.commits] == [[("ack", 0), ("ack", 2), ("ack", 3)]]
    assert [message.settled for message in messages] == [True, False, True, True]
    counts = subscription.statistics()
    assert (counts.held, counts.acked) == (1, 3)
    async with subscription.transaction(messages) as transaction:
        await transaction.ack()
    assert feed.commits[1][0] == [("ack", 1)]


async def test_only_its_messages_can_be_acked(client: AsyncClient, engine: FakeEngine, feed: FakeFeed) -> None:
    """Anything else would be left out in silence, and the outputs published without the acks."""
    subscription, messages = await take(client, feed)
    elsewhere = client.subscribe("other", consumer_group="group", auto_ack=False)
    await elsewhere.open()
    engine.feed.put(0)
    for wrong in ("id-0", ["id-0"], [messages[0], None], await elsewhere.fetch(1)):
        with pytest.raises(InvalidOption, match=r"^messages="):
            await carry_out(subscription.transaction(messages), acked=wrong)
    assert [feed.commits for feed in engine.feeds] == [[], []]


async def test_what_was_acked_before_is_not_acked_again(client: AsyncClient, feed: FakeFeed) -> None:
    _, (message,) = await take(client, feed)
    await message.ack()
    async with message.transaction() as transaction:
        await transaction.publish("a", 1)
        await transaction.ack()
    assert [(acked, len(outputs)) for acked, outputs, _ in feed.commits] == [([], 1)]


async def test_a_loop_that_acks_by_itself_does_not_ack_again(client: AsyncClient, feed: FakeFeed) -> None:
    """And a message whose transaction was dropped is nacked, as any other that failed."""
    feed.put(0, 1, 2)

    async def work() -> None:
        async with consumer(client) as subscription:
            async for message in subscription:
                async with message.transaction() as transaction:
                    await transaction.publish("a", message.data)
                    await transaction.ack()
                    if message.data == 2:
                        raise ValueError("of the body")

    with pytest.raises(ValueError, match="body"):
        await work()
    assert [acked for acked, _, _ in feed.commits] == [[("ack", 0)], [("ack", 1)]]
    assert feed.told == [("nack", 2, "", "ValueError: of the body")]


async def test_forwarding_keeps_the_bytes_the_key_and_the_priority(client: AsyncClient, feed: FakeFeed) -> None:
    feed.put({"n": 1}, key="k", priority=8, headers={"old": "1"}, expires=2e9)
    subscription = consumer(client, auto_ack=False)
    (message,) = await subscription.fetch(1)
    async with subscription.transaction([message]) as transaction:
        await transaction.forward("b", message, headers={"new": "2"})
        await transaction.forward("b", message, headers={}, message_id="other")
        with pytest.raises(InvalidTopic):
            await transaction.forward("b/*", message, headers={})
    ((_, (first, second), _),) = feed.commits
    old = message.record
    assert (first.record.id, first.record.data, first.record.content_type) == (old.id, old.data, old.content_type)
    assert (first.record.key, first.record.headers, first.options.priority) == ("k", {"new": "2"}, 8)
    assert first.record.expires_at is None, "it would expire where it is sent to give it another chance"
    assert (second.record.id, second.record.headers) == ("other", None)


async def test_it_asks_what_the_engine_can_do(client: AsyncClient, engine: FakeEngine, feed: FakeFeed) -> None:
    subscription, (message,) = await take(client, feed)
    for wrong in ("fsync", 1):
        with pytest.raises(InvalidOption, match=r"^durability="):
            message.transaction(wrong)  # type: ignore[arg-type]
    engine.capabilities -= {Capability.TRANSACTIONS}
    with pytest.raises(UnsupportedFeature, match="fake: cannot do transactions"):
        message.transaction()
    with pytest.raises(UnsupportedFeature, match="fake: cannot do transactions"):
        subscription.transaction([message])


# -- on a bus


async def data_of(client: AsyncClient, topic: str) -> list[Any]:
    async with client.subscribe(topic, from_beginning=True) as reader:
        return [message.data for message in await reader.fetch(100, timeout=0)]


async def test_work_is_passed_on_once(bus: Bus) -> None:
    """A worker that fails now and then: each input has its one output, whatever was tried in vain."""
    client, clock = bus
    await client.create_group("in", "g")
    await client.publish_batch("in", range(6))
    tries: list[int] = []
    async with client.subscribe("in", consumer_group="g", auto_ack=False) as subscription:
        while await client.get_consumer_lag("in", "g"):
            clock.advance(60)
            for message in await subscription.fetch(3, timeout=0):
                tries.append(message.data)
                try:
                    async with message.transaction() as transaction:
                        await transaction.publish("out", message.data)
                        await transaction.ack()
                        if tries.count(message.data) <= message.data % 3:
                            raise ValueError("in vain")
                except ValueError:
                    await message.nack()
    assert sorted(await data_of(client, "out")) == list(range(6))
    assert sorted(tries) == [0, 1, 1, 2, 2, 2, 3, 4, 4, 5, 5, 5]


async def test_a_message_that_has_gone_takes_its_outputs_along(bus: Bus) -> None:
    """One of many is enough, and the others can be done without it."""
    client, _ = bus
    await client.create_group("in", "g")
    await client.create_group("other", "g")
    await client.publish_batch("in", range(2))
    await client.publish("other", "gone")
    async with client.subscribe(["in", "other"], consumer_group="g", auto_ack=False) as subscription:
        messages = sorted(await subscription.fetch(3), key=lambda message: message.topic)
        while len(messages) < 3:
            messages += await subscription.fetch(3)
        await client.seek_group("other", "g", "end")
        with pytest.raises(LeaseLost):
            await carry_out(subscription.transaction(messages))
        assert await data_of(client, "out") == []
        assert await client.get_consumer_lag("in", "g") == 2
        async with subscription.transaction(messages) as transaction:
            await transaction.publish("out", "both")
            await transaction.ack([message for message in messages if message.topic == "in"])
        assert await client.get_consumer_lag("in", "g") == 0
    assert await data_of(client, "out") == ["both"]
