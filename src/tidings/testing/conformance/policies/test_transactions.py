"""What transactions are promised: acks and publishes take effect together, whatever fails, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from tidings import (
    AsyncClient,
    InvalidOption,
    InvalidTopic,
    LeaseLost,
    TidingsError,
    TopicOptions,
    UnencodableData,
)
from tidings.errors import TopicFull
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import (
    AT_ONCE,
    expect_end,
    expect_no_more,
    fill,
    manual,
    prepare,
    standing,
)
from tidings.testing.conformance.stage.place import Place, data, take, until
from tidings.testing.conformance.stage.worker import Worker

TRANSACTIONS = (Capability.GROUPS, Capability.TRANSACTIONS, Capability.REPLAY)


class Undone(Exception):
    """What a case raises out of a transaction."""


async def carry_out(transaction: Any, *outputs: tuple[str, Any], error: Exception | None = None) -> None:
    """Publish the outputs and ack in a transaction; raise the error before its end."""
    async with transaction:
        for topic, value in outputs:
            await transaction.publish(topic, value)
        await transaction.ack()
        if error is not None:
            raise error


async def nothing_came_of_it(place: Place, client: AsyncClient, *outputs: str, lag: int = 1) -> None:
    """Fail when something was published or settled."""
    for output in outputs:
        stored = [info.messages for info in await client.topics() if info.name == place.topic(output)]
        assert sum(stored) == 0
    assert (await standing(place, client)).lag == lag


@case(*TRANSACTIONS)
async def test_acks_and_publishes_take_effect_together(place: Place) -> None:
    """Not before the block ends; then all of it, to every topic, in order."""
    client = place.client()
    await fill(place, client, ["in"])
    async with (
        manual(place, client) as subscription,
        client.subscribe(place.topic("a")) as a,
        client.subscribe(place.topic("b")) as b,
    ):
        (message,) = await take(subscription, 1)
        async with message.transaction() as transaction:
            await transaction.publish(place.topic("a"), 1)
            await transaction.publish(place.topic("b"), 2)
            await transaction.ack()
            await transaction.publish(place.topic("a"), 3)
            assert await a.fetch(1, timeout=0.02) == []
            await nothing_came_of_it(place, client, "a", "b")
        assert await client.get_consumer_lag(place.topic(), place.group()) == 0
        assert data(await take(a, 2)) == [1, 3]
        assert data(await take(b, 1)) == [2]
        await expect_no_more(client, a, place.topic("a"))
        await expect_no_more(client, b, place.topic("b"))
    await expect_end(place, client)


@case(*TRANSACTIONS)
async def test_an_exception_undoes_all_of_it(place: Place) -> None:
    """It comes out as it was; the message is still its consumer's, who may try again or settle otherwise."""
    client = place.client()
    await fill(place, client, ["in"])
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        with pytest.raises(Undone, match="half way"):
            await carry_out(message.transaction(), (place.topic("out"), 1), error=Undone("half way"))
        await nothing_came_of_it(place, client, "out")
        assert (await standing(place, client)).held == 1
        await carry_out(message.transaction(), (place.topic("out"), 2))
        async with client.subscribe(place.topic("out"), from_beginning=True) as out:
            assert data(await take(out, 1)) == [2]
            await expect_no_more(client, out, place.topic("out"))
    await expect_end(place, client)


@case(*TRANSACTIONS)
async def test_out_of_a_loop_it_is_nacked_as_usual(place: Place) -> None:
    """With automatic acks: each message has its output once, though half of them failed after publishing."""
    client = place.client()
    await fill(place, client, range(10), **AT_ONCE)
    failed: set[int] = set()

    async def step(message: Any) -> None:
        fails = message.data % 2 == 1 and message.data not in failed
        failed.add(message.data)
        output = (place.topic("out"), message.data)
        await carry_out(message.transaction(), output, error=Undone() if fails else None)

    async def run() -> bool:
        async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
            async for message in subscription:
                await step(message)
                if (await standing(place, client)).lag == 0:
                    return True
        return False

    for _ in range(5):
        with pytest.raises(Undone):
            await run()
    assert await run()
    async with client.subscribe(place.topic("out"), from_beginning=True) as out:
        assert sorted(data(await take(out, 10))) == list(range(10))
        await expect_no_more(client, out, place.topic("out"))
    found = await standing(place, client)
    assert (found.acked, found.failed, found.lag, found.dead) == (10, 5, 0, 0)


@case(*TRANSACTIONS)
async def test_a_handler_that_fails_in_one_publishes_nothing(place: Place) -> None:
    """A listener tries again; at last there is one output."""
    client = place.client()
    await fill(place, client, ["x"], **AT_ONCE)
    tried: list[int] = []

    async def handle(message: Any) -> None:
        tried.append(message.attempt)
        error = Undone() if len(tried) < 3 else None
        await carry_out(message.transaction(), (place.topic("out"), message.attempt), error=error)

    def handle_blocking(message: Any) -> None:
        tried.append(message.attempt)
        with message.transaction() as transaction:
            transaction.publish(place.topic("out"), message.attempt)
            transaction.ack()
            if len(tried) < 3:
                raise Undone

    handler = handle if place.kind == "async" else handle_blocking
    listener = await client.listen(place.topic(), handler, consumer_group=place.group())
    await until(lambda: len(tried) == 3)
    await listener.stop()
    async with client.subscribe(place.topic("out"), from_beginning=True) as out:
        assert data(await take(out, 1)) == [3]
        await expect_no_more(client, out, place.topic("out"))
    await expect_end(place, client)


@case(*TRANSACTIONS)
async def test_it_may_do_one_without_the_other(place: Place) -> None:
    """Without an ack the message stays its consumer's; without a publish it is acked; with neither nothing happens."""
    client = place.client()
    await fill(place, client, range(3))
    async with manual(place, client) as subscription, client.subscribe(place.topic("out")) as out:
        first, second, third = await take(subscription, 3)
        async with first.transaction() as transaction:
            await transaction.publish(place.topic("out"), "x")
        async with second.transaction() as transaction:
            await transaction.ack()
        async with third.transaction() as transaction:
            pass
        assert data(await take(out, 1)) == ["x"]
        found = await standing(place, client)
        assert (found.lag, found.held, found.acked) == (2, 2, 1)
        await first.ack()
        await third.ack()
    await expect_end(place, client)


@case(*TRANSACTIONS)
async def test_a_batch_is_one_transaction(place: Place) -> None:
    """All of its messages are acked, or those that are named; the others stay."""
    client = place.client()
    await fill(place, client, range(20))
    async with manual(place, client) as subscription, client.subscribe(place.topic("out")) as out:
        found = await take(subscription, 10)
        async with subscription.transaction(found) as transaction:
            await transaction.publish(place.topic("out"), sum(data(found)))
            await transaction.ack()
        assert data(await take(out, 1)) == [45]
        found = await take(subscription, 10)
        async with subscription.transaction(found) as transaction:
            await transaction.publish(place.topic("out"), "some")
            await transaction.ack([found[1], found[9]])
        assert data(await take(out, 1)) == ["some"]
        assert (await standing(place, client)).lag == 8
    async with manual(place, client) as subscription:
        assert sorted(data(await take(subscription, 8))) == [10, *range(12, 19)]


@case(*TRANSACTIONS)
async def test_a_lost_lease_undoes_all_of_it(place: Place) -> None:
    """Also the other messages of the batch, and what was published; `LeaseLost` names the one."""
    client = place.client()
    await fill(place, client, range(3))
    async with manual(place, client) as slow, manual(place, client) as quick:
        found = await take(slow, 3)
        await found[1].extend(0)
        (taken,) = await take(quick, 1)
        assert taken.data == 1
        with pytest.raises(LeaseLost) as caught:
            await carry_out(slow.transaction(found), (place.topic("out"), "never"))
        assert caught.value.topic == place.topic()
        assert caught.value.offsets == (found[1].offset,)
        await nothing_came_of_it(place, client, "out", lag=3)
        await taken.ack()
        await slow.ack([found[0], found[2]])
    await expect_end(place, client)


@case(*TRANSACTIONS)
async def test_outputs_are_messages_like_any_other(place: Place) -> None:
    """With key, headers, id and data as given, on a topic that is made if need be; also on the one it came from."""
    client = place.client()
    await fill(place, client, ["in"])
    async with manual(place, client) as subscription, client.subscribe(place.topic("new")) as new:
        (message,) = await take(subscription, 1)
        async with message.transaction() as transaction:
            await transaction.publish(
                place.topic("new"), {"a": 1}, partition_key="k", headers={"h": "v"}, message_id="the-id"
            )
            await transaction.publish(place.topic(), "round")
            await transaction.ack()
        (found,) = await take(new, 1)
        assert (found.data, found.key, dict(found.headers), found.id) == ({"a": 1}, "k", {"h": "v"}, "the-id")
        (again,) = await take(subscription, 1)
        assert (again.data, again.attempt) == ("round", 1)
        await again.ack()
    await expect_end(place, client)


@case(*TRANSACTIONS, Capability.DELAY, Capability.PRIORITY, Capability.EXPIRY)
async def test_outputs_may_be_late_urgent_or_short_lived(place: Place) -> None:
    """The parameters are those of `publish`."""
    client = place.client()
    await fill(place, client, ["in"])
    async with manual(place, client) as subscription, client.subscribe(place.topic("out")) as out:
        (message,) = await take(subscription, 1)
        async with message.transaction() as transaction:
            await transaction.publish(place.topic("out"), "late", delay_seconds=0.15)
            await transaction.publish(place.topic("out"), "urgent", priority="high", ttl_seconds=60)
            await transaction.ack()
        urgent, late = await take(out, 2)
        assert (urgent.data, urgent.priority, late.data, late.priority) == ("urgent", 8, "late", 5)
        assert urgent.expires_at is not None
        assert abs(urgent.expires_at - urgent.published_at - 60) < 1


@case(*TRANSACTIONS, Capability.DELAY, Capability.PRIORITY, Capability.EXPIRY)
async def test_what_cannot_be_published_is_refused_at_once(place: Place) -> None:
    """With the usual errors, where it is asked for; the transaction goes on if its program does."""
    client = place.client()
    await fill(place, client, ["in"])
    wrong: list[tuple[type[TidingsError], tuple[Any, ...], dict[str, Any]]] = [
        (InvalidTopic, ("a//b", 1), {}),
        (UnencodableData, (place.topic("out"), object()), {}),
        (UnencodableData, (place.topic("out"), 1), {"headers": {"a": 1}}),
        (InvalidOption, (place.topic("out"), 1), {"priority": 10}),
        (InvalidOption, (place.topic("out"), 1), {"ttl_seconds": -1}),
        (InvalidOption, (place.topic("out"), 1), {"delay_seconds": -1}),
        (InvalidOption, (place.topic("out"), 1), {"message_id": ""}),
    ]
    async with manual(place, client) as subscription, client.subscribe(place.topic("out")) as out:
        (message,) = await take(subscription, 1)
        with pytest.raises(InvalidOption) as caught:
            message.transaction(durability="forever")
        assert caught.value.name == "durability"
        async with message.transaction() as transaction:
            for error, arguments, options in wrong:
                with pytest.raises(error):
                    await transaction.publish(*arguments, **options)
            await transaction.publish(place.topic("out"), "sound")
            await transaction.ack()
        assert data(await take(out, 1)) == ["sound"]
        await expect_no_more(client, out, place.topic("out"))
    await expect_end(place, client)


@case(*TRANSACTIONS)
async def test_after_its_end_it_takes_nothing_more(place: Place) -> None:
    """Neither a publish nor an ack, whether it ended well or not."""
    client = place.client()
    await fill(place, client, ["in"])
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        async with message.transaction() as good:
            pass
        bad = message.transaction()
        with pytest.raises(Undone):
            await carry_out(bad, error=Undone())
        for transaction in (good, bad):
            with pytest.raises(TidingsError):
                await transaction.publish(place.topic("out"), 1)
            with pytest.raises(TidingsError):
                await transaction.ack()
        await nothing_came_of_it(place, client, "out")


@case(*TRANSACTIONS, Capability.MAX_LENGTH)
async def test_a_full_topic_undoes_all_of_it(place: Place) -> None:
    """The commit raises `TopicFull`, with nothing acked and nothing published anywhere."""
    client = place.client()
    await fill(place, client, ["in"])
    await client.create_topic(place.topic("full"), TopicOptions(max_length=1))
    await client.create_group(place.topic("full"), place.group("full"))
    await client.publish(place.topic("full"), "there")
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        with pytest.raises(TopicFull):
            await carry_out(message.transaction(), (place.topic("other"), 1), (place.topic("full"), 2))
        await nothing_came_of_it(place, client, "other")
        assert (await client.describe_topic(place.topic("full"))).messages == 1
        await message.ack()


@case(*TRANSACTIONS, Capability.DEDUPLICATION)
async def test_a_known_id_is_not_published_again(place: Place) -> None:
    """On an exactly-once topic an output that is there already is left out; the ack counts all the same."""
    client = place.client()
    await fill(place, client, ["in"])
    await client.create_topic(place.topic("out"), TopicOptions(delivery="exactly_once"))
    await client.publish(place.topic("out"), "first", message_id="a")
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        async with message.transaction() as transaction:
            await transaction.publish(place.topic("out"), "again", message_id="a")
            await transaction.publish(place.topic("out"), "new", message_id="b")
            await transaction.ack()
    async with client.subscribe(place.topic("out"), from_beginning=True) as out:
        assert data(await take(out, 2)) == ["first", "new"]
        await expect_no_more(client, out, place.topic("out"))
    await expect_end(place, client)


@case(Capability.PROCESSES, *TRANSACTIONS, Capability.DEAD_LETTERS)
async def test_a_killed_worker_leaves_each_output_once(place: Place) -> None:
    """Killed again and again in the middle of its transactions: in the end each input has exactly one output."""
    client = place.client()
    await prepare(place, client, max_retries=1000)
    await client.publish_batch(place.topic(), range(60))
    done: set[int] = set()
    for kill_after in (1, 7, 20):
        async with Worker(place.kind, place.url) as worker:
            await worker.ask("subscribe", place.topic(), place.group())
            worker.tell("move", place.topic("out"))
            for _ in range(kill_after):
                done.add(await worker.answer())
            await worker.kill()
    async with manual(place, client) as subscription:
        while (await standing(place, client)).lag:
            for message in await subscription.fetch(5, timeout=0.1):
                assert message.data not in done
                await carry_out(message.transaction(), (place.topic("out"), message.data))
    async with client.subscribe(place.topic("out"), from_beginning=True) as out:
        assert sorted(data(await take(out, 60))) == list(range(60))
        await expect_no_more(client, out, place.topic("out"))
    assert (await standing(place, client)).acked == 60
