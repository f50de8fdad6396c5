"""The primitives that differ between the two clients; the rest of this folder is the source of the blocking one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tidings.client.connect import ASYNC, open_engine
from tidings.errors import InvalidURL
from tidings.model.message import Message
from tidings.spi import AsyncFeed, AsyncFullEngine, M, Output

if TYPE_CHECKING:
    from logging import Logger

T = TypeVar("T")

CANCELLED: tuple[type[BaseException], ...] = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends a loop without being a failure of the message."""

Opening = Callable[[], Coroutine[Any, Any, AsyncFeed[M]]]
"""A function that opens a feed."""

Committing = Callable[[Sequence[Message], Sequence[Output]], Coroutine[Any, Any, None]]
"""A function that acks and publishes together."""

Calling = Callable[..., Any]
"""Calls a function of this client with arguments, wherever the caller runs."""


def log() -> Logger:
    """The one logger of the library, loaded when there is something to say."""
    import logging

    return logging.getLogger("tidings")


def connect(url: str | AsyncFullEngine | None) -> AsyncFullEngine:
    """Open the engine of a URL, or take the one that is given."""
    if url is None or isinstance(url, str):
        engine: AsyncFullEngine = open_engine(url, ASYNC, "tidings.async_engines")
        return engine
    if not hasattr(url, "capabilities"):
        raise InvalidURL(f"{url!r} is neither a URL such as 'file:./bus' nor an engine")
    return url


async def pause(seconds: float) -> None:
    """Let time pass."""
    await asyncio.sleep(seconds)


def begin(opening: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """An asynchronous subscription opens when it is entered or first read; opening would have to be awaited."""


async def call(handler: Callable[..., Any], *arguments: Any) -> None:
    """Call a handler, which may be a coroutine function.

    When something that it awaited was cancelled, and not the caller, that is a failure of the handler like any other.
    """
    result = handler(*arguments)
    if inspect.isawaitable(result):
        try:
            await result
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError("the handler awaited something that was cancelled") from error


class Signal:
    """Wakes who waits for it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    async def wait(self, timeout: float | None) -> None:
        """Return when set, or after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return


class Guard:
    """Keeps workers apart for some statements without an await. Tasks take turns at awaits only: nothing to do here."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


async def to_the_end(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do work that others depend on: when the caller is cancelled, it goes on."""
    task = asyncio.ensure_future(work())
    _going_on.add(task)
    task.add_done_callback(_going_on.discard)
    await asyncio.shield(task)


_going_on: set[asyncio.Task[None]] = set()


class Mutex:
    """A lock that can be given up on."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def acquire(self, timeout: float | None = None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                return await self._lock.acquire()
        except TimeoutError:
            return False

    def release(self) -> None:
        self._lock.release()


def calling() -> Calling:
    """Return what calls coroutine functions of the running loop from another thread, and waits for their results."""
    loop = asyncio.get_running_loop()
    return lambda function, *arguments: asyncio.run_coroutine_threadsafe(function(*arguments), loop).result()


async def beside(work: Callable[[], T], stop: Callable[[], None]) -> T:
    """Do what would block the loop, in a thread of its own. When cancelled, call `stop` and wait for its end."""
    done: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="tidings-beside", daemon=True).start()
    result = asyncio.wrap_future(done)
    result.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody waits when cancelled
    try:
        return await asyncio.shield(result)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait((result,))
        raise


class Background:
    """Something that runs beside the program: here a task."""

    def __init__(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        self._task = asyncio.ensure_future(work())
        self._task.set_name(name)

    def is_current(self) -> bool:
        """Whether the caller is what runs here."""
        return asyncio.current_task() is self._task

    async def finish(self, timeout: float) -> None:
        """Wait for the end; after `timeout` seconds cancel it."""
        if not self.is_current():
            await asyncio.wait((self._task,), timeout=timeout)
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=timeout)


class Ticker:
    """Calls `work` every `seconds` until stopped, as long as the event loop turns."""

    def __init__(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        self._task = asyncio.ensure_future(self._run(seconds, work))

    async def _run(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await work()

    def stop(self) -> None:
        self._task.cancel()


class Later:
    """Calls `work` once, `seconds` after it was armed."""

    def __init__(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        self._seconds = seconds
        self._work = work
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Future[None] | None = None

    def arm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._task = asyncio.ensure_future(self._work())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
