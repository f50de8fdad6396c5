"""Blocking engines made of asynchronous ones: their drivers live in one event loop of the process, in a thread."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

from tidings.errors import Closed
from tidings.model.capability import Capability
from tidings.model.clock import Clock
from tidings.model.options import Durability
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import (
    AsyncFeed,
    AsyncFullEngine,
    Feed,
    FullEngine,
    Gap,
    M,
    Output,
    Settlement,
)

END_SECONDS = 5.0
"""How long the end of the program waits for the loop: longer than a turn of it takes, whatever it is doing."""

P = ParamSpec("P")
T = TypeVar("T")

Undo = Callable[[T], Coroutine[Any, Any, None]]
"""What is done with a result that nobody waits for any more."""


class _Loop:
    """The loop and its thread. A forked child has neither, and makes its own."""

    _loop: asyncio.AbstractEventLoop | None
    _thread: threading.Thread | None

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: in a forked child nothing of the parent's is usable."""
        self._guard = threading.Lock()
        self._loop = self._thread = None
        self._ended = False

    def run(self, work: Coroutine[Any, Any, T], undo: Undo[T] | None = None) -> T:
        """Do the work in the loop and return its result. Ctrl-C here cancels it there, wherever it strikes; a result
        that came too late for that is undone."""
        if self._ended:
            work.close()
            raise Closed("the program is ending")
        future: Future[T] = Future()
        try:
            self._running().call_soon_threadsafe(_begin, work, future, undo)
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_live, args=(self._loop,), name="tidings-loop", daemon=True)
                self._thread.start()
            return self._loop

    def end(self) -> None:
        """Stop the loop before the interpreter takes its parts away."""
        self._ended = True
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(END_SECONDS)


def _begin(work: Coroutine[Any, Any, T], future: Future[T], undo: Undo[T] | None) -> None:
    """Do the work for who waits for the future."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def tell(task: asyncio.Task[T]) -> None:
        failure = Closed("the program is ending") if task.cancelled() else task.exception()
        if not future.set_running_or_notify_cancel():
            if undo is not None and failure is None:
                _begin(undo(task.result()), Future(), None)
        elif failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(task.result())

    def cancel(future: Future[T]) -> None:
        if future.cancelled():
            loop.call_soon_threadsafe(task.cancel)

    task.add_done_callback(tell)
    future.add_done_callback(cancel)


def _live(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped, and let its tasks end: nobody is told of those that were forgotten."""
    loop.run_forever()
    if tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))


_loop = _Loop()
atexit.register(_loop.end)
os.register_at_fork(after_in_child=_loop.forget)


class BlockingFeed(Feed[M]):
    """A feed whose source lives in the loop."""

    def __init__(self, feed: AsyncFeed[M], pid: int) -> None:
        self._feed = feed
        self._pid = pid

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]], undo: Undo[T] | None = None) -> T:
        if os.getpid() != self._pid:
            raise Closed("the subscription belongs to the process this one was forked from")
        return _loop.run(work(), undo)

    @property
    def renew_every(self) -> float | None:
        return self._feed.renew_every

    @property
    def skipped(self) -> int:
        return self._feed.skipped

    @property
    def gaps(self) -> Sequence[Gap]:
        return self._feed.gaps

    def fetch(self, limit: int, timeout: float | None) -> list[M]:
        async def give_back(found: list[M]) -> None:
            await self._feed.settle([Settlement(message, "release") for message in found])

        return self._run(lambda: self._feed.fetch(limit, timeout), give_back)

    def settle(self, settlements: Sequence[Settlement]) -> None:
        self._run(lambda: self._feed.settle(settlements))

    def commit(self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability) -> None:
        self._run(lambda: self._feed.commit(settlements, outputs, durability))

    def renew(self) -> None:
        self._run(self._feed.renew)

    def close(self) -> None:
        with suppress(Closed):  # the program is ending, and the broker sees it go; or the feed is the parent's
            self._run(self._feed.close)


def _in_loop(
    method: Callable[Concatenate[AsyncFullEngine, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingEngine, P], T]:
    """Call the asynchronous engine's method of this name, in the loop."""

    @functools.wraps(method)
    def call(self: BlockingEngine, /, *arguments: P.args, **options: P.kwargs) -> T:
        result: T = self._run(lambda engine: getattr(engine, method.__name__)(*arguments, **options))
        return result

    return call


class BlockingEngine:
    """An asynchronous engine for blocking clients. Safe to share between threads; a forked child opens its own."""

    def __init__(self, make: Callable[[], AsyncFullEngine]) -> None:
        """`make` makes the engine, unconnected; it is used in the loop only."""
        self._make = make
        self._pid = os.getpid()
        self._engine = make()
        self._closed = False
        self.name = self._engine.name
        self.default_durability: Durability = self._engine.default_durability
        self.max_message_bytes = self._engine.max_message_bytes
        self.clock: Clock = self._engine.clock

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._engine.capabilities

    def _run(self, work: Callable[[AsyncFullEngine], Coroutine[Any, Any, T]], undo: Undo[T] | None = None) -> T:
        if self._closed:
            raise Closed("the client is closed")
        if os.getpid() != self._pid:  # the connections are the parent's
            self._engine, self._pid = self._make(), os.getpid()
        return _loop.run(work(self._engine), undo)

    open = _in_loop(AsyncFullEngine.open)
    create_topic = _in_loop(AsyncFullEngine.create_topic)
    alter_topic = _in_loop(AsyncFullEngine.alter_topic)
    drop_topic = _in_loop(AsyncFullEngine.drop_topic)
    topics = _in_loop(AsyncFullEngine.topics)
    publish = _in_loop(AsyncFullEngine.publish)

    def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> Feed[M]:
        feed: AsyncFeed[M] = self._run(lambda engine: engine.subscribe(spec, message_type), lambda feed: feed.close())
        return BlockingFeed(feed, self._pid)

    admit = _in_loop(AsyncFullEngine.admit)
    cancel = _in_loop(AsyncFullEngine.cancel)
    create_group = _in_loop(AsyncFullEngine.create_group)
    drop_group = _in_loop(AsyncFullEngine.drop_group)
    seek_group = _in_loop(AsyncFullEngine.seek_group)
    has_group = _in_loop(AsyncFullEngine.has_group)
    groups = _in_loop(AsyncFullEngine.groups)
    statistics = _in_loop(AsyncFullEngine.statistics)
    problems = _in_loop(AsyncFullEngine.problems)

    def close(self) -> None:
        if not self._closed and os.getpid() == self._pid:
            with suppress(Closed):  # as above
                self._run(lambda engine: engine.close())
        self._closed = True


_proof: type[FullEngine] = BlockingEngine
