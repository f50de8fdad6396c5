"""What a temporary subscription is promised: everything published while it is open, by name, pattern and position."""

from __future__ import annotations

import asyncio
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidings import (
    AsyncSubscription,
    InvalidOption,
    InvalidPattern,
    InvalidTopic,
    TopicExists,
    TopicNotFound,
    TopicOptions,
)
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.place import SECONDS, Place, data, expect_nothing, take, until


@case()
async def test_everybody_sees_everything(place: Place) -> None:
    """Each temporary subscription gets every message, of every client, from the moment it is open."""
    clients = [place.client(), place.client()]
    if place.stores:  # else it may be under way for longer
        await clients[0].publish(place.topic(), "before")
    async with (
        clients[0].subscribe(place.topic()) as first,
        clients[1].subscribe(place.topic()) as second,
        clients[1].subscribe(place.topic()) as third,
    ):
        for number in range(50):
            await clients[number % 2].publish(place.topic(), number)
        for subscription in (first, second, third):
            found = data(await take(subscription, 50))
            assert found == list(range(50)) if place.stores else sorted(found) == list(range(50))
            assert [number for number in found if number % 2] == list(range(1, 50, 2))
            await expect_nothing(subscription)


@case()
async def test_topics_do_not_mix(place: Place) -> None:
    """Many topics at once, with names that differ by a separator or a letter's case: each gets its own, only."""
    client = place.client()
    names = ["a/b", "a.b", "a:b", "a/B", "a", "b", "a/b/c", *(f"n{number}" for number in range(8))]
    topics = [place.topic(name) for name in names]
    subscriptions = [client.subscribe(topic) for topic in topics]
    await asyncio.gather(*(subscription.open() for subscription in subscriptions))

    async def publish(topic: str) -> None:
        for number in range(10):
            await client.publish(topic, [topic, number])

    await asyncio.gather(*map(publish, topics))
    for topic, subscription in zip(topics, subscriptions):
        assert data(await take(subscription, 10)) == [[topic, number] for number in range(10)]
        assert await subscription.fetch(1, timeout=0) == []


@case(Capability.PATTERNS)
@pytest.mark.parametrize("mark", ["/", ".", ":"])
async def test_wildcards_in_each_notation(place: Place, mark: str) -> None:
    """`*` is one segment or a part of it, `**` and `#` any number of segments and also none."""
    names = ["shop", "shop/new", "shop/new/eu", "shop/old", "stock/new", "shop/new/eu/fr"]
    wanted = {
        "shop/*": {"shop/new", "shop/old"},
        "*/new": {"shop/new", "stock/new"},
        "s*/n*": {"shop/new", "stock/new"},
        "shop/**": {"shop", "shop/new", "shop/new/eu", "shop/old", "shop/new/eu/fr"},
        "shop/#": {"shop", "shop/new", "shop/new/eu", "shop/old", "shop/new/eu/fr"},
        "**/eu": {"shop/new/eu"},
        "shop/*/*": {"shop/new/eu"},
        "shop/new": {"shop/new"},
    }
    client = place.client()
    subscriptions = {pattern: client.subscribe(place.topic(pattern.replace("/", mark))) for pattern in wanted}
    for subscription in subscriptions.values():
        await subscription.open()
    for name in names:
        await client.publish(place.topic(name.replace("/", mark)), name)
    for pattern, subscription in subscriptions.items():
        found = data(await take(subscription, len(wanted[pattern])))
        assert set(found) == wanted[pattern], pattern
        assert await subscription.fetch(1, timeout=0.01) == []


@case(Capability.PATTERNS)
async def test_regular_expressions_and_lists(place: Place) -> None:
    """A compiled regex matches whole names; a list is the union, and a message that matches twice comes once."""
    client = place.client()
    expression = re.compile(re.escape(place.topic()) + r"\d+")
    several: list[Any] = [place.topic("topic1"), place.topic("*"), expression, place.topic("other")]
    async with client.subscribe(expression) as by_regex, client.subscribe(several) as by_list:
        for name in ("topic1", "topic22", "topicx", "other", "topic3/deep"):
            await client.publish(place.topic(name), name)
        assert set(data(await take(by_regex, 2))) == {"topic1", "topic22"}
        assert set(data(await take(by_list, 4))) == {"topic1", "topic22", "topicx", "other"}
        await expect_nothing(by_list)
        assert await by_regex.fetch(1, timeout=0) == []


@case(Capability.PATTERNS)
async def test_topics_that_appear_later_are_read_from_their_first_message(place: Place) -> None:
    """Whoever makes them, and however fast messages follow."""
    reader, writer = place.client(), place.client()
    async with reader.subscribe(place.topic("late/*")) as subscription:
        for number in range(10):
            await writer.publish_batch(place.topic(f"late/{number}"), [[number, 0], [number, 1]])
        found = data(await take(subscription, 20))
        await expect_nothing(subscription)
    assert sorted(found) == [[number, part] for number in range(10) for part in (0, 1)]


@case()
async def test_a_bad_subscription_is_refused(place: Place) -> None:
    """Bad patterns and parameters raise typed errors when `subscribe` is called."""
    client = place.client()
    topics: Any
    for topics in ("", [], 7, None, ["good", 7]):
        with pytest.raises(InvalidTopic):
            client.subscribe(topics)
    for topics in ("a//*", re.compile(r"(a)\1"), re.compile(r"a(?=b)")):
        with pytest.raises(InvalidPattern):
            client.subscribe(topics)
    options: Any
    for options in (
        {"prefetch": 0},
        {"prefetch": 10**9},
        {"consumer_group": ""},
        {"consumer_id": "a\nb"},
        {"from_offset": -1},
        {"from_beginning": True, "from_offset": 3},
        {"since": timedelta(1), "from_offset": 3},
    ):
        with pytest.raises(InvalidOption):
            client.subscribe(place.topic(), **options)
    async with client.subscribe(place.topic()) as subscription:
        with pytest.raises(InvalidOption):
            await subscription.fetch(0)


@case(Capability.REPLAY)
async def test_reading_starts_where_it_is_told_to(place: Place) -> None:
    """`from_beginning`, `from_offset`, and `since` as a time or as a while back from now."""
    client = place.client()
    await client.publish_batch(place.topic(), range(10))
    middle = datetime.now(UTC)
    await client.publish_batch(place.topic(), range(10, 15))
    starts: list[tuple[dict[str, Any], int]] = [
        ({"from_beginning": True}, 0),
        ({"from_offset": 0}, 0),
        ({"from_offset": 7}, 7),
        ({"from_offset": 14}, 14),
        ({"since": middle}, 10),
        ({"since": timedelta(hours=1)}, 0),
        ({"since": datetime.now(UTC) + timedelta(hours=1)}, 15),
        ({}, 15),
    ]
    for options, first in starts:
        async with client.subscribe(place.topic(), **options) as subscription:
            wanted = list(range(first, 15))
            assert data(await take(subscription, len(wanted))) == wanted, options
            await client.publish(place.topic("other"), "elsewhere")
            assert await subscription.fetch(1, timeout=0.01) == []


@case(Capability.REPLAY)
async def test_later_subscribers_read_the_old_messages(place: Place) -> None:
    """Each newcomer replays from the start; those there already get the new message only."""
    client = place.client()
    there: list[AsyncSubscription] = []
    for number in range(6):
        await client.publish(place.topic(), number)
        for subscription in there:
            assert data(await take(subscription, 1)) == [number]
        newcomer = client.subscribe(place.topic(), from_beginning=True)
        assert data(await take(newcomer, number + 1)) == list(range(number + 1))
        there.append(newcomer)


@case()
async def test_a_slow_subscriber_slows_nobody(place: Place) -> None:
    """Others and the publisher go on while it holds no more than its prefetch; later it gets everything."""
    client = place.client()
    async with client.subscribe(place.topic(), prefetch=10) as slow, client.subscribe(place.topic()) as fast:
        await client.publish(place.topic(), 0)
        assert data(await take(slow, 1)) == [0]
        await client.publish_batch(place.topic(), range(1, 3000))
        assert data(await take(fast, 3000)) == list(range(3000))
        assert slow.statistics().held <= 10
        assert data(await take(slow, 2999)) == list(range(1, 3000))


@case()
async def test_fetch_waits_no_longer_than_told(place: Place) -> None:
    """An empty list on timeout, at once with 0; what comes meanwhile ends the wait; never more than asked for."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        assert await subscription.fetch(5, timeout=0) == []
        assert await subscription.fetch(5, timeout=0.05) == []
        waiting = asyncio.ensure_future(subscription.fetch(5, timeout=None))
        await client.publish(place.topic(), 1)
        assert data(await waiting) == [1]
        await client.publish_batch(place.topic(), range(8))
        first = data(await subscription.fetch(5, timeout=0 if place.stores else SECONDS))
        assert len(first) == 5 if place.stores else 1 <= len(first) <= 5
        assert first + data(await take(subscription, 8 - len(first))) == list(range(8))


@case()
async def test_a_loop_yields_in_order_until_closed(place: Place) -> None:
    """`async for` waits for more, and ends when the subscription is closed from elsewhere."""
    client = place.client()
    subscription = client.subscribe(place.topic())
    await subscription.open()
    found: list[Any] = []

    async def read() -> None:
        async for message in subscription:
            found.append(message.data)

    reading = asyncio.ensure_future(read())
    for number in range(30):
        await client.publish(place.topic(), number)
    await until(lambda: len(found) == 30)
    await subscription.close()
    await asyncio.wait_for(reading, 5)
    assert found == list(range(30))


@case()
async def test_batches_gather_what_is_there(place: Place) -> None:
    """No list is longer than `max_messages`; with `max_wait` a list waits for more to come."""
    client = place.client()
    async with client.subscribe(place.topic()) as subscription:
        await client.publish_batch(place.topic(), range(25))
        sizes: list[int] = []
        async for batch in subscription.batches(max_messages=10):
            sizes.append(len(batch))
            if sum(sizes) == 25:
                break
        assert max(sizes) == 10
        gathering = subscription.batches(max_messages=3, max_wait=10.0)
        next_batch = asyncio.ensure_future(anext(gathering))
        for number in range(3):
            await client.publish(place.topic(), number)
        assert data(await asyncio.wait_for(next_batch, 5)) == [0, 1, 2]


@case()
async def test_a_handler_is_called_for_each_message(place: Place) -> None:
    """`handler(message)` and `handler(topic, data)`, in order; one that fails is counted, and the next one goes on."""
    client = place.client()
    by_message: list[Any] = []
    by_pair: list[Any] = []
    failing = threading.Event()

    def fail(message: Any) -> None:
        if message.data == 3:
            failing.set()
            raise RuntimeError("as the case wants it")

    listeners = [
        await client.listen(place.topic(), lambda message: by_message.append(message.data)),
        await client.listen(place.topic(), lambda topic, data: by_pair.append((topic, data))),
        await client.listen(place.topic(), fail),
    ]
    for number in range(20):
        await client.publish(place.topic(), number)
    await until(lambda: len(by_message) == len(by_pair) == 20 and listeners[2].statistics().delivered >= 20)
    for listener in listeners:
        await listener.stop()
    assert by_message == list(range(20))
    assert by_pair == [(place.topic(), number) for number in range(20)]
    assert failing.is_set()
    assert [listener.failed for listener in listeners] == [0, 0, 1]
    await client.publish(place.topic(), "too late")
    assert len(by_message) == 20


@case()
async def test_a_nack_outside_a_group_brings_it_back_here_only(place: Place) -> None:
    """To this subscription, counted; an ack has nothing to record and does no harm."""
    client = place.client()
    async with (
        client.subscribe(place.topic(), auto_ack=False) as one,
        client.subscribe(place.topic(), auto_ack=False) as other,
    ):
        await client.publish_batch(place.topic(), ["a", "b"])
        first, second = await take(one, 2)
        await second.ack()
        await first.nack(delay_seconds=0)
        (again,) = await take(one, 1)
        assert (again.data, again.attempt, again.id) == ("a", 2, first.id)
        await again.ack()
        assert [message.attempt for message in await take(other, 2)] == [1, 1]
        await expect_nothing(one)


@case(Capability.REPLAY, Capability.RETENTION)
async def test_what_is_beyond_a_size_is_removed(place: Place) -> None:
    """The oldest messages, some at a time: what is left is the end of the topic, and not much less than may stay."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(retention_bytes=10**6))
    for start in range(0, 400, 20):
        await client.publish_batch(place.topic(), [[number, "x" * 10_000] for number in range(start, start + 20)])

    async def is_trimmed() -> bool:
        async with client.subscribe(place.topic(), from_beginning=True) as subscription:
            first = (await take(subscription, 1))[0].data[0]
            rest = [message.data[0] for message in await take(subscription, 399 - first)]
        assert [first, *rest] == list(range(first, 400))
        return bool(400 - first < 150)

    await until(is_trimmed)
    async with client.subscribe(place.topic(), from_beginning=True) as subscription:
        assert (await take(subscription, 1))[0].data[0] < 400 - 70


@case(Capability.REPLAY, Capability.RETENTION)
async def test_what_is_too_old_is_not_read(place: Place) -> None:
    """Whoever begins at the beginning gets what is younger than that, also when little is published."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(retention_period=1.0))
    await client.publish(place.topic(), "old")

    async def is_gone() -> bool:
        await client.publish(place.topic(), "new")
        async with client.subscribe(place.topic(), from_beginning=True) as subscription:
            return data(await take(subscription, 1)) == ["new"]

    await until(is_gone)


@case(Capability.REPLAY, Capability.RETENTION_COUNT)
async def test_what_retention_removes_is_counted(place: Place) -> None:
    """The limit holds, roughly; what a subscription missed by it is neither delivered nor hidden."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(retention_messages=100))
    for start in range(0, 1000, 10):
        await client.publish_batch(place.topic(), range(start, start + 10))
    kept = (await client.describe_topic(place.topic())).messages
    assert 100 <= kept <= 150
    async with client.subscribe(place.topic(), from_offset=0) as subscription:
        found = data(await take(subscription, kept))
        assert found == list(range(1000 - kept, 1000))
        assert subscription.statistics().skipped == 1000 - kept


@case(Capability.TOPICS)
async def test_topics_are_made_listed_and_dropped(place: Place) -> None:
    """Creating twice is one topic, unless the options differ; a dropped one is gone with its messages."""
    client, other = place.client(), place.client()
    made = await client.create_topic(place.topic("b"))
    assert await other.create_topic(place.topic("b")) == made
    await other.publish(place.topic("a"), 1)
    names = [topic.name for topic in await client.topics()]
    assert [name for name in names if name in (place.topic("a"), place.topic("b"))] == [
        place.topic("a"),
        place.topic("b"),
    ]
    assert (await client.describe_topic(place.topic("a"))).messages == place.messages(1)
    await client.drop_topic(place.topic("a"))
    for call in (client.describe_topic, other.describe_topic, client.drop_topic):
        with pytest.raises(TopicNotFound):
            await call(place.topic("a"))
    assert [(await other.publish(place.topic("a"), 2)).offset] == place.offsets([0])


@case(Capability.PARTITIONS)
async def test_a_topic_keeps_its_options(place: Place) -> None:
    """Other options for a topic that exists are refused by name."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(partitions=2))
    with pytest.raises(TopicExists):
        await client.create_topic(place.topic(), TopicOptions(partitions=3))
    assert len((await client.describe_topic(place.topic())).partitions) == 2


@case(Capability.TOPICS)
async def test_a_subscription_outlives_its_topic(place: Place) -> None:
    """A topic that is dropped and published to again is a new one, read from its first message."""
    client, other = place.client(), place.client()
    async with client.subscribe(place.topic()) as subscription:
        await client.publish(place.topic(), "old")
        assert data(await take(subscription, 1)) == ["old"]
        await other.drop_topic(place.topic())
        await other.publish(place.topic(), "new")
        assert data(await take(subscription, 1)) == ["new"]


@case()
async def test_subscribing_and_closing_at_once_disturbs_nobody(place: Place) -> None:
    """Ten come and go together; who comes then gets everything."""
    client = place.client()

    async def come_and_go() -> None:
        async with client.subscribe(place.topic()):
            pass

    await asyncio.gather(*(come_and_go() for _ in range(10)))
    async with client.subscribe(place.topic()) as subscription:
        await client.publish_batch(place.topic(), range(50))
        assert data(await take(subscription, 50)) == list(range(50))
