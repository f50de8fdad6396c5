"""What settling is promised: an ack is for good, a nack counts and waits, a lease has one holder, a loop acks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tidings import AsyncClient, AsyncSubscription, InvalidOption, LeaseLost, TopicOptions
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.consuming import lag_is, standing, told
from tidings.testing.conformance.stage.place import Place, data, expect_nothing, take, until


def manual(place: Place, client: AsyncClient, **options: Any) -> AsyncSubscription:
    """A consumer of the place's group that settles by itself."""
    return client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False, **options)


async def fill(place: Place, client: AsyncClient, messages: Any) -> None:
    """Publish to the place's group, which is made before."""
    await client.create_group(place.topic(), place.group())
    await client.publish_batch(place.topic(), messages)


@case(Capability.GROUPS)
async def test_an_acked_message_never_comes_again(place: Place) -> None:
    """One by one or many at once, here or to a later consumer; acking again is harmless."""
    client = place.client()
    await fill(place, client, range(10))
    async with manual(place, client) as subscription:
        found = await take(subscription, 10)
        await found[0].ack()
        await found[0].ack()
        await subscription.ack(found)
        await subscription.ack(found)
        await expect_nothing(subscription)
    async with manual(place, client) as subscription:
        await expect_nothing(subscription)
    assert await lag_is(place, client, 0)


@case(Capability.GROUPS)
async def test_acks_may_come_in_any_order(place: Place) -> None:
    """Exactly what was not acked comes again, whatever the gaps."""
    client = place.client()
    await fill(place, client, range(20))
    async with manual(place, client) as subscription:
        found = await take(subscription, 20)
        for at in (13, 2, 3, 19, 0):
            await found[at].ack()
        await subscription.ack([found[7], found[5], found[6], found[17]])
    async with manual(place, client) as subscription:
        left = sorted(set(range(20)) - {13, 2, 3, 19, 0, 7, 5, 6, 17})
        assert sorted(data(await take(subscription, len(left)))) == left
        await expect_nothing(subscription)


@case(Capability.GROUPS)
async def test_a_nack_brings_a_message_back_counted(place: Place) -> None:
    """With 0 at once, each time with the next attempt; the others go on meanwhile."""
    client = place.client()
    await fill(place, client, ["bad", "good"])
    async with manual(place, client) as subscription:
        bad, good = await take(subscription, 2)
        for attempt in range(2, 6):
            await bad.nack(delay_seconds=0)
            (bad,) = await take(subscription, 1)
            assert (bad.data, bad.attempt) == ("bad", attempt)
        await good.ack()
        await bad.ack()
        await expect_nothing(subscription)
        assert subscription.statistics().nacked == 4


@case(Capability.GROUPS)
async def test_a_nacked_message_may_go_to_another_consumer(place: Place) -> None:
    """It is the group's again, and the count goes with it."""
    client = place.client()
    await fill(place, client, ["x"])
    async with manual(place, client) as one, manual(place, client) as other:
        (message,) = await take(one, 1)
        waiting = asyncio.ensure_future(take(other, 1))
        await message.nack(delay_seconds=0)
        (again,) = await waiting
        assert told(place, [again]) == [("x", 2)]
        await again.ack()


@case(Capability.GROUPS)
async def test_a_nack_waits_for_its_delay(place: Place) -> None:
    """Not before, though others go on; soon after, although nothing else happens. A bad delay is refused."""
    client = place.client()
    await fill(place, client, ["slow", "fast"])
    async with manual(place, client) as subscription:
        slow, fast = await take(subscription, 2)
        with pytest.raises(InvalidOption):
            await slow.nack(delay_seconds=-1)
        nacked = time.monotonic()
        await slow.nack(delay_seconds=0.3)
        await fast.nack(delay_seconds=0)
        assert data(await take(subscription, 1)) == ["fast"]
        assert data(await take(subscription, 1)) == ["slow"]
        assert 0.3 <= time.monotonic() - nacked < 5


@case(Capability.GROUPS)
async def test_a_nack_without_a_delay_backs_off(place: Place) -> None:
    """A message that always fails never becomes a hot loop."""
    client = place.client()
    await fill(place, client, ["x"])
    async with manual(place, client) as subscription:
        (message,) = await take(subscription, 1)
        nacked = time.monotonic()
        await message.nack()
        (again,) = await take(subscription, 1)
        assert again.attempt == 2
        assert time.monotonic() - nacked >= 0.2


@case(Capability.GROUPS)
async def test_a_dead_message_is_given_up_and_counted(place: Place) -> None:
    """It never comes again, is lag no more, and the listing says how many there were."""
    client = place.client()
    await fill(place, client, ["bad", "good"])
    async with manual(place, client) as subscription:
        bad, good = await take(subscription, 2)
        await bad.nack(requeue=False)
        await bad.nack(requeue=False)
        await good.ack()
        await expect_nothing(subscription)
    async with manual(place, client) as subscription:
        await expect_nothing(subscription)
    info = await standing(place, client)
    assert (info.lag, info.dead, info.skipped) == (0, 1, 0)


@case(Capability.GROUPS)
async def test_failures_hold_nobody_up(place: Place) -> None:
    """The first two deliveries fail and wait: all others arrive meanwhile, and these two afterwards."""
    client = place.client()
    await fill(place, client, range(100))
    async with manual(place, client) as subscription:
        for message in await take(subscription, 2):
            await message.nack(delay_seconds=1)
        rest = await take(subscription, 98)
        assert data(rest) == list(range(2, 100))
        await subscription.ack(rest)
        assert sorted(data(await take(subscription, 2))) == [0, 1]


@case(Capability.GROUPS)
async def test_consumers_that_fail_and_leave_lose_nothing(place: Place) -> None:
    """Three nack everything they see, many times over, and go; the next one gets all of it."""
    client = place.client()
    if Capability.DEAD_LETTERS in place.subject.capabilities:
        await client.create_topic(place.topic(), TopicOptions(max_retries=1000))
    await fill(place, client, range(50))
    for _ in range(3):
        async with manual(place, client) as subscription:
            failed = 0
            while failed < 100:
                found = await take(subscription, 1)
                found += await subscription.fetch(24, timeout=0)
                for message in found:
                    await message.nack(delay_seconds=0)
                failed += len(found)
    async with manual(place, client) as subscription:
        found = await take(subscription, 50)
        assert sorted(data(found)) == list(range(50))
        assert sum(message.attempt - 1 for message in found) >= 300
        await subscription.ack(found)
        await expect_nothing(subscription)


@case(Capability.GROUPS)
async def test_prefetch_bounds_what_is_held(place: Place) -> None:
    """With all of it in hand nothing comes, and others get the rest; each ack makes room for as much."""
    client = place.client()
    await fill(place, client, range(10))
    async with manual(place, client, prefetch=3) as subscription:
        held = await take(subscription, 3)
        assert data(held) == [0, 1, 2]
        assert subscription.statistics().held == 3
        await expect_nothing(subscription)
        await held[1].ack()
        assert data(await subscription.fetch(10, timeout=1)) == [3]
        async with manual(place, client) as other:
            assert data(await take(other, 6)) == [4, 5, 6, 7, 8, 9]


@case(Capability.GROUPS)
async def test_room_ends_the_wait_for_it(place: Place) -> None:
    """A fetch that waits because its consumer holds enough goes on when something is acked elsewhere."""
    client = place.client()
    await fill(place, client, range(2))
    async with manual(place, client, prefetch=1) as subscription:
        (first,) = await take(subscription, 1)
        waiting = asyncio.ensure_future(subscription.fetch(1, timeout=10))
        await expect_pending(waiting)
        await first.ack()
        assert data(await asyncio.wait_for(waiting, 5)) == [1]


async def expect_pending(task: asyncio.Future[Any]) -> None:
    """Fail when the task is done within a moment."""
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done


@case(Capability.GROUPS)
async def test_a_lease_has_one_holder(place: Place) -> None:
    """When it ends the message goes to another, counted; the late ack and nack are refused and change nothing."""
    client = place.client()
    await fill(place, client, ["late", "kept"])
    async with manual(place, client) as slow, manual(place, client) as quick:
        late, kept = await take(slow, 2)
        await late.extend(0.1)
        (again,) = await take(quick, 1)
        assert (again.data, again.attempt) == ("late", 2)
        with pytest.raises(LeaseLost) as caught:
            await slow.ack([late, kept])
        assert caught.value.offsets == (late.offset,)
        await again.ack()
        await expect_nothing(quick)
        statistics = slow.statistics()
        assert (statistics.lost, statistics.acked, statistics.held) == (1, 1, 0)
    assert await lag_is(place, client, 0)


@case(Capability.GROUPS)
async def test_a_late_nack_is_refused(place: Place) -> None:
    """So is extending what is gone: only the holder decides."""
    client = place.client()
    await fill(place, client, ["x"])
    async with manual(place, client) as slow, manual(place, client) as quick:
        (late,) = await take(slow, 1)
        await late.extend(0)
        (again,) = await take(quick, 1)
        with pytest.raises(LeaseLost):
            await late.extend(30)
        with pytest.raises(LeaseLost):
            await late.nack(delay_seconds=0)
        await expect_nothing(slow)
        await again.ack()
        await expect_nothing(quick)


@case(Capability.GROUPS)
async def test_a_lease_is_renewed_while_its_consumer_lives(place: Place) -> None:
    """A handler may take several leases' time; nobody else gets the message meanwhile, and its ack counts."""
    client = place.client(lease_seconds=0.3)
    await fill(place, client, ["long"])
    async with manual(place, client) as slow, manual(place, client) as other:
        (message,) = await take(slow, 1)
        assert await other.fetch(1, timeout=1.0) == []
        await message.ack()
        await expect_nothing(other)


@case(Capability.GROUPS)
async def test_asking_for_the_next_acks_the_one_before(place: Place) -> None:
    """With `auto_ack`, for a loop, for fetches and for batches; leaving the loop acks the last one too."""
    client = place.client()
    await fill(place, client, range(9))
    options: dict[str, Any] = {"consumer_group": place.group()}
    async with client.subscribe(place.topic(), **options) as subscription:
        async for message in subscription:
            if message.data == 2:
                break
    assert await lag_is(place, client, 6)
    async with client.subscribe(place.topic(), **options) as subscription:
        assert data(await take(subscription, 1)) == [3]
        assert data(await take(subscription, 2)) == [4, 5]
        await until(lambda: lag_is(place, client, 5))
    assert await lag_is(place, client, 3)
    async with client.subscribe(place.topic(), **options) as subscription:
        async for batch in subscription.batches(max_messages=2):
            if batch[-1].data == 8:
                break
    assert await lag_is(place, client, 0)


@case(Capability.GROUPS)
async def test_a_long_handler_does_not_hold_back_earlier_acks(place: Place) -> None:
    """What the loop was through with is acked soon, also while it works on the next message for a long time."""
    client = place.client()
    await fill(place, client, range(50))
    async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        async for message in subscription:
            if message.data == 30:
                await until(lambda: lag_is(place, client, 20), within=5)
                break
    assert await lag_is(place, client, 19)


async def fail_at(place: Place, client: AsyncClient, value: Any, error: BaseException) -> None:
    """Loop with automatic acks until `value` comes, and raise the error out of the body."""
    async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        async for message in subscription:
            if message.data == value:
                raise error


@case(Capability.GROUPS)
async def test_an_exception_nacks_what_was_handed_out(place: Place) -> None:
    """With the back-off and counted; what came before it is acked, what came after it is given back uncounted."""
    client = place.client()
    await fill(place, client, range(5))
    with pytest.raises(RuntimeError):
        await fail_at(place, client, 2, RuntimeError("as the case wants it"))
    left = time.monotonic()
    async with manual(place, client) as subscription:
        assert told(place, await take(subscription, 2)) == [(3, 1), (4, 1)]
        assert told(place, await take(subscription, 1)) == [(2, 2)]
        assert time.monotonic() - left >= 0.2


@case(Capability.GROUPS)
async def test_an_interruption_gives_back_what_was_handed_out(place: Place) -> None:
    """At once and uncounted: it was not the message's fault."""
    client = place.client()
    await fill(place, client, range(3))
    with pytest.raises(KeyboardInterrupt):
        await fail_at(place, client, 1, KeyboardInterrupt())
    async with manual(place, client) as subscription:
        assert told(place, await take(subscription, 2)) == [(1, 1), (2, 1)]


@case(Capability.GROUPS)
async def test_what_is_not_acked_by_hand_is_given_back(place: Place) -> None:
    """Without `auto_ack`, leaving the loop acks nothing."""
    client = place.client()
    await fill(place, client, range(3))
    async with manual(place, client) as subscription:
        async for message in subscription:
            if message.data == 1:
                break
            await message.ack()
    async with manual(place, client) as subscription:
        assert told(place, await take(subscription, 2)) == [(1, 1), (2, 1)]


@case(Capability.GROUPS)
async def test_a_message_settled_in_a_loop_stays_so(place: Place) -> None:
    """An explicit nack under `auto_ack` is not turned into an ack by going on."""
    client = place.client()
    await fill(place, client, range(3))
    seen: list[tuple[int, int]] = []
    async with client.subscribe(place.topic(), consumer_group=place.group()) as subscription:
        async for message in subscription:
            seen.append((message.data, message.attempt))
            if seen[-1] == (1, 1):
                await message.nack(delay_seconds=0)
            if len(seen) == 4:
                break
    assert sorted(seen) == [(0, 1), (1, 1), (1, 2), (2, 1)]
    assert await lag_is(place, client, 0)


@case(Capability.GROUPS)
async def test_a_handler_that_fails_gets_the_message_again(place: Place) -> None:
    """After the back-off, counted; one that returns has its message acked, at the latest when it is stopped."""
    client = place.client()
    await fill(place, client, range(5))
    seen: list[tuple[int, int]] = []

    def handle(message: Any) -> None:
        seen.append((message.data, message.attempt))
        if seen[-1] == (2, 1):
            raise RuntimeError("as the case wants it")

    listener = await client.listen(place.topic(), handle, consumer_group=place.group())
    await until(lambda: len(seen) == 6)
    await listener.stop()
    assert seen[-1] == (2, 2)
    assert sorted(seen) == [(0, 1), (1, 1), (2, 1), (2, 2), (3, 1), (4, 1)]
    assert listener.failed == 1
    assert await lag_is(place, client, 0)
