"""What is promised between processes: a death is seen at once, a standstill after the lease, nothing acked is lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import lag_is
from tidings.testing.conformance.stage.place import QUIET_SECONDS, SECONDS, Place, data, expect_nothing, take
from tidings.testing.conformance.stage.worker import Worker

SHORT_LEASE = 1.0
"""Seconds of a lease that a case waits out; long enough that a loaded machine renews it in time."""


@case(Capability.PROCESSES)
async def test_processes_hear_each_other(place: Place) -> None:
    """In both directions, on a topic that did not exist when either of them came, in the order of publishing."""
    client = place.client()
    async with Worker(place.kind, place.url) as worker, client.subscribe(place.topic("there")) as subscription:
        assert await worker.ask("subscribe", place.topic("here"))
        worker.tell("publish", place.topic("there"), 0, 50)
        for number in range(50):
            await client.publish(place.topic("here"), number)
        assert data(await take(subscription, 50)) == list(range(50))
        assert await worker.answer() == place.offsets(range(50))
        found: list[list[int]] = []
        while len(found) < 50:
            more = await worker.ask("take", 50, SECONDS)
            assert more, f"only {len(found)} of 50 came"
            found += more
        assert found == [[number, 1] for number in range(50)]


@case(Capability.PROCESSES, Capability.PATTERNS, Capability.GROUPS)
async def test_topics_made_elsewhere_are_read_from_their_first_message(place: Place) -> None:
    """By a subscription and a group whose pattern matches, though messages were there before they knew the topic."""
    client = place.client()
    pattern, names = place.topic("late/*"), [place.topic(f"late/{number}") for number in range(4)]
    async with Worker(place.kind, place.url) as worker, client.subscribe(pattern) as temporary:
        await client.create_group(pattern, place.group())
        for name in names:
            assert await worker.ask("publish", name, 0, 3) == place.offsets([0, 1, 2])
        async with client.subscribe(pattern, consumer_group=place.group()) as group:
            for subscription in (temporary, group):
                found = await take(subscription, 12)
                assert sorted((message.topic, message.data) for message in found) == [
                    (name, number) for name in names for number in range(3)
                ]


@case(Capability.PROCESSES)
async def test_publishers_of_several_processes_do_not_disturb_each_other(place: Place) -> None:
    """Each offset is given once, and each publisher's messages are in its order."""
    client = place.client()
    async with Worker(place.kind, place.url) as one, Worker(place.kind, place.url) as two:
        async with client.subscribe(place.topic()) as subscription:
            one.tell("publish", place.topic(), 1000, 60)
            two.tell("publish", place.topic(), 2000, 60)
            offsets = [(await client.publish(place.topic(), 3000 + number)).offset for number in range(60)]
            offsets += await one.answer() + await two.answer()
            found = data(await take(subscription, 180))
    assert sorted(offsets) == place.offsets(range(180))
    for start in (1000, 2000, 3000):
        assert [value for value in found if start <= value < start + 1000] == list(range(start, start + 60))


@case(Capability.PROCESSES, Capability.GROUPS)
async def test_processes_share_a_group(place: Place) -> None:
    """Each message is one process's; acked by all of them there is nothing left."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), range(60))
    async with Worker(place.kind, place.url) as one, Worker(place.kind, place.url) as two:
        found: list[int] = []
        for worker in (one, two):
            assert await worker.ask("subscribe", place.topic(), place.group())
        while len(found) < 60:
            one.tell("take", 7, 0.2)
            two.tell("take", 7, 0.2)
            for worker in (one, two):
                found += [value for value, _ in await worker.answer()]
                await worker.ask("ack", 7)
        assert sorted(found) == list(range(60))
    assert await lag_is(place, client, 0)


@case(Capability.PROCESSES, Capability.GROUPS, Capability.DEATH_WATCH)
async def test_what_a_killed_consumer_held_is_taken_over_at_once(place: Place) -> None:
    """Long before its lease ends; with the death counted as an attempt; without what it had acked."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), range(6))
    async with (
        Worker(place.kind, place.url) as worker,
        client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False) as heir,
    ):
        await worker.ask("subscribe", place.topic(), place.group())
        assert await worker.ask("take", 5, SECONDS) == [[number, 1] for number in range(5)]
        assert await worker.ask("ack", 2) == 2
        assert data(await take(heir, 1)) == [5]
        waiting = asyncio.ensure_future(take(heir, 3))
        await worker.kill()
        killed = time.monotonic()
        found = await waiting
        assert time.monotonic() - killed < 3
        assert [(message.data, message.attempt) for message in found] == [(2, 2), (3, 2), (4, 2)]
        await heir.ack(found)
        await expect_nothing(heir)


@case(Capability.PROCESSES, Capability.GROUPS, Capability.DEATH_WATCH)
async def test_what_nobody_saw_die_is_there_for_the_next(place: Place) -> None:
    """A consumer that comes after the death takes over as well, without waiting for the lease."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    await client.publish(place.topic(), "x")
    await client.close()
    async with Worker(place.kind, place.url) as worker:
        await worker.ask("subscribe", place.topic(), place.group())
        assert await worker.ask("take", 1, SECONDS) == [["x", 1]]
        await worker.kill()
    client = place.client()
    async with client.subscribe(place.topic(), consumer_group=place.group()) as heir:
        found = await take(heir, 1, within=5)
        assert [(message.data, message.attempt) for message in found] == [("x", 2)]


@case(Capability.PROCESSES, Capability.GROUPS)
async def test_what_a_stopped_consumer_holds_is_taken_over_after_the_lease(place: Place) -> None:
    """Not before, and not what it had extended; its late ack is refused, its extended one is honoured."""
    client = place.client(lease_seconds=SHORT_LEASE)
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), ["late", "extended"])
    async with Worker(place.kind, place.options(lease_seconds=SHORT_LEASE)) as worker:
        await worker.ask("subscribe", place.topic(), place.group())
        assert await worker.ask("take", 2, SECONDS) == [["late", 1], ["extended", 1]]
        assert await worker.ask("extend", 60.0)
        async with client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False) as heir:
            stopped = time.monotonic()
            worker.stop()
            # what knows no lease of a single message but the life of the consumer takes over all that it holds
            single = Capability.EXACT_ATTEMPTS in place.subject.capabilities
            found = await take(heir, 1 if single else 2)
            assert time.monotonic() - stopped > SHORT_LEASE / 2
            assert (found[0].data, found[0].attempt) == ("late", 2)
            await heir.ack(found)
            worker.go_on()
            assert await worker.ask("ack", 1) == {"error": "LeaseLost"}
            assert await worker.ask("ack", 1) == (1 if single else {"error": "LeaseLost"})
            await expect_nothing(heir)
    assert await lag_is(place, client, 0)


@case(Capability.PROCESSES, Capability.REPLAY)
async def test_what_a_killed_publisher_had_receipts_for_is_there(place: Place) -> None:
    """Everything acknowledged before `kill -9`, in order, at most one message more, and publishing goes on."""
    async with Worker(place.kind, place.url) as worker:
        worker.tell("flood", place.topic())
        receipts = [await worker.answer() for _ in range(40)]
        await worker.kill()
        assert worker.process.stdout is not None
        receipts += map(int, (await worker.process.stdout.read()).split(b"\n")[:-1])
    client = place.client()
    async with client.subscribe(place.topic(), from_beginning=True) as subscription:
        found: list[Any] = data(await take(subscription, len(receipts)))
        found += data(await subscription.fetch(100, timeout=QUIET_SECONDS))
        stored = len(found)
        assert found == list(range(stored))
        assert len(receipts) <= stored <= len(receipts) + 1
        assert [(await client.publish(place.topic(), "next")).offset] == place.offsets([stored])
        assert data(await take(subscription, 1)) == ["next"]
