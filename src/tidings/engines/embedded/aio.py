"""The embedded engine for an event loop.

What takes microseconds is done in the loop. What may wait — for a lock another process holds, for the disk — is done
in a thread, and sleeping is left to the loop itself, which watches the bell. A call that is cancelled while its thread
works gives back what it had claimed as soon as the thread is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tidings.engines.embedded.catalog import Topic
from tidings.engines.embedded.engine import EmbeddedEngine, place_of, sync
from tidings.engines.embedded.feeds import GroupFeed, TailFeed
from tidings.engines.embedded.locks import LOCK_WAIT_SECONDS, WouldBlock
from tidings.engines.embedded.waking.board import LOOK_SECONDS
from tidings.engines.embedded.waking.hub import Hub
from tidings.errors import Closed
from tidings.model.message import Receipt, Record
from tidings.model.options import Durability, Start, SubscriptionSpec, TopicOptions
from tidings.model.url import URL
from tidings.spi import AsyncFeed, AsyncGroupEngine, GroupInfo, M, Settlement, TopicInfo

THREADS = 4
"""Threads for what may wait. Syncs of one log are shared anyway; more would only queue for the same disk."""

T = TypeVar("T")


class Ears:
    """Hears the bell of a bus in one event loop, while anybody in it sleeps."""

    def __init__(self, hub: Hub[Topic], loop: asyncio.AbstractEventLoop) -> None:
        self._hub = hub
        self._loop = loop
        self._sleepers = 0
        self._fd = os.dup(hub.fileno())
        loop.add_reader(self._fd, self._hear)

    async def sleep(self, feed: TailFeed[Any] | GroupFeed[Any], seconds: float) -> None:
        """Return when the feed is ready, when `seconds` have passed, or earlier."""
        woken = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed under a sleeper
                self._loop.call_soon_threadsafe(woken.set)

        self._sleepers += 1
        feed.waker = wake
        try:
            self._hub.arm()
            if not feed.is_ready():
                async with asyncio.timeout(min(seconds, LOOK_SECONDS)):
                    await woken.wait()
        except TimeoutError:
            self._hub.look()
        finally:
            feed.waker = None
            self._sleepers -= 1

    def _hear(self) -> None:
        self._hub.hear()
        if self._sleepers:
            self._hub.arm()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


class Threads:
    """Runs calls in the loop where they do not wait, and in a thread where they would."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        """Begin with threads of this process: a forked child has none of its parent's."""
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tidings")
        self._pid = os.getpid()

    async def run(self, call: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
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
            future.add_done_callback(lambda done: self._undo(done, undo))
            raise

    def _undo(self, done: asyncio.Future[T], undo: Callable[[T], object] | None) -> None:
        if not done.cancelled() and done.exception() is None and undo is not None:
            self._pool.submit(undo, done.result())

    async def attempt(self, call: Callable[[float], T], undo: Callable[[T], object] | None = None) -> T:
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

    @property
    def renew_every(self) -> float | None:
        return self._feed.renew_every

    @property
    def skipped(self) -> int:
        return self._feed.skipped

    async def fetch(self, limit: int, timeout: float | None) -> list[M]:
        feed = self._feed
        deadline = None if timeout is None else feed.clock.monotonic() + timeout
        while True:
            found = await self._threads.attempt(lambda wait: feed.poll(limit, wait), self._give_back)
            left = float("inf") if deadline is None else deadline - feed.clock.monotonic()
            if found or left <= 0:
                return found
            if feed.bus.needs_care():
                await self._threads.run(feed.bus.care)
            pause = feed.pause()
            await self._ears.sleep(feed, min(pause, left))

    def _give_back(self, found: list[M]) -> None:
        self._feed.settle([Settlement(message, "release") for message in found])

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await self._threads.attempt(lambda wait: self._feed.settle(settlements, wait))

    async def renew(self) -> None:
        await self._threads.attempt(self._feed.renew)

    async def close(self) -> None:
        await self._threads.attempt(self._feed.close)


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

    async def create_topic(self, name: str, options: TopicOptions) -> TopicInfo:
        return await self._threads.run(lambda: self._engine.create_topic(name, options))

    async def drop_topic(self, name: str) -> None:
        await self._threads.run(lambda: self._engine.drop_topic(name))

    async def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        return await self._threads.run(lambda: self._engine.topics(names))

    async def publish(self, topic: str, records: Sequence[Record], durability: Durability) -> list[Receipt]:
        bus, reached = self._engine.bus, self._engine.check(durability)
        if topic not in bus.catalog.topics:
            await self._threads.run(lambda: bus.topic(topic))
        receipts, points = await self._threads.attempt(lambda wait: bus.append(topic, records, reached, wait))
        if reached is Durability.DISK:
            await self._threads.run(lambda: sync(points, receipts))
        return receipts

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        feed = await self._threads.run(lambda: self._engine.feed(spec, message_type), lambda feed: feed.close())
        if self._ears is None:
            self._ears = Ears(self._engine.bus.hub, asyncio.get_running_loop())
        return LoopFeed(feed, self._threads, self._ears)

    async def create_group(self, spec: SubscriptionSpec) -> None:
        await self._threads.run(lambda: self._engine.create_group(spec))

    async def drop_group(self, group: str) -> None:
        await self._threads.run(lambda: self._engine.drop_group(group))

    async def seek_group(self, topic: str, group: str, start: Start) -> None:
        await self._threads.run(lambda: self._engine.seek_group(topic, group, start))

    async def groups(self, topic: str | None = None) -> list[GroupInfo]:
        return await self._threads.run(lambda: self._engine.groups(topic))

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


_proof: type[AsyncGroupEngine] = AsyncEmbeddedEngine
