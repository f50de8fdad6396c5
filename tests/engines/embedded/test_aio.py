"""The engine in an event loop: the loop turns whatever others hold, nothing cancelled is lost, wake-ups arrive."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.child import Child
from tidings import Client
from tidings.engines.embedded import aio
from tidings.engines.embedded.aio import AsyncEmbeddedEngine, LoopFeed, Threads, Undo, open_engine
from tidings.engines.embedded.control.database import Control
from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS, WouldBlock
from tidings.errors import Closed, PublishUnknown
from tidings.model.message import Message, Record
from tidings.model.options import Durability, PublishOptions, TopicOptions
from tidings.model.predicate import record
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics
from tidings.model.url import parse_url
from tidings.spi import AsyncFeed, Settlement
from tidings.testing.conformance.stage.place import until

FOR_EVER = 3600.0


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEmbeddedEngine]:
    engine = open_engine(parse_url(f"file:{tmp_path / 'bus'}?durability=os"))
    yield engine
    await engine.close()


@pytest.fixture
def no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a reader looks around now and then, and would find what no bell told it."""
    monkeypatch.setattr(aio, "LOOK_SECONDS", FOR_EVER)


def records(*data: str) -> list[Record]:
    return [Record(f"id-{text}", "text/plain; charset=utf-8", text.encode()) for text in data]


async def reader(engine: AsyncEmbeddedEngine, group: str | None = None, topic: str = "a") -> AsyncFeed[Message]:
    return await engine.subscribe(SubscriptionSpec(patterns=parse_topics(topic), group=group), Message)


async def publish(engine: AsyncEmbeddedEngine, *data: str) -> None:
    await engine.publish("a", records(*data), PublishOptions(Durability.OS))


def data(messages: list[Message]) -> list[Any]:
    return [message.data for message in messages]


class Holder:
    """Holds the write lock of the groups, as another process would."""

    def __init__(self, engine: AsyncEmbeddedEngine) -> None:
        folder = engine._engine.bus.folder
        assert folder is not None
        self._control = Control(folder, None)
        self._writing = self._control.write()

    def __enter__(self) -> None:
        self._writing.__enter__()

    def __exit__(self, *error: object) -> None:
        self._writing.__exit__(None, None, None)
        self._control.close()


# -- threads


async def test_what_does_not_wait_is_done_in_the_loop() -> None:
    threads = Threads()
    calls: list[tuple[float, bool]] = []

    def call(wait: float) -> str:
        calls.append((wait, threading.current_thread() is threading.main_thread()))
        if wait == 0 and len(calls) > 1:
            raise WouldBlock
        return "done"

    assert await threads.attempt(call) == "done"
    assert await threads.attempt(call) == "done"
    assert calls == [(0.0, True), (0.0, True), (LOCK_WAIT_SECONDS, False)]
    threads.close()


async def test_what_was_cancelled_is_undone_once_it_is_done() -> None:
    threads = Threads()
    begun, go_on, undone = threading.Event(), threading.Event(), threading.Event()
    results: list[str] = []

    def call() -> str:
        begun.set()
        go_on.wait(10)
        return "claimed"

    def undo(result: str) -> None:
        results.append(result)
        undone.set()

    running = asyncio.ensure_future(threads.run(call, Undo(undo)))
    await until(begun.is_set)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert results == []
    go_on.set()
    await until(undone.is_set)
    assert results == ["claimed"]
    assert await threads.run(call, Undo(undo)) == "claimed"
    assert results == ["claimed"], "what was handed out is not undone"
    threads.close()


async def test_an_error_in_a_thread_is_the_caller_s_and_never_undone() -> None:
    threads = Threads()
    begun, go_on, undone = threading.Event(), threading.Event(), list[str]()

    def fail() -> str:
        begun.set()
        go_on.wait(10)
        raise KeyError("as the test wants it")

    running = asyncio.ensure_future(threads.run(fail, Undo(undone.append)))
    await until(begun.is_set)
    running.cancel()
    go_on.set()
    await asyncio.wait([running])
    with pytest.raises(KeyError, match="as the test wants it"):
        await threads.run(fail)
    assert undone == []
    threads.close()
    with pytest.raises(Closed):
        await threads.run(fail)


# -- while others hold a lock


async def test_the_loop_turns_while_a_call_waits_for_a_lock(engine: AsyncEmbeddedEngine) -> None:
    feed = await reader(engine, "g")
    await publish(engine, "x", "y")
    (first,) = await feed.fetch(1, 0)
    with Holder(engine):
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(feed.fetch(1, None)),
            asyncio.ensure_future(feed.settle([Settlement(first, "ack")])),
            asyncio.ensure_future(feed.renew()),
        ]
        done, _ = await asyncio.wait(waiting, timeout=0.05)
        assert done == set(), "they wait for the lock, and this line is reached all the same"
    second, _, _ = await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert data(second) == ["y"]
    (info,) = await engine.groups("a")
    assert (info.lag, info.held) == (1, 1)


async def test_a_cancelled_fetch_gives_back_what_its_thread_claims_later(engine: AsyncEmbeddedEngine) -> None:
    feed, other = await reader(engine, "g"), await reader(engine, "g")
    await publish(engine, "x")
    with Holder(engine):
        fetching = asyncio.ensure_future(feed.fetch(1, None))
        await asyncio.wait([fetching], timeout=0.05)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    (message,) = await asyncio.wait_for(other.fetch(1, None), 10)
    assert (message.data, message.attempt) == ("x", 1)


async def test_a_close_waits_until_a_cancelled_fetch_has_given_back(engine: AsyncEmbeddedEngine) -> None:
    """Its thread claims later, and what it claims can only be given back while the feed is open."""
    feed, other = await reader(engine, "g"), await reader(engine, "g")
    await publish(engine, "x")
    with Holder(engine):
        fetching = asyncio.ensure_future(feed.fetch(1, None))
        await asyncio.wait([fetching], timeout=0.05)
        fetching.cancel()
        closing = asyncio.ensure_future(feed.close())
        await asyncio.wait([fetching, closing], timeout=0.05)
        assert (fetching.cancelled(), closing.done()) == (True, False)
    await asyncio.wait_for(closing, 10)
    (message,) = await asyncio.wait_for(other.fetch(1, None), 10)
    assert (message.data, message.attempt) == ("x", 1)


# -- sleeping and waking

WRITER = """
    import sys
    from tidings import Client
    with Client(sys.argv[1]) as client:
        for line in sys.stdin:
            topic, text = line.split()
            client.publish(topic, text, durability="os")
"""


@pytest.mark.usefixtures("no_look")
@pytest.mark.parametrize("group", [None, "g"])
async def test_the_bell_of_another_process_wakes_the_loop(
    engine: AsyncEmbeddedEngine, tmp_path: Path, group: str | None
) -> None:
    feeds = [await reader(engine, group and f"{group}{number}") for number in range(3)]
    with Child(WRITER, f"file:{tmp_path / 'bus'}?durability=os") as writer:
        for text in ("one", "two", "three"):
            waiting = [asyncio.ensure_future(feed.fetch(1, None)) for feed in feeds]
            await asyncio.wait(waiting, timeout=0.01)
            writer.tell(f"a {text}")
            found = await asyncio.wait_for(asyncio.gather(*waiting), 20)
            assert [data(messages) for messages in found] == [[text]] * 3


@pytest.mark.usefixtures("no_look")
async def test_the_bell_goes_on_ringing_for_those_who_sleep_on(engine: AsyncEmbeddedEngine, tmp_path: Path) -> None:
    """Who was woken reads no more; the others are rung all the same."""
    feeds = [await reader(engine, topic=topic) for topic in ("a", "b", "c")]
    waiting = [asyncio.ensure_future(feed.fetch(1, None)) for feed in feeds]
    await asyncio.wait(waiting, timeout=0.01)
    with Child(WRITER, f"file:{tmp_path / 'bus'}?durability=os") as writer:
        for topic, fetching in zip("cba", reversed(waiting), strict=True):
            writer.tell(f"{topic} {topic}")
            assert data(await asyncio.wait_for(fetching, 20)) == [topic]


@pytest.mark.usefixtures("no_look")
@pytest.mark.parametrize("url", ["memory:", "file"])
async def test_a_publish_in_a_thread_wakes_the_loop(tmp_path: Path, url: str) -> None:
    engine = open_engine(parse_url(url if url == "memory:" else f"file:{tmp_path / 'bus'}"))
    level = Durability.MEMORY if url == "memory:" else Durability.OS
    feed = await reader(engine)
    for text in ("one", "two", "three"):
        waiting = asyncio.ensure_future(feed.fetch(1, None))
        await asyncio.wait([waiting], timeout=0.01)
        publishing = threading.Thread(target=engine._engine.publish, args=("a", records(text), PublishOptions(level)))
        publishing.start()
        assert data(await asyncio.wait_for(waiting, 20)) == [text]
        publishing.join(10)
    await engine.close()


async def test_what_no_bell_told_is_found_by_looking(
    engine: AsyncEmbeddedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio, "LOOK_SECONDS", 0.02)
    feed = await reader(engine)
    monkeypatch.setattr(engine._engine.bus.hub, "hear", lambda: None)
    with Child(WRITER, f"file:{tmp_path / 'bus'}?durability=os") as writer:
        for text in ("one", "two"):
            writer.tell(f"a {text}")
            assert data(await asyncio.wait_for(feed.fetch(1, None), 20)) == [text]


async def test_many_who_sleep_look_around_as_often_as_one(
    engine: AsyncEmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio, "LOOK_SECONDS", 0.01)
    feeds = [await reader(engine) for _ in range(50)]
    polls: list[int] = []
    for number, feed in enumerate(feeds):
        inner: Any = feed._feed  # type: ignore[attr-defined]
        real = inner.poll

        def poll(*arguments: Any, number: int = number, real: Any = real) -> Any:
            polls.append(number)
            return real(*arguments)

        monkeypatch.setattr(inner, "poll", poll)
    waiting = [asyncio.ensure_future(feed.fetch(1, None)) for feed in feeds]
    await until(lambda: len(set(polls)) == 50)
    rounds: list[int] = []
    hub = engine._engine.bus.hub
    look_for = hub.look_for

    def counted(sleepers: Any) -> None:
        rounds.append(len(sleepers))
        look_for(sleepers)

    monkeypatch.setattr(hub, "look_for", counted)
    polls.clear()
    await until(lambda: len(rounds) >= 5)
    assert set(rounds) == {50}
    assert len(polls) <= 5, "each round wakes one of them"
    await publish(engine, "x")
    assert [data(await asyncio.wait_for(each, 20)) for each in waiting] == [["x"]] * 50


async def test_a_filter_that_lets_nothing_through_leaves_time_for_others(engine: AsyncEmbeddedEngine) -> None:
    for _ in range(5):
        await engine.publish("a", records(*["x" * 1000] * 300), PublishOptions(engine.default_durability))
    nothing = SubscriptionSpec(
        patterns=parse_topics("a"), consumer="c", start="beginning", filter=record(lambda m: m.key == "k")
    )
    feed = await engine.subscribe(nothing, Message)
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    assert await feed.fetch(10, 0) == []
    task.cancel()
    assert len(turns) > 1


async def test_fetch_waits_no_longer_than_told(engine: AsyncEmbeddedEngine) -> None:
    feed = await reader(engine, "g")
    for timeout in (0, 0.01):
        assert await asyncio.wait_for(feed.fetch(1, timeout), 5) == []
    await publish(engine, "x")
    assert feed.renew_every == pytest.approx(10.0)
    (message,) = await feed.fetch(1, 0)
    await feed.settle([Settlement(message, "nack", 0.05)])
    (again,) = await asyncio.wait_for(feed.fetch(1, None), 5)
    assert (again.attempt, feed.skipped) == (2, 0)


# -- publishing and the rest


async def test_disk_is_synced_in_a_thread_before_the_receipt(
    engine: AsyncEmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(engine, "x")
    syncs: list[bool] = []

    def sync(points: Any, receipts: Any) -> None:
        syncs.append(threading.current_thread() is threading.main_thread())
        if len(syncs) > 1:
            raise PublishUnknown("as the test wants it")

    monkeypatch.setattr(aio, "sync", sync)
    await publish(engine, "y")
    assert syncs == []
    (receipt,) = await engine.publish("a", records("z"), PublishOptions(Durability.DISK))
    assert (receipt.offset, receipt.durability, syncs) == (2, Durability.DISK, [False])
    with pytest.raises(PublishUnknown):
        await engine.publish("a", records("z"), PublishOptions(Durability.DISK))


async def test_it_is_the_blocking_engine_awaited(engine: AsyncEmbeddedEngine) -> None:
    made = await engine.create_topic("a", TopicOptions(partitions=2))
    assert await engine.topics() == await engine.topics(["a", "b"]) == [made]
    await engine.create_group(SubscriptionSpec(patterns=parse_topics("a"), group="g"))
    await publish(engine, "x")
    await engine.seek_group("a", "g", "end")
    assert [(info.group, info.lag) for info in await engine.groups("a")] == [("g", 0)]
    await engine.drop_group("g")
    await engine.drop_topic("a")
    assert (await engine.topics(), await engine.groups()) == ([], [])
    blocking = engine._engine
    assert (engine.name, engine.capabilities) == (blocking.name, blocking.capabilities)
    assert (engine.default_durability, engine.max_message_bytes) == (Durability.OS, blocking.max_message_bytes)


async def test_closing_ends_waits_and_calls(tmp_path: Path) -> None:
    engine = open_engine(parse_url(f"file:{tmp_path / 'bus'}"))
    feeds = [await reader(engine), await reader(engine, "g")]
    waiting = [asyncio.ensure_future(feed.fetch(1, None)) for feed in feeds]
    await asyncio.wait(waiting, timeout=0.02)
    await asyncio.gather(engine.close(), engine.close())
    for each in waiting:
        with pytest.raises(Closed):
            await asyncio.wait_for(each, 5)
    for call in (publish(engine, "x"), reader(engine), engine.topics(), engine.groups(), engine.drop_topic("a")):
        with pytest.raises(Closed):
            await call
    for feed in feeds:
        await feed.close()
    await engine.close()


async def test_a_loop_that_reads_no_more_is_left_alone(tmp_path: Path) -> None:
    """After closing, the loop watches no descriptor of the bus and the threads are gone."""
    loop = asyncio.get_running_loop()
    watched: list[int] = []
    real = loop.add_reader
    with pytest.MonkeyPatch.context() as patch:

        def watch(fd: int, *rest: Any) -> None:
            watched.append(fd)
            real(fd, *rest)

        patch.setattr(loop, "add_reader", watch)
        engine = open_engine(parse_url(f"file:{tmp_path / 'bus'}"))
        await reader(engine)
    await engine.close()
    assert len(watched) == 1
    assert not loop.remove_reader(watched[0])


def test_a_loop_that_was_closed_under_a_sleeper_harms_nobody_else(tmp_path: Path) -> None:
    """Whoever publishes in the same process would wake him."""
    loop = asyncio.new_event_loop()
    engine = open_engine(parse_url(f"file:{tmp_path / 'bus'}"))
    feed = loop.run_until_complete(reader(engine))
    assert isinstance(feed, LoopFeed)
    sleeper = loop.create_task(feed.fetch(1, None))
    loop.run_until_complete(until(lambda: feed._feed.waker is not None))
    loop.close()
    with Client(f"file:{tmp_path / 'bus'}") as other:
        assert other.publish("a", "x").offset == 0
    coroutine = sleeper.get_coro()
    assert coroutine is not None
    coroutine.close()
    assert engine._ears is not None
    engine._ears.close()
    engine._engine.close()
    engine._threads.close()


FORKING = """
    import asyncio, os, signal, sys
    from tidings import AsyncClient
    client = AsyncClient(sys.argv[1])
    offset = lambda: asyncio.run(client.publish("a", "x")).offset
    print("parent", offset())
    child = os.fork()
    if child == 0:
        signal.alarm(5)  # whoever waits for ever is killed
        print("child", offset())
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print("parent", offset())
"""


def test_a_forked_child_has_threads_of_its_own(tmp_path: Path) -> None:
    with Child(FORKING, f"file:{tmp_path / 'bus'}") as child:
        assert [child.line() for _ in range(4)] == ["parent 0", "child 1", "0", "parent 2"]
