"""The feed on a source: what is handed out, what is put aside, what is settled, and that no cancellation loses any."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from msgspec.structs import replace

from tests.brokers.line import NOW, Line, delivery, feed_of, numbers, say
from tidings.brokers import feed as module
from tidings.brokers.feed import LOOK_AHEAD, RENEWALS, Delivery, Source
from tidings.errors import BrokerUnavailable, Closed, LeaseLost, UnsupportedFeature
from tidings.lang import parse_filter
from tidings.model.codec import JSON
from tidings.model.message import Record
from tidings.model.options import Durability, PublishOptions, TopicOptions
from tidings.spi import MAX_GAPS, Gap, Output

PLAIN = TopicOptions(max_retries=2, retry_delay=0)
EXPIRING = replace(PLAIN, dead_letter_expired=True)


# -- reading


async def test_a_fetch_returns_what_there_is_up_to_its_limit(line: Line) -> None:
    feed = feed_of(line)
    line.put(*map(delivery, range(5)))
    assert numbers(await feed.fetch(3, None)) == [0, 1, 2]
    assert numbers(await feed.fetch(3, 0)) == [3, 4]
    assert await feed.fetch(3, 0) == []
    assert await feed.fetch(3, 0.01) == []


async def test_a_fetch_waits_for_the_first(line: Line) -> None:
    feed = feed_of(line)
    fetching = asyncio.create_task(feed.fetch(3, None))
    await line.waiting.wait()
    line.put(delivery(7))
    (message,) = await fetching
    assert (message.offset, message.topic, message.published_at, message.priority) == (7, "orders", 900.0, 8)
    assert (message.attempt, message.data, message.partition) == (1, {"total": 7}, 0)


async def test_a_cancelled_fetch_loses_nothing_wherever_it_was(line: Line) -> None:
    """Neither to the next fetch nor, when there is none, to the group; and it counts no attempt."""
    reached = 0
    for again in (True, False):
        for at in range(1, 6):
            line = Line()
            feed = feed_of(line, filter=parse_filter("total <> 1"))
            line.put(*map(delivery, range(4)))
            line.cancel_at = at
            fetching = asyncio.create_task(feed.fetch(4, 0))
            await asyncio.wait([fetching])
            line.cancel_at = 0
            reached += fetching.cancelled()
            found = [] if fetching.cancelled() else fetching.result()
            while again and (more := await feed.fetch(4, 0)):
                found += more
            if again:
                assert numbers(found) == [0, 2, 3]
                await feed.settle(say("ack", *found))
                assert line.left_out == []
            await feed.close()
            assert line.left_out == []
            settled = sorted({act.message.offset for act in line.acts})
            assert sorted([*settled, *(each.offset for each in line.queue)]) == [0, 1, 2, 3]
            assert {each.attempt for each in line.queue} <= {1}
    assert reached >= 6, "most of these were cancelled on the way"


async def test_closing_ends_a_fetch_and_gives_everything_back(line: Line) -> None:
    feed = feed_of(line)
    line.put(*map(delivery, range(4)))
    await feed.fetch(2, None)
    await feed.close()
    await feed.close()
    assert [(each.offset, each.attempt) for each in line.queue] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    for call in (feed.fetch(1, 0), feed.settle([]), feed.commit([], [], Durability.MEMORY)):
        with pytest.raises(Closed):
            await call
    await feed.renew()
    assert line.renewed == []


async def test_closing_wakes_who_waits(line: Line) -> None:
    feed = feed_of(line)
    fetching = asyncio.create_task(feed.fetch(1, None))
    await line.waiting.wait()
    await feed.close()
    with pytest.raises(Closed):
        await fetching


# -- what is not delivered


async def test_what_is_not_delivered_is_settled_at_once(line: Line) -> None:
    feed = feed_of(line, EXPIRING, filter=parse_filter("total < 100"))
    line.put(delivery(1, attempt=4), delivery(2, expires=NOW), delivery(300), delivery(4))
    assert numbers(await feed.fetch(10, 0)) == [4]
    assert await feed.fetch(10, 0) == []
    assert [(act.message.offset, act.count) for act in line.acts] == [(1, "dead"), (2, "expired"), (300, "filtered")]
    assert [letter.record.id for letter in line.letters] == ["id1", "id2"]
    assert line.left_out == [4]


async def test_a_fetch_that_does_not_wait_looks_through_all_that_is_there(line: Line) -> None:
    feed = feed_of(line, key="ann")
    line.put(*map(delivery, range(3)), delivery(7, key="ann"))
    assert numbers(await feed.fetch(2, 0)) == [7]
    assert [act.message.offset for act in line.acts] == [0, 1, 2]
    line.put(delivery(8))
    assert await feed.fetch(2, 0) == []
    assert [act.message.offset for act in line.acts] == [0, 1, 2, 8]


async def test_what_could_not_be_settled_is_settled_by_the_next_fetch(line: Line) -> None:
    feed = feed_of(line)
    line.put(delivery(1, expires=NOW), delivery(2))
    line.failures.append(BrokerUnavailable("away"))
    with pytest.raises(BrokerUnavailable):
        await feed.fetch(2, 0)
    assert numbers(await feed.fetch(2, 0)) == [2]
    assert [act.message.offset for act in line.acts] == [1]


async def test_what_is_not_delivered_and_not_settled_is_given_back(line: Line) -> None:
    feed = feed_of(line)
    line.put(delivery(1, expires=NOW), delivery(2))
    line.failures.append(BrokerUnavailable("away"))
    with pytest.raises(BrokerUnavailable):
        await feed.fetch(2, 0)
    await feed.close()
    assert sorted(each.offset for each in line.queue) == [1, 2]


async def test_what_is_not_delivered_and_others_have_is_their_business(line: Line) -> None:
    feed = feed_of(line)
    line.put(delivery(1, expires=NOW), delivery(2))
    line.gone.add(1)
    assert numbers(await feed.fetch(2, 0)) == [2]
    assert await feed.fetch(2, 0) == []


async def test_what_is_wanted_is_looked_for_in_large_pieces(line: Line) -> None:
    """What it finds beyond its limit goes back for others, uncounted, and nothing is looked at twice by this one."""
    feed = feed_of(line, filter=parse_filter("total >= 100"))
    line.put(*map(delivery, range(110)))
    assert numbers(await feed.fetch(4, 0)) == [100, 101, 102, 103]
    assert len(line.pulls) < 12
    assert max(line.pulls) <= LOOK_AHEAD
    assert numbers(await feed.fetch(1, 0)) == [104]
    assert sorted(line.left_out) == [100, 101, 102, 103, 104], "no more than was asked for"
    assert sorted([*line.left_out, *(each.offset for each in line.queue)]) == list(range(100, 110))
    assert {each.attempt for each in line.queue} <= {1}


async def test_what_would_lose_its_place_is_kept_for_the_next_fetch(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "keeps_places", False)
    feed = feed_of(line, filter=parse_filter("total >= 100"))
    line.put(*map(delivery, range(110)))
    assert numbers(await feed.fetch(4, 0)) == [100, 101, 102, 103]
    assert numbers(await feed.fetch(10, 0))[:4] == [104, 105, 106, 107]
    assert [act.kind for act in line.acts if act.kind == "release"] == []


async def test_a_fetch_is_filled_up_where_some_were_not_wanted(line: Line) -> None:
    feed = feed_of(line, filter=parse_filter("total <> 1 AND total <> 3"))
    line.put(*map(delivery, range(9)))
    assert numbers(await feed.fetch(4, None)) == [0, 2, 4, 5]


async def test_a_fetch_that_is_not_to_wait_looks_through_all_there_is(line: Line) -> None:
    feed = feed_of(line, filter=parse_filter("total = 49"))
    line.put(*map(delivery, range(50)))
    assert numbers(await feed.fetch(2, 0)) == [49]
    line.put(*map(delivery, range(10)))
    assert await feed.fetch(2, 0) == []
    assert len(line.acts) == 59


@pytest.mark.parametrize("found", [False, True])
async def test_publishers_that_never_pause_do_not_keep_a_fetch(
    line: Line, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    """While nothing that comes is wanted, or just one of it."""
    monkeypatch.setattr(module, "LOOK_ON", 50)
    feed = feed_of(line, filter=parse_filter("total = 0"))
    numbered = itertools.count(0 if found else 1)

    async def pull(limit: int, timeout: float | None) -> list[Delivery]:
        await line.step()
        return [delivery(next(numbered)) for _ in range(limit)]

    line.pull = pull  # type: ignore[method-assign]
    fetching = asyncio.wait_for(feed.fetch(5, 0), 10)
    assert numbers(await fetching) == ([0] if found else [])
    assert next(numbered) < 50 + LOOK_AHEAD


# -- settling


async def test_what_a_consumer_says_is_done(line: Line) -> None:
    feed = feed_of(line)
    line.put(*map(delivery, range(5)))
    a, b, c, d, e = await feed.fetch(5, 0)
    await feed.settle([*say("ack", a), *say("nack", b), *say("reject", c, reason="no"), *say("release", d)])
    await feed.settle(say("extend", e, seconds=5.0))
    await feed.settle(say("extend", e, seconds=6.0))
    assert [(act.kind, act.handle) for act in line.acts] == [
        ("ack", 0),
        ("retry", 1),
        ("ack", 2),
        ("release", 3),
        ("extend", 4),
        ("extend", 4),
    ]
    assert [letter.record.id for letter in line.letters] == ["id2"]
    assert line.left_out == [4]
    assert [(each.offset, each.attempt) for each in line.queue] == [(1, 2), (3, 1)]


async def test_settling_again_does_nothing(line: Line) -> None:
    feed = feed_of(line)
    line.put(delivery(1))
    found = await feed.fetch(1, 0)
    await feed.settle(say("ack", *found))
    await feed.settle(say("nack", *found))
    assert [act.kind for act in line.acts] == ["ack"]


async def test_a_lost_lease_is_told_and_the_others_are_settled(line: Line) -> None:
    feed = feed_of(line)
    line.put(*map(delivery, range(4)))
    found = await feed.fetch(4, 0)
    line.gone |= {1, 3}
    with pytest.raises(LeaseLost) as lost:
        await feed.settle(say("ack", *found))
    assert (lost.value.topic, lost.value.offsets) == ("orders", (1, 3))
    assert [act.handle for act in line.acts] == [0, 2]
    with pytest.raises(LeaseLost):
        await feed.commit(say("ack", found[1]), [], Durability.MEMORY)
    await feed.settle(say("ack", *found))
    assert len(line.acts) == 2


async def test_what_was_refused_is_refused_again(line: Line) -> None:
    """But an ack: that it is done is all the same by now."""
    feed = feed_of(line)
    line.put(delivery(1))
    found = await feed.fetch(1, 0)
    line.gone.add(1)
    for action in ("ack", "nack", "reject", "extend"):
        with pytest.raises(LeaseLost) as lost:
            await feed.settle(say(action, *found, seconds=1.0))
        assert lost.value.offsets == (1,)
    await feed.settle(say("ack", *found))


async def test_an_extension_that_comes_too_late_is_a_lost_lease(line: Line) -> None:
    feed = feed_of(line)
    line.put(delivery(1))
    found = await feed.fetch(1, 0)
    line.gone.add(1)
    with pytest.raises(LeaseLost):
        await feed.settle(say("extend", *found, seconds=5.0))
    await feed.renew()
    assert line.renewed == []


async def test_what_could_not_be_settled_can_be_settled_again(line: Line) -> None:
    feed = feed_of(line)
    line.put(delivery(1))
    found = await feed.fetch(1, 0)
    line.failures.append(BrokerUnavailable("away"))
    with pytest.raises(BrokerUnavailable):
        await feed.settle(say("ack", *found))
    await feed.settle(say("ack", *found))
    assert [act.handle for act in line.acts] == [1]


async def test_a_cancelled_settlement_can_be_made_again_or_is_given_back(line: Line) -> None:
    feed = feed_of(line)
    line.put(delivery(1))
    found = await feed.fetch(1, 0)
    line.cancel_at = next(line.steps) + 1
    settling = asyncio.create_task(feed.settle(say("ack", *found)))
    await asyncio.wait([settling])
    assert (settling.cancelled(), len(line.acts)) == (True, 0)
    await feed.close()
    assert [each.offset for each in line.queue] == [1]


async def test_leases_are_renewed_while_they_are_held(line: Line) -> None:
    assert feed_of(line).renew_every is None
    feed = feed_of(line)
    feed.lease(30.0)
    assert feed.renew_every == 30.0 / RENEWALS
    await feed.renew()
    line.put(*map(delivery, range(3)))
    found = await feed.fetch(3, 0)
    await feed.renew()
    await feed.settle(say("ack", found[1]))
    await feed.renew()
    assert line.renewed == [[0, 1, 2], [0, 2]]


# -- transactions


def output(topic: str = "shipped") -> Output:
    return Output(topic, Record("id9", JSON, b"1"), PublishOptions(Durability.MEMORY))


async def test_a_commit_takes_acts_and_outputs_together(line: Line) -> None:
    feed = feed_of(line)
    line.put(*map(delivery, range(2)))
    found = await feed.fetch(2, 0)
    outputs = [output()]
    line.failures.append(BrokerUnavailable("away"))
    with pytest.raises(BrokerUnavailable):
        await feed.commit(say("ack", *found), outputs, Durability.OS)
    await feed.commit(say("ack", *found), outputs, Durability.OS)
    ((acts, published, durability),) = line.committed
    assert ([act.handle for act in acts], published, durability) == ([0, 1], outputs, Durability.OS)
    with pytest.raises(LeaseLost) as lost:
        await feed.commit(say("ack", *found), outputs, Durability.OS)
    assert lost.value.offsets == (0, 1)
    assert len(line.committed) == 1


async def test_a_temporary_subscription_commits_outputs_only(tail: Line) -> None:
    feed = feed_of(tail, group=None)
    tail.put(delivery(1))
    found = await feed.fetch(1, 0)
    await feed.commit(say("ack", *found), [output()], Durability.MEMORY)
    assert tail.committed == [([], [output()], Durability.MEMORY)]


async def test_a_source_without_transactions_refuses(line: Line) -> None:
    with pytest.raises(UnsupportedFeature, match="transactions"):
        await Source.commit(line, [], [], Durability.MEMORY)


# -- leaving


async def test_a_close_that_is_cancelled_goes_on(line: Line) -> None:
    feed = feed_of(line)
    line.put(delivery(1))
    await feed.fetch(1, 0)
    closing = asyncio.create_task(feed.close())
    gone = asyncio.Event()
    closing.add_done_callback(lambda _: gone.set())
    asyncio.get_running_loop().call_soon(closing.cancel)
    await gone.wait()
    assert closing.cancelled()
    await feed.close()
    assert [each.offset for each in line.queue] == [1]


class Prompt(Line):
    """Every await of it is over at once."""

    async def step(self) -> None:
        pass


async def test_what_comes_while_it_begins_to_close_goes_back() -> None:
    """The pull ends after `close` was called and before the source hears of that."""
    line = Prompt()
    feed = feed_of(line)
    fetching = asyncio.create_task(feed.fetch(1, None))
    await line.waiting.wait()
    line.put(delivery(1))
    await feed.close()
    with pytest.raises(Closed):
        await fetching
    assert line.left_out == []
    assert [each.offset for each in line.queue] == [1]


# -- what it has missed


async def test_it_tells_what_the_source_has_missed(line: Line) -> None:
    feed = feed_of(line)
    assert (feed.skipped, list(feed.gaps)) == (0, [])
    line.skipped = 5
    line.gaps.extend(Gap("connection lost", number, number + 1) for number in range(MAX_GAPS + 5))
    assert (feed.skipped, len(feed.gaps), feed.gaps[0].since) == (5, MAX_GAPS, 5.0)
