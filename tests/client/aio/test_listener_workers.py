"""Several handlers at once: who waits for whom, what a failure holds back, and what stopping leaves undone."""

from __future__ import annotations

import asyncio
import functools
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.client.fakes import FakeEngine, FakeFeed, nothing
from tidings import AsyncClient, AsyncListener, InvalidOption
from tidings.client import lanes
from tidings.client.aio import listener as module
from tidings.client.aio.delivery import AsyncDelivery
from tidings.engines.embedded.aio import AsyncEmbeddedEngine
from tidings.engines.embedded.bus import BusOptions
from tidings.engines.embedded.engine import EmbeddedEngine
from tidings.errors import DamagedData, EngineError
from tidings.model.codec import encode
from tidings.model.message import StoredRecord
from tidings.spi import Settlement
from tidings.testing.clock import ManualClock
from tidings.testing.conformance.stage.place import until


async def turns() -> None:
    """Let the loop turn often enough for whatever is ready to happen, without letting time pass."""
    for _ in range(200):
        await asyncio.sleep(0)


class KeyedFeed(FakeFeed):
    """A feed of messages with keys. `errors` are the texts that came with a settlement."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await super().settle(settlements)
        self.errors += [each.error for each in settlements if each.error]

    def put_keyed(self, *messages: tuple[str | None, Any]) -> None:
        for key, data in messages:
            self.put(data)
            delivery = self._ready.pop()
            record = StoredRecord(delivery.id, *encode(data), key)
            self._ready.append(AsyncDelivery(record, "topic", 0, delivery.offset, 0.0, 1, 7))

    def done(self, action: str) -> list[int]:
        """The offsets that were settled in this way."""
        return [offset for call in self.settled for found, offset, _ in call if found == action]


@pytest.fixture
def feed(engine: FakeEngine) -> KeyedFeed:
    feed = KeyedFeed()
    engine.feed = feed
    return feed


async def listen(client: AsyncClient, handler: Callable[..., Any], workers: int, **options: Any) -> AsyncListener:
    return await client.listen("topic", handler, workers=workers, consumer_group="group", **options)


class Gates:
    """A handler that says what it began, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self.most = 0
        self.keys: defaultdict[str | None, list[int]] = defaultdict(list)
        self._gates: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._errors: dict[int, Exception] = {}

    @property
    def running(self) -> list[int]:
        return [each for each in self.begun if each not in self.ended and each not in self.cancelled]

    def has_ended(self, offset: int) -> bool:
        return offset in self.ended

    def end(self, *offsets: int, error: Exception | None = None) -> None:
        for offset in offsets:
            if error is not None:
                self._errors[offset] = error
            self._gates[offset].set()

    async def __call__(self, message: AsyncDelivery) -> None:
        offset = message.offset
        self.begun.append(offset)
        self.keys[message.key].append(offset)
        self.most = max(self.most, len(self.running))
        try:
            await self._gates[offset].wait()
        except asyncio.CancelledError:
            self.cancelled.append(offset)
            raise
        self.ended.append(offset)
        if offset in self._errors:
            raise self._errors[offset]


# -- parallel, and in order


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("group", ["group", None])
async def test_equal_keys_stay_in_order_whatever_takes_how_long(
    client: AsyncClient, feed: KeyedFeed, seed: int, group: str | None
) -> None:
    chance = random.Random(seed)
    keys = [chance.choice("abcde") for _ in range(60)]
    feed.put_keyed(*[(key, number) for number, key in enumerate(keys)])
    gates = Gates()
    listener = await client.listen("topic", gates, workers=3, consumer_group=group)
    while len(gates.ended) < 60:
        await until(lambda: gates.running)
        running = gates.running
        assert len({keys[offset] for offset in running}) == len(running) <= 3
        gates.end(chance.choice(running))
        await asyncio.sleep(0)
    await listener.stop()
    assert gates.keys == {key: [n for n, each in enumerate(keys) if each == key] for key in set(keys)}
    assert gates.most == 3
    assert sorted(feed.acked) == (list(range(60)))
    assert (listener.failed, listener.error) == (0, None)


@pytest.mark.parametrize("key", ["different", None])
async def test_so_many_handlers_run_at_once(client: AsyncClient, feed: KeyedFeed, key: str | None) -> None:
    meeting = asyncio.Barrier(8)
    met: list[int] = []

    async def handle(message: Any) -> None:
        await meeting.wait()
        met.append(message.data)

    async with await listen(client, handle, 8):
        feed.put_keyed(*[(key and f"{key} {number}", number) for number in range(16)])
        await until(lambda: len(met) == 16)
    assert sorted(feed.acked) == list(range(16))


async def test_not_more_than_asked_for(client: AsyncClient, feed: KeyedFeed) -> None:
    feed.put_keyed(*[(None, number) for number in range(5)])
    gates = Gates()
    listener = await listen(client, gates, 2)
    await until(lambda: gates.begun == [0, 1])
    gates.end(1)
    await until(lambda: gates.begun == [0, 1, 2])
    gates.end(*range(5))
    await until(lambda: len(gates.ended) == 5)
    assert gates.most == 2
    await listener.stop()


@pytest.mark.parametrize("group", ["group", None])
async def test_a_stuck_key_keeps_nobody_else_waiting(client: AsyncClient, feed: KeyedFeed, group: str | None) -> None:
    """Nor what is published later: it goes on reading while the followers of that key pile up."""
    gates = Gates()
    listener = await client.listen("topic", gates, workers=2, consumer_group=group)
    gates.end(*range(4, 100))
    feed.put_keyed(*[("stuck", number) for number in range(4)])
    await until(lambda: gates.begun == [0])
    for number in range(4, 40):
        feed.put_keyed(("free", number))
        await until(functools.partial(gates.has_ended, number))
    feed.put_keyed(("stuck", 40))
    gates.end(*range(4))
    await until(lambda: len(gates.ended) == 41)
    assert gates.keys["stuck"] == [0, 1, 2, 3, 40]
    await listener.stop()
    assert sorted(feed.acked) == list(range(41))


async def test_without_a_key_all_are_free_unless_ordered(client: AsyncClient, feed: KeyedFeed) -> None:
    feed.put_keyed((None, 0), (None, 1), ("a", 2), (None, 3))
    gates = Gates()
    listener = await listen(client, gates, 4, ordering=True)
    await until(lambda: gates.begun == [0, 2])
    gates.end(0)
    await until(lambda: gates.begun == [0, 2, 1])
    gates.end(1, 2, 3)
    await until(lambda: len(gates.ended) == 4)
    await listener.stop()
    assert gates.keys == {None: [0, 1, 3], "a": [2]}


# -- bounds


async def test_what_waits_for_a_stuck_key_counts_against_the_prefetch(client: AsyncClient, feed: KeyedFeed) -> None:
    """And as soon as something is done, the next is read: nobody waits until the acks are gathered."""
    gates = Gates()
    listener = await listen(client, gates, 3, prefetch=4)
    gates.end(*range(3, 100))
    feed.put_keyed(*[("stuck", number) for number in range(3)], *[("free", number) for number in range(3, 60)])
    await until(lambda: len(gates.ended) == 57)
    assert gates.running == [0]
    assert listener.statistics().held <= 4
    gates.end(0, 1, 2)
    await until(lambda: len(gates.ended) == 60)
    await listener.stop()
    assert sorted(feed.acked) == list(range(60))


async def test_a_temporary_subscription_does_not_read_without_end(
    client: AsyncClient, feed: KeyedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MAX_QUEUED", 10)
    gates = Gates()
    listener = await client.listen("topic", gates, workers=2, prefetch=5)
    feed.put_keyed(*[("stuck", number) for number in range(50)])
    await until(lambda: listener.statistics().delivered >= 11)
    await turns()
    assert listener.statistics().delivered <= 15
    gates.end(*range(50))
    await until(lambda: len(gates.ended) == 50)
    assert gates.ended == list(range(50))
    await listener.stop()


async def test_stopping_ends_the_wait_for_room(
    client: AsyncClient, feed: KeyedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MAX_QUEUED", 2)
    gates = Gates()
    listener = await client.listen("topic", gates, workers=2)
    feed.put_keyed(*[("stuck", number) for number in range(5)])
    await until(lambda: listener.statistics().delivered == 5)
    stopping = asyncio.ensure_future(listener.stop())
    gates.end(0)
    await asyncio.wait_for(stopping, 5)
    assert (gates.begun, feed.closed) == ([0], True)


async def test_an_error_ends_the_wait_for_room(
    client: AsyncClient, feed: KeyedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise EngineError("no acks today")

    monkeypatch.setattr(lanes, "MAX_QUEUED", 2)
    gates = Gates()
    listener = await listen(client, gates, 2)
    feed.put_keyed(*[("stuck", number) for number in range(5)])
    await until(lambda: (gates.begun, listener.statistics().delivered) == ([0], 5))
    feed.before_settle = refuse
    gates.end(0, error=ValueError("as the test wants it"))
    await until(lambda: feed.closed)
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "tidings-listener"])
    assert (gates.begun, str(listener.error)) == ([0], "no acks today")
    feed.before_settle = nothing


@pytest.mark.parametrize("workers", [0, 1.5, 10_000, None])
async def test_a_number_of_workers_that_makes_no_sense_opens_nothing(
    client: AsyncClient, engine: FakeEngine, workers: Any
) -> None:
    with pytest.raises(InvalidOption, match="workers"):
        await listen(client, print, workers)
    assert engine.feeds == []


# -- failures


async def test_a_failure_is_one_of_its_message_only(client: AsyncClient, feed: KeyedFeed) -> None:
    """Without ordering the followers of its key go on. What went wrong is kept with the message."""
    feed.put_keyed(("a", 0), ("a", 1), ("b", 2))
    gates = Gates()
    listener = await listen(client, gates, 2)
    await until(lambda: (gates.begun, listener.statistics().delivered) == ([0, 2], 3))
    gates.end(0, error=ValueError("as the test wants it"))
    gates.end(1, 2)
    await until(lambda: len(gates.ended) == 3)
    await listener.stop()
    assert (feed.done("nack"), sorted(feed.acked), feed.done("release")) == ([0], [1, 2], [])
    assert (listener.failed, feed.errors) == (1, ["ValueError: as the test wants it"])


@pytest.mark.parametrize("by_itself", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
async def test_with_ordering_a_failure_holds_its_followers_back(
    client: AsyncClient, feed: KeyedFeed, workers: int, by_itself: bool
) -> None:
    """They go back to the engine, which hands them out after the retry; other keys go on."""
    begun: list[int] = []

    async def handle(message: AsyncDelivery) -> None:
        begun.append(message.data)
        if message.data == 1 and by_itself:
            await message.nack(delay_seconds=3)
        elif message.data == 1:
            raise ValueError("as the test wants it")
        else:
            await message.ack()

    feed.put_keyed(*[("a", number) for number in range(4)], ("b", 4), ("b", 5))
    listener = await listen(client, handle, workers, ordering=True, auto_ack=False)
    await until(lambda: {0, 1, 4, 5} <= {*begun, *feed.done("release")})
    await until(lambda: len(feed.done("release")) == 2)
    assert (feed.done("nack"), feed.done("release")) == ([1], [2, 3])
    assert sorted(begun) == [0, 1, 4, 5]
    feed.put_keyed(("a", 11), ("a", 12))
    await until(lambda: begun[-1] == 12)
    await listener.stop()
    assert [each for each in begun if each in (0, 1, 11, 12)] == [0, 1, 11, 12]


async def test_with_ordering_a_fetch_on_its_way_overtakes_no_retry(client: AsyncClient, feed: KeyedFeed) -> None:
    """What was claimed before the failure was settled, and comes after it, goes back as well."""
    gates = Gates()
    gates.end(1, 2, 3)
    feed.put_keyed(("a", 0))
    listener = await listen(client, gates, 2, ordering=True)
    await until(lambda: gates.begun == [0] and len(feed.asked) == 2)
    gates.end(0, error=ValueError("as the test wants it"))
    await until(lambda: feed.done("nack") == [0])
    feed.put_keyed(("a", 1), ("b", 2))
    await until(lambda: gates.ended == [0, 2])
    assert (gates.keys, feed.done("release")) == ({"a": [0], "b": [2]}, [1])
    feed.put_keyed(("a", 3))
    await until(lambda: gates.keys["a"] == [0, 3])
    await listener.stop()


class Unreadable(AsyncDelivery, eq=False):
    """A message whose data is not what it claims to be."""

    @property
    def data(self) -> Any:
        raise ValueError("damaged")


@pytest.mark.parametrize("workers", [1, 2])
async def test_data_that_cannot_be_read_is_a_failure_of_its_message(
    client: AsyncClient, feed: KeyedFeed, workers: int
) -> None:
    feed.put("a", "b")
    feed._ready[0] = Unreadable(feed._ready[0].record, "topic", 0, 0, 0.0, 1, 7)
    seen: list[str] = []
    listener = await listen(client, lambda topic, data: seen.append(data), workers)
    await until(lambda: (seen, listener.failed) == (["b"], 1))
    await listener.stop()
    assert (feed.done("nack"), feed.acked, listener.error) == ([0], [1], None)


async def test_an_error_of_the_engine_lets_running_handlers_finish(client: AsyncClient, feed: KeyedFeed) -> None:
    damage = DamagedData("0.log", 32, "checksum")

    async def refuse() -> None:
        raise damage

    gates = Gates()
    feed.put_keyed(("a", 0), ("a", 1), ("b", 2))
    listener = await listen(client, gates, 3)
    await until(lambda: gates.begun == [0, 2])
    feed.before_fetch = refuse
    feed.put_keyed(("c", 3))
    gates.end(2, 3)
    await until(lambda: listener.error is damage)
    assert not feed.closed
    gates.end(0)
    await until(lambda: feed.closed)
    await listener.stop()
    assert (gates.begun[:2], sorted(feed.acked)[:2]) == ([0, 2], [0, 2])
    assert 1 not in gates.begun


# -- stopping


async def busy(client: AsyncClient, feed: KeyedFeed, gates: Gates) -> AsyncListener:
    """Return a listener with two handlers at work, one waiting for its key and one for a worker."""
    feed.put_keyed(("a", 0), ("a", 1), ("b", 2), ("c", 3))
    listener = await listen(client, gates, 2)
    gates.end(0)
    await until(lambda: gates.begun == [0, 1, 2])
    feed.put_keyed(("a", 4), ("d", 5))
    return listener


async def test_stopping_lets_all_handlers_finish_and_begins_no_other(client: AsyncClient, feed: KeyedFeed) -> None:
    gates = Gates()
    listener = await busy(client, feed, gates)
    stopping = [asyncio.ensure_future(listener.stop()) for _ in range(2)]
    await asyncio.wait(stopping, timeout=0.02)
    gates.end(1)
    await asyncio.wait(stopping, timeout=0.02)
    assert not feed.closed
    gates.end(2, 3)
    await asyncio.wait_for(asyncio.gather(*stopping), 5)
    assert (gates.begun, sorted(feed.acked)) == ([0, 1, 2], [0, 1, 2])
    assert feed.log[-1] == "close"
    assert feed.done("release") == [3], "it was fetched, and nobody had begun with it"
    assert listener.error is None
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "tidings-listener"]


async def test_handlers_that_do_not_end_are_cancelled_and_not_acked(
    client: AsyncClient, feed: KeyedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    gates = Gates()
    listener = await busy(client, feed, gates)
    gates.end(1)
    await until(lambda: 1 in gates.ended)
    await asyncio.wait_for(listener.stop(), 5)
    await until(lambda: set(gates.cancelled) == {2, 3})
    assert feed.acked == [0, 1]
    assert feed.closed


async def test_a_handler_may_stop_the_listener_of_others(client: AsyncClient, feed: KeyedFeed) -> None:
    """It returns at once; what runs beside it is finished and acked, and then the subscription is closed."""
    go_on = asyncio.Event()
    seen: list[int] = []

    async def handle(message: Any) -> None:
        seen.append(message.data)
        if message.data == 0:
            await go_on.wait()
        if message.data == 1:
            await listener.stop()
        seen.append(message.data)

    feed.put(0, 1)
    listener = await listen(client, handle, 3)
    await until(lambda: seen == [0, 1, 1])
    await turns()
    assert not feed.closed
    go_on.set()
    await until(lambda: feed.closed)
    feed.put(2)
    await listener.stop()
    assert (seen, sorted(feed.acked)) == ([0, 1, 1, 0], [0, 1])


async def test_what_expires_behind_a_stuck_message_is_not_handled() -> None:
    """Though it was fetched in time."""
    clock = ManualClock()
    gates = Gates()
    async with AsyncClient(AsyncEmbeddedEngine(EmbeddedEngine("", BusOptions(), memory=True, clock=clock))) as client:
        await client.create_group("topic", "group")
        await client.publish("topic", 0, partition_key="a")
        await client.publish("topic", 1, partition_key="a", ttl_seconds=5)
        await client.publish("topic", 2, partition_key="a", ttl_seconds=50)
        listener = await listen(client, gates, 2)
        await until(lambda: (gates.begun, listener.statistics().delivered) == ([0], 3))
        clock.advance(10)
        gates.end(0, 1, 2)
        await until(lambda: gates.ended == [0, 2])
        await listener.stop()
        (group,) = await client.groups("topic")
        assert (group.lag, group.acked, group.expired) == (0, 2, 1)


async def test_closing_the_client_stops_all_workers(bus_url: str) -> None:
    keys: defaultdict[str | None, list[int]] = defaultdict(list)

    async def handle(message: AsyncDelivery) -> None:
        for _ in range(hash(message.key) % 3):
            await asyncio.sleep(0)
        keys[message.key].append(message.data)

    async with AsyncClient(bus_url) as client:
        await client.create_group("topic", "group")
        for number in range(200):
            await client.publish("topic", number, partition_key=f"key {number % 7}", durability="memory")
        await client.listen("topic", handle, workers=8, consumer_group="group")
        await until(lambda: count(keys.values()) == 200)
        await until(lambda: lag_is_zero(client))
    assert keys == {f"key {n}": list(range(n, 200, 7)) for n in range(7)}


def count(lists: Any) -> int:
    return sum(map(len, lists))


async def lag_is_zero(client: AsyncClient) -> bool:
    return await client.get_consumer_lag("topic", "group") == 0
