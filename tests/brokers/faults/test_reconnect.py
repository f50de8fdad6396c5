"""Connections that break: subscriptions go on by themselves, and say so where something may be missing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from tests.brokers.faults.stage import CALM_SECONDS, Stage, patient, reached, rest, taken
from tidings import AsyncClient, AsyncSubscription, LeaseLost, Message, PublishUnknown, TopicOptions
from tidings.errors import BrokerUnavailable, Unroutable

LONG = "x" * 10_000
"""Nothing else that a broker says is as long."""

LATE_SECONDS = 0.3
"""How long the proxy holds what a broker says: less than requests wait, and long enough to be cut off meanwhile."""


async def published(client: AsyncClient, topic: str, data: Any) -> None:
    """Publish it for certain, perhaps more than once."""
    await reached(lambda: client.publish(topic, data), PublishUnknown)


async def until_heard(publisher: AsyncClient, stage: Stage, reader: AsyncSubscription) -> list[Any]:
    """Publish "?" until something comes; return the data of what came."""
    async with asyncio.timeout(CALM_SECONDS):
        while True:
            with suppress(Unroutable):  # the queue of who was cut off is gone, and nobody else has one
                await publisher.publish(stage.topic, "?")
            if found := await reader.fetch(500, timeout=0.2):
                return [message.data for message in found]


async def test_a_temporary_subscription_tells_of_its_gap_or_has_none(stage: Stage) -> None:
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    reader = await stage.reader(client)
    await straight.publish(stage.topic, "before")
    await taken(reader, 1)
    assert list(reader.gaps) == []
    stage.proxy.refuse()
    stage.proxy.cut()
    await straight.publish_batch(stage.topic, range(5))
    stage.proxy.heal()
    if stage.kind.resumes:
        assert await rest(reader, range(5)) == list(range(5))
        assert list(reader.gaps) == []
        return
    await until_heard(straight, stage, reader)
    (gap,) = reader.gaps
    assert gap.reason
    assert gap.since <= gap.until
    await straight.publish_batch(stage.topic, range(5, 10))
    assert [each for each in await rest(reader, range(5, 10)) if each != "?"][-5:] == list(range(5, 10))


async def test_what_is_delivered_at_most_once_has_a_gap_unless_all_of_it_came(stage: Stage) -> None:
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, TopicOptions(delivery="at_most_once"))
    reader = await stage.reader(client)
    await straight.publish(stage.topic, "before")
    await taken(reader, 1)
    assert list(reader.gaps) == []
    stage.proxy.refuse()
    stage.proxy.cut()
    with suppress(Unroutable):
        await straight.publish(stage.topic, "missed")
    stage.proxy.heal()
    found = await until_heard(straight, stage, reader)
    assert len(reader.gaps) == (found[0] != "missed")
    await straight.publish_batch(stage.topic, range(5))
    assert [each for each in await rest(reader, range(5)) if each != "?"] == list(range(5))


async def test_a_pattern_goes_on_and_hears_of_topics_that_were_made_meanwhile(stage: Stage) -> None:
    client, straight = await stage.client(), await stage.straight()
    reader = client.subscribe(f"{stage.topic}/*", consumer_group=stage.group, auto_ack=False)
    async with reader:
        await straight.publish(f"{stage.topic}/a", "before")
        await reader.ack(await taken(reader, 1))
        stage.proxy.refuse()
        stage.proxy.cut()
        await straight.publish(f"{stage.topic}/b", "meanwhile")
        stage.proxy.heal()
        await straight.publish(f"{stage.topic}/c", "after")
        assert sorted(set(await rest(reader, ["meanwhile", "after"]))) == ["after", "meanwhile"]


async def test_a_group_loses_nothing_and_repeats_only_what_was_held(stage: Stage) -> None:
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    await straight.create_group(stage.topic, stage.group)
    reader = await stage.member(client)
    await straight.publish_batch(stage.topic, range(20))
    messages = await taken(reader, 10)
    await reader.ack(messages[:5])
    stage.proxy.cut()
    await straight.publish_batch(stage.topic, range(20, 30))
    acked = {message.data for message in messages[:5]}
    held = {message.data for message in messages[5:]}
    found = await rest(reader, range(10, 30), unacked=held)
    assert not acked & set(found), "an ack that returned holds"
    again = {each for each in found if found.count(each) > 1}
    assert again <= held, "only what was held comes again"


async def test_a_delivery_that_is_lost_on_its_way_comes_again(stage: Stage) -> None:
    """The broker believes that the consumer has it, and the consumer lives on, so that nobody takes it over."""
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    await straight.create_group(stage.topic, stage.group)
    reader = await stage.member(client)
    stage.proxy.latency(LATE_SECONDS, "to_client")
    before = stage.proxy.taken("to_client")
    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(rest(reader, [LONG]))
        await straight.publish(stage.topic, LONG)
        await asyncio.to_thread(stage.proxy.wait_for_bytes, "to_client", before + len(LONG))
        stage.proxy.cut()
        stage.proxy.heal()
    assert set(fetching.result()) == {LONG}


@pytest.mark.parametrize("number", range(5))
async def test_an_ack_that_is_cut_is_one_or_none(stage: Stage, number: int) -> None:
    """Cut at another moment each time. What was acked for certain never comes again; the rest does, or was acked."""
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    await straight.create_group(stage.topic, stage.group)
    reader = await stage.member(client)
    await straight.publish_batch(stage.topic, range(40))
    messages = await taken(reader, 20)
    if number == 0:
        stage.proxy.drop_reply()
    ack = asyncio.ensure_future(reader.ack(messages))
    if number:
        for _ in range(2 ** (number - 1)):
            await asyncio.sleep(0)
        stage.proxy.cut()
    try:
        await ack
        certain = {message.data for message in messages}
    except (BrokerUnavailable, LeaseLost, PublishUnknown):
        certain = set()
    held = {message.data for message in messages}
    found = await rest(reader, set(range(40)) - held)
    assert not certain & set(found)
    assert set(range(40)) - held <= set(found) <= set(range(40)) - certain
    await reader.close()
    heir = await stage.member(straight)
    again = await rest(heir)
    assert set(again) <= held - certain, "whoever did not get it before gets it now"


async def test_a_listener_lives_on(stage: Stage) -> None:
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    await straight.create_group(stage.topic, stage.group)
    seen: list[Any] = []
    news = asyncio.Condition()

    async def handle(message: Message) -> None:
        async with news:
            seen.append(message.data)
            news.notify_all()

    async def until_seen(wanted: set[int]) -> None:
        async with asyncio.timeout(CALM_SECONDS), news:
            await news.wait_for(lambda: wanted <= set(seen))

    async with await client.listen(stage.topic, handle, consumer_group=stage.group):
        await straight.publish_batch(stage.topic, range(5))
        await until_seen(set(range(5)))
        stage.proxy.refuse()
        stage.proxy.cut()
        await straight.publish_batch(stage.topic, range(5, 10))
        stage.proxy.heal()
        await until_seen(set(range(10)))


async def test_everybody_finds_back_again_and_again(stage: Stage) -> None:
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    await straight.create_group(stage.topic, stage.group)
    reader = await stage.member(client)
    for number in range(10):
        stage.proxy.cut()
        await published(client, stage.topic, number)
    assert set(await rest(reader, range(10))) == set(range(10))


async def test_latency_slows_and_breaks_nothing(stage: Stage) -> None:
    client = await stage.client()
    await client.create_topic(stage.topic, patient())
    reader = await stage.member(client)
    stage.proxy.latency(0.05)
    await client.publish_batch(stage.topic, range(200))
    assert await rest(reader, range(200)) == list(range(200))
