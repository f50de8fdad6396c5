"""What closing is promised: it ends every wait, gives back what is held at once, and leaves what was acked acked."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from tidings import Closed, InvalidURL, UnsupportedFeature
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import lag_is, told
from tidings.testing.conformance.stage.place import Place, data, expect_nothing, take, until


@case()
async def test_closing_twice_is_closing_once(place: Place) -> None:
    """Clients and subscriptions; afterwards every call raises `Closed`."""
    client = place.client()
    subscription = client.subscribe(place.topic())
    await subscription.open()
    await client.publish(place.topic(), 1)
    await subscription.close()
    await subscription.close()
    with pytest.raises(Closed):
        await subscription.fetch(1, timeout=0)
    await client.close()
    await client.close()
    with pytest.raises(Closed):
        await client.publish(place.topic(), 1)
    for call, ability in ((client.topics, Capability.TOPICS), (client.groups, Capability.LAG)):
        with pytest.raises(Closed if ability in place.subject.capabilities else (Closed, UnsupportedFeature)):
            await call()
    with pytest.raises(Closed):
        async with client.subscribe(place.topic()) as late:
            await late.fetch(1, timeout=0)


@case()
@pytest.mark.parametrize("closes", ["subscription", "client"])
async def test_closing_ends_a_wait(place: Place, closes: str) -> None:
    """Whoever waits in `fetch` gets `Closed`; a loop and the batches end."""
    client = place.client()
    fetching, looping, batching = (client.subscribe(place.topic()) for _ in range(3))
    for subscription in (fetching, looping, batching):
        await subscription.open()

    async def loop() -> int:
        return len([message async for message in looping])

    async def batches() -> int:
        return len([batch async for batch in batching.batches()])

    waits = [
        asyncio.ensure_future(fetching.fetch(1, timeout=None)),
        asyncio.ensure_future(loop()),
        asyncio.ensure_future(batches()),
    ]
    done, _ = await asyncio.wait(waits, timeout=0.05)
    assert not done
    for each in (fetching, looping, batching) if closes == "subscription" else (client,):
        await each.close()
    ended = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 5)
    assert isinstance(ended[0], Closed)
    assert ended[1:] == [0, 0]


@case(Capability.GROUPS)
@pytest.mark.parametrize("closes", ["subscription", "client"])
async def test_closing_gives_back_what_is_held_at_once(place: Place, closes: str) -> None:
    """Another consumer has it long before the lease ends, and the attempt does not count."""
    client, other = place.client(), place.client()
    holder = client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False)
    await holder.open()
    await client.publish_batch(place.topic(), range(5))
    held = await take(holder, 5)
    await held[2].ack()
    async with other.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False) as heir:
        waiting = asyncio.ensure_future(take(heir, 4))
        closed = time.monotonic()
        await (holder if closes == "subscription" else client).close()
        found = await waiting
        assert time.monotonic() - closed < 5
        assert sorted(told(place, found)) == [(0, 1), (1, 1), (3, 1), (4, 1)]
        await heir.ack(found)
        await expect_nothing(heir)


@case(Capability.GROUPS)
async def test_settling_after_closing_is_refused(place: Place) -> None:
    """A message outlives its subscription, the right to settle it does not; it goes to the next consumer."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish(place.topic(), "x")
    async with client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False) as subscription:
        (message,) = await take(subscription, 1)
    with pytest.raises(Closed):
        await message.ack()
    async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        assert data(await take(subscription, 1)) == ["x"]


@case(Capability.GROUPS)
async def test_stopping_a_listener_lets_its_handler_finish(place: Place) -> None:
    """The running handler ends and its message is acked; no other is begun; the rest goes back at once."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), range(50))
    begun: list[int] = []
    ended: list[int] = []
    entered, leave = threading.Event(), threading.Event()

    def handle(message: Any) -> None:
        begun.append(message.data)
        if message.data == 20:
            entered.set()
            if place.kind == "blocking":  # in the event loop a handler cannot wait for what the loop does
                leave.wait(10)
        ended.append(message.data)

    listener = await client.listen(place.topic(), handle, consumer_group=place.group())
    await until(entered.is_set)
    stopping = asyncio.ensure_future(listener.stop())
    if place.kind == "blocking":
        done, _ = await asyncio.wait([stopping], timeout=0.05)
        assert not done
    leave.set()
    await asyncio.wait_for(stopping, 10)
    handled = len(ended)
    assert begun == ended == list(range(handled))
    assert handled == 21 or place.kind == "async"
    assert await lag_is(place, client, 50 - handled)
    async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        found = await take(subscription, 50 - handled)
        assert told(place, found) == [(n, 1) for n in range(handled, 50)]


@case(Capability.GROUPS, clients=["async"])
async def test_stopping_waits_for_a_coroutine_handler(place: Place) -> None:
    """It is not cancelled: it finishes, its message is acked, and only then does `stop` return."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), range(3))
    entered, leave = asyncio.Event(), asyncio.Event()
    ended: list[int] = []

    async def handle(message: Any) -> None:
        entered.set()
        await leave.wait()
        ended.append(message.data)

    listener = await client.listen(place.topic(), handle, consumer_group=place.group())
    await entered.wait()
    stopping = asyncio.ensure_future(listener.stop())
    done, _ = await asyncio.wait([stopping], timeout=0.05)
    assert not done
    leave.set()
    await asyncio.wait_for(stopping, 10)
    assert ended == [0]
    assert await lag_is(place, client, 2)


@case(Capability.GROUPS)
async def test_closing_the_client_stops_its_listeners(place: Place) -> None:
    """What their handlers did is acked, nothing is lost, and no handler is called afterwards."""
    client, other = place.client(), place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), range(100))
    seen: list[int] = []
    await client.listen(place.topic(), lambda message: seen.append(message.data), consumer_group=place.group())
    await until(lambda: len(seen) > 10)
    await client.close()
    handled = len(seen)
    assert await lag_is(place, other, 100 - handled)
    async with other.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        rest = data(await take(subscription, 100 - handled)) if handled < 100 else []
        assert seen[:handled] + rest == list(range(100))
        await expect_nothing(subscription)
    assert len(seen) == handled


@case(Capability.GROUPS)
async def test_what_was_published_before_closing_is_there(place: Place) -> None:
    """Many publishers, each closed after its last receipt: everything arrives."""
    reader = place.client()
    await reader.create_group(place.topic(), place.group())

    async def publish(who: int) -> None:
        client = place.client()
        for number in range(25):
            await client.publish(place.topic(), [who, number])
        await client.close()

    await asyncio.gather(*map(publish, range(8)))
    async with reader.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        found = data(await take(subscription, 200))
        await expect_nothing(subscription)
    assert sorted(found) == [[who, number] for who in range(8) for number in range(25)]


@case(Capability.GROUPS, Capability.OS_DURABILITY)
async def test_everything_goes_on_after_all_clients_were_closed(place: Place) -> None:
    """Messages, topics, groups and their places, and what was acked."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), range(10))
    async with client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False) as subscription:
        found = await take(subscription, 6)
        await subscription.ack(found[:4])
        await found[5].nack(delay_seconds=0)
    await client.close()
    client = place.client()
    assert (await client.describe_topic(place.topic())).messages == place.messages(10)
    assert await lag_is(place, client, 6)
    async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        found = await take(subscription, 6)
        assert sorted(told(place, found)) == [
            (4, 1),
            (5, 2),
            (6, 1),
            (7, 1),
            (8, 1),
            (9, 1),
        ]
    assert [(await client.publish(place.topic(), "next")).offset] == place.offsets([10])


@case()
async def test_an_unknown_option_is_refused_with_a_suggestion(place: Place) -> None:
    """A typing mistake in the URL never means the default."""
    with pytest.raises(InvalidURL, match="max_message_bytes"):
        place.client(max_mesage_bytes=5)
