"""Blocking engines out of asynchronous ones: from any thread, through Ctrl-C, in forked children, at the end."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from tests.brokers.line import Line, delivery, feed_of, numbers, say
from tests.conftest import wait_for
from tidings.brokers.engine import BrokerEngine
from tidings.brokers.feed import Delivery
from tidings.brokers.portal import BlockingEngine
from tidings.errors import BrokerUnavailable, Closed, UnsupportedFeature
from tidings.model.capability import Capability
from tidings.model.message import Message, Receipt, Record
from tidings.model.options import Durability, PublishOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics
from tidings.spi import AsyncFeed, Feed, FullEngine, M

ROOT = Path(__file__).resolve().parents[2]
SPEC = SubscriptionSpec(patterns=parse_topics("orders"), group="billing")
LEVEL = PublishOptions(Durability.MEMORY)


class LineEngine(BrokerEngine):
    """Publishes nowhere and reads from a line; notes the loop and thread that it is used in."""

    def __init__(self) -> None:
        super().__init__("line", frozenset({Capability.GROUPS}), 100)
        self.places: set[tuple[int, asyncio.AbstractEventLoop]] = set()
        self.line: Line | None = None
        self.closed = 0
        self.cancelled = threading.Event()
        self.waiting = threading.Event()

    def note(self) -> None:
        self.places.add((threading.get_ident(), asyncio.get_running_loop()))

    async def open(self) -> None:
        self.note()
        self.capabilities = frozenset()

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        self.note()
        if topic == "away":
            raise BrokerUnavailable("away")
        if topic == "slow":
            try:
                self.waiting.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return [Receipt(record.id, topic, 0, 0, options.durability) for record in records]

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        self.note()
        self.line = Line()
        self.line.put(*map(delivery, range(3)))
        feed = feed_of(self.line)
        feed.lease(30.0)
        return cast(AsyncFeed[M], feed)

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def made() -> list[LineEngine]:
    return []


@pytest.fixture
def engine(made: list[LineEngine]) -> BlockingEngine:
    def make() -> LineEngine:
        made.append(LineEngine())
        return made[-1]

    return BlockingEngine(make)


def publish(engine: BlockingEngine, topic: str = "orders") -> list[Receipt]:
    return engine.publish(topic, [Record("id1", "t", b"x")], LEVEL)


def read(engine: BlockingEngine) -> Feed[Message]:
    return engine.subscribe(SPEC, Message)


def test_it_says_what_the_engine_says(engine: BlockingEngine, made: list[LineEngine]) -> None:
    assert (engine.name, engine.max_message_bytes, engine.default_durability) == ("line", 100, Durability.MEMORY)
    assert engine.clock is made[0].clock
    assert engine.capabilities == {Capability.GROUPS}
    engine.open()
    assert engine.capabilities == set(), "as it is since the server is known"


def test_every_call_runs_in_one_loop_whatever_thread_it_comes_from(
    engine: BlockingEngine, made: list[LineEngine]
) -> None:
    other = BlockingEngine(lambda: made[0])
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda number: publish(engine if number % 2 else other), range(100)))
    assert [receipt.message_id for (receipt,) in results] == ["id1"] * 100
    ((thread, _),) = made[0].places
    assert thread != threading.get_ident()


def test_every_call_of_an_engine_is_passed_on() -> None:
    """With its arguments and its result."""
    calls: list[tuple[str, tuple[Any, ...]]] = []

    class Echo(LineEngine):
        def __getattribute__(self, name: str) -> Any:
            async def echo(*arguments: Any) -> str:
                calls.append((name, arguments))
                return name

            return echo if name in names else super().__getattribute__(name)

    own = {"open", "subscribe", "close"}
    names: set[str] = set()
    engine: Any = BlockingEngine(Echo)
    names |= {name for name, _ in inspect.getmembers(FullEngine, inspect.isfunction) if not name.startswith("_")} - own
    for name in sorted(names):
        parameters = list(inspect.signature(getattr(engine, name)).parameters)
        assert getattr(engine, name)(*parameters) == name
        assert calls[-1] == (name, tuple(parameters))


def test_errors_arrive_as_they_are(engine: BlockingEngine) -> None:
    with pytest.raises(BrokerUnavailable, match="away"):
        publish(engine, "away")
    with pytest.raises(UnsupportedFeature, match="topics"):
        engine.topics()


def test_a_feed_reads_and_settles(engine: BlockingEngine, made: list[LineEngine]) -> None:
    feed = read(engine)
    found = feed.fetch(2, None)
    assert (numbers(found), feed.renew_every, feed.skipped, list(feed.gaps)) == ([0, 1], 10.0, 0, [])
    feed.settle(say("ack", found[0]))
    feed.commit(say("ack", found[1]), [], Durability.OS)
    feed.fetch(5, 0.01)
    feed.renew()
    feed.close()
    line = made[0].line
    assert line is not None
    assert [act.handle for act in line.acts] == [0]
    assert [[act.handle for act in acts] for acts, _, _ in line.committed] == [[1]]
    assert line.renewed == [[2]]
    assert [each.offset for each in line.queue] == [2]
    with pytest.raises(Closed):
        feed.fetch(1, 0)


def test_closing_elsewhere_ends_a_wait(engine: BlockingEngine) -> None:
    feed = read(engine)
    feed.fetch(3, None)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(feed.fetch, 1, None)
        feed.close()
        with pytest.raises(Closed):
            waiting.result(10)


def test_a_closed_engine_is_closed_once(engine: BlockingEngine, made: list[LineEngine]) -> None:
    engine.close()
    engine.close()
    assert made[0].closed == 1
    with pytest.raises(Closed):
        publish(engine)


@contextmanager
def ctrl_c(begun: threading.Event) -> Iterator[None]:
    """Press Ctrl-C once it has begun, and again until the program has heard it: a signal that comes just before a wait
    is not noticed in it."""
    heard = threading.Event()

    def hear(number: int, frame: object) -> None:
        if not heard.is_set():
            heard.set()
            raise KeyboardInterrupt

    def press() -> None:
        begun.wait(10)
        while not heard.wait(0.1):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    before = signal.signal(signal.SIGINT, hear)
    pressing = threading.Thread(target=press)
    pressing.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        heard.set()
        pressing.join()
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_a_call_and_cancels_its_work(engine: BlockingEngine, made: list[LineEngine]) -> None:
    with ctrl_c(made[0].waiting):
        publish(engine, "slow")
    assert made[0].cancelled.wait(10)
    assert publish(engine), "it is as good as before"


def test_what_a_fetch_brings_too_late_is_given_back(engine: BlockingEngine, made: list[LineEngine]) -> None:
    """Ctrl-C came while it was on its way: nobody will see it, and another consumer is to have it."""
    feed = read(engine)
    line = made[0].line
    assert line is not None
    pull, pulling = line.pull, threading.Event()

    async def late(limit: int, timeout: float | None) -> list[Delivery]:
        pulling.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return await pull(limit, timeout)

    line.pull = late  # type: ignore[method-assign]
    with ctrl_c(pulling):
        feed.fetch(2, None)
    wait_for(lambda: [act.kind for act in line.acts] == ["release", "release"])
    assert line.left_out == []
    assert sorted(each.offset for each in line.queue) == [0, 1, 2]


def test_a_subscription_that_comes_too_late_is_closed(engine: BlockingEngine, made: list[LineEngine]) -> None:
    """It would hold messages that nobody fetches."""
    subscribe, subscribing = made[0].subscribe, threading.Event()

    async def late(spec: SubscriptionSpec, message_type: type[Message]) -> AsyncFeed[Message]:
        subscribing.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return await subscribe(spec, message_type)

    made[0].subscribe = late  # type: ignore[method-assign,assignment]
    with ctrl_c(subscribing):
        read(engine)
    wait_for(lambda: made[0].line is not None and made[0].line.is_closed)


def in_child(work: Callable[[], object]) -> str:
    """Do the work in a forked child; return what it says, or how it failed."""
    out, back = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = repr(work())
        except BaseException as error:
            said = repr(error)
        os.write(back, said.encode())
        os._exit(0)
    os.close(back)
    with os.fdopen(out, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def test_a_forked_child_opens_its_own(engine: BlockingEngine, made: list[LineEngine]) -> None:
    feed = read(engine)

    def close() -> tuple[int, int]:
        engine.close()
        return made[0].closed, len(made)

    assert in_child(lambda: (len(publish(engine)), len(made), len(made[1].places))) == "(1, 2, 1)"
    assert in_child(lambda: feed.fetch(1, 0)).startswith("Closed('the subscription belongs to the process")
    assert in_child(feed.close) == "None"
    assert in_child(close) == "(0, 1)", "the connections are the parent's"
    assert numbers(feed.fetch(3, 0)) == [0, 1, 2]
    assert len(made) == 1


PROGRAM = """
import asyncio, atexit, sys
atexit.register(lambda: end())
from tests.brokers.test_portal import LineEngine, publish, read
from tidings.brokers.portal import BlockingEngine
from tidings.errors import Closed

class Busy(LineEngine):
    async def open(self):
        self.task = asyncio.get_running_loop().create_task(self.work())
    async def work(self):
        try:
            await asyncio.Event().wait()
        finally:
            print("ended")

def end():
    feed.close()
    engine.close()
    try:
        publish(engine)
    except Closed as error:
        print(error)

engine = BlockingEngine(Busy)
engine.open()
feed = read(engine)
print(len(publish(engine)))
"""


def test_a_program_that_closes_nothing_ends_in_silence() -> None:
    """And what it does after the loop has ended neither hangs nor fails."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["1", "ended", "the client is closed"]


def test_nothing_is_left_behind(engine: BlockingEngine, made: list[LineEngine]) -> None:
    before = threading.active_count()
    for _ in range(100):
        publish(engine)
    gc.collect()
    assert threading.active_count() <= max(before, 2)
