"""What changing a topic is promised: from now on and for everybody, only what was asked for, or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tidings import InvalidOption, InvalidTopic, TopicNotFound, TopicOptions, UnsupportedFeature
from tidings.errors import TopicFull
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import (
    AT_ONCE,
    expect_no_more,
    fail,
    fill,
    manual,
    pass_time,
    prepare,
    standing,
)
from tidings.testing.conformance.stage.place import Place, data, take
from tidings.testing.conformance.stage.worker import Worker


@case(Capability.ALTER, Capability.DEAD_LETTERS)
async def test_only_what_is_named_is_changed(place: Place) -> None:
    """The other options stay as they are, and so do the messages; what it returns is what is there."""
    client, other = place.client(), place.client()
    options = TopicOptions(max_retries=3, retry_delay=7, retry_backoff=1.5)
    await client.create_topic(place.topic(), options)
    await client.publish_batch(place.topic(), range(5))
    info = await client.alter_topic(place.topic(), retry_delay=0.5, dead_letter_topic=None)
    wanted = TopicOptions(max_retries=3, retry_delay=0.5, retry_backoff=1.5, dead_letter_topic=None)
    assert (info.name, info.options, info.messages) == (place.topic(), wanted, place.messages(5))
    for each in (client, other):
        assert (await each.describe_topic(place.topic())).options == wanted
    assert (await other.alter_topic(place.topic())).options == wanted
    await other.alter_topic(place.topic(), retry_delay=7, dead_letter_topic=options.dead_letter_topic)
    assert (await client.describe_topic(place.topic())).options == options


@case(Capability.ALTER, Capability.GROUPS, Capability.DEAD_LETTERS, Capability.REPLAY)
async def test_retries_go_by_what_is_said_now(place: Place) -> None:
    """Also those of messages that were published, and fetched, before."""
    client, other = place.client(), place.client()
    await fill(place, client, ["x"], max_retries=100, **AT_ONCE)
    async with manual(place, client) as subscription:
        assert await fail(subscription, 3) == [1, 2, 3]
        (message,) = await take(subscription, 1)
        await other.alter_topic(place.topic(), max_retries=3, dead_letter_topic=place.topic("graves"))
        await message.nack()
        await expect_no_more(client, subscription, place.topic())
    assert (await standing(place, client)).dead == 1
    async with client.subscribe(place.topic("graves"), from_beginning=True) as graves:
        assert data(await take(graves, 1)) == ["x"]


@case(Capability.ALTER, Capability.GROUPS, Capability.MAX_LENGTH)
async def test_a_bound_holds_from_now_on(place: Place) -> None:
    """What is there beyond it stays; when it is lifted there is room again."""
    client, other = place.client(), place.client()
    await fill(place, client, range(5))
    await other.alter_topic(place.topic(), max_length=3)
    assert (await client.describe_topic(place.topic())).options.max_length == 3
    with pytest.raises(TopicFull):
        await client.publish(place.topic(), 5)
    await other.alter_topic(place.topic(), max_length=None)
    await client.publish_batch(place.topic(), range(5, 9))
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 9)) == list(range(9))


@case(Capability.ALTER, Capability.GROUPS, Capability.MAX_LENGTH)
async def test_what_a_full_topic_does_may_be_changed(place: Place) -> None:
    """Where groups collect already an engine without `EXACT_LENGTH` may refuse that by name: nothing is changed."""
    client, other = place.client(), place.client()
    await fill(place, client, range(5), max_length=5)
    try:
        await other.alter_topic(place.topic(), max_length=3, overflow="drop_oldest")
    except UnsupportedFeature:
        assert Capability.EXACT_LENGTH not in place.subject.capabilities
        assert (await client.describe_topic(place.topic())).options == TopicOptions(max_length=5)
        return
    await client.publish(place.topic(), 5)
    assert (await standing(place, client)).lag == 3
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 3)) == [3, 4, 5]


@case(Capability.ALTER, Capability.GROUPS, Capability.EXPIRY)
async def test_a_time_to_live_holds_for_what_is_published_from_now_on(place: Place) -> None:
    """And no more when it is taken away."""
    client = place.client()
    await prepare(place, client)
    await client.publish(place.topic(), "before")
    await client.alter_topic(place.topic(), message_ttl=0.05)
    await client.publish(place.topic(), "meanwhile")
    await client.alter_topic(place.topic(), message_ttl=None)
    await client.publish(place.topic(), "after")
    await pass_time(place, client, 0.1)
    async with manual(place, client) as subscription:
        found = data(await take(subscription, 2))
        await expect_no_more(client, subscription, place.topic())
    assert found == ["before", "after"]


@case(Capability.ALTER, Capability.GROUPS, Capability.AT_MOST_ONCE)
async def test_the_guarantee_may_be_changed(place: Place) -> None:
    """For what is fetched from now on; what is held under the old one is settled under it."""
    client = place.client()
    await fill(place, client, range(4))
    async with manual(place, client) as subscription:
        held = await take(subscription, 2)
        await client.alter_topic(place.topic(), delivery="at_most_once")
        await held[0].ack()
        found = await take(subscription, 2)
        assert data(found) == [2, 3]
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 1)) == [1]
    assert (await standing(place, client)).lag == 0


@case(Capability.ALTER, Capability.DEDUPLICATION)
async def test_ids_count_from_the_change_on(place: Place) -> None:
    """A topic that becomes exactly-once knows the ids of what is published from then on, at least."""
    client, other = place.client(), place.client()
    await client.create_topic(place.topic())
    await client.alter_topic(place.topic(), delivery="exactly_once")
    first = await other.publish(place.topic(), 1, message_id="a")
    again = await client.publish(place.topic(), 2, message_id="a")
    assert (first.duplicate, again.duplicate, again.offset) == (False, True, first.offset)
    await other.alter_topic(place.topic(), delivery="at_least_once")
    assert not (await client.publish(place.topic(), 3, message_id="a")).duplicate


@case(Capability.PROCESSES, Capability.ALTER, Capability.GROUPS, Capability.EXACT_LENGTH)
async def test_a_change_is_seen_by_all_processes(place: Place) -> None:
    """By one that had the topic open, at its next publish: who counts exactly looks at the options each time."""
    client = place.client()
    await fill(place, client, range(3))
    async with Worker(place.kind, place.url) as worker:
        assert await worker.ask("publish", place.topic(), 3, 1) == place.offsets([3])
        await client.alter_topic(place.topic(), max_length=2)
        assert await worker.ask("publish", place.topic(), 4, 1) == {"error": "TopicFull"}
        await client.alter_topic(place.topic(), max_length=None)
        assert await worker.ask("publish", place.topic(), 4, 1) == place.offsets([4])


WRONG: list[dict[str, Any]] = [
    {"partitions": 3},
    {"max_retries": -1},
    {"max_retries": "many"},
    {"max_retries": 1.5},
    {"retry_backoff": 0.5},
    {"message_ttl": 0},
    {"max_length": 0},
    {"delivery": "twice"},
    {"overflow": "explode"},
    {"compression": "rar"},
    {"dead_letter_topic": "a//b"},
    {"dead_letter_topic": 7},
    {"dead_letter_expired": "yes"},
    {"retention_messages": -1},
    {"retention_messages": "all"},
    {"no_such_option": 1},
]


@case(Capability.ALTER, Capability.PARTITIONS)
async def test_what_cannot_be_is_refused_by_name(place: Place) -> None:
    """Nothing is changed, also nothing of what was asked for beside it."""
    client = place.client()
    options = TopicOptions(retry_delay=3)
    await client.create_topic(place.topic(), options)
    for wrong in WRONG:
        with pytest.raises(InvalidOption) as caught:
            await client.alter_topic(place.topic(), **{"retry_delay": 9, **wrong})
        assert [caught.value.name] == list(wrong), wrong
        assert (await client.describe_topic(place.topic())).options == options
    with pytest.raises(TopicNotFound):
        await client.alter_topic(place.topic("nowhere"), retry_delay=1)
    with pytest.raises(InvalidTopic):
        await client.alter_topic("a//b", retry_delay=1)
    assert place.topic("nowhere") not in [info.name for info in await client.topics()]


@case()
async def test_what_no_topic_can_have_is_refused_by_name(place: Place) -> None:
    """When it is made, as when it is altered; and no topic is made."""
    client = place.client()
    for wrong in WRONG:
        (name,) = wrong
        if name in ("partitions", "no_such_option"):
            continue
        with pytest.raises(InvalidOption) as caught:
            await client.create_topic(place.topic(), TopicOptions(**wrong))
        assert caught.value.name == name, wrong
    assert not await place.is_known(client, place.topic())
