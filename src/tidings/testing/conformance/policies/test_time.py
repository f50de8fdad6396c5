"""What time is promised: nothing is delivered before it is due, and nothing after it expired."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidings import AsyncClient, InvalidOption, TopicOptions
from tidings.model.capability import Capability
from tidings.model.options import MAX_KEEP_SECONDS, MAX_SCHEDULE_SECONDS
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import (
    expect_end,
    expect_no_more,
    lag_is,
    manual,
    pass_time,
    prepare,
    standing,
)
from tidings.testing.conformance.stage.place import Place, data, take
from tidings.testing.conformance.stage.worker import Worker

SOON = 0.15
"""Seconds of a delay or a life that a case waits out: longer than a publish takes, far shorter than a case."""

LATER = 0.4
"""Seconds within which a case has to do something: enough on a busy machine."""

NUMBERS: list[Any] = [-1, -0.001, "1", True, MAX_SCHEDULE_SECONDS * 1.01, float("nan")]
"""What is no period."""


async def expect_refused(place: Place, client: AsyncClient, name: str, wrong: dict[str, Any]) -> None:
    """Fail unless every way to publish refuses the parameter by its name, and stores nothing."""
    with pytest.raises(InvalidOption) as caught:
        await client.publish(place.topic(), 1, **wrong)
    assert caught.value.name == name, wrong
    with pytest.raises(InvalidOption) as caught:
        await client.publish_batch(place.topic(), [1, 2], batch_size=1, **wrong)
    assert caught.value.name == name, wrong


# -- not before


@case(Capability.DELAY)
async def test_a_delayed_message_comes_when_it_is_due(place: Place) -> None:
    """Not before, and soon after, with all it was given; what was published later comes earlier."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        begun = time.monotonic()
        receipt = await client.publish(
            place.topic(), "late", delay_seconds=LATER, partition_key="k", headers={"a": "b"}, message_id="the-id"
        )
        assert (receipt.offset, receipt.partition, receipt.message_id) == (-1, -1, "the-id")
        assert receipt.scheduled is not None
        now = await client.publish(place.topic(), "now")
        assert now.scheduled is None
        assert data(await take(subscription, 1)) == ["now"]
        (late,) = await take(subscription, 1)
        assert LATER <= time.monotonic() - begun < 5
        assert (late.data, late.key, dict(late.headers), late.id) == ("late", "k", {"a": "b"}, "the-id")
        assert late.attempt == 1
        await expect_no_more(client, subscription, place.topic())


@case(Capability.DELAY)
async def test_a_time_may_be_given_for_it(place: Place) -> None:
    """With a zone, or in local time; one that has passed is now."""
    client = place.client()
    zone = timedelta(seconds=LATER)
    async with client.subscribe(place.topic()) as subscription:
        begun = time.time()
        await client.publish(place.topic(), "zone", deliver_at=datetime.now(UTC) + zone)
        await client.publish(place.topic(), "local", deliver_at=datetime.now() + zone)  # noqa: DTZ005
        await client.publish(place.topic(), "past", deliver_at=datetime.now(UTC) - timedelta(days=1))
        await client.publish(place.topic(), "zero", delay_seconds=0)
        assert data(await take(subscription, 2)) == ["past", "zero"]
        assert sorted(data(await take(subscription, 2))) == ["local", "zone"]
        assert time.time() - begun >= LATER


@case(Capability.DELAY)
async def test_delayed_messages_come_in_the_order_of_their_times(place: Place) -> None:
    """Those of one time in the order of publishing, as a batch or one by one."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        at = datetime.now(UTC) + timedelta(seconds=1.5 * LATER)
        receipts = await client.publish_batch(place.topic(), ["c", "d"], deliver_at=at)
        await client.publish(place.topic(), "e", deliver_at=at)
        await client.publish(place.topic(), "a", delay_seconds=SOON / 3)
        await client.publish(place.topic(), "b", delay_seconds=SOON)
        assert len({receipt.scheduled for receipt in receipts} - {None}) == 2
        found = data(await take(subscription, 5))
        if Capability.CANCEL not in place.subject.capabilities:  # each waits by itself, on a way of its own
            found[2:] = sorted(found[2:])
        assert found == ["a", "b", "c", "d", "e"]


@case(Capability.DELAY)
async def test_none_comes_before_its_own_time(place: Place) -> None:
    """Also when another one has just become due."""
    client = place.client()
    begun: dict[float, float] = {}
    async with client.subscribe(place.topic()) as subscription:
        for delay in (0.3, 0.24, 0.18, 0.12, 0.06):
            begun[delay] = time.monotonic()
            await client.publish(place.topic(), delay, delay_seconds=delay)
        for _ in begun:
            (message,) = await take(subscription, 1)
            assert time.monotonic() - begun[message.data] >= message.data


@case(Capability.DELAY, Capability.CANCEL)
async def test_a_delayed_message_can_be_taken_back(place: Place) -> None:
    """Once, and by anybody with the receipt; what was delivered, or never scheduled, cannot."""
    client, other = place.client(), place.client()
    async with client.subscribe(place.topic()) as subscription:
        first = await client.publish(place.topic(), "first", delay_seconds=LATER)
        gone, kept = await client.publish_batch(place.topic(), ["gone", "kept"], delay_seconds=LATER)
        assert await other.cancel(gone) is True
        assert await client.cancel(gone) is False
        assert await other.cancel(gone) is False
        assert data(await take(subscription, 2)) == ["first", "kept"]
        assert [await client.cancel(receipt) for receipt in (first, gone, kept)] == [False] * 3
        assert await client.cancel(await client.publish(place.topic(), "now")) is False
        assert data(await take(subscription, 1)) == ["now"]
        await expect_no_more(client, subscription, place.topic())


@case(Capability.DELAY, Capability.GROUPS)
async def test_a_delayed_message_goes_to_whoever_is_there_then(place: Place) -> None:
    """Also to groups and subscriptions that came after it was published; it is no lag before."""
    client = place.client()
    await client.publish(place.topic(), "late", delay_seconds=LATER)
    await client.create_group(place.topic(), place.group())
    assert await lag_is(place, client, 0)
    async with client.subscribe(place.topic()) as temporary:
        assert data(await take(temporary, 1)) == ["late"]
    assert await lag_is(place, client, 1)
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 1)) == ["late"]


@case(Capability.DELAY)
async def test_many_who_wait_get_each_delayed_message_once(place: Place) -> None:
    """However many clients look after it at the same time."""
    clients = [place.client() for _ in range(4)]
    subscriptions = [client.subscribe(place.topic()) for client in clients]
    for subscription in subscriptions:
        await subscription.open()
    for number in range(20):
        await clients[number % 4].publish(place.topic(), number, delay_seconds=SOON)
    for subscription in subscriptions:
        assert sorted(data(await take(subscription, 20))) == list(range(20))
    assert (await clients[0].describe_topic(place.topic())).messages == place.messages(20)
    await expect_no_more(clients[1], subscriptions[0], place.topic())


@case(Capability.PROCESSES, Capability.DELAY, Capability.REPLAY)
async def test_a_delayed_message_outlives_its_publisher(place: Place) -> None:
    """Killed before it was due, with nobody there: whoever comes next gets it."""
    async with Worker(place.kind, place.url) as worker:
        assert await worker.ask("send", place.topic(), 7, {"delay_seconds": SOON}) == [-1, False, True]
        await worker.kill()
    client = place.client()
    async with client.subscribe(place.topic(), from_beginning=True) as subscription:
        assert data(await take(subscription, 1)) == [7]
        await expect_no_more(client, subscription, place.topic())


@case(Capability.DELAY)
async def test_what_is_no_delay_is_refused_by_name(place: Place) -> None:
    """Nothing is stored, and nothing scheduled; only one of the two may be given."""
    client = place.client()
    times: list[Any] = ["tomorrow", 5, time.time(), timedelta(seconds=5), datetime.max.replace(tzinfo=UTC)]
    async with client.subscribe(place.topic()) as subscription:
        for value in NUMBERS:
            await expect_refused(place, client, "delay_seconds", {"delay_seconds": value})
        for value in times:
            await expect_refused(place, client, "deliver_at", {"deliver_at": value})
        both = {"delay_seconds": 5, "deliver_at": datetime.now(UTC)}
        with pytest.raises(InvalidOption) as caught:
            await client.publish(place.topic(), 1, **both)  # type: ignore[arg-type]
        assert caught.value.name in both
        await client.publish(place.topic(), "sound")
        assert data(await take(subscription, 1)) == ["sound"]


# -- not after


@case(Capability.EXPIRY, Capability.PATTERNS, Capability.TOPICS)
async def test_a_message_says_when_it_expires(place: Place) -> None:
    """After its time to live, that of its topic, or the shorter of the two; None where there is none."""
    client = place.client()
    await client.create_topic(place.topic("mortal"), TopicOptions(message_ttl=timedelta(minutes=2)))
    lives: list[tuple[str, float | None, float | None]] = [
        ("plain", None, None),
        ("plain", 60, 60),
        ("mortal", None, 120),
        ("mortal", 60.5, 60.5),
        ("mortal", 600, 120),
    ]
    async with client.subscribe(place.topic("*")) as subscription:
        for topic, ttl, life in lives:
            await client.publish(place.topic(topic), ttl, ttl_seconds=ttl)
            (message,) = await take(subscription, 1)
            if life is None:
                assert message.expires_at is None
            else:
                assert message.expires_at is not None
                assert abs(message.expires_at - message.published_at - life) < 1, (topic, ttl)


@case(Capability.EXPIRY, Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_an_expired_message_is_not_delivered(place: Place) -> None:
    """Those around it are; it is counted, and lag no more when that was seen."""
    client = place.client()
    await prepare(place, client)
    for value, ttl in (("gone", SOON), ("kept", 60), ("gone", SOON), ("gone", 0.001), ("plain", None)):
        await client.publish(place.topic(), value, ttl_seconds=ttl)
    await pass_time(place, client, SOON)
    async with manual(place, client) as subscription:
        found = await take(subscription, 2)
        assert data(found) == ["kept", "plain"]
        await subscription.ack(found)
    await expect_end(place, client)
    standings = await standing(place, client)
    assert (standings.acked, standings.expired, standings.dead) == (2, 3, 0)
    assert await client.dead_letters(place.topic()).count() == 0


@case(Capability.EXPIRY, Capability.GROUPS)
async def test_a_topic_may_set_how_long_its_messages_live(place: Place) -> None:
    """For all of them; a publish may ask for less, and not for more."""
    client = place.client()
    await prepare(place, client, message_ttl=SOON)
    await client.publish_batch(place.topic(), ["gone", "gone"])
    await client.publish(place.topic(), "gone", ttl_seconds=600)
    async with manual(place, client) as subscription:
        await pass_time(place, client, SOON)
        await client.publish(place.topic(), "fresh")
        assert data(await take(subscription, 1)) == ["fresh"]
    assert (await standing(place, client)).expired == 3


@case(Capability.EXPIRY, Capability.REPLAY)
async def test_an_expired_message_is_not_replayed(place: Place) -> None:
    """To a temporary subscription that starts earlier."""
    client = place.client()
    await client.publish_batch(place.topic(), ["gone", "gone"], ttl_seconds=SOON)
    await client.publish(place.topic(), "alive", ttl_seconds=60)
    await client.publish(place.topic(), "immortal")
    await pass_time(place, client, SOON)
    async with client.subscribe(place.topic(), from_beginning=True) as subscription:
        assert data(await take(subscription, 2)) == ["alive", "immortal"]


@case(Capability.EXPIRY, Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_an_expired_message_may_be_a_dead_letter(place: Place) -> None:
    """With `dead_letter_expired`: as it was, and with its story; it counts as expired, not as dead."""
    client = place.client()
    await prepare(place, client, dead_letter_expired=True)
    await client.publish(place.topic(), "gone", ttl_seconds=SOON, message_id="the-id", headers={"a": "b"})
    await pass_time(place, client, SOON)
    await expect_end(place, client)
    (dead,) = await client.dead_letters(place.topic()).list()
    assert (dead.message.data, dead.message.id, dead.story.reason) == ("gone", "the-id", "expired")
    assert dead.story.group == place.group()
    standings = await standing(place, client)
    assert (standings.expired, standings.dead, standings.acked) == (1, 0, 0)


@case(Capability.EXPIRY, Capability.GROUPS)
async def test_what_is_held_when_it_expires_can_be_acked(place: Place) -> None:
    """A retry of it does not come any more: it is counted as expired."""
    client = place.client()
    await prepare(place, client)
    await client.publish_batch(place.topic(), ["acked", "nacked"], ttl_seconds=LATER)
    async with manual(place, client) as subscription:
        acked, nacked = await take(subscription, 2)
        await pass_time(place, client, LATER)
        await acked.ack()
        await nacked.nack(delay_seconds=0)
        assert await subscription.fetch(1, timeout=0) == []
    standings = await standing(place, client)
    assert (standings.acked, standings.expired, standings.lag) == (1, 1, 0)


@case(Capability.EXPIRY)
async def test_what_is_no_time_to_live_is_refused_by_name(place: Place) -> None:
    """Of a message or a topic; nothing is stored, and no topic is made."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        for value in [0, *NUMBERS]:
            await expect_refused(place, client, "ttl_seconds", {"ttl_seconds": value})
        for value in [0, *NUMBERS[:-2], MAX_KEEP_SECONDS * 1.01, float("nan")]:
            with pytest.raises(InvalidOption) as caught:
                await client.create_topic(place.topic("other"), TopicOptions(message_ttl=value))
            assert caught.value.name == "message_ttl"
        await client.publish(place.topic(), "sound")
        assert data(await take(subscription, 1)) == ["sound"]
    assert not await place.is_known(client, place.topic("other"))


@case(Capability.DELAY, Capability.DEDUPLICATION)
async def test_a_scheduled_repetition_is_one_message(place: Place) -> None:
    """On an exactly-once topic the id counts before the message is delivered, too: one cancel takes it back."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(delivery="exactly_once"))
    first = await client.publish(place.topic(), 1, message_id="one", delay_seconds=3600)
    again = await client.publish(place.topic(), 1, message_id="one", delay_seconds=3600)
    assert (first.duplicate, again.duplicate) == (False, True)
    assert await client.cancel(again)
    assert not await client.cancel(first)
