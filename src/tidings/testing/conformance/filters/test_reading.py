"""How what matches is read: by listeners, in batches, when it is due, and again when it failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tidings import InvalidFilter, TopicOptions
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import AT_ONCE, expect_no_more, manual, pass_time, standing
from tidings.testing.conformance.stage.place import Place, data, take, until

FILTERS = Capability.FILTERS

SQL = "_data % 3 = 0"

BOTH = pytest.mark.parametrize("filter", [SQL, lambda m: m.data % 3 == 0], ids=["sql", "function"])

LAST = 99
"""A number that matches, to be published last."""


def wanted(numbers: range) -> list[int]:
    return [number for number in numbers if number % 3 == 0]


def collector(seen: list[int]) -> Callable[[str, int], None]:
    """Return a handler that writes down what it gets."""
    return lambda topic, number: seen.append(number)


@BOTH
@case(FILTERS)
async def test_a_listener_handles_what_matches(place: Place, filter: Any) -> None:
    """With one worker in order, with several all of it."""
    client = place.client()
    for workers in (1, 4):
        seen: list[int] = []
        topic = place.topic(f"w{workers}")
        listener = await client.listen(topic, collector(seen), filter=filter, workers=workers)
        await client.publish_batch(topic, range(100))
        await until(lambda seen=seen: len(seen) == 34)  # type: ignore[misc]
        await listener.stop()
        assert (seen if workers == 1 else sorted(seen)) == wanted(range(100))


@BOTH
@case(FILTERS, Capability.GROUPS)
async def test_a_listener_of_a_group_acks_what_matches(place: Place, filter: Any) -> None:
    """What fails is retried, the rest is passed over; with several workers, too."""
    client = place.client()
    seen: list[int] = []

    async def handle(topic: str, number: int) -> None:
        seen.append(number)
        if seen.count(number) == 1 and number % 2:
            raise ValueError("the first time")

    def handle_blocking(topic: str, number: int) -> None:
        seen.append(number)
        if seen.count(number) == 1 and number % 2:
            raise ValueError("the first time")

    await client.create_topic(place.topic(), TopicOptions(**AT_ONCE))
    await client.create_group(place.topic(), place.group(), filter=filter)
    handler = handle if place.kind == "async" else handle_blocking
    listener = await client.listen(place.topic(), handler, consumer_group=place.group(), workers=4)
    await client.publish_batch(place.topic(), range(60))

    async def is_done() -> bool:
        found = await standing(place, client)
        return (found.lag, found.acked, len(seen)) == (0, 20, 30)

    await until(is_done)
    await listener.stop()
    assert sorted(seen) == sorted([*wanted(range(60)), *range(3, 60, 6)])
    found = await standing(place, client)
    assert (found.filtered, found.failed, found.dead) == (40, 10, 0)


@case(FILTERS)
async def test_batches_are_filled_with_what_matches(place: Place) -> None:
    """As large as asked for, however thin it is sown."""
    client = place.client()
    async with client.subscribe(place.topic(), filter="_data % 20 = 0") as subscription:
        for start in range(0, 1200, 300):
            await client.publish_batch(place.topic(), range(start, start + 300))
        found: list[int] = []
        async for batch in subscription.batches(max_messages=15, max_wait=5):
            assert len(batch) == 15
            found += data(batch)
            if len(found) == 60:
                break
        assert found == [*range(0, 1200, 20)]


@case(FILTERS)
async def test_what_fails_comes_again_to_who_wanted_it(place: Place) -> None:
    """The filter decides once, at the first delivery: a retry is not asked again."""
    client = place.client()
    async with client.subscribe(place.topic(), filter=f"_attempt = 1 AND {SQL}", auto_ack=False) as subscription:
        await client.publish_batch(place.topic(), [3, 4])
        (message,) = await take(subscription, 1)
        await message.nack(delay_seconds=0)
        (again,) = await take(subscription, 1)
        assert (again.data, again.attempt) == (3, 2)
        await again.ack()
        await expect_no_more(client, subscription, place.topic(), LAST)


# -- time


@BOTH
@case(FILTERS, Capability.DELAY)
async def test_what_is_delayed_is_filtered_when_it_comes(place: Place, filter: Any) -> None:
    """What matches comes when it is due, the rest never."""
    client = place.client()
    async with client.subscribe(place.topic(), filter=filter) as subscription:
        await client.publish_batch(place.topic(), range(12), delay_seconds=1)
        assert await subscription.fetch(1, timeout=0) == []
        assert sorted(data(await take(subscription, 4))) == [0, 3, 6, 9]
        await expect_no_more(client, subscription, place.topic(), LAST)


@BOTH
@case(FILTERS, Capability.GROUPS, Capability.DELAY)
async def test_groups_filter_what_is_delayed_when_it_comes(place: Place, filter: Any) -> None:
    """It is counted then, and not before."""
    client = place.client()
    await client.create_group(place.topic(), place.group(), filter=filter)
    async with manual(place, client) as subscription:
        await client.publish_batch(place.topic(), range(12), delay_seconds=1)
        assert await subscription.fetch(1, timeout=0) == []
        assert (await standing(place, client)).filtered == 0
        found = await take(subscription, 4)
        assert data(found) == [0, 3, 6, 9]
        await subscription.ack(found)

        async def is_done() -> bool:
            assert await subscription.fetch(1, timeout=0.01) == []
            return (await standing(place, client)).filtered == 8

        await until(is_done)
    found_now = await standing(place, client)
    assert (found_now.acked, found_now.lag) == (4, 0)


@case(FILTERS, Capability.EXPIRY)
async def test_what_expired_does_not_come_though_it_matches(place: Place) -> None:
    """What has not expired comes; a filter can ask until when a message lives."""
    client = place.client()
    async with (
        client.subscribe(place.topic(), filter="_data >= 0") as subscription,
        client.subscribe(place.topic(), filter=lambda m: m.expires_at == None) as lasting,  # noqa: E711
        client.subscribe(place.topic(), filter="_expires_at > '2020-01-01'") as mortal,
    ):
        for number in range(20):
            await client.publish(place.topic(), number, ttl_seconds=(None, 0.05, 60)[number % 3])
        await pass_time(place, client, 0.1)
        expected = [number for number in range(20) if number % 3 != 1]
        assert data(await take(subscription, len(expected))) == expected
        assert data(await take(lasting, 7)) == [0, 3, 6, 9, 12, 15, 18]
        assert data(await take(mortal, 6)) == [2, 5, 8, 11, 14, 17]
        await expect_no_more(client, subscription, place.topic(), LAST)


@case(FILTERS, Capability.GROUPS, Capability.EXPIRY)
async def test_what_expired_is_counted_once(place: Place) -> None:
    """As expired when it matches, as passed over when it does not."""
    client = place.client()
    await client.create_group(place.topic(), place.group(), filter=SQL)
    await client.publish_batch(place.topic(), range(30), ttl_seconds=0.01)
    await client.publish_batch(place.topic(), range(30, 60))
    await pass_time(place, client, 0.05)
    async with manual(place, client) as subscription:
        found = await take(subscription, 10)
        assert data(found) == wanted(range(30, 60))
        await subscription.ack(found)
        assert await subscription.fetch(1, timeout=0) == []
    found_now = await standing(place, client)
    assert (found_now.acked, found_now.expired, found_now.filtered, found_now.dead) == (10, 10, 40, 0)


# -- what is no filter


@case(FILTERS)
async def test_what_is_no_filter_is_refused(place: Place) -> None:
    """When subscribing, by `InvalidFilter`, wherever a filter can be given; and no topic is made."""
    client = place.client()
    wrong: list[Any] = ["", "total >", "total = NULL", "_nothing = 1", 7, b"total > 4", ["total"], True]
    wrong += [lambda m: m["a"] and m["b"], lambda m: m.total > 4, lambda: True, lambda m: True, lambda m: {}[m]]
    for each in wrong:
        with pytest.raises(InvalidFilter):
            client.subscribe(place.topic(), filter=each)
        with pytest.raises(InvalidFilter):
            await client.listen(place.topic(), lambda message: None, filter=each)
        with pytest.raises(InvalidFilter):
            await client.create_group(place.topic(), place.group(), filter=each)
    assert not await place.is_known(client, place.topic())
