"""Looking at what was given up on, sending it back and clearing it away: all of it, once, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.client.conftest import KINDS, Bus, open_bus
from tests.client.fakes import FakeEngine
from tests.conftest import wait_for
from tidings import AsyncClient, InvalidOption, TopicNotFound, TopicOptions
from tidings.client.aio import runtime
from tidings.client.aio.dead_letters import PAGE_MESSAGES, AsyncDeadMessage
from tidings.client.blocking import runtime as blocking_runtime
from tidings.errors import TopicFull, UnsupportedFeature
from tidings.model.capability import Capability
from tidings.model.options import MAX_PREFETCH
from tidings.testing.conformance.stage.place import until

GROUP = "workers"


async def bury(client: AsyncClient, topic: str, values: Sequence[Any], reason: str = "", **terms: Any) -> None:
    """Publish to the topic, and have a consumer give all of it up."""
    await client.create_group(topic, GROUP)
    await client.publish_batch(topic, values, **terms)
    async with client.subscribe(topic, consumer_group=GROUP, auto_ack=False, prefetch=MAX_PREFETCH) as subscription:
        missing = len(values)
        while missing:
            found = await subscription.fetch(min(missing, 1000), timeout=10)
            await subscription.settle(found, "reject", reason=reason)
            missing -= len(found)


def data(letters: Sequence[AsyncDeadMessage]) -> list[Any]:
    return [dead.message.data for dead in letters]


async def taken(client: AsyncClient, topic: str, count: int = 1000) -> list[Any]:
    """Ack what the group has on the topic, and return it."""
    async with client.subscribe(topic, consumer_group=GROUP, auto_ack=False) as subscription:
        found = await subscription.fetch(count, timeout=0)
        await subscription.ack(found)
    return found


# -- looking


async def test_looking_takes_nothing_away(bus: Bus) -> None:
    client, _ = bus
    await bury(client, "t", range(7), "why")
    dead = client.dead_letters("t")
    for _ in range(2):
        assert data(await dead.list()) == list(range(7))
        assert data(await dead.list(limit=2)) == [0, 1]
        assert data(await dead.list(filter=lambda letter: letter.message.data > 4)) == [5, 6]
        assert data(await dead.list(limit=1, filter=lambda letter: letter.message.data > 4)) == [5]
        assert await dead.count() == 7
        first = await dead.peek()
        assert first is not None
        assert (first.message.data, first.story.reason, first.story.topic) == (0, "why", "t")
    assert await client.dead_letters("dead-letters/t").count() == 7
    assert await taken(client, "t") == []


async def test_one_page_is_not_the_end(bus: Bus) -> None:
    client, _ = bus
    count = 2 * PAGE_MESSAGES + 1
    await bury(client, "t", range(count))
    dead = client.dead_letters("t")
    assert await dead.count() == count
    assert data(await dead.list(limit=PAGE_MESSAGES + 1)) == list(range(PAGE_MESSAGES + 1))
    assert data(await dead.list(filter=lambda letter: letter.message.data == count - 1)) == [count - 1]


async def test_where_nothing_died_there_is_nothing(bus: Bus) -> None:
    """And looking makes no topic."""
    client, _ = bus
    await client.create_topic("t")
    dead = client.dead_letters("t")
    found = (await dead.count(), await dead.list(), await dead.peek(), await dead.redrive(), await dead.purge())
    assert found == (0, [], None, 0, 0)
    assert [topic.name for topic in await client.topics()] == ["t"]


async def test_what_has_no_dead_letters_is_told(bus: Bus) -> None:
    client, _ = bus
    await client.create_topic("drops", TopicOptions(dead_letter_topic=None))
    for call in ("count", "list", "peek", "redrive", "purge"):
        with pytest.raises(TopicNotFound, match="nowhere"):
            await getattr(client.dead_letters("nowhere"), call)()
        with pytest.raises(InvalidOption, match=r"^topic='drops'.*dead_letter_topic"):
            await getattr(client.dead_letters("drops"), call)()
    assert [topic.name for topic in await client.topics()] == ["drops"]


@pytest.mark.parametrize("limit", [0, -1, -5, True, 1.5, "3"])
async def test_a_bad_limit_removes_nothing(bus: Bus, limit: Any) -> None:
    """A negative one must not be counted from the end."""
    client, _ = bus
    await bury(client, "t", range(10))
    dead = client.dead_letters("t")
    for call in (dead.list, dead.purge, dead.redrive):
        with pytest.raises(InvalidOption, match=r"^limit="):
            await call(limit=limit)
    assert await dead.count() == 10


@pytest.mark.parametrize(
    ("name", "wrong"), [("filter", "x"), ("on_progress", 1), ("rate", 0), ("rate", -1), ("rate", "fast")]
)
async def test_bad_parameters_are_told_by_name(bus: Bus, name: str, wrong: Any) -> None:
    """Also where there is no dead letter to try them on."""
    client, _ = bus
    await client.create_topic("t")
    with pytest.raises(InvalidOption, match=f"^{name}="):
        await client.dead_letters("t").redrive(**{name: wrong})


async def test_an_engine_without_dead_letters_says_so(client: AsyncClient, engine: FakeEngine) -> None:
    engine.capabilities -= {Capability.DEAD_LETTERS}
    with pytest.raises(UnsupportedFeature, match="dead letters"):
        client.dead_letters("t")


# -- clearing away


async def test_purging_removes_what_is_asked_for(bus: Bus) -> None:
    client, _ = bus
    await bury(client, "t", range(10))
    dead = client.dead_letters("t")
    assert await dead.purge(lambda letter: letter.message.data % 2 == 1, limit=3) == 3
    assert data(await dead.list()) == [0, 2, 4, 6, 7, 8, 9]
    assert await dead.purge(limit=2) == 2
    assert await dead.purge(lambda letter: letter.message.data == 8) == 1
    assert data(await dead.list()) == [4, 6, 7, 9]
    assert await dead.purge() == 4
    assert (await dead.purge(), await dead.count()) == (0, 0)
    assert await taken(client, "t") == []


# -- sending back


async def test_what_is_sent_back_is_as_it_was(bus: Bus) -> None:
    """Id, key, headers, bytes and priority; the story is gone, and so is the dead letter."""
    client, _ = bus
    headers = {"trace": "7"}
    await bury(client, "t", [{"n": 1}], message_ids=["mine"], partition_key="k", headers=headers, priority="high")
    dead = client.dead_letters("t")
    assert await dead.redrive() == 1
    (message,) = await taken(client, "t")
    assert (message.id, message.key, message.data, message.attempt) == ("mine", "k", {"n": 1}, 1)
    assert (message.headers, message.priority) == (headers, 8)
    assert (await dead.count(), await dead.redrive()) == (0, 0)


async def test_some_can_be_sent_back(bus: Bus) -> None:
    """In their order; `on_progress` hears how many have gone after each transaction."""
    client, _ = bus
    await bury(client, "t", range(PAGE_MESSAGES + 10))
    dead = client.dead_letters("t")
    told: list[int] = []

    def even(letter: AsyncDeadMessage) -> bool:
        return letter.message.data % 2 == 0  # type: ignore[no-any-return]

    assert await dead.redrive(even, limit=3, on_progress=told.append) == 3
    assert [message.data for message in await taken(client, "t")] == [0, 2, 4]
    assert await dead.redrive(even, on_progress=told.append) == PAGE_MESSAGES // 2 + 2
    assert told[0] == 3
    assert told[1:] == sorted(told[1:])
    assert told[-1] == PAGE_MESSAGES // 2 + 2
    assert len(told) <= 3, "a page is one transaction"
    assert await dead.count() == PAGE_MESSAGES // 2 + 5


@pytest.mark.parametrize("kind", KINDS)
async def test_without_transactions_they_are_published_first(kind: str) -> None:
    """As they were; and what could not be published is still a dead letter."""
    async with open_bus(kind, Capability.TRANSACTIONS) as (client, _):
        headers = {"trace": "7"}
        await bury(client, "t", [{"n": 1}], message_ids=["mine"], partition_key="k", headers=headers, priority="high")
        assert await client.dead_letters("t").redrive() == 1
        (message,) = await taken(client, "t")
        assert (message.id, message.key, message.data, message.attempt) == ("mine", "k", {"n": 1}, 1)
        assert (message.headers, message.priority) == (headers, 8)
        assert await client.dead_letters("t").count() == 0

        await client.create_topic("once", TopicOptions(delivery="exactly_once"))
        await bury(client, "once", [1], message_ids=["mine"])
        assert await client.dead_letters("once").redrive() == 1
        assert [message.data for message in await taken(client, "once")] == [1]

        await client.create_topic("full", TopicOptions(max_length=2))
        await bury(client, "full", range(2))
        await client.publish("full", "in the way")
        with pytest.raises(TopicFull):
            await client.dead_letters("full").redrive()
        assert 1 <= await client.dead_letters("full").count() <= 2


class Pauses:
    """Lets no time pass, and writes down how much was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[float] = []
        monkeypatch.setattr(runtime, "pause", self._pause)
        monkeypatch.setattr(blocking_runtime, "pause", self.asked.append)

    async def _pause(self, seconds: float) -> None:
        self.asked.append(seconds)


async def test_sending_back_can_be_slow(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time, with a pause between two, and none behind the last."""
    client, _ = bus
    pauses, told = Pauses(monkeypatch), list[int]()
    await bury(client, "t", range(5))
    dead = client.dead_letters("t")
    assert await dead.redrive(rate=0.5, limit=1, on_progress=told.append) == 1
    assert (told, pauses.asked) == ([1], [])
    assert await dead.redrive(rate=20, on_progress=told.append) == 4
    assert (told, pauses.asked) == ([1, 1, 2, 3, 4], [0.05] * 3)
    assert [message.data for message in await taken(client, "t")] == list(range(5))


async def test_the_last_of_very_many_is_found(bus: Bus) -> None:
    """More than a consumer may hold: those that were passed over do not stand before it."""
    client, _ = bus
    count = MAX_PREFETCH + PAGE_MESSAGES + 1
    await bury(client, "t", range(count))
    dead = client.dead_letters("t")
    assert await dead.count() == count
    assert await dead.count() == count, "those that were passed over are there for the next one"
    assert await dead.redrive(lambda letter: letter.message.data == count - 1) == 1
    assert [message.data for message in await taken(client, "t")] == [count - 1]
    assert await dead.purge(lambda letter: letter.message.data == count - 2) == 1
    assert await dead.count() == count - 2


async def test_what_dies_again_is_not_sent_back_twice(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that still fails would keep it going for ever."""
    client, clock = bus
    await bury(client, "t", range(5))

    def fail(message: Any) -> None:
        raise ValueError("still")

    await client.alter_topic("t", max_retries=0)
    listener = await client.listen("t", fail, consumer_group=GROUP)
    sent: list[int] = []

    def later(letter: AsyncDeadMessage) -> bool:
        clock.advance(1)
        return True

    monkeypatch.setattr(blocking_runtime, "pause", lambda seconds: wait_for(lambda: listener.failed == len(sent)))
    monkeypatch.setattr(runtime, "pause", lambda seconds: until(lambda: listener.failed == len(sent)))
    dead = client.dead_letters("t")

    async def all_are_there() -> bool:
        return await dead.count() == 5

    await until(all_are_there)  # the listener's thread may be moving them at this moment
    assert await dead.redrive(later, rate=1, on_progress=sent.append) == 5
    await until(lambda: listener.failed == 5)
    await listener.stop()
    assert [letter.story.error for letter in await dead.list()] == ["ValueError: still"] * 5


async def test_topics_may_share_their_dead_letters(bus: Bus) -> None:
    """Each sees, sends back and removes its own; by its own name the topic shows all that are there."""
    client, _ = bus
    for topic in ("a", "b"):
        await client.create_topic(topic, TopicOptions(dead_letter_topic="dead-letters/shared"))
        await bury(client, topic, [f"{topic}{number}" for number in range(3)])
    a, b, both = (client.dead_letters(name) for name in ("a", "b", "dead-letters/shared"))
    assert (data(await a.list()), data(await b.list())) == (["a0", "a1", "a2"], ["b0", "b1", "b2"])
    assert (await a.count(), await b.count(), await both.count()) == (3, 3, 6)
    assert data(await b.list(limit=1)) == ["b0"]
    assert await a.redrive(limit=2) == 2
    assert [message.data for message in await taken(client, "a")] == ["a0", "a1"]
    assert await taken(client, "b") == []
    assert await b.purge() == 3
    assert data(await both.list()) == ["a2"]
    assert await both.redrive() == 1
    assert [message.data for message in await taken(client, "a")] == ["a2"]


async def test_an_exactly_once_topic_gets_it_under_a_new_id(bus: Bus) -> None:
    """By its own it would be taken for a repetition, stored nowhere, and be lost."""
    client, _ = bus
    await client.create_topic("t", TopicOptions(delivery="exactly_once"))
    await bury(client, "t", ["x"], message_ids=["mine"])
    assert await client.dead_letters("t").redrive() == 1
    (message,) = await taken(client, "t")
    assert message.data == "x"
    assert message.id != "mine"


# -- what goes wrong on the way


class Broken(Exception):
    """What a test's own function raises."""


@pytest.mark.parametrize("where", ["filter", "on_progress", "full"])
async def test_what_was_not_sent_back_is_still_there(bus: Bus, where: str) -> None:
    """At once, also while the error is still being looked at; what was sent is sent."""
    client, _ = bus
    await bury(client, "t", range(6))

    def broken(found: Any) -> bool:
        if (where == "filter" and found.message.data == 4) or (where == "on_progress" and found == 2):
            raise Broken(where)
        return True

    if where == "full":
        await client.alter_topic("t", max_length=2)
    dead = client.dead_letters("t")
    mine: dict[str, Any] = {where: broken} if where != "full" else {}
    with pytest.raises(TopicFull if where == "full" else Broken) as told:
        await dead.redrive(rate=1e6, **mine)
    sent = 0 if where == "filter" else 2
    assert await dead.count() == 6 - sent
    assert len(await taken(client, "t")) == sent
    assert told.value.__traceback__ is not None


async def test_two_who_send_back_at_once_send_each_once(bus: Bus) -> None:
    client, _ = bus
    await bury(client, "t", range(3 * PAGE_MESSAGES))
    sent = await asyncio.gather(*[client.dead_letters("t").redrive() for _ in range(3)])
    assert sum(sent) == 3 * PAGE_MESSAGES
    found = [message.data for message in await taken(client, "t", 3 * PAGE_MESSAGES + 1)]
    while more := await taken(client, "t"):
        found += [message.data for message in more]
    assert sorted(found) == list(range(3 * PAGE_MESSAGES))


async def test_sending_back_can_be_broken_off() -> None:
    """What has not gone is there at once."""
    begun = asyncio.Event()
    async with AsyncClient("memory:") as client:
        await bury(client, "t", range(3))
        dead = client.dead_letters("t")
        sending = asyncio.ensure_future(dead.redrive(rate=0.001, on_progress=lambda sent: begun.set()))
        await asyncio.wait_for(begun.wait(), 10)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert data(await dead.list()) == [1, 2]
