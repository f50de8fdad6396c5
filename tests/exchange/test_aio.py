"""The exchange, through both clients: who published with which key reaches whose function says yes, and nobody else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.exchange.stage import SECONDS, Bus, expect_end, fail_in, take
from tidings import (
    Client,
    Exchange,
    GroupExists,
    InvalidOption,
    TopicOptions,
    UnencodableData,
)
from tidings.exchange.aio import AsyncRouted
from tidings.model.message import ROUTING_KEY
from tidings.testing.conformance.stage.place import until

KEYS: list[Any] = [
    "weather.ca.mountainview",
    "",
    'quotes " and \\ and newlines\n\r\t\0',
    "wéäther ☃ 🏳️‍🌈 \u2028 \xa0 \x7f",
    0,
    5,
    -1.5,
    2**63,
    1e300,
    True,
    False,
    None,
    [],
    ["superhero", "fight", "supervillain"],
    [1, [2, [None, {"a": []}]]],
    {},
    {"teamup": {"superheroes": ["Batman", "Superman"]}, "surprising": True},
    {"": None, "odd name": {"a.b": 1}},
]
"""A key of each kind that JSON has."""


# -- publishing and subscribing


async def test_keys_of_every_kind_arrive_as_they_were(bus: Bus) -> None:
    exchange = bus.exchange()
    async with exchange.queue().subscribe() as routed:
        for number, key in enumerate(KEYS):
            receipt = await exchange.topic(key).publish(number)
            assert receipt.topic == "exchange"
        found = await take(routed, len(KEYS))
        assert found == [(key, number) for number, key in enumerate(KEYS)]
        assert [type(key) for key, _ in found] == list(map(type, KEYS))
        await expect_end(routed)


@pytest.mark.parametrize(
    ("filter_func", "wanted"),
    [
        (lambda key: key.match(r".*ca.*"), ["weather.ca.mountainview"]),
        (lambda key: key == "", [""]),
        (lambda key: key == 5, [5]),
        (lambda key: key > 4, [5, 2**63, 1e300]),
        (lambda key: key == True, [True]),  # noqa: E712
        (lambda key: key == None, [None]),  # noqa: E711
        (lambda key: key, None),
        (lambda key: key == [], [[]]),
        (lambda key: key == {}, [{}]),
        (lambda key: key == ["superhero", "fight", "supervillain"], [KEYS[13]]),
        (lambda key: key.contains("fight", "superhero"), [KEYS[13]]),
        (lambda key: key.contains_any("nobody", "supervillain"), [KEYS[13]]),
        (lambda key: key[1][1][1]["a"] == [], [KEYS[14]]),
        (lambda key: key["surprising"], [KEYS[16]]),
        (lambda key: key["teamup"] | key["fight"], [KEYS[16]]),
        (lambda key: ~key["surprising"], []),
        (lambda key: key["teamup"]["superheroes"].contains("Batman"), [KEYS[16]]),
        (lambda key: key["odd name"]["a.b"] == 1, [KEYS[17]]),
        (lambda key: key.length() == 3, [KEYS[13]]),
    ],
)
async def test_the_function_decides(bus: Bus, filter_func: Callable[[Any], Any], wanted: list[Any] | None) -> None:
    """What a key does not have, or is not, matches nothing and stops nothing."""
    expected = [key for key in KEYS if key is not None and key is not False and key != 0] if wanted is None else wanted
    exchange = bus.exchange()
    async with exchange.queue(filter_func).subscribe() as routed:
        for key in KEYS:
            await exchange.topic(key).publish({"payload": "of any kind"}, durability=None)
        assert [key for key, _ in await take(routed, len(expected))] == expected
        await expect_end(routed)


async def test_every_subscriber_gets_what_it_wants(bus: Bus) -> None:
    """Also with equal functions; each gets what is published while it is there."""
    exchange = bus.exchange("heroes")
    await exchange.topic(["fight"]).publish("before")
    routed = [
        exchange.queue(lambda tags: tags.contains("fight")).subscribe(),
        exchange.queue(lambda tags: tags.contains("fight")).subscribe(),
        exchange.queue(lambda tags: ~tags.contains("fight")).subscribe(),
        exchange.queue().subscribe(),
    ]
    for each in routed:
        await expect_end(each)
    fight, romance = exchange.topic(["fight", "superhero"]), exchange.topic(["romance"])
    for number in range(6):
        await (fight if number % 2 else romance).publish(number)
    for each, expected in zip(routed, ([1, 3, 5], [1, 3, 5], [0, 2, 4], [*range(6)]), strict=True):
        assert [payload for _, payload in await take(each, len(expected))] == expected
        await expect_end(each)


async def test_exchanges_are_told_apart_by_name(bus: Bus) -> None:
    """Who uses the same name meets, whoever the objects are made by."""
    one, same, other = bus.exchange("one"), bus.exchange(name="one"), bus.exchange("other")
    async with one.queue().subscribe() as mine, other.queue().subscribe() as theirs:
        await same.topic("a").publish(1)
        await other.topic("a").publish(2)
        assert await take(mine, 1) == [("a", 1)]
        assert await take(theirs, 1) == [("a", 2)]
        await expect_end(mine)
        await expect_end(theirs)
    assert [info.name for info in await bus.client.topics()] == ["one", "other"]


async def test_a_topic_keeps_its_key(bus: Bus) -> None:
    """The one that it was made with, whatever becomes of the list; it publishes as often as it is asked to."""
    exchange = bus.exchange()
    key = ["a"]
    topic = exchange.topic(key)
    key.append("b")
    async with exchange.queue().subscribe() as routed:
        for number in range(3):
            await topic.publish(number)
        assert await take(routed, 3) == [(["a"], number) for number in range(3)]


async def test_a_key_belongs_to_who_got_it(bus: Bus) -> None:
    """What one subscriber does with it changes nothing for another, nor for what comes later with the same key."""
    exchange = bus.exchange()
    routed = [exchange.queue(lambda tags: tags.contains("x")).subscribe() for _ in range(2)]
    for each in routed:
        await expect_end(each)
    for number in range(3):
        await exchange.topic(["x", {"deep": [1]}]).publish(number)
        for each in routed:
            ((key, payload),) = await take(each, 1)
            assert (key, payload) == (["x", {"deep": [1]}], number)
            key[1]["deep"].clear()
            key.clear()


async def test_what_publish_takes_goes_along(bus: Bus) -> None:
    """Headers of the publisher are kept beside that of the exchange, which nobody can forge."""
    exchange = bus.exchange()
    topic = exchange.topic({"a": 1})
    headers = {"trace": "7", ROUTING_KEY: '"forged"'}
    async with exchange.queue(lambda key: key["a"] == 1).subscribe() as routed:
        await topic.publish(1, headers=headers, priority="high", partition_key="k", message_id="the-id", ttl_seconds=60)
        await topic.publish(2, delay_seconds=0.05)
        (message,) = await routed.subscription.fetch(1, timeout=SECONDS)
        assert dict(message.headers) == {"trace": "7", ROUTING_KEY: '{"a":1}'}
        assert (message.priority, message.key, message.id, message.routing_key) == (8, "k", "the-id", {"a": 1})
        assert message.expires_at is not None
        assert await take(routed, 1) == [({"a": 1}, 2)]
    assert headers == {"trace": "7", ROUTING_KEY: '"forged"'}
    with pytest.raises(InvalidOption):
        await topic.publish(1, priority="urgent")
    with pytest.raises(UnencodableData):
        await topic.publish(object())


async def test_what_subscribe_takes_goes_along(bus: Bus) -> None:
    """From the beginning, a type for the data, and acks of one's own."""
    exchange = bus.exchange()
    for number in range(4):
        await exchange.topic(number % 2).publish([number])
    queue = exchange.queue(lambda key: key == 1)
    async with queue.subscribe(from_beginning=True, data_type=tuple[int, ...]) as routed:
        assert await take(routed, 2) == [(1, (1,)), (1, (3,))]
    durable = exchange.queue(lambda key: key == 1, durable="mine")
    async with durable.subscribe(from_beginning=True, auto_ack=False, prefetch=5) as routed:
        first, _ = await routed.subscription.fetch(2, timeout=SECONDS)
        await first.ack()
    (info,) = await bus.client.groups("exchange")
    assert (info.group, info.lag, info.acked) == ("mine", 1, 1)


async def test_a_reader_can_be_closed(bus: Bus) -> None:
    """Twice; a loop over it is over then. Other readers go on."""
    exchange = bus.exchange()
    queue = exchange.queue()
    one, other = queue.subscribe(), queue.subscribe()
    await expect_end(one)
    await expect_end(other)
    await one.close()
    await one.close()
    await exchange.topic("a").publish(1)
    assert [pair async for pair in one] == []
    assert await take(other, 1) == [("a", 1)]
    assert bus.exchange("shop").name == "shop"
    assert "Exchange shop" in repr(bus.exchange("shop"))


# -- durable queues


async def test_a_durable_queue_collects_before_anybody_comes(bus: Bus) -> None:
    """From its declaration on, which may be repeated; what its function does not want is passed over."""
    exchange = bus.exchange()
    await exchange.topic("a.before").publish(-1)
    queue = exchange.queue(lambda key: key.match("^a"), durable="orders")
    await queue.declare()
    for number in range(10):
        await exchange.topic(f"{'ab'[number % 2]}.{number}").publish(number)
    await queue.declare()
    async with queue.subscribe() as routed:
        assert await take(routed, 5) == [(f"a.{number}", number) for number in range(0, 10, 2)]
        await expect_end(routed)
    (info,) = await bus.client.groups("exchange")
    assert (info.group, info.lag, info.acked, info.filtered) == ("orders", 0, 5, 5)
    assert info.filter == "_routing_key ~ '^a'"


async def test_subscribers_of_a_durable_queue_share_it(bus: Bus) -> None:
    """Each message goes to one of them; a temporary subscriber takes nothing from them."""
    exchange = bus.exchange()
    queue = exchange.queue(lambda key: key["n"] % 2 == 0, durable="work")
    await queue.declare()
    seen: list[int] = []

    async def work(routed: AsyncRouted) -> None:
        async for _, payload in routed:
            seen.append(payload)

    async with exchange.queue().subscribe() as watcher:
        for number in range(40):
            await exchange.topic({"n": number}).publish(number, durability=None)
        workers = [queue.subscribe(prefetch=3), exchange.queue(durable="work").subscribe(prefetch=3)]
        working = [asyncio.ensure_future(work(routed)) for routed in workers]
        await until(lambda: len(seen) >= 20)
        for routed in workers:
            await routed.close()
        await asyncio.gather(*working)
        assert [payload for _, payload in await take(watcher, 40)] == [*range(40)]
    assert sorted(seen) == [*range(0, 40, 2)]
    (info,) = await bus.client.groups("exchange")
    assert (info.acked + info.lag, info.filtered) == (20, 20)


async def test_a_message_is_acked_when_the_next_is_asked_for(bus: Bus) -> None:
    """And when the block is left in peace; an error out of the block lets it come again."""
    exchange = bus.exchange()
    await bus.client.create_topic("exchange", TopicOptions(retry_delay=0, retry_max_delay=0))
    queue = exchange.queue(durable="work")
    await queue.declare()
    for number in range(3):
        await exchange.topic(number).publish(number)
    with pytest.raises(ZeroDivisionError):
        await fail_in(queue, (0, 0), (1, 1))
    async with queue.subscribe() as routed:
        assert sorted(await take(routed, 2)) == [(1, 1), (2, 2)]
    (info,) = await bus.client.groups("exchange")
    assert (info.lag, info.acked, info.failed) == (0, 3, 1)


CONSUMER = """
import os, sys
from tidings import Client, Exchange

queue = Exchange(Client(sys.argv[1]), "shop").queue(lambda key: key["paid"] == True, durable="orders")
if len(sys.argv) < 3:
    queue.declare()
else:
    for key, payload in queue.subscribe():
        print(payload, flush=True)
        if payload == int(sys.argv[2]):
            os._exit(0)  # as a machine goes: without a last word
"""
"""Declares the queue; or reads it up to a message, and is gone while it has that in its hands."""


def run_consumer(url: str, *until: str) -> list[int]:
    command = [sys.executable, "-W", "error", "-c", CONSUMER, url, *until]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return [int(line) for line in done.stdout.split()]


def test_a_durable_queue_survives_its_processes(tmp_path: Path) -> None:
    """What was not acked comes to the next one, all of it and nothing else; the function is remembered."""
    url = f"file:{tmp_path / 'bus'}"
    run_consumer(url)
    with Client(url) as client:
        exchange = Exchange(client, "shop")
        for number in range(30):
            exchange.topic({"paid": number % 3 == 0}).publish(number)
    first = run_consumer(url, "12")
    second = run_consumer(url, "21")
    with Client(url) as client:
        third: list[int] = []
        with Exchange(client, "shop").queue(durable="orders").subscribe() as routed:
            while third[-1:] != [27]:
                third.append(next(routed)[1])
        assert client.get_consumer_lag("shop", "orders") == 0
    assert first == [0, 3, 6, 9, 12]
    for found, in_hand, last in ((second, 12, 21), (third, 21, 27)):
        assert found[0] <= in_hand
        assert found == [*range(found[0], last + 1, 3)]


async def test_a_durable_queue_keeps_its_function(bus: Bus) -> None:
    """Another one is refused, an equal one is not, and none is the one it has."""
    exchange = bus.exchange()
    await exchange.queue(lambda key: key["a"] > 1, durable="q").declare()
    await exchange.queue(lambda whatever: whatever["a"] > 1, durable="q").declare()
    async with exchange.queue(durable="q").subscribe() as routed:
        await exchange.topic({"a": 1}).publish(1)
        await exchange.topic({"a": 2}).publish(2)
        assert await take(routed, 1) == [({"a": 2}, 2)]
    other = exchange.queue(lambda key: key["a"] > 2, durable="q")
    with pytest.raises(GroupExists) as caught:
        await other.declare()
    assert "_routing_key.a > 1" in str(caught.value)
    assert "_routing_key.a > 2" in str(caught.value)
    with pytest.raises(GroupExists):
        await fail_in(other)


# -- who is no friend of the exchange


async def test_plain_publishers_and_subscribers_meet_the_exchange(bus: Bus) -> None:
    """Without a header there is no key; with one that is JSON there is; and a client reads what the exchange wrote."""
    client, exchange = bus.client, bus.exchange("shop")
    async with (
        exchange.queue().subscribe() as everything,
        exchange.queue(lambda key: key["a"] == 1).subscribe() as some,
        exchange.queue(lambda key: key.is_null()).subscribe() as keyless,
        client.subscribe("shop", filter="_routing_key.a = 1") as by_sql,
    ):
        await client.publish("shop", "plain")
        await client.publish("shop", "by hand", headers={ROUTING_KEY: ' {"a": 1.0} '})
        await exchange.topic({"a": 1}).publish("exchange")
        assert await take(everything, 3) == [(None, "plain"), ({"a": 1.0}, "by hand"), ({"a": 1}, "exchange")]
        assert [payload for _, payload in await take(some, 2)] == ["by hand", "exchange"]
        assert await take(keyless, 1) == [(None, "plain")]
        found = [*await by_sql.fetch(2, timeout=SECONDS), *await by_sql.fetch(1, timeout=0)]
        assert [message.data for message in found] == ["by hand", "exchange"]
        assert [message.routing_key for message in found] == [{"a": 1}, {"a": 1}]
        await expect_end(some)
        await expect_end(keyless)


@pytest.mark.parametrize("foreign", ["no json", "{", "", '{"a": 1} x', "NaN", "[" * 3000, "'a'"])
async def test_a_header_that_is_no_json_is_no_key(bus: Bus, foreign: str) -> None:
    """The message arrives all the same, and so do those behind it."""
    client, exchange = bus.client, bus.exchange("shop")
    async with (
        exchange.queue().subscribe() as everything,
        exchange.queue(lambda key: (key["a"] == 1) | (key == foreign)).subscribe() as some,
    ):
        await client.publish("shop", "foreign", headers={ROUTING_KEY: foreign})
        await exchange.topic({"a": 1}).publish("exchange")
        assert await take(everything, 2) == [(None, "foreign"), ({"a": 1}, "exchange")]
        assert await take(some, 1) == [({"a": 1}, "exchange")]
        await expect_end(some)
