"""The forwarder: all publishers reach all subscribers, whoever comes when; its end and return are noticed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.engines.zeromq.plain import Plain
from tidings import AsyncClient
from tidings.engines.zeromq import subscriber
from tidings.engines.zeromq.forwarder import Forwarder
from tidings.errors import BrokerUnavailable, InvalidURL
from tidings.testing.conformance.stage.place import data, take, until


async def test_everybody_hears_everybody_from_the_first_message_on(via: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "ANSWER_SECONDS", 60)
    with Forwarder(via):
        clients = [AsyncClient(via) for _ in range(4)]
        subscriptions = [client.subscribe("a/*") for client in clients]
        await asyncio.gather(*(subscription.open() for subscription in subscriptions))
        await asyncio.gather(*(client.publish("a/b", number) for number, client in enumerate(clients)))
        for subscription in subscriptions:
            assert sorted(data(await take(subscription, 4))) == [0, 1, 2, 3]
            assert subscription.gaps == ()
        await asyncio.gather(*(client.close() for client in clients))


async def test_without_a_forwarder_nothing_is_promised(via: str) -> None:
    options = "&connect_seconds=0.2&request_seconds=0.2"
    async with AsyncClient(via + options) as client:
        with pytest.raises(BrokerUnavailable, match="nobody is there"):
            await client.subscribe("a").open()
        with pytest.raises(BrokerUnavailable, match="nobody is there"):
            await client.publish("a", 1)


async def test_a_forwarder_that_comes_back_is_used_again(via: str) -> None:
    """While it is away, publishing waits and then says so; a subscriber learns of the gap."""
    forwarder = Forwarder(via)
    async with AsyncClient(via + "&request_seconds=0.2") as client, client.subscribe("a") as subscription:
        await client.publish("a", 1)
        assert data(await take(subscription, 1)) == [1]
        forwarder.close()

        async def publish() -> None:
            while True:
                await client.publish("a", "lost")
                await asyncio.sleep(0)

        with pytest.raises(BrokerUnavailable):
            await publish()
        with Forwarder(via):
            async with AsyncClient(via) as another:
                found: list[Any] = []
                while found != [2]:
                    await another.publish("a", 2)
                    found = data(await subscription.fetch(1, timeout=0.1))
                    assert found in ([], ["lost"], [2])
            await until(lambda: "the connection was lost" in [gap.reason for gap in subscription.gaps])


async def test_plain_programs_meet_at_it(via: str, plain: Plain, folder: Path) -> None:
    with Forwarder(via):
        publisher = plain.connect(zmq.XPUB, f"ipc://{folder}/in")
        assert await publisher.recv() == b"\1"
        async with AsyncClient(via) as client, client.subscribe("a") as subscription:
            await publisher.send(b"a 1")
            assert data(await take(subscription, 1)) == [1]


async def test_a_proxy_of_another_program_does_as_well(via: str, plain: Plain, folder: Path) -> None:
    """Subscriptions pass through it to the publishers, and their answers come back."""
    async with AsyncClient(via) as writer, AsyncClient(via) as reader:
        xsub = plain.bind(zmq.XSUB, f"ipc://{folder}/in")
        xpub = plain.bind(zmq.XPUB, f"ipc://{folder}/out")

        async def pump(source: zmq.asyncio.Socket, target: zmq.asyncio.Socket) -> None:
            while True:
                await target.send_multipart(await source.recv_multipart())

        pumps = [asyncio.ensure_future(pump(xsub, xpub)), asyncio.ensure_future(pump(xpub, xsub))]
        await writer.publish("a", "to nobody")
        async with reader.subscribe("a") as subscription:
            await writer.publish("a", 1)
            assert data(await take(subscription, 1)) == [1]
        for each in pumps:
            each.cancel()


@pytest.mark.parametrize(
    "url",
    [
        "zmq+tcp://127.0.0.1:5555",
        "zmq+tcp://127.0.0.1:5555?publish=connect",
        "zmq+tcp://127.0.0.1:5555?subscribe_to=tcp://127.0.0.1:5556",
        "memory:",
    ],
)
def test_a_forwarder_needs_two_addresses_to_which_others_connect(url: str) -> None:
    with pytest.raises(InvalidURL):
        Forwarder(url)


def test_an_address_in_use_is_told() -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as other:
        port = other.bind_to_random_port("tcp://127.0.0.1")
        for here, there in ((port, "127.0.0.1:*"), ("*", f"127.0.0.1:{port}")):
            with pytest.raises((BrokerUnavailable, InvalidURL)):
                Forwarder(f"zmq+tcp://127.0.0.1:{here}?publish=connect&subscribe_to=tcp://{there}")
        with pytest.raises(BrokerUnavailable, match="has bound"):
            Forwarder(f"zmq+tcp://127.0.0.1:{port}?publish=connect&subscribe_to=tcp://127.0.0.1:1")


PROGRAM = [sys.executable, "-m", "tidings.engines.zeromq.forwarder"]


def test_it_says_how_it_is_used() -> None:
    done = subprocess.run(PROGRAM, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "subscribe_to" in done.stderr


async def test_it_is_a_program_that_ends_when_interrupted(via: str) -> None:
    running = await asyncio.create_subprocess_exec(*PROGRAM, via, stdout=subprocess.PIPE)
    assert running.stdout is not None
    assert via.encode() in await running.stdout.readline()
    async with AsyncClient(via) as client, client.subscribe("a") as subscription:
        await client.publish("a", 1)
        assert data(await take(subscription, 1)) == [1]
    running.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(running.wait(), 10) == 0


def test_closing_twice_is_closing_once(via: str) -> None:
    forwarder = Forwarder(via)
    forwarder.close()
    forwarder.close()
    forwarder.wait()
