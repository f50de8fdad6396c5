"""Publishing: each of the outcomes, told as it is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping

import pytest
from msgspec import Struct
from pamqp import commands

from tests.engines.rabbitmq.conftest import Bus, parcel
from tidings.engines.rabbitmq.channel import Channel, Parcel
from tidings.engines.rabbitmq.link import Link
from tidings.engines.rabbitmq.options import read_url
from tidings.engines.rabbitmq.publisher import Publisher, Room
from tidings.errors import BrokerUnavailable, PublishFailed, PublishUnknown, TopicFull, Unroutable
from tidings.model.options import TopicOptions
from tidings.model.url import parse_url
from tidings.testing.proxy import FaultProxy


async def test_what_returned_is_stored(bus: Bus) -> None:
    queue = await bus.queue()
    await bus.publisher.send([parcel(queue) for _ in range(50)], "topic")
    channel = await bus.publisher.channel()
    again = await bus.link.ask(channel.rpc(commands.Queue.Declare(queue=queue, passive=True)))
    assert again.message_count == 50


async def test_what_has_nowhere_to_go_names_its_topic(bus: Bus) -> None:
    with pytest.raises(Unroutable) as refused:
        await bus.publisher.send([parcel(f"{bus.names.exchange}.nowhere")], "orders")
    assert refused.value.topic == "orders"
    assert refused.value.way_out


async def test_what_is_stored_in_part_is_unknown(bus: Bus) -> None:
    queue = await bus.queue()
    with pytest.raises(PublishUnknown) as unknown:
        await bus.publisher.send([parcel(queue, id="a"), parcel(f"{queue}.nowhere", id="b")], "orders")
    assert unknown.value.message_ids == ("a", "b")


async def test_what_a_full_queue_refuses_is_not_stored(bus: Bus) -> None:
    queue = await bus.queue(**{"x-max-length": 1, "x-overflow": "reject-publish"})
    await bus.publisher.send([parcel(queue)], "orders")
    with pytest.raises(PublishFailed):
        await bus.publisher.send([parcel(queue)], "orders")


async def test_what_one_of_several_queues_refuses_is_unknown(bus: Bus) -> None:
    """The others have got it."""
    full = await bus.queue(**{"x-max-length": 1, "x-overflow": "reject-publish"})
    queue, exchange = await bus.queue(), bus.names.exchange
    channel = await bus.publisher.channel()
    await bus.link.ask(channel.rpc(commands.Exchange.Declare(exchange=exchange, exchange_type="fanout")))
    for each in (full, queue):
        await bus.link.bind(channel, each, exchange, "")
    await bus.publisher.send([parcel(full)], "orders")
    with pytest.raises(PublishUnknown) as unknown:
        await bus.publisher.send([Parcel(exchange, "", commands.Basic.Properties(message_id="a"), b"")], "orders")
    assert unknown.value.message_ids == ("a",)
    assert await waiting(bus, queue) == 1


async def test_a_channel_that_was_lost_is_opened_and_prepared_again(bus: Bus) -> None:
    prepared: list[Channel] = []

    async def prepare(channel: Channel) -> None:
        prepared.append(channel)

    publisher = Publisher(bus.link, prepare)
    first = await publisher.channel()
    assert await publisher.channel() is first
    await first.close()
    second = await publisher.channel()
    assert prepared == [first, second]


async def test_who_publishes_right_after_a_loss_does_not_meet_it(bus: Bus) -> None:
    """Also when nobody has noticed it yet."""
    queue = await bus.queue()
    ((host, port),) = bus.link.address.hosts
    with FaultProxy(host, port) as proxy:
        link = Link(*read_url(parse_url(proxy.url(bus.url))))

        async def prepare(_: Channel) -> None:
            """Nothing is needed."""

        publisher = Publisher(link, prepare)
        await publisher.send([parcel(queue)], "orders")
        lost = await publisher.channel()
        proxy.cut()
        await publisher.send([parcel(queue)], "orders")
        assert await publisher.channel() is not lost
        await link.close()


async def test_the_broker_is_asked_once_for_each_channel_whether_it_is_ready(bus: Bus) -> None:
    queue, asked = await bus.queue(), list[str]()

    async def find(topic: str) -> None:
        asked.append(topic)

    for topic in ("a", "b", "a"):
        await bus.publisher.send([parcel(queue)], topic, find)
    assert asked == ["a", "b"]
    await (await bus.publisher.channel()).close()
    await bus.publisher.send([parcel(queue)], "a", find)
    assert asked == ["a", "b", "a"]


async def test_what_the_broker_is_not_ready_for_is_not_sent(bus: Bus) -> None:
    queue = await bus.queue()

    async def find(topic: str) -> None:
        raise Unroutable(topic, "wait")

    for _ in range(2):
        with pytest.raises(Unroutable):
            await bus.publisher.send([parcel(queue)], "orders", find)
    answer = await bus.link.once(commands.Queue.Declare(queue=queue, passive=True))
    assert answer.message_count == 0


async def test_as_many_topics_are_remembered_as_may_be(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.engines.rabbitmq.publisher.MAX_FOUND", 2)
    queue, asked = await bus.queue(), list[str]()

    async def find(topic: str) -> None:
        asked.append(topic)

    for topic in ("a", "b", "b", "c", "c", "a"):
        await bus.publisher.send([parcel(queue)], topic, find)
    assert asked == ["a", "b", "c", "a"]


async def test_a_confirmation_that_does_not_come_leaves_it_open(bus: Bus) -> None:
    """And a broker that cannot be reached before anything was sent does not."""
    queue = await bus.queue()
    ((host, port),) = bus.link.address.hosts
    with FaultProxy(host, port) as proxy:
        url = proxy.url(bus.url).replace("request_seconds=20", "request_seconds=1&connect_seconds=1")
        link = Link(*read_url(parse_url(url)))

        async def prepare(_: Channel) -> None:
            """Nothing is needed."""

        publisher = Publisher(link, prepare)
        await publisher.send([parcel(queue)], "orders")
        proxy.black_hole()
        with pytest.raises(PublishUnknown) as unknown:
            await publisher.send([parcel(queue, id="a")], "orders")
        assert unknown.value.message_ids == ("a",)
        with pytest.raises(BrokerUnavailable):
            await publisher.send([parcel(queue)], "orders")
        proxy.heal()
        await publisher.send([parcel(queue)], "orders")
        await link.close()


# -- room


async def waiting(bus: Bus, queue: str) -> int:
    answer = await bus.link.once(commands.Queue.Declare(queue=queue, passive=True))
    return int(answer.message_count)


class Known(Struct):
    """What is known of one topic and its groups, and what is found when somebody looks again."""

    options: TopicOptions
    queues: dict[str, str]
    news: TopicOptions | None = None
    refreshes: int = 0

    def terms(self, topic: str) -> TopicOptions:
        return self.options

    def collectors(self, topic: str) -> Mapping[str, str]:
        return self.queues

    async def refresh(self) -> None:
        self.options = self.news or self.options
        self.refreshes += 1


async def publish(bus: Bus, room: Room, queue: str, count: int = 1) -> None:
    async with room.taken("orders", count):
        await bus.publisher.send([parcel(queue) for _ in range(count)], "orders")


async def test_there_is_room_up_to_the_bound_of_each_group(bus: Bus) -> None:
    """For a batch as a whole, and for many who publish at once no more than for one after the other."""
    queue, empty = await bus.queue(**{"x-queue-type": "quorum"}), await bus.queue()
    room = Room(bus.link, Known(TopicOptions(max_length=5), {"quick": empty, "slow": queue}))
    with pytest.raises(TopicFull):
        await publish(bus, room, queue, 6)
    assert await waiting(bus, queue) == 0
    await publish(bus, room, queue, 2)
    results = await asyncio.gather(*(publish(bus, room, queue) for _ in range(10)), return_exceptions=True)
    full = [error for error in results if isinstance(error, TopicFull)]
    assert (len(full), results.count(None), await waiting(bus, queue)) == (7, 3, 5)
    assert (full[0].topic, full[0].max_length, full[0].group) == ("orders", 5, "slow")


async def test_without_a_bound_of_the_publishers_nobody_looks(bus: Bus) -> None:
    queue = await bus.queue(**{"x-queue-type": "quorum"})
    for options in (TopicOptions(), TopicOptions(max_length=1, overflow="drop_oldest")):
        await publish(bus, Room(bus.link, Known(options, {"g": queue})), queue, 3)
    assert await waiting(bus, queue) == 6


async def test_a_queue_that_was_deleted_is_not_full(bus: Bus) -> None:
    queue = await bus.queue(**{"x-queue-type": "quorum"})
    room = Room(bus.link, Known(TopicOptions(max_length=1), {"gone": f"{queue}.gone", "g": queue}))
    await publish(bus, room, queue)
    with pytest.raises(TopicFull):
        await publish(bus, room, queue)


async def test_who_waits_goes_on_when_there_is_room(bus: Bus) -> None:
    queue = await bus.queue(**{"x-queue-type": "quorum"})
    room = Room(bus.link, Known(TopicOptions(max_length=1, overflow="block", overflow_timeout=60), {"g": queue}))
    await publish(bus, room, queue)
    late = asyncio.ensure_future(publish(bus, room, queue))
    done, _ = await asyncio.wait((late,), timeout=0.3)
    assert not done
    await bus.link.once(commands.Queue.Purge(queue=queue))
    await asyncio.wait_for(late, 10)
    assert await waiting(bus, queue) == 1


async def test_who_waited_long_enough_is_refused(bus: Bus) -> None:
    queue = await bus.queue(**{"x-queue-type": "quorum"})
    options = TopicOptions(max_length=1, overflow="block", overflow_timeout=0.2)
    room = Room(bus.link, Known(options, {"g": queue}))
    await publish(bus, room, queue)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(TopicFull):
        await publish(bus, room, queue)
    assert asyncio.get_running_loop().time() - begun >= 0.2


async def test_a_bound_that_was_lifted_refuses_nothing(bus: Bus) -> None:
    """Also when this client has not heard of it yet."""
    queue = await bus.queue(**{"x-queue-type": "quorum"})
    room = Room(bus.link, Known(TopicOptions(max_length=1), {"g": queue}, TopicOptions()))
    await publish(bus, room, queue, 2)
    assert await waiting(bus, queue) == 2


async def test_what_others_have_changed_is_looked_at_once_for_many(bus: Bus) -> None:
    """And never long before the publish: what was changed since then counts."""
    queue = await bus.queue(**{"x-queue-type": "quorum"})
    known = Known(TopicOptions(max_length=1), {"g": queue})
    room = Room(bus.link, known)
    await publish(bus, room, queue)
    results = await asyncio.gather(*(publish(bus, room, queue) for _ in range(20)), return_exceptions=True)
    assert [type(each) for each in results] == [TopicFull] * 20
    assert known.refreshes <= 5  # one at once, one for those that came meanwhile; some more on a slow machine
    known.news = TopicOptions()
    await publish(bus, room, queue)
    assert await waiting(bus, queue) == 2


async def test_those_who_wait_for_their_turn_are_not_held_up_one_after_the_other(bus: Bus) -> None:
    """By a broker that is silent; and what is known of turns goes with those who wait."""
    queue = await bus.queue(**{"x-queue-type": "quorum"})
    ((host, port),) = bus.link.address.hosts
    with FaultProxy(host, port) as proxy:
        url = proxy.url(bus.url).replace("request_seconds=20", "request_seconds=1&connect_seconds=1")
        link = Link(*read_url(parse_url(url)))
        room = Room(link, Known(TopicOptions(max_length=9), {"g": queue}))
        await publish(bus, room, queue)
        proxy.black_hole()
        begun = asyncio.get_running_loop().time()
        results = await asyncio.gather(*(publish(bus, room, queue) for _ in range(10)), return_exceptions=True)
        assert [type(each) for each in results] == [BrokerUnavailable] * 10
        assert asyncio.get_running_loop().time() - begun < 6
        proxy.heal()
        await publish(bus, room, queue)
        await link.close()
    del results
    gc.collect()  # the errors hold the turn
    assert not room._turns
