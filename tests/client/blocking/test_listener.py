"""Handlers in several threads: in order per key, at the same time otherwise, and no thread left behind."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.conftest import wait_for
from tidings import Client, Durability, Listener, TopicOptions
from tidings.client.blocking import listener as module
from tidings.client.blocking.delivery import Delivery
from tidings.client.blocking.subscription import Subscription
from tidings.errors import Closed, EngineError
from tidings.model.message import StoredRecord
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics
from tidings.spi import Output, Settlement

WAIT = 20.0


def workers_alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "tidings-listener"]


@pytest.mark.parametrize("group", ["group", None])
def test_so_many_handlers_run_at_once(group: str | None) -> None:
    meeting = threading.Barrier(8)
    met: list[int] = []

    def handle(message: Any) -> None:
        meeting.wait(WAIT)
        met.append(message.data)

    with Client("memory:") as client:
        listener = client.listen("topic", handle, workers=8, consumer_group=group)
        client.publish_batch("topic", range(16))
        wait_for(lambda: len(met) == 16)
        listener.stop()
    assert (sorted(met), listener.failed) == (list(range(16)), 0)


def test_equal_keys_stay_in_order_and_a_stuck_one_stops_nobody_else(bus_url: str) -> None:
    go_on = threading.Event()
    seen: defaultdict[str | None, list[int]] = defaultdict(list)
    busy: list[str | None] = []
    twice: list[str | None] = []

    def handle(message: Any) -> None:
        if message.key in busy:
            twice.append(message.key)
        busy.append(message.key)
        if message.key == "stuck" and message.data == 0:
            go_on.wait(WAIT)
        seen[message.key].append(message.data)
        busy.remove(message.key)

    keys = ["stuck", "a", "b", "c"]
    with Client(bus_url) as client:
        client.create_group("topic", "group")
        client.listen("topic", handle, workers=3, consumer_group="group")
        for number in range(100):
            for key in keys:
                client.publish("topic", number, partition_key=key, durability="memory")
        wait_for(lambda: [len(seen[key]) for key in keys] == [0, 100, 100, 100])
        go_on.set()
        wait_for(lambda: len(seen["stuck"]) == 100)
        wait_for(lambda: client.get_consumer_lag("topic", "group") == 0)
    assert seen == {key: list(range(100)) for key in keys}
    assert twice == []


def test_stopping_lets_all_handlers_finish_and_begins_no_other() -> None:
    go_on = threading.Event()
    begun: list[int] = []
    ended: list[int] = []

    def handle(message: Any) -> None:
        begun.append(message.data)
        go_on.wait(WAIT)
        ended.append(message.data)

    with Client("memory:") as client:
        client.create_group("topic", "group")
        client.publish_batch("topic", range(10))
        listener = client.listen("topic", handle, workers=4, consumer_group="group")
        wait_for(lambda: len(begun) == 4)
        stopping = threading.Thread(target=listener.stop)
        stopping.start()
        stopping.join(0.02)
        assert stopping.is_alive()
        go_on.set()
        stopping.join(WAIT)
        assert not stopping.is_alive()
        assert sorted(begun) == sorted(ended) == [0, 1, 2, 3]
        assert client.get_consumer_lag("topic", "group") == 6
        wait_for(lambda: workers_alive() == [])
        with client.subscribe("topic", consumer_group="group") as rest:
            messages = rest.fetch(100, timeout=WAIT)
            while len(messages) < 6:
                messages += rest.fetch(100, timeout=WAIT)
    assert [(message.data, message.attempt) for message in messages] == [(number, 1) for number in range(4, 10)]


def test_a_handler_that_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.02)
    begun, go_on = threading.Event(), threading.Event()

    def handle(message: Any) -> None:
        begun.set()
        go_on.wait(WAIT)

    with Client("memory:") as client:
        client.create_group("topic", "group")
        client.publish("topic", 0)
        listener = client.listen("topic", handle, workers=2, consumer_group="group")
        assert begun.wait(WAIT)
        listener.stop()
        assert client.get_consumer_lag("topic", "group") == 1
        go_on.set()
    wait_for(lambda: workers_alive() == [])


def test_a_handler_may_stop_the_listener_of_others() -> None:
    go_on = threading.Event()
    seen: list[int] = []

    def handle(message: Any) -> None:
        if message.data == 0:
            go_on.wait(WAIT)
        else:
            listener.stop()
        seen.append(message.data)

    with Client("memory:") as client:
        client.create_group("topic", "group")
        listener = client.listen("topic", handle, workers=3, consumer_group="group")
        client.publish_batch("topic", range(2))
        wait_for(lambda: seen == [1])
        go_on.set()
        wait_for(lambda: workers_alive() == [])
        assert (seen, client.get_consumer_lag("topic", "group")) == ([1, 0], 0)


# -- order, whatever happens when


class OrderedFeed:
    """The least that an ordering group may do: what was given back is handed out again in the order of the log, at
    once; it knows nothing of keys, so that keeping their order after a failure is all up to the listener."""

    renew_every = None
    skipped = 0
    gaps = ()

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        self._free = set(range(len(keys)))
        self._attempts = [0] * len(keys)
        self._news = threading.Condition()
        self._reading = threading.Event()
        self._closed = False
        self.acked: list[int] = []
        self.counted: list[int] = []
        self.released = 0
        self.failure: Exception | None = None

    def fetch(self, limit: int, timeout: float | None) -> list[Delivery]:
        with self._news:
            self._news.wait_for(lambda: self._free or self._closed, timeout)
            if self._closed:
                raise Closed("the feed is closed")
            claimed = sorted(self._free)[:limit]
            self._free.difference_update(claimed)
        self._reading.wait(0.001)  # from claiming to handing out it takes a moment, in which others fail
        return [self._delivery(offset) for offset in claimed]

    def _delivery(self, offset: int) -> Delivery:
        self._attempts[offset] += 1
        record = StoredRecord(f"id-{offset}", "text/plain", b"", self._keys[offset])
        return Delivery(record, "topic", 0, offset, 0.0, self._attempts[offset], 7)

    def settle(self, settlements: Sequence[Settlement]) -> None:
        if self.failure is not None:
            raise self.failure
        with self._news:
            for each in settlements:
                if each.action == "ack":
                    self.acked.append(each.message.offset)
                else:
                    self._free.add(each.message.offset)
                    if each.action == "nack":
                        self.counted.append(each.message.offset)
                    else:
                        self.released += 1
                        self._attempts[each.message.offset] -= 1
            self._news.notify_all()

    def commit(self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability) -> None:
        raise NotImplementedError

    def renew(self) -> None: ...

    def close(self) -> None:
        with self._news:
            self._closed = True
            self._news.notify_all()


def subscription(client: Client, feed: OrderedFeed) -> Subscription:
    spec = SubscriptionSpec(patterns=parse_topics("topic"), group="group", consumer="one", ordering=True)
    return Subscription(lambda: feed, spec, False, client._engine)


@pytest.mark.parametrize("seed", range(4))
def test_with_ordering_no_message_overtakes_one_that_failed(seed: int) -> None:
    """Every message fails now and then while others are fetched, finished and given back."""
    chance = random.Random(seed)
    keys = [chance.choice("abcdef") for _ in range(300)]
    failing = {offset: chance.randrange(3) for offset in range(300)}
    feed = OrderedFeed(keys)
    done: defaultdict[str | None, list[int]] = defaultdict(list)
    wrong: list[str] = []
    finished = threading.Event()

    def handle(message: Delivery) -> None:
        before = [offset for offset in range(message.offset) if keys[offset] == message.key]
        if done[message.key] != before:
            wrong.append(f"{message.offset} begun after {done[message.key][-1:]}")
        if message.attempt <= failing[message.offset]:
            raise ValueError("as the test wants it")
        done[message.key].append(message.offset)
        if count(done) == 300:
            finished.set()

    with Client("memory:") as client:
        listener = Listener(subscription(client, feed), handle, False, True, 4)
        assert finished.wait(WAIT), wrong
        listener.stop()
    assert wrong == []
    assert sorted(feed.acked) == list(range(300))
    assert len(feed.counted) == listener.failed == sum(failing.values())
    assert feed.released > 0


@pytest.mark.parametrize("retry_delay", [0.0, 0.01])
def test_with_ordering_on_a_real_engine(bus_url: str, retry_delay: float) -> None:
    """Each message fails once; no other of its key is begun before it was done."""
    seen: defaultdict[str | None, list[tuple[int, int]]] = defaultdict(list)

    def handle(message: Delivery) -> None:
        seen[message.key].append((message.data, message.attempt))
        if message.attempt == 1:
            raise ValueError("as the test wants it")

    with Client(bus_url) as client:
        client.create_topic("topic", TopicOptions(partitions=2, retry_delay=retry_delay))
        client.create_group("topic", "group")
        for number in range(10):
            for key in ("a", "b", "c", None):
                client.publish("topic", number, partition_key=key, durability="memory")
        client.listen("topic", handle, workers=4, consumer_group="group", ordering=True)
        wait_for(lambda: count(seen) >= 80, WAIT)
        wait_for(lambda: client.get_consumer_lag("topic", "group") == 0)
    each_twice = [(number, attempt) for number in range(10) for attempt in (1, 2)]
    assert {key: seen[key] for key in ("a", "b", "c")} == dict.fromkeys(("a", "b", "c"), each_twice)
    assert sorted(seen[None]) == each_twice


def test_a_failure_that_cannot_be_settled_lets_no_follower_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener ends; another worker must not have begun with the next one in the meantime."""
    begun: list[int] = []
    fail, free, follows = threading.Event(), threading.Event(), threading.Event()

    def handle(message: Delivery) -> None:
        begun.append(message.offset)
        if message.offset == 0:
            fail.wait(WAIT)
            feed.failure = EngineError("no acks today")
            raise ValueError("as the test wants it")
        if message.offset == 1:
            follows.set()
        free.wait(WAIT)

    def end(listener: Listener) -> None:
        """The other worker comes free just when the lane of the failed message does."""
        free.set()
        follows.wait(0.05)
        ends(listener)

    ends = Listener._end
    monkeypatch.setattr(Listener, "_end", end)
    feed = OrderedFeed("aab")
    with Client("memory:") as client:
        listener = Listener(subscription(client, feed), handle, False, True, 2)
        wait_for(lambda: begun == [0, 2])
        fail.set()
        wait_for(lambda: listener.error is not None)
        wait_for(lambda: workers_alive() == [])
        feed.failure = None
    assert (begun, str(listener.error)) == ([0, 2], "no acks today")


def count(lists: Mapping[str | None, Sequence[object]]) -> int:
    return sum(map(len, list(lists.values())))
