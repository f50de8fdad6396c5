"""What dead letters are promised: nothing is lost of the message, its story is told, and it can be sent back."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tidings import AsyncClient, AsyncSubscription, InvalidOption, TopicOptions
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import (
    counted,
    expect_end,
    expect_no_more,
    fill,
    manual,
    standing,
    told,
)
from tidings.testing.conformance.stage.place import SECONDS, Place, data, take
from tidings.testing.conformance.stage.worker import Worker

REDRIVE = (Capability.GROUPS, Capability.DEAD_LETTERS, Capability.TRANSACTIONS)
"""What it takes to send dead letters back."""

STORY = ("topic", "partition", "offset", "group", "reason", "error", "attempts", "published-at", "died-at")
"""What the headers of a dead letter tell, each behind `tidings-dead-`."""


async def reject(subscription: AsyncSubscription, count: int, reason: str = "") -> list[Any]:
    """Take messages and give them up; return them."""
    found = await take(subscription, count)
    for message in found:
        await message.nack(requeue=False, reason=reason)
    return found


async def kill(place: Place, client: AsyncClient, messages: Any, **options: Any) -> None:
    """Publish to the place's topic and group and give all of it up."""
    values = list(messages)
    await fill(place, client, values, **options)
    async with manual(place, client) as subscription:
        await reject(subscription, len(values), "as the case wants it")


@case(Capability.GROUPS, Capability.DEAD_LETTERS, Capability.REPLAY)
async def test_a_dead_letter_is_the_message_with_its_story(place: Place) -> None:
    """Id, key, headers, data and type stay; the headers say where it comes from, why, and when."""
    client = place.client()
    await fill(place, client, ["before"])
    before = time.time()
    receipt = await client.publish(
        place.topic(), {"n": [1, None]}, partition_key="k", headers={"trace": "7"}, message_id="the-id"
    )
    async with manual(place, client) as subscription:
        first, message = await take(subscription, 2)
        await first.ack()
        await message.nack(requeue=False, reason="unpayable")
    async with client.subscribe(f"dead-letters/{place.topic()}", from_beginning=True) as reader:
        (dead,) = await take(reader, 1)
        await expect_no_more(client, reader, f"dead-letters/{place.topic()}")
    assert (dead.id, dead.key, dead.data, dead.attempt) == ("the-id", "k", {"n": [1, None]}, 1)
    assert dead.content_type == message.content_type
    headers = dict(dead.headers)
    assert headers.pop("trace") == "7"
    assert set(headers) == {f"tidings-dead-{name}" for name in STORY}
    (listed,) = await client.dead_letters(place.topic()).list()
    story = listed.story
    assert (story.topic, story.partition, story.offset) == (place.topic(), receipt.partition, receipt.offset)
    assert (story.group, story.reason, story.error, story.attempts) == (place.group(), "unpayable", "", 1)
    assert abs(story.published_at - message.published_at) < 0.01
    assert before - 1 <= story.died_at <= time.time() + 1
    for name in ("topic", "reason", "group"):
        assert headers[f"tidings-dead-{name}"] == getattr(story, name)


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_what_is_rejected_is_given_up_at_once(place: Place) -> None:
    """Whatever retries are left; the reason is the consumer's, on one line, or says that it was rejected."""
    client = place.client()
    await fill(place, client, range(3), max_retries=100)
    async with manual(place, client) as subscription:
        for reason in ("", "bad\r\n\tdata\0 ☃", "long " * 1000):
            await reject(subscription, 1, reason)
    await expect_end(place, client)
    found = await standing(place, client)
    assert (found.dead, found.failed, found.redelivered) == (3, 3, 0)
    reasons = [dead.story.reason for dead in await client.dead_letters(place.topic()).list()]
    assert reasons[0] == "rejected"
    assert reasons[1].startswith("bad data")
    assert reasons[1].isprintable()
    assert reasons[2].startswith("long long")
    assert len(reasons[2]) <= 1000


@case(Capability.GROUPS, Capability.DEAD_LETTERS, Capability.GROUP_REPLAY)
async def test_each_group_buries_for_itself(place: Place) -> None:
    """What one gives up, another may still do."""
    client = place.client()
    await fill(place, client, ["x"])
    await client.create_group(place.topic(), place.group("other"), from_beginning=True)
    async with manual(place, client) as one:
        await reject(one, 1, "mine")
    async with client.subscribe(place.topic(), consumer_group=place.group("other"), auto_ack=False) as other:
        (message,) = await take(other, 1)
        assert (await client.dead_letters(place.topic()).count()) == 1
        await message.nack(requeue=False, reason="theirs")
    stories = [dead.story for dead in await client.dead_letters(place.topic()).list()]
    assert [(story.group, story.reason) for story in stories] == [
        (place.group(), "mine"),
        (place.group("other"), "theirs"),
    ]


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_they_can_be_looked_at(place: Place) -> None:
    """Oldest first, as many as asked for, those that a filter wants; looking takes nothing away."""
    client = place.client()
    await kill(place, client, range(10))
    dead = client.dead_letters(place.topic())
    for _ in range(2):
        assert await dead.count() == 10
        assert [each.message.data for each in await dead.list()] == list(range(10))
        assert [each.message.data for each in await dead.list(limit=3)] == [0, 1, 2]
        odd = await dead.list(limit=2, filter=lambda each: each.message.data % 2 == 1)
        assert [each.message.data for each in odd] == [1, 3]
        assert await dead.list(filter=lambda each: each.story.reason == "other") == []
        first = await dead.peek()
        assert first is not None
        assert (first.message.data, [first.story.offset]) == (0, place.offsets([0]))
    by_name = client.dead_letters(f"dead-letters/{place.topic()}")
    assert await by_name.count() == 10


@case(Capability.DEAD_LETTERS)
async def test_where_nothing_died_there_is_nothing(place: Place) -> None:
    """Nothing to list, to send back or to throw away; and asking makes no topic."""
    client = place.client()
    await client.publish(place.topic(), "alive")
    dead = client.dead_letters(place.topic())
    assert await dead.list() == []
    assert await dead.peek() is None
    assert [await dead.count(), await dead.redrive(), await dead.purge()] == [0, 0, 0]
    assert f"dead-letters/{place.topic()}" not in [info.name for info in await client.topics()]


@case(*REDRIVE)
async def test_they_can_be_sent_back(place: Place) -> None:
    """To the topic they came from, oldest first, as they were when they lived; then they are dead letters no more."""
    client = place.client()
    await fill(place, client, [])
    for number in range(5):
        await client.publish(
            place.topic(), number, partition_key="k", headers={"n": str(number)}, message_id=f"id-{number}"
        )
    async with manual(place, client) as subscription:
        await reject(subscription, 5)
        progress: list[Any] = []
        assert await client.dead_letters(place.topic()).redrive(on_progress=progress.append) == 5
        assert progress
        again = await take(subscription, 5)
        assert told(place, again) == [(number, 1) for number in range(5)]
        assert [(message.id, message.key) for message in again] == [(f"id-{number}", "k") for number in range(5)]
        assert [dict(message.headers) for message in again] == [{"n": str(number)} for number in range(5)]
        await subscription.ack(again)
    assert await client.dead_letters(place.topic()).count() == 0
    assert await client.dead_letters(place.topic()).redrive() == 0
    found = await standing(place, client)
    assert (found.dead, found.acked, found.lag) == (5, 5, 0)


@case(*REDRIVE)
async def test_some_of_them_can_be_sent_back(place: Place) -> None:
    """So many, or those that a filter wants; the others stay where they are, in their order."""
    client = place.client()
    await kill(place, client, range(10))
    dead = client.dead_letters(place.topic())
    assert await dead.redrive(limit=2) == 2
    assert await dead.redrive(filter=lambda each: each.message.data in (5, 7, 9), limit=2) == 2
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 4)) == [0, 1, 5, 7]
        assert (await standing(place, client)).lag == 4
    assert [each.message.data for each in await dead.list()] == [2, 3, 4, 6, 8, 9]
    assert [each.message.data for each in [await dead.peek()] if each is not None] == [2]


@case(*REDRIVE)
async def test_what_dies_again_has_a_new_story(place: Place) -> None:
    """Its attempts are counted anew, and its headers tell of the last death only."""
    client = place.client()
    await fill(place, client, ["x"], max_retries=0)
    async with manual(place, client) as subscription:
        await reject(subscription, 1, "first")
        assert await client.dead_letters(place.topic()).redrive() == 1
        (again,) = await take(subscription, 1)
        await again.nack()
    (dead,) = await client.dead_letters(place.topic()).list()
    assert (dead.message.data, dead.story.reason, dead.story.attempts) == ("x", "retries exhausted", 1)
    assert dead.story.topic == place.topic()
    assert len([name for name in dead.message.headers if name.startswith("tidings-dead-")]) == len(STORY)


@case(*REDRIVE)
async def test_sending_back_can_be_slow(place: Place) -> None:
    """`rate` messages per second and no more, so that who failed is not overrun."""
    client = place.client()
    await kill(place, client, range(6))
    begun = time.monotonic()
    assert await client.dead_letters(place.topic()).redrive(rate=25) == 6
    assert time.monotonic() - begun >= 5 / 25 - 0.02


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_they_can_be_thrown_away(place: Place) -> None:
    """All, so many, or those that a filter wants; what was thrown away is not sent back."""
    client = place.client()
    await kill(place, client, range(8))
    dead = client.dead_letters(place.topic())
    assert await dead.purge(limit=1) == 1
    assert await dead.purge(filter=lambda each: each.message.data >= 5, limit=2) == 2
    assert [each.message.data for each in await dead.list()] == [1, 2, 3, 4, 7]
    assert await dead.purge() == 5
    assert [await dead.count(), await dead.purge(), await dead.redrive()] == [0, 0, 0]
    await expect_end(place, client)


@case(*REDRIVE, Capability.REPLAY)
async def test_a_topic_may_name_its_dead_letter_topic(place: Place) -> None:
    """Fixed, or with its own name in it; several topics may share one, and each has its own dead letters there."""
    client = place.client()
    one, two, made = place.topic("one"), place.topic("two"), place.topic("made")
    for topic in (one, two):
        await client.create_topic(topic, TopicOptions(dead_letter_topic=place.topic("graves")))
    await client.create_topic(made, TopicOptions(dead_letter_topic="{topic}/graves"))
    async with client.subscribe([one, two, made], consumer_group=place.group(), auto_ack=False) as subscription:
        for number in range(3):
            for topic in (one, two, made):
                await client.publish(topic, [topic, number])
        await reject(subscription, 9)
        for topic in (one, two, made):
            listed = await client.dead_letters(topic).list()
            assert [each.message.data for each in listed] == [[topic, number] for number in range(3)]
        for graves, count in (("graves", 6), ("made/graves", 3)):
            async with client.subscribe(place.topic(graves), from_beginning=True) as reader:
                await take(reader, count)
                await expect_no_more(client, reader, place.topic(graves))
        assert await client.dead_letters(one).purge(limit=1) == 1
        assert await client.dead_letters(one).redrive() == 2
        back = await take(subscription, 2)
        assert [(message.topic, message.data) for message in back] == [(one, [one, 1]), (one, [one, 2])]
        await expect_no_more(client, subscription, one)
        counts = [await client.dead_letters(topic).count() for topic in (one, two, made)]
        assert counts == [0, 3, 3]


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_a_topic_may_have_none(place: Place) -> None:
    """Then what is given up is dropped, and counted."""
    client = place.client()
    await kill(place, client, range(3), dead_letter_topic=None)
    await expect_end(place, client)
    assert (await standing(place, client)).dead == 3
    names = [info.name for info in await client.topics() if info.name.endswith(place.topic())]
    assert names == [place.topic()]


@case(Capability.GROUPS, Capability.DEAD_LETTERS, Capability.GROUP_REPLAY)
async def test_dead_letters_do_not_go_round_in_circles(place: Place) -> None:
    """What is given up among dead letters is dropped and counted."""
    client = place.client()
    await kill(place, client, range(2))
    graves = f"dead-letters/{place.topic()}"
    async with client.subscribe(graves, consumer_group=place.group("g"), auto_ack=False, from_beginning=True) as reader:
        await reject(reader, 2)
        await expect_no_more(client, reader, graves)
    (found,) = [counted(place, info) for info in await client.groups(graves)]
    assert (found.dead, found.lag) == (2, 0)
    names = [info.name for info in await client.topics() if place.topic() in info.name]
    assert sorted(names) == sorted([place.topic(), graves])


@case(Capability.PROCESSES, Capability.GROUPS, Capability.DEAD_LETTERS, Capability.DEATH_WATCH)
async def test_a_death_that_was_recorded_outlives_its_process(place: Place) -> None:
    """Killed right after: each of them is a dead letter once, and no delivery any more."""
    client = place.client()
    await fill(place, client, range(10))
    async with Worker(place.kind, place.url) as worker:
        await worker.ask("subscribe", place.topic(), place.group())
        assert len(await worker.ask("take", 10, SECONDS)) == 10
        for number in range(4):
            assert await worker.ask("reject", f"reason {number}")
        await worker.kill()
    async with manual(place, client) as subscription:
        assert sorted(data(await take(subscription, 6))) == list(range(4, 10))
        assert (await standing(place, client)).lag == 6
    listed = await client.dead_letters(place.topic()).list()
    assert [(each.message.data, each.story.reason) for each in listed] == [
        (number, f"reason {number}") for number in range(4)
    ]


WRONG: list[tuple[str, dict[str, Any]]] = [
    *((verb, {"limit": value}) for verb in ("list", "redrive", "purge") for value in (-1, "3", True, 1.5)),
    *((verb, {"filter": value}) for verb in ("list", "redrive", "purge") for value in ("x", 7)),
    *(("redrive", {"rate": value}) for value in (0, -1, "fast", True)),
    ("redrive", {"on_progress": "x"}),
]
"""What cannot be asked of dead letters."""


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_what_they_cannot_be_asked_is_refused_by_name(place: Place) -> None:
    """And nothing is moved."""
    client = place.client()
    await kill(place, client, ["x"])
    dead = client.dead_letters(place.topic())
    for verb, wrong in WRONG:
        with pytest.raises(InvalidOption) as caught:
            await getattr(dead, verb)(**wrong)
        assert [caught.value.name] == list(wrong), (verb, wrong)
    assert await dead.count() == 1
    assert (await standing(place, client)).lag == 0


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_a_reason_is_text(place: Place) -> None:
    """Another value is refused by name, and the message stays its consumer's."""
    client = place.client()
    await fill(place, client, ["x"])
    wrong: Any
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        for wrong in (7, None, b"x"):
            with pytest.raises(InvalidOption) as caught:
                await message.nack(requeue=False, reason=wrong)
            assert caught.value.name == "reason"
        await message.ack()
    assert (await standing(place, client)).acked == 1
