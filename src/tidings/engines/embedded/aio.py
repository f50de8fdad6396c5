"""The embedded engine for an event loop.

What takes microseconds is done in the loop. What may wait — for a lock another process holds, for the disk — is done
in a thread, and sleeping is left to the loop itself, which watches the bell. A call that is cancelled while its thread
works gives back what it had claimed as soon as the thread is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from tidings.engines.embedded.catalog import Log, Topic
from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS, WouldBlock
from tidings.engines.embedded.engine import LOOK_THROUGH_SECONDS, EmbeddedEngine, place_of, sync
from tidings.engines.embedded.log.syncing import Point
from tidings.engines.embedded.waking.board import LOOK_SECONDS
from tidings.engines.embedded.waking.hub import Hub, Listener
from tidings.errors import Closed, TopicFull
from tidings.model.message import Receipt, Record
from tidings.model.options import Durability, PublishOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.url import URL
from tidings.spi import AsyncFeed, AsyncFullEngine, Gap, M, Output, Settlement

if TYPE_CHECKING:
    from tidings.engines.embedded.reading.group import GroupFeed
    from tidings.engines.embedded.reading.tail import TailFeed

THREADS = 4
"""Threads for what may wait. Syncs of one log are shared anyway; more would only queue for the same disk."""

P = ParamSpec("P")
T = TypeVar("T")

Stored = tuple[list[Receipt], list[tuple[Log, Point]]]
"""Receipts, which hold once the points are synced."""


class Ears:
    """Hears the bell of a bus in one event loop, while anybody in it sleeps."""

    def __init__(self, hub: Hub[Topic], loop: asyncio.AbstractEventLoop) -> None:
        self._hub = hub
        self._loop = loop
        self._sleepers: dict[Listener[Topic], None] = {}
        self._round: asyncio.TimerHandle | None = None
        self._fd = os.dup(hub.fileno())
        loop.add_reader(self._fd, self._hear)

    async def sleep(self, feed: Listener[Topic], seconds: float) -> None:
        """Return when the feed is ready, when `seconds` have passed, or earlier."""
        woken = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed under a sleeper
                self._loop.call_soon_threadsafe(woken.set)

        self._sleepers[feed] = None
        feed.waker = wake
        try:
            self._hub.arm()
            if not feed.is_ready():
                if self._round is None:
                    self._round = self._loop.call_later(LOOK_SECONDS, self._look)
                async with asyncio.timeout(None if seconds == float("inf") else seconds):
                    await woken.wait()
        except TimeoutError:
            self._hub.look()
        finally:
            feed.waker = None
            del self._sleepers[feed]

    def _look(self) -> None:
        """Look around for all who sleep, as often as one who slept alone would: ten thousand of them cost no more."""
        self._round = None
        if self._sleepers:
            self._hub.look_for(tuple(self._sleepers))
            self._round = self._loop.call_later(LOOK_SECONDS, self._look)

    def _hear(self) -> None:
        self._hub.hear()
        if self._sleepers:
            self._hub.arm()

    def close(self) -> None:
        if self._round is not None:
            self._round.cancel()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


class Undo(Generic[T]):
    """What undoes the calls of those who were cancelled, and is still under way."""

    def __init__(self, call: Callable[[T], object]) -> None:
        self.call = call
        self._going: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._going.add(task)
        task.add_done_callback(self._going.discard)

    async def finish(self) -> None:
        """Return when everything is undone."""
        while self._going:
            await asyncio.wait(self._going)


def _look_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


class Threads:
    """Runs calls in the loop where they do not wait, and in a thread where they would."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        """Begin with threads of this process: a forked child has none of its parent's."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tidings")
        self._pid = os.getpid()

    async def run(self, call: Callable[[], T], undo: Undo[T] | None = None) -> T:
        """Call in a thread. When cancelled meanwhile, the result is undone as soon as it is there."""
        if self._pid != os.getpid():
            self._start()
        try:
            future = asyncio.get_running_loop().run_in_executor(self._pool, call)
        except RuntimeError as error:
            raise Closed("the client is closed") from error
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_look_at)  # nobody is left to be told of its error
            if undo is not None:
                undo.begin(self._undo(future, undo))
            raise

    async def _undo(self, future: asyncio.Future[T], undo: Undo[T]) -> None:
        """Undo what a call whose caller was cancelled brings about."""
        await asyncio.wait((future,))
        if not future.cancelled() and future.exception() is None:
            result = future.result()
            await asyncio.get_running_loop().run_in_executor(self._pool, lambda: undo.call(result))

    async def attempt(self, call: Callable[[float], T], undo: Undo[T] | None = None) -> T:
        """Call with no time to wait, here; if that would block, in a thread with the usual time to wait."""
        try:
            return call(0.0)
        except WouldBlock:
            return await self.run(lambda: call(LOCK_WAIT_SECONDS), undo)

    def close(self) -> None:
        self._pool.shutdown(wait=False)


class LoopFeed(AsyncFeed[M]):
    """A feed that waits in the event loop."""

    def __init__(self, feed: TailFeed[M] | GroupFeed[M], threads: Threads, ears: Ears) -> None:
        self._feed = feed
        self._threads = threads
        self._ears = ears
        self._undo: Undo[list[M]] = Undo(self._give_back)

    @property
    def renew_every(self) -> float | None:
        return self._feed.renew_every

    @property
    def skipped(self) -> int:
        return self._feed.skipped

    @property
    def gaps(self) -> Sequence[Gap]:
        return ()  # a log has none: what is missing was removed, and is counted as skipped

    async def fetch(self, limit: int, timeout: float | None) -> list[M]:
        feed = self._feed
        deadline = None if timeout is None else time.monotonic() + timeout
        await self._undo.finish()  # what a cancelled fetch gives back has to be there before the next one looks
        while True:
            found = await self._threads.attempt(lambda wait: feed.poll(limit, wait), self._undo)
            if found:
                return found
            left = float("inf") if deadline is None else deadline - time.monotonic()
            if feed.is_behind() and (left > 0 or (timeout == 0 and left > -LOOK_THROUGH_SECONDS)):
                await asyncio.sleep(0)  # a filter that lets nothing through keeps the loop to itself for a page only
                continue
            if left <= 0:
                return found
            if feed.bus.needs_care():
                await self._threads.run(feed.bus.care)
            pause = feed.pause()
            await self._ears.sleep(feed, min(pause, left))

    def _give_back(self, found: list[M]) -> None:
        self._feed.settle([Settlement(message, "release") for message in found])

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await self._threads.attempt(lambda wait: self._feed.settle(settlements, wait))

    async def commit(
        self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability
    ) -> None:
        await self._threads.run(lambda: self._feed.commit(settlements, outputs, durability))

    async def renew(self) -> None:
        await self._threads.attempt(self._feed.renew)

    async def close(self) -> None:
        await self._undo.finish()  # what a cancelled fetch claims can only be given back while the feed is open
        await self._threads.attempt(self._feed.close)


def _in_thread(
    method: Callable[Concatenate[EmbeddedEngine, P], T],
) -> Callable[Concatenate[AsyncEmbeddedEngine, P], Coroutine[Any, Any, T]]:
    """Call this method of the blocking engine in a thread."""

    @functools.wraps(method)
    async def call(self: AsyncEmbeddedEngine, /, *arguments: P.args, **options: P.kwargs) -> T:
        return await self._threads.run(lambda: method(self._engine, *arguments, **options))

    return call


class AsyncEmbeddedEngine:
    """An open `memory:` or `file:` URL, for the event loop that it is used in first."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine
        self._threads = Threads()
        self._ears: Ears | None = None
        self.name = engine.name
        self.capabilities = engine.capabilities
        self.default_durability = engine.default_durability
        self.max_message_bytes = engine.max_message_bytes
        self.clock = engine.clock

    async def open(self) -> None:
        """The bus is open since this was made."""

    create_topic = _in_thread(EmbeddedEngine.create_topic)
    alter_topic = _in_thread(EmbeddedEngine.alter_topic)
    drop_topic = _in_thread(EmbeddedEngine.drop_topic)
    topics = _in_thread(EmbeddedEngine.topics)

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        options, bus = self._engine.check(options), self._engine.bus
        if options.deliver_at is not None:
            return await self._threads.run(lambda: bus.schedule(topic, records, options, LOCK_WAIT_SECONDS))
        known = bus.catalog.topics.get(topic)
        if known is None or options.priority not in known.levels:
            await self._threads.run(lambda: bus.destination(topic, records[0], options.priority))
        try:
            receipts, points = await self._append(topic, records, options)
        except TopicFull as full:
            receipts, points = await self._append_later(topic, records, options, full)
        if options.durability is Durability.DISK:
            await self._threads.run(lambda: sync(points, receipts))
        return receipts

    async def _append(self, topic: str, records: Sequence[Record], options: PublishOptions) -> Stored:
        bus = self._engine.bus
        return await self._threads.attempt(lambda wait: bus.append(topic, records, options, wait))

    async def _append_later(
        self, topic: str, records: Sequence[Record], options: PublishOptions, full: TopicFull
    ) -> Stored:
        """Store the records when there is room, if the topic's publishers wait for that."""
        ears = self._listen()
        with self._engine.waiting(topic, full) as (vacancy, deadline):
            while True:
                vacancy.again()
                try:
                    return await self._append(topic, records, options)
                except TopicFull:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise
                    await ears.sleep(vacancy, left)

    def _listen(self) -> Ears:
        if self._ears is None:
            self._ears = Ears(self._engine.bus.hub, asyncio.get_running_loop())
        return self._ears

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        feed = await self._threads.run(lambda: self._engine.feed(spec, message_type), Undo(lambda feed: feed.close()))
        return LoopFeed(feed, self._threads, self._listen())

    async def admit(self, topic: str, records: Sequence[Record]) -> None:
        self._engine.admit(topic, records)

    cancel = _in_thread(EmbeddedEngine.cancel)
    create_group = _in_thread(EmbeddedEngine.create_group)
    drop_group = _in_thread(EmbeddedEngine.drop_group)
    seek_group = _in_thread(EmbeddedEngine.seek_group)
    has_group = _in_thread(EmbeddedEngine.has_group)
    groups = _in_thread(EmbeddedEngine.groups)
    statistics = _in_thread(EmbeddedEngine.statistics)
    problems = _in_thread(EmbeddedEngine.problems)

    async def close(self) -> None:
        if not self._engine.closed:
            await self._threads.run(self._engine.close)
        if self._ears is not None:
            self._ears.close()
            self._ears = None
        self._threads.close()


def open_engine(url: URL) -> AsyncEmbeddedEngine:
    """Open `memory:`, `memory:name` or `file:path`."""
    return AsyncEmbeddedEngine(EmbeddedEngine(*place_of(url)))


_proof: type[AsyncFullEngine] = AsyncEmbeddedEngine
