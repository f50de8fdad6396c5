"""Publishing: who is waited for, what is numbered, what one frame of text cannot hold."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import zmq

from tests.engines.zeromq.plain import Plain
from tidings import AsyncClient
from tidings.engines.zeromq import publisher
from tidings.engines.zeromq.engine import TURN, open_async
from tidings.engines.zeromq.frames import MARK
from tidings.errors import BrokerUnavailable, Closed, InvalidTopic, UnsupportedFeature
from tidings.model.message import Record
from tidings.model.options import Durability, PublishOptions
from tidings.model.url import parse_url
from tidings.testing.conformance.stage.place import data, take

RECORD = Record("id", "text/plain; charset=utf-8", b"x")


async def test_who_waits_for_a_publisher_gets_its_first_message(url: str, plain: Plain) -> None:
    """A plain program that tries again by itself, with ZeroMQ's own settings."""
    waiting = plain.connect(zmq.SUB, url, "sensor")
    async with AsyncClient(url + "?framing=plain") as client:
        await client.publish("sensor_001", 25.5)
        assert await asyncio.wait_for(waiting.recv_string(), 5) == "sensor_001 25.5"


async def test_a_publisher_can_wait_for_its_subscribers(url: str, plain: Plain) -> None:
    async with AsyncClient(url + "?wait_for_subscribers=2&framing=plain") as client:
        publishing = asyncio.ensure_future(client.publish("a", 1))
        first = plain.connect(zmq.SUB, url, "a")
        await asyncio.wait([publishing], timeout=0.3)
        assert not publishing.done()
        second = plain.connect(zmq.SUB, url, "a")
        await publishing
        for each in (first, second):
            assert await asyncio.wait_for(each.recv_string(), 5) == "a 1"


async def test_subscribers_that_do_not_come_are_told(url: str, plain: Plain) -> None:
    """Whoever subscribes twice is one."""
    plain.connect(zmq.SUB, url, "a").subscribe("b")
    async with AsyncClient(url + "?wait_for_subscribers=2&connect_seconds=0.3") as client:
        with pytest.raises(BrokerUnavailable, match="1 of 2 subscribers"):
            await client.publish("a", 1)


async def test_nobody_needs_to_listen(url: str) -> None:
    async with AsyncClient(url) as client:
        assert (await client.publish("a", 1)).topic == "a"


async def test_publishing_to_nobody_is_told_where_somebody_has_to_be(url: str) -> None:
    """And works as soon as somebody is there."""
    async with AsyncClient(url + "?publish=connect&subscribe_to=ipc:///nowhere&request_seconds=0.2") as client:
        with pytest.raises(BrokerUnavailable, match="nobody is there"):
            await client.publish("a", 1)
        async with AsyncClient(url + "?publish=connect&subscribe=bind") as reader:
            async with reader.subscribe("a") as subscription:
                await client.publish("a", 2)
                (message,) = await subscription.fetch(1, timeout=5)
                assert message.data == 2


async def test_closing_ends_a_wait_for_subscribers(url: str) -> None:
    client = AsyncClient(url + "?wait_for_subscribers=1")
    publishing = asyncio.ensure_future(client.publish("a", 1))
    await asyncio.wait([publishing], timeout=0.05)
    await client.close()
    with pytest.raises(Closed):
        await publishing


async def numbers(listening: Any, count: int) -> list[tuple[bytes, str, int]]:
    found = []
    for _ in range(count):
        topic, _, envelope = await asyncio.wait_for(listening.recv_multipart(), 5)
        sent = msgspec.json.decode(envelope)
        found.append((topic, sent["by"], sent["number"]))
    return found


async def test_each_topic_is_numbered(url: str, plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    """And begins anew, as another series, when there are too many topics."""
    monkeypatch.setattr(publisher, "MAX_NUMBERED", 2)
    listening = plain.connect(zmq.SUB, url)
    async with AsyncClient(url) as client:
        await client.publish("a", 1)
        await client.publish_batch("b", [1, 2])
        await client.publish("a", 2)
        await client.publish("c", 1)
        await client.publish("a", 3)
        found = await numbers(listening, 6)
    assert [(topic, number) for topic, _, number in found] == [
        (b"a", 1),
        (b"b", 1),
        (b"b", 2),
        (b"a", 2),
        (b"c", 1),
        (b"a", 1),
    ]
    assert [by == found[0][1] for _, by, _ in found] == [True] * 4 + [False] * 2


async def test_a_probe_is_answered_to_who_asks(url: str, plain: Plain) -> None:
    """Behind what was published before, and to nobody else."""
    asking, other = plain.connect(zmq.SUB, url, "a"), plain.connect(zmq.SUB, url, "")
    async with AsyncClient(url + "?framing=plain&wait_for_subscribers=2") as client:
        await client.publish("a", 1)
        asking.subscribe(MARK + b"me")
        assert await asyncio.wait_for(asking.recv(), 5) == b"a 1"
        assert await asyncio.wait_for(asking.recv(), 5) == MARK + b"me"
        await client.publish("a", 2)
        assert await asyncio.wait_for(asking.recv(), 5) == b"a 2"
        found = [await asyncio.wait_for(other.recv_string(), 5) for _ in range(3)]
        assert [found[0], found[2]] == ["a 1", "a 2"]  # who asks for everything gets the answer too, as text


async def test_a_probe_that_comes_while_it_publishes_is_answered(url: str, plain: Plain) -> None:
    """Sending takes the signal that would wake it."""
    asking = plain.connect(zmq.SUB, url, "a")
    engine = open_async(parse_url(url + "?framing=plain"))
    await engine.publish("a", [RECORD], PublishOptions(Durability.MEMORY))
    sending = engine._publisher
    assert sending is not None
    asking.subscribe(MARK + b"me")
    for _ in range(5000):  # without a turn for others
        sending.send("a", [RECORD], None, 0.0)
    while await asyncio.wait_for(asking.recv(), 5) != MARK + b"me":
        pass
    await engine.close()
    assert sending._port.socket.closed


@pytest.mark.parametrize("topic", ["a//b", "", "x" * 300, "a*"])
async def test_what_is_no_topic_is_refused(url: str, topic: str) -> None:
    async with AsyncClient(url) as client:
        with pytest.raises(InvalidTopic):
            await client.publish(topic, 1)


@pytest.mark.parametrize(
    "terms",
    [{"headers": {"a": "b"}}, {"partition_key": "k"}, {"ttl_seconds": 5}, {"compression": "gzip"}],
    ids=lambda terms: next(iter(terms)),
)
async def test_what_plain_text_cannot_hold_is_refused(url: str, plain: Plain, terms: Any) -> None:
    listening = plain.connect(zmq.SUB, url)
    async with AsyncClient(url + "?framing=plain") as client:
        with pytest.raises(UnsupportedFeature, match="framing=plain"):
            await client.publish("a", 1, **terms)
        with pytest.raises(InvalidTopic, match="space"):
            await client.publish("two words", 1)
        await client.publish("a", "sound")
        assert await asyncio.wait_for(listening.recv_string(), 5) == "a sound"


async def test_a_publisher_in_a_hurry_lets_others_have_a_turn(url: str) -> None:
    """Its loop goes on, though no publish waits for anything; a reader in the same loop loses nothing."""
    count = 10_000
    async with AsyncClient(url) as client, client.subscribe("a") as subscription:
        turns = 0
        await client.publish("a", 0)

        async def publish() -> None:
            for number in range(1, count):
                await client.publish("a", number)

        publishing = asyncio.ensure_future(publish())
        while not publishing.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns >= count // TURN
        assert data(await take(subscription, count)) == list(range(count))
        assert subscription.statistics().skipped == 0
