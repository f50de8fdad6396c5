"""What a filter promises a group: it decides once per message, what does not match is passed over and counted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from typing import Any

import pytest

from tidings import AsyncClient, AsyncSubscription, GroupExists, LeaseLost, TopicOptions
from tidings.model.capability import Capability
from tidings.model.predicate import Predicate, record
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import (
    AT_ONCE,
    counted,
    expect_end,
    expect_no_more,
    manual,
    patience,
    standing,
    told,
)
from tidings.testing.conformance.stage.place import SECONDS, Place, data, expect_nothing, take, until
from tidings.testing.conformance.stage.worker import Worker

FILTERS = (Capability.FILTERS, Capability.GROUPS)

SQL = "_data % 3 = 0"
"""What most groups here want of the numbers that are published."""

BOTH = pytest.mark.parametrize("filter", [SQL, lambda m: m.data % 3 == 0], ids=["sql", "function"])


def wanted(numbers: range) -> list[int]:
    return [number for number in numbers if number % 3 == 0]


async def prepare(place: Place, client: AsyncClient, filter: Any = SQL, **options: Any) -> None:
    """Make the place's topic, with these options, and its group, with the filter."""
    await client.create_topic(place.topic(), TopicOptions(**options))
    await client.create_group(place.topic(), place.group(), filter=filter)


async def fill(place: Place, client: AsyncClient, numbers: range, **options: Any) -> None:
    """Publish to the place's topic and group, made with these options."""
    await prepare(place, client, **options)
    await client.publish_batch(place.topic(), numbers)


async def account(place: Place, client: AsyncClient, published: int) -> None:
    """Fail unless each message of the group is in exactly one place."""
    found = await standing(place, client)
    parts = (found.lag, found.acked, found.dead, found.expired, found.skipped, found.filtered)
    assert sum(parts) == published, parts


async def drain(place: Place, client: AsyncClient, *subscriptions: AsyncSubscription) -> list[Any]:
    """Take and ack until nothing is left; return what came."""
    found: list[Any] = []

    async def is_empty() -> bool:
        before = len(found)
        for subscription in subscriptions:
            more = await subscription.fetch(5, timeout=patience(place))
            await subscription.ack(more)
            found.extend(data(more))
        return len(found) == before and (await standing(place, client)).lag == 0

    await until(is_empty)
    return found


# -- what is delivered, and what is counted


@BOTH
@case(*FILTERS)
async def test_only_what_matches_is_delivered(place: Place, filter: Any) -> None:
    """In order; the rest is passed over and counted, and every message is in exactly one place."""
    client = place.client()
    await prepare(place, client, filter)
    await account(place, client, 0)
    async with manual(place, client) as subscription:
        for start in range(0, 100, 20):
            await client.publish_batch(place.topic(), range(start, start + 20))
            await account(place, client, start + 20)
        found = await take(subscription, 34)
        assert data(found) == wanted(range(100))
        assert await subscription.fetch(1, timeout=0) == []
        await subscription.ack(found[:30])
        await account(place, client, 100)
        await subscription.ack(found[30:])
    found_now = await standing(place, client)
    assert (found_now.acked, found_now.filtered, found_now.lag, found_now.skipped) == (34, 66, 0, 0)
    await expect_end(place, client)


@case(*FILTERS, Capability.STATISTICS, Capability.MAX_LENGTH)
async def test_every_message_is_accounted_for(place: Place) -> None:
    """At every moment, whatever happens: acked, given up, expired, dropped, passed over, or still to be done."""
    client = place.client()
    limits: dict[str, Any] = {"max_retries": 1, "max_length": 20, "overflow": "drop_oldest", **AT_ONCE}
    await prepare(place, client, "_data % 2 = 0", **limits)
    dice, published = random.Random(7), 0
    async with manual(place, client) as subscription:
        for _ in range(30):
            for _ in range(dice.randint(0, 9)):
                await client.publish(place.topic(), published, ttl_seconds=dice.choice([None, None, 0.001]))
                published += 1
            await account(place, client, published)
            for message in await subscription.fetch(3, timeout=0):
                assert message.data % 2 == 0
                act = dice.choice(["ack", "ack", "nack", "reject", "hold"])
                if act == "ack":
                    await message.ack()
                elif act != "hold":
                    await message.nack(requeue=act == "nack")
            await account(place, client, published)
    async with manual(place, client) as subscription:
        assert all(number % 2 == 0 for number in await drain(place, client, subscription))
    await account(place, client, published)
    found = await standing(place, client)
    assert 0 not in (found.acked, found.dead, found.expired, found.skipped, found.filtered)


@case(*FILTERS)
async def test_what_is_passed_over_is_seen_as_passed(place: Place) -> None:
    """By a consumer that gets nothing of it: it is no lag any more, though the consumer has nothing to ack."""
    client = place.client()
    await prepare(place, client, "_data < 0")
    async with manual(place, client) as subscription:
        await client.publish_batch(place.topic(), range(500))
        assert await subscription.fetch(5, timeout=0.01) == []
        found = await standing(place, client)
        assert (found.lag, found.filtered, found.acked, found.held) == (0, 500, 0, 0)
        assert found.lag_seconds == 0


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("gap", [300, 65_000])
@case(*FILTERS)
async def test_what_matches_is_found_behind_what_does_not(place: Place, gap: int, attached: bool) -> None:
    """However much that is, by a consumer that comes later or was there: a fetch waits as long as the search takes."""
    client = place.client()
    await prepare(place, client)
    subscription = manual(place, client)
    for _ in range(4 if attached else 0):
        assert await subscription.fetch(1, timeout=0) == []
    await client.publish_batch(place.topic(), [1] * gap, batch_size=5000)
    await client.publish_batch(place.topic(), [3, 4, 6])
    async with subscription:
        assert data(await take(subscription, 2)) == [3, 6]
        found = await standing(place, client)
        assert (found.filtered, found.held) == (gap + 1, 2)


@case(*FILTERS)
async def test_a_fetch_that_does_not_wait_finds_what_is_there(place: Place) -> None:
    """A consumer that looks in now and then gets what matches, though much came in between."""
    client = place.client()
    await prepare(place, client)
    async with manual(place, client) as subscription:
        for turn in range(4):
            await client.publish_batch(place.topic(), [*[1] * 2000, turn * 3])
            assert data(await subscription.fetch(5, timeout=0)) == [turn * 3]


@BOTH
@case(*FILTERS, Capability.REPLAY, Capability.GROUP_REPLAY)
async def test_a_group_from_the_beginning_is_filtered(place: Place, filter: Any) -> None:
    """Also when its first consumer makes it."""
    client = place.client()
    await client.publish_batch(place.topic(), range(50))
    options: dict[str, Any] = {"consumer_group": place.group(), "filter": filter, "from_beginning": True}
    async with client.subscribe(place.topic(), **options) as subscription:
        await client.publish_batch(place.topic(), range(50, 80))
        assert data(await take(subscription, 27)) == wanted(range(80))
        assert await subscription.fetch(1, timeout=0) == []
    assert (await standing(place, client)).filtered == 53


# -- what does not match does not come back


@case(*FILTERS, Capability.LAG)
async def test_what_was_passed_over_never_comes_back(place: Place) -> None:
    """After nacks, releases, and consumers that leave with their hands full; what matches comes until it is acked."""
    client = place.client()
    await fill(place, client, range(60), max_retries=100, **AT_ONCE)
    acked: list[int] = []
    for turn in range(8):
        async with manual(place, client) as subscription:
            found = await take(subscription, min(6, 20 - len(acked)))
            for at, message in enumerate(found):
                assert message.data % 3 == 0
                if at % 3 == 0:
                    await message.ack()
                    acked.append(message.data)
                elif at % 3 == 1:
                    await message.nack(delay_seconds=0)
        await account(place, client, 60)
        assert (await standing(place, client)).lag >= 20 - len(acked)
        if turn > 4:
            assert (await standing(place, client)).filtered <= 40
    async with manual(place, client) as subscription:
        acked += await drain(place, client, subscription)
    assert sorted(acked) == wanted(range(60))
    found_now = await standing(place, client)
    assert (found_now.acked, found_now.filtered) == (20, 40)


@case(*FILTERS, Capability.PROCESSES, Capability.DEATH_WATCH)
async def test_what_a_dead_consumer_held_comes_back_alone(place: Place) -> None:
    """Killed with its hands full: what it held matches, and the rest is passed over as before."""
    client = place.client()
    await fill(place, client, range(30))
    async with Worker(place.kind, place.url) as worker:
        await worker.ask("subscribe", place.topic(), place.group())
        assert await worker.ask("take", 6, SECONDS) == [[number, 1] for number in range(0, 18, 3)]
        assert await worker.ask("ack", 2) == 2
        await worker.kill()
    async with manual(place, client) as subscription:
        found = await take(subscription, 8)
        assert sorted(told(place, found)) == [
            *((number, 2) for number in range(6, 18, 3)),
            *((number, 1) for number in range(18, 30, 3)),
        ]
        await subscription.ack(found)
        assert await subscription.fetch(1, timeout=0) == []
    found_now = await standing(place, client)
    assert (found_now.acked, found_now.filtered, found_now.lag) == (10, 20, 0)


@case(*FILTERS, Capability.SEEK)
async def test_a_group_that_is_moved_is_filtered_anew(place: Place) -> None:
    """Back, ahead, and while a consumer holds something: only what matches comes, all of it from the new place on."""
    client = place.client()
    await fill(place, client, range(60))
    async with manual(place, client) as subscription:
        for to, first in (("beginning", 0), (31, 31), ("beginning", 0), (50, 50), (2, 2)):
            await client.seek_group(place.topic(), place.group(), to)
            expected = wanted(range(first, 60))
            found = await take(subscription, len(expected))
            assert data(found) == expected, to
            assert {attempt for _, attempt in told(place, found)} == {1}
            assert await subscription.fetch(1, timeout=0) == []
            assert (await standing(place, client)).lag == len(expected)
        await client.seek_group(place.topic(), place.group(), "end")
        with pytest.raises(LeaseLost):
            await subscription.ack(found)
        await expect_no_more(client, subscription, place.topic(), 99)


@case(*FILTERS, Capability.SEEK)
async def test_a_group_may_be_moved_while_it_is_read(place: Place) -> None:
    """Back, at the very moment of a fetch: whichever is first, all that matches is acked once from there on."""
    client, other = place.client(), place.client()
    await fill(place, client, range(120))
    async with manual(place, client) as subscription:
        for _ in range(20):
            await subscription.fetch(25, timeout=0)
            seek = other.seek_group(place.topic(), place.group(), "beginning")
            found, _ = await asyncio.gather(subscription.fetch(25, timeout=0), seek)
            acked: list[int] = []
            for message in found:
                with contextlib.suppress(LeaseLost):
                    await message.ack()
                    acked.append(message.data)
            acked += await drain(place, client, subscription)
            assert sorted(acked) == wanted(range(120))


# -- sharing


@BOTH
@case(*FILTERS)
async def test_consumers_share_what_matches(place: Place, filter: Any) -> None:
    """Each message that matches goes to one of them; those that do not are counted once."""
    clients = [place.client() for _ in range(3)]
    await prepare(place, clients[0], filter)
    subscriptions = [manual(place, client) for client in clients]
    for subscription in subscriptions:
        await subscription.open()
    for start in range(0, 300, 20):
        await clients[0].publish_batch(place.topic(), range(start, start + 20))
    held = [await take(subscription, 5) for subscription in subscriptions]
    found = list(itertools.chain(*map(data, held)))
    for subscription, messages in zip(subscriptions, held):
        await subscription.ack(messages)
    found += await drain(place, clients[0], *subscriptions)
    assert sorted(found) == wanted(range(300))
    found_now = await standing(place, clients[0])
    assert (found_now.acked, found_now.filtered) == (100, 200)
    for subscription in subscriptions:
        await expect_nothing(subscription)


@case(*FILTERS)
async def test_each_group_has_its_own_filter(place: Place) -> None:
    """Groups with other filters, without one, and a temporary subscription take nothing from each other."""
    client = place.client()
    conditions = {"thirds": SQL, "fives": "_data % 5 = 0", "all": None, "none": "_data < 0"}
    for name, condition in conditions.items():
        await client.create_group(place.topic(), place.group(name), filter=condition)
    await client.publish_batch(place.topic(), range(60))
    expected = {"thirds": wanted(range(60)), "fives": [*range(0, 60, 5)], "all": [*range(60)], "none": []}
    for name, numbers in expected.items():
        async with client.subscribe(place.topic(), consumer_group=place.group(name)) as subscription:
            assert data(await take(subscription, len(numbers))) == numbers
            assert await subscription.fetch(1, timeout=0) == []
    infos = {info.group: counted(place, info) for info in await client.groups(place.topic())}
    counts = {name: (infos[place.group(name)].acked, infos[place.group(name)].filtered) for name in conditions}
    assert counts == {"thirds": (20, 40), "fives": (12, 48), "all": (60, 0), "none": (0, 60)}


@pytest.mark.parametrize("prefetch", [1, 7])
@pytest.mark.parametrize("condition", ["_data % 50 = 0", "_data >= 0", "_data % 2 = 0 OR _data > 500"])
@case(*FILTERS)
async def test_prefetch_is_kept(place: Place, prefetch: int, condition: str) -> None:
    """Never more are held than that, whether the filter lets few messages through or most of them."""
    client = place.client()
    await prepare(place, client, condition)
    await client.publish_batch(place.topic(), range(600))
    found: list[int] = []
    expected = [n for n in range(600) if n % 50 == 0] if "50" in condition and "OR" not in condition else []
    expected = expected or [n for n in range(600) if n % 2 == 0 or n > 500 or condition == "_data >= 0"]
    async with manual(place, client, prefetch=prefetch) as subscription:
        held = await take(subscription, prefetch)
        assert await subscription.fetch(5, timeout=0.01) == []
        assert (await standing(place, client)).held == prefetch
        await subscription.ack(held)
        found += data(held)
        while len(found) < min(len(expected), 60):
            more = await subscription.fetch(100, timeout=5)
            assert len(more) <= prefetch
            assert (await standing(place, client)).held <= prefetch
            await subscription.ack(more)
            found += data(more)
    assert found == expected[: len(found)]


# -- which filter a group has


@case(*FILTERS)
async def test_a_group_keeps_its_filter(place: Place) -> None:
    """Who joins it names the same one, in whatever notation, or none; another one is refused, and both are shown."""
    client = place.client()
    await prepare(place, client)
    same: list[Any] = [None, SQL, " ( _data%3 )=0 ", lambda m: m.data % 3 == 0, record(lambda m: m.data % 3 == 0)]
    for each in same:
        await client.create_group(place.topic(), place.group(), filter=each)
        async with client.subscribe(place.topic(), consumer_group=place.group(), filter=each) as subscription:
            await client.publish_batch(place.topic(), [1, 3])
            assert data(await take(subscription, 1)) == [3]
    other: list[Any] = ["_data % 4 = 0", lambda m: m.data % 4 == 0]
    for each in other:
        with pytest.raises(GroupExists) as caught:
            await client.create_group(place.topic(), place.group(), filter=each)
        assert caught.value.group == place.group()
        for shown in ("_data % 3 = 0", "_data % 4 = 0"):
            assert shown in str(caught.value)
        with pytest.raises(GroupExists):
            await client.subscribe(place.topic(), consumer_group=place.group(), filter=each).open()
        with pytest.raises(GroupExists):
            await client.create_group(place.topic("other"), place.group(), filter=each)
    found = await standing(place, client)
    assert (found.filter, found.consumers) == ("_data % 3 = 0", ())


@case(*FILTERS)
async def test_a_group_without_a_filter_does_not_get_one(place: Place) -> None:
    """Until it is dropped: one of the same name that is made later may have another."""
    client = place.client()
    await client.create_group(place.topic(), place.group())
    assert (await standing(place, client)).filter is None
    with pytest.raises(GroupExists) as caught:
        await client.subscribe(place.topic(), consumer_group=place.group(), filter=SQL).open()
    assert "no filter" in str(caught.value)
    await client.publish_batch(place.topic(), range(3))
    async with manual(place, client) as subscription:
        await subscription.ack(await take(subscription, 3))
    await client.drop_group(place.group())
    await client.create_group(place.topic(), place.group(), filter=SQL)
    await client.publish_batch(place.topic(), range(6))
    async with manual(place, client) as subscription:
        assert data(await take(subscription, 2)) == [0, 3]
        await expect_nothing(subscription)


@case(*FILTERS)
async def test_the_filter_of_a_group_is_told_in_sql(place: Place) -> None:
    """Whatever it was written in; it can be read again, and is the same then."""
    client = place.client()
    function = record(lambda m: (m["a"]["b c"] > 1) & ~m.headers["x"].like("y'%") | m["t"].contains_any("p", 2))
    await client.create_group(place.topic(), place.group(), filter=function)
    told = (await standing(place, client)).filter
    assert told is not None
    assert told == str(function)
    await client.create_group(place.topic(), place.group(), filter=told)
    assert Predicate.from_stored(function.stored()) == function


@case(*FILTERS, Capability.PROCESSES)
async def test_the_filter_is_that_of_all_processes(place: Place) -> None:
    """Made in one, it holds in another, also when the first is gone; another filter is refused there, too."""
    async with Worker(place.kind, place.url) as worker:
        await worker.ask("subscribe", place.topic(), place.group(), {"filter": SQL})
        await worker.ask("leave")
    client = place.client()
    await client.publish_batch(place.topic(), range(9))
    assert (await standing(place, client)).filter == SQL
    async with Worker(place.kind, place.url) as worker:
        refused = await worker.ask("subscribe", place.topic(), place.group(), {"filter": "_data = 1"})
        assert refused == {"error": "GroupExists"}
        await worker.ask("subscribe", place.topic(), place.group())
        for number in (0, 3, 6):
            assert await worker.ask("take", 1, SECONDS) == [[number, 1]]
        await worker.ask("ack", 3)
        assert await worker.ask("take", 1, 0.0) == []
    found = await standing(place, client)
    assert (found.acked, found.filtered, found.lag) == (3, 6, 0)
