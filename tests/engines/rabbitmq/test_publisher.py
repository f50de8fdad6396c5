"""Publishing: each of the outcomes, told as it is."""

from __future__ import annotations

import pytest
from pamqp import commands

from tests.engines.rabbitmq.conftest import Bus, parcel
from tidings.engines.rabbitmq.channel import Channel
from tidings.engines.rabbitmq.link import Link
from tidings.engines.rabbitmq.options import read_url
from tidings.engines.rabbitmq.publisher import Publisher
from tidings.errors import BrokerUnavailable, PublishFailed, PublishUnknown, Unroutable
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


async def test_a_confirmation_that_does_not_come_leaves_it_open(bus: Bus) -> None:
    """And a broker that cannot be reached before anything was sent does not."""
    queue = await bus.queue()
    ((host, port),) = bus.link.address.hosts
    with FaultProxy(host, port) as proxy:
        url = proxy.url(bus.url).replace("request_seconds=20", "request_seconds=2&connect_seconds=3")
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
