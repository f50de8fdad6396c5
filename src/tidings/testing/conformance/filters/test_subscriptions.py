"""What a filter promises a temporary subscription: exactly what matches, in order, whoever else reads what."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from tidings import AsyncSubscription, TopicOptions
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import expect_no_more
from tidings.testing.conformance.stage.place import SECONDS, Place, data, expect_nothing, take
from tidings.testing.conformance.stage.worker import Worker

FILTERS = Capability.FILTERS


class Rule(NamedTuple):
    """One condition: in SQL, as a function of the message, and what it means for the data of `order`."""

    sql: str
    function: Callable[[Any], Any]
    wanted: Callable[[dict[str, Any]], bool]


LARGE = Rule("total > 40", lambda m: m["total"] > 40, lambda d: d["total"] > 40)

RULES = [
    LARGE,
    Rule("user = 'u3'", lambda m: m["user"] == "u3", lambda d: d["user"] == "u3"),
    Rule("user IN ('u3', 'u4')", lambda m: m["user"].is_in(["u3", "u4"]), lambda d: d["user"] in ("u3", "u4")),
    Rule(
        "user = 'u5' AND total > 20",
        lambda m: (m["user"] == "u5") & (m["total"] > 20),
        lambda d: d["user"] == "u5" and d["total"] > 20,
    ),
    Rule(
        "user = 'u1' OR total < 10",
        lambda m: (m["user"] == "u1") | (m["total"] < 10),
        lambda d: d["user"] == "u1" or d["total"] < 10,
    ),
    Rule("NOT user = 'u3'", lambda m: ~(m["user"] == "u3"), lambda d: d["user"] != "u3"),
    Rule("'x' IN tags", lambda m: m["tags"].contains("x"), lambda d: "x" in d["tags"]),
    Rule(
        "contains_any(tags, 'y', 'z')",
        lambda m: m["tags"].contains_any("y", "z"),
        lambda d: "y" in d["tags"] or "z" in d["tags"],
    ),
    Rule("at.city LIKE 'B%'", lambda m: m["at"]["city"].like("B%"), lambda d: d["at"]["city"][0] == "B"),
    Rule("user = 'nobody'", lambda m: m["user"] == "nobody", lambda d: False),
    Rule("total % 2 = 0", lambda m: m["total"] % 2 == 0, lambda d: d["total"] % 2 == 0),
]
"""Conditions of all kinds: those that are found by a value, and those that have to be asked each time."""

CITIES = ("Bonn", "Berlin", "Rome")

BOTH = pytest.mark.parametrize("filter", [LARGE.sql, LARGE.function], ids=["sql", "function"])


def order(number: int) -> dict[str, Any]:
    """Return the data of a message; each value of each field comes with each of the others."""
    tags = [tag for at, tag in enumerate("xyz") if number >> at & 1]
    city = CITIES[number % 3]
    return {"n": number, "total": number * 7 % 60, "user": f"u{number % 8}", "tags": tags, "at": {"city": city}}


def wanted(rule: Rule, numbers: range) -> list[int]:
    """Return the numbers of those orders that the rule wants."""
    return [number for number in numbers if rule.wanted(order(number))]


def numbers(messages: list[Any]) -> list[int]:
    return [message.data["n"] for message in messages]


LAST = {"n": -1, "total": 41, "user": "u3", "tags": [], "at": {"city": "Bonn"}}
"""An order that `LARGE` wants, to be published last."""


# -- what matches, in order


@BOTH
@case(FILTERS)
async def test_what_matches_comes_in_order(place: Place, filter: Any) -> None:
    """Published one by one, in batches, with gaps of thousands in between; and nothing else comes."""
    client = place.client()
    async with client.subscribe(place.topic(), filter=filter) as subscription:
        for number in range(40):
            await client.publish(place.topic(), order(number))
        for start in range(40, 200, 16):
            await client.publish_batch(place.topic(), map(order, range(start, start + 16)))
        await client.publish_batch(place.topic(), [{"n": -2, "total": 0}] * 3000)
        await client.publish_batch(place.topic(), map(order, range(200, 240)))
        found = numbers(await take(subscription, len(wanted(LARGE, range(240)))))
        assert found == wanted(LARGE, range(240))
        await expect_no_more(client, subscription, place.topic(), LAST)


@BOTH
@case(FILTERS, Capability.REPLAY)
async def test_what_was_there_before_is_filtered_too(place: Place, filter: Any) -> None:
    """From the beginning, an offset or a time on; and it goes on with what comes."""
    client = place.client()
    await client.publish_batch(place.topic(), map(order, range(100)))
    starts: list[tuple[dict[str, Any], int]] = [
        ({"from_beginning": True}, 0),
        ({"since": timedelta(hours=1)}, 0),
        ({"from_offset": 30}, 30),
        ({}, 100),
    ]
    subscriptions = [client.subscribe(place.topic(), filter=filter, **options) for options, _ in starts]
    for subscription in subscriptions:
        await subscription.open()
    await client.publish_batch(place.topic(), map(order, range(100, 130)))
    await client.publish(place.topic(), LAST)
    for subscription, (options, first) in zip(subscriptions, starts):
        expected = [*wanted(LARGE, range(first, 130)), -1]
        assert numbers(await take(subscription, len(expected))) == expected, options


@case(FILTERS, Capability.REPLAY)
async def test_what_is_there_is_found_without_waiting(place: Place) -> None:
    """A fetch that does not wait looks through all that is there, also where nothing near the beginning matches."""
    client = place.client()
    for start in range(0, 400, 40):
        await client.publish_batch(place.topic(), [{"n": n, "total": 0} for n in range(start, start + 40)])
    await client.publish(place.topic(), LAST)
    async with client.subscribe(place.topic(), filter=LARGE.sql, from_beginning=True) as subscription:
        assert numbers(await subscription.fetch(5, timeout=0)) == [-1]
        assert await subscription.fetch(5, timeout=0) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.sql)
@case(FILTERS, Capability.REPLAY)
async def test_both_notations_mean_the_same(place: Place, rule: Rule) -> None:
    """Of what is there and of what comes; and it is what the condition says."""
    client = place.client()
    expected = wanted(rule, range(96))
    await client.publish_batch(place.topic(), map(order, range(48)))
    both = [client.subscribe(place.topic(), filter=each, from_beginning=True) for each in (rule.sql, rule.function)]
    for subscription in both:
        await subscription.open()
    for start in range(48, 96, 6):
        await client.publish_batch(place.topic(), map(order, range(start, start + 6)))
    for subscription in both:
        assert numbers(await take(subscription, len(expected))) == expected
        assert await subscription.fetch(1, timeout=0) == []


@case(FILTERS)
async def test_a_subscriber_that_waits_hears_what_it_wants(place: Place) -> None:
    """After many messages that it does not want; and a wait in vain ends when it should."""
    client, publisher = place.client(), place.client()
    async with client.subscribe(place.topic(), filter=LARGE.sql) as subscription:
        for turn in range(3):
            waiting = asyncio.ensure_future(subscription.fetch(1, timeout=10))
            for _ in range(20):
                await publisher.publish_batch(place.topic(), [{"n": -2, "total": 0}] * 5)
            assert not waiting.done()
            await publisher.publish(place.topic(), {"n": turn, "total": 50})
            assert numbers(await waiting) == [turn]
        await publisher.publish(place.topic(), {"n": -2, "total": 0})
        await expect_nothing(subscription)


@case(FILTERS)
async def test_who_waits_hears_at_once(place: Place) -> None:
    """Whoever of those that wait wants it: nobody is woken by chance when he looks around."""
    client, publisher = place.client(), place.client()
    filters = [f"_data % 4 = {turn}" for turn in range(4)]
    subscriptions = [client.subscribe(place.topic(), filter=each) for each in filters]
    for subscription in subscriptions:
        await subscription.open()
    waiting = [asyncio.ensure_future(each.fetch(1, timeout=SECONDS)) for each in subscriptions]
    begun = time.monotonic()
    for number in range(40):
        await publisher.publish(place.topic(), number)
        assert data(await waiting[number % 4]) == [number]
        waiting[number % 4] = asyncio.ensure_future(subscriptions[number % 4].fetch(1, timeout=SECONDS))
    assert time.monotonic() - begun < 5
    for subscription in subscriptions:
        await subscription.close()
    await asyncio.gather(*waiting, return_exceptions=True)


@case(Capability.PROCESSES, FILTERS)
async def test_who_waits_in_another_process_hears_at_once(place: Place) -> None:
    """As without a filter."""
    client = place.client()
    async with Worker(place.kind, place.url) as worker:
        await worker.ask("subscribe", place.topic(), None, {"filter": "_data % 3 = 0"})
        worker.tell("take", 1, SECONDS)
        begun = time.monotonic()
        for number in range(0, 60, 3):
            await client.publish_batch(place.topic(), [1, 2])
            await client.publish(place.topic(), number)
            assert await worker.answer() == [[number, 1]]
            worker.tell("take", 1, SECONDS)
        assert time.monotonic() - begun < 5


@case(FILTERS)
async def test_who_comes_while_messages_flow_misses_nothing(place: Place) -> None:
    """From the moment it is open on: alone, beside others, and right after others left."""
    client, publisher = place.client(), place.client()
    published, over = -1, False

    async def publish() -> None:
        nonlocal published
        while not over:
            await publisher.publish(place.topic(), published + 1, durability=None)
            published += 1
            await asyncio.sleep(0)  # in memory a publish waits for nothing; the others want their turn

    async def visit(divisor: int) -> None:
        async with client.subscribe(place.topic(), filter=f"_data % {divisor} = 0") as subscription:
            first = published + 1
            found = data(await take(subscription, 4))
        assert found[0] <= first + divisor
        assert found == [*range(found[0], found[-1] + 1, divisor)]

    publishing = asyncio.ensure_future(publish())
    try:
        for turn in range(40):
            await asyncio.gather(*(visit(divisor) for divisor in (2, 3, 3, 7)[: 1 + turn % 4]))
    finally:
        over = True
        await publishing


# -- which topics, partitions and priorities


@BOTH
@case(FILTERS, Capability.PATTERNS)
async def test_a_pattern_is_filtered_on_all_its_topics(place: Place, filter: Any) -> None:
    """Those that are there, and those that appear later."""
    client, other = place.client(), place.client()
    if Capability.TOPICS in place.subject.capabilities:
        await client.create_topic(place.topic("shop/0"))
    async with client.subscribe(place.topic("shop/*"), filter=filter) as subscription:
        for number in range(120):
            await other.publish(place.topic(f"shop/{number // 30}"), order(number))
            await other.publish(place.topic(f"elsewhere/{number}"), LAST) if number % 40 == 0 else None
        found = await take(subscription, len(wanted(LARGE, range(120))))
        for shop in range(4):
            expected = wanted(LARGE, range(30 * shop, 30 * shop + 30))
            assert numbers([m for m in found if m.topic == place.topic(f"shop/{shop}")]) == expected
        await expect_no_more(other, subscription, place.topic("shop/new"), LAST)


@case(FILTERS)
async def test_several_topics_share_a_filter(place: Place) -> None:
    """A condition on the topic chooses among them."""
    client = place.client()
    names = [place.topic(name) for name in ("a", "b", "c")]
    chosen = f"_topic IN ('{names[0]}', '{names[2]}') AND total > 40"
    async with client.subscribe(names, filter=chosen) as subscription:
        for number, name in itertools.product(range(20), names):
            await client.publish(name, order(number))
        found = await take(subscription, 2 * len(wanted(LARGE, range(20))))
        for name in (names[0], names[2]):
            assert numbers([m for m in found if m.topic == name]) == wanted(LARGE, range(20))
        await expect_no_more(client, subscription, names[0], LAST)


@BOTH
@case(FILTERS, Capability.PRIORITY)
async def test_publish_order_is_kept_over_priorities(place: Place, filter: Any) -> None:
    """Also on a topic that has but one at first: what rode along with others is merged from then on."""
    client = place.client()
    dice = random.Random(5)
    async with (
        client.subscribe(place.topic(), filter=filter) as quick,
        client.subscribe(place.topic(), filter=filter) as slow,
    ):
        seen: list[int] = []
        for number in range(150):
            priority = 5 if number < 30 else dice.choice([0, 5, 5, 8])
            await client.publish(place.topic(), order(number), priority=priority)
            seen += numbers(await quick.fetch(10, timeout=0))
        expected = wanted(LARGE, range(150))
        seen += numbers(await take(quick, len(expected) - len(seen)))
        assert seen == expected
        assert numbers(await take(slow, len(expected))) == expected
        await expect_no_more(client, quick, place.topic(), LAST)


@case(FILTERS, Capability.PRIORITY, Capability.REPLAY)
async def test_what_matches_is_found_behind_what_does_not_in_all_priorities(place: Place) -> None:
    """At once: pages of what is left out are no end."""
    client = place.client()
    for number in range(100):
        await client.publish(place.topic(), {"n": -2, "total": 0}, priority=(1, 5)[number % 2])
    await client.publish(place.topic(), LAST, priority=5)
    async with client.subscribe(place.topic(), filter=LARGE.sql, from_beginning=True) as subscription:
        assert numbers(await subscription.fetch(16, timeout=0)) == [-1]


@BOTH
@case(FILTERS, Capability.PRIORITY, Capability.REPLAY)
async def test_the_highest_priority_comes_first_where_asked_for(place: Place, filter: Any) -> None:
    """Of what matches; within a priority in the order of publishing."""
    client = place.client()
    for number in range(120):
        await client.publish(place.topic(), order(number), priority=number % 3 * 4)
    expected = sorted(wanted(LARGE, range(120)), key=lambda number: (-(number % 3), number))
    options: dict[str, Any] = {"from_beginning": True, "priority_order": True, "filter": filter}
    async with client.subscribe(place.topic(), **options) as subscription:
        assert numbers(await take(subscription, len(expected))) == expected


@BOTH
@case(FILTERS, Capability.PARTITIONS)
async def test_each_partition_is_filtered(place: Place, filter: Any) -> None:
    """All of them, some, or those of one key; what matches of each key is in order."""
    client = place.client()
    await client.create_topic(place.topic(), TopicOptions(partitions=4))
    async with (
        client.subscribe(place.topic(), filter=filter) as everything,
        client.subscribe(place.topic(), filter=filter, partition=[0, 2]) as some,
        client.subscribe(place.topic(), filter=filter, partition_key_filter="k3") as one,
    ):
        receipts = [
            await client.publish(place.topic(), order(number), partition_key=f"k{number % 5}") for number in range(200)
        ]
        expected = wanted(LARGE, range(200))
        found = await take(everything, len(expected))
        for key in range(5):
            mine = [number for number in expected if number % 5 == key]
            assert numbers([m for m in found if m.key == f"k{key}"]) == mine
        chosen = [number for number in expected if receipts[number].partition in (0, 2)]
        assert sorted(numbers(await take(some, len(chosen)))) == chosen
        mine = [number for number in expected if number % 5 == 3]
        assert numbers(await take(one, len(mine))) == mine
        for subscription in (everything, some, one):
            assert await subscription.fetch(1, timeout=0) == []


# -- many subscribers


@case(FILTERS)
async def test_many_subscribers_each_get_their_own(place: Place) -> None:
    """With equal filters in both notations, different ones, and none; also those that come and go meanwhile."""
    clients = [place.client() for _ in range(2)]
    rules = [rule for rule in RULES for _ in range(4)]
    filters = [(rule.sql, rule.function)[at % 2] for at, rule in enumerate(rules)]
    subscriptions = [clients[at % 2].subscribe(place.topic(), filter=each) for at, each in enumerate(filters)]
    everything = clients[0].subscribe(place.topic())
    for subscription in (*subscriptions, everything):
        await subscription.open()
    found: list[list[int]] = [[] for _ in rules]
    for start in range(0, 240, 12):
        await clients[start // 12 % 2].publish_batch(place.topic(), map(order, range(start, start + 12)))
        for at in range(start // 12 % 3, len(rules), 3):  # some read now and then, so they are all at other places
            found[at] += numbers(await subscriptions[at].fetch(1 + at, timeout=0))
        visitor = clients[0].subscribe(place.topic(), filter=rules[start // 12].sql)
        assert await visitor.fetch(1, timeout=0) == [] or not place.stores  # what another published may be under way
        await visitor.close()
    for at, (rule, subscription) in enumerate(zip(rules, subscriptions)):
        expected = wanted(rule, range(240))
        found[at] += numbers(await take(subscription, len(expected) - len(found[at])))
        assert (found[at] if place.stores else sorted(found[at])) == expected, rule.sql
        assert await subscription.fetch(1, timeout=0) == []
    rest = numbers(await take(everything, 240))
    assert (rest if place.stores else sorted(rest)) == list(range(240))


@case(FILTERS)
async def test_who_leaves_takes_nothing_from_those_who_stay(place: Place) -> None:
    """They wait together, with equal filters and others: whichever goes, the rest hear of what comes."""
    client, publisher = place.client(), place.client()
    filters: list[Any] = [LARGE.sql, LARGE.function, LARGE.sql, "user = 'u3'", "total > 39"]
    for leaving in range(len(filters)):
        subscriptions = [client.subscribe(place.topic(), filter=each) for each in filters]
        for subscription in subscriptions:
            assert await subscription.fetch(1, timeout=0) == []
        await publisher.publish(place.topic(), {"n": -2, "total": 0})
        waiting = [asyncio.ensure_future(each.fetch(1, timeout=10)) for each in subscriptions]
        await subscriptions[leaving].close()
        await publisher.publish(place.topic(), LAST)
        rest = [found for at, found in enumerate(waiting) if at != leaving]
        assert [numbers(each) for each in await asyncio.gather(*rest)] == [[-1]] * 4
        await asyncio.gather(waiting[leaving], return_exceptions=True)
        for subscription in subscriptions:
            await subscription.close()


@BOTH
@case(FILTERS)
async def test_a_slow_subscriber_loses_nothing(place: Place, filter: Any) -> None:
    """While others with the same filter read along; it gets all of it later, in order, a few at a time."""
    client = place.client()
    async with (
        client.subscribe(place.topic(), filter=filter) as quick,
        client.subscribe(place.topic(), filter=filter, prefetch=3) as slow,
    ):
        seen: list[int] = []
        for start in range(0, 2000, 100):
            await client.publish_batch(place.topic(), map(order, range(start, start + 100)))
            seen += numbers(await quick.fetch(100, timeout=0))
        expected = wanted(LARGE, range(2000))
        seen += numbers(await take(quick, len(expected) - len(seen)))
        assert seen == expected
        found: list[int] = []
        async for message in slow:
            found.append(message.data["n"])
            if len(found) == len(expected):
                break
        assert found == expected


@pytest.mark.parametrize("levels", [(5,), (5, 0, 8, 5)], ids=["normal", "priorities"])
@case(FILTERS, Capability.PRIORITY)
async def test_publishers_at_the_same_time_reach_every_filter(place: Place, levels: tuple[int, ...]) -> None:
    """From several clients at once, to subscribers that wait: nothing is missed, nothing comes twice, and what each
    publisher said with one priority is in its order, also when other priorities than the usual one come up."""
    clients = [place.client() for _ in range(3)]
    found: dict[str, list[int]] = {rule.sql: [] for rule in RULES}

    async def read(rule: Rule, subscription: AsyncSubscription) -> None:
        while len(found[rule.sql]) < len(wanted(rule, range(300))):
            found[rule.sql] += numbers(await subscription.fetch(20, timeout=10))

    def level(number: int) -> int:
        return levels[number % len(levels)] if number > 60 else 5

    async def publish(who: int) -> None:
        for number in range(who, 300, 3):
            await clients[who].publish(place.topic(), order(number), priority=level(number), durability=None)

    subscriptions = [clients[0].subscribe(place.topic(), filter=rule.sql) for rule in RULES]
    for subscription in subscriptions:
        await subscription.open()
    reading = [read(rule, subscription) for rule, subscription in zip(RULES, subscriptions)]
    await asyncio.gather(*reading, *(publish(who) for who in range(3)))
    for rule in RULES:
        assert sorted(found[rule.sql]) == wanted(rule, range(300))
        for who, priority in itertools.product(range(3), set(levels)):
            mine = [number for number in found[rule.sql] if (number % 3, level(number)) == (who, priority)]
            assert mine == sorted(mine)


@case(Capability.PROCESSES, FILTERS)
async def test_filters_hold_across_processes(place: Place) -> None:
    """What is published here comes to a subscriber there, and the other way round."""
    client = place.client()
    async with Worker(place.kind, place.url) as worker:
        there, here = place.topic("there"), place.topic("here")
        await worker.ask("subscribe", there, None, {"filter": "_data % 10 = 0"})
        async with client.subscribe(here, filter=lambda m: m.data % 7 == 0) as subscription:
            worker.tell("publish", here, 0, 100)
            assert data(await take(subscription, 15)) == list(range(0, 100, 7))
            assert len(await worker.answer()) == 100
            for number in range(100):
                await client.publish(there, number)
            found: list[int] = []
            while len(found) < 10:
                found += [value for value, _ in await worker.ask("take", 10, 10.0)]
            assert found == list(range(0, 100, 10))


@case(FILTERS, Capability.TOPICS)
async def test_a_topic_made_again_is_filtered_too(place: Place) -> None:
    """Also while its subscriber waits for what it wants."""
    client = place.client()
    async with client.subscribe(place.topic(), filter=LARGE.sql) as subscription:
        await client.publish_batch(place.topic(), [LAST, {"n": 0, "total": 0}])
        assert numbers(await take(subscription, 1)) == [-1]
        assert await subscription.fetch(1, timeout=0) == []
        await client.drop_topic(place.topic())
        await client.publish_batch(place.topic(), [{"n": 1, "total": 0}, {"n": 2, "total": 50}])
        assert numbers(await take(subscription, 1)) == [2]
        await expect_no_more(client, subscription, place.topic(), LAST)
