"""What cancelling is promised, at each single await: nothing acked comes again, nothing is lost, nothing is stuck."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tidings import AsyncClient, AsyncSubscription, Client, Closed
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.cancelling import MOMENTS, Cancelled, at_every_await
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import lag_is, standing, told
from tidings.testing.conformance.stage.place import Place, data, expect_nothing, take, until

QUICK_SECONDS = 5.0
"""What a cancelled call let go of is there again within this time: far below a lease."""

ROUNDS = 30
"""How often a call is tried that waits only when it meets others, so that it does meet them."""

moments = pytest.mark.parametrize("moment", MOMENTS)


def manual(place: Place, client: AsyncClient) -> AsyncSubscription:
    return client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False)


@asynccontextmanager
async def traffic(place: Place) -> AsyncIterator[None]:
    """A thread of the same process uses the bus without a pause, so that calls of the loop have to wait for it."""
    topic, group = place.topic("traffic"), place.group("traffic") if place.stores else None
    ending, begun = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def busy() -> None:
        with Client(place.url) as client, client.subscribe(topic, consumer_group=group, auto_ack=False) as reader:
            client.publish_batch(topic, range(5))
            loop.call_soon_threadsafe(begun.set)
            while not ending.is_set():
                for message in reader.fetch(5, timeout=0.01):
                    message.nack(delay_seconds=0)

    working = asyncio.ensure_future(asyncio.to_thread(busy))
    try:
        await begun.wait()
        yield
    finally:
        ending.set()
        await working


@moments
@case(clients=["async"])
async def test_a_cancelled_publish_is_stored_once_or_not_at_all(place: Place, moment: str) -> None:
    """The client goes on; the next messages arrive in order."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription, traffic(place):

        async def publish(at: int) -> bool:
            call = Cancelled(client.publish(place.topic(), at), at, moment)
            await call.wait()
            await client.publish(place.topic(), "after")
            found: list[Any] = []
            while found[-1:] != ["after"]:
                found += data(await take(subscription, 1))
            assert found in (["after"], [at, "after"])
            assert call.happened or len(found) == 2
            return call.reached

        await at_every_await(publish, ROUNDS)
        await expect_nothing(subscription)


@moments
@case(Capability.GROUPS, clients=["async"])
async def test_a_cancelled_fetch_gives_back_what_it_took(place: Place, moment: str) -> None:
    """To this consumer or another, soon, and as if it had not been delivered."""
    client = place.client()
    async with (
        manual(place, client) as subscription,
        traffic(place),
        manual(place, client) as other,
    ):

        async def fetch(at: int) -> bool:
            await client.publish(place.topic(), at)
            call = Cancelled(subscription.fetch(1, timeout=None), at, moment)
            await call.wait()
            found = call.result if not call.happened else await take(other, 1, within=QUICK_SECONDS)
            assert told(place, found) == [(at, 1)]
            await found[0].ack()
            return call.reached

        await at_every_await(fetch, ROUNDS)
        await expect_nothing(subscription)
        await expect_nothing(other)


@moments
@case(Capability.GROUPS, clients=["async"])
async def test_a_cancelled_wait_for_messages_takes_none(place: Place, moment: str) -> None:
    """The fetch waits, a message comes, and the cancellation with it: somebody gets it soon."""
    client = place.client()
    async with manual(place, client) as subscription:

        async def fetch(at: int) -> bool:
            call = Cancelled(subscription.fetch(1, timeout=0.2), at, moment)
            waiting = asyncio.ensure_future(call.wait())
            await asyncio.sleep(0)
            await client.publish(place.topic(), at)
            await waiting
            found = [] if call.happened else call.result
            found = found or await take(subscription, 1, within=QUICK_SECONDS)
            assert told(place, found) == [(at, 1)]
            await found[0].ack()
            return call.reached

        await at_every_await(fetch, ROUNDS)
        await expect_nothing(subscription)


@moments
@case(clients=["async"])
async def test_a_cancelled_fetch_outside_a_group_loses_nothing(place: Place, moment: str) -> None:
    """What it would have returned comes with the next fetch, in order."""
    client = place.client()
    async with client.subscribe(place.topic(), auto_ack=False) as subscription, traffic(place):

        async def fetch(at: int) -> bool:
            waiting = Cancelled(subscription.fetch(1, timeout=0.2), at, moment)
            task = asyncio.ensure_future(waiting.wait())
            await client.publish_batch(place.topic(), [[at, 0], [at, 1]])
            await task
            found = data([] if waiting.happened else waiting.result)
            found += data(await take(subscription, 2 - len(found), within=QUICK_SECONDS))
            assert found == [[at, 0], [at, 1]]
            return waiting.reached

        await at_every_await(fetch, ROUNDS)
        await expect_nothing(subscription)


@moments
@case(Capability.GROUPS, clients=["async"])
async def test_a_cancelled_ack_is_an_ack_or_none(place: Place, moment: str) -> None:
    """It can be repeated; after that the message never comes again, and the others are untouched."""
    client = place.client()
    async with manual(place, client) as subscription, traffic(place):

        async def ack(at: int) -> bool:
            await client.publish_batch(place.topic(), [[at, "acked"], [at, "kept"]])
            acked, kept = await take(subscription, 2, within=QUICK_SECONDS)
            call = Cancelled(acked.ack(), at, moment)
            await call.wait()
            if call.happened:
                await acked.ack()
            await kept.nack(delay_seconds=0)
            (again,) = await take(subscription, 1, within=QUICK_SECONDS)
            assert (again.data, again.attempt) == ([at, "kept"], 2)
            await again.ack()
            return call.reached

        await at_every_await(ack, ROUNDS)
        await expect_nothing(subscription)
    assert await lag_is(place, client, 0)


@moments
@case(Capability.GROUPS, clients=["async"])
async def test_a_cancelled_close_still_lets_go(place: Place, moment: str) -> None:
    """What the subscription held goes to the next consumer soon; what was acked does not; closing again is harmless."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    async with traffic(place):

        async def close(at: int) -> bool:
            await client.publish_batch(place.topic(), [[at, "acked"], [at, "held"]])
            subscription = manual(place, client)
            acked, _ = await take(subscription, 2, within=QUICK_SECONDS)
            await acked.ack()
            call = Cancelled(subscription.close(), at, moment)
            await call.wait()
            await subscription.close()
            async with manual(place, client) as heir:
                (held,) = await take(heir, 1, within=QUICK_SECONDS)
                assert told(place, [held]) == [([at, "held"], 1)]
                await held.ack()
            return call.reached

        await at_every_await(close, ROUNDS)
    info = await standing(place, client)
    assert (info.lag, info.consumers) == (0, ())


@moments
@case(Capability.GROUPS, clients=["async"])
async def test_a_cancelled_opening_leaves_no_ghost(place: Place, moment: str) -> None:
    """A consumer that nobody has would keep messages from the others."""
    client = place.client()
    await client.create_group(place.topic(), place.group())

    async def nobody_is_there() -> bool:
        (info,) = await client.groups(place.topic())
        return info.consumers == ()

    async def open_one(at: int) -> bool:
        subscription = manual(place, client)
        call = Cancelled(subscription.open(), at, moment)
        await call.wait()
        await subscription.close()
        await until(nobody_is_there, within=QUICK_SECONDS)
        return call.reached

    await at_every_await(open_one)


@moments
@case(Capability.GROUPS, clients=["async"])
async def test_a_cancelled_client_close_can_be_finished(place: Place, moment: str) -> None:
    """Closing again ends it: subscriptions are closed, what they held is free, calls raise `Closed`."""
    steady = place.client()
    await steady.create_group(place.topic(), place.group())
    await steady.publish(place.topic(), "x")

    async def close(at: int) -> bool:
        client = place.client()
        subscription = manual(place, client)
        (message,) = await take(subscription, 1, within=QUICK_SECONDS)
        assert told(place, [message]) == [("x", 1)]
        call = Cancelled(client.close(), at, moment)
        await call.wait()
        await client.close()
        with pytest.raises(Closed):
            await client.publish(place.topic(), "y")
        return call.reached

    await at_every_await(close)


@case(Capability.GROUPS, clients=["async"])
@pytest.mark.parametrize("auto_ack", [True, False])
async def test_a_cancelled_loop_releases_its_message(place: Place, auto_ack: bool) -> None:
    """At once and uncounted, with all that was fetched ahead; what the loop was through with is acked."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), range(20))
    reached = asyncio.Event()

    async def work() -> None:
        async with client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=auto_ack) as subscription:
            async for message in subscription:
                if message.data == 12:
                    reached.set()
                    await asyncio.Event().wait()
                if not auto_ack:
                    await message.ack()

    task = asyncio.ensure_future(work())
    await reached.wait()
    task.cancel()
    cancelled = time.monotonic()
    async with manual(place, client) as heir:
        found = await take(heir, 8, within=QUICK_SECONDS)
        assert time.monotonic() - cancelled < QUICK_SECONDS
        assert sorted(told(place, found)) == [(n, 1) for n in range(12, 20)]
        await expect_nothing(heir)
    await asyncio.wait([task])
    assert task.cancelled()


@moments
@case(Capability.GROUPS, clients=["async"])
async def test_a_cancelled_iteration_loses_nothing(place: Place, moment: str) -> None:
    """`anext` with automatic acks, cancelled at every await: each message is handed out, and only then acked."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    seen: list[tuple[int, int]] = []

    async def iterate(at: int) -> bool:
        await client.publish_batch(place.topic(), [at * 10, at * 10 + 1, at * 10 + 2])
        subscription = client.subscribe(place.topic(), consumer_group=place.group())

        async def read() -> None:
            async for message in subscription:
                seen.append((message.data, message.attempt))

        call = Cancelled(read(), at, moment)
        running = asyncio.ensure_future(call.wait())
        await asyncio.wait([running], timeout=0.1)
        await subscription.close()
        await asyncio.wait_for(running, 5)
        return call.reached

    last = await at_every_await(iterate)
    async with manual(place, client) as heir:
        while found := await heir.fetch(100, timeout=0.3):
            seen.extend((message.data, message.attempt) for message in found)
            await heir.ack(found)
    assert {value for value, _ in seen} == {at * 10 + part for at in range(1, last + 1) for part in range(3)}
