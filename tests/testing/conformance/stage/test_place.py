"""Fresh places, names and clients, and the ways a case waits."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tidings import Closed, Durability
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.place import KINDS, Place, data, examine, expect_nothing, fresh_url, take, until

KIND = pytest.mark.parametrize("kind", KINDS)


def test_embedded_urls_are_fresh(tmp_path: Path) -> None:
    first, second = fresh_url("memory:", tmp_path), fresh_url("memory:", tmp_path)
    assert first != second
    assert first.startswith("memory:")
    assert fresh_url("file:", tmp_path).startswith(f"file:{tmp_path}/")
    assert fresh_url("file:/there?durability=os", tmp_path).startswith("file:/there/")
    assert fresh_url("file:/there?durability=os", tmp_path).endswith("?durability=os")


@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        ("nats://host:1,other:2?a=b", r"nats://host:1,other:2/\w{32}\?a=b"),
        ("nats://host:1/", r"nats://host:1/\w{32}"),
        ("redis://host:1/0", r"redis://host:1/0\?prefix=\w{32}"),
        ("redis://host:1?a=b", r"redis://host:1\?a=b&prefix=\w{32}"),
    ],
)
def test_urls_of_brokers_are_fresh(tmp_path: Path, url: str, pattern: str) -> None:
    found = {fresh_url(url, tmp_path) for _ in range(2)}
    assert len(found) == 2
    assert all(re.fullmatch(pattern, each) for each in found), found


@pytest.mark.parametrize(
    "url", ["nats://host:1/bus?a=b", "redis://host:1?prefix=p", "amqp://host:1/", "zmq+tcp://host:1?a=b"]
)
def test_a_bus_that_is_named_stays(tmp_path: Path, url: str) -> None:
    assert fresh_url(url, tmp_path) == url


def test_an_engine_says_what_it_is(tmp_path: Path) -> None:
    memory, file = examine("memory:", tmp_path), examine("file:?max_message_bytes=1000", tmp_path)
    assert (memory.name, memory.default_durability) == ("memory", Durability.MEMORY)
    assert (file.name, file.max_message_bytes, file.default_durability) == ("file", 1000, Durability.DISK)
    assert Capability.PROCESSES in file.capabilities - memory.capabilities


def test_names_are_the_places_own(tmp_path: Path) -> None:
    subject = examine("memory:", tmp_path)
    one, other = Place(subject, "async", tmp_path), Place(subject, "async", tmp_path)
    assert one.topic() == one.topic()
    assert len({one.topic("a"), one.topic("b"), other.topic("a"), one.group("a"), other.group("a")}) == 5
    before = one.topic()
    one.fork()
    assert one.topic() != before
    assert one.options(lease_seconds=2).endswith("?lease_seconds=2")
    assert one.options() == one.url


@KIND
async def test_clients_are_closed_with_the_case(tmp_path: Path, kind: str) -> None:
    place = Place(examine("memory:", tmp_path), kind, tmp_path)
    clients = []

    async def use() -> None:
        clients.extend([place.client(), place.client()])
        async with clients[0].subscribe(place.topic()) as subscription:
            await clients[1].publish(place.topic(), "x")
            assert data(await take(subscription, 1)) == ["x"]
            await expect_nothing(subscription)

    await place.run(use())
    for client in clients:
        with pytest.raises((Closed, RuntimeError)):
            await client.publish(place.topic(), "y")


@KIND
async def test_what_does_not_come_fails(tmp_path: Path, kind: str) -> None:
    place = Place(examine("memory:", tmp_path), kind, tmp_path)

    async def use() -> None:
        client = place.client()
        async with client.subscribe(place.topic()) as subscription:
            await client.publish(place.topic(), "x")
            with pytest.raises(AssertionError, match="1 of 2 messages"):
                await take(subscription, 2, within=0.05)
            await client.publish(place.topic(), "y")
            with pytest.raises(AssertionError):
                await expect_nothing(subscription)

    await place.run(use())


async def test_until_waits_for_plain_and_awaited_conditions() -> None:
    turns: list[int] = []

    async def third() -> bool:
        turns.append(1)
        return len(turns) == 3

    await until(third)
    assert len(turns) == 3
    await until(lambda: bool(turns))
    with pytest.raises(AssertionError, match="still false"):
        await asyncio.wait_for(until(lambda: False, within=0.02), 5)
