"""Members of groups: leases, giving back, and what is told to the server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext

from tests.conftest import WaitUntil
from tests.engines.conftest import Open
from tests.engines.nats.reading.test_pulling import until_asked
from tidings import AsyncClient, Closed, LeaseLost, TopicOptions
from tidings.engines.nats.engine import NatsEngine
from tidings.engines.nats.reading import member
from tidings.engines.nats.reading.member import Held
from tidings.engines.nats.reading.pulling import Arrival, Lane, Place, read_place
from tidings.testing.conformance.stage.place import take, until
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers import NatsServer


async def test_a_lease_is_that_of_the_consumer_who_holds(url: str) -> None:
    """The server knows one for the group; a consumer with another one tells it so."""
    async with AsyncClient(url) as usual, AsyncClient(f"{url}&lease_seconds=0.3") as short:
        await usual.create_group("a", "g")
        await usual.publish_batch("a", range(3))
        held = short.subscribe("a", consumer_group="g", auto_ack=False)
        await held.open()
        assert held._ticker is not None
        held._ticker.stop()  # as if the process were stopped
        late = await take(held, 3)
        async with usual.subscribe("a", consumer_group="g", auto_ack=False) as heir:
            found: list[Any] = []
            while len(found) < 3:
                found += await take(heir, 3)
            assert [(each.data, each.attempt) for each in found] == [(0, 2), (1, 2), (2, 2)]
            with pytest.raises(LeaseLost) as lost:
                await held.ack(late)
            assert lost.value.offsets == (0, 1, 2)
            await heir.ack(found)
        await held.close()


async def test_what_is_given_back_is_not_an_attempt(url: str) -> None:
    for turn in range(4):
        async with AsyncClient(url) as client, client.subscribe("a", consumer_group="g", auto_ack=False) as member:
            if not turn:
                await client.publish_batch("a", range(40))
            found = await take(member, 40)
            assert [(each.data, each.attempt) for each in found] == [(number, 1) for number in range(40)]


async def test_what_is_released_by_hand_is_not_an_attempt(client: AsyncClient) -> None:
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as member:
        await client.publish("a", 1)
        for _ in range(3):
            (message,) = await member.fetch(1, timeout=5)
            assert message.attempt == 1
            await member.give_back([message])


async def test_a_failure_between_is_counted_once(client: AsyncClient) -> None:
    await client.create_topic("a", TopicOptions(retry_delay=0, retry_max_delay=0))
    attempts = []
    await client.create_group("a", "g")
    await client.publish("a", 1)
    for turn in range(6):
        async with client.subscribe("a", consumer_group="g", auto_ack=False) as member:
            (message,) = await member.fetch(1, timeout=5)
            attempts.append(message.attempt)
            if turn % 2:
                await message.nack()
    assert attempts == [1, 1, 2, 2, 3, 3]


async def test_at_most_once_is_not_delivered_again_whatever_was_recorded(
    client: AsyncClient, engine: NatsEngine, url: str
) -> None:
    """A consumer that dies before the server hears that it had the message has had it."""
    await client.create_topic("a", TopicOptions(delivery="at_most_once"))
    async with AsyncClient(f"{url}&lease_seconds=0.2") as other:
        await other.create_group("a", "g")
        await client.publish_batch("a", range(3))
        dead = other.subscribe("a", consumer_group="g")
        assert len(await take(dead, 3)) == 3
        feed = dead._feed
        assert feed is not None
        feed._source._once.clear()  # type: ignore[attr-defined]
        async with other.subscribe("a", consumer_group="g") as heir:
            assert await heir.fetch(3, timeout=0.6) == []
        await dead.close()
        (info,) = await client.groups()
        assert info.lag == 0


async def test_acks_are_recorded_when_they_return(
    client: AsyncClient, engine: NatsEngine, jetstream: JetStreamContext
) -> None:
    """All of a batch by one answer: of several streams, and in any order."""
    await client.create_topic("a", TopicOptions(partitions=3))
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as member:
        await client.publish_batch("a", range(600))
        found: list[Any] = []
        while len(found) < 600:
            found += await member.fetch(600, timeout=5)
        await member.ack([each for each in found if each.data % 2])
        assert await client.get_consumer_lag("a", "g") == 300
        await member.ack([each for each in reversed(found) if not each.data % 2])
        assert await client.get_consumer_lag("a", "g") == 0


async def test_a_consumer_that_was_removed_takes_what_is_held_with_it(
    client: AsyncClient, engine: NatsEngine, jetstream: JetStreamContext
) -> None:
    stream = f"{engine._names.bus}+a"
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as member:
        await client.publish_batch("a", range(3))
        found = await take(member, 3)
        (consumer,) = await jetstream.consumers_info(stream)
        await jetstream.delete_consumer(stream, consumer.name)
        with pytest.raises(LeaseLost):
            await member.ack(found)


async def test_acks_wait_for_the_server_to_come_back() -> None:
    with NatsServer() as server:
        async with AsyncClient(server.url) as client:
            async with client.subscribe("a", consumer_group="g", auto_ack=False) as member:
                await client.publish_batch("a", range(10))
                found = await take(member, 10)
                server.stop()  # it writes down what it has delivered
                acking = asyncio.ensure_future(member.ack(found))
                await asyncio.to_thread(server.restart)
                await acking
                assert await client.get_consumer_lag("a", "g") == 0


async def test_what_the_server_has_forgotten_to_have_delivered_is_lost_at_once() -> None:
    """It was killed before it wrote that down: it does not answer the acks, and delivers the messages again."""
    with NatsServer() as server:
        async with AsyncClient(server.url) as client:
            await client.create_group("a", "g")
            async with client.subscribe("a", consumer_group="g", auto_ack=False) as member:
                await client.publish_batch("a", range(10))
                (state,) = server.folder.rglob("o.dat")
                before = state.read_bytes()
                found = await take(member, 10)
                server.kill()
                state.write_bytes(before)
                await asyncio.to_thread(server.restart)
                with pytest.raises(LeaseLost):
                    await member.ack(found[0])
                source: Any = member._feed._source  # type: ignore[union-attr]
                say, source._say_once = source._say_once, None  # the others are not waited for
                with pytest.raises(LeaseLost) as lost:
                    await member.ack(found)
                assert lost.value.offsets == tuple(range(1, 10))
                source._say_once = say
                again = await take(member, 10)
                assert [(each.data, each.attempt) for each in again] == [(number, 1) for number in range(10)]
                await member.ack(again)
                assert await client.get_consumer_lag("a", "g") == 0


async def test_a_copy_of_what_was_acked_is_not_handed_out(client: AsyncClient) -> None:
    """A server that has forgotten that it delivered a message delivers it again, perhaps before it hears of the ack."""
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as subscription:
        await client.publish("a", 1)
        found = await subscription.fetch(1, timeout=5)
        feed: Any = subscription._feed
        (held,) = feed._held.values()
        place = read_place(held.address)
        assert place is not None
        copy = Msg(Client(), data=b"1", reply=held.address)
        feed._source._arrived.append(Arrival(copy, place, held.lane, held.until))
        await subscription.ack(found)
        assert await subscription.fetch(1, timeout=0.1) == []


async def test_a_fetch_asks_when_what_is_on_its_way_back_is_there(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member, "IDLE_SECONDS", 60.0)
    async with client.subscribe(["a", "b"], consumer_group="g", auto_ack=False) as subscription:
        fetching = asyncio.ensure_future(subscription.fetch(1))
        await until_asked(subscription, 2)
        await client.publish("b", 0)
        await fetching
        await client.publish("a", 1)
        source: Any = subscription._feed._source  # type: ignore[union-attr]
        await until(lambda: source._arrived)
        note, gate = source._note_released, asyncio.Event()

        async def note_late(held: Sequence[Held]) -> None:
            await gate.wait()
            await note(held)

        source._note_released = note_late
        source._begin_giving()
        await client.publish("a", 2)
        fetching = asyncio.ensure_future(subscription.fetch(1))
        done, _ = await asyncio.wait([fetching], timeout=0.1)
        gate.set()
        assert not done
        found = [*await fetching, *await subscription.fetch(1, timeout=5)]
        assert [(each.data, each.attempt) for each in found] == [(1, 1), (2, 1)]


# -- leaving: what was delivered has an owner at each moment


async def test_what_comes_as_it_closes_goes_back(client: AsyncClient) -> None:
    """The pull ends in the turn of the loop in which the feed is closed."""
    await client.create_group("a", "g")
    leaver = client.subscribe("a", consumer_group="g", auto_ack=False)
    feed: Any = await leaver.open()
    accept, closing = feed._source._accept, []

    def close(lane: Lane, place: Place) -> bool:
        closing.append(asyncio.ensure_future(feed.close()))
        return bool(accept(lane, place))

    feed._source._accept = close
    fetching = asyncio.ensure_future(feed.fetch(5, None))
    await until_asked(leaver, 1)
    await client.publish("a", 1)
    with pytest.raises(Closed):
        await fetching
    await asyncio.gather(*closing)
    async with client.subscribe("a", consumer_group="g") as heir:
        assert [(each.data, each.attempt) for each in await heir.fetch(5, timeout=5)] == [(1, 1)]
    await leaver.close()


async def test_a_connection_that_breaks_while_it_gives_back_costs_no_lease(nats_url: str, prefix: str) -> None:
    """The count of what was given back is kept, and nobody hears of it: it is told again."""
    host, _, port = nats_url.removeprefix("nats://").partition(":")
    with FaultProxy(host, int(port)) as proxy:
        url = f"{nats_url}/{prefix}?subject_prefix={prefix}"
        async with AsyncClient(proxy.url(url)) as leaver, AsyncClient(url) as client:
            holder = leaver.subscribe("a", consumer_group="g", auto_ack=False)
            await holder.open()
            await client.publish_batch("a", range(3))
            await holder.give_back(await holder.fetch(1, timeout=5))
            await take(holder, 3)
            proxy.drop_reply(request=b".released.")
            await holder.close()
            async with client.subscribe("a", consumer_group="g") as heir:
                found = await take(heir, 3)
                assert sorted((each.data, each.attempt) for each in found) == [(0, 1), (1, 1), (2, 1)]


async def test_acks_that_a_connection_took_with_it_are_told_again(nats_url: str, prefix: str) -> None:
    """The last of them is answered on the next connection, and speaks for those on its own only."""
    host, _, port = nats_url.removeprefix("nats://").partition(":")
    with FaultProxy(host, int(port)) as proxy:
        url = f"{nats_url}/{prefix}?subject_prefix={prefix}"
        async with AsyncClient(proxy.url(url)) as far, AsyncClient(url) as client:
            async with far.subscribe("a", consumer_group="g", auto_ack=False) as member:
                await client.publish_batch("a", range(5))
                found = await take(member, 5)
                link = far._engine._link  # type: ignore[attr-defined]
                post, epoch = link.post, link.epoch

                async def lossy(messages: Sequence[Any]) -> None:
                    link.post = post
                    proxy.black_hole()
                    await post(messages)
                    proxy.cut()
                    proxy.heal()
                    await until(lambda: link.epoch != epoch)

                link.post = lossy
                await member.ack(found)
                assert await client.get_consumer_lag("a", "g") == 0


async def test_what_cannot_be_counted_goes_back_all_the_same(
    client: AsyncClient, engine: NatsEngine, jetstream: JetStreamContext, prefix: str
) -> None:
    """It would count as an attempt after the lease, too."""
    await jetstream.add_stream(name=engine._names.releases, subjects=[f"{prefix}.other"])
    async with client.subscribe("a", consumer_group="g", auto_ack=False) as holder:
        await client.publish("a", 1)
        assert await holder.fetch(1, timeout=5)
    async with client.subscribe("a", consumer_group="g") as heir:
        assert [(each.data, each.attempt) for each in await heir.fetch(1, timeout=5)] == [(1, 2)]


async def test_what_is_about_to_go_back_is_not_taken_by_a_fetch(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two has it; the fetch begins just after that was decided, and has to ask for counts first."""
    monkeypatch.setattr(member, "IDLE_SECONDS", 60.0)
    async with (
        client.subscribe("b", consumer_group="g", auto_ack=False) as first,
        client.subscribe(["a", "b"], consumer_group="g", auto_ack=False) as second,
    ):
        await client.publish("b", 2)
        held = await first.fetch(1, timeout=5)
        fetching = asyncio.ensure_future(second.fetch(1))
        await until_asked(second, 2)
        await client.publish("a", 1)
        assert [each.data for each in await fetching] == [1]
        await first.give_back(held)
        source: Any = second._feed._source  # type: ignore[union-attr]
        await until(lambda: source._arrived)
        source._begin_giving()
        assert [(each.data, each.attempt) for each in await second.fetch(1, timeout=5)] == [(2, 1)]


async def test_closing_waits_for_all_that_is_on_its_way_back(client: AsyncClient) -> None:
    leaver = client.subscribe(["a", "b", "c"], consumer_group="g", auto_ack=False)
    source: Any = (await leaver.open())._source  # type: ignore[attr-defined]
    note, begun, gate = source._note_released, asyncio.Event(), asyncio.Event()

    async def note_late(held: Sequence[Held]) -> None:
        if not begun.is_set():
            begun.set()
            await gate.wait()
        await note(held)

    source._note_released = note_late
    fetching = asyncio.ensure_future(leaver.fetch(1))
    await until_asked(leaver, 3)
    await client.publish("a", 1)
    await (await fetching)[0].ack()
    await client.publish("b", 2)
    await begun.wait()
    await client.publish("c", 3)
    await until(lambda: source._arrived)
    source._begin_giving()
    closing = asyncio.ensure_future(leaver.close())
    done, _ = await asyncio.wait([closing], timeout=0.2)
    gate.set()
    assert not done
    await closing
    async with client.subscribe(["a", "b", "c"], consumer_group="g") as heir:
        found = [*await heir.fetch(1, timeout=5), *await heir.fetch(1, timeout=5)]
        assert sorted((each.data, each.attempt) for each in found) == [(2, 1), (3, 1)]


async def test_a_fetch_waits_for_what_the_server_does_not_tell(nats_url: str, prefix: str) -> None:
    """It has to know how often a message was given back; no answer in time is no error of the fetch."""
    host, _, port = nats_url.removeprefix("nats://").partition(":")
    with FaultProxy(host, int(port)) as proxy:
        url = f"{nats_url}/{prefix}?subject_prefix={prefix}"
        async with AsyncClient(f"{proxy.url(url)}&request_seconds=0.2") as far, AsyncClient(url) as near:
            await near.create_group("a", "g")
            await near.publish("a", 1)
            async with near.subscribe("a", consumer_group="g", auto_ack=False) as first:
                held = await first.fetch(1, timeout=5)
                async with far.subscribe("a", consumer_group="g", auto_ack=False) as second:
                    fetching = asyncio.ensure_future(second.fetch(1))
                    await until_asked(second, 1)
                    proxy.half_open("to_server")
                    await first.give_back(held)
                    done, _ = await asyncio.wait([fetching], timeout=0.8)
                    assert not done
                    proxy.heal()
                    assert [(each.data, each.attempt) for each in await fetching] == [(1, 1)]


async def test_what_retention_takes_is_counted(client: AsyncClient) -> None:
    await client.create_topic("a", TopicOptions(retention_messages=10))
    async with client.subscribe("a", consumer_group="g") as member:
        await client.publish_batch("a", range(100))
        assert [each.data for each in await take(member, 10)] == [*range(90, 100)]
        assert member.statistics().skipped == 90


async def test_members_share_without_losing_any(opened: Open, url: str, wait_until: WaitUntil) -> None:
    found: list[int] = []

    async def work(number: int) -> None:
        async with AsyncClient(url) as client, client.subscribe("a/*", consumer_group="g", auto_ack=False) as member:
            while messages := await member.fetch(1 + number * 5, timeout=0.5):
                found.extend(each.data for each in messages)
                await member.ack(messages)

    async with AsyncClient(url) as client:
        await client.create_group("a/*", "g")
        for topic in range(3):
            await client.publish_batch(f"a/{topic}", range(topic * 100, topic * 100 + 100))
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(work(number))
    assert sorted(found) == [*range(300)]
