"""A channel: deliveries as they were sent, confirmations to those who wait for them, and what is lost with it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from pamqp import commands

from tests.brokers.faults.stage import proxy_for
from tests.engines.rabbitmq.conftest import Bus, parcel
from tidings.engines.rabbitmq.channel import Arrival, Flight, Parcel
from tidings.engines.rabbitmq.link import Link
from tidings.engines.rabbitmq.options import read_url
from tidings.errors import MessageTooLarge
from tidings.model.url import parse_url
from tidings.testing.conformance.stage.place import until
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers.process import free_port

PROGRAM = """
import contextlib, logging, sys
from tidings import BrokerUnavailable, Client
if sys.argv[3:]:
    logging.basicConfig()
with contextlib.suppress(BrokerUnavailable), Client(sys.argv[2]):
    pass
with Client(sys.argv[1]) as client, client.subscribe("news") as subscription:
    print("reading", flush=True)
    while not subscription.gaps:
        subscription.fetch(1, timeout=0.1)
"""
"""Meets nobody at its second address, and ends when it has lost the connection to the first and found it again."""


async def consume(bus: Bus, queue: str) -> list[Arrival]:
    arrived: list[Arrival] = []
    channel = await bus.link.channel()
    channel.on_arrival = arrived.append
    await bus.link.consume(channel, queue, "reader", 0)
    return arrived


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 1_000_000])
async def test_bodies_of_all_sizes_arrive_whole(bus: Bus, size: int) -> None:
    """A frame has 128 KiB: longer ones come in parts."""
    queue = await bus.queue()
    body = bytes(number % 251 for number in range(size))
    channel = await bus.publisher.channel()
    flight = await channel.publish([parcel(queue, body, "id"), parcel(queue, b"next")])
    await flight.landed
    arrived = await consume(bus, queue)
    await until(lambda: len(arrived) == 2)
    assert (arrived[0].body, arrived[0].properties.message_id, arrived[0].key) == (body, "id", queue)
    assert arrived[1].body == b"next"


async def test_each_publish_has_its_own_confirmations(bus: Bus) -> None:
    """What has nowhere to go is told to those who sent it, and to no others."""
    queue = await bus.queue()
    channel = await bus.publisher.channel()
    nowhere = f"{bus.names.exchange}.nowhere"
    flights = await asyncio.gather(
        channel.publish([parcel(queue, id="a"), parcel(queue, id="b")]),
        channel.publish([parcel(nowhere, id="c"), parcel(queue, id="d"), parcel(nowhere, id="e")]),
        channel.publish([parcel(queue, id="f")]),
    )
    await asyncio.gather(*(flight.landed for flight in flights))
    assert [(flight.returned, flight.refused) for flight in flights] == [(0, 0), (2, 0), (0, 0)]


async def test_a_full_queue_refuses(bus: Bus) -> None:
    queue = await bus.queue(**{"x-max-length": 1, "x-overflow": "reject-publish"})
    channel = await bus.publisher.channel()
    first = await channel.publish([parcel(queue)])
    await first.landed
    second = await channel.publish([parcel(queue)])
    await second.landed
    assert (first.refused, second.refused) == (0, 1)


async def test_who_waits_is_told_that_the_channel_is_gone(bus: Bus) -> None:
    channel = await bus.publisher.channel()
    flight = Flight(["a"])
    channel._flights[1] = flight
    await channel.close()
    with pytest.raises(ConnectionError):
        await flight.landed
    with pytest.raises(ConnectionError):
        await channel.publish([parcel("queue")])
    with pytest.raises(ConnectionError):
        await channel.send([commands.Basic.Ack(delivery_tag=1)])


async def test_a_consumer_that_the_broker_ends_is_named(bus: Bus) -> None:
    queue = await bus.queue()
    ended: list[str] = []
    channel = await bus.link.channel()
    channel.on_cancel = ended.append
    await bus.link.consume(channel, queue, "reader", 0)
    other = await bus.publisher.channel()
    await bus.link.ask(other.rpc(commands.Queue.Delete(queue=queue)))
    await until(lambda: ended)
    assert ended == ["reader"]


async def test_the_reason_of_the_broker_is_kept(bus: Bus) -> None:
    channel = await bus.link.channel()
    await channel.send([commands.Basic.Ack(delivery_tag=99)])
    await until(lambda: channel.is_closed)
    assert "unknown delivery tag" in str(channel.reason)


async def test_nothing_is_sent_to_a_broker_that_has_left(bus: Bus) -> None:
    """The machine knows it when the driver has not yet read as far: nothing is unknown then."""
    ((host, port),) = bus.link.address.hosts
    with FaultProxy(host, port) as proxy:
        link = Link(*read_url(parse_url(proxy.url(bus.url))))
        channel = await link.channel(confirms=True)
        proxy.cut()
        assert not channel.is_closed
        with pytest.raises(ConnectionError):
            await channel.publish([parcel("any")])
        await link.close()


async def test_properties_that_do_not_fit_into_a_frame_are_not_sent(bus: Bus) -> None:
    """The broker would break the connection, with all that is under way on it."""
    queue = await bus.queue()
    channel = await bus.publisher.channel()
    wide = Parcel("", queue, commands.Basic.Properties(headers={"a": "x" * 131_072}), b"1")
    with pytest.raises(MessageTooLarge):
        await channel.publish([parcel(queue), wide])
    flight = await channel.publish([parcel(queue)])
    await flight.landed
    answer = await bus.link.once(commands.Queue.Declare(queue=queue, passive=True))
    assert answer.message_count == 1


@pytest.mark.parametrize("logs", [False, True], ids=["plain", "logging"])
def test_the_driver_complains_to_those_who_listen(url: str, amqp_url: str, logs: bool) -> None:
    """What it says of each lost connection is not for the terminal of a program that has not set up logging."""
    nobody = f"amqp://127.0.0.1:{free_port()}/"
    with proxy_for(amqp_url) as proxy:
        command = [sys.executable, "-c", PROGRAM, proxy.url(url), nobody, *(["logging"] if logs else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "reading\n"
            proxy.cut()
            said = program.communicate(timeout=30)[1]
    assert program.returncode == 0
    if logs:
        assert "creating transport" in said
        assert "reader exited" in said
    else:
        assert said == ""
