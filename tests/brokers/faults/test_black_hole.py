"""A network that takes everything and answers nothing: every call ends in time, and says what is the matter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.brokers.faults.stage import REQUEST_SECONDS, Kind, Stage, ending, patient, rest, staged, taken, within
from tidings import AsyncClient, AsyncSubscription, Client, LeaseLost, PublishUnknown
from tidings.errors import BrokerUnavailable

Call = Callable[[Stage, AsyncClient, AsyncSubscription, Any], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "publish": lambda stage, client, reader, message: client.publish(stage.topic, "x"),
    "publish_batch": lambda stage, client, reader, message: client.publish_batch(stage.topic, ["x", "y"]),
    "publish to a new topic": lambda stage, client, reader, message: client.publish(f"{stage.topic}/new", "x"),
    "create_topic": lambda stage, client, reader, message: client.create_topic(f"{stage.topic}/other", patient()),
    "create_group": lambda stage, client, reader, message: client.create_group(stage.topic, f"{stage.group}-2"),
    "subscribe": lambda stage, client, reader, message: client.subscribe(stage.topic).open(),
    "join": lambda stage, client, reader, message: stage.member(client),
    "ack": lambda stage, client, reader, message: message.ack(),
    "nack": lambda stage, client, reader, message: message.nack(delay_seconds=0),
    "extend": lambda stage, client, reader, message: message.extend(5),
}
"""Each has to get an answer of the broker."""

SILENT_SECONDS = 3 * REQUEST_SECONDS
"""Some calls are made of several requests: connecting, asking about a topic, publishing."""


async def test_each_call_ends_with_a_typed_error(kind: Kind, server_url: str) -> None:
    """Each with a client and a network of its own; they wait at the same time."""
    turn = asyncio.Lock()

    async def run(name: str) -> None:
        async with staged(kind, server_url) as stage:
            async with turn:
                client = await stage.client()
                await client.create_topic(stage.topic, patient())
                await client.create_group(stage.topic, stage.group)
                await client.publish(stage.topic, "held")
                reader = await stage.member(client)
                (message,) = await taken(reader, 1)
            stage.proxy.black_hole()
            settles = name in ("ack", "nack", "extend")
            async with ending(SILENT_SECONDS) as call:
                try:
                    await CALLS[name](stage, client, reader, message)
                except LeaseLost:
                    assert settles, f"{name}: the connection is given up, and with it what came on it"
            assert call.failed or settles, f"{name}: it says that it is done, and nobody can know"

    async with asyncio.TaskGroup() as group:
        for name in CALLS:
            group.create_task(run(name))


@pytest.mark.parametrize("group", [True, False])
async def test_a_fetch_ends_at_its_timeout(stage: Stage, group: bool) -> None:
    client = await stage.client()
    await client.create_topic(stage.topic, patient())
    reader = await (stage.member(client) if group else stage.reader(client))
    stage.proxy.black_hole()
    async with ending(SILENT_SECONDS):
        assert await reader.fetch(1, timeout=0.2) == []


async def test_closing_ends(stage: Stage) -> None:
    """What it held comes to others all the same, once the broker misses it."""
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    await straight.create_group(stage.topic, stage.group)
    reader = await stage.member(client)
    await straight.publish_batch(stage.topic, range(5))
    await taken(reader, 5)
    stage.proxy.black_hole()
    for closing in (reader.close, client.close):
        async with ending(SILENT_SECONDS):
            await closing()
    stage.proxy.cut()
    heir = await stage.member(straight)
    assert sorted(set(await rest(heir, range(5)))) == list(range(5))


async def test_all_is_well_when_it_is_over(stage: Stage) -> None:
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    await straight.create_group(stage.topic, stage.group)
    reader = await stage.member(client)
    await client.publish(stage.topic, -1)
    stage.proxy.black_hole()
    unknown, done = [], [-1]
    for number in range(2):
        try:
            await client.publish(stage.topic, number)
        except PublishUnknown:
            unknown.append(number)
        except BrokerUnavailable:
            pass
    stage.proxy.heal()
    for number in range(2, 100):
        try:
            await client.publish(stage.topic, number)
            done.append(number)
            break
        except PublishUnknown:
            unknown.append(number)
        except BrokerUnavailable:
            pass
    found = await rest(reader, done)
    assert set(done) <= set(found) <= {*done, *unknown}


async def test_one_way_is_enough_to_be_silent(stage: Stage) -> None:
    """The broker hears us and we do not hear it: what was published is there, and we are told that this is unknown."""
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    reader = await stage.reader(straight)
    await client.publish(stage.topic, "before")
    stage.proxy.half_open("to_client")
    async with within(SILENT_SECONDS):
        with pytest.raises(PublishUnknown):
            await client.publish(stage.topic, "in question")
    assert await rest(reader, ["in question"]) == ["before", "in question"]


async def test_a_silent_broker_does_not_connect(stage: Stage) -> None:
    stage.proxy.black_hole()
    async with within(SILENT_SECONDS):
        with pytest.raises(BrokerUnavailable):
            await AsyncClient(stage.url).publish(stage.topic, "x")


async def test_a_blocking_client_does_not_hang_either(stage: Stage) -> None:
    def publish() -> None:
        with Client(stage.url) as client:
            client.publish(stage.topic, "before")
            stage.proxy.black_hole()
            with pytest.raises((PublishUnknown, BrokerUnavailable)):
                client.publish(stage.topic, "x")

    async with within(2 * SILENT_SECONDS):
        await asyncio.to_thread(publish)
