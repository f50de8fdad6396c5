"""What retrying is promised: so many deliveries and no more, a back-off in between, and who is not counted."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from tidings import TopicOptions
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import (
    AT_ONCE,
    expect_end,
    expect_no_more,
    fail,
    fill,
    manual,
    pass_time,
    prepare,
    raise_at,
    standing,
    told,
)
from tidings.testing.conformance.stage.place import SECONDS, Place, data, take, until
from tidings.testing.conformance.stage.worker import Worker


@pytest.mark.parametrize("retries", [0, 1, 4])
@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_a_message_is_delivered_once_and_retried_so_often(place: Place, retries: int) -> None:
    """After `1 + max_retries` deliveries it is a dead letter, once, and the group has done with it."""
    client = place.client()
    await fill(place, client, ["x"], max_retries=retries)
    async with manual(place, client) as subscription:
        assert await fail(subscription, 1 + retries, delay_seconds=0) == list(range(1, 2 + retries))
    await expect_end(place, client)
    found = await standing(place, client)
    assert (found.dead, found.acked, found.failed, found.redelivered) == (1, 0, 1 + retries, retries)
    (dead,) = await client.dead_letters(place.topic()).list()
    assert (dead.message.data, dead.story.attempts, dead.story.reason) == ("x", 1 + retries, "retries exhausted")


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_a_message_that_gets_through_at_last_is_no_dead_letter(place: Place) -> None:
    """The last delivery counts like the first one."""
    client = place.client()
    await fill(place, client, ["x"], max_retries=2, **AT_ONCE)
    async with manual(place, client) as subscription:
        assert await fail(subscription, 2) == [1, 2]
        (message,) = await take(subscription, 1)
        assert message.attempt == 3
        await message.ack()
    await expect_end(place, client)
    found = await standing(place, client)
    assert (found.dead, found.acked, found.failed) == (0, 1, 2)
    assert await client.dead_letters(place.topic()).count() == 0


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_the_back_off_grows_up_to_its_limit(place: Place) -> None:
    """From half of `retry_delay` on, times `retry_backoff`; never beyond `retry_max_delay`, however steep."""
    client = place.client()
    await fill(place, client, ["x"], retry_delay=timedelta(seconds=0.06), retry_backoff=100, retry_max_delay=0.2)
    waited = []
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        for _ in range(3):
            await message.nack()
            nacked = time.monotonic()
            (message,) = await take(subscription, 1)
            waited.append(time.monotonic() - nacked)
    assert waited[0] >= 0.025
    assert waited[1] >= 0.09
    assert waited[2] >= 0.09
    assert max(waited) < 5


@case(Capability.GROUPS, Capability.DEAD_LETTERS, Capability.ALTER)
async def test_no_delay_is_at_once(place: Place) -> None:
    """`retry_delay=0`, and `retry_max_delay=0`, wait for nothing."""
    client = place.client()
    await fill(place, client, ["x"], max_retries=50, retry_delay=0)
    begun = time.monotonic()
    async with manual(place, client) as subscription:
        assert await fail(subscription, 20) == list(range(1, 21))
    await client.alter_topic(place.topic(), retry_delay=60, retry_max_delay=0)
    async with manual(place, client) as subscription:
        assert (await fail(subscription, 5))[-1] == 25
    assert time.monotonic() - begun < 10


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_a_delay_asked_for_counts_as_an_attempt(place: Place) -> None:
    """`nack(delay_seconds=)` replaces the back-off and not the limit: nothing is waited for after the last delivery."""
    client = place.client()
    await fill(place, client, ["x"], max_retries=1, retry_delay=60)
    async with manual(place, client) as subscription:
        assert await fail(subscription, 1, delay_seconds=0) == [1]
        assert await fail(subscription, 1, delay_seconds=3600) == [2]
    found = await standing(place, client)
    assert (found.lag, found.retrying, found.dead) == (0, 0, 1)


@case(Capability.GROUPS, Capability.DEAD_LETTERS, Capability.LAG)
async def test_each_message_has_its_own_count(place: Place) -> None:
    """One that fails for good holds up no other, and does not take their attempts."""
    client = place.client()
    await fill(place, client, range(20), max_retries=2, **AT_ONCE)
    acked: list[tuple[int, int]] = []
    async with manual(place, client) as subscription:
        while len(acked) < 18 or (await standing(place, client)).lag:
            for message in await subscription.fetch(7, timeout=0.05):
                if message.data in (3, 11):
                    await message.nack()
                else:
                    await message.ack()
                    acked.append((message.data, message.attempt))
    assert sorted(acked) == [(number, 1) for number in range(20) if number not in (3, 11)]
    assert sorted(dead.message.data for dead in await client.dead_letters(place.topic()).list()) == [3, 11]


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_what_is_given_back_is_not_counted(place: Place) -> None:
    """Consumers that come and leave without settling bring no message nearer to its end."""
    client = place.client()
    await fill(place, client, ["x"], max_retries=0)
    for _ in range(5):
        async with manual(place, client) as subscription:
            (message,) = await take(subscription, 1)
            assert told(place, [message]) == [("x", 1)]
    async with manual(place, client) as subscription:
        await subscription.ack(await take(subscription, 1))
    assert (await standing(place, client)).acked == 1


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_a_lease_that_ended_is_counted(place: Place) -> None:
    """Whoever lets go of a message again and again without settling it: it dies all the same, and nobody gets it."""
    client = place.client()
    await fill(place, client, ["wedged", "next"], max_retries=1)
    async with manual(place, client) as subscription:
        wedged, after = await take(subscription, 2)
        await after.ack()
        await wedged.extend(0)
        (again,) = await take(subscription, 1)
        assert (again.data, again.attempt) == ("wedged", 2)
        await again.extend(0)
        await until(lambda: has_dead(place, client, 1))
        await expect_no_more(client, subscription, place.topic())
    await expect_end(place, client)
    (dead,) = await client.dead_letters(place.topic()).list()
    assert (dead.message.data, dead.story.attempts, dead.story.reason) == ("wedged", 2, "retries exhausted")


async def has_dead(place: Place, client: Any, count: int) -> bool:
    """Whether so many have died, told while a consumer looks for more."""
    async with manual(place, client) as other:
        await other.fetch(1, timeout=0.01)
    return (await standing(place, client)).dead == count


@case(
    Capability.PROCESSES, Capability.GROUPS, Capability.DEAD_LETTERS, Capability.DEATH_WATCH, Capability.EXACT_ATTEMPTS
)
async def test_a_message_that_kills_its_consumers_dies_too(place: Place) -> None:
    """The attempt is counted when it is delivered: a handler that takes its process down cannot do so for ever."""
    client = place.client()
    await fill(place, client, [13], max_retries=1)
    for attempt in (1, 2):
        async with Worker(place.kind, place.url) as worker:
            await worker.ask("subscribe", place.topic(), place.group())
            assert await worker.ask("take", 1, SECONDS) == [[13, attempt]]
            await worker.kill()
    async with manual(place, client) as subscription:
        await client.publish(place.topic(), "next")
        assert data(await take(subscription, 1)) == ["next"]
    (dead,) = await client.dead_letters(place.topic()).list()
    assert (dead.message.data, dead.story.attempts) == (13, 2)
    assert (await standing(place, client)).dead == 1


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_a_handler_that_always_fails_ends_with_its_error(place: Place) -> None:
    """The listener goes on with the next message; the dead letter says what the handler raised."""
    client = place.client()
    await fill(place, client, ["bad", "good"], max_retries=2, **AT_ONCE)
    seen: list[tuple[str, int]] = []

    def handle(message: Any) -> None:
        seen.append((message.data, message.attempt))
        if message.data == "bad":
            raise LookupError("no such customer: 77")

    listener = await client.listen(place.topic(), handle, consumer_group=place.group())
    await until(lambda: len(seen) == 4)
    await listener.stop()
    assert sorted(seen) == [("bad", 1), ("bad", 2), ("bad", 3), ("good", 1)]
    (dead,) = await client.dead_letters(place.topic()).list()
    assert "no such customer: 77" in dead.story.error
    assert "LookupError" in dead.story.error
    assert dead.story.reason == "retries exhausted"
    assert (await standing(place, client)).acked == 1


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_a_loop_that_always_fails_ends_with_its_error(place: Place) -> None:
    """As with a handler: an exception out of the body is the error of the message."""
    client = place.client()
    await fill(place, client, ["bad"], max_retries=1, **AT_ONCE)
    for _ in range(2):
        with pytest.raises(LookupError):
            await raise_at(client.subscribe(place.topic(), consumer_group=place.group()), "bad", LookupError("no. 77"))
    (dead,) = await client.dead_letters(place.topic()).list()
    assert "LookupError" in dead.story.error
    assert "no. 77" in dead.story.error
    assert dead.story.attempts == 2


@case(Capability.GROUPS, Capability.DEAD_LETTERS, Capability.LAG)
async def test_workers_that_fail_together_try_no_more_than_that(place: Place) -> None:
    """Several consumers, all of them failing: each message has its deliveries and dies once."""
    client = place.client()
    await fill(place, client, range(12), max_retries=2, **AT_ONCE)
    seen: list[int] = []

    async def consume() -> None:
        async with manual(place, client) as subscription:
            while (await standing(place, client)).lag:
                for message in await subscription.fetch(3, timeout=0.05):
                    seen.append(message.data)
                    await message.nack()

    await asyncio.gather(*(consume() for _ in range(3)))
    assert sorted(seen) == sorted([*range(12)] * 3)
    assert await client.dead_letters(place.topic()).count() == 12
    assert (await standing(place, client)).dead == 12


@case(Capability.DEAD_LETTERS, Capability.GROUPS)
async def test_a_temporary_subscription_retries_for_itself(place: Place) -> None:
    """Others see the message once; after its retries it is a dead letter of no group."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(max_retries=2, **AT_ONCE))
    options: dict[str, Any] = {"auto_ack": False}
    async with client.subscribe(place.topic(), **options) as one, client.subscribe(place.topic(), **options) as other:
        await client.publish_batch(place.topic(), ["bad", "good"])
        bad, good = await take(one, 2)
        await good.ack()
        await bad.nack()
        assert await fail(one, 2) == [2, 3]
        await expect_no_more(client, one, place.topic())
        found = await take(other, 2)
        assert told(place, found) == [("bad", 1), ("good", 1)]
        assert data(await take(other, 1)) == ["end"]
    (dead,) = await client.dead_letters(place.topic()).list()
    assert (dead.message.data, dead.story.group, dead.story.attempts) == ("bad", "", 3)


@case(Capability.DEAD_LETTERS)
async def test_a_temporary_subscription_waits_for_the_delay(place: Place) -> None:
    """Others go on meanwhile."""
    client = place.client()
    async with client.subscribe(place.topic(), auto_ack=False) as subscription:
        await client.publish_batch(place.topic(), ["slow", "fast"])
        slow, fast = await take(subscription, 2)
        nacked = time.monotonic()
        await slow.nack(delay_seconds=0.4)
        await fast.nack(delay_seconds=0)
        assert data(await take(subscription, 2)) == ["fast", "slow"]
        assert time.monotonic() - nacked >= 0.4


@case(Capability.GROUPS, Capability.DEAD_LETTERS)
async def test_a_retry_that_waits_is_shown_and_survives_its_consumer(place: Place) -> None:
    """It is lag, retrying and not held; when it is due, whoever is there gets it."""
    client = place.client()
    await prepare(place, client)
    await client.publish(place.topic(), "x")
    async with manual(place, client) as subscription:
        assert await fail(subscription, 1, delay_seconds=0.2) == [1]
    found = await standing(place, client)
    assert (found.lag, found.retrying, found.held) == (1, 1, 0)
    await pass_time(place, client, 0.2)
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        assert message.attempt == 2
        found = await standing(place, client)
        assert (found.lag, found.retrying, found.held) == (1, 0, 1)
        await message.ack()
