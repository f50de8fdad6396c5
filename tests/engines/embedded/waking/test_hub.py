"""Waking: whoever has something to do is told, in this process and in others, and nobody sleeps through it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.engines.child import Child
from tidings.engines.embedded.waking import hub as module
from tidings.engines.embedded.waking.board import GROUPS_CHANGED, ROOM_MADE, STAGED, TOPICS_CHANGED, Bells, Board
from tidings.engines.embedded.waking.hub import Hub
from tidings.model.topics import Pattern, parse_topics

PATIENCE = 20.0


class Topic:
    def __init__(self, name: str) -> None:
        self.name = name


class Feed:
    """Notes what it is told."""

    def __init__(self, *topics: str) -> None:
        self.patterns: tuple[Pattern, ...] = parse_topics(list(topics) or ["orders"])
        self.waker: Callable[[], None] | None = None
        self.told: list[object] = []

    def tell(self, what: object) -> None:
        self.told.append(what)
        waker = self.waker
        if waker is not None:
            waker()

    def touch(self, shard: int) -> None:
        self.tell(shard)

    def stir(self) -> None:
        self.tell("stir")

    def vacate(self) -> None:
        self.tell("room")

    def discover(self, topic: Topic) -> None:
        self.tell(topic.name)

    def is_ready(self) -> bool:
        return bool(self.told)


class Process:
    """A hub with a board and bells of its own, as each process has."""

    def __init__(self, folder: Path, slot: int) -> None:
        self.refreshed = 0
        self.bells = Bells(folder)
        self.board = Board(folder, fresh=False)
        self.board.bump(GROUPS_CHANGED)  # a file that was never written to differs from zeros
        self.board.post(100, 0)
        self.hub: Hub[Topic] = Hub(self.board, self.bells, self.refresh)
        self.hub.hang(slot)
        self.hub.look()
        self.staged = 0
        self.hub.on_staged = self.stage

    def stage(self) -> None:
        self.staged += 1

    def refresh(self) -> None:
        self.refreshed += 1

    def publish(self, shard: int, end: int) -> None:
        self.board.post(shard, end)
        self.hub.announce(shard)

    def feed(self, *shards: int) -> Feed:
        feed = Feed()
        self.hub.add(feed)
        for shard in shards:
            self.hub.follow(feed, shard)
        self.hub.look()
        feed.told.clear()
        return feed

    def close(self) -> None:
        self.hub.close()
        self.bells.close()
        self.board.close()


@pytest.fixture(autouse=True)
def only_the_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks around by himself: a wake-up that is lost stays lost."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 1000.0)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path, 0)
    yield process
    process.close()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path, 1)
    yield process
    process.close()


def slept(hub: Hub[Topic], feed: Feed, act: Callable[[], object]) -> bool:
    """Let a thread sleep until the feed is told something by `act`; whether it woke."""
    with ThreadPoolExecutor(1) as pool:
        sleeper = pool.submit(hub.wait, feed, PATIENCE)
        wait_for(lambda: feed.waker is not None)
        before = time.monotonic()
        act()
        sleeper.result(PATIENCE + 5)
        return time.monotonic() - before < PATIENCE - 1


def sleep_until_told(hub: Hub[Topic], feed: Feed) -> list[object]:
    """What a reader does: `wait` may return early, and then it sleeps again."""
    deadline = time.monotonic() + PATIENCE
    while not feed.told and time.monotonic() < deadline:
        hub.wait(feed, PATIENCE)
    return feed.told


class TestInOneProcess:
    def test_only_who_follows_a_shard_is_touched(self, here: Process) -> None:
        one, both, other = here.feed(1), here.feed(1, 2), here.feed(65)
        here.publish(1, 5)
        here.publish(2, 9)
        assert (one.told, both.told, other.told) == ([1], [1, 2], [])
        assert here.hub.written(1) == 5

    def test_who_left_is_not_touched(self, here: Process) -> None:
        one, other = here.feed(1, 2), here.feed(1)
        here.hub.remove(one, [1, 2])
        for shard in (1, 2):
            here.publish(shard, 1)
        here.hub.announce_change(GROUPS_CHANGED)
        here.hub.discover([Topic("orders")])
        assert one.told == []
        assert other.told == [1, "stir", "orders"]

    def test_new_topics_are_shown_to_the_patterns_that_match(self, here: Process) -> None:
        feeds = [Feed("orders/*"), Feed("bills"), Feed("bills", "orders/#")]
        for feed in feeds:
            here.hub.add(feed)
        here.hub.discover([Topic("orders/new"), Topic("bills"), Topic("other")])
        assert [sorted(map(str, feed.told)) for feed in feeds] == [["orders/new"], ["bills"], ["bills", "orders/new"]]

    @pytest.mark.parametrize("kind", ["file", "memory"])
    def test_a_sleeping_thread_is_woken_by_another(self, here: Process, kind: str) -> None:
        hub: Hub[Topic] = here.hub if kind == "file" else Hub(None, None, lambda: None)
        feed = Feed()
        hub.add(feed)
        hub.follow(feed, 7)
        hub.look()
        for act in (lambda: hub.announce(7), feed.stir, lambda: hub.announce_change(GROUPS_CHANGED)):
            feed.told.clear()
            assert slept(hub, feed, act)
            assert feed.told
        if hub is not here.hub:
            hub.close()

    def test_who_has_something_to_do_does_not_sleep(self, here: Process) -> None:
        feed = here.feed(1)
        here.publish(1, 1)
        before = time.monotonic()
        here.hub.wait(feed, PATIENCE)
        assert time.monotonic() - before < PATIENCE / 2

    def test_sleep_ends_by_itself(self, here: Process) -> None:
        feed = here.feed(1)
        before = time.monotonic()
        here.hub.wait(feed, 0.05)
        assert 0.04 < time.monotonic() - before < PATIENCE
        assert feed.told == []
        assert feed.waker is None

    @pytest.mark.parametrize("kind", ["file", "memory"])
    def test_what_changes_here_is_told_here(self, here: Process, kind: str) -> None:
        hub: Hub[Topic] = here.hub if kind == "file" else Hub(None, None, lambda: None)
        staged: list[int] = []
        hub.on_staged = lambda: staged.append(1)
        feed = Feed()
        hub.add(feed)
        hub.look()
        feed.told.clear()
        for word, told in ((ROOM_MADE, ["room"]), (GROUPS_CHANGED, ["stir"]), (TOPICS_CHANGED, []), (STAGED, [])):
            feed.told.clear()
            hub.announce_change(word)
            assert (feed.told, staged) == (told, [1] if word == STAGED else [])
        if hub is not here.hub:
            hub.close()

    def test_a_sleeper_is_woken_by_what_was_staged_here(self, here: Process) -> None:
        feed = here.feed(1)
        assert slept(here.hub, feed, lambda: here.hub.announce_change(STAGED))
        assert feed.told == []
        assert here.staged >= 1, "nobody was told to move it"


class TestBetweenProcesses:
    def test_a_publish_elsewhere_wakes_a_sleeper(self, here: Process, there: Process) -> None:
        feed = here.feed(1, 64)
        assert slept(here.hub, feed, lambda: there.publish(64, 3))
        assert feed.told == [64]

    def test_a_shard_that_shares_the_bit_is_not_taken_for_it(self, here: Process, there: Process) -> None:
        feed = here.feed(1)
        there.publish(64, 1)
        here.hub.look()
        assert feed.told == []

    def test_events_elsewhere_wake_and_are_told_apart(self, here: Process, there: Process) -> None:
        feed = here.feed(1)
        assert slept(here.hub, feed, lambda: there.hub.announce_change(GROUPS_CHANGED))
        assert feed.told == ["stir"]
        refreshed = here.refreshed
        there.hub.announce_change(TOPICS_CHANGED)
        here.hub.look()
        assert (here.refreshed, feed.told) == (refreshed + 1, ["stir"])
        there.hub.announce_change(ROOM_MADE)
        here.hub.look()
        assert (here.staged, feed.told) == (0, ["stir", "room"])
        there.hub.announce_change(STAGED)
        here.hub.look()
        assert (here.staged, feed.told) == (1, ["stir", "room"])
        assert here.refreshed == refreshed + 1

    @pytest.mark.parametrize("word", [ROOM_MADE, STAGED, GROUPS_CHANGED])
    def test_room_and_staged_messages_wake_a_sleeper_elsewhere(
        self, here: Process, there: Process, word: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was staged is nobody's message yet: all who sleep look, and one of them moves it."""
        feed = here.feed(1)
        woken: list[int] = []
        real = here.hub.wake

        def wake() -> None:
            woken.append(1)
            real()

        monkeypatch.setattr(here.hub, "wake", wake)
        assert slept(here.hub, feed, lambda: there.hub.announce_change(word))
        assert bool(woken) == (word == STAGED)

    def test_all_sleeping_threads_of_a_process_are_served_by_the_one_that_watches(
        self, here: Process, there: Process
    ) -> None:
        feeds = [here.feed(shard) for shard in range(5)]
        with ThreadPoolExecutor(5) as pool:
            sleepers = [pool.submit(sleep_until_told, here.hub, feed) for feed in feeds]
            for shard in (3, 0, 4, 1, 2):
                there.publish(shard, 1)
                sleepers[shard].result(PATIENCE / 2)
        assert [feed.told for feed in feeds] == [[0], [1], [2], [3], [4]]

    def test_who_begins_to_follow_a_shard_while_another_thread_keeps_watch_is_woken(
        self, here: Process, there: Process
    ) -> None:
        """The one on watch asked to be rung for the shards of then."""
        first = here.feed(1)
        with ThreadPoolExecutor(2) as pool:
            watching = pool.submit(sleep_until_told, here.hub, first)
            wait_for(lambda: first.waker is not None)
            second = here.feed(2)
            sleeper = pool.submit(sleep_until_told, here.hub, second)
            wait_for(lambda: second.waker is not None)
            there.publish(2, 1)
            assert sleeper.result(PATIENCE / 2) == [2]
            there.publish(1, 1)
            assert watching.result(PATIENCE / 2) == [1]

    def test_a_look_round_makes_up_for_every_lost_ring(
        self, here: Process, there: Process, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
        monkeypatch.setattr(Bells, "ring", lambda self, interest: None)
        feed = here.feed(1)
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(sleep_until_told, here.hub, feed)
            wait_for(lambda: feed.waker is not None)
            there.publish(1, 1)
            assert found.result(PATIENCE) == [1]

    def test_a_death_is_told(self, here: Process) -> None:
        died = threading.Event()
        here.hub.on_death = died.set
        with Child("import sys; print('up'); sys.stdin.read()") as child:
            assert child.line() == "up"
            here.hub.watch({child.pid})
            here.hub.watch({child.pid})
            child.kill()
        here.hub.wait(here.feed(1), PATIENCE)
        assert died.is_set()
        died.clear()
        here.hub.watch({child.pid})
        assert died.is_set(), "one who is dead already must be told as well"


PONG = """
    import sys
    from tidings.engines.embedded.waking import hub
    hub.LOOK_SECONDS = 1000.0
    from tidings import Client
    with Client(sys.argv[1]) as client, client.subscribe("ping", prefetch=1) as pings:
        print("ready")
        for number in range(int(sys.argv[2])):
            (message,) = pings.fetch(1, timeout=20)
            client.publish("pong", message.data)
    print("done")
"""


def test_two_processes_that_wait_for_each_other_lose_no_wake_up(tmp_path: Path) -> None:
    """Each sleeps until the other publishes, five hundred times, by the bell alone."""
    from tidings import Client

    url, rounds = f"file:{tmp_path / 'bus'}?durability=os", 500
    with Client(url) as client, client.subscribe("pong") as pongs, Child(PONG, url, rounds) as child:
        assert child.line() == "ready"
        for number in range(rounds):
            client.publish("ping", number)
            (message,) = pongs.fetch(1, timeout=PATIENCE)
            assert message.data == number
        assert child.line() == "done"


def test_of_many_sleepers_one_sees_to_all_and_the_ready_ones_are_woken(here: Process) -> None:
    feeds = [here.feed() for _ in range(5)]
    woken: list[int] = []
    for number, feed in enumerate(feeds):
        feed.waker = lambda number=number: woken.append(number)
    here.hub.look_for(feeds)
    assert woken == [0]
    feeds[3].told.append("something that no bell told")
    here.hub.look_for(feeds)
    assert woken == [0, 0, 3]


def test_a_follower_that_is_no_feed_hears_of_its_shard(here: Process) -> None:
    class Follower:
        def __init__(self) -> None:
            self.touched: list[int] = []

        def touch(self, shard: int) -> None:
            self.touched.append(shard)

    follower = Follower()
    here.hub.follow(follower, 7)
    here.publish(7, 1)
    here.publish(8, 1)
    here.hub.unfollow(follower, 7)
    here.hub.unfollow(follower, 7)
    here.publish(7, 2)
    assert follower.touched == [7]
    assert here.hub._by_shard == {}
