"""A publish whose answer is lost: it is told as what it is, and can be repeated."""

from __future__ import annotations

import pytest

from tests.brokers.faults.stage import REQUEST_SECONDS, Stage, patient, rest, within
from tidings import PublishUnknown, TopicOptions
from tidings.errors import BrokerUnavailable

MARKER = "the one in question"


async def test_a_publish_without_an_answer_is_unknown_and_there_once(stage: Stage) -> None:
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    reader = await stage.reader(straight)
    await client.publish(stage.topic, "before")
    stage.proxy.drop_reply(request=MARKER.encode())
    async with within(REQUEST_SECONDS):
        with pytest.raises(PublishUnknown):
            await client.publish(stage.topic, MARKER, message_id="m1")
    await client.publish(stage.topic, "after")  # it has found its way back
    assert await rest(reader, ["after"]) == ["before", MARKER, "after"]


async def test_a_batch_without_an_answer_is_unknown_and_there_at_most_once(stage: Stage) -> None:
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    reader = await stage.reader(straight)
    await client.publish(stage.topic, -1)
    stage.proxy.drop_reply(request=MARKER.encode())
    batch = [*range(50), MARKER, *range(50, 100)]
    async with within(REQUEST_SECONDS):
        with pytest.raises(PublishUnknown):
            await client.publish_batch(stage.topic, batch)
    await client.publish(stage.topic, "after")
    found = [each for each in await rest(reader, ["after"]) if each not in (-1, "after")]
    assert found == [each for each in batch if each in found], "in order, and none twice"


async def test_publishing_again_with_its_id_stores_it_once(stage: Stage) -> None:
    if not stage.kind.deduplicates:
        client = await stage.client()
        with pytest.raises(ValueError, match="exactly-once"):
            await client.create_topic(stage.topic, patient("exactly_once"))
        return
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient("exactly_once"))
    reader = await stage.reader(straight)
    await client.publish(stage.topic, "before")
    stage.proxy.drop_reply(request=MARKER.encode())
    try:
        await client.publish(stage.topic, MARKER, message_id="m1")
    except PublishUnknown:
        await client.publish(stage.topic, MARKER, message_id="m1")
    await client.publish(stage.topic, "after")
    assert await rest(reader, ["after"]) == ["before", MARKER, "after"]


async def test_a_publish_that_cannot_be_sent_failed(stage: Stage) -> None:
    """Nothing was sent, so nothing is there, also when the broker is back."""
    client, straight = await stage.client(), await stage.straight()
    await straight.create_topic(stage.topic, patient())
    reader = await stage.reader(straight)
    await client.publish(stage.topic, "before")
    stage.proxy.refuse()
    stage.proxy.cut()
    failed = []
    for number in range(3):
        async with within(2 * REQUEST_SECONDS):
            with pytest.raises((BrokerUnavailable, PublishUnknown)) as caught:
                await client.publish(stage.topic, number)
        failed += [number] * (caught.type is BrokerUnavailable)
    assert 2 in failed, "by then it is known that there is no connection"
    stage.proxy.heal()
    await client.publish(stage.topic, "after")
    found = await rest(reader, ["after"])
    assert not set(failed) & set(found)
    assert found[0] == "before"


async def test_making_a_topic_without_an_answer_can_be_repeated(stage: Stage) -> None:
    client, straight = await stage.client(), await stage.straight()
    options = TopicOptions(max_retries=3)
    await straight.create_topic(f"{stage.topic}/before", options)
    stage.proxy.drop_reply()
    async with within(2 * REQUEST_SECONDS):
        try:
            await client.create_topic(stage.topic, options)
        except (BrokerUnavailable, PublishUnknown):
            await client.create_topic(stage.topic, options)
    assert (await straight.describe_topic(stage.topic)).options == options
